/* The evaluator's state, shared by expressions (jinja_eval.c), statements (jinja_exec.c) and the
 * objects that templates make: macros and loops (jinja_macro.c, jinja_loop.c).
 */
#pragma once
#include "jinja_ast.h"
#include "jinja_inside.h"

/* Levels of evaluation at once: what the C stack must hold. */
#define JINJA_RECURSION_MAX 2500

/* The variables of a running function; `outer` is the one that it was written in. Closures keep
 * it, and see what is set later. */
struct jinja_activation {
    struct jinja_activation *outer;
    struct jinja_value *slots;
};

struct jinja_evaluator {
    const struct jinja_template *compiled;
    const struct jinja_dict *data, *trusted;
    struct jinja_value *resolved; /* by name: what data, trusted or globals have, once asked for */
    bool *known;
    struct jinja_activation *at;
    struct jinja_builder *out;
    struct jinja_value block_value; /* what a block's filter is applied to */
    uint32_t column;
    uint32_t recursion;
};

enum jinja_flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAIL };

static inline struct jinja_evaluator *jinja_evaluator(struct jinja *j)
{
    return j->evaluator;
}

static inline struct jinja_value *jinja_slot(const struct jinja_evaluator *ev, struct jinja_ref ref)
{
    const struct jinja_activation *a = ev->at;
    for (uint32_t up = ref.up; up; up--)
        a = a->outer;
    return &a->slots[ref.slot];
}
/* From here on errors are the node's. */
static inline void jinja_at(struct jinja *j, const struct jinja_node *node)
{
    j->line = node->line;
    jinja_evaluator(j)->column = node->column;
}

/* ---- expressions ---- */
bool jinja_eval(struct jinja *j, const struct jinja_node *node, struct jinja_value *out);
/* A call with one more keyword argument, NULL: none. */
bool jinja_eval_call(struct jinja *j, const struct jinja_node *node,
                     const struct jinja_keyword *more, struct jinja_value *out);
/* To names, tuples of targets and attributes of namespaces. */
bool jinja_assign(struct jinja *j, const struct jinja_node *target, struct jinja_value value);

/* ---- functions and scopes ---- */
struct jinja_activation *jinja_activate(struct jinja *j, const struct jinja_code *code,
                                        struct jinja_activation *outer);
bool jinja_enter_scope(struct jinja *j, const struct jinja_scope *scope);
void jinja_leave_scope(struct jinja *j, const struct jinja_scope *scope);

/* ---- statements ---- */
enum jinja_flow jinja_exec(struct jinja *j, const struct jinja_node *node);
/* What a body writes, as a string. */
enum jinja_flow jinja_capture(struct jinja *j, const struct jinja_node *body,
                              struct jinja_value *out);

/* ---- objects ---- */
bool jinja_make_macro(struct jinja *j, const struct jinja_node *node, struct jinja_value *out);
enum jinja_flow jinja_run_for(struct jinja *j, const struct jinja_node *node);
