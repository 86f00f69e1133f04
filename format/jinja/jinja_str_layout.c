/* str.strip, join and what pads; the table of str's methods. */
#include "jinja_methods.h"

#include <string.h>

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

bool jinja_strip_bounds(struct jinja *j, const struct jinja_string *s,
                        const struct jinja_string *chars, bool left, bool right, size_t *begin,
                        size_t *end)
{
    size_t from = 0, to = s->n, n;
    while (left && from < to) {
        uint32_t c = jinja_char_at(s, from, &n);
        if (!strips(j, chars, c))
            break;
        from += n;
    }
    while (right && to > from) {
        size_t at = jinja_before(s, to);
        uint32_t c = jinja_char_at(s, at, &n);
        if (!strips(j, chars, c))
            break;
        to = at;
    }
    *begin = from;
    *end = to;
    return jinja_spend_bytes(j, from + (s->n - to));
}

static bool strip(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                  const char *name, bool left, bool right, struct jinja_value *out)
{
    const struct jinja_string *chars = NULL;
    size_t begin, end;
    if (!jinja_positional(j, "str", name, 0, 1, args))
        return false;
    if (args->count && args->items[0].kind != JINJA_NONE) {
        if (args->items[0].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError", "%s arg must be None or str", name);
        chars = args->items[0].string;
    }
    return jinja_strip_bounds(j, self.string, chars, left, right, &begin, &end) &&
           jinja_substring(j, self.string, begin, end, out);
}

bool jinja_str_strip(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    return strip(j, self, args, "strip", true, true, out);
}

bool jinja_str_lstrip(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return strip(j, self, args, "lstrip", true, false, out);
}

bool jinja_str_rstrip(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return strip(j, self, args, "rstrip", false, true, out);
}

/* ---- padding ---- */

static bool pad(struct jinja *j, const struct jinja_string *s, const struct jinja_string *fill,
                uint64_t left, uint64_t right, struct jinja_value *out)
{
    struct jinja_builder text = {0};
    return jinja_add_fill(j, &text, fill, left) && jinja_add_string(j, &text, s) &&
           jinja_add_fill(j, &text, fill, right) && jinja_build(j, &text, out);
}

static bool justify(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                    const char *name, struct jinja_value *out)
{
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    const struct jinja_string *s = self.string, *fill = &space;
    int64_t width;
    if (!jinja_positional(j, "str", name, 1, 2, args) || !jinja_index(j, args->items[0], &width))
        return false;
    if (args->count > 1) {
        if (args->items[1].kind != JINJA_STRING)
            return jinja_raise(j, "TypeError",
                               "The fill character must be a unicode character, not %s",
                               jinja_type_name(args->items[1]));
        fill = args->items[1].string;
        if (fill->n_chars != 1)
            return jinja_raise(j, "TypeError",
                               "The fill character must be exactly one character long");
    }
    *out = self;
    if (width <= (int64_t)s->n_chars)
        return true;
    uint64_t margin = (uint64_t)width - s->n_chars;
    uint64_t left = *name == 'l' ? 0 : *name == 'r' ? margin : margin / 2;
    if (*name == 'c') /* Python's: the odd one goes left where the width is odd */
        left += margin & (uint64_t)width & 1;
    return pad(j, s, fill, left, margin - left, out);
}

bool jinja_str_center(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                      struct jinja_value *out)
{
    return justify(j, self, args, "center", out);
}

bool jinja_str_ljust(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    return justify(j, self, args, "ljust", out);
}

bool jinja_str_rjust(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    return justify(j, self, args, "rjust", out);
}

bool jinja_str_zfill(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                     struct jinja_value *out)
{
    static const struct jinja_string zero = {.bytes = "0", .n = 1, .n_chars = 1};
    const struct jinja_string *s = self.string;
    int64_t width;
    if (!jinja_positional(j, "str", "zfill", 1, 1, args) || !jinja_index(j, args->items[0], &width))
        return false;
    *out = self;
    if (width <= (int64_t)s->n_chars)
        return true;
    size_t sign = s->n && (s->bytes[0] == '+' || s->bytes[0] == '-');
    struct jinja_builder text = {0};
    return jinja_add_part(j, &text, s, 0, sign) &&
           jinja_add_fill(j, &text, &zero, (uint64_t)width - s->n_chars) &&
           jinja_add_part(j, &text, s, sign, s->n) && jinja_build(j, &text, out);
}

bool jinja_str_expandtabs(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    static const struct jinja_signature signature = {"expandtabs", "tabsize", 0, 0};
    static const struct jinja_string space = {.bytes = " ", .n = 1, .n_chars = 1};
    const struct jinja_string *s = self.string;
    struct jinja_value size = jinja_int(8);
    int64_t tab, column = 0;
    if (args->count + args->n_keywords > 1)
        return jinja_raise(j, "TypeError", "expandtabs() takes at most 1 argument (%zu given)",
                           args->count + args->n_keywords);
    if (!jinja_bind(j, &signature, args, &size) || !jinja_index(j, size, &tab) ||
        !jinja_spend_bytes(j, s->n))
        return false;
    struct jinja_builder text = {0};
    size_t begin = 0;
    for (size_t i = 0, n; i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        column = c == '\n' || c == '\r' ? 0 : c == '\t' ? column : column + 1;
        if (c != '\t')
            continue;
        int64_t room = tab > 0 ? tab - column % tab : 0;
        if (!jinja_add_part(j, &text, s, begin, i) ||
            !jinja_add_fill(j, &text, &space, (uint64_t)room))
            return false;
        column += room;
        begin = i + 1;
    }
    return jinja_add_part(j, &text, s, begin, s->n) && jinja_build(j, &text, out);
}

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

bool jinja_str_join(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                    struct jinja_value *out)
{
    const struct jinja_value *items;
    size_t count;
    if (!jinja_positional(j, "str", "join", 1, 1, args))
        return false;
    struct jinja_value list = args->items[0];
    if (list.kind == JINJA_OBJECT || (list.kind < JINJA_STRING && list.kind != JINJA_UNDEFINED))
        return jinja_raise(j, "TypeError", "can only join an iterable");
    return jinja_iterate(j, list, &items, &count) &&
           jinja_join(j, self.string, items, count, false, out);
}

/* ---- the table ---- */

static bool str_format(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    return jinja_str_format(j, self.string, args, out);
}

static bool not_supported(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                          struct jinja_value *out)
{
    (void)self, (void)args, (void)out;
    return jinja_stop(j, JINJA_RUNTIME,
                      "str.encode, format_map, maketrans and translate are not supported");
}

static const struct jinja_named_function str_methods[] = {
    {"strip", jinja_str_strip},
    {"split", jinja_str_split},
    {"startswith", jinja_str_startswith},
    {"endswith", jinja_str_endswith},
    {"replace", jinja_str_replace},
    {"lstrip", jinja_str_lstrip},
    {"rstrip", jinja_str_rstrip},
    {"lower", jinja_str_lower},
    {"upper", jinja_str_upper},
    {"title", jinja_str_title},
    {"capitalize", jinja_str_capitalize},
    {"swapcase", jinja_str_swapcase},
    {"casefold", jinja_str_casefold},
    {"rsplit", jinja_str_rsplit},
    {"splitlines", jinja_str_splitlines},
    {"partition", jinja_str_partition},
    {"rpartition", jinja_str_rpartition},
    {"find", jinja_str_find},
    {"rfind", jinja_str_rfind},
    {"index", jinja_str_index},
    {"rindex", jinja_str_rindex},
    {"count", jinja_str_count},
    {"removeprefix", jinja_str_removeprefix},
    {"removesuffix", jinja_str_removesuffix},
    {"join", jinja_str_join},
    {"format", str_format},
    {"center", jinja_str_center},
    {"ljust", jinja_str_ljust},
    {"rjust", jinja_str_rjust},
    {"zfill", jinja_str_zfill},
    {"expandtabs", jinja_str_expandtabs},
    {"isupper", jinja_str_isupper},
    {"islower", jinja_str_islower},
    {"istitle", jinja_str_istitle},
    {"isalpha", jinja_str_isalpha},
    {"isalnum", jinja_str_isalnum},
    {"isdigit", jinja_str_isdigit},
    {"isdecimal", jinja_str_isdecimal},
    {"isnumeric", jinja_str_isnumeric},
    {"isspace", jinja_str_isspace},
    {"isascii", jinja_str_isascii},
    {"isprintable", jinja_str_isprintable},
    {"isidentifier", jinja_str_isidentifier},
    {"encode", not_supported},
    {"format_map", not_supported},
    {"maketrans", not_supported},
    {"translate", not_supported},
};

const struct jinja_named_function *jinja_str_methods(size_t *count)
{
    *count = sizeof str_methods / sizeof *str_methods;
    return str_methods;
}
