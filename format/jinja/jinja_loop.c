/* For loops and their variable `loop`. The items are there from the start; a loop's condition is
 * asked only when the next item is wanted, as a generator would.
 */
#include "jinja_eval.h"

#include <string.h>

struct loop {
    const struct jinja_node *node;
    const struct jinja_value *items;
    size_t count, at;
    struct jinja_activation *test;   /* NULL: all items */
    struct jinja_activation *around; /* of a recursive loop: what it was written in */
    struct jinja_value self;
    int64_t index0, length, depth0; /* length < 0: not asked for */
    struct jinja_value before, current, after;
    bool has_after;
    struct jinja_value changed; /* what changed() saw last: a tuple */
    bool has_changed;
};

static const struct jinja_object_type loop_type;

/* ---- items ---- */

/* The value of a target after it was assigned: what the loop's condition lets through. */
static bool rebuild(struct jinja *j, const struct jinja_node *target, struct jinja_value *out)
{
    if (target->kind == NODE_NAME) {
        *out = *jinja_slot(jinja_evaluator(j), target->ref);
        return true;
    }
    struct jinja_value *items = jinja_alloc(j, (target->n_kids + 1) * sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < target->n_kids; i++)
        if (!rebuild(j, target->kids[i], &items[i]))
            return false;
    return jinja_make_sequence(j, JINJA_TUPLE, items, target->n_kids, out);
}

static bool passes(struct jinja *j, const struct loop *loop, struct jinja_value *item, bool *pass)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_node *target = loop->node->loop->test_target;
    struct jinja_activation *before = ev->at;
    struct jinja_value value;
    ev->at = loop->test;
    if (!jinja_assign(j, target, *item) || !jinja_eval(j, loop->node->kids[FOR_TEST], &value))
        return false;
    *pass = jinja_truth(value);
    bool ok = !*pass || rebuild(j, target, item);
    ev->at = before;
    return ok;
}

/* *any: there was one more. */
static bool fetch(struct jinja *j, struct loop *loop, struct jinja_value *item, bool *any)
{
    for (*any = false; !*any && loop->at < loop->count;) {
        *item = loop->items[loop->at++];
        *any = true;
        if (loop->test && !passes(j, loop, item, any))
            return false;
    }
    return true;
}

static bool peek(struct jinja *j, struct loop *loop)
{
    return loop->has_after || fetch(j, loop, &loop->after, &loop->has_after);
}

static bool advance(struct jinja *j, struct loop *loop, bool *any)
{
    struct jinja_value item = loop->after;
    *any = loop->has_after;
    loop->has_after = false;
    if (!*any && !fetch(j, loop, &item, any))
        return false;
    if (*any) {
        loop->index0++;
        loop->before = loop->current;
        loop->current = item;
    }
    return true;
}

/* With a condition all items must be asked. */
static bool measure(struct jinja *j, struct loop *loop)
{
    if (loop->length >= 0)
        return true;
    loop->length = (int64_t)loop->count;
    if (!loop->test)
        return true;
    struct jinja_value *left = jinja_alloc(j, (loop->count - loop->at + 1) * sizeof *left);
    size_t n = 0;
    bool any = true;
    while (left && any) {
        if (!fetch(j, loop, &left[n], &any))
            return false;
        n += any;
    }
    loop->items = left;
    loop->count = n;
    loop->at = 0;
    loop->test = NULL;
    loop->length = (int64_t)n + loop->index0 + 1 + loop->has_after;
    return left != NULL;
}

/* ---- the object ---- */

static bool is_name(const struct jinja_string *s, const char *name)
{
    return s->n == strlen(name) && memcmp(s->bytes, name, s->n) == 0;
}

static bool cycle_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    const struct loop *loop = self->state;
    if (!args->count)
        return jinja_raise(j, "TypeError", "no items for cycling given");
    if (args->n_keywords)
        return jinja_raise(j, "TypeError",
                           "LoopContext.cycle() got an unexpected keyword argument '%.*s'",
                           (int)args->keywords[0].name->n, args->keywords[0].name->bytes);
    *out = args->items[(uint64_t)loop->index0 % args->count];
    return true;
}

