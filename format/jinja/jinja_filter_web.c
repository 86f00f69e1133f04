/* Filters for markup and sizes: striptags, urlencode, xmlattr, filesizeformat. */
#include "jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- striptags ---- */

/* Cut out the first [open ... close] as long as there is one: what closes up may be another. */
static bool cut_all(struct jinja *j, const char *open, const char *close,
                    const struct jinja_string **s)
{
    struct jinja_value begins, ends, text;
    if (!jinja_text_value(j, open, &begins) || !jinja_text_value(j, close, &ends))
        return false;
    for (size_t from = 0;;) {
        size_t start, end;
        struct jinja_builder b = {0};
        if (!jinja_find(j, *s, begins.string, from, &start))
            return false;
        if (start == (*s)->n)
            return true;
        if (!jinja_find(j, *s, ends.string, start, &end))
            return false;
        if (end == (*s)->n)
            return true;
        end += strlen(close);
        if (!jinja_add_part(j, &b, *s, 0, start) || !jinja_add_part(j, &b, *s, end, (*s)->n) ||
            !jinja_build(j, &b, &text))
            return false;
        *s = text.string;
        from = start > strlen(open) ? start - strlen(open) : 0;
    }
}

/* The character that the entity at byte at (its &) stands for; *n: its bytes. 0: it stands as it
 * is. The names are XML's and the space; HTML has 2000 more. */
static uint32_t entity_char(const struct jinja_string *s, size_t at, size_t *n)
{
    static const struct {
        const char *name;
        uint32_t c;
    } names[] = {{"amp;", '&'},  {"lt;", '<'},    {"gt;", '>'},
                 {"quot;", '"'}, {"apos;", '\''}, {"nbsp;", 0xa0}};
    size_t i = at + 1, left = s->n - i;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        size_t length = strlen(names[k].name);
        if (left >= length && memcmp(s->bytes + i, names[k].name, length) == 0) {
            *n = length + 1;
            return names[k].c;
        }
    }
    if (i >= s->n || s->bytes[i] != '#')
        return 0;
    bool hex = i + 1 < s->n && (s->bytes[i + 1] | 0x20) == 'x';
    size_t begin = i + 1 + hex;
    uint32_t c = 0;
    for (i = begin; i < s->n; i++) {
        char d = s->bytes[i], low = (char)(d | 0x20);
        uint32_t digit = d >= '0' && d <= '9'              ? (uint32_t)(d - '0')
                         : hex && low >= 'a' && low <= 'f' ? (uint32_t)(low - 'a' + 10)
                                                           : 99;
        if (digit == 99)
            break;
        c = c > 0x110000 ? c : c * (hex ? 16 : 10) + digit;
    }
    if (i == begin)
        return 0;
    *n = i - at + (i < s->n && s->bytes[i] == ';');
    return c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0xfffd : c;
}

static bool unescape(struct jinja *j, const struct jinja_string *s, struct jinja_value *out)
{
    struct jinja_builder b = {0};
    size_t begin = 0;
    if (!jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n; i++) {
        uint32_t c = s->bytes[i] == '&' ? entity_char(s, i, &n) : 0;
        if (c == 0)
            continue;
        if (!jinja_add_part(j, &b, s, begin, i) || !jinja_add_char(j, &b, c, jinja_mark_at(s, i)))
            return false;
        begin = i + n;
        i = begin - 1;
    }
    return jinja_add_part(j, &b, s, begin, s->n) && jinja_build(j, &b, out);
}

bool jinja_filter_striptags(struct jinja *j, struct jinja_value value,
                            const struct jinja_args *args, struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_striptags", "", 0, 1};
    static const struct jinja_args none = {0};
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    const struct jinja_string *s;
    struct jinja_value words, text;
    return jinja_bind(j, &signature, args, NULL) && jinja_to_string(j, value, &s) &&
           cut_all(j, "<!--", "-->", &s) && cut_all(j, "<", ">", &s) &&
           jinja_str_split(j, jinja_of_string(s), &none, &words) &&
           jinja_join(j, &space, words.sequence->items, words.sequence->count, true, &text) &&
           unescape(j, text.string, out);
}

/* ---- urlencode ---- */

static bool add_quoted(struct jinja *j, struct jinja_builder *b, struct jinja_value v, bool query)
{
    const struct jinja_string *s;
    if (!jinja_to_string(j, v, &s) || !jinja_spend(j, s->n / 16))
        return false;
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->bytes[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        char text[4] = {(char)c, '\0'};
        if (c == ' ' && query)
            text[0] = '+';
        else if (!plain)
            snprintf(text, sizeof text, "%%%02X", c);
        if (!jinja_add(j, b, text, strlen(text), jinja_mark_at(s, i)))
            return false;
    }
    return true;
}

