/* How fast the dots are: bytes per second at one row beside the fastest read of as many bytes by as
 * many threads, interleaved; arithmetic at 64 and 256 rows. Prints lines of JSON; checks nothing.
 *
 * bench_kernels [rounds [MiB [isa]]]      MiB: 8 or more; isa: all that there are where not given
 */
#include "kernels.h"
#include "measure.h"
#include "mem.h"
#include "threads.h"

#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS = 2048, ROUNDS_MAX = SAMPLES_MAX, THREADS_MAX = 2, ROOM = 1 << 20, RUN = 16 };

struct job {
    const struct kernels *kernels; /* NULL: a read */
    const struct stored *stored;
    const char *weights;
    size_t bytes, M, stride;
    const float *x, *sums;
    uint32_t *packed; /* x as dot_rows takes it, per thread */
    void *room;       /* ROOM per thread */
    float *out;       /* per thread M * RUN * 16 */
    double begin[THREADS_MAX], end[THREADS_MAX];
    struct barrier barrier;
    uint64_t sink;
    int way; /* of reading: the fastest of measure.h */
};

static size_t panel_bytes(const struct stored *stored)
{
    return stored_words(stored, (struct range){0, COLUMNS}) * 64;
}

static void packed_dots(const struct job *job, int index, size_t first, size_t last)
{
    const struct kernels *k = job->kernels;
    const struct pieces pieces = stored_pieces(job->stored, (struct range){0, COLUMNS});
    const size_t panel = panel_bytes(job->stored), blocks = job->stride / BLOCK_COLS, M = job->M;
    uint32_t *rows = job->packed + (size_t)index * packed_words(k, blocks, M);
    tp_assert(k->rows_room <= ROOM && k->run_panels <= RUN);
    k->rows_begin();
    k->pack_rows(job->x, job->stride, blocks, M, rows);
    for (size_t p = first, n; p < last; p += n) {
        n = last - p < k->run_panels ? last - p : k->run_panels;
        k->dot_rows[job->stored->id](job->weights + p * panel, panel, n, ONE_LEAF(pieces), rows,
                                     blocks, job->sums, M, job->out + (size_t)index * M * RUN * 16,
                                     n * 16, 0, (char *)job->room + index * ROOM);
    }
    k->rows_end();
}

static void one_row(const struct job *job, size_t first, size_t last, float *out)
{
    const struct pieces pieces = stored_pieces(job->stored, (struct range){0, COLUMNS});
    const size_t panel = panel_bytes(job->stored), run = RUN;
    for (size_t p = first; p < last; p += run)
        job->kernels->dot_row[job->stored->id](job->weights + p * panel, panel,
                                               last - p < run ? last - p : run, ONE_LEAF(pieces),
                                               job->x, job->sums, true, out, 0);
}

static void work(void *arg, int index, int count)
{
    struct job *job = arg;
    const struct range leaf = {0, COLUMNS};
    const struct pieces pieces = stored_pieces(job->stored, leaf);
    size_t panel = job->kernels ? panel_bytes(job->stored) : COLUMNS * 64;
    size_t panels = job->bytes / panel, first = panels * (size_t)index / (size_t)count;
    size_t last = panels * (size_t)(index + 1) / (size_t)count;
    float *out = job->out + (size_t)index * job->M * RUN * 16;
    barrier_wait(&job->barrier, index);
    job->begin[index] = now();
    if (!job->kernels)
        job->sink += read_all(job->way, (const unsigned char *)job->weights + first * panel,
                              (last - first) * panel);
    else if (kernels_packs(job->kernels, job->stored->id, true, job->M))
        packed_dots(job, index, first, last);
    else if (job->M == 1 && job->kernels->dot_row[job->stored->id])
        one_row(job, first, last, out);
    else
        for (size_t p = first; p < last; p++)
            job->kernels->dot[job->stored->id](job->weights + p * panel, ONE_LEAF(pieces), job->x,
                                               job->stride, job->sums, job->M, out, 16, 0);
    job->end[index] = now();
}

static double run(struct job *job, int threads)
{
    struct tp_error err = {0};
    if (!barrier_init(&job->barrier, threads, &err) || !threads_run(threads, work, job, &err))
        exit(tp_error_print("bench_kernels", &err));
    barrier_free(&job->barrier);
    double begin = job->begin[0], end = job->end[0];
    for (int i = 1; i < threads; i++) {
        begin = job->begin[i] < begin ? job->begin[i] : begin;
        end = job->end[i] > end ? job->end[i] : end;
    }
    return end - begin;
}

struct timed {
    struct job *job;
    int threads;
};

static double timed_way(void *arg, int way)
{
    struct timed *t = arg;
    t->job->way = way;
    return run(t->job, t->threads);
}

