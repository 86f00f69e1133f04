/* The methods of str. Parts share the bytes and origins of the whole. */
#include "jinja_filters.h"

#include <string.h>

#define METHOD(name)                                                                               \
    static bool str_##name(struct jinja *j, struct jinja_value self,                               \
                           __attribute__((unused)) const struct jinja_args *args,                  \
                           struct jinja_value *out)

/* ---- split ---- */

static bool push_part(struct jinja *j, const struct jinja_string *s, size_t begin, size_t end,
                      struct jinja_items *parts)
{
    struct jinja_value part;
    return jinja_substring(j, s, begin, end, &part) && jinja_push(j, parts, part);
}

static bool is_space_at(const struct jinja_string *s, size_t i, size_t *n)
{
    return jinja_is_space(jinja_char_at(s, i, n));
}

static bool split_spaces(struct jinja *j, const struct jinja_string *s, int64_t most,
                         struct jinja_items *parts)
{
    size_t i = 0, n;
    for (;;) {
        while (i < s->n && is_space_at(s, i, &n))
            i += n;
        if (i == s->n)
            return true;
        size_t begin = i;
        if (most-- == 0)
            return push_part(j, s, begin, s->n, parts);
        while (i < s->n && !is_space_at(s, i, &n))
            i += n;
        if (!push_part(j, s, begin, i, parts))
            return false;
    }
}

static bool split_at(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                     int64_t most, struct jinja_items *parts)
{
    size_t begin = 0;
    while (most-- != 0) {
        size_t at;
        if (!jinja_find(j, s, by, begin, &at))
            return false;
        if (at == s->n)
            break;
        if (!push_part(j, s, begin, at, parts))
            return false;
        begin = at + by->n;
    }
    return push_part(j, s, begin, s->n, parts);
}

static void reverse(struct jinja_items *parts)
{
    for (size_t i = 0; i < parts->count / 2; i++) {
        struct jinja_value held = parts->items[i];
        parts->items[i] = parts->items[parts->count - 1 - i];
        parts->items[parts->count - 1 - i] = held;
    }
}

/* The last occurrence that ends at or before byte end; s->n: none */
static bool find_last(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                      size_t end, size_t *at)
{
    *at = s->n;
    size_t i = end;
    if (by->n <= end)
        for (i = end - by->n + 1; i-- > 0;)
            if (s->bytes[i] == by->bytes[0] && memcmp(s->bytes + i, by->bytes, by->n) == 0) {
                *at = i;
                break;
            }
    /* every step may compare all of it */
    return jinja_spend(j, (end - (*at < s->n ? *at : 0)) / JINJA_BYTES_PER_STEP * by->n);
}

static bool rsplit_at(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                      int64_t most, struct jinja_items *parts)
{
    size_t end = s->n;
    while (most-- != 0) {
        size_t at;
        if (!find_last(j, s, by, end, &at))
            return false;
        if (at == s->n)
            break;
        if (!push_part(j, s, at + by->n, end, parts))
            return false;
        end = at;
    }
    return push_part(j, s, 0, end, parts);
}

bool jinja_split(struct jinja *j, const struct jinja_string *s, const struct jinja_string *by,
                 struct jinja_value *out)
{
    struct jinja_items parts = {0};
    return jinja_spend_bytes(j, s->n) && split_at(j, s, by, -1, &parts) &&
           jinja_take_items(j, &parts, JINJA_LIST, out);
}

