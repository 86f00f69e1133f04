/* Values of templates below the templates: origins of bytes, the budget, dicts, numbers as text. */
#include "jinja_filters.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct jinja j;
    struct jinja_error error;
};

static struct jinja *start(struct fixture *f)
{
    *f = (struct fixture){0};
    f->j.steps_left = JINJA_STEPS_MAX;
    f->j.error = &f->error;
    return &f->j;
}

static void end(struct fixture *f)
{
    mem_arena_free(&f->j.arena);
    mem_free(f->error.text);
}

static struct jinja_value text(struct jinja *j, const char *s, bool data)
{
    struct jinja_value v;
    assert_true(jinja_make_string(j, s, strlen(s), data, &v));
    return v;
}

/* The text, and its marks as a line of t and d below it */
static void assert_marked(struct jinja_value v, const char *bytes, const char *marks)
{
    char got[256];
    assert_int_equal(v.kind, JINJA_STRING);
    assert_int_equal(v.string->n, strlen(bytes));
    assert_memory_equal(v.string->bytes, bytes, v.string->n);
    for (size_t i = 0; i < v.string->n; i++)
        got[i] = jinja_mark_at(v.string, i) ? 'd' : 't';
    got[v.string->n] = '\0';
    assert_string_equal(got, marks);
}

/* self.name(items), a method or else a filter */
static struct jinja_value call(struct jinja *j, const char *name, struct jinja_value self, size_t n,
                               const struct jinja_value *items)
{
    struct jinja_args args = {.items = items, .count = n};
    struct jinja_value out;
    const struct jinja_builtin *builtin =
        jinja_find_builtin(jinja_str_methods, jinja_str_methods_count, name, strlen(name));
    if (!builtin)
        builtin = jinja_find_filter(name, strlen(name));
    assert_true(jinja_apply(j, builtin, self, &args, &out));
    return out;
}

/* template + data: "ab" from the template, "CD" from the data */
static struct jinja_value mixed(struct jinja *j)
{
    struct jinja_value v;
    assert_true(jinja_operate(j, JINJA_ADD, text(j, "ab", false), text(j, "CD", true), &v));
    return v;
}

static void every_operation_keeps_the_origin_of_each_byte(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    struct jinja_value v, m = mixed(j), args[2];
    assert_marked(m, "abCD", "ttdd");
    assert_marked(call(j, "upper", m, 0, NULL), "ABCD", "ttdd");
    assert_marked(call(j, "upper", text(j, "\xc3\x9f", true), 0, NULL), "SS", "dd");
    assert_true(jinja_get_slice(j, m, jinja_int(1), jinja_int(3), jinja_none(), &v));
    assert_marked(v, "bC", "td");
    assert_true(jinja_get_slice(j, m, jinja_none(), jinja_none(), jinja_int(-1), &v));
    assert_marked(v, "DCba", "ddtt");
    args[0] = text(j, "b", false), args[1] = text(j, "xy", true);
    assert_marked(call(j, "replace", m, 2, args), "axyCD", "tdddd");
    args[0] = text(j, "D", false), args[1] = text(j, "!", false);
    assert_marked(call(j, "replace", m, 2, args), "abC!", "ttdt");
    assert_true(jinja_operate(j, JINJA_MUL, m, jinja_int(2), &v));
    assert_marked(v, "abCDabCD", "ttddttdd");
    args[0] = text(j, "b", false);
    assert_marked(call(j, "strip", m, 1, args), "abCD", "ttdd");
    assert_false(jinja_operate(j, JINJA_MOD, text(j, "<%s>", false), m, &v));
    end(&f);
}

static void containers_keep_the_origin_of_their_strings(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    struct jinja_value v, list, items[2] = {text(j, "a\n", true), text(j, "b", false)};
    assert_true(jinja_make_sequence(j, JINJA_LIST, items, 2, &list));
    assert_true(jinja_str(j, list, &v));
    assert_marked(v, "['a\\n', 'b']", "ttdddttttttt");
    assert_true(jinja_to_json(j, list, NULL, NULL, false, false, &v));
    assert_marked(v, "[\"a\\n\", \"b\"]", "ttdddttttttt");
    assert_marked(call(j, "join", text(j, ", ", false), 1, &list), "a\n, b", "ddttt");
    assert_marked(call(j, "escape", text(j, "<", true), 0, NULL), "&lt;", "dddd");
    assert_marked(call(j, "format", text(j, "{1}*{0}", false), 2, items), "b*a\n", "ttdd");
    assert_marked(call(j, "indent", text(j, "x\ny", true), 0, NULL), "x\n    y", "dtttttd");
    end(&f);
}

