/* Walking, measuring and slicing values. */
#include "jinja_inside.h"

#include <string.h>

bool jinja_length(struct jinja *j, struct jinja_value v, int64_t *length)
{
    size_t n = 0;
    if (v.kind == JINJA_STRING)
        n = v.string->n_chars;
    else if (v.kind == JINJA_DICT)
        n = v.dict->count;
    else if (v.kind >= JINJA_LIST && v.kind <= JINJA_RANGE && v.kind != JINJA_GENERATOR)
        n = v.sequence->count;
    else if (v.kind != JINJA_UNDEFINED)
        return jinja_raise(j, "TypeError", "object of type '%s' has no len()", jinja_type_name(v));
    *length = (int64_t)n;
    return true;
}

static bool characters(struct jinja *j, const struct jinja_string *s,
                       const struct jinja_value **items, size_t *count)
{
    if (!jinja_spend(j, s->n_chars) || !jinja_spend_bytes(j, s->n))
        return false;
    struct jinja_value *chars = jinja_array(j, s->n_chars, sizeof *chars);
    struct jinja_string *strings = chars ? jinja_array(j, s->n_chars, sizeof *strings) : NULL;
    if (!strings)
        return false;
    size_t at = 0;
    for (size_t i = 0; i < s->n_chars; i++) {
        size_t n;
        jinja_char_at(s, at, &n);
        strings[i] = *s;
        strings[i].bytes += at;
        strings[i].n = n;
        strings[i].n_chars = 1;
        if (s->marks)
            strings[i].marks += at;
        strings[i].safe = false;
        chars[i] = jinja_of_string(&strings[i]);
        at += n;
    }
    *items = chars;
    *count = s->n_chars;
    return true;
}

static bool dict_keys(struct jinja *j, const struct jinja_dict *dict,
                      const struct jinja_value **items, size_t *count)
{
    struct jinja_value *keys = jinja_array(j, dict->count, sizeof *keys);
    if (!keys || !jinja_spend(j, dict->count))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        keys[i] = dict->entries[i].key;
    *items = keys;
    *count = dict->count;
    return true;
}

bool jinja_iterate(struct jinja *j, struct jinja_value v, const struct jinja_value **items,
                   size_t *count)
{
    size_t taken = 0;
    switch (v.kind) {
    case JINJA_UNDEFINED:
        *items = NULL;
        *count = 0;
        return true;
    case JINJA_STRING:
        return characters(j, v.string, items, count);
    case JINJA_DICT:
        return dict_keys(j, v.dict, items, count);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_GENERATOR:
    case JINJA_VIEW:
    case JINJA_RANGE:
        if (v.sequence->taken) { /* a generator gives its items once */
            taken = *v.sequence->taken;
            *v.sequence->taken = v.sequence->count;
        }
        *items = v.sequence->items + taken;
        *count = v.sequence->count - taken;
        return true;
    default:
        return jinja_raise(j, "TypeError", "'%s' object is not iterable", jinja_type_name(v));
    }
}

/* ---- slices ---- */

static bool slice_bound(struct jinja *j, struct jinja_value v, int64_t fallback, int64_t low,
                        int64_t high, int64_t n, int64_t *out)
{
    *out = fallback;
    if (v.kind == JINJA_NONE)
        return true;
    if (!jinja_is_int(v))
        return jinja_raise(j, "TypeError",
                           "slice indices must be integers or None or have an __index__ method");
    int64_t i = jinja_int_of(v);
    if (i < 0)
        i += n;
    *out = i < low ? low : i > high ? high : i;
    return true;
}

/* How a slice of length n walks: first index, the one it stops before, step, count. */
struct walk {
    int64_t first, stop, step;
    size_t count;
};

/* PySlice_AdjustIndices */
static bool slice_walk(struct jinja *j, struct jinja_value start, struct jinja_value stop,
                       struct jinja_value step, size_t n, struct walk *walk)
{
    int64_t by = 1, length = (int64_t)n, from, to;
    if (step.kind != JINJA_NONE && !jinja_is_int(step))
        return jinja_raise(j, "TypeError",
                           "slice indices must be integers or None or have an __index__ method");
    if (step.kind != JINJA_NONE)
        by = jinja_int_of(step);
    if (by == 0)
        return jinja_raise(j, "ValueError", "slice step cannot be zero");
    if (by < -INT64_MAX)
        by = -INT64_MAX;
    int64_t low = by < 0 ? -1 : 0, high = by < 0 ? length - 1 : length;
    if (!slice_bound(j, start, by < 0 ? high : low, low, high, length, &from) ||
        !slice_bound(j, stop, by < 0 ? low : high, low, high, length, &to))
        return false;
    walk->first = from;
    walk->stop = to;
    walk->step = by;
    walk->count = 0;
    if (by > 0 && from < to)
        walk->count = (size_t)((to - from - 1) / by + 1);
    if (by < 0 && to < from)
        walk->count = (size_t)((from - to - 1) / -by + 1);
    return true;
}

/* The place of the i-th item; the step is only multiplied within the sequence. */
static size_t place(const struct walk *walk, size_t i)
{
    return (size_t)(walk->first + (int64_t)i * walk->step);
}

static bool slice_string(struct jinja *j, const struct jinja_string *s, const struct walk *walk,
                         struct jinja_value *out)
{
    if (walk->count == 0)
        return jinja_text_value(j, "", out);
    if (walk->step == 1) {
        size_t begin, end;
        return jinja_byte_of(j, s, (size_t)walk->first, &begin) &&
               jinja_byte_of(j, s, (size_t)walk->first + walk->count, &end) &&
               jinja_substring(j, s, begin, end, out);
    }
    const struct jinja_value *chars;
    size_t count;
    if (!characters(j, s, &chars, &count))
        return false;
    struct jinja_builder text = {0};
    for (size_t i = 0; i < walk->count; i++)
        if (!jinja_add_string(j, &text, chars[place(walk, i)].string))
            return false;
    return jinja_build(j, &text, out);
}

/* What the slice of a range is called: its bounds, whether or not the last one is reached */
static void slice_range(const struct jinja_sequence *from, const struct walk *walk,
                        struct jinja_sequence *out)
{
    uint64_t by = (uint64_t)from->step, first = (uint64_t)from->start;
    out->start = (int64_t)(first + (uint64_t)walk->first * by);
    out->stop = (int64_t)(first + (uint64_t)walk->stop * by);
    out->step = (int64_t)((uint64_t)walk->step * by);
}

bool jinja_get_slice(struct jinja *j, struct jinja_value v, struct jinja_value start,
                     struct jinja_value stop, struct jinja_value step, struct jinja_value *out)
{
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (v.kind == JINJA_DICT)
        return jinja_raise(j, "TypeError", "unhashable type: 'slice'");
    struct walk walk;
    if (v.kind == JINJA_STRING) {
        if (!slice_walk(j, start, stop, step, v.string->n_chars, &walk) ||
            !slice_string(j, v.string, &walk, out))
            return false;
        return v.string->safe ? jinja_mark_safe(j, *out, out) : true;
    }
    if (v.kind != JINJA_LIST && v.kind != JINJA_TUPLE && v.kind != JINJA_RANGE)
        return jinja_raise(j, "TypeError", "'%s' object is not subscriptable", jinja_type_name(v));
    if (!slice_walk(j, start, stop, step, v.sequence->count, &walk))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, v.kind, walk.count, out);
    for (size_t i = 0; s && i < walk.count; i++)
        s->items[i] = v.sequence->items[place(&walk, i)];
    if (s && v.kind == JINJA_RANGE)
        slice_range(v.sequence, &walk, s);
    return s != NULL;
}
