/* Filters that give the items of a sequence, or choose among them. */
#include "jinja_filters.h"

#include <string.h>

/* ---- attribute="a.b.0" ---- */

static bool path_part(struct jinja *j, const struct jinja_string *s, struct jinja_value *out)
{
    struct jinja_value digits;
    static const struct jinja_args none = {0};
    if (!jinja_str_isdigit(j, jinja_of_string(s), &none, &digits))
        return false;
    *out = jinja_of_string(s);
    int64_t i;
    bool ok;
    if (!digits.boolean)
        return true;
    if (!jinja_parse_int(j, s, 10, &i, &ok))
        return false;
    if (ok)
        *out = jinja_int(i);
    return true;
}

bool jinja_path_parse(struct jinja *j, struct jinja_value attribute, struct jinja_path *path)
{
    static const struct jinja_string dot = {.bytes = ".", .n = 1, .n_chars = 1};
    struct jinja_items parts = {0};
    if (attribute.kind == JINJA_NONE) {
        *path = (struct jinja_path){0};
        return true;
    }
    if (attribute.kind != JINJA_STRING) {
        if (!jinja_push(j, &parts, attribute))
            return false;
    } else {
        struct jinja_value by = jinja_of_string(&dot), list;
        struct jinja_args args = {.items = &by, .count = 1};
        if (!jinja_str_split(j, attribute, &args, &list))
            return false;
        for (size_t i = 0; i < list.sequence->count; i++) {
            struct jinja_value part;
            if (!path_part(j, list.sequence->items[i].string, &part) ||
                !jinja_push(j, &parts, part))
                return false;
        }
    }
    *path = (struct jinja_path){parts.items, parts.count};
    return true;
}

bool jinja_ignore_case(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    *out = v;
    return v.kind != JINJA_STRING || jinja_lower(j, v.string, out);
}

bool jinja_path_get(struct jinja *j, const struct jinja_path *path, struct jinja_value item,
                    struct jinja_value fallback, bool fold, struct jinja_value *out)
{
    for (size_t i = 0; i < path->count; i++) {
        if (!jinja_spend(j, 1) || !jinja_get_item(j, item, path->parts[i], &item))
            return false;
        if (item.kind == JINJA_UNDEFINED && fallback.kind != JINJA_NONE)
            item = fallback;
    }
    *out = item;
    return !fold || jinja_ignore_case(j, item, out);
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
    struct jinja_path path;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_path_parse(j, attribute, &path) || !jinja_iterate(j, value, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, "generator", count, out);
    for (size_t i = 0; s && i < count; i++)
        if (!jinja_path_get(j, &path, items[i], fallback, false, &s->items[i]))
            return false;
    return s != NULL;
}

static bool find_by_name(struct jinja *j, struct jinja_value name, bool test,
                         jinja_function **function)
{
    *function = NULL;
    if (name.kind == JINJA_STRING)
        *function = test ? jinja_find_test(name.string->bytes, name.string->n)
                         : jinja_find_filter(name.string->bytes, name.string->n);
    if (*function)
        return true;
    const char *kind = test ? "test" : "filter";
    uint64_t hash;
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

bool jinja_filter_map(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                      struct jinja_value *out)
{
    if (!jinja_truth(value))
        return jinja_make_sequence(j, JINJA_GENERATOR, NULL, 0, out);
    if (args->count == 0 && has_keyword(args, "attribute"))
        return map_attribute(j, value, args, out);
    if (args->count == 0)
        return jinja_raise(j, "FilterArgumentError", "map requires a filter argument");
    struct jinja_args rest = rest_of(args, 1);
    jinja_function *filter;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, "generator", count, out);
    if (!s || (count && !find_by_name(j, args->items[0], false, &filter)) || !jinja_enter(j))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!jinja_spend(j, 1) || !filter(j, items[i], &rest, &s->items[i]))
            return false;
    jinja_leave(j);
    return true;
}

/* ---- select, reject ---- */