static void a_builder_marks_only_what_differs(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    struct jinja_builder b = {0};
    struct jinja_value v;
    for (int i = 0; i < 1000; i++)
        assert_true(jinja_add(j, &b, "0123456789", 10, true));
    assert_null(b.marks);
    assert_true(jinja_build(j, &b, &v));
    assert_int_equal(v.string->n, 10000);
    assert_true(v.string->data);
    for (int i = 0; i < 1000; i++)
        assert_true(jinja_add(j, &b, "0123456789", 10, i % 2));
    assert_true(jinja_build(j, &b, &v));
    for (size_t i = 0; i < v.string->n; i++)
        assert_int_equal(jinja_mark_at(v.string, i), i / 10 % 2);
    end(&f);
}

static void floats_are_printed_as_python_prints_them(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } known[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {123456789012345680.0, "1.2345678901234568e+17"},
        {0.0001, "0.0001"},
        {0.00001, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {9007199254740993.0, "9007199254740992.0"},
        {100.0, "100.0"},
        {1234.5, "1234.5"},
        {(double)INFINITY, "inf"},
        {-(double)INFINITY, "-inf"},
    };
    char out[JINJA_FLOAT_BUF];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = jinja_float_repr(known[i].value, out);
        assert_string_equal(out, known[i].text);
        assert_int_equal(n, strlen(out));
    }
    for (int i = 0; i < 100000; i++) { /* whatever is printed reads as the same number */
        union {
            uint64_t bits;
            double value;
        } u = {.bits = (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand()};
        if (isnan(u.value))
            continue;
        jinja_float_repr(u.value, out);
        assert_true(strtod(out, NULL) == u.value);
    }
}

static void a_dict_keeps_insertion_order_and_one_key_for_equal_numbers(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    struct jinja_dict *dict = jinja_make_dict(j);
    char name[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "k%d", i * 7 % 1000);
        assert_true(jinja_dict_put(j, dict, text(j, name, false), jinja_int(i)));
    }
    assert_int_equal(dict->count, 1000);
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(name, sizeof name, "k%d", i * 7 % 1000);
        const struct jinja_value *v = jinja_dict_get_name(dict, name, (size_t)n);
        assert_non_null(v);
        assert_int_equal(v->integer, i);
        assert_ptr_equal(v, &dict->entries[i].value);
        assert_ptr_equal(v, jinja_dict_get(j, dict, text(j, name, true)));
    }
    assert_null(jinja_dict_get_name(dict, "k1000", 5));
    struct jinja_value list;
    assert_true(jinja_dict_put(j, dict, jinja_int(1), jinja_int(-1)));
    assert_true(jinja_dict_put(j, dict, jinja_float(1), jinja_int(-2)));
    assert_true(jinja_dict_put(j, dict, jinja_bool(true), jinja_int(-3)));
    assert_int_equal(dict->count, 1001);
    assert_int_equal(jinja_dict_get(j, dict, jinja_float(1))->integer, -3);
    assert_int_equal(dict->entries[1000].key.kind, JINJA_INT);
    assert_true(jinja_make_sequence(j, JINJA_LIST, NULL, 0, &list));
    assert_null(jinja_dict_get(j, dict, list));
    assert_false(j->failed);
    assert_false(jinja_dict_put(j, dict, list, jinja_none()));
    assert_string_equal(f.error.text, "TypeError: unhashable type: 'list'");
    end(&f);
}

static void steps_and_memory_end(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    j->steps_left = 10;
    assert_true(jinja_spend(j, 10));
    assert_false(jinja_spend(j, 1));
    assert_int_equal(f.error.failure, JINJA_LIMIT);
    end(&f);
    j = start(&f);
    assert_null(jinja_alloc(j, JINJA_MEMORY_MAX + 1));
    assert_int_equal(f.error.failure, JINJA_LIMIT);
    end(&f);
    j = start(&f);
    size_t blocks = 0;
    while (jinja_alloc(j, 1 << 20))
        blocks++;
    assert_in_range(blocks, 200, 256);
    assert_true(j->arena.total <= JINJA_MEMORY_MAX);
    end(&f);
    j = start(&f);
    struct jinja_value v;
    assert_false(jinja_operate(j, JINJA_MUL, text(j, "abc", true), jinja_int(INT64_MAX), &v));
    assert_int_equal(f.error.failure, JINJA_LIMIT);
    end(&f);
}

