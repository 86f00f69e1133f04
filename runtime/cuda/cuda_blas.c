#include "cuda_blas.h"

#include "checked.h"
#include "cuda_library.h"
#include <stdio.h>

/* Columns of a panel as kernel and cuBLASLt see them: with the padding of leaves. */
static uint64_t columns_of(const struct cuda_geometry *g)
{
    return (uint64_t)g->blocks * BLOCK_COLS;
}

/* ---- memory ---- */

bool cuda_blas_there(void)
{
    return cublas_api_there();
}

uint64_t cuda_blas_unpacked(const struct cuda_geometry *g, uint64_t panels)
{
    return panels * PANEL_ROWS * columns_of(g) * 2;
}

static uint64_t half_bytes(uint64_t largest)
{
    return align_up(min_u64(largest, CUDA_BLAS_HALF), 256);
}

/* As much for cuBLASLt itself as for both halves. */
uint64_t cuda_blas_bytes(uint64_t largest)
{
    return 4 * half_bytes(largest);
}

void cuda_blas_init(struct cuda_blas *b, struct cuda *cuda, enum dtype dtype, cu_address memory,
                    uint64_t largest)
{
    unsigned char *at = (unsigned char *)(uintptr_t)memory;
    const uint64_t half = half_bytes(largest);
    tp_assert(dtype == DTYPE_BF16 || dtype == DTYPE_F16);
    *b = (struct cuda_blas){
        .cuda = cuda,
        .dtype = dtype,
        .half = {at, at + half},
        .own = at + 2 * half,
        .half_bytes = half,
        .own_bytes = 2 * half,
    };
}

/* ---- the library ---- */

static bool wish_for(struct cuda_blas *b, unsigned attribute, const void *value, size_t bytes,
                     struct tp_error *err)
{
    return CUBLAS(&b->api, err, cublasLtMatmulPreferenceSetAttribute,
                  (b->wish, attribute, value, bytes));
}

/* Sums in one sequence; x and out may lie as places that are aligned to 16 bytes do. */
static bool make_wish(struct cuda_blas *b, struct tp_error *err)
{
    const uint64_t workspace = b->own_bytes;
    const uint32_t reductions = 0, alignment = 16;
    bool ok = CUBLAS(&b->api, err, cublasLtMatmulPreferenceCreate, (&b->wish)) &&
              wish_for(b, CUBLAS_WISH_WORKSPACE, &workspace, sizeof workspace, err) &&
              wish_for(b, CUBLAS_WISH_REDUCTIONS, &reductions, sizeof reductions, err);
    for (unsigned i = 0; ok && i < 4; i++)
        ok = wish_for(b, CUBLAS_WISH_ALIGNMENT_A + i, &alignment, sizeof alignment, err);
    return ok;
}

static bool make_streams(struct cuda_blas *b, struct tp_error *err)
{
    const struct cuda_api *api = &b->cuda->api;
    bool ok = CUDA(api, err, cuStreamCreate, (&b->unpacking, CU_NON_BLOCKING));
    for (int i = 0; ok && i < 2; i++)
        ok = CUDA(api, err, cuEventCreate, (&b->unpacked[i], CU_NO_TIMING)) &&
             CUDA(api, err, cuEventCreate, (&b->multiplied[i], CU_NO_TIMING));
    return ok;
}

static void forget_shape(struct cuda_blas *b, struct cuda_blas_shape *s)
{
    const cublas_layout layouts[] = {s->x, s->w, s->out};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            b->api.cublasLtMatrixLayoutDestroy(layouts[i]);
    *s = (struct cuda_blas_shape){0};
}

void cuda_blas_close(struct cuda_blas *b)
{
    for (uint32_t i = 0; i < b->n_shapes; i++)
        forget_shape(b, &b->shapes[i]);
    if (b->wish)
        b->api.cublasLtMatmulPreferenceDestroy(b->wish);
    if (b->product)
        b->api.cublasLtMatmulDescDestroy(b->product);
    if (b->handle)
        b->api.cublasLtDestroy(b->handle);
    for (int i = 0; i < 2; i++) {
        if (b->unpacked[i])
            b->cuda->api.cuEventDestroy_v2(b->unpacked[i]);
        if (b->multiplied[i])
            b->cuda->api.cuEventDestroy_v2(b->multiplied[i]);
    }
    if (b->unpacking)
        b->cuda->api.cuStreamDestroy_v2(b->unpacking);
    cublas_api_close(&b->api);
    *b = (struct cuda_blas){.cuda = NULL};
}

