#include "unicode_form.h"

#include "mem.h"
#include "utf8.h"
#include <string.h>
#include <utf8proc.h>

enum {
    FIRST_MARK = 0x300, /* no character below changes under NFC, orders or composes */
    EXPANSION_MAX = 32, /* characters one decomposes to; Unicode has 18 */
    SHORT_RUN = 24,     /* marks that insertion orders */
};

struct range {
    uint32_t first, last;
};

/* Characters with a combining class or a decomposition in utf8proc's tables and none in the
 * reference's, found by asking both for every code point (scripts/normalizer_diff.py); the ranges
 * span characters that have neither. */
static const struct range newer[] = {
    {0x7fd, 0x7fd},     {0x898, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},
    {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},
    {0xab69, 0xab69},   {0x10781, 0x107ba}, {0x10d24, 0x10f85}, {0x11070, 0x11070},
    {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x11a99}, {0x11d42, 0x11f42},
    {0x16ff0, 0x16ff1}, {0x1e030, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

/* Characters without a combining class that a character before them can take in (Unicode promises
 * that no older one will join them). */
static const struct range joiners[] = {
    {0x9be, 0x9be},     {0x9d7, 0x9d7},     {0xb3e, 0xb3e},     {0xb56, 0xb57},
    {0xbbe, 0xbbe},     {0xbd7, 0xbd7},     {0xcc2, 0xcc2},     {0xcd5, 0xcd6},
    {0xd3e, 0xd3e},     {0xd57, 0xd57},     {0xdcf, 0xdcf},     {0xddf, 0xddf},
    {0x102e, 0x102e},   {0x1161, 0x1175},   {0x11a8, 0x11c2},   {0x1b35, 0x1b35},
    {0x11127, 0x11127}, {0x1133e, 0x1133e}, {0x11357, 0x11357}, {0x114b0, 0x114b0},
    {0x114ba, 0x114ba}, {0x114bd, 0x114bd}, {0x115af, 0x115af}, {0x11930, 0x11930},
};

/* Characters that compose again to themselves and are frequent: Latin, Cyrillic, Vietnamese, kana.
 * Others that decompose are decomposed and composed to find out. */
static const struct range composed[] = {
    {0xc0, 0x131},    {0x134, 0x13e},   {0x141, 0x148},   {0x14a, 0x17e},   {0x400, 0x482},
    {0x1e00, 0x1e99}, {0x1ea0, 0x1eff}, {0x3041, 0x3098}, {0x309d, 0x309e}, {0x30a0, 0x30fe},
};

#define IN(ranges, c) in_ranges(ranges, sizeof(ranges) / sizeof *(ranges), c)

static bool in_ranges(const struct range *ranges, size_t count, uint32_t c)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > ranges[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && c >= ranges[low].first;
}

static bool is_newer(uint32_t c)
{
    return c >= newer[0].first && IN(newer, c);
}

static bool composes(enum unicode_form form)
{
    return form == UNICODE_NFC || form == UNICODE_NFKC;
}

static bool compatible(enum unicode_form form)
{
    return form == UNICODE_NFKC || form == UNICODE_NFKD;
}

/* Does c stand as it is in this form, whatever stands around it but marks behind it? A text may be
 * cut before it. */
static bool is_settled(enum unicode_form form, uint32_t c)
{
    if (c < 0x80 || (form == UNICODE_NFC && c < FIRST_MARK))
        return true;
    bool hangul = c >= 0xac00 && c <= 0xd7a3;
    if (composes(form) && (hangul || IN(composed, c)))
        return true;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    bool splits = p->decomp_seqindex != UINT16_MAX && (compatible(form) || !p->decomp_type);
    bool joins = composes(form) && IN(joiners, c);
    return (p->combining_class == 0 && !splits && !hangul && !joins) || is_newer(c);
}

/* ---- one stretch of text that is not settled ---- */

struct stretch {
    utf8proc_int32_t *chars, *sorted;
    size_t n, cap, sorted_cap;
};

static void stretch_free(struct stretch *s)
{
    mem_free(s->chars);
    mem_free(s->sorted);
}

static unsigned class_of(utf8proc_int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class & 0xff;
}

static bool decompose(struct stretch *s, enum unicode_form form, const unsigned char *text,
                      size_t n, struct tp_error *err)
{
    int option = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible(form) ? UTF8PROC_COMPAT : 0);
    s->n = 0;
    for (size_t at = 0, k; at < n; at += k) {
        int boundary = 0;
        k = utf8_length(text + at, n - at);
        tp_assert(k);
        if (!mem_grow((void **)&s->chars, &s->cap, s->n + EXPANSION_MAX, sizeof *s->chars, err))
            return false;
        utf8proc_ssize_t count =
            utf8proc_decompose_char((utf8proc_int32_t)utf8_decode(text + at, k), s->chars + s->n,
                                    EXPANSION_MAX, (utf8proc_option_t)option, &boundary);
        tp_assert(count >= 0 && count <= EXPANSION_MAX);
        s->n += (size_t)count;
    }
    return true;
}

/* Stable, by combining class, which is not 0. */
static bool order_run(struct stretch *s, utf8proc_int32_t *run, size_t n, struct tp_error *err)
{
    if (n <= SHORT_RUN) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t c = run[i];
            size_t j = i;
            for (; j && class_of(run[j - 1]) > class_of(c); j--)
                run[j] = run[j - 1];
            run[j] = c;
        }
        return true;
    }
    size_t begin[257] = {0};
    if (!mem_grow((void **)&s->sorted, &s->sorted_cap, n, sizeof *s->sorted, err))
        return false;
    for (size_t i = 0; i < n; i++)
        begin[class_of(run[i]) + 1]++;
    for (size_t i = 1; i < 257; i++)
        begin[i] += begin[i - 1];
    for (size_t i = 0; i < n; i++)
        s->sorted[begin[class_of(run[i])]++] = run[i];
    memcpy(run, s->sorted, n * sizeof *run);
    return true;
}

