#include "onig_pattern.h"

#include "mem.h"
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Characters that Unicode 15 and 16 added, by general category (or its first letter, where no
 * pattern asks for more), as tokenizers 0.23.3 classes them; "17": numeric in Rust's tables of
 * Unicode 17. */
static const struct {
    uint32_t first, last;
    char category[3];
} since_unicode_14[] = {
    {0x1c89, 0x1c89, "Lu"}, {0xa7cb, 0xa7cc, "Lu"}, {0xa7da, 0xa7da, "Lu"},
    {0xa7dc, 0xa7dc, "Lu"}, {0x10d50, 0x10d65, "Lu"}, {0x1c8a, 0x1c8a, "Ll"},
    {0xa7cd, 0xa7cd, "Ll"}, {0xa7db, 0xa7db, "Ll"}, {0x10d70, 0x10d85, "Ll"},
    {0x1df25, 0x1df2a, "Ll"}, {0x10d4e, 0x10d4e, "Lm"}, {0x10d6f, 0x10d6f, "Lm"},
    {0x16d40, 0x16d42, "Lm"}, {0x16d6b, 0x16d6c, "Lm"}, {0x1e030, 0x1e06d, "Lm"},
    {0x1e4eb, 0x1e4eb, "Lm"}, {0x105c0, 0x105f3, "Lo"}, {0x10d4a, 0x10d4d, "Lo"},
    {0x10d4f, 0x10d4f, "Lo"}, {0x10ec2, 0x10ec4, "Lo"}, {0x1123f, 0x11240, "Lo"},
    {0x11380, 0x11389, "Lo"}, {0x1138b, 0x1138b, "Lo"}, {0x1138e, 0x1138e, "Lo"},
    {0x11390, 0x113b5, "Lo"}, {0x113b7, 0x113b7, "Lo"}, {0x113d1, 0x113d1, "Lo"},
    {0x113d3, 0x113d3, "Lo"}, {0x11bc0, 0x11be0, "Lo"}, {0x11f02, 0x11f02, "Lo"},
    {0x11f04, 0x11f10, "Lo"}, {0x11f12, 0x11f33, "Lo"}, {0x1342f, 0x1342f, "Lo"},
    {0x13441, 0x13446, "Lo"}, {0x13460, 0x143fa, "Lo"}, {0x16100, 0x1611d, "Lo"},
    {0x16d43, 0x16d6a, "Lo"}, {0x18cff, 0x18cff, "Lo"}, {0x1b132, 0x1b132, "Lo"},
    {0x1b155, 0x1b155, "Lo"}, {0x1e4d0, 0x1e4ea, "Lo"}, {0x1e5d0, 0x1e5ed, "Lo"},
    {0x1e5f0, 0x1e5f0, "Lo"}, {0x2b739, 0x2b739, "Lo"}, {0x2ebf0, 0x2ee5d, "Lo"},
    {0x31350, 0x323af, "Lo"}, {0x897, 0x897, "M"}, {0xcf3, 0xcf3, "M"}, {0xece, 0xece, "M"},
    {0x10d69, 0x10d6d, "M"}, {0x10efc, 0x10eff, "M"}, {0x11241, 0x11241, "M"},
    {0x113b8, 0x113c0, "M"}, {0x113c2, 0x113c2, "M"}, {0x113c5, 0x113c5, "M"},
    {0x113c7, 0x113ca, "M"}, {0x113cc, 0x113d0, "M"}, {0x113d2, 0x113d2, "M"},
    {0x113e1, 0x113e2, "M"}, {0x11f00, 0x11f01, "M"}, {0x11f03, 0x11f03, "M"},
    {0x11f34, 0x11f3a, "M"}, {0x11f3e, 0x11f42, "M"}, {0x11f5a, 0x11f5a, "M"},
    {0x13440, 0x13440, "M"}, {0x13447, 0x13455, "M"}, {0x1611e, 0x1612f, "M"},
    {0x1e08f, 0x1e08f, "M"}, {0x1e4ec, 0x1e4ef, "M"}, {0x1e5ee, 0x1e5ef, "M"},
    {0x10d40, 0x10d49, "Nd"}, {0x116d0, 0x116e3, "Nd"}, {0x11bf0, 0x11bf9, "Nd"},
    {0x11f50, 0x11f59, "Nd"}, {0x16130, 0x16139, "Nd"}, {0x16d70, 0x16d79, "Nd"},
    {0x1ccf0, 0x1ccf9, "Nd"}, {0x1e4f0, 0x1e4f9, "Nd"}, {0x1e5f1, 0x1e5fa, "Nd"},
    {0x1d2c0, 0x1d2d3, "No"}, {0x1b4e, 0x1b4f, "P"}, {0x1b7f, 0x1b7f, "P"},
    {0x10d6e, 0x10d6e, "P"}, {0x113d4, 0x113d5, "P"}, {0x113d7, 0x113d8, "P"},
    {0x11b00, 0x11b09, "P"}, {0x11be1, 0x11be1, "P"}, {0x11f43, 0x11f4f, "P"},
    {0x16d6d, 0x16d6f, "P"}, {0x1e5ff, 0x1e5ff, "P"}, {0x2427, 0x2429, "S"},
    {0x2ffc, 0x2fff, "S"}, {0x31e4, 0x31e5, "S"}, {0x31ef, 0x31ef, "S"}, {0x10d8e, 0x10d8f, "S"},
    {0x1cc00, 0x1ccef, "S"}, {0x1cd00, 0x1ceb3, "S"}, {0x1f6dc, 0x1f6dc, "S"},
    {0x1f774, 0x1f776, "S"}, {0x1f77b, 0x1f77f, "S"}, {0x1f7d9, 0x1f7d9, "S"},
    {0x1f8b2, 0x1f8bb, "S"}, {0x1f8c0, 0x1f8c1, "S"}, {0x1fa75, 0x1fa77, "S"},
    {0x1fa87, 0x1fa89, "S"}, {0x1fa8f, 0x1fa8f, "S"}, {0x1faad, 0x1faaf, "S"},
    {0x1fabb, 0x1fabf, "S"}, {0x1fac6, 0x1fac6, "S"}, {0x1face, 0x1facf, "S"},
    {0x1fada, 0x1fadc, "S"}, {0x1fadf, 0x1fadf, "S"}, {0x1fae8, 0x1fae9, "S"},
    {0x1faf7, 0x1faf8, "S"}, {0x1fbcb, 0x1fbef, "S"}, {0x11de0, 0x11de9, "17"},
    {0x16ff4, 0x16ff6, "17"},
};

