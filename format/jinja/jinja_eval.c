#include "jinja_eval.h"

#include <string.h>

/* ---- names ---- */

static bool find_variable(struct jinja *j, const struct jinja_name *name, struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_dict *const dicts[] = {ev->data, ev->trusted};
    for (size_t i = 0; i < 2; i++) {
        const struct jinja_value *found =
            dicts[i] ? jinja_dict_get_name(dicts[i], name->text.bytes, name->text.n) : NULL;
        if (found) {
            *out = *found;
            return true;
        }
    }
    bool found;
    if (!jinja_find_global(j, name->text.bytes, name->text.n, out, &found))
        return false;
    if (!found)
        *out = jinja_missing();
    return true;
}

static bool resolve(struct jinja *j, const struct jinja_name *name, struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    if (ev->toplevel && !jinja_is_missing(ev->toplevel[name->id])) {
        *out = ev->toplevel[name->id];
        return true;
    }
    if (!ev->known[name->id]) {
        if (!find_variable(j, name, &ev->resolved[name->id]))
            return false;
        ev->known[name->id] = true;
    }
    *out = ev->resolved[name->id];
    return true;
}

struct jinja_activation *jinja_activate(struct jinja *j, const struct jinja_code *code,
                                        struct jinja_activation *outer)
{
    if (!jinja_spend(j, 1 + code->n_slots / 16))
        return NULL;
    struct jinja_activation *a = jinja_alloc(j, sizeof *a);
    if (!a)
        return NULL;
    a->outer = outer;
    a->slots = jinja_alloc(j, (code->n_slots + 1ull) * sizeof *a->slots);
    return a->slots ? a : NULL; /* zeroed: all missing */
}

bool jinja_enter_scope(struct jinja *j, const struct jinja_scope *scope)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    if (!jinja_spend(j, scope->count / 16))
        return false;
    for (size_t i = 0; i < scope->count; i++) {
        const struct jinja_variable *v = &scope->variables[i];
        struct jinja_value *slot = &ev->at->slots[v->slot];
        if (v->load == LOAD_RESOLVE && !resolve(j, v->name, slot))
            return false;
        if (v->load == LOAD_ALIAS)
            *slot = *jinja_slot(ev, v->alias);
        if (v->load == LOAD_MISSING)
            *slot = jinja_missing();
    }
    return true;
}

void jinja_leave_scope(struct jinja *j, const struct jinja_scope *scope)
{
    for (size_t i = 0; i < scope->count; i++)
        jinja_evaluator(j)->at->slots[scope->variables[i].slot] = jinja_missing();
}

static bool eval_name(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    *out = *jinja_slot(jinja_evaluator(j), node->ref);
    return !jinja_is_missing(*out) ||
           jinja_make_undefined(j, out, "'%s' is undefined", node->name->text.bytes);
}

/* ---- assignment ---- */

static bool can_unpack(struct jinja_value v)
{
    return v.kind != JINJA_NONE && v.kind != JINJA_BOOL && v.kind != JINJA_INT &&
           v.kind != JINJA_FLOAT && v.kind != JINJA_OBJECT;
}

static bool unpack(struct jinja *j, const struct jinja_node *target, struct jinja_value value)
{
    const struct jinja_value *items;
    size_t count;
    if (!can_unpack(value))
        return jinja_raise(j, "TypeError", "cannot unpack non-iterable %s object",
                           jinja_type_name(value));
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    if (count < target->n_kids)
        return jinja_raise(j, "ValueError", "not enough values to unpack (expected %zu, got %zu)",
                           target->n_kids, count);
    if (count > target->n_kids)
        return jinja_raise(j, "ValueError", "too many values to unpack (expected %zu)",
                           target->n_kids);
    for (size_t i = 0; i < count; i++)
        if (!jinja_assign(j, target->kids[i], items[i]))
            return false;
    return true;
}

