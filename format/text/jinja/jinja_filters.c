/* Filters that give texts and numbers. */
#include "jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

FILTER(length)
{
    int64_t n = 0;
    if (!jinja_length(j, value, &n))
        return false;
    *out = jinja_int(n);
    return true;
}

FILTER(default)
{
    struct jinja_value fallback = args->items[0], or_false = args->items[1];
    bool use = value.kind == JINJA_UNDEFINED ||
               (!jinja_is_missing(or_false) && jinja_truth(or_false) && !jinja_truth(value));
    *out = use ? fallback : value;
    return !use || !jinja_is_missing(fallback) || jinja_text_value(j, "", out);
}

/* ---- tojson ---- */

/* indent: a number of spaces or a string */
static bool json_indent(struct jinja *j, struct jinja_value v, const struct jinja_string **indent)
{
    struct jinja_value width = v;
    *indent = NULL;
    if (v.kind == JINJA_NONE)
        return true;
    if (v.kind != JINJA_STRING &&
        !jinja_operate(j, JINJA_MUL, jinja_of_string(&jinja_space), v, &width))
        return false;
    *indent = width.string;
    return true;
}

static bool json_separators(struct jinja *j, struct jinja_value v,
                            const struct jinja_string *separators[2])
{
    const struct jinja_value *items;
    size_t count;
    if (v.kind == JINJA_UNDEFINED || !jinja_is_iterable(v))
        return jinja_raise(j, "TypeError", "cannot unpack non-iterable %s object",
                           jinja_type_name(v));
    if (!jinja_iterate(j, v, &items, &count))
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
    return true;
}

FILTER(tojson)
{
    const struct jinja_value *v = args->items; /* ensure_ascii indent separators sort_keys */
    const struct jinja_string *indent, *separators[2];
    struct jinja_value ends = jinja_or(v[2], jinja_none());
    bool plain = ends.kind == JINJA_NONE;
    return json_indent(j, jinja_or(v[1], jinja_none()), &indent) &&
           (plain || json_separators(j, ends, separators)) &&
           jinja_to_json(j, value, indent, plain ? NULL : separators,
                         jinja_truth(jinja_or(v[3], jinja_none())),
                         jinja_truth(jinja_or(v[0], jinja_bool(false))), out);
}

/* ---- text: str(value) first, as soft_str ---- */

FILTER(string)
{
    return jinja_str(j, value, out);
}

#define CASE_FILTER(name, how)                                                                     \
    FILTER(name)                                                                                   \
    {                                                                                              \
        const struct jinja_string *s;                                                              \
        return jinja_to_string(j, value, &s) && jinja_change_case(j, s, how, out);                 \
    }
CASE_FILTER(upper, JINJA_UPPER)
CASE_FILTER(lower, JINJA_LOWER)
CASE_FILTER(capitalize, JINJA_CAPITALIZE)

FILTER(safe)
{
    return jinja_str(j, value, out) && jinja_mark_safe(j, *out, out);
}

FILTER(escape)
{
    const struct jinja_string *s;
    struct jinja_builder text = {0};
    return jinja_to_string(j, value, &s) && jinja_add_escaped(j, &text, s) &&
           jinja_build(j, &text, out) && jinja_mark_safe(j, *out, out);
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
           jinja_change_case(j, first.string, JINJA_UPPER, &first) &&
           jinja_change_case(j, rest.string, JINJA_LOWER, &rest) &&
           jinja_add_string(j, b, first.string) && jinja_add_string(j, b, rest.string);
}

