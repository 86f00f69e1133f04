/* Macros, and the bodies of call blocks: functions over the variables around them. */
#include "jinja_eval.h"

#include <string.h>

struct macro {
    const struct jinja_node *node;
    struct jinja_activation *around;
};

/* "macro 'x'" or "macro None" */
static void spell(char *out, size_t size, const struct jinja_node *node)
{
    bool named = node->kind == NODE_MACRO;
    snprintf(out, size, named ? "'%s'" : "None", named ? node->name->text.bytes : "");
}

/* Keywords are taken out of `left` one by one. */
struct keywords {
    struct jinja_keyword *left;
    size_t count;
};

static bool take(struct keywords *k, const char *name, struct jinja_value *out)
{
    for (size_t i = 0; i < k->count; i++) {
        if (!jinja_string_is(k->left[i].name, name))
            continue;
        *out = k->left[i].value;
        memmove(k->left + i, k->left + i + 1, (k->count - i - 1) * sizeof *k->left);
        k->count--;
        return true;
    }
    return false;
}

/* What no parameter took is an error. */
static bool check_rest(struct jinja *j, const struct jinja_node *node,
                       const struct jinja_args *args, const struct keywords *left)
{
    size_t n_params = node->kids[MACRO_PARAMS]->n_kids;
    char name[300];
    spell(name, sizeof name, node);
    for (size_t i = 0; i < left->count; i++)
        if (jinja_string_is(left->left[i].name, "caller"))
            return jinja_raise(j, "TypeError",
                               "macro %s was invoked with two values for the special caller "
                               "argument. This is most likely a bug.",
                               name);
    if (left->count)
        return jinja_raise(j, "TypeError", "macro %s takes no keyword argument '%s'", name,
                           jinja_string_text(j, left->left[0].name));
    return args->count <= n_params ||
           jinja_raise(j, "TypeError", "macro %s takes not more than %zu argument(s)", name,
                       n_params);
}

/* Arguments to the slots of parameters; what was not given stays missing. */
static bool bind_arguments(struct jinja *j, const struct jinja_node *node,
                           const struct jinja_args *args, struct jinja_value *slots)
{
    const struct jinja_macro_scope *m = node->macro;
    const struct jinja_node *params = node->kids[MACRO_PARAMS];
    struct keywords left = {.count = args->n_keywords};
    left.left = jinja_alloc(j, (left.count + 1) * sizeof *left.left);
    if (!left.left || !jinja_spend(j, 1 + left.count * params->n_kids / 16))
        return false;
    if (left.count)
        memcpy(left.left, args->keywords, left.count * sizeof *left.left);
    for (size_t i = 0; i < params->n_kids; i++) {
        struct jinja_value *slot = &slots[params->kids[i]->ref.slot];
        if (i < args->count)
            *slot = args->items[i];
        else
            take(&left, params->kids[i]->name->text.bytes, slot);
    }
    if (m->takes_caller) {
        struct jinja_value *slot = &slots[m->caller_slot];
        if ((!take(&left, "caller", slot) || slot->kind == JINJA_NONE) &&
            !jinja_make_undefined(j, slot, "No caller defined"))
            return false;
    }
    return check_rest(j, node, args, &left);
}

static bool bind_defaults(struct jinja *j, const struct jinja_node *node)
{
    const struct jinja_node *params = node->kids[MACRO_PARAMS],
                            *defaults = node->kids[MACRO_DEFAULTS];
    size_t first = params->n_kids - defaults->n_kids;
    for (size_t i = 0; i < params->n_kids; i++) {
        struct jinja_value *slot = jinja_slot(jinja_evaluator(j), params->kids[i]->ref), value;
        if (!jinja_is_missing(*slot))
            continue;
        if (i >= first ? !jinja_eval(j, defaults->kids[i - first], &value)
                       : !jinja_make_undefined(j, &value, "parameter '%s' was not provided",
                                               params->kids[i]->name->text.bytes))
            return false;
        *slot = value;
    }
    return true;
}

static bool run(struct jinja *j, const struct macro *macro, const struct jinja_args *args,
                struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_node *node = macro->node;
    struct jinja_activation *mine = jinja_activate(j, &node->macro->code, macro->around);
    if (!mine || !bind_arguments(j, node, args, mine->slots))
        return false;
    struct jinja_activation *caller = ev->at;
    struct jinja_value block_value = ev->block_value;
    uint32_t line = j->line, column = ev->column;
    ev->at = mine;
    bool ok = jinja_enter_scope(j, &node->macro->scope) && bind_defaults(j, node) &&
              jinja_capture(j, node->kids[MACRO_BODY], out) == FLOW_NEXT;
    if (ok) { /* the place of an error is where it happened */
        ev->at = caller;
        ev->block_value = block_value;
        j->line = line;
        ev->column = column;
    }
    return ok;
}

static bool macro_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    if (!jinja_enter(j))
        return false;
    bool ok = run(j, self->data, args, out);
    jinja_leave(j);
    return ok;
}

static bool macro_get(struct jinja *j, struct jinja_object *self, const struct jinja_string *name,
                      struct jinja_value *out, bool *found)
{
    (void)self, (void)out;
    *found = false;
    return !jinja_word_in("name arguments catch_kwargs catch_varargs caller explicit_caller",
                          name->bytes, name->n) ||
           jinja_refuse(j, "the attribute '%s' of a macro", jinja_string_text(j, name));
}

static bool macro_print(struct jinja *j, struct jinja_object *self, struct jinja_value *out)
{
    const struct macro *macro = self->data;
    char name[300], text[320];
    spell(name, sizeof name, macro->node);
    snprintf(text, sizeof text, "<Macro %s>", *name == 'N' ? "anonymous" : name);
    return jinja_text_value(j, text, out);
}

static const struct jinja_object_type macro_type = {.name = "Macro",
                                                    .module = "jinja2.runtime",
                                                    .call = macro_call,
                                                    .get = macro_get,
                                                    .print = macro_print};

bool jinja_make_macro(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct macro *macro = jinja_alloc(j, sizeof *macro);
    if (!macro)
        return false;
    *macro = (struct macro){node, jinja_evaluator(j)->at};
    return jinja_make_object(j, &macro_type, macro, NULL, out);
}