bool jinja_assign(struct jinja *j, const struct jinja_node *target, struct jinja_value value)
{
    struct jinja_value *slot = jinja_slot(jinja_evaluator(j), target->ref);
    switch (target->kind) {
    case NODE_NAME:
        *slot = value;
        return true;
    case NODE_NSREF:
        return slot->object->type->set(j, slot->object, target->value.string, value);
    default:
        return jinja_spend(j, 1) && unpack(j, target, value);
    }
}

/* ---- arguments ---- */

struct arguments {
    struct jinja_value *items;
    struct jinja_keyword *keywords;
    size_t count, cap, n_keywords, cap_keywords;
};

static bool more_room(struct jinja *j, void **items, size_t *cap, size_t count, size_t more,
                      size_t size)
{
    if (count + more <= *cap)
        return true;
    size_t bigger = 2 * count + more;
    void *grown = jinja_alloc(j, bigger * (uint64_t)size);
    if (!grown)
        return false;
    if (count)
        memcpy(grown, *items, count * size);
    *items = grown;
    *cap = bigger;
    return true;
}

static bool add_keyword(struct jinja *j, struct arguments *a, const struct jinja_string *name,
                        struct jinja_value value)
{
    if (!jinja_spend(j, a->n_keywords / 16))
        return false;
    for (size_t i = 0; i < a->n_keywords; i++)
        if (a->keywords[i].name->n == name->n &&
            memcmp(a->keywords[i].name->bytes, name->bytes, name->n) == 0)
            return jinja_raise(j, "TypeError",
                               "jinja2.sandbox.SandboxedEnvironment.call() got multiple values for "
                               "keyword argument '%.*s'",
                               (int)name->n, name->bytes);
    void *items = a->keywords;
    if (!more_room(j, &items, &a->cap_keywords, a->n_keywords, 1, sizeof *a->keywords))
        return false;
    a->keywords = items;
    a->keywords[a->n_keywords++] = (struct jinja_keyword){name, value};
    return true;
}

static bool add_items(struct jinja *j, struct arguments *a, const struct jinja_value *values,
                      size_t count)
{
    void *items = a->items;
    if (!more_room(j, &items, &a->cap, a->count, count, sizeof *a->items))
        return false;
    a->items = items;
    if (count)
        memcpy(a->items + a->count, values, count * sizeof *values);
    a->count += count;
    return true;
}

static bool add_star(struct jinja *j, struct arguments *a, struct jinja_value value)
{
    const struct jinja_value *items;
    size_t count;
    if (!can_unpack(value))
        return jinja_raise(j, "TypeError", "Value after * must be an iterable, not %s",
                           jinja_type_name(value));
    return jinja_iterate(j, value, &items, &count) && jinja_spend(j, count / 16) &&
           add_items(j, a, items, count);
}

static bool add_stars(struct jinja *j, struct arguments *a, struct jinja_value value)
{
    if (value.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, value);
    if (value.kind != JINJA_DICT)
        return jinja_raise(j, "TypeError",
                           "jinja2.sandbox.SandboxedEnvironment.call() argument after ** must be a "
                           "mapping, not %s",
                           jinja_type_name(value));
    for (size_t i = 0; i < value.dict->count; i++) {
        const struct jinja_entry *entry = &value.dict->entries[i];
        if (entry->key.kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "keywords must be strings");
        if (!jinja_spend(j, 1) || !add_keyword(j, a, entry->key.string, entry->value))
            return false;
    }
    return true;
}

