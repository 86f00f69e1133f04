#include "entry.h"
#include "product.cuh"

/* up to 32, 64, 128 tokens; 32 rows of weights a CTA, or 64 where there are many */
#define TOKENS(type, format)                                                                       \
    ENTRY(product_##type##_##format##_32, CUDA_THREADS, 2, cuda_product,                           \
          product<as_##type, stored_##format, 4, 1, 1>)                                            \
    ENTRY(product_##type##_##format##_32_wide, CUDA_THREADS, 1, cuda_product,                      \
          product<as_##type, stored_##format, 4, 2, 1>)                                            \
    ENTRY(product_##type##_##format##_64, CUDA_THREADS, 2, cuda_product,                           \
          product<as_##type, stored_##format, 8, 1, 1>)                                            \
    ENTRY(product_##type##_##format##_128, CUDA_THREADS, 1, cuda_product,                          \
          product<as_##type, stored_##format, 16, 1, 1>)                                           \
    ENTRY(product_##type##_##format##_128_wide, CUDA_THREADS, 1, cuda_product,                     \
          product<as_##type, stored_##format, 16, 1, 2>)
#define FORMATS(type)                                                                              \
    TOKENS(type, 16)                                                                               \
    TOKENS(type, int8)                                                                             \
    TOKENS(type, fp8)                                                                              \
    TOKENS(type, int4)
FORMATS(bf16)
FORMATS(f16)
ENTRY(product_operand, CUDA_THREADS, 1, cuda_operand, operand)
ENTRY(product_finish, CUDA_THREADS, 1, cuda_finish, finish)
