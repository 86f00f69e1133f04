/* How close decoding comes to the speed of memory: the time of a decode step (batch 1, short
 * context) beside the fastest read of the very weights it needs, by the same threads, interleaved.
 * Medians. Prints a line per thread count; checks nothing.
 *
 * bench_decode BUNDLE [rounds [steps [isa]]]
 */
#include "engine.h"
#include "kernels.h"
#include "measure.h"
#include "sampler.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS_MAX = 99, THREADS_MAX = 2, STEPS_MAX = 32, WARM_STEPS = 2 };

/* The share of a thread, of every matrix a step multiplies with; whole panels: 512 bytes or more.
 */
static uint64_t read_matrix(const struct matrix *w, int way, int index, int count)
{
    uint64_t panel = w->panel_bytes;
    uint64_t first = cut(w->panels, (uint64_t)index, (uint64_t)count);
    uint64_t last = cut(w->panels, (uint64_t)index + 1, (uint64_t)count);
    return read_all(way, w->w + first * panel, (last - first) * panel);
}

typedef uint64_t matrix_fn(const struct matrix *w, int way, int index, int count);

static uint64_t matrix_bytes(const struct matrix *w, int way, int index, int count)
{
    (void)way;
    (void)index;
    (void)count;
    return w->panels * w->panel_bytes;
}

/* The sum of fn over all that a step multiplies with: the embedding is looked up, not read. */
static uint64_t each_matrix(const struct weights *weights, matrix_fn *fn, int way, int index,
                            int count)
{
    uint64_t sum = 0;
    for (uint64_t r = 0; r < weights->tp_size; r++) {
        const struct rank_weights *w = &weights->ranks[r];
        for (uint64_t l = 0; l < w->model->n_layers; l++) {
            const struct layer_weights *layer = &w->layers[l];
            const struct matrix *all[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                          &layer->gate, &layer->up, &layer->down};
            for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                sum += fn(all[i], way, index, count);
        }
        sum += fn(&w->lm_head, way, index, count);
    }
    return sum;
}

/* ---- rounds ---- */

struct bench {
    struct engine engine;
    struct sampler sampler;
    int rounds, steps, way; /* way: the fastest of measure.h here */
    uint32_t token, position;
    _Atomic uint64_t sink;
    double read_s[ROUNDS_MAX], step_s[ROUNDS_MAX], ratio[ROUNDS_MAX];
};

static void read_share(void *arg, int index, int count)
{
    struct bench *b = arg;
    b->sink += each_matrix(&b->engine.weights, read_matrix, b->way, index, count);
}

static double timed_read(struct bench *b)
{
    double begin = now();
    team_call(&b->engine.team, read_share, b);
    return now() - begin;
}

static double timed_way(void *arg, int way)
{
    struct bench *b = arg;
    b->way = way;
    return timed_read(b);
}

static void decode(struct bench *b)
{
    struct engine *e = &b->engine;
    const struct sampler_options greedy = sampler_defaults();
    struct tp_error err = {0};
    uint32_t count;
    engine_begin(e);
    tp_assert(engine_add(e, (struct step_row){0, b->position++, b->token}, true));
    tp_assert(engine_step(e, &err));
    tp_assert(sampler_pick(&b->sampler, engine_logits(e, 0, &count, &err), NULL, &greedy, 0,
                           b->position, &b->token, &err));
}

static double timed_decode(struct bench *b)
{
    double begin = now();
    for (int i = 0; i < b->steps; i++)
        decode(b);
    return (now() - begin) / b->steps;
}

static void run_rounds(struct bench *b)
{
    for (int i = 0; i < WARM_STEPS; i++)
        decode(b);
    b->way = read_way_best(timed_way, b);
    for (int i = 0; i < b->rounds; i++) {
        double before = timed_read(b);
        double step = timed_decode(b);
        double read = (before + timed_read(b)) / 2;
        b->read_s[i] = read;
        b->step_s[i] = step;
        b->ratio[i] = read / step;
    }
}

static bool run(struct bench *b, const struct bundle *bundle, const struct kernels *kernels,
                int threads, struct tp_error *err)
{
    const uint64_t positions = (uint64_t)(b->rounds * b->steps + WARM_STEPS);
    const struct engine_setup setup = {
        .device = &device_cpu,
        .isa = kernels->name,
        .threads = threads,
        .kv_dtype = bundle->recipe.dtype,
        .rows_max = 1,
        .n_sequences = 1,
        .n_pages = (uint32_t)kv_cache_pages_of(positions),
        .positions_max = &positions,
    };
    b->token = b->position = 0;
    bool ok = engine_open(&b->engine, bundle, &setup, err);
    if (ok) {
        run_rounds(b);
        double gb = (double)each_matrix(&b->engine.weights, matrix_bytes, 0, 0, 1) * 1e-9;
        double step = median(b->step_s, b->rounds);
        printf("decode %s %s quant=%s tp=%llu threads=%d: decode %.2f GB/s  read %.2f GB/s  "
               "ratio %.3f  %.2f tok/s, read %s\n",
               kernels->name, dtype_name(bundle->recipe.dtype), recipe_quant_name(&bundle->recipe),
               (unsigned long long)bundle->tp_size, threads, gb / step,
               gb / median(b->read_s, b->rounds), median(b->ratio, b->rounds), 1 / step,
               read_way_name(b->way));
    }
    engine_close(&b->engine);
    return ok;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct bundle bundle = {0};
    struct tp_error err = {0};
    enum isa isa = kernels_best()->isa;
    if (argc < 2 || (argc > 4 && !isa_from_name(argv[4], &isa)) || !kernels_get(isa)) {
        fprintf(stderr, "usage: bench_decode BUNDLE [rounds [steps [isa]]]\n");
        return 2;
    }
    b.rounds = argc > 2 ? atoi(argv[2]) : 9;
    b.steps = argc > 3 ? atoi(argv[3]) : 4;
    b.rounds = b.rounds < 1 ? 1 : b.rounds > ROUNDS_MAX ? ROUNDS_MAX : b.rounds;
    b.steps = b.steps < 1 ? 1 : b.steps > STEPS_MAX ? STEPS_MAX : b.steps;
    bool ok = bundle_open(&bundle, argv[1], false, &err) &&
              sampler_init(&b.sampler, bundle.model.vocab, &err);
    for (int threads = 1; ok && threads <= THREADS_MAX; threads++)
        ok = run(&b, &bundle, kernels_get(isa), threads, &err);
    sampler_free(&b.sampler);
    bundle_close(&bundle);
    return ok ? 0 : tp_error_print("bench_decode", &err);
}
