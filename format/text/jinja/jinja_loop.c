/* For loops and their variable `loop`. The items are there from the start; a loop's condition is
 * asked only when the next item is wanted, as a generator would.
 */
#include "jinja_eval.h"

struct loop {
    const struct jinja_node *node;
    const struct jinja_value *items;
    size_t count, at;
    struct jinja_activation *test; /* NULL: all items */
    struct jinja_value self;
    int64_t index0, length; /* length < 0: not asked for */
    struct jinja_value before, current, after;
    bool has_after;
};

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
    if (jinja_string_is(name, "index0"))
        *out = jinja_int(loop->index0);
    else if (jinja_string_is(name, "index"))
        *out = jinja_int(loop->index0 + 1);
    else if (jinja_string_is(name, "first"))
        *out = jinja_bool(loop->index0 == 0);
    else if (jinja_string_is(name, "previtem"))
        return neighbour(j, loop, false, out);
    else if (jinja_string_is(name, "nextitem"))
        return neighbour(j, loop, true, out);
    else if (jinja_word_in("cycle changed depth depth0", name->bytes, name->n))
        return jinja_refuse(j, "loop.%s", jinja_string_text(j, name));
    else if (jinja_string_is(name, "last")) {
        if (!peek(j, loop))
            return false;
        *out = jinja_bool(!loop->has_after);
    } else if (jinja_string_is(name, "length") || jinja_string_is(name, "revindex") ||
               jinja_string_is(name, "revindex0")) {
        if (!measure(j, loop))
            return false;
        bool zero = jinja_string_is(name, "revindex0"), length = jinja_string_is(name, "length");
        *out = jinja_int(loop->length - (length ? 0 : loop->index0 + zero));
    } else
        *found = false;
    return true;
}

static bool loop_call(struct jinja *j, struct jinja_object *self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    (void)self, (void)args, (void)out;
    return jinja_refuse(j, "a recursive loop");
}

static bool loop_print(struct jinja *j, struct jinja_object *self, struct jinja_value *out)
{
    struct loop *loop = self->state;
    char text[80];
    if (!measure(j, loop))
        return false;
    snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)loop->index0 + 1,
             (long long)loop->length);
    return jinja_text_value(j, text, out);
}

static const struct jinja_object_type loop_type = {.name = "LoopContext",
                                                   .module = "jinja2.runtime",
                                                   .call = loop_call,
                                                   .get = loop_get,
                                                   .print = loop_print};

/* ---- running ---- */

static enum jinja_flow iterations(struct jinja *j, struct loop *loop)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_loop_scopes *scopes = loop->node->loop;
    bool any;
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
        enum jinja_flow flow = jinja_exec(j, loop->node->kids[FOR_BODY]);
        if (flow == FLOW_FAIL)
            return flow;
        if (flow == FLOW_BREAK)
            break;
    }
    jinja_leave_scope(j, &scopes->body);
    return FLOW_NEXT;
}

enum jinja_flow jinja_run_for(struct jinja *j, const struct jinja_node *node)
{
    struct jinja_evaluator *ev = jinja_evaluator(j);
    const struct jinja_loop_scopes *scopes = node->loop;
    struct jinja_value iterable;
    struct loop *loop = jinja_alloc(j, sizeof *loop);
    if (!loop || !jinja_eval(j, node->kids[FOR_ITER], &iterable))
        return FLOW_FAIL;
    jinja_at(j, node->kids[FOR_ITER]);
    *loop = (struct loop){.node = node, .index0 = -1, .length = -1};
    if (!jinja_iterate(j, iterable, &loop->items, &loop->count) ||
        (scopes->extended && !jinja_make_object(j, &loop_type, NULL, loop, &loop->self)))
        return FLOW_FAIL;
    if (node->kids[FOR_TEST]) {
        struct jinja_activation *before = ev->at;
        loop->test = jinja_activate(j, &scopes->test_code, before);
        ev->at = loop->test;
        if (!loop->test || !jinja_enter_scope(j, &scopes->test))
            return FLOW_FAIL;
        ev->at = before;
    }
    return iterations(j, loop);
}
