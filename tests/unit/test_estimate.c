/* Bytes and times of tpshard plan, against arithmetic done by hand. */
#include "checked.h"
#include "estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model_config model;

static void set_model(uint64_t layers, uint64_t hidden, uint64_t heads, uint64_t kv_heads,
                      uint64_t head_dim, uint64_t ff, uint64_t vocab)
{
    model = (struct model_config){.n_layers = layers,
                                  .hidden = hidden,
                                  .n_heads = heads,
                                  .n_kv_heads = kv_heads,
                                  .head_dim = head_dim,
                                  .d_ff = ff,
                                  .vocab = vocab,
                                  .max_positions = 32768};
}

static void set_qwen25_7b(void)
{
    set_model(28, 3584, 28, 4, 128, 18944, 152064);
    model.qkv_bias = true;
}

static void set_llama_70b(void)
{
    set_model(80, 8192, 64, 8, 128, 28672, 128256);
}

static struct estimate_request request_of(uint64_t context, uint64_t batch, uint64_t gpu_memory)
{
    return (struct estimate_request){.model = &model,
                                     .recipe = recipe_of(DTYPE_BF16, NULL),
                                     .context = context,
                                     .batch = batch,
                                     .gpu_memory = gpu_memory};
}

static struct estimate estimate_of(struct estimate_request request, uint64_t tp_size)
{
    struct estimate e;
    struct tp_error err = {0};
    if (!estimate_degree(&request, tp_size, &e, &err))
        fail_msg("%s", err.text);
    return e;
}

static void qwen25_7b_at_8_ranks_is_what_paper_and_pencil_say(void **state)
{
    (void)state;
    set_qwen25_7b();
    struct estimate e = estimate_of(request_of(8192, 1, 0), 8);
    const struct estimate_rank *r = &e.ranks[1]; /* heads 3..7, KV head 0 */
    assert_int_equal(r->partition.heads.begin, 3);
    assert_int_equal(r->partition.heads.end, 7);
    assert_int_equal(range_count(r->partition.kv_heads), 1);
    assert_int_equal(range_count(r->partition.ff), 2368);
    assert_int_equal(range_count(r->partition.vocab), 19008);
    const uint64_t q = 4 * 128, kv = 128, ff = 2368, hidden = 3584, vocab = 19008;
    uint64_t attention = 28 * ((2 * q + 2 * kv) * hidden * 2 + (q + 2 * kv) * 4);
    uint64_t mlp = 28 * 3 * ff * hidden * 2, head = vocab * hidden * 2;
    uint64_t norms = (2 * 28 + 1) * hidden * 4;
    assert_int_equal(r->attention, attention);
    assert_int_equal(r->mlp, mlp);
    assert_int_equal(r->vocabulary, head);
    assert_int_equal(r->weights, align_up(attention + mlp + 2 * head + norms, 4096));
    assert_int_equal(r->kv, UINT64_C(28) * 1 * 2 * 128 * 2 * 8192);
    assert_int_equal(r->total, r->weights + r->kv + r->activations);
    assert_true(r->activations > (UINT64_C(2) << 20) && r->activations < (UINT64_C(64) << 20));
}

static void qwen25_7b_at_8_ranks_holds_every_kv_head_twice(void **state)
{
    (void)state;
    set_qwen25_7b();
    struct estimate e = estimate_of(request_of(8192, 1, 0), 8);
    uint64_t kv_head = 28 * 2 * (128 * 3584 * 2 + 128 * 4), norms = (2 * 28 + 1) * 3584 * 4;
    assert_int_equal(e.kv_heads_again, 4);
    assert_int_equal(e.replicated_weights, 4 * kv_head + 7 * norms);
    assert_int_equal(e.replicated_kv, UINT64_C(4) * 28 * 2 * 128 * 2 * 8192);
    assert_int_equal(e.idle_attention, 0);
    /* attention 10 against 8 units of 128 x 3584, MLP 55.5, vocabulary 19008 / 28 / 128; biases
     * aside */
    double rest = 55.5 + 19008.0 / 28 / 128;
    assert_true(fabs(e.imbalance - (10 + rest) / (8 + rest)) < 1e-4);
}

