/* How long the threads of ranks take to sum 4 to 64 KiB: each leaves its root, they meet, each
 * folds all roots. Beside it a line of the cache that two threads hand to each other, one way, and
 * a meeting alone, in the same rounds. Prints lines of JSON; checks nothing.
 *
 *   all-reduce    root written, met, folded
 *   phase         the same as a step has it: residual and norm too, by cpu_reduce_attention
 *   alone         what a phase computes, by one thread that has it all in its cache
 *
 * bench_allreduce [ranks [rounds]]       ranks: 2, 4, 8
 */
#include "cpu.h"
#include "measure.h"
#include "mem.h"
#include "threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RANKS_MAX = 8,
    SIZES = 5,
    ROUNDS_MAX = SAMPLES_MAX,
    BLOCKS = 20,
    TIMES = 100,
    HIDDEN_MIN = 1024
};
enum kind { HANDOVER, MEETING, ALL_REDUCE, PHASE, ALONE };

/* A step of one row on ranks with a root each, every one a crew. Attention and MLP take turns, as
 * in a step: while one's roots are folded the other's may be written. */
struct bench {
    struct model_config model;
    struct comm comm;
    struct cpu_device device;
    struct rank_weights weights;
    struct layer_weights layer;
    struct step step;
    struct barrier start;
    enum kind kind;
    double block_s[BLOCKS]; /* of TIMES each */
    struct {
        _Alignas(64) float *root; /* of its own, [hidden] */
        float *sum;               /* [hidden] */
    } mine[RANKS_MAX];
    _Alignas(64) _Atomic uint32_t ball;
};

static float *floats(uint64_t n, struct tp_error *err)
{
    float *p = mem_map_alloc(n * sizeof *p, err);
    if (!p)
        exit(tp_error_print("bench_allreduce", err));
    for (uint64_t i = 0; i < n; i++)
        p[i] = (float)(i % 13) * 0.25f - 1;
    return p;
}

static void open_rank(struct bench *b, uint64_t rank, struct tp_error *err)
{
    const uint64_t hidden = b->model.hidden;
    b->device.ranks[rank] = (struct cpu_rank){.device = &b->device,
                                              .weights = &b->weights,
                                              .model = &b->model,
                                              .kernels = b->device.kernels,
                                              .bf16 = true,
                                              .eps = 1e-5f,
                                              .rank = rank};
    b->device.crews[rank] = (struct cpu_crew){.device = &b->device,
                                              .ranks = {rank, rank + 1},
                                              .parts = 1,
                                              .scratch_floats = TREE_STACK_MAX * hidden,
                                              .residual = floats(hidden, err),
                                              .normed = floats(hidden, err),
                                              .scratch = floats(TREE_STACK_MAX * hidden, err)};
    b->mine[rank].root = floats(hidden, err);
    b->mine[rank].sum = floats(hidden, err);
    b->device.attention.of[rank] = floats(hidden, err);
    b->device.mlp.of[rank] = floats(hidden, err);
}

static void open_bench(struct bench *b, uint64_t hidden, int ranks)
{
    struct tp_error err = {0};
    *b = (struct bench){
        .model = {.n_layers = 1, .n_heads = 32, .n_kv_heads = 4, .head_dim = 64, .d_ff = 1024}};
    b->model.hidden = hidden;
    if (!comm_open_threads(&b->comm, &b->model, (uint64_t)ranks, ranks, (uint64_t)ranks, 0, &err))
        exit(tp_error_print("bench_allreduce", &err));
    tp_assert(b->comm.attention.n_roots == (uint64_t)ranks);
    b->layer.attn_norm = b->layer.mlp_norm = b->weights.final_norm = floats(hidden, &err);
    b->weights.model = &b->model;
    b->weights.layers = &b->layer;
    b->device.setup = (struct device_setup){.model = &b->model, .comm = &b->comm, .rows_max = 1};
    b->device.kernels = kernels_best();
    b->device.row_stride = b->device.root_stride = hidden;
    b->device.attention.tree = b->device.mlp.tree = &b->comm.attention;
    b->step.n_rows = 1;
    for (int r = 0; r < ranks; r++)
        open_rank(b, (uint64_t)r, &err);
}

static void close_bench(struct bench *b, int ranks)
{
    const uint64_t bytes = b->model.hidden * sizeof(float);
    comm_close(&b->comm);
    for (int i = 0; i < ranks; i++) {
        const struct cpu_crew *c = &b->device.crews[i];
        mem_map_free(c->residual, bytes);
        mem_map_free(c->normed, bytes);
        mem_map_free(c->scratch, TREE_STACK_MAX * bytes);
        mem_map_free(b->mine[i].root, bytes);
        mem_map_free(b->mine[i].sum, bytes);
        mem_map_free(b->device.attention.of[i], bytes);
        mem_map_free(b->device.mlp.of[i], bytes);
    }
    mem_map_free((void *)b->weights.final_norm, bytes);
}

