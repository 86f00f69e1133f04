/* jinja2's tests: value is NAME(arguments). */
#include "jinja_methods.h"

#include <string.h>

#define TEST(name)                                                                                 \
    static bool test_##name(struct jinja *j, struct jinja_value value,                             \
                            const struct jinja_args *args, struct jinja_value *out)

/* A test of a value alone */
#define PLAIN_TEST(name, python, yes)                                                              \
    TEST(name)                                                                                     \
    {                                                                                              \
        static const struct jinja_signature signature = {python, "", 0, 1};                        \
        *out = jinja_bool(yes);                                                                    \
        return jinja_bind(j, &signature, args, NULL);                                              \
    }
PLAIN_TEST(defined, "test_defined", value.kind != JINJA_UNDEFINED)
PLAIN_TEST(undefined, "test_undefined", value.kind == JINJA_UNDEFINED)
PLAIN_TEST(none, "test_none", value.kind == JINJA_NONE)
PLAIN_TEST(boolean, "test_boolean", value.kind == JINJA_BOOL)
PLAIN_TEST(is_true, "test_true", value.kind == JINJA_BOOL && value.boolean)
PLAIN_TEST(is_false, "test_false", value.kind == JINJA_BOOL && !value.boolean)
PLAIN_TEST(integer, "test_integer", value.kind == JINJA_INT)
PLAIN_TEST(float, "test_float", value.kind == JINJA_FLOAT)
PLAIN_TEST(number, "test_number", jinja_is_number(value))
PLAIN_TEST(string, "test_string", value.kind == JINJA_STRING)
PLAIN_TEST(mapping, "test_mapping", value.kind == JINJA_DICT)
PLAIN_TEST(escaped, "test_escaped", value.kind == JINJA_STRING && value.string->safe)
PLAIN_TEST(iterable, "test_iterable",
           value.kind == JINJA_UNDEFINED ||
               (value.kind >= JINJA_STRING && value.kind != JINJA_OBJECT))

/* len() and __getitem__: an undefined's __getitem__ is asked for, not called */
PLAIN_TEST(sequence, "test_sequence",
           value.kind == JINJA_UNDEFINED || value.kind == JINJA_STRING ||
               value.kind == JINJA_LIST || value.kind == JINJA_TUPLE || value.kind == JINJA_RANGE ||
               value.kind == JINJA_DICT)

TEST(callable)
{
    *out = jinja_bool(value.kind == JINJA_UNDEFINED ||
                      (value.kind == JINJA_OBJECT && value.object->type->call));
    return jinja_positional(j, "", "callable", 0, 0, args);
}

static bool remainder_is(struct jinja *j, struct jinja_value value, struct jinja_value by,
                         int64_t rest, struct jinja_value *out)
{
    struct jinja_value r;
    return jinja_operate(j, JINJA_MOD, value, by, &r) &&
           jinja_operate(j, JINJA_EQ, r, jinja_int(rest), out);
}

TEST(odd)
{
    static const struct jinja_signature signature = {"test_odd", "", 0, 1};
    return jinja_bind(j, &signature, args, NULL) && remainder_is(j, value, jinja_int(2), 1, out);
}

TEST(even)
{
    static const struct jinja_signature signature = {"test_even", "", 0, 1};
    return jinja_bind(j, &signature, args, NULL) && remainder_is(j, value, jinja_int(2), 0, out);
}

TEST(divisibleby)
{
    static const struct jinja_signature signature = {"test_divisibleby", "num", 1, 1};
    struct jinja_value by = jinja_none();
    return jinja_bind(j, &signature, args, &by) && remainder_is(j, value, by, 0, out);
}

TEST(in)
{
    static const struct jinja_signature signature = {"test_in", "seq", 1, 1};
    struct jinja_value box = jinja_none();
    return jinja_bind(j, &signature, args, &box) && jinja_operate(j, JINJA_IN, value, box, out);
}

TEST(lower)
{
    static const struct jinja_signature signature = {"test_lower", "", 0, 1};
    struct jinja_value text;
    return jinja_bind(j, &signature, args, NULL) && jinja_str(j, value, &text) &&
           jinja_str_islower(j, text, args, out);
}

TEST(upper)
{
    static const struct jinja_signature signature = {"test_upper", "", 0, 1};
    struct jinja_value text;
    return jinja_bind(j, &signature, args, NULL) && jinja_str(j, value, &text) &&
           jinja_str_isupper(j, text, args, out);
}