static bool choose(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                   bool by_attribute, bool keep, struct jinja_value *out)
{
    struct jinja_items chosen = {0};
    struct jinja_path path = {0};
    size_t skip = by_attribute;
    jinja_function *test = NULL;
    const struct jinja_value *items;
    size_t count;
    if (!jinja_truth(value))
        return jinja_make_sequence(j, JINJA_GENERATOR, NULL, 0, out);
    if (args->count < skip)
        return jinja_raise(j, "FilterArgumentError", "Missing parameter for attribute name");
    if ((by_attribute && !jinja_path_parse(j, args->items[0], &path)) ||
        !jinja_iterate(j, value, &items, &count))
        return false;
    if (args->count > skip && count && !find_by_name(j, args->items[skip], true, &test))
        return false;
    struct jinja_args rest = rest_of(args, args->count > skip ? skip + 1 : skip);
    for (size_t i = 0; i < count; i++) {
        struct jinja_value v, yes;
        if (!jinja_spend(j, 1) || !jinja_path_get(j, &path, items[i], jinja_none(), false, &v))
            return false;
        if (test && !test(j, v, &rest, &yes))
            return false;
        if (jinja_truth(test ? yes : v) == keep && !jinja_push(j, &chosen, items[i]))
            return false;
    }
    return jinja_take_items(j, &chosen, JINJA_GENERATOR, out);
}

bool jinja_filter_select(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    return choose(j, value, args, false, true, out);
}

bool jinja_filter_reject(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    return choose(j, value, args, false, false, out);
}

bool jinja_filter_selectattr(struct jinja *j, struct jinja_value value,
                             const struct jinja_args *args, struct jinja_value *out)
{
    return choose(j, value, args, true, true, out);
}

bool jinja_filter_rejectattr(struct jinja *j, struct jinja_value value,
                             const struct jinja_args *args, struct jinja_value *out)
{
    return choose(j, value, args, true, false, out);
}

/* ---- items ---- */

bool jinja_filter_list(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                       struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_list", "", 0, 1};
    const struct jinja_value *items;
    size_t count;
    return jinja_bind(j, &signature, args, NULL) && jinja_iterate(j, value, &items, &count) &&
           jinja_make_sequence(j, JINJA_LIST, items, count, out);
}

bool jinja_filter_first(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_first", "", 0, 2};
    if (!jinja_bind(j, &signature, args, NULL))
        return false;
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
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, name, count, out);
    for (size_t i = 0; s && i < count; i++)
        s->items[i] = items[count - 1 - i];
    return s != NULL;
}

bool jinja_filter_last(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                       struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_last", "", 0, 2};
    if (!jinja_bind(j, &signature, args, NULL))
        return false;
    if (value.kind == JINJA_GENERATOR || value.kind == JINJA_OBJECT ||
        (value.kind < JINJA_STRING && value.kind != JINJA_UNDEFINED))
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

bool jinja_filter_reverse(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_reverse", "", 0, 1};
    if (!jinja_bind(j, &signature, args, NULL))
        return false;
    if (value.kind == JINJA_OBJECT || (value.kind < JINJA_STRING && value.kind != JINJA_UNDEFINED))
        return jinja_raise(j, "FilterArgumentError", "argument must be iterable");
    if (value.kind != JINJA_GENERATOR && value.kind != JINJA_UNDEFINED)
        return reversed(j, value, out);
    const struct jinja_value *items;
    size_t count;
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_LIST, "list", count, out);
    for (size_t i = 0; s && i < count; i++)
        s->items[i] = items[count - 1 - i];
    return s != NULL;
}

bool jinja_filter_items(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_items", "", 0, 1};
    if (!jinja_bind(j, &signature, args, NULL))
        return false;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_make_sequence(j, JINJA_GENERATOR, NULL, 0, out);
    if (value.kind != JINJA_DICT)
        return jinja_raise(j, "TypeError", "Can only get item pairs from a mapping.");
    const struct jinja_dict *dict = value.dict;
    struct jinja_sequence *s =
        jinja_new_sequence(j, JINJA_GENERATOR, "generator", dict->count, out);
    for (size_t i = 0; s && i < dict->count; i++) {
        struct jinja_value pair[2] = {dict->entries[i].key, dict->entries[i].value};
        if (!jinja_make_sequence(j, JINJA_TUPLE, pair, 2, &s->items[i]))
            return false;
    }
    return s != NULL;
}

