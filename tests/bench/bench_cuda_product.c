/* Products of large chunks on the GPU (cuda_blas.h): TFLOP/s, and bytes a second of what is
 * unpacked. `bench_cuda_product [ROWS COLUMNS CHUNK [HALF_MIB]]`: rows and columns of the matrix;
 * the workspace's half, of which there are two. Without arguments some shapes and halves of use. */
#include "checked.h"
#include "clock.h"
#include "cuda_blas.h"
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, PRODUCTS = 8 };

struct shape {
    uint64_t rows, columns, chunk, half_mib;
};
struct bench {
    struct cuda cuda;
    struct cuda_blas blas;
    struct tp_error err;
    cu_address memory;
};

/* Blocks of a row of one leaf, whole groups. */
static struct cuda_geometry geometry_of(const struct stored *s, uint64_t columns,
                                        struct cuda_block *table)
{
    struct cuda_geometry g = {.stored = s};
    struct piece piece = {{0, 0}, 0, 0, 0, 0};
    const struct range leaf = {0, columns};
    while (stored_next_piece(s, leaf, &piece))
        for (uint32_t j = 0; j * BLOCK_COLS < range_count(piece.cols); j++)
            table[g.blocks++] =
                (struct cuda_block){.word = (uint32_t)piece.word + j * s->bits,
                                    .constants = (uint32_t)piece.constants,
                                    .high = s->constant_bits == 32 || piece.index % 2};
    g.panel_words = (uint32_t)stored_words(s, leaf);
    return g;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of a product: the median of rounds of some, one behind the other. */
static bool measure(struct bench *b, const struct cuda_geometry *g, const struct shape *shape,
                    const void *w, const void *x, float *out, double *median)
{
    double seconds[ROUNDS];
    const uint64_t panels = shape->rows / PANEL_ROWS;
    for (int round = -1; round < ROUNDS; round++) {
        double begin = clock_seconds();
        for (int i = 0; i < PRODUCTS; i++)
            if (!cuda_product(&b->blas, g, w, panels, x, (uint32_t)shape->chunk, out,
                              panels * PANEL_ROWS, &b->err))
                return false;
        if (!CUDA(&b->cuda.api, &b->err, cuStreamSynchronize, (b->cuda.stream)))
            return false;
        if (round >= 0) /* the first finds kernels and algorithms */
            seconds[round] = (clock_seconds() - begin) / PRODUCTS;
    }
    qsort(seconds, ROUNDS, sizeof *seconds, ascending);
    *median = seconds[ROUNDS / 2];
    return true;
}

static bool run(struct bench *b, const struct stored *s, const struct shape *shape)
{
    static struct cuda_block table[1 << 16];
    const uint64_t half = shape->half_mib << 20;
    struct cuda_geometry g = geometry_of(s, shape->columns, table);
    const uint64_t k = (uint64_t)g.blocks * BLOCK_COLS,
                   w_bytes = align_up(shape->rows * g.panel_words * 4, 256),
                   x_bytes = align_up(shape->chunk * k * 2, 256),
                   bytes = w_bytes + x_bytes + shape->chunk * shape->rows * 4 + sizeof table;
    const struct cuda_api *api = &b->cuda.api;
    unsigned char *values = malloc(w_bytes);
    double seconds = 0;
    for (uint64_t i = 0; values && i < w_bytes; i++) /* finite in every format */
        values[i] = (unsigned char)(rand() & (i % 2 ? 0x3f : 0xff));
    bool ok = values && CUDA(api, &b->err, cuMemAlloc_v2, (&b->memory, 4 * half + bytes));
    if (ok) {
        const cu_address w = b->memory + 4 * half, x = w + w_bytes, blocks = x + x_bytes,
                         out = blocks + sizeof table;
        cuda_blas_init(&b->blas, &b->cuda, DTYPE_BF16, b->memory, half);
        b->blas.half_bytes = half; /* as asked for, not as planned */
        b->blas.half[1] = b->blas.half[0] + half;
        b->blas.own = b->blas.half[0] + 2 * half;
        g.table = s->group ? (const struct cuda_block *)(uintptr_t)blocks : NULL;
        ok = CUDA(api, &b->err, cuMemcpyHtoDAsync_v2, (w, values, w_bytes, b->cuda.stream)) &&
             CUDA(api, &b->err, cuMemcpyHtoDAsync_v2,
                  (x, values, min_u64(x_bytes, w_bytes), b->cuda.stream)) &&
             CUDA(api, &b->err, cuMemcpyHtoDAsync_v2,
                  (blocks, table, sizeof table, b->cuda.stream)) &&
             CUDA(api, &b->err, cuStreamSynchronize, (b->cuda.stream)) &&
             measure(b, &g, shape, (const void *)(uintptr_t)w, (const void *)(uintptr_t)x,
                     (float *)(uintptr_t)out, &seconds);
        cuda_blas_close(&b->blas);
        api->cuMemFree_v2(b->memory);
    }
    free(values);
    if (ok)
        printf("product %-12s %5llu x %5llu, chunk %4llu, half %3llu MiB: %7.3f ms, %6.1f "
               "TFLOP/s, %6.0f GB/s unpacked\n",
               s->name, (unsigned long long)shape->rows, (unsigned long long)shape->columns,
               (unsigned long long)shape->chunk, (unsigned long long)shape->half_mib, seconds * 1e3,
               2e-12 * (double)(shape->rows * k * shape->chunk) / seconds,
               2e-9 * (double)(shape->rows * k) / seconds);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {{4096, 4096, 2048, 0},
                                          {14336, 4096, 2048, 0},
                                          {4096, 14336, 2048, 0},
                                          {14336, 4096, 512, 0}};
    static const uint64_t halves[] = {8, 16, 32, 64, 128};
    static const unsigned formats[] = {STORED_BF16, STORED_INT8, STORED_INT4_G64,
                                       STORED_INT4_G64_MIN};
    static struct bench b;
    if (!cuda_open(&b.cuda, 0, &b.err))
        return tp_error_print("bench_cuda_product", &b.err);
    bool ok = true;
    for (size_t f = 0; ok && f < sizeof formats / sizeof *formats; f++) {
        const struct stored *s = stored_of(formats[f]);
        if (argc > 3) {
            const struct shape one = {strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10),
                                      strtoull(argv[3], NULL, 10),
                                      argc > 4 ? strtoull(argv[4], NULL, 10)
                                               : CUDA_BLAS_HALF >> 20};
            ok = run(&b, s, &one);
            continue;
        }
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t h = 0; ok && h < sizeof halves / sizeof *halves; h++) {
                struct shape one = shapes[i];
                one.half_mib = halves[h];
                ok = run(&b, s, &one);
            }
    }
    cuda_close(&b.cuda);
    return ok ? 0 : tp_error_print("bench_cuda_product", &b.err);
}
