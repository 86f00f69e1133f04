/* How close decoding comes to the speed of memory: steps of one row and of more (a token of as many
 * sequences, short contexts) beside the fastest read of the very weights they need, by the same
 * threads, interleaved. Or a prompt, over and over: the first one, not timed, maps the files.
 * Prints lines of JSON; checks nothing.
 *
 * bench_decode [-t threads] [-r rounds] [-s steps] [-b rows] [-p tokens] [-i isa] BUNDLE
 *   -t  1 and then 2 where not given
 *   -s  steps of one row in a round (4); of more rows there is one
 *   -b  of 1, 2, 4 ... rows, up to so many (1)
 *   -p  a prompt of so many tokens, one step, and nothing else
 */
#include "engine.h"
#include "kernels.h"
#include "measure.h"
#include "sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS_MAX = SAMPLES_MAX, THREADS_MAX = 2, STEPS_MAX = 32, WARM_STEPS = 2, SIZES_MAX = 5 };
enum { PROMPT_MAX = 4096 };

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

struct options {
    int threads, rounds, steps, rows, prompt;
    enum isa isa;
};

struct bench {
    struct options options;
    struct engine engine;
    struct sampler sampler;
    int way; /* the fastest of measure.h here */
    uint32_t token, position;
    _Atomic uint64_t sink;
    double read_s[ROUNDS_MAX], step_s[SIZES_MAX][ROUNDS_MAX];
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

/* A token of each of so many sequences; all are at the same position, or it was left out. */
static void decode(struct bench *b, int rows)
{
    struct engine *e = &b->engine;
    const struct sampler_options greedy = sampler_defaults();
    struct tp_error err = {0};
    engine_begin(e);
    for (int i = 0; i < rows; i++)
        tp_assert(engine_add(e, (struct step_row){(uint32_t)i, b->position, b->token}, true));
    b->position++;
    tp_assert(engine_step(e, &err));
    for (uint32_t row = 0, count; row < (uint32_t)rows; row += count) {
        const float *logits = engine_logits(e, row, &count, &err);
        for (uint32_t i = 0; i < count; i++)
            tp_assert(sampler_pick(&b->sampler, logits + i * engine_logit_stride(e), NULL, &greedy,
                                   0, b->position, &b->token, &err));
    }
}

static double timed_decode(struct bench *b, int rows)
{
    int steps = rows > 1 ? 1 : b->options.steps;
    double begin = now();
    for (int i = 0; i < steps; i++)
        decode(b, rows);
    return (now() - begin) / steps;
}

static double timed_prompt(struct bench *b)
{
    struct engine *e = &b->engine;
    struct tp_error err = {0};
    uint32_t count;
    const double begin = now();
    engine_begin(e);
    for (int i = 0; i < b->options.prompt; i++)
        tp_assert(engine_add(e, (struct step_row){0, (uint32_t)i, 1 + (uint32_t)i},
                             i + 1 == b->options.prompt));
    tp_assert(engine_step(e, &err) && engine_logits(e, 0, &count, &err));
    return now() - begin;
}

static int sizes_of(const struct options *o)
{
    int sizes = 1;
    while (sizes < SIZES_MAX && 1 << sizes <= o->rows)
        sizes++;
    return sizes;
}

static void run_rounds(struct bench *b)
{
    for (int i = -1; b->options.prompt && i < b->options.rounds; i++) {
        const double seconds = timed_prompt(b);
        b->step_s[0][i < 0 ? 0 : i] = seconds;
    }
    if (b->options.prompt)
        return;
    for (int i = 0; i < WARM_STEPS; i++)
        decode(b, b->options.rows);
    b->way = read_way_best(timed_way, b);
    for (int i = 0; i < b->options.rounds; i++) {
        double before = timed_read(b);
        for (int s = 0; s < sizes_of(&b->options); s++)
            b->step_s[s][i] = timed_decode(b, 1 << s);
        b->read_s[i] = (before + timed_read(b)) / 2;
    }
}

static void print_rates(const struct bench *b, const char *what, const char *unit, double count,
                        const double *seconds)
{
    double rates[ROUNDS_MAX];
    for (int i = 0; i < b->options.rounds; i++)
        rates[i] = count / seconds[i];
    print_samples(what, unit, rates, b->options.rounds);
}

static void print(const struct bench *b, int threads)
{
    char what[64];
    if (b->options.prompt) {
        snprintf(what, sizeof what, "prompt, %d thread%s", threads, threads > 1 ? "s" : "");
        print_rates(b, what, "tok/s", b->options.prompt, b->step_s[0]);
        return;
    }
    double gb = (double)each_matrix(&b->engine.weights, matrix_bytes, 0, 0, 1) * 1e-9;
    snprintf(what, sizeof what, "read, %d thread%s", threads, threads > 1 ? "s" : "");
    print_rates(b, what, "GB/s", gb, b->read_s);
    snprintf(what, sizeof what, "weights, %d thread%s", threads, threads > 1 ? "s" : "");
    print_rates(b, what, "GB/s", gb, b->step_s[0]);
    for (int s = 0; s < sizes_of(&b->options); s++) {
        snprintf(what, sizeof what, "decode, %d thread%s, batch %d", threads,
                 threads > 1 ? "s" : "", 1 << s);
        print_rates(b, what, "tok/s", 1 << s, b->step_s[s]);
    }
}

static bool run(struct bench *b, const struct bundle *bundle, int threads, struct tp_error *err)
{
    const struct options *o = &b->options;
    uint64_t positions[1 << (SIZES_MAX - 1)];
    for (int i = 0; i < o->rows; i++)
        positions[i] =
            (uint64_t)(o->prompt ? o->prompt : o->rounds * (o->steps + SIZES_MAX) + WARM_STEPS);
    const struct engine_setup setup = {
        .device = &device_cpu,
        .isa = kernels_get(o->isa)->name,
        .threads = threads,
        .kv_dtype = bundle->recipe.dtype,
        .rows_max = (uint32_t)(o->prompt ? o->prompt : o->rows),
        .n_sequences = (uint32_t)o->rows,
        .n_pages = (uint32_t)(kv_cache_pages_of(positions[0]) * (uint64_t)o->rows),
        .positions_max = positions,
    };
    b->token = b->position = 0;
    bool ok = engine_open(&b->engine, bundle, &setup, err);
    if (ok) {
        run_rounds(b);
        print(b, threads);
    }
    engine_close(&b->engine);
    return ok;
}

static bool read_options(int argc, char **argv, struct options *o)
{
    *o = (struct options){.rounds = 9, .steps = 4, .rows = 1, .isa = kernels_best()->isa};
    for (int c; (c = getopt(argc, argv, "t:r:s:b:p:i:")) != -1;) {
        int *number = c == 't'   ? &o->threads
                      : c == 'r' ? &o->rounds
                      : c == 's' ? &o->steps
                      : c == 'b' ? &o->rows
                      : c == 'p' ? &o->prompt
                                 : NULL;
        if (number)
            *number = atoi(optarg);
        else if (c != 'i' || !isa_from_name(optarg, &o->isa))
            return false;
    }
    return optind + 1 == argc && o->threads >= 0 && o->threads <= THREADS_MAX && o->rounds >= 1 &&
           o->rounds <= ROUNDS_MAX && o->steps >= 1 && o->steps <= STEPS_MAX && o->rows >= 1 &&
           o->rows <= 1 << (SIZES_MAX - 1) && o->prompt >= 0 && o->prompt <= PROMPT_MAX &&
           kernels_get(o->isa);
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct bundle bundle = {0};
    struct tp_error err = {0};
    if (!read_options(argc, argv, &b.options)) {
        fprintf(stderr, "usage: bench_decode [-t threads] [-r rounds] [-s steps] [-b rows]"
                        " [-p tokens] [-i isa] BUNDLE\n");
        return 2;
    }
    int only = b.options.threads;
    bool ok = bundle_open(&bundle, argv[optind], false, &err) &&
              sampler_init(&b.sampler, bundle.model.vocab, &err);
    for (int threads = only ? only : 1; ok && threads <= (only ? only : THREADS_MAX); threads++)
        ok = run(&b, &bundle, threads, &err);
    sampler_free(&b.sampler);
    bundle_close(&bundle);
    return ok ? 0 : tp_error_print("bench_decode", &err);
}
