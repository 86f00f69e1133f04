/* Python's arithmetic on values, and what types are called. */
#include "jinja_inside.h"

#include <math.h>
#include <string.h>

const char *jinja_type_name(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_UNDEFINED:
        return "Undefined";
    case JINJA_NONE:
        return "NoneType";
    case JINJA_BOOL:
        return "bool";
    case JINJA_INT:
        return "int";
    case JINJA_FLOAT:
        return "float";
    case JINJA_STRING:
        return v.string->safe ? "Markup" : "str";
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_GENERATOR:
    case JINJA_VIEW:
    case JINJA_RANGE:
        return v.sequence->type_name;
    case JINJA_DICT:
        return "dict";
    case JINJA_OBJECT:
        break;
    }
    return v.object->type->name;
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
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
    case JINJA_RANGE:
        return v.sequence->count != 0;
    case JINJA_DICT:
        return v.dict->count != 0;
    case JINJA_GENERATOR:
    case JINJA_OBJECT:
        break;
    }
    return true;
}

static bool too_big(struct jinja *j)
{
    return jinja_stop(j, JINJA_LIMIT, "an integer does not fit in 64 bits");
}

static bool divide_floor(struct jinja *j, int64_t a, int64_t b, int64_t *quotient, int64_t *rest)
{
    if (b == -1) {
        *rest = 0;
        return __builtin_sub_overflow((int64_t)0, a, quotient) ? too_big(j) : true;
    }
    *quotient = a / b;
    *rest = a % b;
    if (*rest != 0 && (*rest < 0) != (b < 0)) {
        --*quotient;
        *rest += b;
    }
    return true;
}

static bool int_power(struct jinja *j, int64_t base, int64_t exponent, int64_t *out)
{
    int64_t result = 1;
    for (;;) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return too_big(j);
        exponent >>= 1;
        if (exponent == 0)
            break;
        if (__builtin_mul_overflow(base, base, &base))
            return too_big(j);
    }
    *out = result;
    return true;
}

static bool float_power(struct jinja *j, double a, double b, struct jinja_value *out)
{
    if (a == 0 && b < 0)
        return jinja_raise(j, "ZeroDivisionError", "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return jinja_stop(j, JINJA_RUNTIME, "complex numbers are not supported");
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
    int64_t r = 0, rest;
    bool over = false;
    switch (op) {
    case JINJA_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case JINJA_SUB:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case JINJA_MUL:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case JINJA_DIV:
        if (b == 0)
            return jinja_raise(j, "ZeroDivisionError", "division by zero");
        *out = jinja_float(int_true_divide(a, b));
        return true;
    case JINJA_FLOOR_DIV:
        if (b == 0)
            return jinja_raise(j, "ZeroDivisionError", "integer division or modulo by zero");
        if (!divide_floor(j, a, b, &r, &rest))
            return false;
        break;
    case JINJA_MOD:
        if (b == 0)
            return jinja_raise(j, "ZeroDivisionError", "integer modulo by zero");
        if (b != -1 && !divide_floor(j, a, b, &rest, &r))
            return false;
        break;
    default:
        if (b < 0)
            return float_power(j, (double)a, (double)b, out);
        if (!int_power(j, a, b, &r))
            return false;
        break;
    }
    if (over)
        return too_big(j);
    *out = jinja_int(r);
    return true;
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
    double quotient, rest;
    switch (op) {
    case JINJA_ADD:
        *out = jinja_float(a + b);
        return true;
    case JINJA_SUB:
        *out = jinja_float(a - b);
        return true;
    case JINJA_MUL:
        *out = jinja_float(a * b);
        return true;
    case JINJA_DIV:
        if (b == 0)
            return jinja_raise(j, "ZeroDivisionError", "float division by zero");
        *out = jinja_float(a / b);
        return true;
    case JINJA_FLOOR_DIV:
    case JINJA_MOD:
        if (b == 0)
            return jinja_raise(j, "ZeroDivisionError",
                               op == JINJA_MOD ? "float modulo" : "float floor division by zero");
        float_divide(a, b, &quotient, &rest);
        *out = jinja_float(op == JINJA_MOD ? rest : quotient);
        return true;
    default:
        return float_power(j, a, b, out);
    }
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
        jinja_new_sequence(j, a.kind, a.kind == JINJA_LIST ? "list" : "tuple",
                           a.sequence->count + b.sequence->count, out);
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
    struct jinja_sequence *s =
        jinja_new_sequence(j, v.kind, v.kind == JINJA_LIST ? "list" : "tuple", count, out);
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
        return jinja_percent(j, a.string, b, out);
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
    struct jinja_builder text = {0};
    bool yes;
    switch (op) {
    case JINJA_CONCAT:
        return jinja_add_str(j, &text, a) && jinja_add_str(j, &text, b) &&
               jinja_build(j, &text, out);
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

bool jinja_negate(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (v.kind == JINJA_FLOAT) {
        *out = jinja_float(-v.real);
        return true;
    }
    if (jinja_is_int(v))
        return int_arithmetic(j, JINJA_SUB, 0, jinja_int_of(v), out);
    return jinja_raise(j, "TypeError", "bad operand type for unary -: '%s'", jinja_type_name(v));
}

bool jinja_plus(struct jinja *j, struct jinja_value v, struct jinja_value *out)
{
    if (v.kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, v);
    if (!jinja_is_number(v))
        return jinja_raise(j, "TypeError", "bad operand type for unary +: '%s'",
                           jinja_type_name(v));
    *out = v.kind == JINJA_FLOAT ? v : jinja_int(jinja_int_of(v));
    return true;
}
