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

bool tp_parse_size(const char *text, uint64_t *out)
{
    static const char suffixes[] = "KMGT";
    size_t len = strlen(text);
    uint64_t unit = 1, value;
    const char *suffix = len ? strchr(suffixes, text[len - 1]) : NULL;
    if (suffix) {
        unit = UINT64_C(1) << (10 * (suffix - suffixes + 1));
        len--;
    }
    return tp_parse_u64(text, len, &value) && tp_mul(value, unit, out);
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
