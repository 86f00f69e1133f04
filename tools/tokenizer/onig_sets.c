#include "onig_sets.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Characters that Unicode 15 and 16 added, by the set they belong to: a general category, a script,
 * "alpha" and "lower" beyond letters; "17": numeric in Rust's tables of Unicode 17. */
static const struct {
    uint32_t first, last;
    const char *set;
} newer[] = {
    {0x1c89, 0x1c89, "Lu"},         {0xa7cb, 0xa7cc, "Lu"},
    {0xa7da, 0xa7da, "Lu"},         {0xa7dc, 0xa7dc, "Lu"},
    {0x10d50, 0x10d65, "Lu"},       {0x1c8a, 0x1c8a, "Ll"},
    {0xa7cd, 0xa7cd, "Ll"},         {0xa7db, 0xa7db, "Ll"},
    {0x10d70, 0x10d85, "Ll"},       {0x1df25, 0x1df2a, "Ll"},
    {0x10d4e, 0x10d4e, "Lm"},       {0x10d6f, 0x10d6f, "Lm"},
    {0x16d40, 0x16d42, "Lm"},       {0x16d6b, 0x16d6c, "Lm"},
    {0x1e030, 0x1e06d, "Lm"},       {0x1e4eb, 0x1e4eb, "Lm"},
    {0x105c0, 0x105f3, "Lo"},       {0x10d4a, 0x10d4d, "Lo"},
    {0x10d4f, 0x10d4f, "Lo"},       {0x10ec2, 0x10ec4, "Lo"},
    {0x1123f, 0x11240, "Lo"},       {0x11380, 0x11389, "Lo"},
    {0x1138b, 0x1138b, "Lo"},       {0x1138e, 0x1138e, "Lo"},
    {0x11390, 0x113b5, "Lo"},       {0x113b7, 0x113b7, "Lo"},
    {0x113d1, 0x113d1, "Lo"},       {0x113d3, 0x113d3, "Lo"},
    {0x11bc0, 0x11be0, "Lo"},       {0x11f02, 0x11f02, "Lo"},
    {0x11f04, 0x11f10, "Lo"},       {0x11f12, 0x11f33, "Lo"},
    {0x1342f, 0x1342f, "Lo"},       {0x13441, 0x13446, "Lo"},
    {0x13460, 0x143fa, "Lo"},       {0x16100, 0x1611d, "Lo"},
    {0x16d43, 0x16d6a, "Lo"},       {0x18cff, 0x18cff, "Lo"},
    {0x1b132, 0x1b132, "Lo"},       {0x1b155, 0x1b155, "Lo"},
    {0x1e4d0, 0x1e4ea, "Lo"},       {0x1e5d0, 0x1e5ed, "Lo"},
    {0x1e5f0, 0x1e5f0, "Lo"},       {0x2b739, 0x2b739, "Lo"},
    {0x2ebf0, 0x2ee5d, "Lo"},       {0x31350, 0x323af, "Lo"},
    {0x897, 0x897, "Mn"},           {0xece, 0xece, "Mn"},
    {0x10d69, 0x10d6d, "Mn"},       {0x10efc, 0x10eff, "Mn"},
    {0x11241, 0x11241, "Mn"},       {0x113bb, 0x113c0, "Mn"},
    {0x113ce, 0x113ce, "Mn"},       {0x113d0, 0x113d0, "Mn"},
    {0x113d2, 0x113d2, "Mn"},       {0x113e1, 0x113e2, "Mn"},
    {0x11f00, 0x11f01, "Mn"},       {0x11f36, 0x11f3a, "Mn"},
    {0x11f40, 0x11f40, "Mn"},       {0x11f42, 0x11f42, "Mn"},
    {0x11f5a, 0x11f5a, "Mn"},       {0x13440, 0x13440, "Mn"},
    {0x13447, 0x13455, "Mn"},       {0x1611e, 0x16129, "Mn"},
    {0x1612d, 0x1612f, "Mn"},       {0x1e08f, 0x1e08f, "Mn"},
    {0x1e4ec, 0x1e4ef, "Mn"},       {0x1e5ee, 0x1e5ef, "Mn"},
    {0xcf3, 0xcf3, "Mc"},           {0x113b8, 0x113ba, "Mc"},
    {0x113c2, 0x113c2, "Mc"},       {0x113c5, 0x113c5, "Mc"},
    {0x113c7, 0x113ca, "Mc"},       {0x113cc, 0x113cd, "Mc"},
    {0x113cf, 0x113cf, "Mc"},       {0x1171e, 0x1171e, "Mc"},
    {0x11f03, 0x11f03, "Mc"},       {0x11f34, 0x11f35, "Mc"},
    {0x11f3e, 0x11f3f, "Mc"},       {0x11f41, 0x11f41, "Mc"},
    {0x1612a, 0x1612c, "Mc"},       {0x10d40, 0x10d49, "Nd"},
    {0x116d0, 0x116e3, "Nd"},       {0x11bf0, 0x11bf9, "Nd"},
    {0x11f50, 0x11f59, "Nd"},       {0x16130, 0x16139, "Nd"},
    {0x16d70, 0x16d79, "Nd"},       {0x1ccf0, 0x1ccf9, "Nd"},
    {0x1e4f0, 0x1e4f9, "Nd"},       {0x1e5f1, 0x1e5fa, "Nd"},
    {0x1d2c0, 0x1d2d3, "No"},       {0x10d6e, 0x10d6e, "Pd"},
    {0x1b4e, 0x1b4f, "Po"},         {0x1b7f, 0x1b7f, "Po"},
    {0x113d4, 0x113d5, "Po"},       {0x113d7, 0x113d8, "Po"},
    {0x11b00, 0x11b09, "Po"},       {0x11be1, 0x11be1, "Po"},
    {0x11f43, 0x11f4f, "Po"},       {0x16d6d, 0x16d6f, "Po"},
    {0x1e5ff, 0x1e5ff, "Po"},       {0x10d8e, 0x10d8f, "Sm"},
    {0x2427, 0x2429, "So"},         {0x2ffc, 0x2fff, "So"},
    {0x31e4, 0x31e5, "So"},         {0x31ef, 0x31ef, "So"},
    {0x1cc00, 0x1ccef, "So"},       {0x1cd00, 0x1ceb3, "So"},
    {0x1f6dc, 0x1f6dc, "So"},       {0x1f774, 0x1f776, "So"},
    {0x1f77b, 0x1f77f, "So"},       {0x1f7d9, 0x1f7d9, "So"},
    {0x1f8b2, 0x1f8bb, "So"},       {0x1f8c0, 0x1f8c1, "So"},
    {0x1fa75, 0x1fa77, "So"},       {0x1fa87, 0x1fa89, "So"},
    {0x1fa8f, 0x1fa8f, "So"},       {0x1faad, 0x1faaf, "So"},
    {0x1fabb, 0x1fabf, "So"},       {0x1fac6, 0x1fac6, "So"},
    {0x1face, 0x1facf, "So"},       {0x1fada, 0x1fadc, "So"},
    {0x1fadf, 0x1fadf, "So"},       {0x1fae8, 0x1fae9, "So"},
    {0x1faf7, 0x1faf8, "So"},       {0x1fbcb, 0x1fbef, "So"},
    {0x13439, 0x1343f, "Cf"},       {0x2b739, 0x2b739, "Han"},
    {0x2ebf0, 0x2ee5d, "Han"},      {0x31350, 0x323af, "Han"},
    {0x1b132, 0x1b132, "Hiragana"}, {0x1b155, 0x1b155, "Katakana"},
    {0xa7cb, 0xa7cd, "Latin"},      {0xa7da, 0xa7dc, "Latin"},
    {0x1df25, 0x1df2a, "Latin"},    {0x1c89, 0x1c8a, "Cyrillic"},
    {0x1e030, 0x1e06d, "Cyrillic"}, {0x1e08f, 0x1e08f, "Cyrillic"},
    {0x897, 0x897, "Arabic"},       {0x10ec2, 0x10ec4, "Arabic"},
    {0x10efc, 0x10eff, "Arabic"},   {0x11b00, 0x11b09, "Devanagari"},
    {0xece, 0xece, "Lao"},          {0x116d0, 0x116e3, "Myanmar"},
    {0xcf3, 0xcf3, "Kannada"},      {0x363, 0x36f, "alpha"},
    {0x897, 0x897, "alpha"},        {0xc04, 0xc04, "alpha"},
    {0xcf3, 0xcf3, "alpha"},        {0xf82, 0xf83, "alpha"},
    {0x1dd3, 0x1de6, "alpha"},      {0x10d69, 0x10d69, "alpha"},
    {0x10efc, 0x10efc, "alpha"},    {0x11080, 0x11081, "alpha"},
    {0x11241, 0x11241, "alpha"},    {0x113b8, 0x113c0, "alpha"},
    {0x113c2, 0x113c2, "alpha"},    {0x113c5, 0x113c5, "alpha"},
    {0x113c7, 0x113ca, "alpha"},    {0x113cc, 0x113cd, "alpha"},
    {0x11f00, 0x11f01, "alpha"},    {0x11f03, 0x11f03, "alpha"},
    {0x11f34, 0x11f3a, "alpha"},    {0x11f3e, 0x11f40, "alpha"},
    {0x1611e, 0x1612e, "alpha"},    {0x1e08f, 0x1e08f, "alpha"},
    {0x10fc, 0x10fc, "lower"},      {0xa7f2, 0xa7f4, "lower"},
    {0xab69, 0xab69, "lower"},      {0x1e030, 0x1e06d, "lower"},
    {0x11de0, 0x11de9, "17"},       {0x16ff4, 0x16ff6, "17"},
};

