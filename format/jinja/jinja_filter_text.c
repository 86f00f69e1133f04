/* Filters that work on text: str(value) first, as soft_str. */
#include "jinja_filters.h"

#include <string.h>

static const struct jinja_args no_args = {0};

/* A method of str on str(value), without arguments of its own */
#define TEXT_FILTER(name)                                                                          \
    bool jinja_filter_##name(struct jinja *j, struct jinja_value value,                            \
                             const struct jinja_args *args, struct jinja_value *out)               \
    {                                                                                              \
        static const struct jinja_signature signature = {"do_" #name, "", 0, 1};                   \
        struct jinja_value text;                                                                   \
        return jinja_bind(j, &signature, args, NULL) && jinja_str(j, value, &text) &&              \
               jinja_str_##name(j, text, &no_args, out);                                           \
    }
TEXT_FILTER(upper)
TEXT_FILTER(lower)
TEXT_FILTER(capitalize)

bool jinja_filter_string(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    static const struct jinja_signature signature = {"soft_str", "", 0, 1};
    return jinja_bind(j, &signature, args, NULL) && jinja_str(j, value, out);
}

bool jinja_filter_safe(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                       struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_mark_safe", "", 0, 1};
    return jinja_bind(j, &signature, args, NULL) && jinja_str(j, value, out) &&
           jinja_mark_safe(j, *out, out);
}

static bool escape(struct jinja *j, const struct jinja_string *s, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    return jinja_add_escaped(j, &text, s) && jinja_build(j, &text, out) &&
           jinja_mark_safe(j, *out, out);
}

bool jinja_filter_escape(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    const struct jinja_string *s;
    return jinja_positional(j, "", "escape", 0, 0, args) && jinja_to_string(j, value, &s) &&
           escape(j, s, out);
}

bool jinja_filter_forceescape(struct jinja *j, struct jinja_value value,
                              const struct jinja_args *args, struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_forceescape", "", 0, 1};
    struct jinja_value text;
    return jinja_bind(j, &signature, args, NULL) && jinja_str(j, value, &text) &&
           jinja_unmark_safe(j, text, &text) && escape(j, text.string, out);
}

/* Words begin after these, as the filter's expression [-\s({\[<]+ has it */
static bool is_gap(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || jinja_is_space(c);
}

static bool add_title(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                      size_t begin, size_t end)
{
    size_t n;
    struct jinja_value first, rest;
    if (begin == end)
        return true;
    jinja_char_at(s, begin, &n);
    return jinja_substring(j, s, begin, begin + n, &first) &&
           jinja_substring(j, s, begin + n, end, &rest) &&
           jinja_str_upper(j, first, &no_args, &first) && jinja_lower(j, rest.string, &rest) &&
           jinja_add_string(j, b, first.string) && jinja_add_string(j, b, rest.string);
}

bool jinja_filter_title(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_title", "", 0, 1};
    const struct jinja_string *s;
    struct jinja_builder text = {0};
    if (!jinja_bind(j, &signature, args, NULL) || !jinja_to_string(j, value, &s) ||
        !jinja_spend_bytes(j, s->n))
        return false;
    size_t begin = 0;
    for (size_t i = 0, n; i < s->n; i += n) {
        if (!is_gap(jinja_char_at(s, i, &n)))
            continue;
        if (!add_title(j, &text, s, begin, i) || !jinja_add_part(j, &text, s, i, i + n))
            return false;
        begin = i + n;
    }
    return add_title(j, &text, s, begin, s->n) && jinja_build(j, &text, out);
}

bool jinja_filter_trim(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                       struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_trim", "chars", 0, 1};
    struct jinja_value chars = jinja_none(), text;
    struct jinja_args strip = {.items = &chars, .count = 1};
    return jinja_bind(j, &signature, args, &chars) && jinja_str(j, value, &text) &&
           jinja_str_strip(j, text, &strip, out);
}

bool jinja_filter_replace(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_replace", "old new count", 2, 2};
    struct jinja_value v[3] = {jinja_none(), jinja_none(), jinja_none()};
    const struct jinja_string *s, *old, *with;
    int64_t count = -1;
    if (!jinja_bind(j, &signature, args, v) || !jinja_to_string(j, value, &s) ||
        !jinja_to_string(j, v[0], &old) || !jinja_to_string(j, v[1], &with))
        return false;
    if (v[2].kind != JINJA_NONE && !jinja_index(j, v[2], &count))
        return false;
    return jinja_replace(j, s, old, with, count, out);
}

bool jinja_filter_center(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_center", "width", 0, 1};
    struct jinja_value width = jinja_int(80), text;
    struct jinja_args center = {.items = &width, .count = 1};
    return jinja_bind(j, &signature, args, &width) && jinja_str(j, value, &text) &&
           jinja_str_center(j, text, &center, out);
}

bool jinja_filter_indent(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_indent", "width first blank", 0, 1};
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    static const struct jinja_string newline = {.bytes = "\n", .n = 1, .n_chars = 1};
    struct jinja_value v[3] = {jinja_int(4), jinja_bool(false), jinja_bool(false)}, indent, whole;
    struct jinja_items lines = {0};
    struct jinja_builder text = {0};
    if (!jinja_bind(j, &signature, args, v))
        return false;
    indent = v[0];
    if (indent.kind != JINJA_STRING &&
        !jinja_operate(j, JINJA_MUL, jinja_of_string(&space), v[0], &indent))
        return false;
    if (value.kind == JINJA_LIST)
        return jinja_raise(j, "AttributeError", "'list' object has no attribute 'splitlines'");
    if (value.kind != JINJA_STRING && value.kind != JINJA_UNDEFINED && value.kind != JINJA_TUPLE)
        return jinja_raise(j, "TypeError", "unsupported operand type(s) for +=: '%s' and 'str'",
                           jinja_type_name(value));
    /* the newline is the template's quirk, too: "a\n" has one line, "" has one */
    if (!jinja_operate(j, JINJA_ADD, value, jinja_of_string(&newline), &whole))
        return false;
    if (whole.kind != JINJA_STRING)
        return jinja_raise(j, "AttributeError", "'%s' object has no attribute 'splitlines'",
                           jinja_type_name(whole));
    bool first = jinja_truth(v[1]), blank = jinja_truth(v[2]);
    if (!jinja_split_lines(j, whole.string, false, &lines))
        return false;
    for (size_t i = 0; i < lines.count; i++) {
        const struct jinja_string *line = lines.items[i].string;
        bool wanted = i == 0 ? first : blank || line->n;
        if ((i && !jinja_add_text(j, &text, "\n")) ||
            (wanted && !jinja_add_string(j, &text, indent.string)) ||
            !jinja_add_string(j, &text, line))
            return false;
    }
    return jinja_build(j, &text, out);
}

/* The text before its last space, if it has one */
static size_t before_last_space(const struct jinja_string *s, size_t end)
{
    for (size_t i = end; i > 0; i--)
        if (s->bytes[i - 1] == ' ')
            return i - 1;
    return end;
}

bool jinja_filter_truncate(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                           struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_truncate", "length killwords end leeway",
                                                     0, 2};
    struct jinja_value v[4] = {jinja_int(255), jinja_bool(false), jinja_none(), jinja_none()};
    int64_t length, leeway = 5, n, end_length;
    if (!jinja_text_value(j, "...", &v[2]) || !jinja_bind(j, &signature, args, v) ||
        !jinja_length(j, v[2], &end_length))
        return false;
    struct jinja_value enough;
    if (!jinja_operate(j, JINJA_GE, v[0], jinja_int(end_length), &enough) ||
        !jinja_index(j, v[0], &length) ||
        (v[3].kind != JINJA_NONE && !jinja_index(j, v[3], &leeway)))
        return false;
    if (length < end_length)
        return jinja_raise(j, "AssertionError", "expected length >= %lld, got %lld",
                           (long long)end_length, (long long)length);
    if (leeway < 0)
        return jinja_raise(j, "AssertionError", "expected leeway >= 0, got %lld",
                           (long long)leeway);
    if (!jinja_length(j, value, &n))
        return false;
    *out = value;
    if (n <= length || n - length <= leeway)
        return true;
    struct jinja_value cut;
    if (!jinja_get_slice(j, value, jinja_none(), jinja_int(length - end_length), jinja_none(),
                         &cut))
        return false;
    if (!jinja_truth(v[1])) {
        if (cut.kind != JINJA_STRING)
            return jinja_raise(j, "AttributeError", "'%s' object has no attribute 'rsplit'",
                               jinja_type_name(cut));
        if (!jinja_spend_bytes(j, cut.string->n) ||
            !jinja_substring(j, cut.string, 0, before_last_space(cut.string, cut.string->n), &cut))
            return false;
    }
    return jinja_operate(j, JINJA_ADD, cut, v[2], out);
}