static bool order(struct stretch *s, struct tp_error *err)
{
    for (size_t i = 0, begin; i < s->n; i++) {
        for (begin = i; i < s->n && class_of(s->chars[i]); i++)
            ;
        if (i > begin + 1 && !order_run(s, s->chars + begin, i - begin, err))
            return false;
    }
    return true;
}

static bool add_stretch(struct stretch *s, enum unicode_form form, const unsigned char *text,
                        size_t n, struct tp_text *out, struct tp_error *err)
{
    if (!decompose(s, form, text, n, err) || !order(s, err))
        return false;
    if (composes(form)) {
        utf8proc_ssize_t left = utf8proc_normalize_utf32(s->chars, (utf8proc_ssize_t)s->n,
                                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        tp_assert(left >= 0 && (size_t)left <= s->n);
        s->n = (size_t)left;
    }
    for (size_t i = 0; i < s->n; i++) {
        unsigned char bytes[4];
        size_t k = utf8_encode((uint32_t)s->chars[i], bytes);
        if (!tp_text_add(out, (char *)bytes, k, err))
            return false;
    }
    return true;
}

/* ---- the text ---- */

static size_t skip_ascii(const unsigned char *s, size_t at, size_t n)
{
    uint64_t eight;
    for (; n - at >= 8; at += 8) {
        memcpy(&eight, s + at, 8);
        if (eight & 0x8080808080808080u)
            break;
    }
    while (at < n && s[at] < 0x80)
        at++;
    return at;
}

/* The first character at or after `at` that is not settled; *last: the last settled one before it
 * that it may join. */
static size_t find_unsettled(enum unicode_form form, const unsigned char *s, size_t at, size_t n,
                             size_t *last)
{
    *last = at;
    while (at < n) {
        size_t after = skip_ascii(s, at, n);
        if (after > at)
            *last = after - 1;
        if (after == n)
            return n;
        size_t k = utf8_length(s + after, n - after);
        tp_assert(k);
        uint32_t c = utf8_decode(s + after, k);
        if (!is_settled(form, c))
            return after;
        *last = after + (is_newer(c) ? k : 0);
        at = after + k;
    }
    return n;
}

/* The next settled character: up to it, what stands at `at` is one stretch. */
static size_t find_settled(enum unicode_form form, const unsigned char *s, size_t at, size_t n)
{
    for (size_t k; at < n; at += k) {
        k = utf8_length(s + at, n - at);
        tp_assert(k);
        if (is_settled(form, utf8_decode(s + at, k)))
            break;
    }
    return at;
}

bool unicode_form_add(enum unicode_form form, const char *text, size_t n, struct tp_text *out,
                      struct tp_error *err)
{
    const unsigned char *s = (const unsigned char *)text;
    struct stretch stretch = {0};
    bool ok = true;
    for (size_t at = 0, begin, end; ok && at < n; at = end) {
        end = find_unsettled(form, s, at, n, &begin);
        if (end == n)
            begin = n;
        else
            end = find_settled(form, s, end, n);
        ok = tp_text_add(out, text + at, begin - at, err) &&
             add_stretch(&stretch, form, s + begin, end - begin, out, err);
    }
    stretch_free(&stretch);
    return ok;
}
