#include "jinja_lexer.h"

#include "checked.h"
#include "utf8.h"
#include <math.h>
#include <string.h>
#include <utf8proc.h>

/* Letters beyond ASCII stand in a word, too, that is no identifier then. */
bool jinja_is_word(uint32_t c)
{
    if (c < 0x80)
        return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
               (c >= 'A' && c <= 'Z');
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO;
}

/* ---- strings ---- */

static size_t put_utf8(char *out, uint32_t c)
{
    utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out);
    return (size_t)n;
}

static bool bad_string(struct jinja_lexer *lexer, const struct jinja_token *t, const char *why)
{
    return jinja_compile_fail(lexer->compile, JINJA_SYNTAX, t->line, t->column,
                              "TemplateSyntaxError", "%s", why);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xHH, \uHHHH, \UHHHHHHHH: digits from s, *at moves behind them. */
static bool decode_hex(struct jinja_lexer *lexer, const struct jinja_token *t, const char *s,
                       size_t end, size_t *at, size_t digits, uint32_t *c)
{
    *c = 0;
    for (size_t i = 0; i < digits; i++) {
        int d = *at < end ? hex_digit(s[*at]) : -1;
        if (d < 0)
            return bad_string(lexer, t,
                              digits == 2   ? "truncated \\xXX escape"
                              : digits == 4 ? "truncated \\uXXXX escape"
                                            : "truncated \\UXXXXXXXX escape");
        *c = *c << 4 | (uint32_t)d;
        ++*at;
    }
    if (*c > 0x10ffff)
        return bad_string(lexer, t, "illegal Unicode character");
    if (*c >= 0xd800 && *c < 0xe000)
        return bad_string(lexer, t, "surrogates are not supported");
    return true;
}

static const char *const simple_escapes = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";

/* One escape, s[*at] is what follows the backslash. Gives bytes to out. */
static bool decode_escape(struct jinja_lexer *lexer, const struct jinja_token *t, const char *s,
                          size_t end, size_t *at, char *out, size_t *n)
{
    char e = s[(*at)++];
    uint32_t c = 0;
    if (e == '\n')
        return true;
    for (const char *p = simple_escapes; *p; p += 2)
        if (e == *p) {
            out[(*n)++] = p[1];
            return true;
        }
    if (e >= '0' && e <= '7') {
        c = (uint32_t)(e - '0');
        for (int i = 0; i < 2 && *at < end && s[*at] >= '0' && s[*at] <= '7'; i++)
            c = c * 8 + (uint32_t)(s[(*at)++] - '0');
    } else if (e == 'x' || e == 'u' || e == 'U') {
        if (!decode_hex(lexer, t, s, end, at, e == 'x' ? 2 : e == 'u' ? 4 : 8, &c))
            return false;
    } else if (e == 'N') {
        return bad_string(lexer, t, "names of characters (\\N) are not supported");
    } else {
        out[(*n)++] = '\\';
        out[(*n)++] = e;
        return true;
    }
    *n += put_utf8(out + *n, c);
    return true;
}

/* jinja2 writes characters beyond ASCII as escapes and decodes all escapes then: a backslash before
 * one escapes the backslash of the escape. */
static size_t spell_escape(char *out, uint32_t c)
{
    return (size_t)sprintf(out,
                           c < 0x100     ? "\\x%02x"
                           : c < 0x10000 ? "\\u%04x"
                                         : "\\U%08x",
                           (unsigned)c);
}

bool jinja_decode_string(struct jinja_lexer *lexer, struct jinja_token *t)
{
    const char *s = t->text + 1;
    size_t end = t->n - 2, n = 0;
    struct jinja_string *string = jinja_compile_alloc(lexer->compile, sizeof *string);
    char *out = string ? jinja_compile_alloc(lexer->compile, 2 * end + 16) : NULL;
    if (!out)
        return false;
    for (size_t i = 0; i < end;) {
        if (s[i] != '\\') {
            out[n++] = s[i++];
            continue;
        }
        i++;
        if ((unsigned char)s[i] >= 0x80) {
            size_t k = utf8_length((const unsigned char *)s + i, end - i);
            n += spell_escape(out + n, utf8_decode((const unsigned char *)s + i, k));
            i += k;
        } else if (!decode_escape(lexer, t, s, end, &i, out, &n)) {
            return false;
        }
    }
    *string = (struct jinja_string){.bytes = out, .n = n, .n_chars = jinja_count_chars(out, n)};
    t->value = (struct jinja_value){.kind = JINJA_STRING, .string = string};
    return true;
}

/* ---- numbers ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* (\d+_)*\d+ */
static size_t digits_length(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (is_digit(s[i]) || (i && s[i] == '_' && i + 1 < n && is_digit(s[i + 1]))))
        i++;
    return i;
}

static size_t real_length(const char *s, size_t n)
{
    size_t i = digits_length(s, n), fraction = 0;
    if (!i)
        return 0;
    if (i < n && s[i] == '.')
        fraction = digits_length(s + i + 1, n - i - 1);
    if (fraction)
        i += 1 + fraction;
    if (i < n && (s[i] | 0x20) == 'e') {
        size_t k = i + 1;
        if (k < n && (s[k] == '+' || s[k] == '-'))
            k++;
        size_t exponent = digits_length(s + k, n - k);
        if (exponent)
            return k + exponent;
    }
    return fraction ? i : 0;
}

size_t jinja_number_length(const char *s, size_t n, bool after_dot, bool *real)
{
    size_t k = after_dot ? 0 : real_length(s, n);
    *real = k > 0;
    if (k)
        return k;
    k = digits_length(s, n);
    if (k < 2 || s[0] != '0')
        return k;
    for (k = 1; k < n && (s[k] == '0' || (s[k] == '_' && k + 1 < n && s[k + 1] == '0')); k++)
        ;
    return k; /* zeros only are a number, too */
}

bool jinja_decode_number(struct jinja_lexer *lexer, struct jinja_token *t)
{
    char digits[512];
    size_t n = 0;
    bool fits = t->n < sizeof digits;
    for (size_t i = 0; fits && i < t->n; i++)
        if (t->text[i] != '_')
            digits[n++] = t->text[i];
    digits[n] = '\0';
    if (!fits)
        return jinja_compile_fail(lexer->compile, JINJA_LIMIT, t->line, t->column, NULL,
                                  "a number of %zu characters, %zu at most", t->n,
                                  sizeof digits - 1);
    if (t->type == TOKEN_FLOAT) {
        double real;
        if (!tp_parse_double(digits, &real))
            real = INFINITY;
        t->value = jinja_float(real);
        return true;
    }
    int64_t value = 0;
    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digits[i] - '0', &value))
            return jinja_compile_fail(lexer->compile, JINJA_LIMIT, t->line, t->column, NULL,
                                      "%s is an integer of more than 64 bits", digits);
    t->value = jinja_int(value);
    return true;
}
