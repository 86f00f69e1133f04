/* ==, <, in: Python's, with its messages. */
#include "jinja_inside.h"

#include <math.h>
#include <string.h>

/* Exact: an int64 has no double of its own above 2^53. */
static int compare_int_float(int64_t i, double f)
{
    if (isnan(f))
        return 2;
    if (f >= 0x1p63)
        return -1;
    if (f < -0x1p63)
        return 1;
    double whole = trunc(f);
    int64_t t = (int64_t)whole;
    if (i != t)
        return i < t ? -1 : 1;
    return f > whole ? -1 : f < whole ? 1 : 0;
}

int jinja_compare_numbers(struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_FLOAT && b.kind == JINJA_FLOAT) {
        if (isnan(a.real) || isnan(b.real))
            return 2;
        return (a.real > b.real) - (a.real < b.real);
    }
    if (a.kind == JINJA_FLOAT) {
        int c = compare_int_float(jinja_int_of(b), a.real);
        return c == 2 ? 2 : -c;
    }
    if (b.kind == JINJA_FLOAT)
        return compare_int_float(jinja_int_of(a), b.real);
    int64_t x = jinja_int_of(a), y = jinja_int_of(b);
    return (x > y) - (x < y);
}

static bool equal_items(struct jinja *j, const struct jinja_sequence *a,
                        const struct jinja_sequence *b, bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; i < a->count && *equal; i++)
        if (!jinja_equal(j, a->items[i], b->items[i], equal))
            return false;
    return true;
}

static bool equal_dicts(struct jinja *j, const struct jinja_dict *a, const struct jinja_dict *b,
                        bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; i < a->count && *equal; i++) {
        const struct jinja_value *other = jinja_dict_get(j, b, a->entries[i].key);
        *equal = other != NULL;
        if (j->failed || (other && !jinja_equal(j, a->entries[i].value, *other, equal)))
            return false;
    }
    return true;
}

static bool equal_deep(struct jinja *j, struct jinja_value a, struct jinja_value b, bool *equal)
{
    switch (a.kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return equal_items(j, a.sequence, b.sequence, equal);
    case JINJA_DICT:
        return equal_dicts(j, a.dict, b.dict, equal);
    case JINJA_VIEW:
        return jinja_refuse(j, "a comparison of views of dicts");
    default:
        *equal = a.sequence == b.sequence;
        return true;
    }
}

bool jinja_equal(struct jinja *j, struct jinja_value a, struct jinja_value b, bool *equal)
{
    *equal = false;
    if (!jinja_spend(j, 1))
        return false;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *equal = jinja_compare_numbers(a, b) == 0;
        return true;
    }
    if (a.kind != b.kind)
        return true;
    switch (a.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        *equal = true;
        return true;
    case JINJA_STRING:
        if (a.string->n != b.string->n)
            return true;
        if (!jinja_spend(j, a.string->n / JINJA_BYTES_PER_STEP))
            return false;
        *equal = memcmp(a.string->bytes, b.string->bytes, a.string->n) == 0;
        return true;
    case JINJA_OBJECT:
        *equal = a.object == b.object;
        return true;
    default:
        break;
    }
    if (!jinja_enter(j))
        return false;
    bool ok = equal_deep(j, a, b, equal);
    jinja_leave(j);
    return ok;
}

/* ---- order ---- */

static bool no_order(struct jinja *j, const char *sign, struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, a.kind == JINJA_UNDEFINED ? a : b);
    return jinja_raise(j, "TypeError", "'%s' not supported between instances of '%s' and '%s'",
                       sign, jinja_type_name(a), jinja_type_name(b));
}

static bool compare(struct jinja *j, const char *sign, struct jinja_value a, struct jinja_value b,
                    int *order);

/* The first items that differ decide. */
static bool compare_items(struct jinja *j, const char *sign, const struct jinja_sequence *a,
                          const struct jinja_sequence *b, int *order)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal;
        if (!jinja_equal(j, a->items[i], b->items[i], &equal))
            return false;
        if (!equal)
            return compare(j, sign, a->items[i], b->items[i], order);
    }
    *order = (a->count > b->count) - (a->count < b->count);
    return true;
}

