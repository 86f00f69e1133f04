/* cuBLASLt without a GPU: libcublasLt.so.13 for tests, beside the emulated driver (driver.cpp), as
 * far as runtime/cuda/blas_api.h asks. What it is asked for must be exactly what it knows: f32
 * out of bf16 or f16, the first transposed. Sums are made in double, in rising k, rounded once.
 *
 * EMUL_BLAS_REFUSE=K shapes of K columns get no algorithm.
 */
#include "driver.h"
extern "C" {
#include "blas_api.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

static int held; /* handles and descriptions that have not been given back */
static struct report {
    ~report()
    {
        if (held)
            fprintf(stderr, "libcublasLt: %d left\n", held);
    }
} report;

struct cublasLtContext {
    int unused;
};
struct cublas_product_st {
    bool transposed;
};
struct cublas_layout_st {
    unsigned type;
    uint64_t rows, columns, stride;
};
struct cublas_wish_st {
    uint64_t workspace;
    uint32_t reductions, alignment[4];
};

/* What an algorithm was made for: it does nothing else. */
struct algorithm {
    uint64_t m, n, k, stride, type, workspace, magic;
};
enum : uint64_t { MAGIC = 0x616c676f, WORKSPACE = 512 };

#define ENTER                                                                                      \
    if (emul_enter())                                                                              \
    return 14

template <class T> static cublas_status make(T **made, T value)
{
    held++;
    *made = new T(value);
    return CUBLAS_OK;
}
template <class T> static cublas_status give_back(T *made)
{
    held--;
    delete made;
    return CUBLAS_OK;
}

static float widen(unsigned type, uint16_t bits)
{
    uint32_t u = (uint32_t)bits << 16;
    float f;
    _Float16 h;
    memcpy(&f, &u, 4), memcpy(&h, &bits, 2);
    return type == CUBLAS_BF16 ? f : (float)h;
}

/* d[n][stride] = b[n][k] times a[m][k], transposed */
static void multiply(const algorithm &g, const uint16_t *a, const uint16_t *b, float *d)
{
    std::vector<float> w(g.m * g.k);
    for (size_t i = 0; i < w.size(); i++)
        w[i] = widen((unsigned)g.type, a[i]);
    std::vector<float> x(g.k);
    for (size_t j = 0; j < g.n; j++) {
        for (size_t i = 0; i < g.k; i++)
            x[i] = widen((unsigned)g.type, b[j * g.k + i]);
        for (size_t r = 0; r < g.m; r++) {
            double sum = 0;
            for (size_t i = 0; i < g.k; i++)
                sum += (double)x[i] * (double)w[r * g.k + i];
            d[j * g.stride + r] = (float)sum;
        }
    }
}

/* Is it out [m][n] of a [k][m] and b [k][n], in columns? */
static bool fits(cublas_product p, cublas_layout a, cublas_layout b, cublas_layout c,
                 cublas_layout d)
{
    const uint64_t k = a->rows, m = a->columns, n = b->columns;
    return p->transposed && (a->type == CUBLAS_BF16 || a->type == CUBLAS_F16) &&
           b->type == a->type && d->type == CUBLAS_F32 && c == d && k && m && n && b->rows == k &&
           d->rows == m && d->columns == n && a->stride == k && b->stride == k && d->stride >= m;
}

extern "C" {
#pragma GCC visibility push(default)

const char *cublasLtGetStatusName(cublas_status status)
{
    return status == CUBLAS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
           : status == CUBLAS_INVALID     ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == 14                 ? "CUBLAS_STATUS_INTERNAL_ERROR"
                                          : "CUBLAS_STATUS_?";
}
cublas_status cublasLtCreate(cublas_handle *handle)
{
    ENTER;
    return make(handle, cublasLtContext());
}
cublas_status cublasLtDestroy(cublas_handle handle)
{
    return give_back(handle);
}
cublas_status cublasLtMatmulDescCreate(cublas_product *product, unsigned compute, unsigned scale)
{
    ENTER;
    if (compute != CUBLAS_COMPUTE_F32 || scale != CUBLAS_F32)
        return CUBLAS_NOT_SUPPORTED;
    return make(product, cublas_product_st());
}
cublas_status cublasLtMatmulDescDestroy(cublas_product product)
{
    return give_back(product);
}
cublas_status cublasLtMatmulDescSetAttribute(cublas_product product, unsigned attribute,
                                             const void *value, size_t bytes)
{
    ENTER;
    int32_t number;
    if (attribute != CUBLAS_PRODUCT_TRANSPOSE_A || bytes != sizeof number)
        return CUBLAS_INVALID;
    memcpy(&number, value, sizeof number);
    product->transposed = number == CUBLAS_TRANSPOSED;
    return CUBLAS_OK;
}
cublas_status cublasLtMatrixLayoutCreate(cublas_layout *layout, unsigned type, uint64_t rows,
                                         uint64_t columns, int64_t stride)
{
    ENTER;
    return make(layout, cublas_layout_st{type, rows, columns, (uint64_t)stride});
}
cublas_status cublasLtMatrixLayoutDestroy(cublas_layout layout)
{
    return give_back(layout);
}
cublas_status cublasLtMatmulPreferenceCreate(cublas_wish *wish)
{
    ENTER;
    return make(wish, cublas_wish_st{0, ~0u, {256, 256, 256, 256}});
}
cublas_status cublasLtMatmulPreferenceDestroy(cublas_wish wish)
{
    return give_back(wish);
}
cublas_status cublasLtMatmulPreferenceSetAttribute(cublas_wish wish, unsigned attribute,
                                                   const void *value, size_t bytes)
{
    ENTER;
    void *to = attribute == CUBLAS_WISH_WORKSPACE    ? (void *)&wish->workspace
               : attribute == CUBLAS_WISH_REDUCTIONS ? (void *)&wish->reductions
               : attribute - CUBLAS_WISH_ALIGNMENT_A < 4
                   ? (void *)&wish->alignment[attribute - CUBLAS_WISH_ALIGNMENT_A]
                   : nullptr;
    if (!to || bytes != (attribute == CUBLAS_WISH_WORKSPACE ? 8 : 4))
        return CUBLAS_INVALID;
    memcpy(to, value, bytes);
    return CUBLAS_OK;
}
cublas_status cublasLtMatmulAlgoGetHeuristic(cublas_handle, cublas_product product, cublas_layout a,
                                             cublas_layout b, cublas_layout c, cublas_layout d,
                                             cublas_wish wish, int wanted, cublas_choice choices[],
                                             int *count)
{
    ENTER;
    const char *refused = getenv("EMUL_BLAS_REFUSE");
    *count = 0;
    if (!fits(product, a, b, c, d) || wanted < 1 || wish->reductions)
        return CUBLAS_INVALID;
    /* every column of what is written is aligned as all others are */
    if (wish->workspace < WORKSPACE || d->stride * 4 % wish->alignment[3] ||
        (refused && strtoull(refused, NULL, 10) == a->rows))
        return CUBLAS_NOT_SUPPORTED;
    const algorithm chosen = {a->columns, b->columns, a->rows, d->stride,
                              a->type,    WORKSPACE,  MAGIC};
    static_assert(sizeof chosen <= sizeof choices->algorithm, "opaque bytes");
    memset(choices, 0, sizeof *choices);
    memcpy(&choices->algorithm, &chosen, sizeof chosen);
    choices->workspace = WORKSPACE;
    *count = 1;
    return CUBLAS_OK;
}
cublas_status cublasLtMatmul(cublas_handle handle, cublas_product product, const void *alpha,
                             const void *a, cublas_layout a_layout, const void *b,
                             cublas_layout b_layout, const void *beta, const void *c,
                             cublas_layout c_layout, void *d, cublas_layout d_layout,
                             const cublas_algorithm *given, void *workspace, size_t bytes,
                             cu_stream stream)
{
    ENTER;
    algorithm g;
    memcpy(&g, given, sizeof g);
    if (!handle || !fits(product, a_layout, b_layout, c_layout, d_layout) || c != d ||
        *(const float *)alpha != 1 || *(const float *)beta != 0)
        return CUBLAS_INVALID;
    if (g.magic != MAGIC || g.k != a_layout->rows || g.m != a_layout->columns ||
        g.n != b_layout->columns || g.stride != d_layout->stride || g.type != a_layout->type ||
        bytes < g.workspace)
        return CUBLAS_INVALID;
    for (const void *p : {a, b, (const void *)d, (const void *)workspace})
        if ((uintptr_t)p % 16)
            return CUBLAS_INVALID;
    if (!emul_owns(a, g.k * g.m * 2) || !emul_owns(b, g.k * g.n * 2) ||
        !emul_owns(d, ((g.n - 1) * g.stride + g.m) * 4) || !emul_owns(workspace, bytes))
        return CUBLAS_INVALID;
    emul_put(stream, [=] {
        memset(workspace, 0xff, g.workspace);
        multiply(g, (const uint16_t *)a, (const uint16_t *)b, (float *)d);
    });
    return CUBLAS_OK;
}
}
