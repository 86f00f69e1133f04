/* Strings with the origin of each byte, and the builder that every text is made with. */
#include "jinja_inside.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

const struct jinja_string jinja_space = {.bytes = " ", .n = 1, .n_chars = 1};

size_t jinja_count_chars(const char *bytes, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return count;
}

bool jinja_make_string(struct jinja *j, const char *bytes, size_t n, bool data,
                       struct jinja_value *out)
{
    if (!jinja_spend_bytes(j, n))
        return false;
    struct jinja_string *s = jinja_alloc(j, sizeof *s + n + 1);
    if (!s)
        return false;
    char *copy = (char *)(s + 1);
    if (n)
        memcpy(copy, bytes, n);
    s->bytes = copy;
    s->n = n;
    s->n_chars = jinja_count_chars(bytes, n);
    s->data = data;
    *out = jinja_of_string(s);
    return true;
}

bool jinja_text_value(struct jinja *j, const char *text, struct jinja_value *out)
{
    return jinja_make_string(j, text, strlen(text), false, out);
}

bool jinja_substring(struct jinja *j, const struct jinja_string *s, size_t begin, size_t end,
                     struct jinja_value *out)
{
    tp_assert(begin <= end && end <= s->n);
    if (!jinja_spend_bytes(j, s->n == s->n_chars ? 0 : end - begin))
        return false;
    struct jinja_string *part = jinja_alloc(j, sizeof *part);
    if (!part)
        return false;
    *part = *s;
    part->bytes += begin;
    part->n = end - begin;
    part->n_chars =
        s->n == s->n_chars ? end - begin : jinja_count_chars(s->bytes + begin, end - begin);
    if (s->marks)
        part->marks += begin;
    *out = jinja_of_string(part);
    return true;
}

