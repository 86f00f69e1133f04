/* Fields: padding, signs, grouping; format(value, spec). */
#include "jinja_spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A float with more digits than this is a limit; a double has 767 at most that are not zero. */
enum { PRECISION_MAX = 4096 };

bool jinja_add_field(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                     const struct jinja_string *s, size_t sign)
{
    unsigned char bytes[4];
    uint32_t c = spec->fill ? spec->fill : ' ';
    size_t n = (size_t)utf8proc_encode_char((utf8proc_int32_t)c, bytes);
    struct jinja_string fill = {.bytes = (char *)bytes, .n = n, .n_chars = 1, .data = spec->data};
    uint64_t room = 0, left = 0;
    if (spec->width > 0 && (uint64_t)spec->width > s->n_chars)
        room = (uint64_t)spec->width - s->n_chars;
    if (spec->align == '=')
        return jinja_add_part(j, b, s, 0, sign) && jinja_add_fill(j, b, &fill, room) &&
               jinja_add_part(j, b, s, sign, s->n);
    left = spec->align == '>' ? room : spec->align == '^' ? room / 2 : 0;
    return jinja_add_fill(j, b, &fill, left) && jinja_add_string(j, b, s) &&
           jinja_add_fill(j, b, &fill, room - left);
}

/* ---- numbers ---- */

/* A number in the making: sign and prefix, digits, the rest (point, exponent). */
struct number {
    char sign[4];
    const char *digits;
    size_t n_digits;
    const char *rest;
};

/* Digits in groups from the right; with '=' and a fill of 0 the padding is grouped, too. */
static bool add_grouped(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                        const struct number *number)
{
    size_t every = spec->type && strchr("xXob", spec->type) ? 4 : 3;
    size_t around = strlen(number->sign) + strlen(number->rest);
    uint64_t digits = number->n_digits;
    if (spec->align == '=' && spec->fill == '0' && spec->width > 0)
        while (digits + (digits - 1) / every + around < (uint64_t)spec->width)
            if (++digits > PRECISION_MAX)
                return jinja_stop(j, JINJA_LIMIT, "a number in a field of %lld",
                                  (long long)spec->width);
    for (uint64_t i = 0; i < digits; i++) {
        uint64_t left = digits - i;
        char c = left > number->n_digits ? '0' : number->digits[number->n_digits - left];
        if ((i && left % every == 0 && !jinja_add(j, b, &spec->grouping, 1, false)) ||
            !jinja_add(j, b, &c, 1, false))
            return false;
    }
    return true;
}

static bool add_number(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                       const struct number *number)
{
    struct jinja_builder text = {0};
    struct jinja_value whole;
    struct jinja_spec field = *spec;
    if (!field.align)
        field.align = '>';
    bool ok = jinja_add_text(j, &text, number->sign);
    if (ok && spec->grouping)
        ok = add_grouped(j, &text, &field, number);
    else if (ok)
        ok = jinja_add(j, &text, number->digits, number->n_digits, false);
    return ok && jinja_add_text(j, &text, number->rest) && jinja_build(j, &text, &whole) &&
           jinja_add_field(j, b, &field, whole.string, strlen(number->sign));
}

static void set_sign(struct number *number, const struct jinja_spec *spec, bool negative)
{
    size_t n = 0;
    if (negative)
        number->sign[n++] = '-';
    else if (spec->sign == '+' || spec->sign == ' ')
        number->sign[n++] = spec->sign;
    number->sign[n] = '\0';
}

bool jinja_add_integer(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                       int64_t i)
{
    char digits[72];
    size_t at = sizeof digits;
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    uint64_t base = spec->type == 'x' || spec->type == 'X' ? 16
                    : spec->type == 'o'                    ? 8
                    : spec->type == 'b'                    ? 2
                                                           : 10;
    const char *set = spec->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    do
        digits[--at] = set[u % base];
    while (u /= base);
    struct number number = {.digits = digits + at, .n_digits = sizeof digits - at, .rest = ""};
    set_sign(&number, spec, i < 0);
    if (spec->alternate && base != 10) {
        size_t n = strlen(number.sign);
        number.sign[n] = '0';
        number.sign[n + 1] = spec->type;
        number.sign[n + 2] = '\0';
    }
    return add_number(j, b, spec, &number);
}

/* |f| as C's printf has it, the locale's point made one. NULL on error. */
static char *print_real(struct jinja *j, const char *format, int precision, double f)
{
    size_t size = (size_t)precision + 400;
    char *text = jinja_spend_bytes(j, size) ? jinja_alloc(j, size) : NULL;
    if (!text)
        return NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, size, format, precision, f);
#pragma GCC diagnostic pop
    for (char *c = text; *c; c++)
        if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
              *c == '+' || *c == '-'))
            *c = '.';
    return text;
}

