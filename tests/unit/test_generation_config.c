/* Row 60 of the fault catalogue, and what a file leaves out. */
#include "generation_config.h"
#include "sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct generation_config g;
static struct findings findings;
static struct tp_error error;

static bool read_as(bool strict, const char *text)
{
    error = (struct tp_error){0};
    findings = (struct findings){.quiet = true, .strict = strict};
    return generation_config_read("generation_config.json", text, strlen(text), 512, &findings, &g,
                                  &error);
}

/* Every field is usable. */
static bool parse(const char *text)
{
    return read_as(false, text) && findings.warnings == 0;
}

static void an_empty_file_is_greedy_as_in_transformers(void **state)
{
    (void)state;
    assert_true(parse("{\"temperature\": null, \"transformers_version\": \"5.0\"}"));
    assert_true(!g.do_sample && g.temperature == 1 && g.top_k == 50 && g.top_p == 1 &&
                g.min_p == 0 && g.repetition_penalty == 1 && g.n_eos == 0 && !g.ignored);
}

static void every_field_is_read(void **state)
{
    (void)state;
    assert_true(parse("{\"do_sample\": true, \"temperature\": 0.7, \"top_k\": 20, \"top_p\": 0.8,"
                      " \"min_p\": 0.05, \"repetition_penalty\": 1.1, \"eos_token_id\": [3, 511],"
                      " \"num_beams\": 1, \"typical_p\": 1.0, \"suppress_tokens\": []}"));
    assert_true(g.do_sample && g.temperature == 0.7 && g.top_k == 20 && g.top_p == 0.8 &&
                g.min_p == 0.05 && g.repetition_penalty == 1.1 && !g.ignored);
    assert_true(g.n_eos == 2 && g.eos_id[0] == 3 && g.eos_id[1] == 511);
    assert_true(parse("{\"eos_token_id\": 2, \"temperature\": 0, \"top_k\": 0}"));
    assert_true(g.n_eos == 1 && g.eos_id[0] == 2 && g.temperature == 0 && g.top_k == 0);
}

static void what_is_not_done_is_named(void **state)
{
    (void)state;
    static const char *const keys[][2] = {{"num_beams", "4"},
                                          {"forced_eos_token_id", "0"},
                                          {"forced_bos_token_id", "0"},
                                          {"encoder_no_repeat_ngram_size", "1"},
                                          {"cache_implementation", "\"quantized\""}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char text[96];
        snprintf(text, sizeof text, "{\"%s\": %s}", keys[i][0], keys[i][1]);
        assert_true(parse(text));
        assert_string_equal(g.ignored, keys[i][0]);
    }
    assert_true(parse("{\"cache_implementation\": \"static\"}"));
    assert_int_equal(g.n_ignored, 0);
    assert_true(parse("{\"num_beams\": 4}"));
    assert_true(parse("{\"suppress_tokens\": [5]}"));
    assert_string_equal(g.ignored, "suppress_tokens");
}