static const struct {
    uint32_t first, last;
} white_space[] = {
    {0x09, 0x0d},     {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
    {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
};
enum { WHITE_SPACES = sizeof white_space / sizeof *white_space, UNICODE_LAST = 0x10ffff };

/* What Punctuation cuts at: ASCII punctuation and the categories P of an older Unicode, as
 * tokenizers 0.23.3 has them. */
static const struct {
    uint32_t first, last;
} punctuation[] = {
    {0x21, 0x2f}, {0x3a, 0x40}, {0x5b, 0x60}, {0x7b, 0x7e}, {0xa1, 0xa1}, {0xa7, 0xa7},
    {0xab, 0xab}, {0xb6, 0xb7}, {0xbb, 0xbb}, {0xbf, 0xbf}, {0x37e, 0x37e}, {0x387, 0x387},
    {0x55a, 0x55f}, {0x589, 0x58a}, {0x5be, 0x5be}, {0x5c0, 0x5c0}, {0x5c3, 0x5c3},
    {0x5c6, 0x5c6}, {0x5f3, 0x5f4}, {0x609, 0x60a}, {0x60c, 0x60d}, {0x61b, 0x61b},
    {0x61e, 0x61f}, {0x66a, 0x66d}, {0x6d4, 0x6d4}, {0x700, 0x70d}, {0x7f7, 0x7f9},
    {0x830, 0x83e}, {0x85e, 0x85e}, {0x964, 0x965}, {0x970, 0x970}, {0xaf0, 0xaf0},
    {0xdf4, 0xdf4}, {0xe4f, 0xe4f}, {0xe5a, 0xe5b}, {0xf04, 0xf12}, {0xf14, 0xf14},
    {0xf3a, 0xf3d}, {0xf85, 0xf85}, {0xfd0, 0xfd4}, {0xfd9, 0xfda}, {0x104a, 0x104f},
    {0x10fb, 0x10fb}, {0x1360, 0x1368}, {0x1400, 0x1400}, {0x166d, 0x166e}, {0x169b, 0x169c},
    {0x16eb, 0x16ed}, {0x1735, 0x1736}, {0x17d4, 0x17d6}, {0x17d8, 0x17da}, {0x1800, 0x180a},
    {0x1944, 0x1945}, {0x1a1e, 0x1a1f}, {0x1aa0, 0x1aa6}, {0x1aa8, 0x1aad}, {0x1b5a, 0x1b60},
    {0x1bfc, 0x1bff}, {0x1c3b, 0x1c3f}, {0x1c7e, 0x1c7f}, {0x1cc0, 0x1cc7}, {0x1cd3, 0x1cd3},
    {0x2010, 0x2027}, {0x2030, 0x2043}, {0x2045, 0x2051}, {0x2053, 0x205e}, {0x207d, 0x207e},
    {0x208d, 0x208e}, {0x2308, 0x230b}, {0x2329, 0x232a}, {0x2768, 0x2775}, {0x27c5, 0x27c6},
    {0x27e6, 0x27ef}, {0x2983, 0x2998}, {0x29d8, 0x29db}, {0x29fc, 0x29fd}, {0x2cf9, 0x2cfc},
    {0x2cfe, 0x2cff}, {0x2d70, 0x2d70}, {0x2e00, 0x2e2e}, {0x2e30, 0x2e42}, {0x3001, 0x3003},
    {0x3008, 0x3011}, {0x3014, 0x301f}, {0x3030, 0x3030}, {0x303d, 0x303d}, {0x30a0, 0x30a0},
    {0x30fb, 0x30fb}, {0xa4fe, 0xa4ff}, {0xa60d, 0xa60f}, {0xa673, 0xa673}, {0xa67e, 0xa67e},
    {0xa6f2, 0xa6f7}, {0xa874, 0xa877}, {0xa8ce, 0xa8cf}, {0xa8f8, 0xa8fa}, {0xa8fc, 0xa8fc},
    {0xa92e, 0xa92f}, {0xa95f, 0xa95f}, {0xa9c1, 0xa9cd}, {0xa9de, 0xa9df}, {0xaa5c, 0xaa5f},
    {0xaade, 0xaadf}, {0xaaf0, 0xaaf1}, {0xabeb, 0xabeb}, {0xfd3e, 0xfd3f}, {0xfe10, 0xfe19},
    {0xfe30, 0xfe52}, {0xfe54, 0xfe61}, {0xfe63, 0xfe63}, {0xfe68, 0xfe68}, {0xfe6a, 0xfe6b},
    {0xff01, 0xff03}, {0xff05, 0xff0a}, {0xff0c, 0xff0f}, {0xff1a, 0xff1b}, {0xff1f, 0xff20},
    {0xff3b, 0xff3d}, {0xff3f, 0xff3f}, {0xff5b, 0xff5b}, {0xff5d, 0xff5d}, {0xff5f, 0xff65},
    {0x10100, 0x10102}, {0x1039f, 0x1039f}, {0x103d0, 0x103d0}, {0x1056f, 0x1056f},
    {0x10857, 0x10857}, {0x1091f, 0x1091f}, {0x1093f, 0x1093f}, {0x10a50, 0x10a58},
    {0x10a7f, 0x10a7f}, {0x10af0, 0x10af6}, {0x10b39, 0x10b3f}, {0x10b99, 0x10b9c},
    {0x11047, 0x1104d}, {0x110bb, 0x110bc}, {0x110be, 0x110c1}, {0x11140, 0x11143},
    {0x11174, 0x11175}, {0x111c5, 0x111c9}, {0x111cd, 0x111cd}, {0x111db, 0x111db},
    {0x111dd, 0x111df}, {0x11238, 0x1123d}, {0x112a9, 0x112a9}, {0x114c6, 0x114c6},
    {0x115c1, 0x115d7}, {0x11641, 0x11643}, {0x1173c, 0x1173e}, {0x12470, 0x12474},
    {0x16a6e, 0x16a6f}, {0x16af5, 0x16af5}, {0x16b37, 0x16b3b}, {0x16b44, 0x16b44},
    {0x1bc9f, 0x1bc9f}, {0x1da87, 0x1da8b},
};

static bool add_range(struct tp_text *out, uint32_t first, uint32_t last, struct tp_error *err)
{
    char buf[32];
    int n = first == last ? snprintf(buf, sizeof buf, "\\x{%x}", first)
                          : snprintf(buf, sizeof buf, "\\x{%x}-\\x{%x}", first, last);
    return tp_text_add(out, buf, (size_t)n, err);
}

/* White space, or everything else, as items of a class. Both are within Unicode without
 * surrogates. */
static bool add_space_items(struct tp_text *out, bool negated, struct tp_error *err)
{
    uint32_t next = 0;
    for (size_t i = 0; i < WHITE_SPACES; i++) {
        if (negated ? !add_range(out, next, white_space[i].first - 1, err)
                    : !add_range(out, white_space[i].first, white_space[i].last, err))
            return false;
        next = white_space[i].last + 1;
    }
    return !negated || (add_range(out, next, 0xd7ff, err) &&
                        add_range(out, 0xe000, UNICODE_LAST, err));
}

/* \p{NAME} and the newer characters of that category, as items of a class. */
static bool add_property_items(struct tp_text *out, const char *name, size_t n, struct tp_error *err)
{
    if (!tp_text_add(out, "\\p{", 3, err) || !tp_text_add(out, name, n, err) ||
        !tp_text_add(out, "}", 1, err))
        return false;
    for (size_t i = 0; i < sizeof since_unicode_14 / sizeof *since_unicode_14; i++)
        if (n <= 2 && strncmp(since_unicode_14[i].category, name, n) == 0 &&
            !add_range(out, since_unicode_14[i].first, since_unicode_14[i].last, err))
            return false;
    return true;
}

bool onig_digit(struct tp_text *out, struct tp_error *err)
{
    if (!tp_text_add(out, "[", 1, err) || !add_property_items(out, "N", 1, err))
        return false;
    for (size_t i = 0; i < sizeof since_unicode_14 / sizeof *since_unicode_14; i++)
        if (strcmp(since_unicode_14[i].category, "17") == 0 &&
            !add_range(out, since_unicode_14[i].first, since_unicode_14[i].last, err))
            return false;
    return tp_text_add(out, "]", 1, err);
}

bool onig_punctuation(struct tp_text *out, struct tp_error *err)
{
    bool ok = tp_text_add(out, "[", 1, err);
    for (size_t i = 0; ok && i < sizeof punctuation / sizeof *punctuation; i++)
        ok = add_range(out, punctuation[i].first, punctuation[i].last, err);
    return ok && tp_text_add(out, "]", 1, err);
}

/* \w of Rust's regex and its newer characters, as items of a class. */
static bool add_word_items(struct tp_text *out, struct tp_error *err)
{
    static const char items[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}";
    if (!tp_text_add(out, items, sizeof items - 1, err))
        return false;
    for (size_t i = 0; i < sizeof since_unicode_14 / sizeof *since_unicode_14; i++) {
        const char *category = since_unicode_14[i].category;
        if ((strchr("LM", category[0]) || strcmp(category, "Nd") == 0) &&
            !add_range(out, since_unicode_14[i].first, since_unicode_14[i].last, err))
            return false;
    }
    return true;
}

bool onig_words(struct tp_text *out, struct tp_error *err)
{
    return tp_text_add(out, "[", 1, err) && add_word_items(out, err) &&
           tp_text_add(out, "]+|[^", 5, err) && add_word_items(out, err) &&
           add_space_items(out, false, err) && tp_text_add(out, "]+", 2, err);
}

bool onig_literal(const char *bytes, size_t n, struct tp_text *out, struct tp_error *err)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c < 0x80 && !isalnum(c) ? !add_range(out, c, c, err)
                                    : !tp_text_add(out, bytes + i, 1, err))
            return false;
    }
    return true;
}