/* What Punctuation cuts at: ASCII punctuation and the categories P of an older Unicode. */
static const struct {
    uint32_t first, last;
} punctuation[] = {
    {0x21, 0x2f},       {0x3a, 0x40},       {0x5b, 0x60},       {0x7b, 0x7e},
    {0xa1, 0xa1},       {0xa7, 0xa7},       {0xab, 0xab},       {0xb6, 0xb7},
    {0xbb, 0xbb},       {0xbf, 0xbf},       {0x37e, 0x37e},     {0x387, 0x387},
    {0x55a, 0x55f},     {0x589, 0x58a},     {0x5be, 0x5be},     {0x5c0, 0x5c0},
    {0x5c3, 0x5c3},     {0x5c6, 0x5c6},     {0x5f3, 0x5f4},     {0x609, 0x60a},
    {0x60c, 0x60d},     {0x61b, 0x61b},     {0x61e, 0x61f},     {0x66a, 0x66d},
    {0x6d4, 0x6d4},     {0x700, 0x70d},     {0x7f7, 0x7f9},     {0x830, 0x83e},
    {0x85e, 0x85e},     {0x964, 0x965},     {0x970, 0x970},     {0xaf0, 0xaf0},
    {0xdf4, 0xdf4},     {0xe4f, 0xe4f},     {0xe5a, 0xe5b},     {0xf04, 0xf12},
    {0xf14, 0xf14},     {0xf3a, 0xf3d},     {0xf85, 0xf85},     {0xfd0, 0xfd4},
    {0xfd9, 0xfda},     {0x104a, 0x104f},   {0x10fb, 0x10fb},   {0x1360, 0x1368},
    {0x1400, 0x1400},   {0x166d, 0x166e},   {0x169b, 0x169c},   {0x16eb, 0x16ed},
    {0x1735, 0x1736},   {0x17d4, 0x17d6},   {0x17d8, 0x17da},   {0x1800, 0x180a},
    {0x1944, 0x1945},   {0x1a1e, 0x1a1f},   {0x1aa0, 0x1aa6},   {0x1aa8, 0x1aad},
    {0x1b5a, 0x1b60},   {0x1bfc, 0x1bff},   {0x1c3b, 0x1c3f},   {0x1c7e, 0x1c7f},
    {0x1cc0, 0x1cc7},   {0x1cd3, 0x1cd3},   {0x2010, 0x2027},   {0x2030, 0x2043},
    {0x2045, 0x2051},   {0x2053, 0x205e},   {0x207d, 0x207e},   {0x208d, 0x208e},
    {0x2308, 0x230b},   {0x2329, 0x232a},   {0x2768, 0x2775},   {0x27c5, 0x27c6},
    {0x27e6, 0x27ef},   {0x2983, 0x2998},   {0x29d8, 0x29db},   {0x29fc, 0x29fd},
    {0x2cf9, 0x2cfc},   {0x2cfe, 0x2cff},   {0x2d70, 0x2d70},   {0x2e00, 0x2e2e},
    {0x2e30, 0x2e42},   {0x3001, 0x3003},   {0x3008, 0x3011},   {0x3014, 0x301f},
    {0x3030, 0x3030},   {0x303d, 0x303d},   {0x30a0, 0x30a0},   {0x30fb, 0x30fb},
    {0xa4fe, 0xa4ff},   {0xa60d, 0xa60f},   {0xa673, 0xa673},   {0xa67e, 0xa67e},
    {0xa6f2, 0xa6f7},   {0xa874, 0xa877},   {0xa8ce, 0xa8cf},   {0xa8f8, 0xa8fa},
    {0xa8fc, 0xa8fc},   {0xa92e, 0xa92f},   {0xa95f, 0xa95f},   {0xa9c1, 0xa9cd},
    {0xa9de, 0xa9df},   {0xaa5c, 0xaa5f},   {0xaade, 0xaadf},   {0xaaf0, 0xaaf1},
    {0xabeb, 0xabeb},   {0xfd3e, 0xfd3f},   {0xfe10, 0xfe19},   {0xfe30, 0xfe52},
    {0xfe54, 0xfe61},   {0xfe63, 0xfe63},   {0xfe68, 0xfe68},   {0xfe6a, 0xfe6b},
    {0xff01, 0xff03},   {0xff05, 0xff0a},   {0xff0c, 0xff0f},   {0xff1a, 0xff1b},
    {0xff1f, 0xff20},   {0xff3b, 0xff3d},   {0xff3f, 0xff3f},   {0xff5b, 0xff5b},
    {0xff5d, 0xff5d},   {0xff5f, 0xff65},   {0x10100, 0x10102}, {0x1039f, 0x1039f},
    {0x103d0, 0x103d0}, {0x1056f, 0x1056f}, {0x10857, 0x10857}, {0x1091f, 0x1091f},
    {0x1093f, 0x1093f}, {0x10a50, 0x10a58}, {0x10a7f, 0x10a7f}, {0x10af0, 0x10af6},
    {0x10b39, 0x10b3f}, {0x10b99, 0x10b9c}, {0x11047, 0x1104d}, {0x110bb, 0x110bc},
    {0x110be, 0x110c1}, {0x11140, 0x11143}, {0x11174, 0x11175}, {0x111c5, 0x111c9},
    {0x111cd, 0x111cd}, {0x111db, 0x111db}, {0x111dd, 0x111df}, {0x11238, 0x1123d},
    {0x112a9, 0x112a9}, {0x114c6, 0x114c6}, {0x115c1, 0x115d7}, {0x11641, 0x11643},
    {0x1173c, 0x1173e}, {0x12470, 0x12474}, {0x16a6e, 0x16a6f}, {0x16af5, 0x16af5},
    {0x16b37, 0x16b3b}, {0x16b44, 0x16b44}, {0x1bc9f, 0x1bc9f}, {0x1da87, 0x1da8b},
};

