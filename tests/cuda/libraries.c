/* The products of large chunks and the exchange between GPUs, with stand-ins for cuBLASLt, NCCL and
 * the driver (LD_LIBRARY_PATH). `cuda_libraries NAME`; status 0 where all is as it must be, else a
 * line and the error's own status. HARDWARE=1: with a GPU, whose sums have another order.
 */
#include "checked.h"
#include "cuda_blas.h"
#include "cuda_library.h"
#include "cuda_nccl.h"
#include "values.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct cuda cuda;
static struct tp_error error;
static bool hardware;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error.text);                \
            exit(error.code ? (int)tp_code_exit(error.code) : 1);                                  \
        }                                                                                          \
    } while (0)

static uint64_t random_state = 1;
static uint32_t random_next(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static void *device_memory(size_t bytes, const void *from)
{
    cu_address at;
    CHECK(CUDA(&cuda.api, &error, cuMemAlloc_v2, (&at, bytes)));
    if (from)
        CHECK(CUDA(&cuda.api, &error, cuMemcpyHtoDAsync_v2, (at, from, bytes, cuda.stream)) &&
              CUDA(&cuda.api, &error, cuStreamSynchronize, (cuda.stream)));
    return (void *)(uintptr_t)at;
}
static void give_back(const void *at)
{
    CHECK(CUDA(&cuda.api, &error, cuMemFree_v2, ((uintptr_t)at)));
}

/* ---- matrices ---- */

/* Columns as a rank has them, rows, and how many panels of them the workspace's half takes. */
struct shape {
    struct range leaves[4];
    uint32_t n_leaves, rows, half_panels;
    uint32_t x_rows, more; /* floats of a row of out behind its values */
};
static const struct shape shapes[] = {
    {{{0, 100}}, 1, 40, 9, 5, 0},
    {{{0, 320}}, 1, 16 * 7 - 3, 2, 9, 4},
    {{{48, 120}, {120, 152}, {152, 250}}, 3, 33, 1, 3, 0},
    {{{33, 34}, {96, 256}}, 2, 80, 2, 17, 64},
    {{{0, 2080}}, 1, 16, 1, 1, 0}, /* more than a CTA takes of a panel */
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct packed {
    struct cuda_geometry geometry;
    struct cuda_block *blocks;
    uint64_t panels, k;
    unsigned char *bytes;
    uint16_t *values; /* [panels * 16][k], what the bytes mean */
};

/* Blocks of all pieces: how docs/format.md section 5 lays them out. */
static void make_table(const struct stored *s, const struct shape *shape, struct packed *p)
{
    uint32_t word = 0;
    p->blocks = calloc(4096, sizeof *p->blocks);
    for (uint32_t i = 0; i < shape->n_leaves; i++) {
        struct piece piece = {{0, 0}, 0, 0, 0, 0};
        while (stored_next_piece(s, shape->leaves[i], &piece)) {
            const uint32_t n = (uint32_t)div_ceil(range_count(piece.cols), BLOCK_COLS);
            for (uint32_t j = 0; j < n; j++)
                p->blocks[p->geometry.blocks++] = (struct cuda_block){
                    .word = word + (uint32_t)piece.word + j * s->bits,
                    .constants = word + (uint32_t)piece.constants,
                    .run = j ? 0 : (uint16_t)n,
                    .high = s->constant_bits == 32 || piece.index % 2,
                };
        }
        word += (uint32_t)stored_words(s, shape->leaves[i]);
    }
    p->geometry.panel_words = word;
    p->k = (uint64_t)p->geometry.blocks * BLOCK_COLS;
}

/* Scale and minimum with which some codes are next to what lies between two bf16 (3 times 87) or
 * two f16 (15 times 255), and f32 does not see it. */
static uint32_t close_to_ties(void)
{
    const float scale = random_next() % 2 ? 87.0f / 256 : 255.0f / 256,
                minimum = random_next() % 2 ? 0x1p-30f : -0x1p-30f;
    return (uint32_t)f32_to_bf16(scale) << 16 | f32_to_bf16(minimum);
}

/* One leaf of a row: random values to words, and back to what those mean. */
static void make_leaf(const struct stored *s, struct range leaf, enum dtype dtype, bool empty,
                      unsigned char *words, uint16_t *values)
{
    struct piece piece = {{0, 0}, 0, 0, 0, 0};
    const float size = (float)(1 + random_next() % 3) * (random_next() % 5 ? 0.25f : 0x1p-13f);
    while (stored_next_piece(s, leaf, &piece)) {
        float v[4096] = {0};
        const size_t n = range_count(piece.cols), padded = align_up(n, BLOCK_COLS);
        uint32_t constants = 0;
        for (size_t i = 0; i < n; i++)
            v[i] = ((float)(random_next() % 65536) / 32768 - 0.9f) * size;
        if (!empty) {
            constants = s->constants ? s->constants(s, v, n) : 0;
            CHECK(s->encode(s, v, n, constants, words + 4 * piece.word));
            if (s->offset == OFFSET_MINIMUM && random_next() % 2)
                constants = close_to_ties();
            stored_put_constants(s, words, &piece, constants);
        }
        constants = s->row_scale ? f32_bits(1.0f) : stored_get_constants(s, words, &piece);
        s->decode(s, words + 4 * piece.word, padded, constants, true, v);
        values_narrow(dtype, v, padded, (unsigned char *)(values + piece.k));
    }
}

static struct packed pack(const struct stored *s, const struct shape *shape, enum dtype dtype)
{
    struct packed p = {.panels = div_ceil(shape->rows, PANEL_ROWS)};
    make_table(s, shape, &p);
    const size_t words = p.geometry.panel_words, rows = p.panels * PANEL_ROWS;
    unsigned char *row = malloc(words * 4);
    p.bytes = malloc(rows * words * 4);
    p.values = malloc(rows * p.k * 2);
    for (size_t r = 0; r < rows; r++) {
        size_t word = 0, k = 0;
        memset(row, 0, words * 4);
        for (uint32_t i = 0; i < shape->n_leaves; i++) {
            make_leaf(s, shape->leaves[i], dtype, r >= shape->rows, row + word * 4,
                      p.values + r * p.k + k);
            word += stored_words(s, shape->leaves[i]);
            k += (size_t)stored_pieces(s, shape->leaves[i]).blocks * BLOCK_COLS;
        }
        for (size_t w = 0; w < words; w++)
            memcpy(p.bytes + ((r / PANEL_ROWS * words + w) * PANEL_ROWS + r % PANEL_ROWS) * 4,
                   row + w * 4, 4);
    }
    free(row);
    p.geometry.stored = s;
    if (s->group || shape->n_leaves > 1)
        p.geometry.table = device_memory(p.geometry.blocks * sizeof *p.blocks, p.blocks);
    return p;
}
static void free_packed(struct packed *p)
{
    if (p->geometry.table)
        give_back(p->geometry.table);
    free(p->blocks), free(p->bytes), free(p->values);
}

/* ---- products ---- */

struct rows { /* of x, and of out behind the product */
    uint32_t n;
    uint16_t *values;
    void *x;
    float *out, *result;
    size_t out_bytes;
};
static struct rows make_rows(const struct packed *p, enum dtype dtype, uint32_t n, uint64_t stride)
{
    struct rows r = {.n = n, .values = malloc(n * p->k * 2), .out_bytes = n * stride * 4};
    for (size_t i = 0; i < n * p->k; i++) {
        const float v = (float)(int)(random_next() % 2001 - 1000) / 512;
        values_narrow(dtype, &v, 1, (unsigned char *)(r.values + i));
    }
    for (uint32_t m = 1; m < n; m += 2) { /* one value of every matrix row, exactly */
        const float one = 1;
        memset(r.values + m * p->k, 0, p->k * 2);
        values_narrow(dtype, &one, 1,
                      (unsigned char *)(r.values + m * p->k + random_next() % p->k));
    }
    r.x = device_memory(n * p->k * 2, r.values);
    r.out = device_memory(r.out_bytes, NULL);
    CHECK(CUDA(&cuda.api, &error, cuMemsetD8Async,
               ((uintptr_t)r.out, 0xff, r.out_bytes, cuda.stream)));
    r.result = malloc(r.out_bytes);
    return r;
}

static void widen(enum dtype dtype, const uint16_t *from, size_t n, float *to)
{
    values_widen(dtype, (const unsigned char *)from, n, to);
}

static void check_rows(struct rows *r, const struct packed *p, enum dtype dtype, uint64_t stride)
{
    float *w = malloc(p->k * 4), *x = malloc(p->k * 4);
    for (uint32_t m = 0; m < r->n; m++) {
        widen(dtype, r->values + m * p->k, p->k, x);
        for (uint64_t i = 0; i < p->panels * PANEL_ROWS; i++) {
            double sum = 0, size = 0;
            widen(dtype, p->values + i * p->k, p->k, w);
            for (uint64_t k = 0; k < p->k; k++) {
                sum += (double)x[k] * (double)w[k];
                size += fabs((double)x[k] * (double)w[k]);
            }
            const double allowed = hardware && m % 2 == 0 ? size * (double)p->k * 0x1p-22 : 0;
            if (!(fabs((double)r->result[m * stride + i] - (double)(float)sum) <= allowed)) {
                fprintf(stderr, "%s %s: [%u][%llu]: %.9g, not %.9g\n", p->geometry.stored->name,
                        dtype_name(dtype), m, (unsigned long long)i,
                        (double)r->result[m * stride + i], sum);
                exit(1);
            }
        }
        for (uint64_t i = p->panels * PANEL_ROWS; i < stride; i++)
            CHECK(f32_bits(r->result[m * stride + i]) == 0xffffffff); /* as it was */
    }
    free(w), free(x), free(r->values), free(r->result);
    give_back(r->x), give_back(r->out);
}

/* Two products one behind the other, nothing waited for between them. */
static void check_product(const struct stored *s, const struct shape *shape, enum dtype dtype)
{
    struct packed p = pack(s, shape, dtype);
    const uint64_t largest = cuda_blas_unpacked(&p.geometry, shape->half_panels),
                   stride = p.panels * PANEL_ROWS + shape->more;
    void *memory = device_memory(cuda_blas_bytes(largest), NULL),
         *w = device_memory(p.panels * PANEL_ROWS * p.geometry.panel_words * 4, p.bytes);
    struct rows rows[2];
    struct cuda_blas blas;
    cuda_blas_init(&blas, &cuda, dtype, (uintptr_t)memory, largest);
    for (uint32_t i = 0; i < 2; i++)
        rows[i] = make_rows(&p, dtype, shape->x_rows + 3 * i, stride);
    for (int i = 0; i < 2; i++) {
        bool takes;
        CHECK(cuda_product_fits(&blas, &p.geometry, p.panels, rows[i].n, stride, &takes, &error));
        CHECK(takes);
        CHECK(cuda_product(&blas, &p.geometry, w, p.panels, rows[i].x, rows[i].n, rows[i].out,
                           stride, &error));
        CHECK(CUDA(&cuda.api, &error, cuMemcpyDtoHAsync_v2,
                   (rows[i].result, (uintptr_t)rows[i].out, rows[i].out_bytes, cuda.stream)));
    }
    CHECK(CUDA(&cuda.api, &error, cuStreamSynchronize, (cuda.stream)));
    for (int i = 0; i < 2; i++)
        check_rows(&rows[i], &p, dtype, stride);
    cuda_blas_close(&blas);
    give_back(memory), give_back(w);
    free_packed(&p);
}

static void products(void)
{
    for (unsigned id = 1; id < STORED_COUNT; id++)
        for (int i = 0; i < SHAPES; i++)
            check_product(stored_of(id), &shapes[i],
                          (id + (unsigned)i) % 2 ? DTYPE_BF16 : DTYPE_F16);
}
/* the other half of them */
static void products_too(void)
{
    for (unsigned id = 1; id < STORED_COUNT; id++)
        for (int i = 0; i < SHAPES; i++)
            check_product(stored_of(id), &shapes[i],
                          (id + (unsigned)i) % 2 ? DTYPE_F16 : DTYPE_BF16);
}

/* What the caller must do itself. */
static bool fits(const struct shape *shape, uint32_t half_panels, uint64_t stride)
{
    struct packed p = pack(stored_of(STORED_BF16), shape, DTYPE_BF16);
    const uint64_t largest = half_panels ? cuda_blas_unpacked(&p.geometry, half_panels) : 256;
    void *memory = device_memory(cuda_blas_bytes(largest), NULL);
    struct cuda_blas blas;
    bool takes, again;
    cuda_blas_init(&blas, &cuda, DTYPE_BF16, (uintptr_t)memory, largest);
    CHECK(cuda_product_fits(&blas, &p.geometry, p.panels, 5, stride, &takes, &error));
    CHECK(cuda_product_fits(&blas, &p.geometry, p.panels, 5, stride, &again, &error));
    CHECK(takes == again);
    if (!takes && half_panels) { /* asked for all the same */
        struct tp_error refused = {.code = TP_OK};
        CHECK(!cuda_product(&blas, &p.geometry, memory, p.panels, memory, 5, memory, stride,
                            &refused));
        CHECK(refused.code == TP_E_DEVICE && strstr(refused.text, "CUBLAS_STATUS_NOT_SUPPORTED"));
    }
    cuda_blas_close(&blas);
    give_back(memory);
    free_packed(&p);
    return takes;
}
/* Places that no product may have: the stand-in says so, and nothing is written. */
static void wrong_places(void)
{
    struct packed p = pack(stored_of(STORED_INT8), &shapes[0], DTYPE_BF16);
    const uint64_t largest = cuda_blas_unpacked(&p.geometry, 3), x_bytes = 5 * p.k * 2;
    void *memory = device_memory(cuda_blas_bytes(largest), NULL), *x = device_memory(x_bytes, NULL),
         *w = device_memory(p.panels * p.geometry.panel_words * 64, p.bytes),
         *out = device_memory(5 * 48 * 4, NULL);
    const struct {
        size_t x, out, stride;
        bool good;
    } places[] = {{0, 0, 48, true},
                  {2, 0, 48, false},
                  {16, 0, 48, false},
                  {0, 4, 48, false},
                  {0, 0, 52, false}};
    struct cuda_blas blas;
    cuda_blas_init(&blas, &cuda, DTYPE_BF16, (uintptr_t)memory, largest);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct tp_error refused = {.code = TP_OK};
        bool ok = cuda_product(&blas, &p.geometry, w, p.panels, (char *)x + places[i].x, 5,
                               (float *)out + places[i].out / 4, places[i].stride, &refused);
        CHECK(ok == places[i].good);
        CHECK(ok || strstr(refused.text, "cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE"));
    }
    CHECK(CUDA(&cuda.api, &error, cuStreamSynchronize, (cuda.stream)));
    cuda_blas_close(&blas);
    give_back(memory), give_back(x), give_back(w), give_back(out);
    free_packed(&p);
}
static void refusals(void)
{
    wrong_places();
    CHECK(fits(&shapes[0], 1, 48));
    CHECK(!fits(&shapes[0], 1, 49)); /* rows of out that are not aligned */
    CHECK(!fits(&shapes[0], 0, 48)); /* no room for a panel */
    setenv("EMUL_BLAS_REFUSE", "128", 1);
    CHECK(!fits(&shapes[0], 1, 48));
}

/* More shapes than are remembered. */
static void many_shapes(void)
{
    const struct shape *shape = &shapes[2];
    struct packed p = pack(stored_of(STORED_INT8), shape, DTYPE_BF16);
    const uint64_t largest = cuda_blas_unpacked(&p.geometry, 2), stride = p.panels * PANEL_ROWS;
    void *memory = device_memory(cuda_blas_bytes(largest), NULL);
    struct cuda_blas blas;
    cuda_blas_init(&blas, &cuda, DTYPE_BF16, (uintptr_t)memory, largest);
    for (uint32_t rows = 1; rows < 100; rows++) {
        bool takes;
        CHECK(
            cuda_product_fits(&blas, &p.geometry, p.panels, rows % 90 + 1, stride, &takes, &error));
        CHECK(takes && blas.n_shapes <= CUDA_BLAS_SHAPES);
    }
    cuda_blas_close(&blas);
    give_back(memory);
    free_packed(&p);
}

/* One of everything, for calls that fail (EMUL_FAIL): all is given back, no CHECK. */
static void once(void)
{
    const uint64_t k = 64, rows = 32, slice = 16 * k * 2, x_at = 4 * slice, w_at = x_at + 512,
                   out_at = w_at + rows * k, bytes = out_at + rows * 4 * 2;
    const struct cuda_geometry geometry = {stored_of(STORED_INT8), NULL, 2, 16};
    struct cuda_blas blas = {.cuda = NULL};
    struct cuda_nccl nccl = {.ranks = 0};
    cu_address at = 0;
    nccl_id id;
    bool takes = false;
    bool ok = CUDA(&cuda.api, &error, cuMemAlloc_v2, (&at, bytes)) &&
              CUDA(&cuda.api, &error, cuMemsetD8Async, (at, 0, bytes, cuda.stream));
    if (ok) {
        cuda_blas_init(&blas, &cuda, DTYPE_F16, at, slice);
        float *out = (float *)(uintptr_t)(at + out_at);
        ok = cuda_product_fits(&blas, &geometry, 2, 2, rows, &takes, &error) &&
             cuda_product(&blas, &geometry, (void *)(uintptr_t)(at + w_at), 2,
                          (void *)(uintptr_t)(at + x_at), 2, out, rows, &error) &&
             cuda_nccl_new_id(&id, &error) && cuda_nccl_open(&nccl, &id, 1, 0, &error) &&
             cuda_nccl_all_gather(&nccl, out, out, rows, cuda.stream, &error);
    }
    ok = CUDA(&cuda.api, ok ? &error : NULL, cuStreamSynchronize, (cuda.stream)) && ok &&
         cuda_nccl_check(&nccl, &error);
    cuda_nccl_close(&nccl);
    cuda_blas_close(&blas);
    if (at)
        cuda.api.cuMemFree_v2(at);
    if (ok)
        return;
    cuda_close(&cuda);
    fprintf(stderr, "%s\n", error.text);
    exit((int)tp_code_exit(error.code));
}

/* ---- all-gather ---- */

enum { RANKS_MAX = 5, COUNT_MAX = 1000 };

struct rank {
    pthread_t thread;
    const nccl_id *id;
    uint32_t ranks, rank;
    float *all, *mine; /* on the device */
    cu_stream stream;
    struct cuda_nccl nccl;
    bool silent; /* queues nothing */
    struct tp_error error;
};

static uint32_t opened; /* communicators */

static float value_of(uint32_t rank, uint64_t i, int round)
{
    return (float)(rank * 100000 + i + (uint64_t)round * 7);
}

/* One round: out of mine, or in place. */
static bool gather(struct rank *r, int round, uint64_t count)
{
    const struct cuda_api *api = &cuda.api;
    float *mine = malloc(count * 4), *all = malloc(count * 4 * r->ranks);
    float *from = round % 2 ? r->all + r->rank * count : r->mine;
    for (uint64_t i = 0; i < count; i++)
        mine[i] = value_of(r->rank, i, round);
    bool ok =
        CUDA(api, &r->error, cuMemcpyHtoDAsync_v2, ((uintptr_t)from, mine, count * 4, r->stream)) &&
        cuda_nccl_all_gather(&r->nccl, from, r->all, count, r->stream, &r->error) &&
        CUDA(api, &r->error, cuMemcpyDtoHAsync_v2,
             (all, (uintptr_t)r->all, count * 4 * r->ranks, r->stream)) &&
        CUDA(api, &r->error, cuStreamSynchronize, (r->stream)) &&
        cuda_nccl_check(&r->nccl, &r->error);
    for (uint64_t i = 0; ok && i < count * r->ranks; i++)
        ok = all[i] == value_of((uint32_t)(i / count), i % count, round) ||
             tp_fail(&r->error, TP_E_DEVICE, "rank %u, float %llu: %g", r->rank,
                     (unsigned long long)i, (double)all[i]);
    free(mine), free(all);
    return ok;
}

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    static const uint64_t counts[] = {1, 17, COUNT_MAX, 64};
    if (!cuda_use(&cuda, &r->error) ||
        !cuda_nccl_open(&r->nccl, r->id, r->ranks, r->rank, &r->error))
        return NULL;
    __atomic_add_fetch(&opened, 1, __ATOMIC_ACQ_REL);
    for (int i = 0; i < 4 && !r->silent; i++)
        if (!gather(r, i, counts[i]))
            break;
    return NULL;
}