/* The arguments after kids[0]. */
static bool eval_arguments(struct jinja *j, const struct jinja_node *node,
                           const struct jinja_keyword *more, struct jinja_args *out)
{
    struct arguments a = {0};
    for (size_t i = 1; i < node->n_kids; i++) {
        const struct jinja_node *kid = node->kids[i];
        bool plain =
            kid->kind != NODE_KEYWORD && kid->kind != NODE_DYN_ARGS && kid->kind != NODE_DYN_KWARGS;
        struct jinja_value value;
        if (!jinja_eval(j, plain ? kid : kid->kids[0], &value))
            return false;
        jinja_at(j, node);
        bool ok = plain                        ? add_items(j, &a, &value, 1)
                  : kid->kind == NODE_KEYWORD  ? add_keyword(j, &a, &kid->name->text, value)
                  : kid->kind == NODE_DYN_ARGS ? add_star(j, &a, value)
                                               : add_stars(j, &a, value);
        if (!ok)
            return false;
    }
    if (more && !add_keyword(j, &a, more->name, more->value))
        return false;
    *out = (struct jinja_args){a.items, a.count, a.keywords, a.n_keywords};
    return true;
}

/* ---- calls, filters, tests ---- */

bool jinja_eval_call(struct jinja *j, const struct jinja_node *node,
                     const struct jinja_keyword *more, struct jinja_value *out)
{
    struct jinja_value callee;
    struct jinja_args args;
    if (!jinja_eval(j, node->kids[0], &callee) || !eval_arguments(j, node, more, &args))
        return false;
    jinja_at(j, node);
    return jinja_call(j, callee, &args, out);
}

static bool eval_filter(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value value = jinja_evaluator(j)->block_value;
    struct jinja_args args;
    if ((node->kids[0] && !jinja_eval(j, node->kids[0], &value)) ||
        !eval_arguments(j, node, NULL, &args))
        return false;
    jinja_at(j, node);
    if (!node->function)
        return jinja_raise(j, "TemplateRuntimeError", "No %s named '%s' found.",
                           node->kind == NODE_FILTER ? "filter" : "test", node->name->text.bytes);
    return node->function(j, value, &args, out);
}

/* ---- operators ---- */

static bool eval_binary(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left, right;
    if (!jinja_eval(j, node->kids[0], &left) || !jinja_eval(j, node->kids[1], &right))
        return false;
    jinja_at(j, node);
    return jinja_operate(j, node->op, left, right, out);
}

static bool eval_unary(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value value;
    if (!jinja_eval(j, node->kids[0], &value))
        return false;
    jinja_at(j, node);
    if (node->kind == NODE_NEG)
        return jinja_negate(j, value, out);
    if (node->kind == NODE_POS)
        return jinja_plus(j, value, out);
    *out = jinja_bool(!jinja_truth(value));
    return true;
}

static bool eval_logic(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    return jinja_eval(j, node->kids[0], out) &&
           (jinja_truth(*out) == (node->kind == NODE_OR) || jinja_eval(j, node->kids[1], out));
}

static bool eval_compare(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left, right;
    if (!jinja_eval(j, node->kids[0], &left))
        return false;
    for (size_t i = 1; i < node->n_kids; i++) {
        const struct jinja_node *operand = node->kids[i];
        if (!jinja_eval(j, operand->kids[0], &right))
            return false;
        jinja_at(j, operand);
        if (!jinja_operate(j, operand->op, left, right, out))
            return false;
        if (!jinja_truth(*out))
            return true;
        left = right;
    }
    return true;
}

static bool eval_concat(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value *values = jinja_alloc(j, node->n_kids * sizeof *values);
    struct jinja_builder text = {0};
    if (!values)
        return false;
    for (size_t i = 0; i < node->n_kids; i++)
        if (!jinja_eval(j, node->kids[i], &values[i]))
            return false;
    jinja_at(j, node);
    for (size_t i = 0; i < node->n_kids; i++) {
        struct jinja_value string;
        if (!jinja_str(j, values[i], &string) || !jinja_add_string(j, &text, string.string))
            return false;
    }
    return jinja_build(j, &text, out);
}

static bool eval_condition(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value test;
    if (!jinja_eval(j, node->kids[COND_TEST], &test))
        return false;
    if (jinja_truth(test))
        return jinja_eval(j, node->kids[COND_THEN], out);
    if (node->kids[COND_ELSE])
        return jinja_eval(j, node->kids[COND_ELSE], out);
    return jinja_make_undefined(j, out,
                                "the inline if-expression on line %u evaluated to false and no "
                                "else section was defined.",
                                node->line);
}