static void streaming(struct job *job, int threads, int rounds)
{
    const struct kernels *kernels = job->kernels;
    double read[ROUNDS_MAX], dot[ROUNDS_MAX], gigabytes = (double)job->bytes * 1e-9;
    char what[80];
    job->kernels = NULL;
    job->way = read_way_best(timed_way, &(struct timed){job, threads});
    for (int i = 0; i < rounds; i++) {
        job->kernels = NULL;
        double before = run(job, threads);
        job->kernels = kernels;
        dot[i] = gigabytes / run(job, threads);
        job->kernels = NULL;
        read[i] = gigabytes / ((before + run(job, threads)) / 2);
    }
    job->kernels = kernels;
    snprintf(what, sizeof what, "dot %s %s, %d thread%s", kernels->name, job->stored->name, threads,
             threads > 1 ? "s" : "");
    print_samples(what, "GB/s", dot, rounds);
    snprintf(what, sizeof what, "read beside %s %s, %d thread%s", kernels->name, job->stored->name,
             threads, threads > 1 ? "s" : "");
    print_samples(what, "GB/s", read, rounds);
}

static void arithmetic(struct job *job, int rounds)
{
    double rates[ROUNDS_MAX];
    char what[80];
    size_t panels = job->kernels->isa == ISA_SCALAR ? 1 : 64;
    job->bytes = panels * panel_bytes(job->stored);
    double flop = (double)(panels * COLUMNS * 16) * 2 * (double)job->M;
    for (int i = 0; i < rounds; i++)
        rates[i] = flop * 1e-9 / run(job, 1);
    snprintf(what, sizeof what, "dot %s %s, %zu rows", job->kernels->name, job->stored->name,
             job->M);
    print_samples(what, "GFLOP/s", rates, rounds);
}

/* Normal numbers in every format, few E4M3 subnormals; zeros: of groups, 15 at most. */
static void fill(char *weights, size_t bytes, bool zeros)
{
    for (size_t i = 0; i < bytes; i += 4) {
        uint32_t u = (uint32_t)(i / 4) * 2654435761u;
        u = (u ^ u >> 15) * 2246822519u;
        u = ((u ^ u >> 13) & 0xbfbfbfbf) | 0x20202020;
        u &= zeros ? 0xffffff0f : 0xffffffff;
        memcpy(weights + i, &u, 4);
    }
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 9;
    size_t bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 512) << 20;
    enum isa only = ISA_COUNT;
    struct tp_error err = {0};
    if (rounds < 1 || rounds > ROUNDS_MAX || bytes < 8 << 20 ||
        (argc > 3 && !isa_from_name(argv[3], &only))) {
        fprintf(stderr, "usage: bench_kernels [rounds [MiB [isa]]]\n");
        return 2;
    }
    size_t stride = COLUMNS + 32;
    char *weights = mem_map_alloc(bytes, &err);
    float *x = mem_map_alloc(256 * stride * sizeof *x, &err);
    float *sums = mem_map_alloc(256 * stride / 32 * sizeof *sums, &err);
    const size_t packed_columns = strip_blocks(stride / BLOCK_COLS) * BLOCK_COLS; /* the widest */
    uint32_t *packed = mem_map_alloc(THREADS_MAX * 256 * packed_columns * sizeof *packed, &err);
    float *out = mem_map_alloc(THREADS_MAX * 256 * RUN * 16 * sizeof *out, &err);
    void *room = mem_map_alloc(THREADS_MAX * ROOM, &err);
    if (!weights || !x || !sums || !packed || !out || !room)
        return tp_error_print("bench_kernels", &err);
    for (size_t i = 0; i < 256 * stride; i++)
        x[i] = (float)(int)(i % 97) * 0.01f - 0.5f;
    bool filled = false, zeros = false;
    for (enum isa isa = ISA_COUNT; isa-- > ISA_SCALAR;)
        for (unsigned id = 1; id < STORED_COUNT; id++) {
            struct job job = {.kernels = kernels_get(isa),
                              .stored = stored_of(id),
                              .weights = weights,
                              .bytes = bytes,
                              .M = 1,
                              .stride = stride,
                              .x = x,
                              .sums = sums,
                              .packed = packed,
                              .room = room,
                              .out = out};
            if (!job.kernels || (only != ISA_COUNT && only != isa))
                continue;
            const bool has_zeros = job.stored->offset == OFFSET_ZERO;
            if (!filled || zeros != has_zeros)
                fill(weights, bytes, zeros = has_zeros);
            filled = true;
            if (isa == ISA_SCALAR)
                job.bytes = bytes / 64;
            for (int threads = 1; threads <= THREADS_MAX; threads++)
                streaming(&job, threads, rounds);
            for (job.M = 64; job.M <= 256; job.M *= 4)
                arithmetic(&job, rounds);
        }
    return 0;
}
