/* The one-shot all-reduce with residual and norm, between two ranks of one GPU, each with a stream,
 * an inbox and a thread of its own: microseconds from roots to normed rows, beside the same with
 * one rank. `bench_cuda_reduce [HIDDEN [TIMES]]`: a row of HIDDEN floats, 8 KiB by default. */
#include "clock.h"
#include "cuda_device.h"
#include "threads.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDES_MAX = 2, ROUNDS = 5, DEADLINE = 5, IN_GRAPH = 60 };
_Static_assert(IN_GRAPH % CUDA_INBOXES == 0, "every graph begins with the same inbox");

struct side {
    struct cuda cuda;
    cu_address memory;
    struct cuda_dot dot;
    struct cuda_residual residual;
    cu_graph_exec graph;
    struct tp_error err;
};

struct bench {
    struct side sides[SIDES_MAX];
    uint32_t n; /* sides */
    uint32_t hidden, times;
    cu_function dot, residual;
    struct cuda_watch *watch; /* pinned */
};

/* What a side has, one array after the other. */
struct places {
    uint64_t weights, floats, inbox, words, bytes;
};

static struct places places_of(const struct bench *b)
{
    struct places l = {.weights = (uint64_t)b->hidden * BLOCK_COLS * 2,
                       .floats = (uint64_t)b->hidden * 4,
                       .inbox = ((uint64_t)b->n * b->hidden + CUDA_GPUS) * 4,
                       .words = 4096};
    l.bytes = l.weights + 4 * l.floats + CUDA_INBOXES * l.inbox + 2 * l.words;
    return l;
}

/* A matrix of one block of columns: its rows are roots. */
static bool open_side(struct bench *b, uint32_t i)
{
    struct side *s = &b->sides[i];
    const struct cuda_api *api = &s->cuda.api;
    const struct places l = places_of(b);
    static const struct cuda_step step = {.n_rows = 1, .empty_rows = 1};
    static const struct cuda_block block = {.run = 1, .leaf_ends = 1};
    static struct cuda_root roots[SIDES_MAX];
    for (uint32_t n = 0; n < b->n; n++)
        roots[n] = (struct cuda_root){.slot = (uint16_t)n, .merges = n > 0};
    if (!CUDA(api, &s->err, cuMemAlloc_v2, (&s->memory, l.bytes)))
        return false;
    const cu_address floats = s->memory + l.weights, inbox = floats + 4 * l.floats,
                     words = inbox + CUDA_INBOXES * l.inbox;
    const cu_address table = words + 512, list = words + 1024, arrived = words + l.words;
    s->dot = (struct cuda_dot){
        .step = (const struct cuda_step *)(uintptr_t)words,
        .matrix = {{.w = (const void *)(uintptr_t)s->memory,
                    .panels = b->hidden / 16,
                    .rows = b->hidden,
                    .out_stride = b->hidden}},
        .table = (const struct cuda_block *)(uintptr_t)table,
        .x = (const float *)(uintptr_t)floats,
        .inbox = {.n = b->n, .root_stride = b->hidden, .floats = b->n * b->hidden + CUDA_GPUS},
        .first_slot = i,
        .mark_at = (uint32_t *)(uintptr_t)(words + 2048),
        .edge = (float *)(uintptr_t)(floats + l.floats), /* panels of one unit: none is shared */
        .edge_arrived = (uint32_t *)(uintptr_t)arrived,
        .n_matrices = 1,
        .blocks = 1,
        .panel_words = BLOCK_COLS / 2,
        .panels = b->hidden / 16,
        .slots = 80,
        .x_stride = BLOCK_COLS,
        .stage_x = 1,
    };
    s->residual = (struct cuda_residual){
        .step = s->dot.step,
        .residual = (const float *)(uintptr_t)(floats + l.floats),
        .residual_out = (float *)(uintptr_t)(floats + 2 * l.floats),
        .normed = (float *)(uintptr_t)(floats + 3 * l.floats),
        .norm = (const float *)(uintptr_t)floats,
        .roots = (const struct cuda_root *)(uintptr_t)list,
        .n_roots = b->n,
        .stride = b->hidden,
        .hidden = b->hidden,
        .eps = 1e-5f,
        .keeps = 1,
        .gpu = i,
        .watch = b->watch,
        .deadline = DEADLINE * 1000000000ull,
    };
    return CUDA(api, &s->err, cuMemsetD8Async, (s->memory, 0, l.bytes, s->cuda.stream)) &&
           CUDA(api, &s->err, cuMemsetD8Async,
                (inbox, CUDA_EMPTY & 255, CUDA_INBOXES * l.inbox, s->cuda.stream)) &&
           CUDA(api, &s->err, cuMemcpyHtoDAsync_v2, (words, &step, sizeof step, s->cuda.stream)) &&
           CUDA(api, &s->err, cuMemcpyHtoDAsync_v2,
                (table, &block, sizeof block, s->cuda.stream)) &&
           CUDA(api, &s->err, cuMemcpyHtoDAsync_v2, (list, roots, sizeof roots, s->cuda.stream)) &&
           CUDA(api, &s->err, cuStreamSynchronize, (s->cuda.stream));
}

