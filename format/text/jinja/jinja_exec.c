/* Statements. A body that is left early says so by its flow. */
#include "jinja_eval.h"

/* ---- output ---- */

static bool write_string(struct jinja *j, const struct jinja_string *text)
{
    struct jinja_builder *out = jinja_evaluator(j)->out;
    if (text->n > JINJA_OUTPUT_MAX - out->n)
        return jinja_stop(j, JINJA_LIMIT, "more than %u bytes of output", JINJA_OUTPUT_MAX);
    return jinja_add_string(j, out, text);
}

static enum jinja_flow print(struct jinja *j, const struct jinja_node *node)
{
    for (size_t i = 0; i < node->n_kids; i++) {
        struct jinja_value value;
        if (!jinja_eval(j, node->kids[i], &value))
            return FLOW_FAIL;
        jinja_at(j, node->kids[i]);
        if (!jinja_str(j, value, &value) || !write_string(j, value.string))
            return FLOW_FAIL;
    }
    return FLOW_NEXT;
}

/* What call and filter blocks give is joined as it is: only strings can be. */
static enum jinja_flow write_joined(struct jinja *j, struct jinja_value value)
{
    if (value.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "sequence item 0: expected str instance, %s found",
                           jinja_type_name(value)),
               FLOW_FAIL;
    return write_string(j, value.string) ? FLOW_NEXT : FLOW_FAIL;
}

enum jinja_flow jinja_capture(struct jinja *j, const struct jinja_node *body,
                              struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    struct jinja_builder text = {0}, *around = ev->out;
    ev->out = &text;
    enum jinja_flow flow = jinja_exec(j, body);
    ev->out = around;
    if (flow != FLOW_NEXT)
        return flow;
    return jinja_build(j, &text, out) ? FLOW_NEXT : FLOW_FAIL;
}

/* ---- variables ---- */

static bool check_namespaces(struct jinja *j, const struct jinja_node *target)
{
    if (target->kind == NODE_NSREF) {
        const struct jinja_value *v = jinja_slot(jinja_evaluator(j), target->ref);
        if (v->kind != JINJA_OBJECT || !v->object->type->set)
            return jinja_raise(j, "TemplateRuntimeError",
                               "cannot assign attribute on non-namespace object");
    }
    for (size_t i = 0; i < target->n_kids; i++)
        if (!check_namespaces(j, target->kids[i]))
            return false;
    return true;
}

/* A set block has no such check: Python's words. */
static bool check_items(struct jinja *j, const struct jinja_node *target)
{
    const struct jinja_value *v = jinja_slot(jinja_evaluator(j), target->ref);
    if (target->kind != NODE_NSREF || (v->kind == JINJA_OBJECT && v->object->type->set))
        return true;
    if (v->kind == JINJA_LIST)
        return jinja_raise(j, "TypeError", "list indices must be integers or slices, not str");
    return jinja_raise(j, "TypeError", "'%s' object does not support item assignment",
                       jinja_is_missing(*v) ? "_MissingType" : jinja_type_name(*v));
}

static enum jinja_flow set(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_value value;
    jinja_at(j, node);
    if (!check_namespaces(j, node->kids[0]) || !jinja_eval(j, node->kids[1], &value))
        return FLOW_FAIL;
    jinja_at(j, node);
    return jinja_assign(j, node->kids[0], value) ? FLOW_NEXT : FLOW_FAIL;
}

static bool apply_block_filter(struct jinja *j, const struct jinja_node *filter,
                               struct jinja_value *value)
{
    jinja_evaluator(j)->block_value = *value;
    return jinja_eval(j, filter, value);
}

static enum jinja_flow set_block(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_value value;
    if (!jinja_enter_scope(j, node->scope))
        return FLOW_FAIL;
    enum jinja_flow flow = jinja_capture(j, node->kids[2], &value);
    if (flow == FLOW_FAIL)
        return flow;
    if (flow == FLOW_NEXT) {
        jinja_at(j, node);
        if ((node->kids[1] && !apply_block_filter(j, node->kids[1], &value)) ||
            !check_items(j, node->kids[0]) || !jinja_assign(j, node->kids[0], value))
            return FLOW_FAIL;
    }
    jinja_leave_scope(j, node->scope);
    return flow;
}

