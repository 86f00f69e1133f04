/* Filters of sequences: their items, some of them, in order; what joins or compares them. */
#include "jinja_filters.h"

#include <string.h>

/* ---- attribute="a.b.0" ---- */

/* make_attrgetter: how attribute="a.b.0" is looked up. */
struct path {
    struct jinja_value *parts; /* strings and ints */
    size_t count;
};

static bool path_part(struct jinja *j, const struct jinja_string *s, struct jinja_value *out)
{
    int64_t i;
    bool ok = s->n > 0;
    *out = jinja_of_string(s);
    for (size_t at = 0, n; at < s->n && ok; at += n)
        ok = jinja_is_decimal(jinja_char_at(s, at, &n));
    if (ok && !jinja_parse_int(j, s, &i, &ok))
        return false;
    if (ok)
        *out = jinja_int(i);
    return true;
}

static bool path_parse(struct jinja *j, struct jinja_value attribute, struct path *path)
{
    static const struct jinja_string dot = {.bytes = ".", .n = 1, .n_chars = 1};
    struct jinja_value list;
    *path = (struct path){0};
    if (attribute.kind == JINJA_NONE)
        return true;
    if (attribute.kind == JINJA_STRING ? !jinja_split(j, attribute.string, &dot, &list)
                                       : !jinja_make_sequence(j, JINJA_LIST, &attribute, 1, &list))
        return false;
    *path = (struct path){list.sequence->items, list.sequence->count};
    for (size_t i = 0; i < path->count && attribute.kind == JINJA_STRING; i++)
        if (!path_part(j, path->parts[i].string, &path->parts[i]))
            return false;
    return true;
}

/* fallback (JINJA_NONE: none) stands for an undefined on the way; fold: strings in lower case */
static bool path_get(struct jinja *j, const struct path *path, struct jinja_value item,
                     struct jinja_value fallback, bool fold, struct jinja_value *out)
{
    for (size_t i = 0; i < path->count; i++) {
        if (!jinja_spend(j, 1) || !jinja_get_item(j, item, path->parts[i], &item))
            return false;
        if (item.kind == JINJA_UNDEFINED && fallback.kind != JINJA_NONE)
            item = fallback;
    }
    *out = item;
    return !fold || item.kind != JINJA_STRING ||
           jinja_change_case(j, item.string, JINJA_LOWER, out);
}

/* What the path gives of each item */
static bool keys_of(struct jinja *j, const struct path *path, const struct jinja_value *items,
                    size_t count, bool fold, struct jinja_value **keys)
{
    *keys = jinja_array(j, count, sizeof **keys);
    if (!*keys)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!jinja_spend(j, 1) || !path_get(j, path, items[i], jinja_none(), fold, &(*keys)[i]))
            return false;
    return true;
}

/* ---- map ---- */

static struct jinja_args rest_of(const struct jinja_args *args, size_t skip)
{
    struct jinja_args rest = *args;
    if (skip) { /* items may be NULL */
        rest.items += skip;
        rest.count -= skip;
    }
    return rest;
}