/* No type but a precision: g, that has a point, and turns to an exponent one digit earlier. */
static char *print_plain(struct jinja *j, int precision, double f)
{
    if (precision == 0)
        precision = 1;
    char *text = print_real(j, "%.*e", precision - 1, f);
    if (!text || f == 0)
        return text ? print_real(j, "%.*f", 1, f) : NULL;
    int exponent = atoi(strchr(text, 'e') + 1);
    bool fixed = exponent >= -4 && exponent < precision - 1;
    if (!fixed)
        return text;
    text = print_real(j, "%.*g", precision, f);
    if (text && !strchr(text, '.'))
        strcat(text, ".0");
    return text;
}

/* Zeros behind the point of an exponent's mantissa go, as %g has it. */
static void trim_mantissa(char *text)
{
    char *e = strchr(text, 'e'), *end = e;
    if (!e || !strchr(text, '.'))
        return;
    while (end[-1] == '0')
        end--;
    if (end[-1] == '.')
        end--;
    memmove(end, e, strlen(e) + 1);
}

static char *real_text(struct jinja *j, const struct jinja_spec *spec, double f)
{
    char format[8] = "%.*g";
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (spec->type == 0 && spec->precision >= 0) {
        char *text = print_plain(j, precision, f);
        if (text && !spec->alternate)
            trim_mantissa(text);
        return text;
    }
    if (spec->type == 0) {
        char *text = jinja_alloc(j, JINJA_FLOAT_BUF);
        if (text)
            jinja_float_repr(f, text);
        return text;
    }
    char type = spec->type == '%' ? 'f' : spec->type == 'n' ? 'g' : spec->type;
    if (spec->alternate)
        snprintf(format, sizeof format, "%%#.*%c", type);
    else
        format[3] = type;
    return print_real(j, format, precision, f);
}

bool jinja_add_real(struct jinja *j, struct jinja_builder *b, const struct jinja_spec *spec,
                    double f)
{
    if (spec->precision > PRECISION_MAX)
        return jinja_stop(j, JINJA_LIMIT, "a precision of %lld digits", (long long)spec->precision);
    if (spec->type == '%')
        f *= 100;
    struct number number = {.rest = ""};
    char *text;
    bool negative = signbit(f) && !isnan(f);
    if (isnan(f) || isinf(f)) {
        bool big = spec->type && strchr("EFG", spec->type);
        text = jinja_alloc(j, 8);
        if (text)
            memcpy(text, isnan(f) ? (big ? "NAN" : "nan") : big ? "INF" : "inf", 4);
    } else {
        text = real_text(j, spec, fabs(f));
    }
    if (!text)
        return false;
    if (spec->no_minus_zero && negative && strspn(text, "0.") == strlen(text))
        negative = false;
    set_sign(&number, spec, negative);
    number.digits = text;
    number.n_digits = isfinite(f) ? strspn(text, "0123456789") : strlen(text);
    size_t rest = strlen(text) - number.n_digits;
    char *tail = jinja_alloc(j, rest + 2);
    if (!tail)
        return false;
    memcpy(tail, text + number.n_digits, rest);
    if (spec->type == '%')
        tail[rest] = '%';
    number.rest = tail;
    return add_number(j, b, spec, &number);
}

/* ---- format(value, spec) ---- */

static bool read_count(const struct jinja_string *s, size_t *i, int64_t *out)
{
    bool any = false;
    int64_t n = 0;
    for (; *i < s->n && s->bytes[*i] >= '0' && s->bytes[*i] <= '9'; ++*i) {
        any = true;
        if (n < INT32_MAX)
            n = n * 10 + (s->bytes[*i] - '0');
    }
    *out = n > INT32_MAX ? INT32_MAX : n;
    return any;
}

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '=' || c == '^';
}

static char take(const struct jinja_string *s, size_t *i, const char *set)
{
    if (*i < s->n && strchr(set, s->bytes[*i]) && s->bytes[*i])
        return s->bytes[(*i)++];
    return 0;
}

static bool read_spec(struct jinja *j, const struct jinja_string *s, const char *type_name,
                      struct jinja_spec *spec)
{
    size_t i = 0, n = 0;
    *spec = (struct jinja_spec){.width = -1, .precision = -1, .data = jinja_has_data(s)};
    uint32_t first = s->n ? jinja_char_at(s, 0, &n) : 0;
    if (s->n > n && is_align(s->bytes[n])) {
        spec->fill = first;
        spec->align = s->bytes[n];
        i = n + 1;
    } else {
        spec->align = take(s, &i, "<>=^");
    }
    spec->sign = take(s, &i, "+- ");
    spec->no_minus_zero = take(s, &i, "z") != 0;
    spec->alternate = take(s, &i, "#") != 0;
    if (!spec->fill && i < s->n && s->bytes[i] == '0') {
        spec->fill = '0';
        spec->zero = true;
        i++;
    }
    if (!read_count(s, &i, &spec->width))
        spec->width = -1;
    spec->grouping = take(s, &i, ",");
    char under = take(s, &i, "_");
    char again = under ? take(s, &i, ",") : 0;
    if (spec->grouping && under)
        return jinja_raise(j, "ValueError", "Cannot specify both ',' and '_'.");
    if (again)
        return jinja_raise(j, "ValueError", "Cannot specify both ',' and '_'.");
    if (under)
        spec->grouping = under;
    if (take(s, &i, ".") && !read_count(s, &i, &spec->precision))
        return jinja_raise(j, "ValueError", "Format specifier missing precision");
    if (s->n - i > 1 && (unsigned char)s->bytes[i] < 128)
        return jinja_raise(j, "ValueError", "Invalid format specifier '%s' for object of type '%s'",
                           jinja_string_text(j, s), type_name);
    if (i < s->n)
        spec->type = (unsigned char)s->bytes[i] < 128 ? s->bytes[i] : '?';
    if (spec->grouping && spec->type && !strchr("deEfFgG%", spec->type) &&
        !(spec->grouping == '_' && strchr("boxX", spec->type)))
        return jinja_raise(j, "ValueError", "Cannot specify '%c' with '%c'.", spec->grouping,
                           spec->type);
    return true;
}