/* ---- the translator: one pass, one flag for "inside a class" ---- */

struct translation {
    const char *where, *s;
    size_t n, at;
    bool in_class;
    struct tp_text *out;
    struct tp_error *err;
};

static bool refuse(const struct translation *t, size_t n)
{
    char name[TP_NAME_BUF];
    size_t left = t->n - t->at;
    return tp_fail(t->err, TP_E_TK_UNSUPPORTED, "%s: pattern construct %s at offset %zu", t->where,
                   tp_name_cut(name, t->s + t->at, n < left ? n : left), t->at);
}

static bool copy(struct translation *t, size_t n)
{
    bool ok = tp_text_add(t->out, t->s + t->at, n, t->err);
    t->at += n;
    return ok;
}

static bool replace(struct translation *t, size_t n, const char *with)
{
    t->at += n;
    return tp_text_add(t->out, with, strlen(with), t->err);
}

static bool starts(const struct translation *t, const char *prefix)
{
    size_t n = strlen(prefix);
    return t->n - t->at >= n && memcmp(t->s + t->at, prefix, n) == 0;
}

/* A set with items of its own, n bytes of pattern: inside a class as it is, outside in brackets.
 * Beside a hyphen its items would join a range that the pattern does not mean. */
static bool open_set(struct translation *t, bool negated, size_t n)
{
    if (!t->in_class) {
        t->at += n;
        return tp_text_add(t->out, negated ? "[^" : "[", negated ? 2 : 1, t->err);
    }
    const char *s = t->s + t->at;
    if ((s[-1] == '-' && !strchr("[^\\", s[-2])) ||
        (t->n - t->at > n + 1 && s[n] == '-' && s[n + 1] != ']'))
        return refuse(t, n + 1);
    t->at += n;
    return true;
}