static const struct {
    uint32_t first, last;
} white_space[] = {
    {0x09, 0x0d},     {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
    {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
};
enum { WHITE_SPACES = sizeof white_space / sizeof *white_space, UNICODE_LAST = 0x10ffff };

/* The sets there are: what PCRE2 knows of them, and which entries of `newer` come in addition:
 * those whose set begins with one of the words. A name with a colon is one of [:...:] alone. */
static const struct {
    const char *names, *items, *newer;
} sets[] = {
    {"space whitespace", NULL, ""}, /* White_Space: PCRE2's \\s has U+180E besides */
    {"word", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}",
     "L M Nd alpha"},
    {":word", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}", "L M Nd alpha"},
    {"alpha alphabetic", "\\p{Alphabetic}", "Lu Ll Lt Lm Lo alpha"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}", "Lu Ll Lt Lm Lo alpha Nd"},
    {"upper uppercase", "\\p{Uppercase}", "Lu"},
    {"lower lowercase", "\\p{Lowercase}", "Ll lower"},
    {":punct", "\\p{P}\\p{S}", "P S"},
    {"punct punctuation p", "\\p{P}", "P"},
    {"xdigit", "0-9a-fA-F", ""},
    {"blank", "\\p{Zs}\\t", ""},
    {"ascii", "\\x{0}-\\x{7f}", ""},
    {"any", "\\x{0}-\\x{10ffff}", ""},
    {"l letter", "\\p{L}", "Lu Ll Lt Lm Lo"},
    {"lu uppercaseletter", "\\p{Lu}", "Lu"},
    {"ll lowercaseletter", "\\p{Ll}", "Ll"},
    {"lt titlecaseletter", "\\p{Lt}", "Lt"},
    {"lm modifierletter", "\\p{Lm}", "Lm"},
    {"lo otherletter", "\\p{Lo}", "Lo"},
    {"m mark combiningmark", "\\p{M}", "Mn Mc Me"},
    {"mn nonspacingmark", "\\p{Mn}", "Mn"},
    {"mc spacingmark", "\\p{Mc}", "Mc"},
    {"me enclosingmark", "\\p{Me}", "Me"},
    {"n number", "\\p{N}", "Nd Nl No"},
    {"nd digit decimalnumber", "\\p{Nd}", "Nd"},
    {"nl letternumber", "\\p{Nl}", "Nl"},
    {"no othernumber", "\\p{No}", "No"},
    {"pc connectorpunctuation", "\\p{Pc}", "Pc"},
    {"pd dashpunctuation", "\\p{Pd}", "Pd"},
    {"ps openpunctuation", "\\p{Ps}", "Ps"},
    {"pe closepunctuation", "\\p{Pe}", "Pe"},
    {"pi initialpunctuation", "\\p{Pi}", "Pi"},
    {"pf finalpunctuation", "\\p{Pf}", "Pf"},
    {"po otherpunctuation", "\\p{Po}", "Po"},
    {"s symbol", "\\p{S}", "Sm Sc Sk So"},
    {"sm mathsymbol", "\\p{Sm}", "Sm"},
    {"sc currencysymbol", "\\p{Sc}", "Sc"},
    {"sk modifiersymbol", "\\p{Sk}", "Sk"},
    {"so othersymbol", "\\p{So}", "So"},
    {"z separator", "\\p{Z}", ""},
    {"zs spaceseparator", "\\p{Zs}", ""},
    {"zl lineseparator", "\\p{Zl}", ""},
    {"zp paragraphseparator", "\\p{Zp}", ""},
    {"cc control cntrl", "\\p{Cc}", ""},
    {"cf format", "\\p{Cf}", "Cf"},
    {"han", "\\p{sc:Han}", "Han"},
    {"hiragana", "\\p{sc:Hiragana}", "Hiragana"},
    {"katakana", "\\p{sc:Katakana}", "Katakana"},
    {"hangul", "\\p{sc:Hangul}", "Hangul"},
    {"latin", "\\p{sc:Latin}", "Latin"},
    {"greek", "\\p{sc:Greek}", "Greek"},
    {"cyrillic", "\\p{sc:Cyrillic}", "Cyrillic"},
    {"arabic", "\\p{sc:Arabic}", "Arabic"},
    {"hebrew", "\\p{sc:Hebrew}", "Hebrew"},
    {"thai", "\\p{sc:Thai}", "Thai"},
    {"devanagari", "\\p{sc:Devanagari}", "Devanagari"},
    {"bengali", "\\p{sc:Bengali}", "Bengali"},
    {"tamil", "\\p{sc:Tamil}", "Tamil"},
    {"telugu", "\\p{sc:Telugu}", "Telugu"},
    {"armenian", "\\p{sc:Armenian}", "Armenian"},
    {"georgian", "\\p{sc:Georgian}", "Georgian"},
    {"khmer", "\\p{sc:Khmer}", "Khmer"},
    {"lao", "\\p{sc:Lao}", "Lao"},
    {"myanmar", "\\p{sc:Myanmar}", "Myanmar"},
    {"tibetan", "\\p{sc:Tibetan}", "Tibetan"},
    {"bopomofo", "\\p{sc:Bopomofo}", "Bopomofo"},
    {"ethiopic", "\\p{sc:Ethiopic}", "Ethiopic"},
    {"malayalam", "\\p{sc:Malayalam}", "Malayalam"},
    {"kannada", "\\p{sc:Kannada}", "Kannada"},
    {"gujarati", "\\p{sc:Gujarati}", "Gujarati"},
    {"gurmukhi", "\\p{sc:Gurmukhi}", "Gurmukhi"},
    {"sinhala", "\\p{sc:Sinhala}", "Sinhala"},
    {"oriya", "\\p{sc:Oriya}", "Oriya"},
    {"mongolian", "\\p{sc:Mongolian}", "Mongolian"},
};
enum { SETS = sizeof sets / sizeof *sets, SET_SPACE = 0, SET_WORD = 1, SET_WORD_IN_CLASS = 2 };

/* Does a word of the list, words apart by one space, agree with the n bytes of name? */
static bool listed(const char *list, const char *name, size_t n)
{
    for (const char *word = list; *word;) {
        size_t length = strcspn(word, " ");
        if (length == n && memcmp(word, name, n) == 0)
            return true;
        word += length + (word[length] == ' ');
    }
    return false;
}

static int find(const char *name, size_t n)
{
    for (int i = 0; i < SETS; i++)
        if (listed(sets[i].names, name, n))
            return i;
    return -1;
}

int onig_set_find(const char *name, size_t n, bool posix)
{
    char plain[32];
    size_t used = 0;
    plain[used++] = ':';
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (posix ? !islower((unsigned char)c) : (c == ' ' || c == '-' || c == '_'))
            continue;
        if (!isalnum((unsigned char)c) || used == sizeof plain)
            return -1;
        plain[used++] = (char)tolower((unsigned char)c);
    }
    int set = posix ? find(plain, used) : -1;
    return set >= 0 ? set : find(plain + 1, used - 1);
}