/* map(attribute=..., default=...) */
static bool map_attribute(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    struct jinja_value attribute = jinja_none(), fallback = jinja_none();
    for (size_t i = 0; i < args->n_keywords; i++) {
        const struct jinja_string *name = args->keywords[i].name;
        if (jinja_string_is(name, "attribute"))
            attribute = args->keywords[i].value;
        else if (jinja_string_is(name, "default"))
            fallback = args->keywords[i].value;
        else
            return jinja_raise(j, "FilterArgumentError", "Unexpected keyword argument %s",
                               jinja_repr_text(j, jinja_of_string(name)));
    }
    struct path path;
    const struct jinja_value *items;
    size_t count;
    if (!path_parse(j, attribute, &path) || !jinja_iterate(j, value, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, count, out);
    for (size_t i = 0; s && i < count; i++)
        if (!path_get(j, &path, items[i], fallback, false, &s->items[i]))
            return false;
    return s != NULL;
}

static bool find_by_name(struct jinja *j, struct jinja_value name, bool test,
                         const struct jinja_builtin **builtin)
{
    const char *kind = test ? "test" : "filter";
    uint64_t hash;
    *builtin = NULL;
    if (name.kind == JINJA_STRING) {
        const struct jinja_string *s = name.string;
        *builtin = test ? jinja_find_test(s->bytes, s->n) : jinja_find_filter(s->bytes, s->n);
        if (!*builtin &&
            (test ? jinja_refused_test(s->bytes, s->n) : jinja_refused_filter(s->bytes, s->n)))
            return jinja_refuse(j, "the %s '%s'", kind, jinja_string_text(j, s));
    }
    if (*builtin)
        return true;
    if (!jinja_hash(j, name, 0, &hash))
        return jinja_raise(j, "TypeError", "unhashable type: '%s'", jinja_type_name(name));
    if (name.kind == JINJA_UNDEFINED)
        return jinja_raise(j, "TemplateRuntimeError",
                           "No %s named Undefined. (%s; did you forget to quote the callable "
                           "name?)",
                           kind, name.undefined->message);
    return jinja_raise(j, "TemplateRuntimeError", "No %s named %s.", kind,
                       jinja_repr_text(j, name));
}

static bool has_keyword(const struct jinja_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_keywords; i++)
        if (jinja_string_is(args->keywords[i].name, name))
            return true;
    return false;
}

FILTER(map)
{
    if (!jinja_truth(value))
        return jinja_make_sequence(j, JINJA_GENERATOR, NULL, 0, out);
    if (args->count == 0 && has_keyword(args, "attribute"))
        return map_attribute(j, value, args, out);
    if (args->count == 0)
        return jinja_raise(j, "FilterArgumentError", "map requires a filter argument");
    struct jinja_args rest = rest_of(args, 1);
    const struct jinja_builtin *filter;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, count, out);
    if (!s || (count && !find_by_name(j, args->items[0], false, &filter)) || !jinja_enter(j))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!jinja_spend(j, 1) || !jinja_apply(j, filter, items[i], &rest, &s->items[i]))
            return false;
    jinja_leave(j);
    return true;
}

/* ---- select, reject ---- */

static bool choose(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                   bool by_attribute, bool keep, struct jinja_value *out)
{
    struct jinja_items chosen = {0};
    struct path path = {0};
    size_t skip = by_attribute;
    const struct jinja_builtin *test = NULL;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_truth(value))
        return jinja_make_sequence(j, JINJA_GENERATOR, NULL, 0, out);
    if (args->count < skip)
        return jinja_raise(j, "FilterArgumentError", "Missing parameter for attribute name");
    if ((by_attribute && !path_parse(j, args->items[0], &path)) ||
        !jinja_iterate(j, value, &items, &count))
        return false;
    if (args->count > skip && count && !find_by_name(j, args->items[skip], true, &test))
        return false;
    struct jinja_args rest = rest_of(args, args->count > skip ? skip + 1 : skip);
    for (size_t i = 0; i < count; i++) {
        struct jinja_value v, yes;
        if (!jinja_spend(j, 1) || !path_get(j, &path, items[i], jinja_none(), false, &v))
            return false;
        if (test && !jinja_apply(j, test, v, &rest, &yes))
            return false;
        if (jinja_truth(test ? yes : v) == keep && !jinja_push(j, &chosen, items[i]))
            return false;
    }
    return jinja_take_items(j, &chosen, JINJA_GENERATOR, out);
}

#define CHOOSE_FILTER(name, by_attribute, keep)                                                    \
    FILTER(name)                                                                                   \
    {                                                                                              \
        return choose(j, value, args, by_attribute, keep, out);                                    \
    }
CHOOSE_FILTER(select, false, true)
CHOOSE_FILTER(reject, false, false)
CHOOSE_FILTER(selectattr, true, true)
CHOOSE_FILTER(rejectattr, true, false)

