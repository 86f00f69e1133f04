/* jinja2's tests: value is NAME(arguments). */
#include "jinja_inside.h"

#define TEST(name)                                                                                 \
    static bool test_##name(struct jinja *j, struct jinja_value value,                             \
                            const struct jinja_args *args, struct jinja_value *out)

/* A test of a value alone */
#define PLAIN_TEST(name, yes)                                                                      \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)j, (void)args;                                                                       \
        *out = jinja_bool(yes);                                                                    \
        return true;                                                                               \
    }
PLAIN_TEST(defined, value.kind != JINJA_UNDEFINED)
PLAIN_TEST(undefined, value.kind == JINJA_UNDEFINED)
PLAIN_TEST(none, value.kind == JINJA_NONE)
PLAIN_TEST(boolean, value.kind == JINJA_BOOL)
PLAIN_TEST(is_true, value.kind == JINJA_BOOL && value.boolean)
PLAIN_TEST(is_false, value.kind == JINJA_BOOL && !value.boolean)
PLAIN_TEST(integer, value.kind == JINJA_INT)
PLAIN_TEST(float, value.kind == JINJA_FLOAT)
PLAIN_TEST(number, jinja_is_number(value))
PLAIN_TEST(string, value.kind == JINJA_STRING)
PLAIN_TEST(mapping, value.kind == JINJA_DICT)
PLAIN_TEST(iterable, jinja_is_iterable(value))
PLAIN_TEST(callable, value.kind == JINJA_UNDEFINED ||
                         (value.kind == JINJA_OBJECT && value.object->type->call))

/* len() and __getitem__: an undefined's __getitem__ is asked for, not called */
PLAIN_TEST(sequence, value.kind == JINJA_UNDEFINED || value.kind == JINJA_STRING ||
                         value.kind == JINJA_LIST || value.kind == JINJA_TUPLE ||
                         value.kind == JINJA_RANGE || value.kind == JINJA_DICT)

/* value % by == rest */
static bool remainder_is(struct jinja *j, struct jinja_value value, struct jinja_value by,
                         int64_t rest, struct jinja_value *out)
{
    struct jinja_value r;
    return jinja_operate(j, JINJA_MOD, value, by, &r) &&
           jinja_operate(j, JINJA_EQ, r, jinja_int(rest), out);
}

#define REST_TEST(name, rest)                                                                      \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)args;                                                                                \
        return remainder_is(j, value, jinja_int(2), rest, out);                                    \
    }
REST_TEST(odd, 1)
REST_TEST(even, 0)

TEST(divisibleby)
{
    return remainder_is(j, value, args->items[0], 0, out);
}

#define COMPARE_TEST(name, op)                                                                     \
    TEST(name)                                                                                     \
    {                                                                                              \
        return jinja_operate(j, op, value, args->items[0], out);                                   \
    }
COMPARE_TEST(in, JINJA_IN)
COMPARE_TEST(eq, JINJA_EQ)
COMPARE_TEST(ne, JINJA_NE)
COMPARE_TEST(lt, JINJA_LT)
COMPARE_TEST(le, JINJA_LE)
COMPARE_TEST(gt, JINJA_GT)
COMPARE_TEST(ge, JINJA_GE)

#define PLAIN(name)                                                                                \
    {                                                                                              \
#name, test_##name,                                                                        \
        {                                                                                          \
            "test_" #name, "", 0, 1, JINJA_BY_NAME                                                 \
        }                                                                                          \
    }
/* Of the operator module, where both operands count */
#define OPERATOR(name, python)                                                                     \
    {                                                                                              \
        name, test_##python,                                                                       \
        {                                                                                          \
            "_operator." #python, "other", 1, 1, JINJA_BY_POSITION                                 \
        }                                                                                          \
    }
static const struct jinja_builtin tests[] = {
    PLAIN(defined),
    PLAIN(undefined),
    PLAIN(none),
    PLAIN(string),
    PLAIN(mapping),
    PLAIN(iterable),
    PLAIN(sequence),
    PLAIN(boolean),
    {"true", test_is_true, {"test_true", "", 0, 1, JINJA_BY_NAME}},
    {"false", test_is_false, {"test_false", "", 0, 1, JINJA_BY_NAME}},
    PLAIN(integer),
    PLAIN(float),
    PLAIN(number),
    {"callable", test_callable, {"callable", "", 0, 0, JINJA_BY_POSITION}},
    PLAIN(odd),
    PLAIN(even),
    {"divisibleby", test_divisibleby, {"test_divisibleby", "num", 1, 1, JINJA_BY_NAME}},
    {"in", test_in, {"test_in", "seq", 1, 1, JINJA_BY_NAME}},
    OPERATOR("==", eq),
    OPERATOR("eq", eq),
    OPERATOR("equalto", eq),
    OPERATOR("!=", ne),
    OPERATOR("ne", ne),
    OPERATOR(">", gt),
    OPERATOR("gt", gt),
    OPERATOR("greaterthan", gt),
    OPERATOR(">=", ge),
    OPERATOR("ge", ge),
    OPERATOR("<", lt),
    OPERATOR("lt", lt),
    OPERATOR("lessthan", lt),
    OPERATOR("<=", le),
    OPERATOR("le", le),
};

const struct jinja_builtin *jinja_find_test(const char *name, size_t n)
{
    return jinja_find_builtin(tests, sizeof tests / sizeof *tests, name, n);
}

bool jinja_refused_test(const char *name, size_t n)
{
    return jinja_word_in("escaped filter lower sameas test upper", name, n);
}
