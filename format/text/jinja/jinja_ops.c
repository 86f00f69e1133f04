/* Python's arithmetic on values, and what types are called. */
#include "jinja_inside.h"

#include <math.h>
#include <string.h>

const char *jinja_type_name(struct jinja_value v)
{
    static const char *const names[] = {"Undefined", "NoneType", "bool", "int", "float"};
    if (v.kind <= JINJA_FLOAT)
        return names[v.kind];
    if (v.kind == JINJA_STRING)
        return v.string->safe ? "Markup" : "str";
    return v.kind == JINJA_DICT     ? "dict"
           : v.kind == JINJA_OBJECT ? v.object->type->name
                                    : v.sequence->type_name;
}

bool jinja_truth(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.boolean;
    case JINJA_INT:
        return v.integer != 0;
    case JINJA_FLOAT:
        return v.real != 0;
    case JINJA_STRING:
        return v.string->n != 0;
    case JINJA_DICT:
        return v.dict->count != 0;
    case JINJA_GENERATOR:
    case JINJA_OBJECT:
        return true;
    default:
        return v.sequence->count != 0;
    }
}

/* The two give false where the result does not fit. */
static bool divide_floor(int64_t a, int64_t b, int64_t *quotient, int64_t *rest)
{
    if (b == -1)
        return !__builtin_sub_overflow((int64_t)0, a, quotient);
    *quotient = a / b;
    *rest = a % b;
    if (*rest != 0 && (*rest < 0) != (b < 0)) {
        --*quotient;
        *rest += b;
    }
    return true;
}

static bool int_power(int64_t base, int64_t exponent, int64_t *result)
{
    for (*result = 1;;) {
        if ((exponent & 1) && __builtin_mul_overflow(*result, base, result))
            return false;
        exponent >>= 1;
        if (exponent == 0)
            return true;
        if (__builtin_mul_overflow(base, base, &base))
            return false;
    }
}