static bool changed_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                         struct jinja_value *out)
{
    struct loop *loop = self->state;
    struct jinja_value value;
    bool equal = false;
    if (args->n_keywords)
        return jinja_raise(j, "TypeError",
                           "LoopContext.changed() got an unexpected keyword argument '%.*s'",
                           (int)args->keywords[0].name->n, args->keywords[0].name->bytes);
    if (!jinja_make_sequence(j, JINJA_TUPLE, args->items, args->count, &value) ||
        (loop->has_changed && !jinja_equal(j, loop->changed, value, &equal)))
        return false;
    loop->changed = value;
    loop->has_changed = true;
    *out = jinja_bool(!equal);
    return true;
}

static const struct jinja_object_type cycle_type = {.name = "method", .call = cycle_call};
static const struct jinja_object_type changed_type = {.name = "method", .call = changed_call};

static bool neighbour(struct jinja *j, struct loop *loop, bool next, struct jinja_value *out)
{
    if (next && !peek(j, loop))
        return false;
    if (next ? loop->has_after : loop->index0 > 0) {
        *out = next ? loop->after : loop->before;
        return true;
    }
    return jinja_make_undefined(j, out, "there is no %s item", next ? "next" : "previous");
}

static bool loop_get(struct jinja *j, struct jinja_object *self, const struct jinja_string *name,
                     struct jinja_value *out, bool *found)
{
    struct loop *loop = self->state;
    *found = true;
    if (is_name(name, "index0"))
        *out = jinja_int(loop->index0);
    else if (is_name(name, "index"))
        *out = jinja_int(loop->index0 + 1);
    else if (is_name(name, "first"))
        *out = jinja_bool(loop->index0 == 0);
    else if (is_name(name, "depth0"))
        *out = jinja_int(loop->depth0);
    else if (is_name(name, "depth"))
        *out = jinja_int(loop->depth0 + 1);
    else if (is_name(name, "previtem"))
        return neighbour(j, loop, false, out);
    else if (is_name(name, "nextitem"))
        return neighbour(j, loop, true, out);
    else if (is_name(name, "cycle"))
        return jinja_make_object(j, &cycle_type, NULL, loop, out);
    else if (is_name(name, "changed"))
        return jinja_make_object(j, &changed_type, NULL, loop, out);
    else if (is_name(name, "last")) {
        if (!peek(j, loop))
            return false;
        *out = jinja_bool(!loop->has_after);
    } else if (is_name(name, "length") || is_name(name, "revindex") || is_name(name, "revindex0")) {
        if (!measure(j, loop))
            return false;
        bool zero = is_name(name, "revindex0"), length = is_name(name, "length");
        *out = jinja_int(loop->length - (length ? 0 : loop->index0 + zero));
    } else
        *found = false;
    return true;
}

static bool loop_print(struct jinja *j, struct jinja_object *self, struct jinja_value *out)
{
    struct loop *loop = self->state;
    char text[80];
    if (!measure(j, loop))
        return false;
    snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)loop->index0 + 1,
             (long long)loop->length);
    return jinja_make_string(j, text, strlen(text), false, out);
}

/* ---- running ---- */

static enum jinja_flow iterations(struct jinja *j, struct loop *loop)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_loop_scopes *scopes = loop->node->loop;
    bool any, finished = false;
    enum jinja_flow flow = FLOW_NEXT;
    for (;;) {
        if (!jinja_spend(j, 1) || !advance(j, loop, &any))
            return FLOW_FAIL;
        if (!any)
            break;
        jinja_at(j, loop->node);
        if (!jinja_enter_scope(j, &scopes->body) ||
            !jinja_assign(j, loop->node->kids[FOR_TARGET], loop->current))
            return FLOW_FAIL;
        if (scopes->extended)
            ev->at->slots[scopes->loop_slot] = loop->self;
        flow = jinja_exec(j, loop->node->kids[FOR_BODY]);
        if (flow == FLOW_FAIL)
            return flow;
        finished |= flow == FLOW_NEXT;
        if (flow == FLOW_BREAK)
            break;
    }
    jinja_leave_scope(j, &scopes->body);
    /* As jinja2 has it: an iteration that was left early is none. */
    if (finished || !loop->node->kids[FOR_ELSE])
        return FLOW_NEXT;
    if (!jinja_enter_scope(j, &scopes->otherwise))
        return FLOW_FAIL;
    flow = jinja_exec(j, loop->node->kids[FOR_ELSE]);
    jinja_leave_scope(j, &scopes->otherwise);
    return flow;
}