/* Is it one object in Python? Small integers and short strings may be by accident of the
 * interpreter; here a string is itself when its bytes are the same ones. */
static bool same_object(struct jinja_value a, struct jinja_value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case JINJA_UNDEFINED:
        return a.undefined == b.undefined;
    case JINJA_NONE:
        return true;
    case JINJA_BOOL:
        return a.boolean == b.boolean;
    case JINJA_INT:
        return a.integer == b.integer;
    case JINJA_FLOAT:
        return memcmp(&a.real, &b.real, sizeof a.real) == 0;
    case JINJA_STRING:
        return jinja_same_string(a.string, b.string);
    case JINJA_DICT:
        return a.dict == b.dict;
    case JINJA_OBJECT:
        return a.object == b.object;
    default:
        return a.sequence == b.sequence;
    }
}

TEST(sameas)
{
    static const struct jinja_signature signature = {"test_sameas", "other", 1, 1};
    struct jinja_value other = jinja_none();
    if (!jinja_bind(j, &signature, args, &other))
        return false;
    if (value.kind == JINJA_STRING && !jinja_spend_bytes(j, value.string->n))
        return false;
    *out = jinja_bool(same_object(value, other));
    return true;
}

/* value in a table of names: hashing what has no hash raises */
static bool name_known(struct jinja *j, struct jinja_value value, jinja_function *found,
                       struct jinja_value *out)
{
    uint64_t hash;
    if (!jinja_hash(j, value, 0, &hash))
        return jinja_raise(j, "TypeError", "unhashable type: '%s'", jinja_type_name(value));
    *out = jinja_bool(found != NULL);
    return true;
}

TEST(filter)
{
    static const struct jinja_signature signature = {"test_filter", "", 0, 2};
    jinja_function *found =
        value.kind == JINJA_STRING ? jinja_find_filter(value.string->bytes, value.string->n) : NULL;
    return jinja_bind(j, &signature, args, NULL) && name_known(j, value, found, out);
}

TEST(test)
{
    static const struct jinja_signature signature = {"test_test", "", 0, 2};
    jinja_function *found =
        value.kind == JINJA_STRING ? jinja_find_test(value.string->bytes, value.string->n) : NULL;
    return jinja_bind(j, &signature, args, NULL) && name_known(j, value, found, out);
}

#define COMPARE_TEST(name, op)                                                                     \
    TEST(name)                                                                                     \
    {                                                                                              \
        if (args->n_keywords)                                                                      \
            return jinja_raise(j, "TypeError",                                                     \
                               "_operator." #name "() takes no keyword arguments");                \
        if (args->count != 1)                                                                      \
            return jinja_raise(j, "TypeError", #name " expected 2 arguments, got %zu",             \
                               args->count + 1);                                                   \
        return jinja_operate(j, op, value, args->items[0], out);                                   \
    }
COMPARE_TEST(eq, JINJA_EQ)
COMPARE_TEST(ne, JINJA_NE)
COMPARE_TEST(lt, JINJA_LT)
COMPARE_TEST(le, JINJA_LE)
COMPARE_TEST(gt, JINJA_GT)
COMPARE_TEST(ge, JINJA_GE)

static const struct jinja_named_function tests[] = {
    {"defined", test_defined},
    {"undefined", test_undefined},
    {"none", test_none},
    {"string", test_string},
    {"mapping", test_mapping},
    {"iterable", test_iterable},
    {"sequence", test_sequence},
    {"boolean", test_boolean},
    {"true", test_is_true},
    {"false", test_is_false},
    {"integer", test_integer},
    {"float", test_float},
    {"number", test_number},
    {"callable", test_callable},
    {"sameas", test_sameas},
    {"escaped", test_escaped},
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"in", test_in},
    {"lower", test_lower},
    {"upper", test_upper},
    {"filter", test_filter},
    {"test", test_test},
    {"==", test_eq},
    {"eq", test_eq},
    {"equalto", test_eq},
    {"!=", test_ne},
    {"ne", test_ne},
    {">", test_gt},
    {"gt", test_gt},
    {"greaterthan", test_gt},
    {">=", test_ge},
    {"ge", test_ge},
    {"<", test_lt},
    {"lt", test_lt},
    {"lessthan", test_lt},
    {"<=", test_le},
    {"le", test_le},
};

jinja_function *jinja_find_test(const char *name, size_t n)
{
    return jinja_find_function(tests, sizeof tests / sizeof *tests, name, n);
}
