/* Filters that give numbers. */
#include "jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool jinja_filter_abs(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                      struct jinja_value *out)
{
    if (!jinja_positional(j, "", "abs", 0, 0, args))
        return false;
    if (value.kind == JINJA_FLOAT) {
        *out = jinja_float(fabs(value.real));
        return true;
    }
    if (!jinja_is_int(value))
        return jinja_raise(j, "TypeError", "bad operand type for abs(): '%s'",
                           jinja_type_name(value));
    *out = jinja_int(jinja_int_of(value));
    return out->integer >= 0 || jinja_negate(j, *out, out);
}

/* float(v); *ok false: TypeError or ValueError in Python */
static bool to_float(struct jinja *j, struct jinja_value v, double *out, bool *ok)
{
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (v.kind == JINJA_STRING)
        return jinja_parse_float(j, v.string, out, ok);
    *ok = jinja_is_number(v);
    if (*ok)
        *out = jinja_float_of(v);
    return true;
}

bool jinja_filter_float(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_float", "default", 0, 1};
    struct jinja_value fallback = jinja_float(0);
    double f = 0;
    bool ok;
    if (!jinja_bind(j, &signature, args, &fallback) || !to_float(j, value, &f, &ok))
        return false;
    *out = ok ? jinja_float(f) : fallback;
    return true;
}

bool jinja_filter_int(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                      struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_int", "default base", 0, 1};
    struct jinja_value v[2] = {jinja_int(0), jinja_int(10)};
    int64_t i = 0, base = 10;
    double f = 0;
    bool ok = false;
    if (!jinja_bind(j, &signature, args, v))
        return false;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, value);
    if (jinja_is_int(value)) {
        *out = jinja_int(jinja_int_of(value));
        return true;
    }
    bool sane = jinja_is_int(v[1]); /* a base that is none fails as a number that is none */
    if (sane)
        base = jinja_int_of(v[1]);
    sane = sane && (base == 0 || (base >= 2 && base <= 36));
    if (value.kind == JINJA_STRING && sane && !jinja_parse_int(j, value.string, base, &i, &ok))
        return false;
    if (ok) {
        *out = jinja_int(i);
        return true;
    }
    if (!to_float(j, value, &f, &ok))
        return false;
    *out = v[0];
    if (!ok || isnan(f) || isinf(f))
        return true;
    if (!jinja_float_to_int(j, f, &i))
        return false;
    *out = jinja_int(i);
    return true;
}

/* Python's round(f, digits): the decimal closest to the exact value, ties to even */
static bool round_float(struct jinja *j, double f, int64_t digits, struct jinja_value *out)
{
    *out = jinja_float(f);
    if (isnan(f) || isinf(f) || f == 0 || digits > 323)
        return true;
    if (digits < -308) {
        *out = jinja_float(copysign(0, f));
        return true;
    }
    char text[700];
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        *out = jinja_float(strtod(text, NULL));
    } else {
        /* digits before the point: round to an integer first would round twice, so by exponent */
        int exponent = (int)floor(log10(fabs(f)));
        int keep = exponent + (int)digits;
        snprintf(text, sizeof text, "%.*e", keep < 0 ? 0 : keep, f);
        double r = strtod(text, NULL), unit = strtod("1", NULL);
        for (int64_t i = 0; i < -digits; i++)
            unit *= 10;
        if (keep < 0)
            r = copysign(fabs(f) > unit / 2 ? unit : 0, f);
        *out = jinja_float(r);
    }
    if (isinf(out->real))
        return jinja_raise(j, "OverflowError", "rounded value too large to represent");
    return true;
}

/* round(i, digits): to a power of ten, ties to even */
static bool round_int(struct jinja *j, int64_t i, int64_t digits, struct jinja_value *out)
{
    int64_t unit = 1;
    *out = jinja_int(i);
    if (digits >= 0)
        return true;
    for (; digits < 0; digits++)
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = jinja_int(0);
            return true;
        }
    int64_t rest = i % unit, down = i - rest;
    int64_t size = rest < 0 ? -rest : rest;
    bool odd = (down / unit) % 2 != 0;
    if (size > unit - size || (size == unit - size && odd))
        return jinja_operate(j, JINJA_ADD, jinja_int(down), jinja_int(i < 0 ? -unit : unit), out);
    *out = jinja_int(down);
    return true;
}

/* ceil or floor of value * 10**precision, divided again */
static bool round_way(struct jinja *j, struct jinja_value value, struct jinja_value precision,
                      bool up, struct jinja_value *out)
{
    struct jinja_value power, scaled;
    int64_t whole;
    if (!jinja_operate(j, JINJA_POW, jinja_int(10), precision, &power) ||
        !jinja_operate(j, JINJA_MUL, value, power, &scaled))
        return false;
    if (!jinja_is_number(scaled))
        return jinja_raise(j, "TypeError", "must be real number, not %s", jinja_type_name(scaled));
    if (scaled.kind == JINJA_FLOAT) {
        if (!jinja_float_to_int(j, up ? ceil(scaled.real) : floor(scaled.real), &whole))
            return false;
        scaled = jinja_int(whole);
    }
    return jinja_operate(j, JINJA_DIV, scaled, power, out);
}

bool jinja_filter_round(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                        struct jinja_value *out)
{
    static const struct jinja_signature signature = {"do_round", "precision method", 0, 1};
    struct jinja_value v[2] = {jinja_int(0), jinja_none()};
    int64_t digits;
    if (!jinja_text_value(j, "common", &v[1]) || !jinja_bind(j, &signature, args, v))
        return false;
    bool known = v[1].kind == JINJA_STRING;
    bool up = known && jinja_string_is(v[1].string, "ceil");
    bool down = known && jinja_string_is(v[1].string, "floor");
    if (!up && !down && !(known && jinja_string_is(v[1].string, "common")))
        return jinja_raise(j, "FilterArgumentError", "method must be common, ceil or floor");
    if (value.kind == JINJA_UNDEFINED && (up || down))
        return jinja_raise_undefined(j, value);
    if (up || down)
        return round_way(j, value, v[0], up, out);
    if (!jinja_is_number(value))
        return jinja_raise(j, "TypeError", "type %s doesn't define __round__ method",
                           jinja_type_name(value));
    if (v[0].kind == JINJA_NONE && value.kind == JINJA_FLOAT) {
        if (!round_float(j, value.real, 0, out) || !jinja_float_to_int(j, out->real, &digits))
            return false;
        *out = jinja_int(digits);
        return true;
    }
    digits = 0;
    if (v[0].kind != JINJA_NONE && !jinja_index(j, v[0], &digits))
        return false;
    return value.kind == JINJA_FLOAT ? round_float(j, value.real, digits, out)
                                     : round_int(j, jinja_int_of(value), digits, out);
}