static enum jinja_flow run_loop(struct jinja *j, const struct jinja_node *node,
                                struct jinja_value iterable, struct jinja_activation *around,
                                int64_t depth0)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_loop_scopes *scopes = node->loop;
    struct loop *loop = jinja_alloc(j, sizeof *loop);
    if (!loop)
        return FLOW_FAIL;
    *loop = (struct loop){.node = node,
                          .index0 = -1,
                          .length = -1,
                          .depth0 = depth0,
                          .around = node->recursive ? around : NULL};
    if (!jinja_iterate(j, iterable, &loop->items, &loop->count) ||
        (scopes->extended && !jinja_make_object(j, &loop_type, NULL, loop, &loop->self)))
        return FLOW_FAIL;
    if (node->kids[FOR_TEST]) {
        struct jinja_activation *before = ev->at;
        loop->test = jinja_activate(j, &scopes->test_code, around);
        ev->at = loop->test;
        if (!loop->test || !jinja_enter_scope(j, &scopes->test))
            return FLOW_FAIL;
        ev->at = before;
    }
    return iterations(j, loop);
}

/* A recursive loop is a function, written in `around`, that gives what it wrote. */
static bool run_recursive(struct jinja *j, const struct jinja_node *node,
                          struct jinja_value iterable, struct jinja_activation *around,
                          int64_t depth0, struct jinja_value *out)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    struct jinja_activation *before = ev->at;
    struct jinja_builder text = {0}, *target = ev->out;
    struct jinja_activation *mine = jinja_activate(j, &node->loop->code, around);
    uint32_t line = j->line, column = ev->column;
    if (!mine || !jinja_enter(j))
        return false;
    ev->at = mine;
    ev->out = &text;
    enum jinja_flow flow = run_loop(j, node, iterable, around, depth0);
    if (flow == FLOW_FAIL)
        return false;
    ev->at = before;
    ev->out = target;
    j->line = line;
    ev->column = column;
    jinja_leave(j);
    return jinja_build(j, &text, out);
}

static bool loop_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    const struct loop *loop = self->state;
    bool named = args->n_keywords == 1 && is_name(args->keywords[0].name, "iterable");
    if (args->count + args->n_keywords == 0)
        return jinja_raise(j, "TypeError",
                           "LoopContext.__call__() missing 1 required positional argument: "
                           "'iterable'");
    if (args->count + named > 1)
        return jinja_raise(j, "TypeError",
                           "LoopContext.__call__() takes 2 positional arguments but %zu were given",
                           args->count + 1);
    if (args->n_keywords > named)
        return jinja_raise(j, "TypeError",
                           "LoopContext.__call__() got an unexpected keyword argument '%.*s'",
                           (int)args->keywords[0].name->n, args->keywords[0].name->bytes);
    if (!loop->node->recursive)
        return jinja_raise(j, "TypeError",
                           "The loop must have the 'recursive' marker to be called recursively.");
    return run_recursive(j, loop->node, named ? args->keywords[0].value : args->items[0],
                         loop->around, loop->depth0 + 1, out);
}

static const struct jinja_object_type loop_type = {.name = "LoopContext",
                                                   .module = "jinja2.runtime",
                                                   .call = loop_call,
                                                   .get = loop_get,
                                                   .print = loop_print};

enum jinja_flow jinja_run_for(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    struct jinja_value iterable, text;
    if (!jinja_eval(j, node->kids[FOR_ITER], &iterable))
        return FLOW_FAIL;
    jinja_at(j, node->kids[FOR_ITER]);
    if (!node->recursive)
        return run_loop(j, node, iterable, ev->at, 0);
    return run_recursive(j, node, iterable, ev->at, 0, &text) && jinja_write(j, text.string)
               ? FLOW_NEXT
               : FLOW_FAIL;
}
