/* A span of a fast prompt on one GPU, as the files that run it see it. */
#pragma once
#include "cuda_device.h"

struct cuda_prompt {
    struct cuda_gpu *gpu;
    uint32_t first, n_rows; /* rows of the step */
    uint32_t position;      /* of the first */
    struct tp_error *err;
};

bool cuda_prompt_launch(const struct cuda_prompt *prompt, cu_function function, uint64_t grid,
                        unsigned threads, size_t shared, void *arguments);

/* ---- products (cuda_product.c) ---- */

/* Rows that sums have room for, and products of cuBLASLt have: the tail is padded. */
uint32_t cuda_prompt_rows(const struct cuda_prompt *prompt);
/* One more matrix [rows][k] of a product, to out [rows of the span][stride]; full: with scale and
 * bias. */
void cuda_add_matrix(const struct cuda_rank *rank, struct cuda_product *product,
                     const struct matrix *matrix, float *out, uint64_t stride, bool full);
/* The product over x [n_rows][stride]. */
bool cuda_multiply(const struct cuda_prompt *prompt, const struct cuda_rank *rank,
                   enum cuda_kind kind, uint32_t layer, const float *x, uint64_t stride,
                   struct cuda_product *product);
/* Kernels, and what cuBLASLt needs for so many rows. */
bool cuda_prepare_products(struct cuda_gpu *gpu, uint32_t n_rows, struct tp_error *err);