static bool compare(struct jinja *j, const char *sign, struct jinja_value a, struct jinja_value b,
                    int *order)
{
    if (!jinja_spend(j, 1))
        return false;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *order = jinja_compare_numbers(a, b);
        return true;
    }
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        size_t n = a.string->n < b.string->n ? a.string->n : b.string->n;
        if (!jinja_spend(j, n / JINJA_BYTES_PER_STEP))
            return false;
        int c = memcmp(a.string->bytes, b.string->bytes, n);
        *order = c ? (c > 0) - (c < 0) : (a.string->n > b.string->n) - (a.string->n < b.string->n);
        return true;
    }
    if (a.kind != b.kind || (a.kind != JINJA_LIST && a.kind != JINJA_TUPLE))
        return no_order(j, sign, a, b);
    if (!jinja_enter(j))
        return false;
    bool ok = compare_items(j, sign, a.sequence, b.sequence, order);
    jinja_leave(j);
    return ok;
}

bool jinja_order(struct jinja *j, enum jinja_operator op, struct jinja_value a,
                 struct jinja_value b, struct jinja_value *out)
{
    static const char *const signs[] = {
        [JINJA_LT] = "<", [JINJA_LE] = "<=", [JINJA_GT] = ">", [JINJA_GE] = ">="};
    int order = 0;
    if (!compare(j, signs[op], a, b, &order))
        return false;
    bool yes = op == JINJA_LT   ? order == -1
               : op == JINJA_LE ? order == -1 || order == 0
               : op == JINJA_GT ? order == 1
                                : order == 1 || order == 0;
    *out = jinja_bool(yes);
    return true;
}

/* ---- membership ---- */

static bool in_string(struct jinja *j, struct jinja_value item, const struct jinja_string *s,
                      bool *found)
{
    if (item.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "'in <string>' requires string as left operand, not %s",
                           jinja_type_name(item));
    size_t at = 0;
    if (item.string->n && !jinja_find(j, s, item.string, 0, &at))
        return false;
    *found = item.string->n == 0 || at < s->n;
    return true;
}

bool jinja_contains(struct jinja *j, struct jinja_value item, struct jinja_value box, bool *found)
{
    *found = false;
    if (box.kind == JINJA_STRING)
        return in_string(j, item, box.string, found);
    if (box.kind == JINJA_DICT) {
        uint64_t hash;
        if (!jinja_hash(j, item, 0, &hash))
            return jinja_raise(j, "TypeError", "unhashable type: '%s'", jinja_type_name(item));
        *found = jinja_dict_get(j, box.dict, item) != NULL;
        return !j->failed;
    }
    const struct jinja_value *items;
    size_t count;
    if (box.kind == JINJA_OBJECT || (box.kind < JINJA_LIST && box.kind != JINJA_UNDEFINED))
        return jinja_raise(j, "TypeError", "argument of type '%s' is not iterable",
                           jinja_type_name(box));
    if (!jinja_iterate(j, box, &items, &count))
        return false;
    for (size_t i = 0; i < count && !*found; i++)
        if (!jinja_equal(j, items[i], item, found))
            return false;
    return true;
}

/* ---- sorting: merge sort, stable ---- */

struct sorting {
    struct jinja_value *items, *keys, *item_room, *key_room;
    bool reverse;
};

static bool merge(struct jinja *j, struct sorting *s, size_t begin, size_t middle, size_t end)
{
    size_t left = begin, right = middle;
    for (size_t at = begin; at < end; at++) {
        bool take_right = left == middle;
        if (!take_right && right < end) {
            /* the right one only where it is strictly before */
            int order = 0;
            if (!compare(j, "<", s->keys[s->reverse ? left : right],
                         s->keys[s->reverse ? right : left], &order))
                return false;
            take_right = order == -1;
        }
        size_t from = take_right ? right++ : left++;
        s->item_room[at] = s->items[from];
        s->key_room[at] = s->keys[from];
    }
    memcpy(s->items + begin, s->item_room + begin, (end - begin) * sizeof *s->items);
    memcpy(s->keys + begin, s->key_room + begin, (end - begin) * sizeof *s->keys);
    return jinja_spend(j, end - begin);
}

bool jinja_sort(struct jinja *j, struct jinja_value *items, struct jinja_value *keys, size_t count,
                bool reverse)
{
    struct sorting s = {.items = items, .keys = keys, .reverse = reverse};
    if (count < 2)
        return true;
    s.item_room = jinja_array(j, count, sizeof *items);
    s.key_room = s.item_room ? jinja_array(j, count, sizeof *keys) : NULL;
    if (!s.key_room)
        return false;
    for (size_t width = 1; width < count; width *= 2)
        for (size_t begin = 0; begin + width < count; begin += 2 * width) {
            size_t end = begin + 2 * width < count ? begin + 2 * width : count;
            if (!merge(j, &s, begin, begin + width, end))
                return false;
        }
    return true;
}
