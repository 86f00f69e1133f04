/* Case as str's methods change it: Unicode's full mappings, the origin of a character going to all
 * that it becomes. */
#include "jinja_filters.h"

#include <utf8proc.h>

/* ---- one character ---- */

enum { CASE_MAX = 3 }; /* characters that one becomes */

struct range {
    uint32_t first, last;
};

/* Other_Lowercase */
static const struct range other_lower[] = {
    {0xaa, 0xaa},       {0xba, 0xba},       {0x2b0, 0x2b8},     {0x2c0, 0x2c1},
    {0x2e0, 0x2e4},     {0x345, 0x345},     {0x37a, 0x37a},     {0x1d2c, 0x1d6a},
    {0x1d78, 0x1d78},   {0x1d9b, 0x1dbf},   {0x2071, 0x2071},   {0x207f, 0x207f},
    {0x2090, 0x209c},   {0x2170, 0x217f},   {0x24d0, 0x24e9},   {0x2c7c, 0x2c7d},
    {0xa69c, 0xa69d},   {0xa770, 0xa770},   {0xa7f8, 0xa7f9},   {0xab5c, 0xab5f},
    {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba},
};

/* Other_Uppercase */
static const struct range other_upper[] = {
    {0x2160, 0x216f}, {0x24b6, 0x24cf}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189},
};

/* These become what their parts become (ligatures, letters with marks). */
static const struct range composed[] = {
    {0x149, 0x149},   {0x1f0, 0x1f0},   {0x390, 0x390},   {0x3b0, 0x3b0},   {0x587, 0x587},
    {0x1e96, 0x1e9a}, {0x1f50, 0x1f50}, {0x1f52, 0x1f52}, {0x1f54, 0x1f54}, {0x1f56, 0x1f56},
    {0x1fb6, 0x1fb6}, {0x1fc6, 0x1fc6}, {0x1fd2, 0x1fd3}, {0x1fd6, 0x1fd7}, {0x1fe2, 0x1fe4},
    {0x1fe6, 0x1fe7}, {0x1ff6, 0x1ff6}, {0xfb00, 0xfb06}, {0xfb13, 0xfb17},
};

/* The other ones of SpecialCasing.txt that become several; 0x1f80 to 0x1faf go by rule. */
static const struct special {
    uint32_t c, upper[CASE_MAX], title[CASE_MAX];
} specials[] = {
    {0xdf, {0x53, 0x53}, {0x53, 0x73}},
    {0x1fb2, {0x1fba, 0x399}, {0x1fba, 0x345}},
    {0x1fb3, {0x391, 0x399}, {0x1fbc}},
    {0x1fb4, {0x386, 0x399}, {0x386, 0x345}},
    {0x1fb7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}},
    {0x1fbc, {0x391, 0x399}, {0x1fbc}},
    {0x1fc2, {0x1fca, 0x399}, {0x1fca, 0x345}},
    {0x1fc3, {0x397, 0x399}, {0x1fcc}},
    {0x1fc4, {0x389, 0x399}, {0x389, 0x345}},
    {0x1fc7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}},
    {0x1fcc, {0x397, 0x399}, {0x1fcc}},
    {0x1ff2, {0x1ffa, 0x399}, {0x1ffa, 0x345}},
    {0x1ff3, {0x3a9, 0x399}, {0x1ffc}},
    {0x1ff4, {0x38f, 0x399}, {0x38f, 0x345}},
    {0x1ff7, {0x3a9, 0x342, 0x399}, {0x3a9, 0x342, 0x345}},
    {0x1ffc, {0x3a9, 0x399}, {0x1ffc}},
};

static bool in_ranges(uint32_t c, const struct range *ranges, size_t count)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && c >= ranges[low].first;
}
#define IN_RANGES(c, table) in_ranges(c, table, sizeof(table) / sizeof *(table))

static bool is_cased(uint32_t c)
{
    if (c < 128)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT) || IN_RANGES(c, other_lower) ||
           IN_RANGES(c, other_upper);
}