/* ---- items ---- */

FILTER(list)
{
    const struct jinja_value *items;
    size_t count;
    return jinja_iterate(j, value, &items, &count) &&
           jinja_make_sequence(j, JINJA_LIST, items, count, out);
}

FILTER(first)
{
    const struct jinja_value *items;
    size_t count;
    if (value.kind == JINJA_STRING && value.string->n)
        return jinja_get_item(j, value, jinja_int(0), out);
    size_t taken = value.kind == JINJA_GENERATOR ? *value.sequence->taken : 0;
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    if (value.kind == JINJA_GENERATOR && count)
        *value.sequence->taken = taken + 1;
    if (count == 0)
        return jinja_make_undefined(j, out, "No first item, sequence was empty.");
    *out = items[0];
    return true;
}

/* reversed(v): what has it, in that order */
static bool reversed(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    if (v.kind == JINJA_STRING)
        return jinja_get_slice(j, v, jinja_none(), jinja_none(), jinja_int(-1), out);
    const struct jinja_value *items;
    size_t count;
    const char *name = v.kind == JINJA_LIST    ? "list_reverseiterator"
                       : v.kind == JINJA_TUPLE ? "reversed"
                       : v.kind == JINJA_RANGE ? "range_iterator"
                                               : "dict_reversekeyiterator";
    if (!jinja_iterate(j, v, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, count, out);
    for (size_t i = 0; s && i < count; i++)
        s->items[i] = items[count - 1 - i];
    if (s)
        s->type_name = name;
    return s != NULL;
}

FILTER(last)
{
    if (value.kind == JINJA_GENERATOR || !jinja_is_iterable(value))
        return jinja_raise(j, "TypeError", "'%s' object is not reversible", jinja_type_name(value));
    int64_t n;
    if (!jinja_length(j, value, &n))
        return false;
    if (n == 0)
        return jinja_make_undefined(j, out, "No last item, sequence was empty.");
    if (value.kind == JINJA_STRING)
        return jinja_get_item(j, value, jinja_int(-1), out);
    *out = value.kind == JINJA_DICT ? value.dict->entries[n - 1].key : value.sequence->items[n - 1];
    return true;
}

FILTER(reverse)
{
    if (!jinja_is_iterable(value))
        return jinja_raise(j, "FilterArgumentError", "argument must be iterable");
    if (value.kind != JINJA_GENERATOR && value.kind != JINJA_UNDEFINED)
        return reversed(j, value, out);
    const struct jinja_value *items;
    size_t count;
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_LIST, count, out);
    for (size_t i = 0; s && i < count; i++)
        s->items[i] = items[count - 1 - i];
    return s != NULL;
}

FILTER(items)
{
    if (value.kind == JINJA_UNDEFINED)
        return jinja_make_sequence(j, JINJA_GENERATOR, NULL, 0, out);
    if (value.kind != JINJA_DICT)
        return jinja_raise(j, "TypeError", "Can only get item pairs from a mapping.");
    const struct jinja_dict *dict = value.dict;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, dict->count, out);
    for (size_t i = 0; s && i < dict->count; i++) {
        struct jinja_value pair[2] = {dict->entries[i].key, dict->entries[i].value};
        if (!jinja_make_sequence(j, JINJA_TUPLE, pair, 2, &s->items[i]))
            return false;
    }
    return s != NULL;
}

/* ---- join, sum ---- */

/* The items, each through the attribute if there is one */
static bool items_by(struct jinja *j, struct jinja_value value, struct jinja_value attribute,
                     const struct jinja_value **items, size_t *count)
{
    struct path path;
    struct jinja_value *by;
    if (!jinja_iterate(j, value, items, count) || !path_parse(j, attribute, &path))
        return false;
    if (!path.count)
        return true;
    if (!keys_of(j, &path, *items, *count, false, &by))
        return false;
    *items = by;
    return true;
}

