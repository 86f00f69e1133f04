/* Limits, places of errors, origins of bytes, hostile sources. What templates mean is compared with
 * the reference in tests/e2e/test_templates.py. */
#include "jinja.h"

#include "mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct jinja_options options = {.now = 1721995200};

static struct jinja_template *compiled(const char *source)
{
    struct jinja_error error;
    struct jinja_template *t = jinja_compile(source, strlen(source), &error);
    if (!t)
        fail_msg("%.60s: %s", source, error.text);
    return t;
}

/* The rendering with data (JSON, ' for ") and trusted variables; NULL: it failed, *error says why.
 */
static bool rendered(const char *source, const char *variables, struct jinja_text *out,
                     struct jinja_error *error)
{
    char json[1024];
    snprintf(json, sizeof json, "%s", variables);
    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_t *data = json_loads(json, 0, NULL), *trusted = json_pack("{s:s}", "bos", "<s>");
    struct jinja_template *t = compiled(source);
    assert_non_null(data);
    bool ok = jinja_render(t, trusted, data, &options, out, error);
    jinja_template_free(t);
    json_decref(data);
    json_decref(trusted);
    return ok;
}

/* marks: '1' for a byte of data. */
static void marked(const char *source, const char *variables, const char *text, const char *marks)
{
    struct jinja_text out = {0};
    struct jinja_error error;
    if (!rendered(source, variables, &out, &error))
        fail_msg("%s: %s", source, error.text);
    assert_string_equal(out.bytes, text);
    assert_int_equal(out.n, strlen(marks));
    for (size_t i = 0; i < out.n; i++)
        if (out.origin[i] != (marks[i] == '1'))
            fail_msg("%s: byte %zu of \"%s\" is %d", source, i, text, out.origin[i]);
    jinja_text_free(&out);
}

static void fails(const char *source, const char *variables, enum jinja_failure failure,
                  uint32_t line, uint32_t column, const char *text)
{
    struct jinja_text out = {0};
    struct jinja_error error;
    if (rendered(source, variables, &out, &error))
        fail_msg("%.60s: rendered", source);
    assert_int_equal(error.failure, failure);
    if (!strstr(error.text, text))
        fail_msg("%.60s: %s", source, error.text);
    assert_null(out.bytes);
    if (line && (error.line != line || error.column != column))
        fail_msg("%.60s: at %u:%u, %u:%u expected", source, error.line, error.column, line, column);
    jinja_error_free(&error);
}

static void refused(const char *source, enum jinja_failure failure, uint32_t line, uint32_t column,
                    const char *text)
{
    struct jinja_error error;
    struct jinja_template *t = jinja_compile(source, strlen(source), &error);
    if (t)
        fail_msg("%.60s: compiled", source);
    assert_int_equal(error.failure, failure);
    if (!strstr(error.text, text))
        fail_msg("%.60s: %s", source, error.text);
    if (line && (error.line != line || error.column != column))
        fail_msg("%.60s: at %u:%u, %u:%u expected", source, error.line, error.column, line, column);
    jinja_error_free(&error);
}

/* text, n times, between two others. The caller frees. */
static char *repeated(const char *begin, const char *text, size_t n, const char *end)
{
    size_t k = strlen(text), at = strlen(begin);
    char *out = mem_alloc(at + n * k + strlen(end) + 1, NULL);
    memcpy(out, begin, at);
    for (size_t i = 0; i < n; i++, at += k)
        memcpy(out + at, text, k);
    memcpy(out + at, end, strlen(end) + 1);
    return out;
}

static void a_byte_of_a_message_is_data_whatever_is_done_with_it(void **state)
{
    (void)state;
    const char *m = "{'m': '<|x|>', 'l': ['<a>', 'b'], 'n': 12}";
    marked("<|x|>{{ m }}", m, "<|x|><|x|>", "0000011111");
    marked("{{ ' ' ~ m ~ ' ' }}", m, " <|x|> ", "0111110");
    marked("{{ '<' + m + '>' }}", m, "<<|x|>>", "0111110");
    marked("{{ ('  ' + m)|trim }}", m, "<|x|>", "11111");
    marked("{{ m[1:3] + 'y' }}", m, "|xy", "110");
    marked("{{ m[::-1] }}", m, ">|x|<", "11111");
    marked("{{ m|upper }}", m, "<|X|>", "11111");
    marked("{{ ('a' ~ m)|upper }}", m, "A<|X|>", "011111");
    marked("{{ m|replace('x', 'yz') }}", m, "<|yz|>", "110011");
    marked("{{ 'axb'|replace('x', m) }}", m, "a<|x|>b", "0111110");
    marked("{{ l|join('-') }}", m, "<a>-b", "11101");
    marked("{{ 'a-b'.split('-')|join(m) }}", m, "a<|x|>b", "0111110");
    marked("{{ m|tojson }}", m, "\"<|x|>\"", "0111110");
    marked("{{ l|tojson }}", m, "[\"<a>\", \"b\"]", "001110000100");
    marked("{% set x %}a{{ m }}{% endset %}{{ x }}", m, "a<|x|>", "011111");
    marked("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(m) }}{{ f('y') }}", m, "[<|x|>][y]",
           "0111110000");
    marked("{% filter upper %}a{{ m }}{% endfilter %}", m, "A<|X|>", "011111");
    marked("{% for c in m %}{{ c }}.{% endfor %}", m, "<.|.x.|.>.", "1010101010");
    marked("{{ m * 2 }}", m, "<|x|><|x|>", "1111111111");
    marked("{{ m|default('z') }}{{ q|default('z') }}", m, "<|x|>z", "111110");
    marked("{{ m|string|list|join }}", m, "<|x|>", "11111");
}

