/* str's case: Unicode's full mappings, the origin of a character going to all that it becomes. */
#include "jinja_methods.h"

#include <string.h>
#include <utf8proc.h>

/* Characters on their way into a builder, collected as long as their origin is one. */
struct pen {
    struct jinja_builder text;
    char bytes[512];
    size_t n;
    bool data;
};

static bool pen_flush(struct jinja *j, struct pen *pen)
{
    size_t n = pen->n;
    pen->n = 0;
    return jinja_add(j, &pen->text, pen->bytes, n, pen->data);
}

static bool pen_add(struct jinja *j, struct pen *pen, const uint32_t *c, int count, bool data)
{
    if ((pen->n + 16 > sizeof pen->bytes || pen->data != data) && !pen_flush(j, pen))
        return false;
    pen->data = data;
    for (int i = 0; i < count; i++) {
        if (c[i] < 128)
            pen->bytes[pen->n++] = (char)c[i];
        else
            pen->n += (size_t)utf8proc_encode_char((utf8proc_int32_t)c[i],
                                                   (utf8proc_uint8_t *)pen->bytes + pen->n);
    }
    return true;
}

/* Sigma at a word's end has a form of its own: a cased letter before, none after. */
static uint32_t lower_sigma(const struct jinja_string *s, size_t at)
{
    bool before = false;
    for (size_t i = at, n; i > 0;) {
        i = jinja_before(s, i);
        uint32_t c = jinja_char_at(s, i, &n);
        if (jinja_is_case_ignorable(c) && at - i < 64)
            continue;
        before = jinja_is_cased(c);
        break;
    }
    size_t n;
    jinja_char_at(s, at, &n);
    for (size_t i = at + n; before && i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        if (jinja_is_case_ignorable(c) && i - at < 64)
            continue;
        return jinja_is_cased(c) ? 0x3c3 : 0x3c2;
    }
    return before ? 0x3c2 : 0x3c3;
}

static int lower_in(const struct jinja_string *s, size_t at, uint32_t c,
                    uint32_t out[JINJA_CASE_MAX])
{
    if (c != 0x3a3)
        return jinja_to_lower(c, out);
    out[0] = lower_sigma(s, at);
    return 1;
}

enum how { UPPER, LOWER, TITLE, CAPITALIZE, SWAP, FOLD };

static bool map(struct jinja *j, const struct jinja_string *s, enum how how,
                struct jinja_value *out)
{
    struct pen pen = {.n = 0};
    bool after_cased = false;
    if (!jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n), to[JINJA_CASE_MAX];
        enum how now = how;
        if (how == TITLE)
            now = after_cased ? LOWER : TITLE;
        else if (how == CAPITALIZE)
            now = i ? LOWER : TITLE;
        else if (how == SWAP)
            now = jinja_is_upper(c) ? LOWER : jinja_is_lower(c) ? UPPER : SWAP;
        int count = 1;
        to[0] = c;
        if (now == UPPER)
            count = jinja_to_upper(c, to);
        else if (now == LOWER)
            count = lower_in(s, i, c, to);
        else if (now == TITLE)
            count = jinja_to_title(c, to);
        else if (now == FOLD)
            count = jinja_to_folded(c, to);
        if (how == TITLE)
            after_cased = jinja_is_cased(c);
        if (!pen_add(j, &pen, to, count, jinja_mark_at(s, i)))
            return false;
    }
    return pen_flush(j, &pen) && jinja_build(j, &pen.text, out);
}

bool jinja_lower(struct jinja *j, const struct jinja_string *s, struct jinja_value *out)
{
    return map(j, s, LOWER, out);
}

#define CASE_METHOD(name, how)                                                                     \
    bool jinja_str_##name(struct jinja *j, struct jinja_value self, const struct jinja_args *args, \
                          struct jinja_value *out)                                                 \
    {                                                                                              \
        return jinja_positional(j, "str", #name, 0, 0, args) && map(j, self.string, how, out);     \
    }
CASE_METHOD(upper, UPPER)
CASE_METHOD(lower, LOWER)
CASE_METHOD(title, TITLE)
CASE_METHOD(capitalize, CAPITALIZE)
CASE_METHOD(swapcase, SWAP)
CASE_METHOD(casefold, FOLD)

/* ---- questions ---- */

static bool is_alnum(uint32_t c)
{
    return jinja_is_alpha(c) || jinja_is_numeric(c);
}

static bool is_ascii(uint32_t c)
{
    return c < 128;
}

/* All characters are; what an empty string is */
static bool all(struct jinja *j, const struct jinja_string *s, bool (*is)(uint32_t c), bool empty,
                struct jinja_value *out)
{
    bool yes = s->n ? true : empty;
    if (!jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n && yes; i += n)
        yes = is(jinja_char_at(s, i, &n));
    *out = jinja_bool(yes);
    return true;
}

#define ALL_METHOD(name, is, empty)                                                                \
    bool jinja_str_##name(struct jinja *j, struct jinja_value self, const struct jinja_args *args, \
                          struct jinja_value *out)                                                 \
    {                                                                                              \
        return jinja_positional(j, "str", #name, 0, 0, args) &&                                    \
               all(j, self.string, is, empty, out);                                                \
    }
ALL_METHOD(isalpha, jinja_is_alpha, false)
ALL_METHOD(isalnum, is_alnum, false)
ALL_METHOD(isdigit, jinja_is_digit, false)
ALL_METHOD(isdecimal, jinja_is_decimal, false)
ALL_METHOD(isnumeric, jinja_is_numeric, false)
ALL_METHOD(isspace, jinja_is_space, false)
ALL_METHOD(isascii, is_ascii, true)
ALL_METHOD(isprintable, jinja_is_printable, true)

/* A cased character, and none of the other case */
static bool one_case(struct jinja *j, const struct jinja_string *s, bool upper,
                     struct jinja_value *out)
{
    bool cased = false;
    *out = jinja_bool(false);
    if (!jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        if (jinja_is_title(c) || (upper ? jinja_is_lower(c) : jinja_is_upper(c)))
            return true;
        cased |= upper ? jinja_is_upper(c) : jinja_is_lower(c);
    }
    *out = jinja_bool(cased);
    return true;
}

bool jinja_str_isupper(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    return jinja_positional(j, "str", "isupper", 0, 0, args) && one_case(j, self.string, true, out);
}

bool jinja_str_islower(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    return jinja_positional(j, "str", "islower", 0, 0, args) &&
           one_case(j, self.string, false, out);
}

bool jinja_str_istitle(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                       struct jinja_value *out)
{
    const struct jinja_string *s = self.string;
    bool cased = false, after_cased = false;
    *out = jinja_bool(false);
    if (!jinja_positional(j, "str", "istitle", 0, 0, args) || !jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        bool big = jinja_is_upper(c) || jinja_is_title(c), small = jinja_is_lower(c);
        if ((big && after_cased) || (small && !after_cased))
            return true;
        after_cased = big || small;
        cased |= after_cased;
    }
    *out = jinja_bool(cased);
    return true;
}

bool jinja_str_isidentifier(struct jinja *j, struct jinja_value self, const struct jinja_args *args,
                            struct jinja_value *out)
{
    const struct jinja_string *s = self.string;
    bool yes = s->n > 0;
    if (!jinja_positional(j, "str", "isidentifier", 0, 0, args) || !jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n && yes; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        yes = c == '_' || jinja_is_alpha(c) || (i && jinja_is_decimal(c));
    }
    *out = jinja_bool(yes);
    return true;
}