FILTER(join)
{
    struct jinja_value separator;
    const struct jinja_value *items;
    size_t count;
    if (jinja_is_missing(args->items[0]) ? !jinja_text_value(j, "", &separator)
                                         : !jinja_str(j, args->items[0], &separator))
        return false;
    return items_by(j, value, jinja_or(args->items[1], jinja_none()), &items, &count) &&
           jinja_unmark_safe(j, separator, &separator) &&
           jinja_join(j, separator.string, items, count, true, out);
}

FILTER(sum)
{
    struct jinja_value start = jinja_or(args->items[1], jinja_int(0));
    const struct jinja_value *items;
    size_t count;
    if (!items_by(j, value, jinja_or(args->items[0], jinja_none()), &items, &count))
        return false;
    if (start.kind == JINJA_STRING)
        return jinja_raise(j, "TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
    *out = start;
    for (size_t i = 0; i < count; i++)
        if (!jinja_spend(j, 1) || !jinja_operate(j, JINJA_ADD, *out, items[i], out))
            return false;
    return true;
}

/* ---- order ---- */

static bool is_set(struct jinja_value v)
{
    return !jinja_is_missing(v) && jinja_truth(v);
}

static bool sorted(struct jinja *j, const struct jinja_value *items, struct jinja_value *keys,
                   size_t count, struct jinja_value reverse, struct jinja_value *out)
{
    int64_t down = 0;
    return (jinja_is_missing(reverse) || jinja_index(j, reverse, &down)) &&
           jinja_make_sequence(j, JINJA_LIST, items, count, out) &&
           jinja_sort(j, out->sequence->items, keys, count, down != 0);
}

/* sort's attribute may name several: "age,name". Keys are lists, of one too: equal items of lists
 * are passed over, and undefined ones are equal. */
static bool multi_keys(struct jinja *j, struct jinja_value attribute,
                       const struct jinja_value *items, size_t count, bool fold,
                       struct jinja_value **keys)
{
    static const struct jinja_string comma = {.bytes = ",", .n = 1, .n_chars = 1};
    struct jinja_value names;
    if (attribute.kind == JINJA_STRING ? !jinja_split(j, attribute.string, &comma, &names)
                                       : !jinja_make_sequence(j, JINJA_LIST, &attribute, 1, &names))
        return false;
    size_t n = names.sequence->count;
    struct path *paths = jinja_array(j, n, sizeof *paths);
    *keys = jinja_array(j, count, sizeof **keys);
    if (!paths || !*keys)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!path_parse(j, names.sequence->items[i], &paths[i]))
            return false;
    for (size_t i = 0; i < count; i++) {
        struct jinja_sequence *key = jinja_new_sequence(j, JINJA_LIST, n, &(*keys)[i]);
        for (size_t k = 0; k < n; k++)
            if (!key || !path_get(j, &paths[k], items[i], jinja_none(), fold, &key->items[k]))
                return false;
    }
    return true;
}

FILTER(sort)
{
    const struct jinja_value *v = args->items, *items; /* reverse case_sensitive attribute */
    struct jinja_value *keys;
    size_t count;
    return jinja_iterate(j, value, &items, &count) &&
           multi_keys(j, jinja_or(v[2], jinja_none()), items, count, !is_set(v[1]), &keys) &&
           sorted(j, items, keys, count, v[0], out);
}