static bool open_all(struct cuda_blas *b, struct tp_error *err)
{
    const int32_t transposed = CUBLAS_TRANSPOSED;
    return cublas_api_open(&b->api, err) && make_streams(b, err) &&
           CUBLAS(&b->api, err, cublasLtCreate, (&b->handle)) &&
           CUBLAS(&b->api, err, cublasLtMatmulDescCreate,
                  (&b->product, CUBLAS_COMPUTE_F32, CUBLAS_F32)) &&
           CUBLAS(&b->api, err, cublasLtMatmulDescSetAttribute,
                  (b->product, CUBLAS_PRODUCT_TRANSPOSE_A, &transposed, sizeof transposed)) &&
           make_wish(b, err);
}

/* Once. A failure leaves what cuda_blas_init made. */
static bool open_library(struct cuda_blas *b, struct tp_error *err)
{
    const struct cuda_blas closed = *b;
    sigset_t before;
    if (b->api.library)
        return true;
    library_block_signals(&before);
    bool ok = open_all(b, err);
    library_restore_signals(&before);
    if (ok)
        return true;
    cuda_blas_close(b);
    *b = closed;
    return false;
}

/* ---- shapes ---- */

/* Rows of row-major matrices are the library's columns: out^T [slice][rows] = w [slice][k] times
 * x^T [k][rows], w being the one that it transposes. */
static bool ask(struct cuda_blas *b, struct cuda_blas_shape *s, struct tp_error *err)
{
    const unsigned type = b->dtype == DTYPE_BF16 ? +CUBLAS_BF16 : +CUBLAS_F16;
    const int64_t k = (int64_t)s->k, out_stride = (int64_t)s->out_stride;
    cublas_choice choice = {.status = CUBLAS_NOT_SUPPORTED};
    int count = 0;
    if (!CUBLAS(&b->api, err, cublasLtMatrixLayoutCreate, (&s->w, type, s->k, s->slice, k)) ||
        !CUBLAS(&b->api, err, cublasLtMatrixLayoutCreate, (&s->x, type, s->k, s->rows, k)) ||
        !CUBLAS(&b->api, err, cublasLtMatrixLayoutCreate,
                (&s->out, CUBLAS_F32, s->slice, s->rows, out_stride)))
        return false;
    cublas_status status = b->api.cublasLtMatmulAlgoGetHeuristic(
        b->handle, b->product, s->w, s->x, s->out, s->out, b->wish, 1, &choice, &count);
    if (status == CUBLAS_NOT_SUPPORTED)
        return true;
    if (!cublas_ok(&b->api, status, "cublasLtMatmulAlgoGetHeuristic", err))
        return false;
    s->takes = count > 0 && choice.status == CUBLAS_OK && choice.workspace <= b->own_bytes;
    s->algorithm = choice.algorithm;
    return true;
}

/* A shape that has been asked for, or is now. NULL: an error. */
static const struct cuda_blas_shape *shape_of(struct cuda_blas *b, struct cuda_blas_shape wanted,
                                              struct tp_error *err)
{
    for (uint32_t i = 0; i < b->n_shapes; i++) {
        const struct cuda_blas_shape *s = &b->shapes[i];
        if (s->rows == wanted.rows && s->slice == wanted.slice && s->k == wanted.k &&
            s->out_stride == wanted.out_stride)
            return s;
    }
    struct cuda_blas_shape *s;
    if (b->n_shapes < CUDA_BLAS_SHAPES) {
        s = &b->shapes[b->n_shapes++];
    } else {
        s = &b->shapes[b->oldest];
        b->oldest = (b->oldest + 1) % CUDA_BLAS_SHAPES;
        forget_shape(b, s);
    }
    *s = wanted;
    if (ask(b, s, err))
        return s;
    forget_shape(b, s);
    return NULL;
}

/* ---- slices ---- */

/* Panels of a slice: equal ones, as few as the halves allow; the last may have less. 0: there are
 * none, or not even one has room. */
static uint64_t slice_panels(const struct cuda_blas *b, const struct cuda_geometry *g,
                             uint64_t panels)
{
    const uint64_t bytes = cuda_blas_unpacked(g, 1), most = bytes ? b->half_bytes / bytes : 0;
    return panels && most ? div_ceil(panels, div_ceil(panels, most)) : 0;
}

static struct cuda_blas_shape shape_for(const struct cuda_geometry *g, uint64_t panels,
                                        uint32_t rows, uint64_t out_stride)
{
    return (struct cuda_blas_shape){
        .rows = rows,
        .slice = (uint32_t)(panels * PANEL_ROWS),
        .k = (uint32_t)columns_of(g),
        .out_stride = out_stride,
    };
}

