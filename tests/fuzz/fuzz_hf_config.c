/* The input is a config.json. An accepted model has passed all checks, goes through the manifest's
 * form unchanged, has rotations that turn forward, and has a plan for every rank of any degree: the
 * parts tile the rank file. */
#include "hf_config.h"
#include "mem.h"
#include "rank_plan.h"
#include "rope.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct model_config *model)
{
    static struct model_config again;
    struct tp_error err = {0};
    json_t *first = model_config_to_json(model, &err);
    tp_assert(first && model_config_from_json(first, "fuzz", &again, &err));
    json_t *second = model_config_to_json(&again, &err);
    tp_assert(second && json_equal(first, second));
    json_decref(first);
    json_decref(second);
}

static void check_rope(const struct model_config *model)
{
    static double f[MODEL_HEAD_DIM_MAX / 2];
    static float cos[MODEL_HEAD_DIM_MAX / 2], sin[MODEL_HEAD_DIM_MAX / 2];
    size_t half = model->head_dim / 2;
    rope_frequencies(model, f);
    for (size_t i = 0; i < half; i++)
        tp_assert(f[i] >= 0 && f[i] <= 1);
    rope_row(f, half, MODEL_POSITIONS_MAX, model->rope.attention_factor, cos, sin);
}

static void check_plan(const struct model_config *model, uint64_t tp_size, uint64_t rank)
{
    struct rank_plan plan;
    struct tp_error err = {0};
    struct recipe recipe = recipe_of(model->dtype ? model->dtype : DTYPE_BF16, NULL);
    uint64_t bytes, end = 0, chunks = 0;
    if (!rank_plan_build(model, recipe, tp_size, rank, &plan, &err)) {
        tp_assert(err.code == TP_E_LIMIT && err.text[0]);
        return;
    }
    tp_assert(rank_plan_data_bytes(model, recipe, tp_size, rank, &bytes, &err));
    tp_assert(bytes == plan.data_bytes);
    for (uint32_t i = 0; i < plan.n_tensors; i++) {
        const struct tensor *t = &plan.tensors[i];
        tp_assert(t->offset >= end && t->offset - end < SHARD_TENSOR_ALIGN);
        tp_assert(t->offset % SHARD_TENSOR_ALIGN == 0 && t->first_chunk == chunks);
        tp_assert(t->own_rows.end <= t->rows && t->own_cols.end <= t->cols);
        tp_assert(t->n_chunks == 0 || tensor_chunk_bytes(t, 0) <= SHARD_CHUNK_BYTES_MAX);
        end = t->offset + t->bytes;
        chunks += t->n_chunks;
    }
    tp_assert(end <= plan.data_bytes && chunks == plan.n_chunks);
    rank_plan_free(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hf_config config;
    for (int guess = 0; guess < 2; guess++) {
        const struct hf_options options = {.guess = guess};
        struct tp_error err = {0};
        if (!hf_config_parse("fuzz", (const char *)data, size, &options, &config, &err)) {
            tp_assert(err.code != TP_OK && err.text[0]);
            continue;
        }
        tp_assert(memchr(config.quantization, '\0', sizeof config.quantization));
        check_round_trip(&config.model);
        check_rope(&config.model);
        check_plan(&config.model, 1, 0);
        check_plan(&config.model, 3, size % 3);
        check_plan(&config.model, PARTITION_TP_MAX, size % PARTITION_TP_MAX);
    }
    return 0;
}
