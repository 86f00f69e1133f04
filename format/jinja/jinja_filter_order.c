/* Filters that compare items: sort, unique, min, max, groupby, dictsort. */
#include "jinja_filters.h"

#include <string.h>

const char jinja_group_type[] = "_GroupTuple";

/* The keys of items: a copy of the items, and what the path gives of each */
static bool keys_of(struct jinja *j, const struct jinja_path *path, const struct jinja_value *items,
                    size_t count, struct jinja_value fallback, bool fold, struct jinja_value **keys)
{
    *keys = jinja_array(j, count, sizeof **keys);
    if (!*keys)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!jinja_spend(j, 1) || !jinja_path_get(j, path, items[i], fallback, fold, &(*keys)[i]))
            return false;
    return true;
}

static bool sorted(struct jinja *j, const struct jinja_value *items, struct jinja_value *keys,
                   size_t count, bool reverse, struct jinja_value *out)
{
    return jinja_make_sequence(j, JINJA_LIST, items, count, out) &&
           jinja_sort(j, out->sequence->items, keys, count, reverse);
}

/* sort's attribute may name several: "age,name". Keys are lists, of one too: equal items of lists
 * are passed over, and undefined ones are equal. */
static bool multi_keys(struct jinja *j, struct jinja_value attribute,
                       const struct jinja_value *items, size_t count, bool fold,
                       struct jinja_value **keys)
{
    static const struct jinja_string comma = {.bytes = ",", .n = 1, .n_chars = 1};
    struct jinja_value by = jinja_of_string(&comma), names;
    struct jinja_args args = {.items = &by, .count = 1};
    if (attribute.kind == JINJA_STRING ? !jinja_str_split(j, attribute, &args, &names)
                                       : !jinja_make_sequence(j, JINJA_LIST, &attribute, 1, &names))
        return false;
    size_t n = names.sequence->count;
    struct jinja_path *paths = jinja_array(j, n, sizeof *paths);
    *keys = jinja_array(j, count, sizeof **keys);
    if (!paths || !*keys)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!jinja_path_parse(j, names.sequence->items[i], &paths[i]))
            return false;
    for (size_t i = 0; i < count; i++) {
        struct jinja_sequence *key = jinja_new_sequence(j, JINJA_LIST, "list", n, &(*keys)[i]);
        for (size_t k = 0; k < n; k++)
            if (!key || !jinja_path_get(j, &paths[k], items[i], jinja_none(), fold, &key->items[k]))
                return false;
    }
    return true;
}

bool jinja_filter_sort(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                       struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_sort", "reverse case_sensitive attribute",
                                                     0, 2};
    struct jinja_value v[3] = {jinja_bool(false), jinja_bool(false), jinja_none()}, *keys;
    const struct jinja_value *items;
    size_t count;
    int64_t reverse;
    return jinja_bind(j, &signature, args, v) && jinja_iterate(j, value, &items, &count) &&
           jinja_index(j, v[0], &reverse) &&
           multi_keys(j, v[2], items, count, !jinja_truth(v[1]), &keys) &&
           sorted(j, items, keys, count, reverse != 0, out);
}

bool jinja_filter_dictsort(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                           struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_dictsort", "case_sensitive by reverse", 0,
                                                     1};
    struct jinja_value v[3] = {jinja_bool(false), jinja_none(), jinja_bool(false)}, pairs, *keys;
    static const struct jinja_args none = {0};
    if (!jinja_text_value(j, "key", &v[1]) || !jinja_bind(j, &signature, args, v))
        return false;
    bool by_value = v[1].kind == JINJA_STRING && jinja_string_is(v[1].string, "value");
    if (!by_value && !(v[1].kind == JINJA_STRING && jinja_string_is(v[1].string, "key")))
        return jinja_raise(j, "FilterArgumentError",
                           "You can only sort by either \"key\" or \"value\"");
    if (value.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, value);
    if (value.kind != JINJA_DICT)
        return jinja_raise(j, "AttributeError", "'%s' object has no attribute 'items'",
                           jinja_type_name(value));
    if (!jinja_filter_items(j, value, &none, &pairs))
        return false;
    struct jinja_value place = jinja_int(by_value);
    struct jinja_path path = {&place, 1};
    const struct jinja_sequence *s = pairs.sequence;
    int64_t reverse;
    return jinja_index(j, v[2], &reverse) &&
           keys_of(j, &path, s->items, s->count, jinja_none(), !jinja_truth(v[0]), &keys) &&
           sorted(j, s->items, keys, s->count, reverse != 0, out);
}