bool jinja_filter_urlencode(struct jinja *j, struct jinja_value value,
                            const struct jinja_args *args, struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_urlencode", "", 0, 1};
    static const struct jinja_args none = {0};
    struct jinja_builder b = {0};
    const struct jinja_value *items, *pair;
    size_t count, n;
    if (!jinja_bind(j, &signature, args, NULL))
        return false;
    if (value.kind == JINJA_STRING || value.kind == JINJA_OBJECT ||
        (value.kind < JINJA_STRING && value.kind != JINJA_UNDEFINED))
        return add_quoted(j, &b, value, false) && jinja_build(j, &b, out);
    if (value.kind == JINJA_DICT && !jinja_filter_items(j, value, &none, &value))
        return false;
    if (!jinja_iterate(j, value, &items, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (items[i].kind < JINJA_STRING || items[i].kind == JINJA_OBJECT)
            return jinja_raise(j, "TypeError", "cannot unpack non-iterable %s object",
                               jinja_type_name(items[i]));
        if (!jinja_iterate(j, items[i], &pair, &n))
            return false;
        if (n < 2)
            return jinja_raise(j, "ValueError", "not enough values to unpack (expected 2, got %zu)",
                               n);
        if (n > 2)
            return jinja_raise(j, "ValueError", "too many values to unpack (expected 2)");
        if ((i && !jinja_add_text(j, &b, "&")) || !add_quoted(j, &b, pair[0], true) ||
            !jinja_add_text(j, &b, "=") || !add_quoted(j, &b, pair[1], true))
            return false;
    }
    return jinja_build(j, &b, out);
}

/* ---- xmlattr ---- */

static bool check_key(struct jinja *j, struct jinja_value key)
{
    if (key.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError", "expected string or bytes-like object, got '%s'",
                           jinja_type_name(key));
    for (size_t i = 0; i < key.string->n; i++)
        if (key.string->bytes[i] && strchr(" \t\n\r\f\v/>=", key.string->bytes[i]))
            return jinja_raise(j, "ValueError", "Invalid character in attribute name: %s",
                               jinja_repr_text(j, key));
    return jinja_spend_bytes(j, key.string->n);
}

bool jinja_filter_xmlattr(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_xmlattr", "autospace", 0, 2};
    struct jinja_value space = jinja_bool(true);
    struct jinja_builder b = {0};
    const struct jinja_string *text;
    if (!jinja_bind(j, &signature, args, &space))
        return false;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, value);
    if (value.kind != JINJA_DICT)
        return jinja_raise(j, "AttributeError", "'%s' object has no attribute 'items'",
                           jinja_type_name(value));
    bool first = true;
    for (size_t i = 0; i < value.dict->count; i++) {
        const struct jinja_entry *entry = &value.dict->entries[i];
        if (entry->value.kind == JINJA_NONE || entry->value.kind == JINJA_UNDEFINED)
            continue;
        if (!check_key(j, entry->key) || !jinja_to_string(j, entry->value, &text))
            return false;
        if (((!first || jinja_truth(space)) && !jinja_add_text(j, &b, " ")) ||
            !jinja_add_escaped(j, &b, entry->key.string) || !jinja_add_text(j, &b, "=\"") ||
            !jinja_add_escaped(j, &b, text) || !jinja_add_text(j, &b, "\""))
            return false;
        first = false;
    }
    return jinja_build(j, &b, out);
}

/* ---- filesizeformat ---- */

static bool as_float(struct jinja *j, struct jinja_value v, double *f)
{
    bool ok = jinja_is_number(v);
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (ok) {
        *f = jinja_float_of(v);
        return true;
    }
    if (v.kind != JINJA_STRING)
        return jinja_raise(j, "TypeError",
                           "float() argument must be a string or a real number, not '%s'",
                           jinja_type_name(v));
    if (!jinja_parse_float(j, v.string, f, &ok))
        return false;
    return ok || jinja_raise(j, "ValueError", "could not convert string to float: %s",
                             jinja_repr_text(j, v));
}

bool jinja_filter_filesizeformat(struct jinja *j, struct jinja_value value,
                                 const struct jinja_args *args, struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_filesizeformat", "binary", 0, 1};
    static const double units[] = {1e6, 1e9, 1e12, 1e15, 1e18, 1e21, 1e24, 1e27};
    struct jinja_value binary = jinja_bool(false);
    double bytes = 0, unit = 0;
    char text[400];
    if (!jinja_bind(j, &signature, args, &binary) || !as_float(j, value, &bytes))
        return false;
    bool two = jinja_truth(binary);
    double base = two ? 1024 : 1000;
    if (bytes == 1)
        return jinja_text_value(j, "1 Byte", out);
    if (bytes < base) {
        int64_t whole;
        if (!jinja_float_to_int(j, bytes, &whole))
            return false;
        snprintf(text, sizeof text, "%lld Bytes", (long long)whole);
        return jinja_text_value(j, text, out);
    }
    int i = 0;
    for (; i < 8; i++) {
        unit = two ? ldexp(1, 10 * (i + 2)) : units[i];
        if (bytes < unit)
            break;
    }
    snprintf(text, sizeof text, "%.1f %c%sB", base * bytes / unit,
             (two ? "KMGTPEZY" : "kMGTPEZY")[i < 8 ? i : 7], two ? "i" : "");
    return jinja_text_value(j, text, out);
}