static bool close_set(struct translation *t)
{
    return t->in_class || tp_text_add(t->out, "]", 1, t->err);
}

static bool space(struct translation *t)
{
    bool negated = t->s[t->at + 1] == 'S';
    return open_set(t, negated, 2) && add_space_items(t->out, negated && t->in_class, t->err) &&
           close_set(t);
}

/* \d, \D, \p{NAME}, \P{NAME}, \p{^NAME}; n bytes in all, the name apart */
static bool property(struct translation *t, const char *name, size_t name_n, bool negated, size_t n)
{
    if (negated && t->in_class)
        return refuse(t, n); /* a complement has no items */
    return open_set(t, negated, n) && add_property_items(t->out, name, name_n, t->err) &&
           close_set(t);
}

static bool braced_property(struct translation *t)
{
    const char *open = t->s + t->at + 2, *end = t->s + t->n;
    const char *close = open < end && *open == '{' ? memchr(open, '}', (size_t)(end - open)) : NULL;
    if (!close)
        return refuse(t, 2);
    const char *name = open + 1;
    bool negated = t->s[t->at + 1] == 'P';
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    for (const char *c = name; c < close; c++)
        if (!isalnum((unsigned char)*c) && *c != '_')
            return refuse(t, (size_t)(close + 1 - (t->s + t->at)));
    return property(t, name, (size_t)(close - name), negated, (size_t)(close + 1 - (t->s + t->at)));
}