bool cuda_product_fits(struct cuda_blas *b, const struct cuda_geometry *g, uint64_t panels,
                       uint32_t rows, uint64_t out_stride, bool *takes, struct tp_error *err)
{
    const uint64_t slice = slice_panels(b, g, panels);
    *takes = false;
    if (!slice || !rows || out_stride < panels * PANEL_ROWS)
        return true;
    if (!open_library(b, err))
        return false;
    const uint64_t sizes[] = {slice, (panels - 1) % slice + 1}; /* whole ones, the last */
    bool all = true;
    for (int i = 0; i < 2 && all; i++) {
        const struct cuda_blas_shape *s =
            shape_of(b, shape_for(g, sizes[i], rows, out_stride), err);
        if (!s)
            return false;
        all = s->takes;
    }
    *takes = all;
    return true;
}

static bool find_unpack(struct cuda_blas *b, const struct stored *s, struct tp_error *err)
{
    static const char *const grouped[] = {
        [OFFSET_NONE] = "int4", [OFFSET_ZERO] = "int4_zero", [OFFSET_MINIMUM] = "int4_min"};
    char name[48];
    snprintf(name, sizeof name, "unpack_%s_%s", s->group ? grouped[s->offset] : s->name,
             dtype_name(b->dtype));
    return b->unpack[s->id] || cuda_kernel(b->cuda, name, &b->unpack[s->id], err);
}

/* A slice to a half, when what multiplied the last one there has ended. */
static bool unpack_slice(struct cuda_blas *b, const struct cuda_geometry *g, const void *w,
                         uint64_t panels, uint32_t half, struct tp_error *err)
{
    const struct cuda_api *api = &b->cuda->api;
    struct cuda_unpack a = {
        .w = w,
        .out = b->half[half],
        .table = g->table,
        .blocks = g->blocks,
        .panel_words = g->panel_words,
        /* a thread for 8 columns of 4 rows */
        .parts = (uint32_t)div_ceil((uint64_t)g->blocks * 16, CUDA_THREADS),
    };
    return CUDA(api, err, cuStreamWaitEvent, (b->unpacking, b->multiplied[half], 0)) &&
           cuda_launch_on(b->cuda, b->unpacking, false, b->unpack[g->stored->id],
                          (unsigned)(panels * a.parts), CUDA_THREADS, 0, &a, err) &&
           CUDA(api, err, cuEventRecord, (b->unpacked[half], b->unpacking));
}

static bool multiply_slice(struct cuda_blas *b, const struct cuda_blas_shape *s, const void *x,
                           float *out, uint32_t half, struct tp_error *err)
{
    static const float one = 1.0f, zero = 0.0f;
    const struct cuda_api *api = &b->cuda->api;
    return CUDA(api, err, cuStreamWaitEvent, (b->cuda->stream, b->unpacked[half], 0)) &&
           CUBLAS(&b->api, err, cublasLtMatmul,
                  (b->handle, b->product, &one, b->half[half], s->w, x, s->x, &zero, out, s->out,
                   out, s->out, &s->algorithm, b->own, b->own_bytes, b->cuda->stream)) &&
           CUDA(api, err, cuEventRecord, (b->multiplied[half], b->cuda->stream));
}

bool cuda_product(struct cuda_blas *b, const struct cuda_geometry *g, const void *w,
                  uint64_t panels, const void *x, uint32_t rows, float *out, uint64_t out_stride,
                  struct tp_error *err)
{
    const uint64_t most = slice_panels(b, g, panels),
                   bytes = (uint64_t)g->panel_words * PANEL_ROWS * 4;
    tp_assert(most && rows);
    bool ok = open_library(b, err) && find_unpack(b, g->stored, err);
    for (uint64_t at = 0, n; ok && at < panels; at += n) {
        n = min_u64(most, panels - at);
        const struct cuda_blas_shape *s = shape_of(b, shape_for(g, n, rows, out_stride), err);
        const uint32_t half = b->turn++ % 2;
        ok = s &&
             cublas_ok(&b->api, s->takes ? +CUBLAS_OK : +CUBLAS_NOT_SUPPORTED,
                       "cublasLtMatmulAlgoGetHeuristic", err) &&
             unpack_slice(b, g, (const char *)w + at * bytes, n, half, err) &&
             multiply_slice(b, s, x, out + at * PANEL_ROWS, half, err);
    }
    return ok;
}