/* Starts `come` of the ranks; nothing is waited for. */
static void start_ranks(struct rank *ranks, const nccl_id *id, uint32_t n, uint32_t come,
                        uint32_t silent)
{
    for (uint32_t i = 0; i < n; i++) {
        ranks[i] = (struct rank){.id = id, .ranks = n, .rank = i, .silent = i >= n - silent};
        ranks[i].mine = device_memory(COUNT_MAX * 4, NULL);
        ranks[i].all = device_memory(n * COUNT_MAX * 4, NULL);
        CHECK(CUDA(&cuda.api, &error, cuStreamCreate, (&ranks[i].stream, CU_NON_BLOCKING)));
    }
    for (uint32_t i = 0; i < come; i++)
        CHECK(pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]) == 0);
}
static void end_ranks(struct rank *ranks, uint32_t n, uint32_t come)
{
    for (uint32_t i = 0; i < come; i++)
        pthread_join(ranks[i].thread, NULL);
    for (uint32_t i = 0; i < n; i++) {
        cuda_nccl_close(&ranks[i].nccl);
        CHECK(CUDA(&cuda.api, &error, cuStreamDestroy_v2, (ranks[i].stream)));
        give_back(ranks[i].mine), give_back(ranks[i].all);
    }
}

static void gathers(void)
{
    static const uint32_t sizes[] = {1, 2, 3, RANKS_MAX};
    for (int i = 0; i < 4; i++) {
        struct rank ranks[RANKS_MAX];
        nccl_id id;
        CHECK(cuda_nccl_new_id(&id, &error));
        start_ranks(ranks, &id, sizes[i], sizes[i], 0);
        end_ranks(ranks, sizes[i], sizes[i]);
        for (uint32_t r = 0; r < sizes[i]; r++) {
            error = ranks[r].error;
            CHECK(error.code == TP_OK);
        }
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A rank that does not come: to the group; to an all-gather; the same, and others do not wait. */
static void absent(void)
{
    struct rank ranks[3];
    nccl_id id;
    const double begin = seconds();
    setenv("EMUL_DEADLINE", "300", 1);
    CHECK(cuda_nccl_new_id(&id, &error));
    start_ranks(ranks, &id, 3, 2, 0);
    end_ranks(ranks, 3, 2);
    CHECK(ranks[0].error.code == TP_E_DEVICE && strstr(ranks[1].error.text, "ncclCommInitRank"));
    CHECK(cuda_nccl_new_id(&id, &error));
    start_ranks(ranks, &id, 3, 3, 1);
    end_ranks(ranks, 3, 3);
    CHECK(ranks[0].error.code == TP_E_DEVICE && strstr(ranks[1].error.text, "ncclAllGather"));
    CHECK(ranks[2].error.code == TP_OK && seconds() - begin < 10);
    setenv("EMUL_DEADLINE", "20000", 1);
    CHECK(cuda_nccl_new_id(&id, &error));
    opened = 0;
    start_ranks(ranks, &id, 3, 3, 1);
    pthread_join(ranks[2].thread, NULL);
    while (__atomic_load_n(&opened, __ATOMIC_ACQUIRE) < 3)
        usleep(1000);
    usleep(200000); /* and the others wait */
    cuda_nccl_abort(&ranks[0].nccl);
    cuda_nccl_abort(&ranks[2].nccl);
    pthread_join(ranks[0].thread, NULL);
    pthread_join(ranks[1].thread, NULL);
    end_ranks(ranks, 3, 0);
    CHECK(strstr(ranks[0].error.text, "aborted"));
    CHECK(ranks[1].error.code == TP_E_DEVICE && seconds() - begin < 10);
}

/* ---- the libraries themselves ---- */

static void there(void)
{
    CHECK(library_there("libc.so.6") && !library_there("libtpshard-none.so.1"));
    printf("%d %d %d\n", cuda_blas_there(), cuda_nccl_there(),
           library_there("libtpshard-test.so.1"));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {
        {"products", products}, {"products_too", products_too},
        {"refusals", refusals}, {"many_shapes", many_shapes},
        {"once", once},         {"gathers", gathers},
        {"absent", absent},     {"there", there},
    };
    hardware = getenv("HARDWARE");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (argc == 2 && strcmp(argv[1], all[i].name) == 0) {
            CHECK(cuda_open(&cuda, 0, &error));
            all[i].run();
            cuda_close(&cuda);
            return 0;
        }
    }
    fprintf(stderr, "cuda_libraries: which?\n");
    return 2;
}