static bool split(struct jinja *j, const struct jinja_string *s, const struct jinja_args *args,
                  bool from_right, struct jinja_value *out)
{
    struct jinja_value by = jinja_or(args->items[0], jinja_none());
    struct jinja_items parts = {0};
    int64_t most;
    bool ok;
    if (!jinja_index(j, jinja_or(args->items[1], jinja_int(-1)), &most) ||
        !jinja_spend_bytes(j, s->n))
        return false;
    if (most < 0)
        most = -1; /* room to count down */
    if (by.kind == JINJA_NONE)
        ok = from_right ? jinja_refuse(j, "str.rsplit without a separator")
                        : split_spaces(j, s, most, &parts);
    else if (by.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "must be str or None, not %s", jinja_type_name(by));
    else if (by.string->n == 0)
        return jinja_raise(j, "ValueError", "empty separator");
    else
        ok = (from_right ? rsplit_at : split_at)(j, s, by.string, most, &parts);
    if (from_right)
        reverse(&parts);
    return ok && jinja_take_items(j, &parts, JINJA_LIST, out);
}

#define SPLIT_METHOD(name, from_right)                                                             \
    METHOD(name)                                                                                   \
    {                                                                                              \
        return split(j, self.string, args, from_right, out);                                       \
    }
SPLIT_METHOD(split, false)
SPLIT_METHOD(rsplit, true)

