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

static bool unpack(struct jinja *j, const struct jinja_node *target, struct jinja_value value)
{
    const struct jinja_value *items;
    size_t count;
    if (!jinja_is_iterable(value))
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

/* *value, in the place of room for one */
static bool add_star(struct jinja *j, struct jinja_value value, size_t room,
                     struct jinja_value **items, size_t *count)
{
    const struct jinja_value *more;
    size_t n;
    if (!jinja_is_iterable(value))
        return jinja_raise(j, "TypeError", "Value after * must be an iterable, not %s",
                           jinja_type_name(value));
    if (!jinja_iterate(j, value, &more, &n) || !jinja_spend(j, n / 16))
        return false;
    struct jinja_value *grown = jinja_array(j, *count + n + room, sizeof *grown);
    if (!grown)
        return false;
    if (*count)
        memcpy(grown, *items, *count * sizeof *grown);
    if (n)
        memcpy(grown + *count, more, n * sizeof *grown);
    *items = grown;
    *count += n;
    return true;
}

/* The arguments after kids[0]. */
static bool eval_arguments(struct jinja *j, const struct jinja_node *node,
                           const struct jinja_keyword *more, struct jinja_args *out)
{
    struct jinja_value *items = NULL, value;
    struct jinja_keyword *keywords = NULL;
    size_t count = 0, n_keywords = 0, n = node->n_kids, named = more != NULL;
    for (size_t i = 1; i < n; i++)
        named += node->kids[i]->kind == NODE_KEYWORD;
    if ((n > 1 && !(items = jinja_array(j, n, sizeof *items))) ||
        (named && !(keywords = jinja_array(j, named, sizeof *keywords))))
        return false;
    for (size_t i = 1; i < n; i++) {
        const struct jinja_node *kid = node->kids[i];
        bool keyword = kid->kind == NODE_KEYWORD, star = kid->kind == NODE_DYN_ARGS;
        if (!jinja_eval(j, keyword || star ? kid->kids[0] : kid, &value))
            return false;
        jinja_at(j, node);
        if (keyword)
            keywords[n_keywords++] = (struct jinja_keyword){&kid->name->text, value};
        else if (!star)
            items[count++] = value;
        else if (!add_star(j, value, n, &items, &count))
            return false;
    }
    for (size_t i = 0; more && i < n_keywords; i++)
        if (jinja_same_string(keywords[i].name, more->name))
            return jinja_raise(j, "TypeError",
                               "jinja2.sandbox.SandboxedEnvironment.call() got multiple values for "
                               "keyword argument '%s'",
                               jinja_string_text(j, more->name));
    if (more)
        keywords[n_keywords++] = *more;
    *out = (struct jinja_args){items, count, keywords, n_keywords};
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
    if (!node->builtin)
        return jinja_raise(j, "TemplateRuntimeError", "No %s named '%s' found.",
                           node->kind == NODE_FILTER ? "filter" : "test", node->name->text.bytes);
    return jinja_apply(j, node->builtin, value, &args, out);
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
    if (node->kind != NODE_NOT)
        return jinja_sign(j, node->kind == NODE_NEG ? '-' : '+', value, out);
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

static bool eval_const(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    (void)j;
    *out = node->value;
    return true;
}

static bool eval_call(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    return jinja_eval_call(j, node, NULL, out);
}

static bool (*const evaluators[])(struct jinja *j, const struct jinja_node *node,
                                  struct jinja_value *out) = {
    [NODE_CONST] = eval_const,   [NODE_NAME] = eval_name,       [NODE_TUPLE] = eval_sequence,
    [NODE_LIST] = eval_sequence, [NODE_DICT] = eval_dict,       [NODE_CONDEXPR] = eval_condition,
    [NODE_OR] = eval_logic,      [NODE_AND] = eval_logic,       [NODE_NOT] = eval_unary,
    [NODE_NEG] = eval_unary,     [NODE_POS] = eval_unary,       [NODE_BINARY] = eval_binary,
    [NODE_CONCAT] = eval_concat, [NODE_COMPARE] = eval_compare, [NODE_GETATTR] = eval_attribute,
    [NODE_GETITEM] = eval_item,  [NODE_CALL] = eval_call,       [NODE_FILTER] = eval_filter,
    [NODE_TEST] = eval_filter,
};

bool jinja_eval(struct jinja *j, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    jinja_at(j, node);
    if (!jinja_spend(j, 1))
        return false;
    if (ev->recursion == JINJA_RECURSION_MAX)
        return jinja_stop(j, JINJA_LIMIT, "evaluation nested deeper than %d", JINJA_RECURSION_MAX);
    ev->recursion++;
    bool ok = evaluators[node->kind](j, node, out);
    ev->recursion--;
    return ok;
}