static void nesting_ends(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    struct jinja_value v = jinja_int(1), out;
    uint64_t hash;
    bool equal;
    for (int i = 0; i < 100000; i++)
        assert_true(jinja_make_sequence(j, JINJA_TUPLE, &v, 1, &v));
    assert_false(jinja_equal(j, v, v, &equal));
    assert_int_equal(f.error.failure, JINJA_LIMIT);
    assert_int_equal(j->depth, 0);
    j->failed = false;
    assert_false(jinja_hash(j, v, 0, &hash));
    j->failed = false;
    assert_false(jinja_str(j, v, &out));
    j->failed = false;
    assert_false(jinja_to_json(j, v, NULL, NULL, false, false, &out));
    assert_int_equal(j->depth, 0);
    end(&f);
}

static void integers_and_floats_compare_exactly(void **state)
{
    (void)state;
    int64_t big = (int64_t)1 << 53;
    assert_int_equal(jinja_compare_numbers(jinja_int(big + 1), jinja_float((double)big)), 1);
    assert_int_equal(jinja_compare_numbers(jinja_float((double)big), jinja_int(big + 1)), -1);
    assert_int_equal(jinja_compare_numbers(jinja_int(INT64_MAX), jinja_float(0x1p63)), -1);
    assert_int_equal(jinja_compare_numbers(jinja_int(INT64_MIN), jinja_float(-0x1p63)), 0);
    assert_int_equal(jinja_compare_numbers(jinja_int(1), jinja_float(1.5)), -1);
    assert_int_equal(jinja_compare_numbers(jinja_int(-1), jinja_float(-1.5)), 1);
    assert_int_equal(jinja_compare_numbers(jinja_int(0), jinja_float((double)NAN)), 2);
}

static void dates_are_english_and_right(void **state)
{
    (void)state;
    static const struct {
        int64_t now;
        const char *format, *text;
    } known[] = {
        {0, "%Y-%m-%d %H:%M:%S %A %j %U %W %V %G",
         "1970-01-01 00:00:00 Thursday 001 00 00 01 1970"},
        {951782400, "%d %b %Y %a", "29 Feb 2000 Tue"},
        {1735689599, "%d %B %Y, %I:%M %p %V %G", "31 December 2024, 11:59 PM 01 2025"},
        {1609459200, "%F %T %V %G %u%w", "2021-01-01 00:00:00 53 2020 55"},
        {-1, "%c|%-d|%e|%%|%q|%", "Wed Dec 31 23:59:59 1969|31|31|%|%q|%"},
        {253402300799, "%Y", "9999"},
    };
    struct fixture f;
    struct jinja *j = start(&f);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct jinja_value out;
        assert_true(jinja_strftime(j, text(j, known[i].format, false).string, known[i].now, &out));
        assert_string_equal(jinja_string_text(j, out.string), known[i].text);
    }
    end(&f);
}

static void an_error_is_kept_and_the_first_one_wins(void **state)
{
    (void)state;
    struct fixture f;
    struct jinja *j = start(&f);
    j->line = 7;
    assert_false(jinja_raise(j, "TypeError", "%d", 1));
    assert_false(jinja_raise(j, "ValueError", "%d", 2));
    assert_string_equal(f.error.text, "TypeError: 1");
    assert_int_equal(f.error.line, 7);
    assert_int_equal(f.error.failure, JINJA_RUNTIME);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_keeps_the_origin_of_each_byte),
        cmocka_unit_test(containers_keep_the_origin_of_their_strings),
        cmocka_unit_test(a_builder_marks_only_what_differs),
        cmocka_unit_test(floats_are_printed_as_python_prints_them),
        cmocka_unit_test(a_dict_keeps_insertion_order_and_one_key_for_equal_numbers),
        cmocka_unit_test(steps_and_memory_end),
        cmocka_unit_test(nesting_ends),
        cmocka_unit_test(integers_and_floats_compare_exactly),
        cmocka_unit_test(dates_are_english_and_right),
        cmocka_unit_test(an_error_is_kept_and_the_first_one_wins),
    };
    return cmocka_run_group_tests_name("jinja_value", tests, NULL, NULL);
}