FILTER(title)
{
    const struct jinja_string *s;
    struct jinja_builder text = {0};
    if (!jinja_to_string(j, value, &s) || !jinja_spend_bytes(j, s->n))
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

FILTER(trim)
{
    const struct jinja_string *s;
    return jinja_to_string(j, value, &s) &&
           jinja_strip(j, s, args->items[0], "strip", true, true, out);
}

FILTER(replace)
{
    const struct jinja_value *v = args->items, most = jinja_or(v[2], jinja_none());
    const struct jinja_string *s, *old, *with;
    int64_t count = -1;
    return jinja_to_string(j, value, &s) && jinja_to_string(j, v[0], &old) &&
           jinja_to_string(j, v[1], &with) &&
           (most.kind == JINJA_NONE || jinja_index(j, most, &count)) &&
           jinja_replace(j, s, old, with, count, out);
}

FILTER(indent)
{
    const struct jinja_value *v = args->items; /* width first blank */
    struct jinja_value indent = jinja_or(v[0], jinja_int(4)), whole, newline;
    struct jinja_items lines = {0};
    struct jinja_builder text = {0};
    if (indent.kind != JINJA_STRING &&
        !jinja_operate(j, JINJA_MUL, jinja_of_string(&jinja_space), indent, &indent))
        return false;
    if (value.kind == JINJA_LIST)
        return jinja_raise(j, "AttributeError", "'list' object has no attribute 'splitlines'");
    if (value.kind != JINJA_STRING && value.kind != JINJA_UNDEFINED && value.kind != JINJA_TUPLE)
        return jinja_raise(j, "TypeError", "unsupported operand type(s) for +=: '%s' and 'str'",
                           jinja_type_name(value));
    /* the newline is the template's quirk, too: "a\n" has one line, "" has one */
    if (!jinja_text_value(j, "\n", &newline) ||
        !jinja_operate(j, JINJA_ADD, value, newline, &whole))
        return false;
    bool first = jinja_truth(jinja_or(v[1], jinja_bool(false)));
    bool blank = jinja_truth(jinja_or(v[2], jinja_bool(false)));
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

/* ---- numbers ---- */

FILTER(abs)
{
    if (value.kind == JINJA_FLOAT) {
        *out = jinja_float(fabs(value.real));
        return true;
    }
    if (!jinja_is_int(value))
        return jinja_raise(j, "TypeError", "bad operand type for abs(): '%s'",
                           jinja_type_name(value));
    *out = jinja_int(jinja_int_of(value));
    return out->integer >= 0 || jinja_sign(j, '-', *out, out);
}

/* float(v); *ok false: TypeError or ValueError in Python */
static bool to_float(struct jinja *j, struct jinja_value v, double *out, bool *ok)
{
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (v.kind == JINJA_STRING)
        return jinja_parse_float(j, v.string, out, ok);
    *ok = jinja_is_number(v);
    if (*ok)
        *out = jinja_float_of(v);
    return true;
}

FILTER(float)
{
    double f = 0;
    bool ok;
    if (!to_float(j, value, &f, &ok))
        return false;
    *out = ok ? jinja_float(f) : jinja_or(args->items[0], jinja_float(0));
    return true;
}

FILTER(int)
{
    int64_t i = 0;
    double f = 0;
    bool ok = jinja_is_int(value);
    if (!jinja_is_missing(args->items[1]))
        return jinja_refuse(j, "the base of the filter int");
    if (ok)
        i = jinja_int_of(value);
    if (value.kind == JINJA_STRING && !jinja_parse_int(j, value.string, &i, &ok))
        return false;
    if (!ok) {
        if (!to_float(j, value, &f, &ok))
            return false;
        ok = ok && !isnan(f) && !isinf(f);
        if (ok && !jinja_float_to_int(j, f, &i))
            return false;
    }
    *out = ok ? jinja_int(i) : jinja_or(args->items[0], jinja_int(0));
    return true;
}

/* ceil or floor of value * 10**precision, divided again */
static bool round_way(struct jinja *j, struct jinja_value value, struct jinja_value precision,
                      bool up, struct jinja_value *out)
{
    struct jinja_value power, scaled;
    int64_t whole;
    if (!jinja_operate(j, JINJA_POW, jinja_int(10), precision, &power) ||
        !jinja_operate(j, JINJA_MUL, value, power, &scaled))
        return false;
    if (!jinja_is_number(scaled))
        return jinja_raise(j, "TypeError", "must be real number, not %s", jinja_type_name(scaled));
    if (scaled.kind == JINJA_FLOAT) {
        if (!jinja_float_to_int(j, up ? ceil(scaled.real) : floor(scaled.real), &whole))
            return false;
        scaled = jinja_int(whole);
    }
    return jinja_operate(j, JINJA_DIV, scaled, power, out);
}

/* Python's round(value, digits): the decimal closest to the exact value, ties to even */
static bool round_common(struct jinja *j, struct jinja_value value, struct jinja_value precision,
                         struct jinja_value *out)
{
    char text[700];
    int64_t digits = 0;
    *out = value.kind == JINJA_BOOL ? jinja_int(value.boolean) : value;
    if (!jinja_is_number(value))
        return jinja_raise(j, "TypeError", "type %s doesn't define __round__ method",
                           jinja_type_name(value));
    if (precision.kind != JINJA_NONE && !jinja_index(j, precision, &digits))
        return false;
    if (digits < 0)
        return jinja_refuse(j, "a negative precision of the filter round");
    if (value.kind != JINJA_FLOAT)
        return true;
    if (isfinite(value.real) && digits <= 323) {
        snprintf(text, sizeof text, "%.*f", (int)digits, value.real);
        *out = jinja_float(strtod(text, NULL)); /* both by the locale's point */
    }
    if (precision.kind != JINJA_NONE)
        return true;
    if (!jinja_float_to_int(j, out->real, &digits))
        return false;
    *out = jinja_int(digits);
    return true;
}

FILTER(round)
{
    struct jinja_value precision = jinja_or(args->items[0], jinja_int(0)), way = args->items[1];
    const struct jinja_string *method = way.kind == JINJA_STRING ? way.string : NULL;
    bool up = method && jinja_string_is(method, "ceil");
    if (jinja_is_missing(way) || (method && jinja_string_is(method, "common")))
        return round_common(j, value, precision, out);
    if (!up && !(method && jinja_string_is(method, "floor")))
        return jinja_raise(j, "FilterArgumentError", "method must be common, ceil or floor");
    return value.kind == JINJA_UNDEFINED ? jinja_raise_undefined(j, value)
                                         : round_way(j, value, precision, up, out);
}

static const struct jinja_builtin filters[] = {
    {"trim", filter_trim, {"do_trim", "chars", 0, 1, JINJA_BY_NAME}},
    {"tojson",
     filter_tojson,
     {"_cached_compile_jinja_template.<locals>.tojson", "ensure_ascii indent separators sort_keys",
      0, 1, JINJA_BY_NAME}},
    {"length", filter_length, {"len", "", 0, 0, JINJA_BY_POSITION}},
    {"default", filter_default, {"do_default", "default_value boolean", 0, 1, JINJA_BY_NAME}},
    {"upper", filter_upper, {"do_upper", "", 0, 1, JINJA_BY_NAME}},
    {"lower", filter_lower, {"do_lower", "", 0, 1, JINJA_BY_NAME}},
    {"replace", filter_replace, {"do_replace", "old new count", 2, 2, JINJA_BY_NAME}},
    {"string", filter_string, {"soft_str", "", 0, 1, JINJA_BY_NAME}},
    {"int", filter_int, {"do_int", "default base", 0, 1, JINJA_BY_NAME}},
    {"float", filter_float, {"do_float", "default", 0, 1, JINJA_BY_NAME}},
    {"abs", filter_abs, {"abs", "", 0, 0, JINJA_BY_POSITION}},
    {"capitalize", filter_capitalize, {"do_capitalize", "", 0, 1, JINJA_BY_NAME}},
    {"count", filter_length, {"len", "", 0, 0, JINJA_BY_POSITION}},
    {"d", filter_default, {"do_default", "default_value boolean", 0, 1, JINJA_BY_NAME}},
    {"e", filter_escape, {"escape", "", 0, 0, JINJA_BY_POSITION}},
    {"escape", filter_escape, {"escape", "", 0, 0, JINJA_BY_POSITION}},
    {"indent", filter_indent, {"do_indent", "width first blank", 0, 1, JINJA_BY_NAME}},
    {"round", filter_round, {"do_round", "precision method", 0, 1, JINJA_BY_NAME}},
    {"safe", filter_safe, {"do_mark_safe", "", 0, 1, JINJA_BY_NAME}},
    {"title", filter_title, {"do_title", "", 0, 1, JINJA_BY_NAME}},
};

const struct jinja_builtin *jinja_find_filter(const char *name, size_t n)
{
    const struct jinja_builtin *found =
        jinja_find_builtin(filters, sizeof filters / sizeof *filters, name, n);
    return found ? found
                 : jinja_find_builtin(jinja_list_filters, jinja_list_filters_count, name, n);
}

bool jinja_refused_filter(const char *name, size_t n)
{
    return jinja_word_in("attr batch center filesizeformat forceescape format groupby pprint "
                         "random slice striptags truncate urlencode urlize wordcount wordwrap "
                         "xmlattr",
                         name, n);
}