/* ---- collections ---- */

static bool eval_sequence(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value *items = jinja_alloc(j, (node->n_kids + 1) * sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < node->n_kids; i++)
        if (!jinja_eval(j, node->kids[i], &items[i]))
            return false;
    return jinja_make_sequence(j, node->kind == NODE_LIST ? JINJA_LIST : JINJA_TUPLE, items,
                               node->n_kids, out);
}

static bool eval_dict(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_dict *dict = jinja_make_dict(j);
    for (size_t i = 0; dict && i < node->n_kids; i += 2) {
        struct jinja_value key, value;
        if (!jinja_eval(j, node->kids[i], &key) || !jinja_eval(j, node->kids[i + 1], &value))
            return false;
        jinja_at(j, node->kids[i]);
        if (!jinja_dict_put(j, dict, key, value))
            return false;
    }
    if (dict)
        *out = jinja_of_dict(dict);
    return dict != NULL;
}

static bool eval_slice(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value object, parts[3];
    const struct jinja_node *slice = node->kids[1];
    if (!jinja_eval(j, node->kids[0], &object))
        return false;
    for (size_t i = 0; i < 3; i++) {
        parts[i] = jinja_none();
        if (slice->kids[i] && !jinja_eval(j, slice->kids[i], &parts[i]))
            return false;
    }
    jinja_at(j, node);
    return jinja_get_slice(j, object, parts[0], parts[1], parts[2], out);
}

static bool eval_item(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value object, key;
    if (node->kids[1]->kind == NODE_SLICE)
        return eval_slice(j, node, out);
    if (!jinja_eval(j, node->kids[0], &object) || !jinja_eval(j, node->kids[1], &key))
        return false;
    jinja_at(j, node);
    return jinja_get_item(j, object, key, out);
}

static bool eval_attribute(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value object;
    if (!jinja_eval(j, node->kids[0], &object))
        return false;
    jinja_at(j, node);
    return jinja_get_attribute(j, object, node->value.string, out);
}

static bool eval_node(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    switch (node->kind) {
    case NODE_CONST:
        *out = node->value;
        return true;
    case NODE_NAME:
        return eval_name(j, node, out);
    case NODE_TUPLE:
    case NODE_LIST:
        return eval_sequence(j, node, out);
    case NODE_DICT:
        return eval_dict(j, node, out);
    case NODE_CONDEXPR:
        return eval_condition(j, node, out);
    case NODE_OR:
    case NODE_AND:
        return eval_logic(j, node, out);
    case NODE_NOT:
    case NODE_NEG:
    case NODE_POS:
        return eval_unary(j, node, out);
    case NODE_BINARY:
        return eval_binary(j, node, out);
    case NODE_CONCAT:
        return eval_concat(j, node, out);
    case NODE_COMPARE:
        return eval_compare(j, node, out);
    case NODE_GETATTR:
        return eval_attribute(j, node, out);
    case NODE_GETITEM:
        return eval_item(j, node, out);
    case NODE_CALL:
        return jinja_eval_call(j, node, NULL, out);
    case NODE_FILTER:
    case NODE_TEST:
        return eval_filter(j, node, out);
    default: /* a slice among several subscripts: Python's slice object, which nothing takes */
        return jinja_raise(j, "TypeError", "unhashable type: 'slice'");
    }
}

bool jinja_eval(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    jinja_at(j, node);
    if (!jinja_spend(j, 1))
        return false;
    if (ev->recursion == JINJA_RECURSION_MAX)
        return jinja_stop(j, JINJA_LIMIT, "evaluation nested deeper than %d", JINJA_RECURSION_MAX);
    ev->recursion++;
    bool ok = eval_node(j, node, out);
    ev->recursion--;
    return ok;
}
