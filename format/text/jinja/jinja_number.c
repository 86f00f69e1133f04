/* Numbers and text: Python's shortest float repr, int() and float() of strings. */
#include "jinja_inside.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest digits that give f (finite, positive) again: d.ddd as digits, n of them, times
 * 10^exponent. */
static int shortest_digits(double f, char digits[20], int *exponent)
{
    char text[40];
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, f);
        if (strtod(text, NULL) == f) /* both by the locale's point */
            break;
    }
    int n = 0;
    memset(digits, '0', 20);
    const char *c = text;
    for (; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9' && n < 18)
            digits[n++] = *c;
    *exponent = atoi(c + 1);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return n;
}

static size_t copy_text(char *out, const char *text)
{
    size_t n = strlen(text);
    memcpy(out, text, n + 1);
    return n;
}

size_t jinja_float_repr(double f, char out[JINJA_FLOAT_BUF])
{
    if (isnan(f))
        return copy_text(out, "nan");
    if (isinf(f))
        return copy_text(out, f < 0 ? "-inf" : "inf");
    char *at = out;
    if (signbit(f))
        *at++ = '-';
    f = fabs(f);
    if (f == 0) {
        copy_text(at, "0.0");
        return strlen(out);
    }
    char digits[20];
    int exponent, n = shortest_digits(f, digits, &exponent);
    if (exponent < -4 || exponent >= 16) {
        *at++ = digits[0];
        if (n > 1)
            *at++ = '.';
        memcpy(at, digits + 1, (size_t)n - 1);
        at += n - 1;
        at += snprintf(at, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return (size_t)(at - out);
    }
    if (exponent < 0) {
        at += copy_text(at, "0.");
        for (int i = -1; i > exponent; i--)
            *at++ = '0';
    }
    for (int i = 0; i < n || i <= exponent; i++) {
        *at++ = i < n ? digits[i] : '0';
        if (exponent >= 0 && i == exponent)
            *at++ = '.';
    }
    if (at[-1] == '.')
        *at++ = '0';
    *at = '\0';
    return (size_t)(at - out);
}

bool jinja_float_to_int(struct jinja *j, double f, int64_t *out)
{
    if (isnan(f))
        return jinja_raise(j, "ValueError", "cannot convert float NaN to integer");
    if (isinf(f))
        return jinja_raise(j, "OverflowError", "cannot convert float infinity to integer");
    if (!(f > -0x1p63 - 1 && f < 0x1p63))
        return jinja_stop(j, JINJA_LIMIT, "an integer does not fit in 64 bits");
    *out = (int64_t)f;
    return true;
}

/* ---- from text ---- */

/* The characters of a number in ASCII: other decimal digits become theirs, spaces around and
 * underscores between digits go away; '?' for what no number has. */
static char *plain_number(struct jinja *j, const struct jinja_string *s)
{
    char *text = jinja_spend_bytes(j, s->n) ? jinja_alloc(j, s->n + 1) : NULL;
    size_t n = 0;
    if (!text)
        return NULL;
    for (size_t i = 0, k; i < s->n; i += k) {
        uint32_t c = jinja_char_at(s, i, &k);
        int digit = jinja_decimal_digit(c);
        text[n++] = jinja_is_space(c) ? ' '
                    : digit >= 0      ? (char)('0' + digit)
                    : c && c < 128    ? (char)c
                                      : '?';
    }
    while (n > 0 && text[n - 1] == ' ')
        n--;
    text[n] = '\0';
    text += strspn(text, " ");
    for (char *from = text, *to = text; (*to = *from); from++)
        to += *from != '_' || from == text || !isdigit((unsigned char)from[-1]) ||
              !isdigit((unsigned char)from[1]);
    return text;
}

bool jinja_parse_int(struct jinja *j, const struct jinja_string *s, int64_t *out, bool *ok)
{
    const char *t = plain_number(j, s);
    *ok = false;
    if (!t)
        return false;
    const char *digits = t + (*t == '+' || *t == '-');
    if (!*digits || digits[strspn(digits, "0123456789")])
        return true;
    errno = 0;
    *out = strtoll(t, NULL, 10);
    *ok = errno == 0;
    return *ok || jinja_stop(j, JINJA_LIMIT, "an integer does not fit in 64 bits");
}

bool jinja_parse_float(struct jinja *j, const struct jinja_string *s, double *out, bool *ok)
{
    const char *t = plain_number(j, s);
    *ok = false;
    if (!t)
        return false;
    const char *bare = t + (*t == '+' || *t == '-');
    char *end;
    *ok = strcasecmp(bare, "inf") == 0 || strcasecmp(bare, "infinity") == 0 ||
          strcasecmp(bare, "nan") == 0;
    if (!*ok && t[strspn(t, "0123456789.eE+-")])
        return true;
    *out = strtod(t, &end);
    *ok = end != t && *end == '\0';
    return true;
}