static void llama_70b_divides_at_8_ranks_and_fits_80_gib_from_two_on(void **state)
{
    (void)state;
    const uint64_t gpu = UINT64_C(80) << 30;
    set_llama_70b();
    assert_int_equal(estimate_parameters(&model), UINT64_C(70553706496));
    struct estimate e = estimate_of(request_of(8192, 1, gpu), 8);
    assert_true(fabs(e.imbalance - 1) < 1e-12);
    assert_int_equal(e.kv_heads_again, 0);
    assert_int_equal(e.ranks[7].kv, UINT64_C(80) * 2 * 128 * 2 * 8192);
    uint64_t norms = (2 * 80 + 1) * 8192 * 4; /* stored as f32, on every rank */
    uint64_t rest = (UINT64_C(70553706496) - 161 * 8192) * 2 / 8;
    assert_int_equal(e.ranks[0].weights, align_up(rest + norms, 4096));
    assert_true(e.fits);
    assert_false(estimate_of(request_of(8192, 1, gpu), 1).fits);
    assert_int_equal(estimate_of(request_of(8192, 1, gpu), 1).context_max, 0);
    assert_int_equal(estimate_of(request_of(8192, 1, gpu), 1).batch_max, 0);
    assert_true(estimate_of(request_of(8192, 1, gpu), 2).fits);
}

/* design: time against ideal, sum of the phases' slowest ranks */
static void imbalance_is_that_of_the_design_at_every_degree(void **state)
{
    static const uint64_t degrees[] = {2, 3, 4, 5, 6, 7, 8, 16};
    static const struct {
        uint64_t layers, hidden, heads, kv_heads, head_dim, ff, vocab;
        int percent[8];
    } models[] = {
        {28, 3584, 28, 4, 128, 18944, 152064, {100, 102, 100, 107, 104, 106, 103, 106}},
        {32, 4096, 32, 8, 128, 14336, 128256, {100, 103, 100, 106, 104, 106, 100, 104}},
        {80, 8192, 64, 8, 128, 28672, 128256, {100, 101, 100, 105, 102, 105, 100, 102}},
        {24, 896, 14, 2, 64, 4864, 151936, {100, 103, 102, 108, 106, 110, 104, 112}},
        {30, 576, 9, 3, 64, 1536, 49152, {103, 100, 107, 116, 110, 116, 120, 133}},
    };
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (size_t d = 0; d < sizeof degrees / sizeof *degrees; d++) {
            set_model(models[m].layers, models[m].hidden, models[m].heads, models[m].kv_heads,
                      models[m].head_dim, models[m].ff, models[m].vocab);
            struct estimate e = estimate_of(request_of(1, 1, 0), degrees[d]);
            assert_int_equal(lround(e.imbalance * 100), models[m].percent[d]);
        }
}

static void tied_embeddings_are_read_once_and_held_once(void **state)
{
    (void)state;
    set_model(30, 576, 9, 3, 64, 1536, 49152);
    struct estimate untied = estimate_of(request_of(1, 1, 0), 1);
    model.tied_embeddings = true;
    struct estimate tied = estimate_of(request_of(1, 1, 0), 1);
    assert_int_equal(untied.ranks[0].weights - tied.ranks[0].weights, 49152 * 576 * 2);
    assert_int_equal(untied.ranks[0].vocabulary, tied.ranks[0].vocabulary);
    assert_int_equal(estimate_parameters(&model), 134515008);
}

static void ranks_without_heads_are_counted(void **state)
{
    (void)state;
    set_model(2, 80, 5, 1, 16, 64, 512);
    struct estimate e = estimate_of(request_of(300, 2, 0), 8);
    assert_int_equal(e.idle_attention, 3);
    assert_int_equal(e.idle_mlp, 6);
    assert_int_equal(e.kv_heads_again, 4);
    /* 300 positions are two pages of 256; a head of 16 is padded to 32; a rank without heads has
     * none */
    assert_int_equal(e.ranks[0].kv, 0);
    assert_int_equal(e.ranks[1].kv, 2 * 1 * 2 * 32 * 2 * 512 * 2);
}

static void quantized_layers_take_a_byte_a_weight_and_a_scale_a_row(void **state)
{
    (void)state;
    set_llama_70b();
    struct estimate_request request = request_of(1, 1, 0);
    request.recipe = recipe_of(DTYPE_BF16, stored_of(STORED_INT8));
    struct estimate e = estimate_of(request, 1);
    uint64_t weights =
        UINT64_C(80) * (2 * 8192 * 8192 + 2 * 1024 * 8192 + 3 * 28672 * UINT64_C(8192));
    uint64_t rows = UINT64_C(80) * (8192 + 1024 + 1024 + 8192 + 2 * 28672 + 8192);
    assert_int_equal(e.ranks[0].attention + e.ranks[0].mlp, weights + rows * 4);
    assert_int_equal(e.ranks[0].vocabulary, UINT64_C(128256) * 8192 * 2);
}