/* \xHH below 80, \x{H...}, \uHHHH */
static bool code_point(struct translation *t)
{
    size_t i = t->at + 2, digits = 0;
    bool braced = t->s[t->at + 1] == 'x' && i < t->n && t->s[i] == '{';
    size_t max = braced ? 6 : t->s[t->at + 1] == 'u' ? 4 : 2;
    uint32_t value = 0;
    for (i += braced; i < t->n && digits < max && isxdigit((unsigned char)t->s[i]); i++, digits++) {
        int c = tolower((unsigned char)t->s[i]);
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (digits == 0 || (max == 4 && digits != 4) || (max == 2 && value >= 0x80) ||
        (braced && (i == t->n || t->s[i++] != '}')))
        return refuse(t, 10);
    t->at = i;
    return add_range(t->out, value, value, t->err);
}

static bool escape(struct translation *t)
{
    unsigned char c = t->at + 1 < t->n ? (unsigned char)t->s[t->at + 1] : 'w';
    switch (c) {
    case 's':
    case 'S':
        return space(t);
    case 'd':
    case 'D':
        return property(t, "Nd", 2, c == 'D', 2);
    case 'p':
    case 'P':
        return braced_property(t);
    case 'x':
    case 'u':
        return code_point(t);
    case 'v':
        return replace(t, 2, "\\x{b}");
    case 'r':
    case 'n':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(t, 2);
    case 'A':
    case 'z':
    case 'Z':
        return t->in_class ? refuse(t, 2) : copy(t, 2);
    default:
        if (c >= 0x80)
            return replace(t, 1, "");
        return isalnum(c) ? refuse(t, 2) : copy(t, 2);
    }
}

static bool in_class(struct translation *t)
{
    if (starts(t, "]")) {
        t->in_class = false;
        return copy(t, 1);
    }
    if (starts(t, "[") || starts(t, "&&"))
        return refuse(t, 8);
    return copy(t, 1);
}

static bool begin_class(struct translation *t)
{
    size_t n = starts(t, "[^") ? 2 : 1;
    if (t->at + n < t->n && t->s[t->at + n] == ']')
        return refuse(t, n + 1);
    t->in_class = true;
    return copy(t, n);
}

static bool group(struct translation *t)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (starts(t, known[i]))
            return copy(t, strlen(known[i]));
    /* elsewhere it reaches differently far in the two dialects */
    if (starts(t, "(?i)") && t->at == 0)
        return copy(t, 4);
    return starts(t, "(?") || starts(t, "(*") ? refuse(t, 8) : copy(t, 1);
}

