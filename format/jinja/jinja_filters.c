/* The table of filters, and those of a line or two. */
#include "jinja_filters.h"

static bool filter_length(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    int64_t n = 0;
    if (!jinja_positional(j, "", "len", 0, 0, args) || !jinja_length(j, value, &n))
        return false;
    *out = jinja_int(n);
    return true;
}

static bool filter_default(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                           struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_default", "default_value boolean", 0, 1};
    struct jinja_value v[2] = {jinja_none(), jinja_bool(false)};
    if (!jinja_text_value(j, "", &v[0]) || !jinja_bind(j, &signature, args, v))
        return false;
    bool use = value.kind == JINJA_UNDEFINED || (jinja_truth(v[1]) && !jinja_truth(value));
    *out = use ? v[0] : value;
    return true;
}

static bool filter_attr(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_attr", "name", 1, 2};
    struct jinja_value name = jinja_none();
    if (!jinja_bind(j, &signature, args, &name))
        return false;
    if (name.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "attribute name must be string, not '%s'",
                           jinja_type_name(name));
    return jinja_attribute_only(j, value, name.string, out);
}

/* indent: a number of spaces or a string */
static bool json_indent(struct jinja *j, struct jinja_value v, const struct jinja_string **indent)
{
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    struct jinja_builder text = {0};
    struct jinja_value width;
    *indent = NULL;
    if (v.kind == JINJA_NONE)
        return true;
    if (v.kind == JINJA_STRING) {
        *indent = v.string;
        return true;
    }
    if (!jinja_is_int(v))
        return jinja_raise(j, "TypeError", "can't multiply sequence by non-int of type '%s'",
                           jinja_type_name(v));
    int64_t n = jinja_int_of(v);
    if (!jinja_add_fill(j, &text, &space, n > 0 ? (uint64_t)n : 0) ||
        !jinja_build(j, &text, &width))
        return false;
    *indent = width.string;
    return true;
}

static bool filter_tojson(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {
        "_cached_compile_jinja_template.<locals>.tojson",
        "ensure_ascii indent separators sort_keys", 0, 1};
    struct jinja_value v[4] = {jinja_bool(false), jinja_none(), jinja_none(), jinja_bool(false)};
    const struct jinja_string *indent, *separators[2];
    if (!jinja_bind(j, &signature, args, v) || !json_indent(j, v[1], &indent))
        return false;
    if (v[2].kind != JINJA_NONE) {
        const struct jinja_value *items;
        size_t count;
        if (v[2].kind < JINJA_STRING || v[2].kind == JINJA_OBJECT)
            return jinja_raise(j, "TypeError", "cannot unpack non-iterable %s object",
                               jinja_type_name(v[2]));
        if (!jinja_iterate(j, v[2], &items, &count))
            return false;
        if (count != 2)
            return jinja_raise(j, "ValueError",
                               count < 2 ? "not enough values to unpack (expected 2, got %zu)"
                                         : "too many values to unpack (expected 2)",
                               count);
        for (size_t i = 0; i < 2; i++) {
            if (items[i].kind != JINJA_STRING)
                return jinja_raise(j, "TypeError", "separators must be strings");
            separators[i] = items[i].string;
        }
    }
    return jinja_to_json_with(j, value, indent, v[2].kind == JINJA_NONE ? NULL : separators,
                              jinja_truth(v[3]), jinja_truth(v[0]), out);
}

static bool filter_refused(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                           struct jinja_value *out)
{
    (void)value, (void)args, (void)out;
    return jinja_stop(j, JINJA_RUNTIME, "the filters random and urlize are not supported");
}

static const struct jinja_named_function filters[] = {
    {"trim", jinja_filter_trim},
    {"tojson", filter_tojson},
    {"length", filter_length},
    {"default", filter_default},
    {"join", jinja_filter_join},
    {"map", jinja_filter_map},
    {"selectattr", jinja_filter_selectattr},
    {"rejectattr", jinja_filter_rejectattr},
    {"select", jinja_filter_select},
    {"reject", jinja_filter_reject},
    {"list", jinja_filter_list},
    {"first", jinja_filter_first},
    {"last", jinja_filter_last},
    {"items", jinja_filter_items},
    {"upper", jinja_filter_upper},
    {"lower", jinja_filter_lower},
    {"replace", jinja_filter_replace},
    {"string", jinja_filter_string},
    {"int", jinja_filter_int},
    {"float", jinja_filter_float},
    {"abs", jinja_filter_abs},
    {"attr", filter_attr},
    {"batch", jinja_filter_batch},
    {"capitalize", jinja_filter_capitalize},
    {"center", jinja_filter_center},
    {"count", filter_length},
    {"d", filter_default},
    {"dictsort", jinja_filter_dictsort},
    {"e", jinja_filter_escape},
    {"escape", jinja_filter_escape},
    {"filesizeformat", jinja_filter_filesizeformat},
    {"forceescape", jinja_filter_forceescape},
    {"format", jinja_filter_format},
    {"groupby", jinja_filter_groupby},
    {"indent", jinja_filter_indent},
    {"max", jinja_filter_max},
    {"min", jinja_filter_min},
    {"pprint", jinja_filter_pprint},
    {"random", filter_refused},
    {"reverse", jinja_filter_reverse},
    {"round", jinja_filter_round},
    {"safe", jinja_filter_safe},
    {"slice", jinja_filter_slice},
    {"sort", jinja_filter_sort},
    {"striptags", jinja_filter_striptags},
    {"sum", jinja_filter_sum},
    {"title", jinja_filter_title},
    {"truncate", jinja_filter_truncate},
    {"unique", jinja_filter_unique},
    {"urlencode", jinja_filter_urlencode},
    {"urlize", filter_refused},
    {"wordcount", jinja_filter_wordcount},
    {"wordwrap", jinja_filter_wordwrap},
    {"xmlattr", jinja_filter_xmlattr},
};

jinja_function *jinja_find_filter(const char *name, size_t n)
{
    return jinja_find_function(filters, sizeof filters / sizeof *filters, name, n);
}