bool jinja_same_string(const struct jinja_string *a, const struct jinja_string *b)
{
    return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

bool jinja_string_is(const struct jinja_string *s, const char *text)
{
    return s->n == strlen(text) && memcmp(s->bytes, text, s->n) == 0;
}

bool jinja_byte_of(struct jinja *j, const struct jinja_string *s, size_t index, size_t *byte)
{
    tp_assert(index <= s->n_chars);
    if (s->n == s->n_chars || index == 0) {
        *byte = index;
        return true;
    }
    if (index == s->n_chars) {
        *byte = s->n;
        return true;
    }
    if (!jinja_spend_bytes(j, s->n))
        return false;
    size_t at = 0;
    for (size_t i = 0; i < index; i++)
        do
            at++;
        while (((unsigned char)s->bytes[at] & 0xc0) == 0x80);
    *byte = at;
    return true;
}

uint32_t jinja_char_at(const struct jinja_string *s, size_t i, size_t *n)
{
    const unsigned char *at = (const unsigned char *)s->bytes + i;
    *n = utf8_length(at, s->n - i);
    tp_assert(*n > 0);
    return utf8_decode(at, *n);
}

size_t jinja_before(const struct jinja_string *s, size_t i)
{
    do
        i--;
    while (i > 0 && ((unsigned char)s->bytes[i] & 0xc0) == 0x80);
    return i;
}

/* ---- characters, as Python's str sees them ---- */

bool jinja_is_space(uint32_t c)
{
    return utf8_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

bool jinja_is_printable(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return c == ' ' || (k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS);
}

bool jinja_is_decimal(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

/* Decimal digits stand in runs of ten, the first divisible from the run's begin. */
int jinja_decimal_digit(uint32_t c)
{
    if (c < 128)
        return c >= '0' && c <= '9' ? (int)(c - '0') : -1;
    if (!jinja_is_decimal(c))
        return -1;
    uint32_t first = c;
    while (jinja_is_decimal(first - 1))
        first--;
    return (int)((c - first) % 10);
}

/* ---- the builder ---- */

static bool builder_grow(struct jinja *j, struct jinja_builder *b, size_t n)
{
    if (n > JINJA_MEMORY_MAX)
        return jinja_alloc(j, n) != NULL; /* which refuses */
    if (b->n + n <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap * 2 : 32;
    if (cap < b->n + n)
        cap = b->n + n;
    char *bytes = jinja_alloc(j, cap);
    unsigned char *marks = bytes && b->marks ? jinja_alloc(j, cap) : NULL;
    if (!bytes || (b->marks && !marks))
        return false;
    if (b->n)
        memcpy(bytes, b->bytes, b->n);
    if (b->n && marks)
        memcpy(marks, b->marks, b->n);
    b->bytes = bytes;
    b->marks = marks;
    b->cap = cap;
    return true;
}

/* From now on every byte has its own mark. */
static bool builder_split(struct jinja *j, struct jinja_builder *b)
{
    if (b->marks)
        return true;
    b->marks = jinja_alloc(j, b->cap);
    if (!b->marks)
        return false;
    memset(b->marks, b->data, b->n);
    return true;
}

bool jinja_add(struct jinja *j, struct jinja_builder *b, const char *bytes, size_t n, bool data)
{
    if (n == 0)
        return true;
    if (!jinja_spend_bytes(j, n) || !builder_grow(j, b, n))
        return false;
    if (b->n == 0)
        b->data = data;
    if (b->data != data && !builder_split(j, b))
        return false;
    memcpy(b->bytes + b->n, bytes, n);
    if (b->marks)
        memset(b->marks + b->n, data, n);
    b->n += n;
    return true;
}

bool jinja_add_part(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                    size_t begin, size_t end)
{
    size_t n = end - begin;
    if (!s->marks || n == 0)
        return jinja_add(j, b, s->bytes + begin, n, s->data);
    size_t at = b->n;
    if (!jinja_add(j, b, s->bytes + begin, n, s->marks[begin] != 0))
        return false;
    if (!b->marks && !memchr(s->marks + begin, !s->marks[begin], n))
        return true;
    if (!builder_split(j, b))
        return false;
    memcpy(b->marks + at, s->marks + begin, n);
    return true;
}

bool jinja_add_string(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s)
{
    return jinja_add_part(j, b, s, 0, s->n);
}

bool jinja_add_text(struct jinja *j, struct jinja_builder *b, const char *text)
{
    return jinja_add(j, b, text, strlen(text), false);
}

bool jinja_add_fill(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                    uint64_t times)
{
    if (s->n == 0 || times == 0)
        return true;
    if (times > JINJA_MEMORY_MAX / s->n)
        return jinja_alloc(j, JINJA_MEMORY_MAX + 1) != NULL; /* which refuses */
    if (!jinja_spend_bytes(j, times * s->n) || !builder_grow(j, b, times * s->n) ||
        !jinja_add_string(j, b, s))
        return false;
    for (uint64_t i = 1; i < times; i++) {
        memcpy(b->bytes + b->n, s->bytes, s->n);
        if (b->marks && s->marks)
            memcpy(b->marks + b->n, s->marks, s->n);
        else if (b->marks)
            memset(b->marks + b->n, s->data, s->n);
        b->n += s->n;
    }
    return true;
}

bool jinja_build(struct jinja *j, struct jinja_builder *b, struct jinja_value *out)
{
    struct jinja_string *s = jinja_alloc(j, sizeof *s);
    if (!s || !jinja_spend_bytes(j, b->n))
        return false;
    s->bytes = b->n ? b->bytes : "";
    s->n = b->n;
    s->n_chars = jinja_count_chars(s->bytes, s->n);
    s->marks = b->n ? b->marks : NULL;
    s->data = b->n ? b->data : false;
    *b = (struct jinja_builder){0};
    *out = jinja_of_string(s);
    return true;
}

/* ---- Markup ---- */

static bool set_safe(struct jinja *j, struct jinja_value v, bool safe, struct jinja_value *out)
{
    *out = v;
    if (v.string->safe == safe)
        return true;
    struct jinja_string *s = jinja_alloc(j, sizeof *s);
    if (!s)
        return false;
    *s = *v.string;
    s->safe = safe;
    *out = jinja_of_string(s);
    return true;
}

bool jinja_mark_safe(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    return set_safe(j, v, true, out);
}

bool jinja_unmark_safe(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    return set_safe(j, v, false, out);
}

bool jinja_add_spelled(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                       jinja_speller *spell, int how)
{
    size_t begin = 0;
    for (size_t i = 0, n; i < s->n; i += n) {
        char text[JINJA_SPELLED_MAX];
        int length = spell(jinja_char_at(s, i, &n), how, text);
        if (length == 0)
            continue;
        if (!jinja_add_part(j, b, s, begin, i) ||
            !jinja_add(j, b, text, (size_t)length, jinja_mark_at(s, i)))
            return false;
        begin = i + n;
    }
    return jinja_add_part(j, b, s, begin, s->n);
}

static int spell_entity(uint32_t c, int how, char out[JINJA_SPELLED_MAX])
{
    static const char plain[] = "&<>'\"", *const entities[] = {"&amp;", "&lt;", "&gt;", "&#39;",
                                                               "&#34;"};
    const char *place = c && c < 128 ? strchr(plain, (int)c) : NULL;
    (void)how;
    return place ? snprintf(out, JINJA_SPELLED_MAX, "%s", entities[place - plain]) : 0;
}

bool jinja_add_escaped(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s)
{
    return s->safe ? jinja_add_string(j, b, s) : jinja_add_spelled(j, b, s, spell_entity, 0);
}

/* ---- strings in messages ---- */

const char *jinja_string_text(struct jinja *j, const struct jinja_string *s)
{
    char *text = jinja_alloc(j, s->n + 1);
    if (!text)
        return "";
    memcpy(text, s->bytes, s->n);
    return text;
}

const char *jinja_repr_text(struct jinja *j, struct jinja_value v)
{
    struct jinja_value text;
    return jinja_repr(j, v, &text) ? jinja_string_text(j, text.string) : "";
}

bool jinja_to_string(struct jinja *j, struct jinja_value v, const struct jinja_string **out)
{
    struct jinja_value text;
    if (!jinja_str(j, v, &text))
        return false;
    *out = text.string;
    return true;
}

/* memmem is linear (two-way) for long needles and bounded by a small factor for short ones */
bool jinja_find(struct jinja *j, const struct jinja_string *s, const struct jinja_string *needle,
                size_t from, size_t *at)
{
    if (from > s->n || needle->n > s->n - from) {
        *at = s->n;
        return true;
    }
    const char *found = memmem(s->bytes + from, s->n - from, needle->bytes, needle->n);
    *at = found ? (size_t)(found - s->bytes) : s->n;
    size_t walked = (found ? *at + needle->n : s->n) - from;
    return jinja_spend(j, walked / JINJA_BYTES_PER_STEP);
}