/* ---- what is measured, by the thread of a rank ---- */

static void hand_over(struct bench *b, uint64_t rank, uint32_t i)
{
    while (atomic_load_explicit(&b->ball, memory_order_acquire) != 2 * i + rank)
        ;
    atomic_store_explicit(&b->ball, 2 * i + (uint32_t)rank + 1, memory_order_release);
}

static void fold(struct bench *b, const struct cpu_roots *roots, uint64_t rank)
{
    const float *sum = roots->of[0];
    for (uint64_t r = 1; r < b->comm.size; r++) {
        b->device.kernels->add(sum, roots->of[r], b->model.hidden, b->mine[rank].sum);
        sum = b->mine[rank].sum;
    }
}

static void reduce(struct bench *b, uint64_t rank, uint32_t i)
{
    static cpu_phase *const phases[] = {cpu_reduce_attention, cpu_reduce_mlp};
    const struct cpu_roots *roots = i % 2 ? &b->device.mlp : &b->device.attention;
    if (b->kind != MEETING)
        memcpy(roots->of[rank], b->mine[rank].root, b->model.hidden * sizeof(float));
    if (b->kind != ALONE)
        b->comm.meet(&b->comm, (int)rank, COMM_ROOTS);
    if (b->kind == ALL_REDUCE)
        fold(b, roots, rank);
    else if (b->kind != MEETING)
        phases[i % 2](&b->device.crews[rank], &b->step, &(struct op){.norm = 1 + i % 2},
                      (struct share){0, 1});
}

static void work(void *arg, int index, int count)
{
    struct bench *b = arg;
    (void)count;
    barrier_wait(&b->start, index);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        double begin = now();
        for (uint32_t i = block * TIMES; i < (block + 1) * TIMES; i++)
            if (b->kind != HANDOVER)
                reduce(b, (uint64_t)index, i);
            else if (index < 2)
                hand_over(b, (uint64_t)index, i);
        if (index == 0)
            b->block_s[block] = now() - begin;
    }
}

/* Microseconds of one; the median of blocks, for a virtual processor is away now and then. */
static double timed(struct bench *b, struct team *team, enum kind kind)
{
    b->kind = kind;
    b->ball = 0;
    struct tp_error err = {0};
    if (!barrier_init(&b->start, kind == ALONE ? 1 : team->count, &err))
        exit(tp_error_print("bench_allreduce", &err));
    memset(b->device.crews[0].residual, 0, b->model.hidden * sizeof(float));
    if (kind == ALONE)
        work(b, 0, 1);
    else
        team_call(team, work, b);
    barrier_free(&b->start);
    return 1e6 * median(b->block_s, BLOCKS) / TIMES / (kind == HANDOVER ? 2 : 1);
}

int main(int argc, char **argv)
{
    static struct bench benches[SIZES];
    static double us[SIZES][ALONE + 1][ROUNDS_MAX];
    int ranks = argc > 1 ? atoi(argv[1]) : 2, rounds = argc > 2 ? atoi(argv[2]) : 9;
    struct tp_error err = {0};
    struct team team;
    if ((ranks != 2 && ranks != 4 && ranks != RANKS_MAX) || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_allreduce [ranks [rounds]]: 2, 4 or 8 ranks\n");
        return 2;
    }
    if (!team_start(&team, ranks, TEAM_STACK, &err))
        return tp_error_print("bench_allreduce", &err);
    for (int s = 0; s < SIZES; s++)
        open_bench(&benches[s], (uint64_t)HIDDEN_MIN << s, ranks);
    for (int i = -1; i < rounds; i++) /* the first is to warm up */
        for (int s = 0; s < SIZES; s++)
            for (enum kind kind = s ? ALL_REDUCE : HANDOVER; kind <= ALONE; kind++)
                us[s][kind][i < 0 ? 0 : i] = timed(&benches[s], &team, kind);
    print_samples("handover", "us", us[0][HANDOVER], rounds);
    print_samples("meeting", "us", us[0][MEETING], rounds);
    for (int s = 0; s < SIZES; s++)
        for (enum kind kind = ALL_REDUCE; kind <= ALONE; kind++) {
            static const char *const names[] = {"all-reduce", "phase", "alone"};
            char what[32];
            snprintf(what, sizeof what, "%s %d KiB", names[kind - ALL_REDUCE], 4 << s);
            print_samples(what, "us", us[s][kind], rounds);
        }
    team_stop(&team);
    for (int s = 0; s < SIZES; s++)
        close_bench(&benches[s], ranks);
    return 0;
}
