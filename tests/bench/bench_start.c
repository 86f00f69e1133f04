/* What verification costs a start: the first step of an engine that hashes weights as it reads
 * them, beside that of one that does not (--verify header), and beside hashing all before it. The
 * file is in the page cache, each engine maps it anew; interleaved, medians. Prints a line per
 * thread count; checks nothing.
 *
 * bench_start BUNDLE [rounds]
 */
#include "engine.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS_MAX = 99, THREADS_MAX = 2 };
enum way { PLAIN, IN_STEP, AT_ONCE, WAYS };

/* Seconds of hashing before the first step, and of that. < 0: an error. */
static double timed_start(const struct bundle *bundle, enum way way, int threads,
                          const char **kernels, struct tp_error *err)
{
    const uint64_t positions = 1;
    const struct engine_setup setup = {
        .device = &device_cpu,
        .threads = threads,
        .kv_dtype = bundle->recipe.dtype,
        .rows_max = 1,
        .n_sequences = 1,
        .n_pages = (uint32_t)kv_cache_pages_of(positions),
        .positions_max = &positions,
        .verify = way != PLAIN,
        .at_once = way == AT_ONCE,
    };
    struct engine e;
    if (!engine_open(&e, bundle, &setup, err))
        return -1;
    const double hashing = e.hash_seconds, begin = now();
    engine_begin(&e);
    bool ok = engine_add(&e, (struct step_row){0, 0, 1}, true) && engine_step(&e, err);
    const double seconds = now() - begin;
    *kernels = e.device->kernels;
    engine_close(&e);
    return ok ? hashing + seconds : -1;
}

static bool run(const struct bundle *bundle, int rounds, int threads, struct tp_error *err)
{
    double seconds[WAYS][ROUNDS_MAX], ratio[WAYS][ROUNDS_MAX];
    const char *kernels = "";
    for (int i = -1; i < rounds; i++) /* the first makes the cache warm */
        for (enum way way = 0; way < WAYS; way++) {
            const double s = timed_start(bundle, way, threads, &kernels, err);
            if (s < 0)
                return false;
            seconds[way][i < 0 ? 0 : i] = s;
            ratio[way][i < 0 ? 0 : i] = s / seconds[PLAIN][i < 0 ? 0 : i];
        }
    printf("start %s %s quant=%s tp=%llu threads=%d: first step plain %.1f ms, verified %.1f ms, "
           "ratio %.3f; hashed before it %.1f ms, %.3f\n",
           kernels, dtype_name(bundle->recipe.dtype), recipe_quant_name(&bundle->recipe),
           (unsigned long long)bundle->tp_size, threads, 1e3 * median(seconds[PLAIN], rounds),
           1e3 * median(seconds[IN_STEP], rounds), median(ratio[IN_STEP], rounds),
           1e3 * median(seconds[AT_ONCE], rounds), median(ratio[AT_ONCE], rounds));
    return true;
}

int main(int argc, char **argv)
{
    struct bundle bundle = {0};
    struct tp_error err = {0};
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: bench_start BUNDLE [rounds]\n");
        return 2;
    }
    int rounds = argc > 2 ? atoi(argv[2]) : 9;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    bool ok = bundle_open(&bundle, argv[1], false, &err);
    for (int threads = 1; ok && threads <= THREADS_MAX; threads++)
        ok = run(&bundle, rounds, threads, &err);
    bundle_close(&bundle);
    return ok ? 0 : tp_error_print("bench_start", &err);
}