static void what_fits_is_found_to_the_page_and_to_the_sequence(void **state)
{
    (void)state;
    set_qwen25_7b();
    uint64_t exact = estimate_of(request_of(4096, 3, 0), 4).ranks[0].total;
    struct estimate e = estimate_of(request_of(4096, 3, exact), 4);
    assert_true(e.fits);
    assert_int_equal(e.context_max, 4096);
    assert_int_equal(e.batch_max, 3);
    e = estimate_of(request_of(4096, 3, exact - 1), 4);
    assert_false(e.fits);
    assert_int_equal(e.context_max, 4096 - 256);
    assert_int_equal(e.batch_max, 2);
    e = estimate_of(request_of(4096, 1, UINT64_C(1) << 50), 4);
    assert_int_equal(e.context_max, 32768); /* the model's positions */
    assert_int_equal(e.batch_max, ESTIMATE_BATCH_MAX);
}

static void what_is_reserved_does_not_fit(void **state)
{
    const uint64_t half = UINT64_C(512) << 20;
    (void)state;
    set_qwen25_7b();
    uint64_t exact = estimate_of(request_of(4096, 3, 0), 4).ranks[0].total;
    struct estimate_request request = request_of(4096, 3, exact + half);
    request.reserved = half;
    assert_true(estimate_of(request, 4).fits);
    assert_int_equal(estimate_of(request, 4).batch_max, 3);
    request.gpu_memory--;
    assert_false(estimate_of(request, 4).fits);
    assert_int_equal(estimate_of(request, 4).batch_max, 2);
    request.gpu_memory = request.reserved = exact; /* all of it */
    assert_false(estimate_of(request, 4).fits);
    assert_int_equal(estimate_of(request, 4).batch_max, 0);
    assert_int_equal(estimate_of(request, 4).context_max, 0);
}

static void at_least_a_context_is_reserved_and_never_more_than_there_is(void **state)
{
    const uint64_t half = UINT64_C(512) << 20, card = UINT64_C(80) << 30;
    (void)state;
    assert_int_equal(estimate_reserved(card, 1), half);
    assert_int_equal(estimate_reserved(card, 0.75), card / 4);
    assert_int_equal(estimate_reserved(half, 0.5), half);
    assert_int_equal(estimate_reserved(half / 2, 0.9), half / 2);
    assert_int_equal(estimate_reserved(0, 0.9), 0);
    assert_true(estimate_reserved(UINT64_MAX, 0.01) > UINT64_MAX / 2);
}

static void sums_beyond_63_bits_are_a_limit(void **state)
{
    (void)state;
    struct estimate e;
    struct tp_error err = {0};
    set_model(1024, 1024, 1024, 1024, 1024, 32, 16);
    struct estimate_request request = request_of(UINT64_C(1) << 40, ESTIMATE_BATCH_MAX, 1);
    assert_false(estimate_degree(&request, 1, &e, &err));
    assert_int_equal(err.code, TP_E_LIMIT);
}

static void zstd_pays_below_a_speed_that_grows_with_the_threads(void **state)
{
    (void)state;
    struct estimate_zstd one, eight;
    struct tp_error err = {0};
    set_llama_70b();
    struct estimate_request request = request_of(1, 1, 0);
    assert_true(estimate_zstd(&request, 1, &one, &err));
    assert_true(estimate_zstd(&request, 8, &eight, &err));
    assert_true(one.ratio > 0.6 && one.ratio < 0.75);
    assert_true(one.bytes_per_second > 1e8 && one.bytes_per_second < 1e9);
    assert_true(fabs(eight.bytes_per_second / one.bytes_per_second - 8) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen25_7b_at_8_ranks_is_what_paper_and_pencil_say),
        cmocka_unit_test(qwen25_7b_at_8_ranks_holds_every_kv_head_twice),
        cmocka_unit_test(llama_70b_divides_at_8_ranks_and_fits_80_gib_from_two_on),
        cmocka_unit_test(imbalance_is_that_of_the_design_at_every_degree),
        cmocka_unit_test(tied_embeddings_are_read_once_and_held_once),
        cmocka_unit_test(ranks_without_heads_are_counted),
        cmocka_unit_test(quantized_layers_take_a_byte_a_weight_and_a_scale_a_row),
        cmocka_unit_test(what_fits_is_found_to_the_page_and_to_the_sequence),
        cmocka_unit_test(what_is_reserved_does_not_fit),
        cmocka_unit_test(at_least_a_context_is_reserved_and_never_more_than_there_is),
        cmocka_unit_test(sums_beyond_63_bits_are_a_limit),
        cmocka_unit_test(zstd_pays_below_a_speed_that_grows_with_the_threads),
    };
    return cmocka_run_group_tests_name("estimate", tests, NULL, NULL);
}
