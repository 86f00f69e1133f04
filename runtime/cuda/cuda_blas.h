/* The products of large prompt chunks, by cuBLASLt: out = x w^T, slices of w unpacked to 16 bits
 * ahead of what multiplies them.
 *
 *     unpacking   [slice 0 > half 0][slice 1 > half 1]      [slice 2 > half 0]      ...
 *     main                          [x * half 0 > out][x * half 1 > out][x * half 0 > out] ...
 *
 * There is no second copy of the weights. The algorithm of a shape is the first that cuBLASLt
 * names, without sums in parts: the same shape has the same bits on the same GPU and library; a
 * row's bits depend on how many there are.
 */
#pragma once
#include "blas_api.h"
#include "cuda_device.h"

enum {
    CUDA_BLAS_HALF = 16 << 20, /* bytes of a slice, at most */
    CUDA_BLAS_SHAPES = 64,     /* that are remembered */
};

/* What cuBLASLt knows of one shape. */
struct cuda_blas_shape {
    uint32_t rows, slice, k; /* of x; of the slice; columns of both */
    uint64_t out_stride;
    cublas_layout x, w, out;
    cublas_algorithm algorithm;
    bool takes; /* false: it has no algorithm */
};

struct cuda_blas {
    struct cuda *cuda;
    enum dtype dtype;
    unsigned char *half[2], *own; /* on the device; own: cuBLASLt's workspace */
    uint64_t half_bytes, own_bytes;

    /* from the first question on */
    struct cublas_api api;
    cublas_handle handle;
    cublas_product product;
    cublas_wish wish;
    cu_stream unpacking;
    cu_event unpacked[2], multiplied[2]; /* of each half */
    cu_function unpack[STORED_COUNT];    /* NULL: not asked for yet */
    struct cuda_blas_shape shapes[CUDA_BLAS_SHAPES];
    uint32_t n_shapes, oldest;
    uint32_t turn; /* the half that is next */
};

/* Is the library there? It is not opened. Without it nothing here may be called. */
bool cuda_blas_there(void);
/* Bytes of so many panels unpacked: panels * 16 rows of blocks * 32 columns of two bytes. */
uint64_t cuda_blas_unpacked(const struct cuda_geometry *geometry, uint64_t panels);
/* Bytes of device memory for cuda_blas_init, where the largest matrix has so many bytes
 * unpacked. */
uint64_t cuda_blas_bytes(uint64_t largest);
/* dtype: of x and of unpacked values, bf16 or f16. memory: cuda_blas_bytes(largest), aligned to
 * 256, borrowed until cuda_blas_close. Nothing is opened yet. */
void cuda_blas_init(struct cuda_blas *blas, struct cuda *cuda, enum dtype dtype, cu_address memory,
                    uint64_t largest);
/* Waits for nothing: no product may be on its way. {0} is allowed. */
void cuda_blas_close(struct cuda_blas *blas);

/* *takes: can cuda_product do it? Where not (no rows or columns, a stride or alignment that
 * cuBLASLt refuses, a panel larger than half the workspace) the caller has kernels of its own. The
 * first question opens the library: TP_E_UNSUPPORTED, TP_E_DEVICE, TP_E_MEMORY. Not while a graph
 * is made. */
bool cuda_product_fits(struct cuda_blas *blas, const struct cuda_geometry *geometry,
                       uint64_t panels, uint32_t rows, uint64_t out_stride, bool *takes,
                       struct tp_error *err);
/* out = x w^T in f32, on the main stream. w: [panels] on the device. x: [rows][blocks * 32] of
 * dtype, aligned to 16 bytes. out: [rows][out_stride], aligned to 16 bytes, panels * 16 of each row
 * are written. Row scales, bias and what follows are the caller's; int8 and fp8 multiply as codes.
 * TP_E_DEVICE where cuda_product_fits says no. Not while a graph is made. */
bool cuda_product(struct cuda_blas *blas, const struct cuda_geometry *geometry, const void *w,
                  uint64_t panels, const void *x, uint32_t rows, float *out, uint64_t out_stride,
                  struct tp_error *err);