static bool is_line_end(uint32_t c)
{
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

bool jinja_split_lines(struct jinja *j, const struct jinja_string *s, bool keep,
                       struct jinja_items *lines)
{
    if (!jinja_spend_bytes(j, s->n))
        return false;
    size_t begin = 0;
    for (size_t i = 0, n; i < s->n; i += n) {
        if (!is_line_end(jinja_char_at(s, i, &n)))
            continue;
        if (s->bytes[i] == '\r' && i + 1 < s->n && s->bytes[i + 1] == '\n')
            n = 2;
        if (!push_part(j, s, begin, keep ? i + n : i, lines))
            return false;
        begin = i + n;
    }
    return begin == s->n || push_part(j, s, begin, s->n, lines);
}

METHOD(splitlines)
{
    struct jinja_items lines = {0};
    bool keep = jinja_truth(jinja_or(args->items[0], jinja_bool(false)));
    return jinja_split_lines(j, self.string, keep, &lines) &&
           jinja_take_items(j, &lines, JINJA_LIST, out);
}

/* ---- search ---- */

/* What is looked for; its bounds are not supported. */
static bool take_needle(struct jinja *j, const struct jinja_args *args, const char *name,
                        const struct jinja_string **needle)
{
    if (!jinja_is_missing(args->items[1]))
        return jinja_refuse(j, "a bound of str.%s", name);
    if (needle && args->items[0].kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "must be str, not %s", jinja_type_name(args->items[0]));
    if (needle)
        *needle = args->items[0].string;
    return true;
}

METHOD(find)
{
    const struct jinja_string *s = self.string, *needle = NULL;
    struct jinja_value before;
    size_t at = 0;
    if (!take_needle(j, args, "find", &needle) || (needle->n && !jinja_find(j, s, needle, 0, &at)))
        return false;
    if (needle->n && at == s->n) {
        *out = jinja_int(-1);
        return true;
    }
    if (!jinja_substring(j, s, 0, at, &before))
        return false;
    *out = jinja_int((int64_t)before.string->n_chars);
    return true;
}

METHOD(count)
{
    const struct jinja_string *s = self.string, *needle = NULL;
    if (!take_needle(j, args, "count", &needle))
        return false;
    int64_t count = needle->n ? 0 : (int64_t)s->n_chars + 1;
    for (size_t at = 0; needle->n; at += needle->n) {
        if (!jinja_find(j, s, needle, at, &at))
            return false;
        if (at == s->n || !jinja_spend(j, 1))
            break;
        count++;
    }
    *out = jinja_int(count);
    return !j->failed;
}

static bool has_end(struct jinja *j, const struct jinja_string *s, const struct jinja_args *args,
                    const char *name, bool at_end, struct jinja_value *out)
{
    struct jinja_value what = args->items[0];
    bool yes = false;
    if (!take_needle(j, args, name, NULL))
        return false;
    if (what.kind != JINJA_STRING && what.kind != JINJA_TUPLE)
        return jinja_raise(j, "TypeError", "%s first arg must be str or a tuple of str, not %s",
                           name, jinja_type_name(what));
    const struct jinja_value *items = what.kind == JINJA_TUPLE ? what.sequence->items : &what;
    size_t count = what.kind == JINJA_TUPLE ? what.sequence->count : 1;
    for (size_t i = 0; i < count && !yes; i++) {
        if (items[i].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "tuple for %s must only contain str, not %s", name,
                               jinja_type_name(items[i]));
        const struct jinja_string *piece = items[i].string;
        if (!jinja_spend_bytes(j, piece->n))
            return false;
        yes = piece->n <= s->n &&
              memcmp(s->bytes + (at_end ? s->n - piece->n : 0), piece->bytes, piece->n) == 0;
    }
    *out = jinja_bool(yes);
    return true;
}

#define END_METHOD(name, at_end)                                                                   \
    METHOD(name)                                                                                   \
    {                                                                                              \
        return has_end(j, self.string, args, #name, at_end, out);                                  \
    }
END_METHOD(startswith, false)
END_METHOD(endswith, true)

/* ---- replace ---- */

/* Between all characters and at both ends */
static bool replace_empty(struct jinja *j, const struct jinja_string *s,
                          const struct jinja_string *with, int64_t count, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    size_t i = 0;
    for (; count-- != 0;) {
        size_t n = 0;
        if (!jinja_add_string(j, &text, with) || !jinja_spend(j, 1))
            return false;
        if (i == s->n)
            return jinja_build(j, &text, out);
        jinja_char_at(s, i, &n);
        if (!jinja_add_part(j, &text, s, i, i + n))
            return false;
        i += n;
    }
    return jinja_add_part(j, &text, s, i, s->n) && jinja_build(j, &text, out);
}

bool jinja_replace(struct jinja *j, const struct jinja_string *s, const struct jinja_string *old,
                   const struct jinja_string *with, int64_t count, struct jinja_value *out)
{
    if (count < 0)
        count = -1; /* room to count down */
    if (old->n == 0)
        return replace_empty(j, s, with, count, out);
    struct jinja_builder text = {0};
    size_t begin = 0;
    while (count-- != 0) {
        size_t at;
        if (!jinja_find(j, s, old, begin, &at))
            return false;
        if (at == s->n)
            break;
        if (!jinja_add_part(j, &text, s, begin, at) || !jinja_add_string(j, &text, with) ||
            !jinja_spend(j, 1))
            return false;
        begin = at + old->n;
    }
    return jinja_add_part(j, &text, s, begin, s->n) && jinja_build(j, &text, out);
}

METHOD(replace)
{
    const struct jinja_value *v = args->items;
    int64_t count;
    for (size_t i = 0; i < 2; i++)
        if (v[i].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "replace() argument %zu must be str, not %s", i + 1,
                               jinja_type_name(v[i]));
    return jinja_index(j, jinja_or(v[2], jinja_int(-1)), &count) &&
           jinja_replace(j, self.string, v[0].string, v[1].string, count, out);
}

/* ---- strip ---- */

static bool in_set(const struct jinja_string *chars, uint32_t c)
{
    for (size_t i = 0, n; i < chars->n; i += n)
        if (jinja_char_at(chars, i, &n) == c)
            return true;
    return false;
}

/* c goes; paid, as the set may be long. */
static bool strips(struct jinja *j, const struct jinja_string *chars, uint32_t c)
{
    if (!chars)
        return jinja_is_space(c);
    return jinja_spend(j, chars->n / 64) && in_set(chars, c);
}

bool jinja_strip(struct jinja *j, const struct jinja_string *s, struct jinja_value chars,
                 const char *name, bool left, bool right, struct jinja_value *out)
{
    const struct jinja_string *set = chars.kind == JINJA_STRING ? chars.string : NULL;
    size_t from = 0, to = s->n, n;
    if (!set && !jinja_is_missing(chars) && chars.kind != JINJA_NONE)
        return jinja_raise(j, "TypeError", "%s arg must be None or str", name);
    while (left && from < to && strips(j, set, jinja_char_at(s, from, &n)))
        from += n;
    while (right && to > from && strips(j, set, jinja_char_at(s, jinja_before(s, to), &n)))
        to = jinja_before(s, to);
    return jinja_spend_bytes(j, from + (s->n - to)) && jinja_substring(j, s, from, to, out);
}

#define STRIP_METHOD(name, left, right)                                                            \
    METHOD(name)                                                                                   \
    {                                                                                              \
        return jinja_strip(j, self.string, args->items[0], #name, left, right, out);               \
    }
STRIP_METHOD(strip, true, true)
STRIP_METHOD(lstrip, true, false)
STRIP_METHOD(rstrip, false, true)

/* ---- join ---- */

bool jinja_join(struct jinja *j, const struct jinja_string *separator,
                const struct jinja_value *items, size_t count, bool any, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    bool safe = separator->safe;
    for (size_t i = 0; i < count; i++) {
        if (!any && items[i].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "sequence item %zu: expected str instance, %s found",
                               i, jinja_type_name(items[i]));
        if (!jinja_spend(j, 1) || (i && !jinja_add_string(j, &text, separator)))
            return false;
        bool ok = safe && items[i].kind == JINJA_STRING
                      ? jinja_add_escaped(j, &text, items[i].string)
                      : jinja_add_str(j, &text, items[i]);
        if (!ok)
            return false;
    }
    return jinja_build(j, &text, out);
}

METHOD(join)
{
    const struct jinja_value *items;
    size_t count;
    struct jinja_value list = args->items[0];
    if (!jinja_is_iterable(list))
        return jinja_raise(j, "TypeError", "can only join an iterable");
    return jinja_iterate(j, list, &items, &count) &&
           jinja_join(j, self.string, items, count, false, out);
}

/* ---- case ---- */

#define CASE_METHOD(name, how)                                                                     \
    METHOD(name)                                                                                   \
    {                                                                                              \
        return jinja_change_case(j, self.string, how, out);                                        \
    }
CASE_METHOD(upper, JINJA_UPPER)
CASE_METHOD(lower, JINJA_LOWER)
CASE_METHOD(title, JINJA_TITLE)
CASE_METHOD(capitalize, JINJA_CAPITALIZE)

/* ---- format with plain fields: {}, {0}, {name} ---- */

struct formatter {
    const struct jinja_args *args;
    size_t next; /* number of the next field without one */
    bool manual; /* a field had a number: none may lack one */
};

/* Digits only make a number; too many of them a large one. */
static bool as_number(const struct jinja_string *s, size_t *number)
{
    *number = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->bytes[i] < '0' || s->bytes[i] > '9')
            return false;
        *number = *number < 1u << 20 ? *number * 10 + (size_t)(s->bytes[i] - '0') : *number;
    }
    return s->n > 0;
}

static bool field_value(struct jinja *j, struct formatter *f, const struct jinja_string *name,
                        struct jinja_value *out)
{
    size_t number;
    bool numbered = as_number(name, &number);
    if (!numbered && name->n) {
        for (size_t i = 0; i < f->args->n_keywords; i++)
            if (jinja_same_string(f->args->keywords[i].name, name)) {
                *out = f->args->keywords[i].value;
                return true;
            }
        return jinja_raise(j, "KeyError", "%s", jinja_repr_text(j, jinja_of_string(name)));
    }
    if (numbered ? f->next > 0 : f->manual)
        return jinja_raise(j, "ValueError",
                           "cannot switch from manual field specification to automatic "
                           "field numbering");
    f->manual = numbered;
    if (!numbered)
        number = f->next++;
    if (number >= f->args->count)
        return jinja_raise(j, "IndexError", "tuple index out of range");
    *out = f->args->items[number];
    return true;
}

/* The field whose name begins at *at, behind the brace; *at moves to its end. */
static bool add_field(struct jinja *j, struct formatter *f, const struct jinja_string *s,
                      size_t *at, struct jinja_builder *out)
{
    size_t end = *at;
    struct jinja_value name, value;
    while (end < s->n && !strchr("{}.[:!", s->bytes[end]))
        end++;
    if (end == s->n)
        return jinja_raise(j, "ValueError", "expected '}' before end of string");
    if (s->bytes[end] == '{')
        return jinja_raise(j, "ValueError", "unexpected '{' in field name");
    if (s->bytes[end] != '}')
        return jinja_refuse(j, "more than a name in a field of str.format");
    if (!jinja_substring(j, s, *at, end, &name) || !field_value(j, f, name.string, &value))
        return false;
    *at = end + 1;
    return jinja_add_str(j, out, value);
}

METHOD(format)
{
    const struct jinja_string *s = self.string;
    struct formatter f = {.args = args};
    struct jinja_builder text = {0};
    size_t begin = 0;
    if (!jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0; i < s->n;) {
        char c = s->bytes[i++];
        if (c != '{' && c != '}')
            continue;
        bool doubled = i < s->n && s->bytes[i] == c; /* itself */
        if (!jinja_add_part(j, &text, s, begin, doubled ? i : i - 1))
            return false;
        if (!doubled && (c == '}' || i == s->n))
            return jinja_raise(j, "ValueError", "Single '%c' encountered in format string", c);
        if (doubled)
            i++;
        else if (!jinja_spend(j, 1) || !add_field(j, &f, s, &i, &text))
            return false;
        begin = i;
    }
    return jinja_add_part(j, &text, s, begin, s->n) && jinja_build(j, &text, out);
}

const struct jinja_builtin jinja_str_methods[] = {
    {"strip", str_strip, {"str.strip", "chars", 0, 0, JINJA_BY_POSITION}},
    {"split", str_split, {"split", "sep maxsplit", 0, 0, JINJA_PARSED}},
    {"startswith", str_startswith, {"str.startswith", "sub start end", 1, 0, JINJA_BY_POSITION}},
    {"endswith", str_endswith, {"str.endswith", "sub start end", 1, 0, JINJA_BY_POSITION}},
    {"replace", str_replace, {"str.replace", "old new count", 2, 0, JINJA_BY_POSITION}},
    {"lstrip", str_lstrip, {"str.lstrip", "chars", 0, 0, JINJA_BY_POSITION}},
    {"rstrip", str_rstrip, {"str.rstrip", "chars", 0, 0, JINJA_BY_POSITION}},
    {"lower", str_lower, {"str.lower", "", 0, 0, JINJA_BY_POSITION}},
    {"upper", str_upper, {"str.upper", "", 0, 0, JINJA_BY_POSITION}},
    {"title", str_title, {"str.title", "", 0, 0, JINJA_BY_POSITION}},
    {"capitalize", str_capitalize, {"str.capitalize", "", 0, 0, JINJA_BY_POSITION}},
    {"rsplit", str_rsplit, {"rsplit", "sep maxsplit", 0, 0, JINJA_PARSED}},
    {"splitlines", str_splitlines, {"splitlines", "keepends", 0, 0, JINJA_PARSED}},
    {"find", str_find, {"str.find", "sub start end", 1, 0, JINJA_BY_POSITION}},
    {"count", str_count, {"str.count", "sub start end", 1, 0, JINJA_BY_POSITION}},
    {"join", str_join, {"str.join", "list", 1, 0, JINJA_BY_POSITION}},
    {"format", str_format, {.convention = JINJA_AS_GIVEN}},
};
const size_t jinja_str_methods_count = sizeof jinja_str_methods / sizeof *jinja_str_methods;