int onig_set_word(bool in_class)
{
    return in_class ? SET_WORD_IN_CLASS : SET_WORD;
}

int onig_set_space(void)
{
    return SET_SPACE;
}

bool onig_set_range(uint32_t first, uint32_t last, struct tp_text *out, struct tp_error *err)
{
    char buf[32];
    int n = first == last ? snprintf(buf, sizeof buf, "\\x{%x}", first)
                          : snprintf(buf, sizeof buf, "\\x{%x}-\\x{%x}", first, last);
    return tp_text_add(out, buf, (size_t)n, err);
}

static bool add_newer(const char *list, struct tp_text *out, struct tp_error *err)
{
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        const char *set = newer[i].set;
        if ((listed(list, set, strlen(set)) || (strlen(set) == 2 && listed(list, set, 1))) &&
            !onig_set_range(newer[i].first, newer[i].last, out, err))
            return false;
    }
    return true;
}

bool onig_set_items(int set, struct tp_text *out, struct tp_error *err)
{
    const char *items = sets[set].items;
    for (size_t i = 0; !items && i < WHITE_SPACES; i++)
        if (!onig_set_range(white_space[i].first, white_space[i].last, out, err))
            return false;
    return !items ||
           (tp_text_add(out, items, strlen(items), err) && add_newer(sets[set].newer, out, err));
}