/* {n}, {n,}, {n,m}; what follows must not be ? or +, which mean other things there */
static bool interval(struct translation *t)
{
    size_t i = t->at + 1;
    while (i < t->n && isdigit((unsigned char)t->s[i]))
        i++;
    bool digits = i > t->at + 1;
    if (i < t->n && t->s[i] == ',')
        for (i++; i < t->n && isdigit((unsigned char)t->s[i]); i++)
            ;
    if (!digits || i >= t->n || t->s[i] != '}' ||
        (i + 1 < t->n && strchr("?+", t->s[i + 1])))
        return refuse(t, i + 2 - t->at);
    return copy(t, i + 1 - t->at);
}

static bool translate_next(struct translation *t)
{
    char c = t->s[t->at];
    if (c == '\\')
        return escape(t);
    if (t->in_class)
        return in_class(t);
    switch (c) {
    case '[':
        return begin_class(t);
    case '(':
        return group(t);
    case '{':
        return interval(t);
    case '^':
        return replace(t, 1, "(?m:^)");
    case '$':
        return replace(t, 1, "(?m:$)");
    default:
        return copy(t, 1);
    }
}

bool onig_translate(const char *where, const char *pattern, size_t n, struct tp_text *out,
                    struct tp_error *err)
{
    struct translation t = {.where = where, .s = pattern, .n = n, .out = out, .err = err};
    while (t.at < t.n)
        if (!translate_next(&t))
            return false;
    return true;
}
