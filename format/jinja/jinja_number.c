/* Numbers and text: Python's shortest float repr, int() and float() of strings. */
#include "jinja_inside.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

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

/* The characters of a number in ASCII: other decimal digits become theirs, spaces around go away.
 * NULL where that cannot be a number. */
static char *plain_number(struct jinja *j, const struct jinja_string *s)
{
    char *text = jinja_spend_bytes(j, s->n) ? jinja_alloc(j, s->n + 1) : NULL;
    size_t n = 0, begin = 0;
    if (!text)
        return NULL;
    for (size_t i = 0, k; i < s->n; i += k) {
        uint32_t c = jinja_char_at(s, i, &k);
        int digit = c < 128 ? -1 : jinja_decimal_digit(c);
        if (jinja_is_space(c))
            text[n++] = ' ';
        else if (c == 0)
            text[n++] = '?'; /* no number has it */
        else
            text[n++] = digit >= 0 ? (char)('0' + digit) : c < 128 ? (char)c : '?';
    }
    while (n > 0 && text[n - 1] == ' ')
        n--;
    text[n] = '\0';
    while (text[begin] == ' ')
        begin++;
    return text + begin;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z')
        return c - 'A' + 10;
    return 99;
}

/* 0x, 0o, 0b where the base allows it; base 0 takes what it says. */
static const char *skip_prefix(const char *t, int64_t *base)
{
    int64_t said = 0;
    if (t[0] == '0') {
        char c = (char)(t[1] | 0x20);
        said = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
    }
    if (said && (*base == 0 || *base == said)) {
        *base = said;
        return t[2] == '_' ? t + 3 : t + 2;
    }
    if (*base == 0)
        *base = 10;
    return t;
}

bool jinja_parse_int(struct jinja *j, const struct jinja_string *s, int64_t base, int64_t *out,
                     bool *ok)
{
    *ok = false;
    if (base != 0 && (base < 2 || base > 36))
        return jinja_raise(j, "ValueError", "int() base must be >= 2 and <= 36, or 0");
    const char *t = plain_number(j, s);
    if (!t)
        return false;
    bool negative = *t == '-', zero_led, any = base == 0;
    if (*t == '+' || *t == '-')
        t++;
    t = skip_prefix(t, &base);
    zero_led = any && base == 10 && *t == '0';
    int64_t value = 0;
    bool was_digit = false, over = false;
    for (; *t; t++) {
        if (*t == '_' && was_digit) {
            was_digit = false;
            continue;
        }
        int digit = digit_of(*t);
        if (digit >= base)
            return true;
        if (zero_led && digit)
            return true;
        was_digit = true;
        over |= __builtin_mul_overflow(value, base, &value);
        over |= negative ? __builtin_sub_overflow(value, digit, &value)
                         : __builtin_add_overflow(value, digit, &value);
    }
    if (!was_digit)
        return true;
    if (over)
        return jinja_stop(j, JINJA_LIMIT, "an integer does not fit in 64 bits");
    *ok = true;
    *out = value;
    return true;
}

static bool parse_special(const char *t, double *out)
{
    double sign = *t == '-' ? -1 : 1;
    if (*t == '+' || *t == '-')
        t++;
    if (strcasecmp(t, "inf") == 0 || strcasecmp(t, "infinity") == 0)
        *out = sign * INFINITY;
    else if (strcasecmp(t, "nan") == 0)
        *out = (double)NAN;
    else
        return false;
    return true;
}

/* sign digits . digits e sign digits, underscores between digits; these are taken out in place */
static bool check_decimal(char *t)
{
    char *to = t;
    bool digits = false, was_digit = false;
    if (*t == '+' || *t == '-')
        *to++ = *t++;
    int part = 0; /* 1 after the point, 2 after the e */
    for (; *t; t++) {
        if (*t >= '0' && *t <= '9') {
            digits = was_digit = true;
            *to++ = *t;
            continue;
        }
        if (*t == '_') {
            if (!was_digit || t[1] < '0' || t[1] > '9')
                return false;
        } else if (*t == '.' && part == 0) {
            part = 1;
            *to++ = *t;
        } else if ((*t == 'e' || *t == 'E') && part < 2 && digits) {
            part = 2;
            digits = false;
            *to++ = *t;
            if (t[1] == '+' || t[1] == '-')
                *to++ = *++t;
        } else {
            return false;
        }
        was_digit = false;
    }
    *to = '\0';
    return digits;
}

bool jinja_parse_float(struct jinja *j, const struct jinja_string *s, double *out, bool *ok)
{
    char *t = plain_number(j, s);
    *ok = false;
    if (!t)
        return false;
    if (parse_special(t, out)) {
        *ok = true;
        return true;
    }
    if (!check_decimal(t))
        return true;
    char *dot = strchr(t, '.');
    if (dot)
        *dot = *localeconv()->decimal_point;
    *out = strtod(t, NULL);
    *ok = true;
    return true;
}
