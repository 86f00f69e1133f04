/* What steps of several rows bring, and what a long context costs: tokens a second of 1 to 16
 * sequences that are decoded together, each at a low position and at one far on, interleaved. A
 * line of JSON for each; checks nothing.
 *
 * bench_batch BUNDLE [threads [rounds [isa]]]
 */
#include "engine.h"
#include "kernels.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROWS_MAX = 16, SIZES = 5, PLACES = 2, FAR = 4095, NEAR = 31 };

static void step(struct engine *e, uint32_t rows, uint32_t position)
{
    struct tp_error err = {0};
    uint32_t count;
    engine_begin(e);
    for (uint32_t s = 0; s < rows; s++)
        tp_assert(engine_add(e, (struct step_row){s, position, s + 1}, true));
    if (!engine_step(e, &err) || !engine_logits(e, 0, &count, &err))
        exit(tp_error_print("bench_batch", &err));
}

static void run(struct engine *e, int threads, int rounds)
{
    static const uint32_t positions[PLACES] = {NEAR, FAR};
    static double rate[PLACES][SIZES][SAMPLES_MAX];
    for (int i = -1; i < rounds; i++) /* the first is to warm up */
        for (int p = 0; p < PLACES; p++)
            for (int s = 0; s < SIZES; s++) {
                double begin = now();
                step(e, 1u << s, positions[p]);
                rate[p][s][i < 0 ? 0 : i] = (1 << s) / (now() - begin);
            }
    for (int p = 0; p < PLACES; p++)
        for (int s = 0; s < SIZES; s++) {
            char what[96];
            snprintf(what, sizeof what, "%s %s, %d threads, %d rows at %u", e->device->kernels,
                     recipe_quant_name(&e->bundle->recipe), threads, 1 << s, positions[p]);
            print_samples(what, "tok/s", rate[p][s], rounds);
        }
}

int main(int argc, char **argv)
{
    static struct engine engine;
    struct bundle bundle = {0};
    struct tp_error err = {0};
    int threads = argc > 2 ? atoi(argv[2]) : 1, rounds = argc > 3 ? atoi(argv[3]) : 5;
    uint64_t positions[ROWS_MAX];
    for (int i = 0; i < ROWS_MAX; i++)
        positions[i] = FAR + 1;
    if (argc < 2 || threads < 1 || rounds < 1 || rounds > SAMPLES_MAX) {
        fprintf(stderr, "usage: bench_batch BUNDLE [threads [rounds [isa]]]\n");
        return 2;
    }
    struct engine_setup setup = {.device = &device_cpu,
                                 .isa = argc > 4 ? argv[4] : NULL,
                                 .threads = threads,
                                 .rows_max = ROWS_MAX,
                                 .n_sequences = ROWS_MAX,
                                 .n_pages = ROWS_MAX * (uint32_t)kv_cache_pages_of(FAR + 1),
                                 .positions_max = positions};
    bool ok = bundle_open(&bundle, argv[1], false, &err);
    setup.kv_dtype = bundle.recipe.dtype;
    ok = ok && engine_open(&engine, &bundle, &setup, &err);
    if (ok)
        run(&engine, threads, rounds);
    engine_close(&engine);
    bundle_close(&bundle);
    return ok ? 0 : tp_error_print("bench_batch", &err);
}