static void trusted_variables_are_not_data_unless_data_hides_them(void **state)
{
    (void)state;
    marked("{{ bos }}{{ m }}", "{'m': '<s>'}", "<s><s>", "000111");
    marked("{{ bos }}", "{'bos': 'x'}", "x", "1");
    marked("{{ bos ~ m|trim }}", "{'m': ' <s> '}", "<s><s>", "000111");
}

static void an_error_says_where(void **state)
{
    (void)state;
    refused("\n\n  {{ x | nope }}", JINJA_SYNTAX, 3, 10, "No filter named 'nope'.");
    refused("é {% if %}", JINJA_SYNTAX, 1, 9, "Expected an expression");
    refused("{% if a %}\n{% for %}", JINJA_SYNTAX, 2, 8, "got 'end of statement block'");
    refused("{{ 'a\n\nb' ! }}", JINJA_SYNTAX, 3, 4, "unexpected char '!' at 10");
    refused("\r\n\r{% nope %}", JINJA_SYNTAX, 3, 4, "unknown tag 'nope'");
    refused("x{% include 'a' %}", JINJA_SYNTAX, 1, 5, "'include' is not supported");
    fails("a\n{{ x.y.z }}", "{'x': null}", JINJA_RUNTIME, 2, 7, "has no attribute 'y'");
    fails("\n\n{% for x in n %}{% endfor %}", "{'n': 5}", JINJA_RUNTIME, 3, 13,
          "TypeError: 'int' object is not iterable");
    fails("{% macro f() %}\n {{ 1 + n }}\n{% endmacro %}\n\n{{ f() }}", "{'n': 'a'}", JINJA_RUNTIME,
          2, 5, "unsupported operand");
}

static void refused_bytes_are_no_template(void **state)
{
    (void)state;
    refused("a\n\xff", JINJA_SYNTAX, 2, 1, "not valid UTF-8");
    struct jinja_error error;
    struct jinja_template *t = jinja_compile("a\0{{ 1 }}", 9, &error);
    assert_non_null(t);
    struct jinja_text out;
    assert_true(jinja_render(t, NULL, NULL, &options, &out, &error));
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.bytes, "a\0001", 3);
    jinja_text_free(&out);
    jinja_template_free(t);
}

static void limits_hold_at_the_limit_and_not_beyond(void **state)
{
    (void)state;
    char *at = repeated("", "x", JINJA_SOURCE_MAX, ""),
         *over = repeated("", "x", JINJA_SOURCE_MAX, "y");
    jinja_template_free(compiled(at));
    refused(over, JINJA_LIMIT, 0, 0, "at most 1048576");
    mem_free(at);
    mem_free(over);
    /* the template itself is a level, and so is the expression of a tag */
    const size_t n = JINJA_DEPTH_MAX - 2;
    at = repeated("{{ ", "(", n, "1");
    over = repeated(at, ")", n, " }}");
    jinja_template_free(compiled(over));
    mem_free(at);
    mem_free(over);
    over = repeated("{{ ", "(", n + 1, "1");
    refused(over, JINJA_LIMIT, 1, 67, "nested deeper than 64");
    mem_free(over);
    over = repeated("{{ 1", " + 1", 497, " }}");
    jinja_template_free(compiled(over));
    mem_free(over);
    over = repeated("{{ 1", " + 1", 498, " }}");
    refused(over, JINJA_LIMIT, 0, 0, "more than 500 levels");
    mem_free(over);
}

