/* Macros, and the bodies of call blocks: functions over the variables around them. */
#include "jinja_eval.h"

#include <string.h>

struct macro {
    const struct jinja_node *node;
    struct jinja_activation *around;
};

static bool is_name(const struct jinja_string *s, const char *name)
{
    return s->n == strlen(name) && memcmp(s->bytes, name, s->n) == 0;
}

static const char *macro_name(const struct jinja_node *node)
{
    return node->kind == NODE_MACRO ? node->name->text.bytes : NULL;
}

/* "macro 'x'" or "macro None" */
static void spell(char *out, size_t size, const struct jinja_node *node)
{
    const char *name = macro_name(node);
    snprintf(out, size, name ? "'%s'" : "None", name);
}

/* Keywords are taken out of `left` one by one. */
struct keywords {
    struct jinja_keyword *left;
    size_t count;
};

static bool take(struct keywords *k, const char *name, struct jinja_value *out)
{
    for (size_t i = 0; i < k->count; i++) {
        if (!is_name(k->left[i].name, name))
            continue;
        *out = k->left[i].value;
        memmove(k->left + i, k->left + i + 1, (k->count - i - 1) * sizeof *k->left);
        k->count--;
        return true;
    }
    return false;
}

static bool keywords_dict(struct jinja *j, const struct keywords *k, struct jinja_value *out)
{
    struct jinja_dict *dict = jinja_make_dict(j);
    for (size_t i = 0; dict && i < k->count; i++) {
        struct jinja_value key = {.kind = JINJA_STRING, .string = k->left[i].name};
        if (!jinja_dict_put(j, dict, key, k->left[i].value))
            return false;
    }
    if (dict)
        *out = jinja_of_dict(dict);
    return dict != NULL;
}

/* What no parameter took: kwargs and varargs, or an error. */
static bool bind_rest(struct jinja *j, const struct jinja_node *node, const struct jinja_args *args,
                      const struct keywords *left, struct jinja_value *slots)
{
    const struct jinja_macro_scope *m = node->macro;
    size_t n_params = node->kids[MACRO_PARAMS]->n_kids;
    char name[300];
    spell(name, sizeof name, node);
    if (m->takes_kwargs && !keywords_dict(j, left, &slots[m->kwargs_slot]))
        return false;
    for (size_t i = 0; !m->takes_kwargs && i < left->count; i++)
        if (is_name(left->left[i].name, "caller"))
            return jinja_raise(j, "TypeError",
                               "macro %s was invoked with two values for the special caller "
                               "argument. This is most likely a bug.",
                               name);
    if (!m->takes_kwargs && left->count)
        return jinja_raise(j, "TypeError", "macro %s takes no keyword argument '%.*s'", name,
                           (int)left->left[0].name->n, left->left[0].name->bytes);
    size_t more = args->count > n_params ? args->count - n_params : 0;
    if (m->takes_varargs)
        return jinja_make_sequence(j, JINJA_TUPLE, more ? args->items + n_params : NULL, more,
                                   &slots[m->varargs_slot]);
    return !more || jinja_raise(j, "TypeError", "macro %s takes not more than %zu argument(s)",
                                name, n_params);
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
    if (m->takes_caller && !m->explicit_caller) {
        struct jinja_value *slot = &slots[m->caller_slot];
        if ((!take(&left, "caller", slot) || slot->kind == JINJA_NONE) &&
            !jinja_make_undefined(j, slot, "No caller defined"))
            return false;
    }
    return bind_rest(j, node, args, &left, slots);
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
    if (ok && jinja_evaluator(j)->autoescape) {
        struct jinja_string *safe = jinja_alloc(j, sizeof *safe);
        if (!safe)
            return false;
        *safe = *out->string;
        safe->safe = true;
        out->string = safe;
    }
    jinja_leave(j);
    return ok;
}

static bool arguments_tuple(struct jinja *j, const struct jinja_node *params,
                            struct jinja_value *out)
{
    struct jinja_value *items = jinja_alloc(j, (params->n_kids + 1) * sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < params->n_kids; i++)
        items[i] =
            (struct jinja_value){.kind = JINJA_STRING, .string = &params->kids[i]->name->text};
    return jinja_make_sequence(j, JINJA_TUPLE, items, params->n_kids, out);
}

static bool macro_get(struct jinja *j, struct jinja_object *self, const struct jinja_string *name,
                      struct jinja_value *out, bool *found)
{
    const struct macro *macro = self->data;
    const struct jinja_macro_scope *m = macro->node->macro;
    *found = true;
    if (is_name(name, "name")) {
        *out = jinja_none();
        if (macro->node->kind == NODE_MACRO)
            *out = (struct jinja_value){.kind = JINJA_STRING, .string = &macro->node->name->text};
    } else if (is_name(name, "arguments")) {
        return arguments_tuple(j, macro->node->kids[MACRO_PARAMS], out);
    } else if (is_name(name, "catch_kwargs")) {
        *out = jinja_bool(m->takes_kwargs);
    } else if (is_name(name, "catch_varargs")) {
        *out = jinja_bool(m->takes_varargs);
    } else if (is_name(name, "caller")) {
        *out = jinja_bool(m->takes_caller);
    } else if (is_name(name, "explicit_caller")) {
        *out = jinja_bool(m->explicit_caller);
    } else {
        *found = false;
    }
    return true;
}

static bool macro_print(struct jinja *j, struct jinja_object *self, struct jinja_value *out)
{
    const struct macro *macro = self->data;
    const char *name = macro_name(macro->node);
    char text[400];
    snprintf(text, sizeof text, name ? "<Macro '%s'>" : "<Macro anonymous>", name);
    return jinja_make_string(j, text, strlen(text), false, out);
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