/* U+1171E was a nonspacing mark. */
bool onig_set_exceptions(int set, struct tp_text *out, bool *any, struct tp_error *err)
{
    *any = strcmp(sets[set].newer, "Mn") == 0;
    return !*any || onig_set_range(0x1171e, 0x1171e, out, err);
}

bool onig_set_not_space(struct tp_text *out, struct tp_error *err)
{
    uint32_t next = 0;
    for (size_t i = 0; i < WHITE_SPACES; i++) {
        if (!onig_set_range(next, white_space[i].first - 1, out, err))
            return false;
        next = white_space[i].last + 1;
    }
    return onig_set_range(next, 0xd7ff, out, err) && onig_set_range(0xe000, UNICODE_LAST, out, err);
}

bool onig_digit(struct tp_text *out, struct tp_error *err)
{
    return tp_text_add(out, "[\\p{N}", 6, err) && add_newer("N 17", out, err) &&
           tp_text_add(out, "]", 1, err);
}

bool onig_punctuation(struct tp_text *out, struct tp_error *err)
{
    bool ok = tp_text_add(out, "[", 1, err);
    for (size_t i = 0; ok && i < sizeof punctuation / sizeof *punctuation; i++)
        ok = onig_set_range(punctuation[i].first, punctuation[i].last, out, err);
    return ok && tp_text_add(out, "]", 1, err);
}

/* \w of Rust's regex, as items of a class. */
static bool add_word_items(struct tp_text *out, struct tp_error *err)
{
    static const char items[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}";
    return tp_text_add(out, items, sizeof items - 1, err) && add_newer("L M Nd alpha", out, err);
}

bool onig_word_class(struct tp_text *out, struct tp_error *err)
{
    return tp_text_add(out, "[", 1, err) && add_word_items(out, err) &&
           tp_text_add(out, "]", 1, err);
}

bool onig_words(struct tp_text *out, struct tp_error *err)
{
    return onig_word_class(out, err) && tp_text_add(out, "+|[^", 4, err) &&
           add_word_items(out, err) && onig_set_items(SET_SPACE, out, err) &&
           tp_text_add(out, "]+", 2, err);
}
