#include "checked.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

bool tp_parse_u64(const char *text, size_t len, uint64_t *out)
{
    uint64_t value = 0;
    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        if (!tp_mul(value, 10, &value) || !tp_add(value, (uint64_t)(text[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

/* Bytes of a unit: nothing, B, K or KiB, KB ... whatever its case. */
static bool parse_unit(const char *text, uint64_t *bytes)
{
    static const char letters[] = "kmgt";
    char unit[4] = "";
    if (strlen(text) >= sizeof unit)
        return false;
    for (size_t i = 0; text[i]; i++)
        unit[i] = (char)(text[i] | 0x20);
    const char *letter = unit[0] ? strchr(letters, unit[0]) : NULL;
    *bytes = 1;
    if (!letter)
        return strcmp(unit, "") == 0 || strcmp(unit, "b") == 0;
    bool decimal = strcmp(unit + 1, "b") == 0;
    for (const char *at = letters; at <= letter; at++)
        *bytes *= decimal ? 1000 : 1024;
    return decimal || strcmp(unit + 1, "") == 0 || strcmp(unit + 1, "ib") == 0;
}

bool tp_parse_size(const char *text, uint64_t *out)
{
    enum { DECIMALS_MAX = 6 };
    size_t n = strspn(text, "0123456789"), decimals = 0;
    const char *rest = text + n;
    uint64_t whole, unit, part = 0, scale = 1;
    if (*rest == '.') {
        decimals = strspn(++rest, "0123456789");
        if (decimals > DECIMALS_MAX || !tp_parse_u64(rest, decimals, &part))
            return false;
        rest += decimals;
    }
    for (size_t i = 0; i < decimals; i++)
        scale *= 10;
    rest += strspn(rest, " ");
    return tp_parse_u64(text, n, &whole) && parse_unit(rest, &unit) && tp_mul(whole, unit, out) &&
           tp_add(*out, part * unit / scale, out);
}

bool tp_parse_double(const char *text, double *out)
{
    /* strtod accepts spaces, hexadecimal, inf and nan, and follows the locale: allow only plain
     * decimal characters, and parse in the C locale. */
    if (*text == '\0' || text[strspn(text, "0123456789.eE+-")] != '\0')
        return false;
    static locale_t c_locale;
    if (!c_locale)
        c_locale = newlocale(LC_ALL_MASK, "C", NULL);
    char *end;
    double value = strtod_l(text, &end, c_locale);
    if (*end || end == text || value - value != 0)
        return false;
    *out = value;
    return true;
}
