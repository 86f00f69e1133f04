/* On the GPU: milliseconds of a step, and the bytes of weights a second that this means, for steps
 * of 1 to 16 rows that decode; what of it goes into choosing tokens, with temperature alone and
 * with top-k and top-p; milliseconds of fast prompts. `bench_cuda BUNDLE [READ_GB_S]`: beside what
 * a plain read of the GPU's memory gives. */
#include "clock.h"
#include "cuda_device.h"
#include "engine.h"
#include "kv_cache.h"
#include "processors.h"
#include "sampler.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    ROUNDS = 7,
    STEPS = 20,
    WARM = 3,
    CHOICES = 200,
    ROWS_MAX = 16,
    PROMPT_MAX = 2048,
    POSITIONS = PROMPT_MAX
};
_Static_assert((int)POSITIONS >= WARM + ROUNDS * STEPS, "room for the steps");
static const uint32_t tokens[] = {26, 60, 128, 512, PROMPT_MAX};

struct bench {
    struct engine engine;
    uint32_t position;
    double read_gb_s;
    struct sampler_choice choices[ROWS_MAX];
    uint32_t chosen[ROWS_MAX];
};

static void ask(struct bench *b, struct sampler_options options)
{
    for (uint32_t s = 0; s < ROWS_MAX; s++)
        b->choices[s] = sampler_choice_of(&options, b->engine.bundle->model.vocab, s, b->position);
}

static bool step(struct bench *b, uint32_t rows, struct tp_error *err)
{
    engine_begin(&b->engine);
    for (uint32_t s = 0; s < rows; s++)
        tp_assert(engine_add(&b->engine, (struct step_row){s, b->position, 1 + s}, true));
    b->position++;
    engine_choose(&b->engine, b->choices, b->chosen);
    return engine_step(&b->engine, err);
}

/* Seconds of choosing alone, from the logits of the last step. */
static bool choosing(struct bench *b, uint32_t rows, struct sampler_options options,
                     double *seconds, struct tp_error *err)
{
    struct cuda_gpu *g = &((struct cuda_device *)(void *)b->engine.device)->gpus[0];
    ask(b, options);
    bool ok = cuda_put_choices(g, engine_rows(&b->engine), 0, rows, err) &&
              CUDA(&g->cuda->api, err, cuStreamSynchronize, (g->cuda->stream));
    double begin = clock_seconds();
    for (int i = 0; ok && i < CHOICES; i++)
        ok = cuda_run_choices(g, rows, err);
    ok = ok && CUDA(&g->cuda->api, err, cuStreamSynchronize, (g->cuda->stream));
    *seconds = (clock_seconds() - begin) / CHOICES;
    return ok;
}

/* A prompt of so many tokens, to the logits of the last. */
static bool prompt(struct bench *b, uint32_t rows, struct tp_error *err)
{
    uint32_t count;
    engine_begin(&b->engine);
    tp_assert(engine_begin_span(&b->engine, 0, 0, rows));
    for (uint32_t i = 0; i < rows; i++)
        tp_assert(engine_add(&b->engine, (struct step_row){0, i, 1 + i % 100}, i + 1 == rows));
    return engine_step(&b->engine, err) && engine_logits(&b->engine, 0, &count, err);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool measure(struct bench *b, uint32_t rows, struct tp_error *err)
{
    double seconds[ROUNDS];
    const struct bundle *bundle = b->engine.bundle;
    struct sampler_options drawn = sampler_defaults(), cut = drawn;
    double drawn_s, cut_s;
    drawn.temperature = cut.temperature = 0.8;
    cut.top_k = 50;
    cut.top_p = 0.95;
    b->position = 0;
    ask(b, sampler_defaults());
    for (uint32_t s = 0; s < ROWS_MAX; s++)
        engine_forget(&b->engine, s, 0);
    for (int i = 0; i < WARM; i++)
        if (!step(b, rows, err))
            return false;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = clock_seconds();
        for (int i = 0; i < STEPS; i++)
            if (!step(b, rows, err))
                return false;
        seconds[round] = (clock_seconds() - begin) / STEPS;
    }
    qsort(seconds, ROUNDS, sizeof *seconds, ascending);
    double s = seconds[ROUNDS / 2], gb = 0;
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        gb += (double)b->engine.weights.ranks[r].decode_bytes * 1e-9;
    printf("decode %s %-10s rows %2u: %7.3f ms a step, %7.1f GB/s of weights, %8.1f tok/s",
           b->engine.device->kernels, recipe_quant_name(&bundle->recipe), rows, s * 1e3, gb / s,
           rows / s);
    if (b->read_gb_s > 0)
        printf(", %.3f of a plain read", gb / s / b->read_gb_s);
    if (!choosing(b, rows, drawn, &drawn_s, err) || !choosing(b, rows, cut, &cut_s, err))
        return false;
    printf(", choosing %.1f us, top-k and top-p %.1f us, %.2f %% of a step\n", drawn_s * 1e6,
           cut_s * 1e6, 100 * cut_s / s);
    fflush(stdout);
    return true;
}

static bool measure_prompt(struct bench *b, uint32_t rows, struct tp_error *err)
{
    double seconds[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        double begin = clock_seconds();
        if (!prompt(b, rows, err))
            return false;
        if (round >= 0)
            seconds[round] = clock_seconds() - begin;
    }
    qsort(seconds, ROUNDS, sizeof *seconds, ascending);
    double s = seconds[ROUNDS / 2];
    printf("prompt %s %-10s tokens %4u: %8.3f ms, %8.1f tok/s\n", b->engine.device->kernels,
           recipe_quant_name(&b->engine.bundle->recipe), rows, s * 1e3, rows / s);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct bundle bundle = {0};
    struct tp_error err = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: bench_cuda BUNDLE [READ_GB_S]\n");
        return 2;
    }
    if (!bundle_open(&bundle, argv[1], false, &err))
        return tp_error_print("bench_cuda", &err);
    uint64_t positions[ROWS_MAX];
    for (int i = 0; i < ROWS_MAX; i++)
        positions[i] = POSITIONS;
    const struct engine_setup setup = {
        .device = &device_cuda,
        .threads = processors_available(),
        .kv_dtype = bundle.recipe.dtype,
        .rows_max = PROMPT_MAX,
        .span_rows_max = engine_has_fast(&device_cuda, &bundle) ? PROMPT_MAX : 0,
        .n_sequences = ROWS_MAX,
        .n_pages = (uint32_t)kv_cache_pages_of(POSITIONS) * ROWS_MAX,
        .positions_max = positions,
        .verify = true,
        .memory_fraction = 0.95,
        .share = true,
    };
    b.read_gb_s = argc > 2 ? strtod(argv[2], NULL) : 0;
    bool ok = engine_open(&b.engine, &bundle, &setup, &err);
    if (ok)
        printf("load %s: %.2f GB, map %.3f s, copy and hash %.3f s\n", argv[1],
               (double)b.engine.weights.mapped_bytes * 1e-9, b.engine.map_seconds,
               b.engine.alloc_seconds);
    for (uint32_t rows = 1; ok && rows <= ROWS_MAX; rows *= 2)
        ok = measure(&b, rows, &err);
    for (size_t i = 0; ok && setup.span_rows_max && i < sizeof tokens / sizeof *tokens; i++)
        ok = measure_prompt(&b, tokens[i], &err);
    engine_close(&b.engine);
    bundle_close(&bundle);
    return ok ? 0 : tp_error_print("bench_cuda", &err);
}