bool jinja_filter_wordcount(struct jinja *j, struct jinja_value value,
                            const struct jinja_args *args, struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_wordcount", "", 0, 1};
    const struct jinja_string *s;
    if (!jinja_bind(j, &signature, args, NULL) || !jinja_to_string(j, value, &s) ||
        !jinja_spend_bytes(j, s->n))
        return false;
    int64_t count = 0;
    bool inside = false;
    for (size_t i = 0, n; i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        bool word = c == '_' || jinja_is_alpha(c) || jinja_is_numeric(c);
        count += word && !inside;
        inside = word;
    }
    *out = jinja_int(count);
    return true;
}

bool jinja_filter_format(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                         struct jinja_value *out)
{
    const struct jinja_string *s;
    struct jinja_value values;
    if (args->count && args->n_keywords)
        return jinja_raise(j, "FilterArgumentError",
                           "can't handle positional and keyword arguments at the same time");
    if (!jinja_to_string(j, value, &s))
        return false;
    if (args->n_keywords == 0)
        return jinja_make_sequence(j, JINJA_TUPLE, args->items, args->count, &values) &&
               jinja_percent(j, s, values, out);
    struct jinja_dict *dict = jinja_make_dict(j);
    for (size_t i = 0; i < args->n_keywords; i++)
        if (!dict || !jinja_dict_put(j, dict, jinja_of_string(args->keywords[i].name),
                                     args->keywords[i].value))
            return false;
    return jinja_percent(j, s, jinja_of_dict(dict), out);
}