bool jinja_filter_batch(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_batch", "linecount fill_with", 1, 1};
    struct jinja_value v[2] = {jinja_none(), jinja_none()}, line;
    struct jinja_items lines = {0}, one = {0};
    const struct jinja_value *items;
    size_t count;
    if (!jinja_bind(j, &signature, args, v) || !jinja_iterate(j, value, &items, &count))
        return false;
    /* compared with a length only, so anything may stand there until it is reached */
    int64_t width = jinja_is_int(v[0]) ? jinja_int_of(v[0])
                    : v[0].kind == JINJA_FLOAT && v[0].real == (double)(int64_t)v[0].real
                        ? (int64_t)v[0].real
                        : -1;
    for (size_t i = 0; i < count; i++) {
        if ((int64_t)one.count == width &&
            (!jinja_take_items(j, &one, JINJA_LIST, &line) || !jinja_push(j, &lines, line)))
            return false;
        if (!jinja_push(j, &one, items[i]))
            return false;
    }
    if (one.count) {
        if (v[1].kind != JINJA_NONE && !jinja_is_number(v[0]))
            return jinja_raise(j, "TypeError",
                               "'<' not supported between instances of 'int' and '%s'",
                               jinja_type_name(v[0]));
        while (v[1].kind != JINJA_NONE && (int64_t)one.count < width)
            if (!jinja_push(j, &one, v[1]))
                return false;
        if (!jinja_take_items(j, &one, JINJA_LIST, &line) || !jinja_push(j, &lines, line))
            return false;
    }
    return jinja_take_items(j, &lines, JINJA_GENERATOR, out);
}

bool jinja_filter_slice(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_slice", "slices fill_with", 1, 1};
    struct jinja_value v[2] = {jinja_none(), jinja_none()};
    const struct jinja_value *items;
    size_t count;
    int64_t slices;
    if (!jinja_bind(j, &signature, args, v) || !jinja_iterate(j, value, &items, &count))
        return false;
    if (!jinja_is_number(v[0]))
        return jinja_raise(j, "TypeError", "unsupported operand type(s) for //: 'int' and '%s'",
                           jinja_type_name(v[0]));
    if (!jinja_index(j, v[0], &slices))
        return false;
    if (slices == 0)
        return jinja_raise(j, "ZeroDivisionError", "integer division or modulo by zero");
    size_t n = slices > 0 ? (size_t)slices : 0, at = 0;
    struct jinja_sequence *s = jinja_new_sequence(j, JINJA_GENERATOR, "generator", n, out);
    for (size_t i = 0; s && i < n; i++) {
        bool extra = i < count % n;
        size_t take = count / n + extra;
        struct jinja_items one = {0};
        for (size_t k = 0; k < take; k++)
            if (!jinja_push(j, &one, items[at + k]))
                return false;
        at += take;
        if (!extra && v[1].kind != JINJA_NONE && !jinja_push(j, &one, v[1]))
            return false;
        if (!jinja_take_items(j, &one, JINJA_LIST, &s->items[i]))
            return false;
    }
    return s != NULL;
}

/* ---- join, sum ---- */

/* The items, each through the attribute if there is one */
static bool items_by(struct jinja *j, struct jinja_value value, struct jinja_value attribute,
                     const struct jinja_value **items, size_t *count)
{
    struct jinja_path path;
    if (!jinja_iterate(j, value, items, count))
        return false;
    if (attribute.kind == JINJA_NONE)
        return true;
    struct jinja_value *by = jinja_array(j, *count, sizeof *by);
    if (!by || !jinja_path_parse(j, attribute, &path))
        return false;
    for (size_t i = 0; i < *count; i++)
        if (!jinja_path_get(j, &path, (*items)[i], jinja_none(), false, &by[i]))
            return false;
    *items = by;
    return true;
}

bool jinja_filter_join(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                       struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_join", "d attribute", 0, 2};
    struct jinja_value v[2], separator;
    const struct jinja_value *items;
    size_t count;
    v[1] = jinja_none();
    if (!jinja_text_value(j, "", &v[0]) || !jinja_bind(j, &signature, args, v) ||
        !items_by(j, value, v[1], &items, &count) || !jinja_str(j, v[0], &separator) ||
        !jinja_unmark_safe(j, separator, &separator))
        return false;
    return jinja_join(j, separator.string, items, count, true, out);
}

bool jinja_filter_sum(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                      struct jinja_value *out)
{
    static const struct jinja_signature signature = {"sync_do_sum", "attribute start", 0, 2};
    struct jinja_value v[2] = {jinja_none(), jinja_int(0)};
    const struct jinja_value *items;
    size_t count;
    if (!jinja_bind(j, &signature, args, v) || !items_by(j, value, v[0], &items, &count))
        return false;
    if (v[1].kind == JINJA_STRING)
        return jinja_raise(j, "TypeError", "sum() can't sum strings [use ''.join(seq) instead]");
    *out = v[1];
    for (size_t i = 0; i < count; i++)
        if (!jinja_spend(j, 1) || !jinja_operate(j, JINJA_ADD, *out, items[i], out))
            return false;
    return true;
}
