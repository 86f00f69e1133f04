/* What datetime.now().strftime gives in the C locale, of which the programs change LC_CTYPE only.
 */
#include "jinja_inside.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PIECE = 256 };

/* Bytes of the conversion that begins with % at text: its flags, width and letter */
static size_t conversion_length(const char *text, size_t n)
{
    size_t i = 1;
    while (i < n && text[i] && strchr("-_0^#", text[i]))
        i++;
    return i < n ? i + 1 : n;
}

/* What is no conversion of the C library's, or is one that asks a clock with a zone */
static bool own_piece(char code, char out[PIECE])
{
    snprintf(out, PIECE, "%s", code == 'f' ? "000000" : "");
    return code == 'f' || code == 'z' || code == 'Z';
}

static bool add_conversion(struct jinja *j, struct jinja_builder *b, const struct tm *tm,
                           const char *text, size_t n, bool data)
{
    char piece[PIECE], format[16];
    char code = text[n - 1];
    if (n >= sizeof format || n < 2 || !code || (unsigned char)code >= 128 || code == 'E' ||
        code == 'O')
        return jinja_add(j, b, text, n, data);
    snprintf(format, sizeof format, "%.*s", (int)n, text);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (!own_piece(code, piece) && !strftime(piece, sizeof piece, format, tm))
        piece[0] = '\0';
#pragma GCC diagnostic pop
    return jinja_add(j, b, piece, strlen(piece), data);
}

bool jinja_strftime(struct jinja *j, const struct jinja_string *format, int64_t now,
                    struct jinja_value *out)
{
    const int64_t first = -62135596800, last = 253402300799; /* the years 1 to 9999 */
    time_t seconds = now > last ? last : now < first ? first : now;
    struct tm tm;
    struct jinja_builder text = {0};
    gmtime_r(&seconds, &tm);
    bool ok = true;
    for (size_t i = 0, n; i < format->n && ok; i += n) {
        const char *at = format->bytes + i;
        bool data = jinja_mark_at(format, i);
        n = *at == '%' ? conversion_length(at, format->n - i) : 1;
        ok = n == 1 ? jinja_add(j, &text, at, 1, data) : add_conversion(j, &text, &tm, at, n, data);
    }
    return ok && jinja_build(j, &text, out);
}
