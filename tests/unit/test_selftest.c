/* selftest.json: what is recorded is found again, and a difference is named where it begins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "selftest.h"
#include <stdio.h>
#include <string.h>

enum { VOCAB = 20, LAYERS = 3 };

static const struct model_config model = {
    .n_layers = LAYERS, .vocab = VOCAB, .max_positions = 16, .hidden = 4};

/* A test with results of its own making; `off` is added to one logit and one layer. */
static void fill(struct selftest *test, uint32_t prompt, uint32_t position, uint32_t layer,
                 float off)
{
    struct tp_error err = {0};
    struct trace trace;
    assert_true(selftest_init(test, &model, &err));
    assert_true(trace_init(&trace, SELFTEST_PROMPTS, LAYERS, 4, &err));
    for (uint32_t p = 0; p < test->n_prompts; p++)
        for (uint32_t i = 0; i < test->prompts[p].n_ids; i++) {
            float logits[VOCAB];
            bool here = p == prompt && i == position;
            for (uint32_t id = 0; id < VOCAB; id++)
                logits[id] = (float)((id * 7 + p + i) % 11);
            logits[3] += here ? off : 0;
            selftest_set_logits(test, p, i, logits, VOCAB);
            for (uint32_t l = 0; l <= LAYERS; l++) {
                float row[4] = {(float)i, (float)p, 1, here && l >= layer ? off : 0};
                trace_add(&trace, p, l, row);
            }
        }
    selftest_set_layers(test, &trace);
    trace_free(&trace);
}

static struct tp_error compared(uint32_t prompt, uint32_t position, uint32_t layer, float off)
{
    struct selftest recorded, replayed;
    struct tp_error err = {0};
    size_t n;
    fill(&recorded, 0, 0, 0, 0);
    fill(&replayed, prompt, position, layer, off);
    char *text = selftest_text(&recorded, &n, &err);
    assert_non_null(text);
    assert_int_equal(selftest_compare(&replayed, "selftest.json", text, n, &err), off == 0);
    mem_free(text);
    selftest_free(&recorded);
    selftest_free(&replayed);
    return err;
}

static void prompts_follow_the_model(void **state)
{
    (void)state;
    struct selftest test;
    struct tp_error err = {0};
    assert_true(selftest_init(&test, &model, &err));
    assert_int_equal(test.prompts[0].n_ids, 1);
    assert_int_equal(test.prompts[1].n_ids, 7);
    assert_int_equal(test.prompts[2].n_ids, 16); /* 40, but the model has 16 positions */
    for (uint32_t p = 0; p < test.n_prompts; p++)
        for (uint32_t i = 0; i < test.prompts[p].n_ids; i++)
            assert_true(test.prompts[p].ids[i] < VOCAB);
    selftest_free(&test);
}

static void the_highest_five_are_in_order_the_lower_id_first(void **state)
{
    (void)state;
    struct selftest test;
    fill(&test, 0, 0, 0, 0);
    const struct selftest_position *p = &test.positions[0][0];
    const uint32_t ids[SELFTEST_TOP] = {3, 14, 6, 17, 9}; /* 7 id mod 11: 10 10 9 9 8 */
    const float logits[SELFTEST_TOP] = {10, 10, 9, 9, 8};
    for (int i = 0; i < SELFTEST_TOP; i++) {
        assert_int_equal(p->top_ids[i], ids[i]);
        assert_true(p->top_logits[i] == logits[i]);
    }
    selftest_free(&test);
}

static void what_is_recorded_is_found_again(void **state)
{
    (void)state;
    struct tp_error err = compared(0, 0, 0, 0);
    assert_int_equal(err.code, TP_OK);
}

static void a_difference_is_named_where_it_begins(void **state)
{
    (void)state;
    struct tp_error err = compared(1, 5, 2, 0x1p-20f);
    assert_int_equal(err.code, TP_E_SELFTEST);
    assert_non_null(strstr(err.text, "prompt 1: position 5"));
    assert_non_null(strstr(err.text, "first differs at layer 2"));
    err = compared(2, 15, LAYERS, 0x1p-20f);
    assert_non_null(strstr(err.text, "prompt 2: position 15"));
    assert_non_null(strstr(err.text, "first differs at the final norm"));
}

static void a_malformed_file_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "{}",
                                        "[]",
                                        "{\"version\": 2, \"prompts\": []}",
                                        "{\"version\": 1, \"prompts\": []}",
                                        "{\"version\": 1, \"prompts\": [1, 2, 3]}",
                                        "{\"version\": 1, \"prompts\": [{}, {}, {}]}"};
    struct selftest test;
    fill(&test, 0, 0, 0, 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct tp_error err = {0};
        assert_false(selftest_compare(&test, "selftest.json", texts[i], strlen(texts[i]), &err));
        assert_non_null(strstr(err.text, "selftest.json"));
    }
    selftest_free(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_follow_the_model),
        cmocka_unit_test(the_highest_five_are_in_order_the_lower_id_first),
        cmocka_unit_test(what_is_recorded_is_found_again),
        cmocka_unit_test(a_difference_is_named_where_it_begins),
        cmocka_unit_test(a_malformed_file_is_refused),
    };
    return cmocka_run_group_tests_name("selftest", tests, NULL, NULL);
}