static bool float_power(struct jinja *j, double a, double b, struct jinja_value *out)
{
    if (a == 0 && b < 0)
        return jinja_raise(j, "ZeroDivisionError", "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return jinja_refuse(j, "a complex number");
    double r = pow(a, b);
    if (isinf(r) && isfinite(a) && isfinite(b))
        return jinja_raise(j, "OverflowError", "(34, 'Numerical result out of range')");
    *out = jinja_float(r);
    return true;
}

/* a / b rounded once, as Python does for integers beyond 2^53 */
static double int_true_divide(int64_t a, int64_t b)
{
    const int64_t exact = (int64_t)1 << 53;
    if (a <= exact && a >= -exact && b <= exact && b >= -exact)
        return (double)a / (double)b;
    return (double)((long double)a / (long double)b);
}

static bool int_arithmetic(struct jinja *j, enum jinja_operator op, int64_t a, int64_t b,
                           struct jinja_value *out)
{
    int64_t r = 0, rest = 0;
    bool over = false;
    if (op == JINJA_POW && b < 0)
        return float_power(j, (double)a, (double)b, out);
    if (b == 0 && (op == JINJA_DIV || op == JINJA_FLOOR_DIV || op == JINJA_MOD))
        return jinja_raise(j, "ZeroDivisionError",
                           op == JINJA_DIV   ? "division by zero"
                           : op == JINJA_MOD ? "integer modulo by zero"
                                             : "integer division or modulo by zero");
    if (op == JINJA_DIV) {
        *out = jinja_float(int_true_divide(a, b));
        return true;
    }
    if (op == JINJA_ADD)
        over = __builtin_add_overflow(a, b, &r);
    else if (op == JINJA_SUB)
        over = __builtin_sub_overflow(a, b, &r);
    else if (op == JINJA_MUL)
        over = __builtin_mul_overflow(a, b, &r);
    else if (op == JINJA_POW)
        over = !int_power(a, b, &r);
    else if (op == JINJA_FLOOR_DIV || b != -1)
        over = !divide_floor(a, b, &r, &rest);
    *out = jinja_int(op == JINJA_MOD ? rest : r);
    return !over || jinja_stop(j, JINJA_LIMIT, "an integer does not fit in 64 bits");
}

/* Python's float_divmod */
static void float_divide(double a, double b, double *quotient, double *rest)
{
    double mod = fmod(a, b);
    double div = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    double whole = 0;
    if (div != 0) {
        whole = floor(div);
        if (div - whole > 0.5)
            whole += 1;
    } else {
        whole = copysign(0, a / b);
    }
    *quotient = whole;
    *rest = mod;
}

static bool float_arithmetic(struct jinja *j, enum jinja_operator op, double a, double b,
                             struct jinja_value *out)
{
    double quotient, rest, r;
    if (op == JINJA_POW)
        return float_power(j, a, b, out);
    if (b == 0 && (op == JINJA_DIV || op == JINJA_FLOOR_DIV || op == JINJA_MOD))
        return jinja_raise(j, "ZeroDivisionError",
                           op == JINJA_MOD   ? "float modulo"
                           : op == JINJA_DIV ? "float division by zero"
                                             : "float floor division by zero");
    if (op == JINJA_FLOOR_DIV || op == JINJA_MOD) {
        float_divide(a, b, &quotient, &rest);
        r = op == JINJA_MOD ? rest : quotient;
    } else {
        r = op == JINJA_ADD ? a + b : op == JINJA_SUB ? a - b : op == JINJA_MUL ? a * b : a / b;
    }
    *out = jinja_float(r);
    return true;
}

/* ---- sequences ---- */

static bool is_sequence(struct jinja_value v)
{
    return v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE;
}

static bool add_sequences(struct jinja *j, struct jinja_value a, struct jinja_value b,
                          struct jinja_value *out)
{
    struct jinja_sequence *s =
        jinja_new_sequence(j, a.kind, a.sequence->count + b.sequence->count, out);
    if (!s)
        return false;
    if (a.sequence->count)
        memcpy(s->items, a.sequence->items, a.sequence->count * sizeof *s->items);
    if (b.sequence->count)
        memcpy(s->items + a.sequence->count, b.sequence->items,
               b.sequence->count * sizeof *s->items);
    return true;
}

static bool concatenate(struct jinja *j, struct jinja_value a, struct jinja_value b,
                        struct jinja_value *out)
{
    const char *left = a.kind == JINJA_STRING ? "str" : jinja_type_name(a);
    if (a.kind != b.kind)
        return jinja_raise(j, "TypeError", "can only concatenate %s (not \"%s\") to %s", left,
                           jinja_type_name(b), left);
    if (a.kind != JINJA_STRING)
        return add_sequences(j, a, b, out);
    struct jinja_builder text = {0};
    if (a.string->safe || b.string->safe) {
        if (!jinja_add_escaped(j, &text, a.string) || !jinja_add_escaped(j, &text, b.string) ||
            !jinja_build(j, &text, out))
            return false;
        return jinja_mark_safe(j, *out, out);
    }
    return jinja_add_string(j, &text, a.string) && jinja_add_string(j, &text, b.string) &&
           jinja_build(j, &text, out);
}

static bool repeat(struct jinja *j, struct jinja_value v, int64_t times, struct jinja_value *out)
{
    uint64_t n = times > 0 ? (uint64_t)times : 0;
    if (v.kind == JINJA_STRING) {
        struct jinja_builder text = {0};
        if (!jinja_add_fill(j, &text, v.string, n) || !jinja_build(j, &text, out))
            return false;
        return v.string->safe ? jinja_mark_safe(j, *out, out) : true;
    }
    uint64_t count;
    if (__builtin_mul_overflow(n, v.sequence->count, &count) || count > SIZE_MAX / 64)
        return jinja_alloc(j, UINT64_MAX / 2) != NULL;
    struct jinja_sequence *s = jinja_new_sequence(j, v.kind, count, out);
    for (uint64_t i = 0; s && i < count; i++)
        s->items[i] = v.sequence->items[i % v.sequence->count];
    return s != NULL;
}

static bool no_operator(struct jinja *j, enum jinja_operator op, struct jinja_value a,
                        struct jinja_value b)
{
    static const char *const signs[] = {
        [JINJA_ADD] = "+", [JINJA_SUB] = "-",        [JINJA_MUL] = "*",          [JINJA_DIV] = "/",
        [JINJA_MOD] = "%", [JINJA_FLOOR_DIV] = "//", [JINJA_POW] = "** or pow()"};
    return jinja_raise(j, "TypeError", "unsupported operand type(s) for %s: '%s' and '%s'",
                       signs[op], jinja_type_name(a), jinja_type_name(b));
}

static bool arithmetic(struct jinja *j, enum jinja_operator op, struct jinja_value a,
                       struct jinja_value b, struct jinja_value *out)
{
    if (op == JINJA_MOD && a.kind == JINJA_STRING)
        return jinja_refuse(j, "formatting with %% and a string");
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, a.kind == JINJA_UNDEFINED ? a : b);
    if (jinja_is_int(a) && jinja_is_int(b))
        return int_arithmetic(j, op, jinja_int_of(a), jinja_int_of(b), out);
    if (jinja_is_number(a) && jinja_is_number(b))
        return float_arithmetic(j, op, jinja_float_of(a), jinja_float_of(b), out);
    if (op == JINJA_ADD && is_sequence(a))
        return concatenate(j, a, b, out);
    if (op == JINJA_MUL && (is_sequence(a) || is_sequence(b))) {
        if (is_sequence(a) && jinja_is_int(b))
            return repeat(j, a, jinja_int_of(b), out);
        if (is_sequence(b) && jinja_is_int(a))
            return repeat(j, b, jinja_int_of(a), out);
        return jinja_raise(j, "TypeError", "can't multiply sequence by non-int of type '%s'",
                           jinja_type_name(is_sequence(a) ? b : a));
    }
    return no_operator(j, op, a, b);
}

bool jinja_operate(struct jinja *j, enum jinja_operator op, struct jinja_value a,
                   struct jinja_value b, struct jinja_value *out)
{
    bool yes;
    switch (op) {
    case JINJA_EQ:
    case JINJA_NE:
        if (!jinja_equal(j, a, b, &yes))
            return false;
        *out = jinja_bool(yes == (op == JINJA_EQ));
        return true;
    case JINJA_LT:
    case JINJA_LE:
    case JINJA_GT:
    case JINJA_GE:
        return jinja_order(j, op, a, b, out);
    case JINJA_IN:
    case JINJA_NOT_IN:
        if (!jinja_contains(j, a, b, &yes))
            return false;
        *out = jinja_bool(yes == (op == JINJA_IN));
        return true;
    default:
        return arithmetic(j, op, a, b, out);
    }
}

bool jinja_sign(struct jinja *j, char sign, struct jinja_value v, struct jinja_value *out)
{
    bool minus = sign == '-';
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (jinja_is_int(v))
        return int_arithmetic(j, minus ? JINJA_SUB : JINJA_ADD, 0, jinja_int_of(v), out);
    if (v.kind != JINJA_FLOAT)
        return jinja_raise(j, "TypeError", "bad operand type for unary %c: '%s'", sign,
                           jinja_type_name(v));
    *out = jinja_float(minus ? -v.real : v.real);
    return true;
}