FILTER(dictsort)
{
    const struct jinja_value *v = args->items; /* case_sensitive by reverse */
    struct jinja_value pairs, *keys;
    const struct jinja_string *by = v[1].kind == JINJA_STRING ? v[1].string : NULL;
    bool by_value = by && jinja_string_is(by, "value");
    if (!jinja_is_missing(v[1]) && !by_value && !(by && jinja_string_is(by, "key")))
        return jinja_raise(j, "FilterArgumentError",
                           "You can only sort by either \"key\" or \"value\"");
    if (value.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, value);
    if (value.kind != JINJA_DICT)
        return jinja_raise(j, "AttributeError", "'%s' object has no attribute 'items'",
                           jinja_type_name(value));
    if (!filter_items(j, value, args, &pairs))
        return false;
    struct jinja_value place = jinja_int(by_value);
    const struct jinja_sequence *s = pairs.sequence;
    return keys_of(j, &(struct path){&place, 1}, s->items, s->count, !is_set(v[0]), &keys) &&
           sorted(j, s->items, keys, s->count, v[2], out);
}

/* The items and their keys, of unique, min and max: case_sensitive attribute */
static bool keyed_items(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        const struct jinja_value **items, struct jinja_value **keys, size_t *count)
{
    struct path path;
    return jinja_iterate(j, value, items, count) &&
           path_parse(j, jinja_or(args->items[1], jinja_none()), &path) &&
           keys_of(j, &path, *items, *count, !is_set(args->items[0]), keys);
}

FILTER(unique)
{
    struct jinja_value *keys;
    const struct jinja_value *items;
    size_t count;
    if (!keyed_items(j, value, args, &items, &keys, &count))
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
                    enum jinja_operator better, struct jinja_value *out)
{
    struct jinja_value *keys, yes;
    const struct jinja_value *items;
    size_t count, best = 0;
    if (!keyed_items(j, value, args, &items, &keys, &count))
        return false;
    if (count == 0)
        return jinja_make_undefined(j, out, "No aggregated item, sequence was empty.");
    for (size_t i = 1; i < count; i++) {
        if (!jinja_operate(j, better, keys[i], keys[best], &yes))
            return false;
        if (yes.boolean)
            best = i;
    }
    *out = items[best];
    return true;
}

FILTER(min)
{
    return extreme(j, value, args, JINJA_LT, out);
}

FILTER(max)
{
    return extreme(j, value, args, JINJA_GT, out);
}

const struct jinja_builtin jinja_list_filters[] = {
    {"join", filter_join, {"sync_do_join", "d attribute", 0, 2, JINJA_BY_NAME}},
    {"map", filter_map, {.convention = JINJA_AS_GIVEN}},
    {"selectattr", filter_selectattr, {.convention = JINJA_AS_GIVEN}},
    {"rejectattr", filter_rejectattr, {.convention = JINJA_AS_GIVEN}},
    {"select", filter_select, {.convention = JINJA_AS_GIVEN}},
    {"reject", filter_reject, {.convention = JINJA_AS_GIVEN}},
    {"list", filter_list, {"sync_do_list", "", 0, 1, JINJA_BY_NAME}},
    {"first", filter_first, {"sync_do_first", "", 0, 2, JINJA_BY_NAME}},
    {"last", filter_last, {"do_last", "", 0, 2, JINJA_BY_NAME}},
    {"items", filter_items, {"do_items", "", 0, 1, JINJA_BY_NAME}},
    {"dictsort",
     filter_dictsort,
     {"do_dictsort", "case_sensitive by reverse", 0, 1, JINJA_BY_NAME}},
    {"max", filter_max, {"do_max", "case_sensitive attribute", 0, 2, JINJA_BY_NAME}},
    {"min", filter_min, {"do_min", "case_sensitive attribute", 0, 2, JINJA_BY_NAME}},
    {"reverse", filter_reverse, {"do_reverse", "", 0, 1, JINJA_BY_NAME}},
    {"sort", filter_sort, {"do_sort", "reverse case_sensitive attribute", 0, 2, JINJA_BY_NAME}},
    {"sum", filter_sum, {"sync_do_sum", "attribute start", 0, 2, JINJA_BY_NAME}},
    {"unique", filter_unique, {"sync_do_unique", "case_sensitive attribute", 0, 2, JINJA_BY_NAME}},
};
const size_t jinja_list_filters_count = sizeof jinja_list_filters / sizeof *jinja_list_filters;