static void set_inboxes(struct bench *b)
{
    const struct places l = places_of(b);
    for (uint32_t i = 0; i < b->n; i++) {
        struct cuda_inbox *inbox = &b->sides[i].dot.inbox;
        for (uint32_t j = 0; j < b->n; j++)
            inbox->at[j] =
                (float *)(uintptr_t)(b->sides[(i + j) % b->n].memory + l.weights + 4 * l.floats);
        b->sides[i].residual.inbox = *inbox;
    }
}

/* Roots out, sums in, again and again: whole turns of the inboxes, as a graph. */
static bool capture(struct bench *b, struct side *s)
{
    const struct cuda_api *api = &s->cuda.api;
    cu_graph graph = NULL;
    bool ok =
        CUDA(api, &s->err, cuStreamBeginCapture_v2, (s->cuda.stream, CU_CAPTURE_THREAD_LOCAL));
    for (uint32_t i = 0; ok && i < IN_GRAPH; i++) {
        s->dot.inbox.index = s->residual.inbox.index = i;
        ok = cuda_launch(&s->cuda, b->dot, (b->hidden / 16 + 7) / 8, CUDA_THREADS, 32768, &s->dot,
                         &s->err) &&
             cuda_launch(&s->cuda, b->residual, 1, CUDA_THREADS, b->hidden * 4 + 32, &s->residual,
                         &s->err);
    }
    ok = CUDA(api, ok ? &s->err : NULL, cuStreamEndCapture, (s->cuda.stream, &graph)) && ok &&
         CUDA(api, &s->err, cuGraphInstantiateWithFlags, (&s->graph, graph, 0));
    if (graph)
        api->cuGraphDestroy(graph);
    return ok;
}

static void run_side(void *arg, int index, int count)
{
    struct bench *b = arg;
    struct side *s = &b->sides[index];
    bool ok = cuda_use(&s->cuda, &s->err);
    (void)count;
    for (uint32_t i = 0; ok && i < b->times; i++)
        ok = CUDA(&s->cuda.api, &s->err, cuGraphLaunch, (s->graph, s->cuda.stream));
    if (ok)
        CUDA(&s->cuda.api, &s->err, cuStreamSynchronize, (s->cuda.stream));
}

static bool measure(struct bench *b, double *best, struct tp_error *err)
{
    *best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        bool ok = true;
        for (uint32_t i = 0; ok && i < b->n; i++)
            ok = open_side(b, i);
        set_inboxes(b);
        for (uint32_t i = 0; ok && i < b->n; i++)
            ok = capture(b, &b->sides[i]);
        const double begin = clock_seconds();
        ok = ok && threads_run((int)b->n, run_side, b, err);
        const double seconds = (clock_seconds() - begin) / b->times / IN_GRAPH;
        for (uint32_t i = 0; i < b->n; i++) {
            struct side *s = &b->sides[i];
            if (s->graph)
                s->cuda.api.cuGraphExecDestroy(s->graph);
            s->graph = NULL;
            if (s->memory)
                s->cuda.api.cuMemFree_v2(s->memory);
            s->memory = 0;
            if (s->err.code != TP_OK)
                *err = s->err;
            ok &= s->err.code == TP_OK;
        }
        if (!ok)
            return false;
        if (b->watch->stop)
            return tp_fail(err, TP_E_RANK, "sums did not come: the streams do not run at once");
        *best = seconds < *best ? seconds : *best;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct tp_error err = {0};
    struct cuda *first = &b.sides[0].cuda;
    double alone = 0, both = 0;
    b.hidden = argc > 1 ? (uint32_t)atoi(argv[1]) / 16 * 16 : 2048;
    b.times = argc > 2 ? (uint32_t)atoi(argv[2]) : 50; /* of graphs */
    if (!cuda_open(first, 0, &err))
        return tp_error_print("bench_cuda_reduce", &err);
    b.sides[1].cuda = *first;
    bool ok = CUDA(&first->api, &err, cuStreamCreate, (&b.sides[1].cuda.stream, CU_NON_BLOCKING)) &&
              CUDA(&first->api, &err, cuMemHostAlloc,
                   ((void **)&b.watch, sizeof *b.watch, CU_HOST_PORTABLE)) &&
              cuda_kernel(first, "dot_bf16_1", &b.dot, &err) &&
              cuda_kernel(first, "residual_norm_rows", &b.residual, &err);
    if (ok)
        memset(b.watch, 0, sizeof *b.watch);
    b.n = 1;
    ok = ok && measure(&b, &alone, &err);
    b.n = 2;
    ok = ok && measure(&b, &both, &err);
    if (ok)
        printf("all-reduce of %u bytes, two ranks of one GPU, with residual and norm: %.2f us; one "
               "rank, two kernels: %.2f us\n",
               b.hidden * 4, both * 1e6, alone * 1e6);
    first->api.cuStreamDestroy_v2(b.sides[1].cuda.stream);
    if (b.watch)
        first->api.cuMemFreeHost(b.watch);
    cuda_close(first);
    return ok ? 0 : tp_error_print("bench_cuda_reduce", &err);
}