bool jinja_filter_unique(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_unique", "case_sensitive attribute",
                                                     0, 2};
    struct jinja_value v[2] = {jinja_bool(false), jinja_none()}, *keys;
    struct jinja_path path;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_bind(j, &signature, args, v) || !jinja_iterate(j, value, &items, &count) ||
        !jinja_path_parse(j, v[1], &path) ||
        !keys_of(j, &path, items, count, jinja_none(), !jinja_truth(v[0]), &keys))
        return false;
    struct jinja_dict *seen = jinja_make_dict(j);
    struct jinja_items kept = {0};
    for (size_t i = 0; i < count; i++) {
        if (!seen)
            return false;
        size_t before = seen->count;
        if (!jinja_dict_put(j, seen, keys[i], jinja_none()) ||
            (seen->count > before && !jinja_push(j, &kept, items[i])))
            return false;
    }
    return jinja_take_items(j, &kept, JINJA_GENERATOR, out);
}

static bool extreme(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                    bool max, struct jinja_value *out)
{
    struct jinja_signature signature = {max ? "do_max" : "do_min", "case_sensitive attribute", 0,
                                        2};
    struct jinja_value v[2] = {jinja_bool(false), jinja_none()}, *keys;
    struct jinja_path path;
    const struct jinja_value *items;
    size_t count, best = 0;
    if (!jinja_bind(j, &signature, args, v) || !jinja_iterate(j, value, &items, &count))
        return false;
    if (count == 0)
        return jinja_make_undefined(j, out, "No aggregated item, sequence was empty.");
    if (!jinja_path_parse(j, v[1], &path) ||
        !keys_of(j, &path, items, count, jinja_none(), !jinja_truth(v[0]), &keys))
        return false;
    for (size_t i = 1; i < count; i++) {
        struct jinja_value better;
        if (!jinja_operate(j, max ? JINJA_GT : JINJA_LT, keys[i], keys[best], &better))
            return false;
        if (better.boolean)
            best = i;
    }
    *out = items[best];
    return true;
}

bool jinja_filter_min(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return extreme(j, value, args, false, out);
}

bool jinja_filter_max(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return extreme(j, value, args, true, out);
}

/* (grouper, list) of the sorted items [begin, end) */
static bool make_group(struct jinja *j, const struct jinja_path *path, struct jinja_value key,
                       const struct jinja_value *items, size_t count, struct jinja_value fallback,
                       bool fold, struct jinja_value *out)
{
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_TUPLE, jinja_group_type, 2, out);
    if (!s)
        return false;
    s->items[0] = key;
    /* the key as the first item has it, not in lower case */
    if (fold && !jinja_path_get(j, path, items[0], fallback, false, &s->items[0]))
        return false;
    return jinja_make_sequence(j, JINJA_LIST, items, count, &s->items[1]);
}

bool jinja_filter_groupby(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_groupby",
                                                     "attribute default case_sensitive", 1, 2};
    struct jinja_value v[3] = {jinja_none(), jinja_none(), jinja_bool(false)}, *keys, list, group;
    struct jinja_path path;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_bind(j, &signature, args, v) || !jinja_iterate(j, value, &items, &count) ||
        !jinja_path_parse(j, v[0], &path))
        return false;
    bool fold = !jinja_truth(v[2]);
    if (!keys_of(j, &path, items, count, v[1], fold, &keys) ||
        !sorted(j, items, keys, count, false, &list))
        return false;
    struct jinja_items groups = {0};
    for (size_t begin = 0, end; begin < count; begin = end) {
        bool same = true;
        for (end = begin + 1; end < count; end++) {
            if (!jinja_equal(j, keys[end], keys[begin], &same))
                return false;
            if (!same)
                break;
        }
        if (!make_group(j, &path, keys[begin], list.sequence->items + begin, end - begin, v[1],
                        fold, &group) ||
            !jinja_push(j, &groups, group))
            return false;
    }
    return jinja_take_items(j, &groups, JINJA_LIST, out);
}