static bool is_ignorable(uint32_t c)
{
    static const struct range others[] = {
        {0x27, 0x27},     {0x2e, 0x2e},     {0x3a, 0x3a},     {0xb7, 0xb7},
        {0x387, 0x387},   {0x55f, 0x55f},   {0x5f4, 0x5f4},   {0x2018, 0x2019},
        {0x2024, 0x2024}, {0x2027, 0x2027}, {0xfe13, 0xfe13}, {0xfe52, 0xfe52},
        {0xfe55, 0xfe55}, {0xff07, 0xff07}, {0xff0e, 0xff0e}, {0xff1a, 0xff1a}};
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || IN_RANGES(c, others);
}

/* Part by part; of a title the first that has an upper case. */
static int upper_parts(uint32_t c, bool title, uint32_t out[CASE_MAX])
{
    utf8proc_int32_t parts[8];
    int boundary = 0;
    bool done = false;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 8,
                                                 UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    tp_assert(n > 0 && n <= CASE_MAX);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        out[i] = (uint32_t)(done && title ? parts[i] : utf8proc_toupper(parts[i]));
        done |= out[i] != (uint32_t)parts[i];
    }
    return (int)n;
}

static int to_upper(uint32_t c, bool title, uint32_t out[CASE_MAX])
{
    int n = 0;
    out[0] = c >= 'a' && c <= 'z' ? c - 32 : c;
    if (c < 128)
        return 1;
    if (IN_RANGES(c, composed))
        return upper_parts(c, title, out);
    if (c >= 0x1f80 && c <= 0x1faf) { /* Greek with an iota below, of which upper case makes one */
        static const uint32_t bases[] = {0x1f08, 0x1f28, 0x1f68};
        out[0] = title ? c | 8 : bases[(c - 0x1f80) / 16] + (c & 7);
        out[1] = 0x399;
        return title ? 1 : 2;
    }
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        if (specials[i].c != c)
            continue;
        const uint32_t *to = title ? specials[i].title : specials[i].upper;
        for (; n < CASE_MAX && to[n]; n++)
            out[n] = to[n];
        return n;
    }
    out[0] = (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)c)
                              : utf8proc_toupper((utf8proc_int32_t)c));
    return 1;
}

static int to_lower(uint32_t c, uint32_t out[CASE_MAX])
{
    out[0] = c < 128 ? (c >= 'A' && c <= 'Z' ? c + 32 : c)
                     : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    if (c != 0x130)
        return 1;
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
}

/* ---- strings ---- */

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
        if (is_ignorable(c) && at - i < 64)
            continue;
        before = is_cased(c);
        break;
    }
    size_t n;
    jinja_char_at(s, at, &n);
    for (size_t i = at + n; before && i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n);
        if (is_ignorable(c) && i - at < 64)
            continue;
        return is_cased(c) ? 0x3c3 : 0x3c2;
    }
    return before ? 0x3c2 : 0x3c3;
}

static int lower_in(const struct jinja_string *s, size_t at, uint32_t c, uint32_t out[CASE_MAX])
{
    if (c != 0x3a3)
        return to_lower(c, out);
    out[0] = lower_sigma(s, at);
    return 1;
}

bool jinja_change_case(struct jinja *j, const struct jinja_string *s, enum jinja_case how,
                       struct jinja_value *out)
{
    struct pen pen = {.n = 0};
    bool after_cased = false;
    if (!jinja_spend_bytes(j, s->n))
        return false;
    for (size_t i = 0, n; i < s->n; i += n) {
        uint32_t c = jinja_char_at(s, i, &n), to[CASE_MAX];
        bool small = how == JINJA_LOWER || (how == JINJA_TITLE && after_cased) ||
                     (how == JINJA_CAPITALIZE && i);
        int count = small ? lower_in(s, i, c, to) : to_upper(c, how != JINJA_UPPER, to);
        after_cased = how == JINJA_TITLE && is_cased(c);
        if (!pen_add(j, &pen, to, count, jinja_mark_at(s, i)))
            return false;
    }
    return pen_flush(j, &pen) && jinja_build(j, &pen.text, out);
}