static void limits_of_a_rendering_hold(void **state)
{
    (void)state;
    struct jinja_text out = {0};
    struct jinja_error error;
    const char *many =
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(k) }}";
    assert_true(rendered(many, "{'k': 63}", &out, &error));
    jinja_text_free(&out);
    fails(many, "{'k': 64}", JINJA_LIMIT, 0, 0, "nested deeper than 64");
    const char *write = "{% set x = 'y' * 1048576 %}{% for i in range(n) %}{{ x }}{% endfor %}";
    assert_true(rendered(write, "{'n': 16}", &out, &error));
    assert_int_equal(out.n, JINJA_OUTPUT_MAX);
    jinja_text_free(&out);
    fails(write, "{'n': 17}", JINJA_LIMIT, 0, 0, "16777216 bytes of output");
    fails("{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}", "{}",
          JINJA_LIMIT, 0, 0, "1000000 steps");
    fails("{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
          "{% endfor %}",
          "{}", JINJA_LIMIT, 0, 0, "");
    fails("{{ 9223372036854775807 + 1 }}", "{}", JINJA_LIMIT, 0, 0, "64 bits");
}

static const char *const sources[] = {
    "{%- set ns = namespace(a=1) -%}{% for m in ms if m.x is defined %}{{ loop.index ~ "
    "m['r']"
    "|trim }}{% if loop.last and not (m in [1, 2.5e3]) %}{% break %}{% else %}\n{% set ns.a, x = "
    "1, "
    "{'k': (1,)} %}{% endif %}{% endfor %}",
    "{% macro f(a, b='\\x41\\u00e9', *c) %}{% endmacro %}{% call(x) f(*a, **b) %}{% raw %}{{{% "
    "endraw "
    "%}{% endcall %}{# c -#} {%+ filter upper|e %}é{% endfilter +%}",
    "{% with a=1, b=x[1:2:3].y.0 %}{% generation %}{{ a if b else c if d }}{% endgeneration %}{% "
    "endwith %}"
    "{% set x | e %}{% if q %}{% endif %}{% endset %}{{ 0x1F // 2 ** -3 <= 4 not in y is "
    "divisibleby 3 }}",
};

/* Compiles or gives an error, and what compiles renders or gives one. */
static void survives(const char *source, size_t n)
{
    struct jinja_error error;
    struct jinja_text out;
    struct jinja_template *t = jinja_compile(source, n, &error);
    if (!t) {
        assert_true(error.text && error.text[0]);
        jinja_error_free(&error);
        return;
    }
    json_t *data = json_pack("{s:[{s:i,s:s}],s:{s:i}}", "ms", "x", 1, "r", "u", "b", "y", 2);
    if (jinja_render(t, NULL, data, &options, &out, &error))
        jinja_text_free(&out);
    else
        jinja_error_free(&error);
    json_decref(data);
    jinja_template_free(t);
}

static void every_prefix_and_every_changed_byte_is_handled(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof sources / sizeof *sources; s++) {
        size_t n = strlen(sources[s]);
        for (size_t k = 0; k <= n; k++) {
            char *copy = mem_copy(sources[s], k, NULL); /* exact: a byte beyond is seen */
            survives(copy, k);
            mem_free(copy);
        }
        static const char bytes[] = "{}%#()[]'\"|.,-+*~=:\\\n\xc3 0a";
        for (size_t k = 0; k < n; k++)
            for (size_t b = 0; b + 1 < sizeof bytes; b += 1 + k % 3) {
                char *copy = mem_copy(sources[s], n, NULL);
                copy[k] = bytes[b];
                survives(copy, n);
                mem_free(copy);
            }
    }
}

static void an_error_becomes_one_line_of_the_programs(void **state)
{
    (void)state;
    struct jinja_error error;
    struct tp_error err = {0};
    assert_null(jinja_compile("\n{{", 3, &error));
    assert_false(jinja_fail(&error, "chat.jinja", &err));
    assert_int_equal(err.code, TP_E_TEMPLATE_SYNTAX);
    assert_non_null(
        strstr(err.text, "chat.jinja:2:3: TemplateSyntaxError: unexpected 'end of template'"));
    assert_null(error.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_byte_of_a_message_is_data_whatever_is_done_with_it),
        cmocka_unit_test(trusted_variables_are_not_data_unless_data_hides_them),
        cmocka_unit_test(an_error_says_where),
        cmocka_unit_test(refused_bytes_are_no_template),
        cmocka_unit_test(limits_hold_at_the_limit_and_not_beyond),
        cmocka_unit_test(limits_of_a_rendering_hold),
        cmocka_unit_test(every_prefix_and_every_changed_byte_is_handled),
        cmocka_unit_test(an_error_becomes_one_line_of_the_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