static bool no_type(struct jinja *j, const struct jinja_spec *spec, const char *type_name)
{
    return jinja_raise(j, "ValueError", "Unknown format code '%c' for object of type '%s'",
                       spec->type, type_name);
}

static bool format_string(struct jinja *j, struct jinja_builder *b, const struct jinja_string *s,
                          struct jinja_spec *spec)
{
    if (spec->type && spec->type != 's')
        return no_type(j, spec, s->safe ? "Markup" : "str");
    if (spec->sign)
        return jinja_raise(j, "ValueError",
                           spec->sign == ' ' ? "Space not allowed in string format specifier"
                                             : "Sign not allowed in string format specifier");
    if (spec->no_minus_zero)
        return jinja_raise(j, "ValueError",
                           "Negative zero coercion (z) not allowed in string format specifier");
    if (spec->alternate)
        return jinja_raise(j, "ValueError",
                           "Alternate form (#) not allowed in string format specifier");
    if (spec->grouping)
        return jinja_raise(j, "ValueError", "Cannot specify '%c' with 's'.", spec->grouping);
    if (spec->align == '=')
        return jinja_raise(j, "ValueError", "'=' alignment not allowed in string format specifier");
    struct jinja_value cut = jinja_of_string(s);
    if (spec->precision >= 0 &&
        !jinja_get_slice(j, cut, jinja_none(), jinja_int(spec->precision), jinja_none(), &cut))
        return false;
    return jinja_add_field(j, b, spec, cut.string, 0);
}

/* A character by number */
static bool format_char(struct jinja *j, struct jinja_builder *b, struct jinja_spec *spec,
                        int64_t i)
{
    if (spec->sign)
        return jinja_raise(j, "ValueError", "Sign not allowed with integer format specifier 'c'");
    if (spec->alternate)
        return jinja_raise(j, "ValueError",
                           "Alternate form (#) not allowed with integer format specifier 'c'");
    if (i < 0 || i > 0x10ffff || (i >= 0xd800 && i <= 0xdfff))
        return jinja_raise(j, "OverflowError", "%%c arg not in range(0x110000)");
    struct jinja_builder text = {0};
    struct jinja_value one;
    if (!spec->align)
        spec->align = '>';
    return jinja_add_char(j, &text, (uint32_t)i, false) && jinja_build(j, &text, &one) &&
           jinja_add_field(j, b, spec, one.string, 0);
}

static bool format_number(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                          struct jinja_spec *spec)
{
    if (spec->zero && !spec->align)
        spec->align = '=';
    bool real = spec->type && strchr("eEfFgG%", spec->type);
    if (v.kind == JINJA_FLOAT || real) {
        if (spec->type && !real && spec->type != 'n')
            return no_type(j, spec, jinja_type_name(v));
        return jinja_add_real(j, b, spec, jinja_float_of(v));
    }
    if (spec->type && !strchr("bcdoxXn", spec->type))
        return no_type(j, spec, jinja_type_name(v));
    if (spec->precision >= 0)
        return jinja_raise(j, "ValueError", "Precision not allowed in integer format specifier");
    if (spec->no_minus_zero)
        return jinja_raise(j, "ValueError",
                           "Negative zero coercion (z) not allowed in integer format specifier");
    if (spec->type == 'c')
        return format_char(j, b, spec, jinja_int_of(v));
    return jinja_add_integer(j, b, spec, jinja_int_of(v));
}

bool jinja_add_formatted(struct jinja *j, struct jinja_builder *b, struct jinja_value v,
                         const struct jinja_string *text)
{
    struct jinja_spec spec;
    if (text->n == 0)
        return jinja_add_str(j, b, v);
    if (v.kind != JINJA_STRING && !jinja_is_number(v))
        return jinja_raise(j, "TypeError", "unsupported format string passed to %s.__format__",
                           jinja_type_name(v));
    if (!read_spec(j, text, jinja_type_name(v), &spec))
        return false;
    return v.kind == JINJA_STRING ? format_string(j, b, v.string, &spec)
                                  : format_number(j, b, v, &spec);
}