static void row_60_what_is_not_usable_is_left_out_by_field(void **state)
{
    (void)state;
    static const struct {
        const char *text, *field;
    } cases[] = {
        {"{\"do_sample\": true, \"temperature\": -1}", "temperature"},
        {"{\"do_sample\": true, \"temperature\": \"hot\"}", "temperature"},
        {"{\"do_sample\": true, \"temperature\": 1e300}", "temperature"},
        {"{\"do_sample\": true, \"temperature\": 1e-9}", "temperature"},
        {"{\"do_sample\": true, \"temperature\": NaN}", "NaN"},
        {"{\"do_sample\": true, \"top_k\": -5}", "top_k"},
        {"{\"do_sample\": true, \"top_k\": 1.5}", "top_k"},
        {"{\"do_sample\": true, \"top_k\": [20]}", "top_k"},
        {"{\"do_sample\": true, \"top_k\": 1000000000000000000000000000000}", "top_k"},
        {"{\"do_sample\": true, \"top_p\": 1.5}", "top_p"},
        {"{\"do_sample\": true, \"top_p\": -0.1}", "top_p"},
        {"{\"do_sample\": true, \"min_p\": 2}", "min_p"},
        {"{\"do_sample\": true, \"repetition_penalty\": 0}", "repetition_penalty"},
        {"{\"do_sample\": 1}", "do_sample"},
        {"{\"do_sample\": \"true\"}", "do_sample"},
        {"[]", "object"},
        {"", "empty"},
        {"{", "line"},
        {"{\"do_sample\": true,}", "line"},
        {"\xef\xbb\xbf{\"do_sample\": true}", "byte order mark"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct generation_config greedy = generation_config_default();
        if (!read_as(false, cases[i].text) || findings.warnings != 1 || !g.ignored || g.do_sample ||
            g.temperature != greedy.temperature || g.top_k != greedy.top_k ||
            g.top_p != greedy.top_p || g.min_p != greedy.min_p ||
            g.repetition_penalty != greedy.repetition_penalty)
            fail_msg("%s: %u warnings", cases[i].text, findings.warnings);
        if (read_as(true, cases[i].text) || !strstr(error.text, cases[i].field) ||
            !strstr(error.text, "generation_config.json"))
            fail_msg("%s: %s", cases[i].text, error.text);
        assert_int_equal(tp_code_exit(error.code), TP_EXIT_INPUT);
    }
}

static void the_other_fields_count(void **state)
{
    (void)state;
    assert_true(read_as(false,
                        "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": -1, \"top_p\":"
                        " 0.9, \"min_p\": [], \"eos_token_id\": 7}"));
    assert_true(findings.warnings == 2 && !g.do_sample && g.temperature == 0.6 && g.top_p == 0.9 &&
                g.n_eos == 1 && g.eos_id[0] == 7);
    assert_string_equal(g.ignored, "top_k");
}

static void an_end_that_is_no_token_is_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t warnings;
        uint64_t n_eos;
    } cases[] = {
        {"512", 1, 0},
        {"[-1]", 1, 0},
        {"[[1], 3]", 1, 1},
        {"[3, null, 511]", 1, 2},
        {"[2.5, \"3\"]", 2, 0},
        {"\"2\"", 1, 0},
        {"{}", 1, 0},
        {"[]", 0, 0},
        {"[7.0]", 0, 1},
        {"true", 1, 0},
        {"1e30", 1, 0},
        {"[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", 1,
         MODEL_EOS_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"do_sample\": true, \"eos_token_id\": %s}", cases[i].text);
        if (!read_as(false, text) || findings.warnings != cases[i].warnings ||
            g.n_eos != cases[i].n_eos || !g.do_sample)
            fail_msg("%s: %u warnings, %llu ids", text, findings.warnings,
                     (unsigned long long)g.n_eos);
        assert_int_equal(read_as(true, text), cases[i].warnings == 0);
    }
}

static void whole_numbers_may_be_written_as_fractions_and_have_any_size(void **state)
{
    (void)state;
    assert_true(parse("{\"top_k\": 20.0, \"max_length\": 1000000000000000000000000000000,"
                      " \"eos_token_id\": 2.0, \"num_beams\": 1.0}"));
    assert_true(g.top_k == 20 && g.n_eos == 1 && g.eos_id[0] == 2 && !g.ignored);
}

/* What a bundle's file says must not end a run as a wrong option would. */
static void what_is_read_is_what_the_sampler_takes(void **state)
{
    (void)state;
    static const char *const keys[] = {"temperature", "top_p", "min_p", "repetition_penalty"};
    static const double values[] = {-1,   0, 1e-9, 0.999e-6, 1e-6,   1e-5,    0.999e-3, 1e-3,
                                    0.25, 1, 1.25, 1e3,      1.01e3, 0.999e6, 1e6,      1.01e6};
    char text[96];
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            snprintf(text, sizeof text, "{\"%s\": %.17g}", keys[k], values[v]);
            struct sampler_options options = sampler_defaults();
            struct tp_error err = {0};
            double *const fields[] = {&options.temperature, &options.top_p, &options.min_p,
                                      &options.repetition_penalty};
            *fields[k] = values[v];
            if (!read_as(false, text) || !findings.warnings != sampler_check(&options, &err))
                fail_msg("%s: %s%s", text, error.text, err.text);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_is_greedy_as_in_transformers),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(what_is_not_done_is_named),
        cmocka_unit_test(row_60_what_is_not_usable_is_left_out_by_field),
        cmocka_unit_test(the_other_fields_count),
        cmocka_unit_test(an_end_that_is_no_token_is_left_out),
        cmocka_unit_test(whole_numbers_may_be_written_as_fractions_and_have_any_size),
        cmocka_unit_test(what_is_read_is_what_the_sampler_takes),
    };
    return cmocka_run_group_tests_name("generation_config", tests, NULL, NULL);
}