static enum jinja_flow with(struct jinja *j, const struct jinja_node *node)
{
    if (!jinja_enter_scope(j, node->scope))
        return FLOW_FAIL;
    for (size_t i = 0; i + 1 < node->n_kids; i += 2) {
        struct jinja_value value;
        if (!jinja_eval(j, node->kids[i + 1], &value))
            return FLOW_FAIL;
        jinja_at(j, node);
        if (!jinja_assign(j, node->kids[i], value))
            return FLOW_FAIL;
    }
    enum jinja_flow flow = jinja_exec(j, node->kids[node->n_kids - 1]);
    jinja_leave_scope(j, node->scope);
    return flow;
}

/* ---- blocks ---- */

static enum jinja_flow filter_block(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_value value;
    if (!jinja_enter_scope(j, node->scope))
        return FLOW_FAIL;
    enum jinja_flow flow = jinja_capture(j, node->kids[0], &value);
    if (flow == FLOW_NEXT)
        flow = apply_block_filter(j, node->kids[1], &value) ? write_joined(j, value) : FLOW_FAIL;
    if (flow != FLOW_FAIL)
        jinja_leave_scope(j, node->scope);
    return flow;
}

static enum jinja_flow call_block(struct jinja *j, const struct jinja_node *node)
{
    static const struct jinja_string name = {.bytes = "caller", .n = 6, .n_chars = 6};
    struct jinja_keyword caller = {.name = &name};
    struct jinja_value value;
    if (!jinja_make_macro(j, node, &caller.value))
        return FLOW_FAIL;
    jinja_at(j, node);
    if (node->kids[CALL_CALL] ? !jinja_eval_call(j, node->kids[CALL_CALL], &caller, &value)
                              : !jinja_call(j, caller.value, &(struct jinja_args){0}, &value))
        return FLOW_FAIL;
    jinja_at(j, node);
    return write_joined(j, value);
}

/* ---- dispatch ---- */

static enum jinja_flow body(struct jinja *j, const struct jinja_node *node)
{
    enum jinja_flow flow = FLOW_NEXT;
    for (size_t i = 0; i < node->n_kids && flow == FLOW_NEXT; i++)
        flow = jinja_exec(j, node->kids[i]);
    return flow;
}

static enum jinja_flow condition(struct jinja *j, const struct jinja_node *node)
{
    size_t i = 0;
    for (; i + 1 < node->n_kids; i += 2) {
        struct jinja_value value;
        if (!jinja_eval(j, node->kids[i], &value))
            return FLOW_FAIL;
        if (jinja_truth(value))
            return jinja_exec(j, node->kids[i + 1]);
    }
    return i < node->n_kids ? jinja_exec(j, node->kids[i]) : FLOW_NEXT;
}

static enum jinja_flow define_macro(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_value *slot = jinja_slot(jinja_evaluator(j), node->ref);
    return jinja_make_macro(j, node, slot) ? FLOW_NEXT : FLOW_FAIL;
}

static enum jinja_flow exec_node(struct jinja *j, const struct jinja_node *node)
{
    switch (node->kind) {
    case NODE_BODY:
        return body(j, node);
    case NODE_DATA:
        return write_string(j, node->value.string) ? FLOW_NEXT : FLOW_FAIL;
    case NODE_PRINT:
        return print(j, node);
    case NODE_FOR:
        return jinja_run_for(j, node);
    case NODE_IF:
        return condition(j, node);
    case NODE_MACRO:
        return define_macro(j, node);
    case NODE_CALL_BLOCK:
        return call_block(j, node);
    case NODE_FILTER_BLOCK:
        return filter_block(j, node);
    case NODE_WITH:
        return with(j, node);
    case NODE_SET:
        return set(j, node);
    case NODE_SET_BLOCK:
        return set_block(j, node);
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    default:
        tp_assert(false); /* a statement */
        return FLOW_FAIL;
    }
}

enum jinja_flow jinja_exec(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    jinja_at(j, node);
    if (!jinja_spend(j, 1))
        return FLOW_FAIL;
    if (ev->recursion == JINJA_RECURSION_MAX) {
        jinja_stop(j, JINJA_LIMIT, "evaluation nested deeper than %d", JINJA_RECURSION_MAX);
        return FLOW_FAIL;
    }
    ev->recursion++;
    enum jinja_flow flow = exec_node(j, node);
    ev->recursion--;
    return flow;
}
