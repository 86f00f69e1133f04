/* Prompts, fast. */
#include "prompt.cuh"
#include "entry.h"

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
#define TYPE_OF(type)                                                                              \
    TOKENS(type, 16)                                                                               \
    TOKENS(type, int8)                                                                             \
    TOKENS(type, fp8)                                                                              \
    TOKENS(type, int4)                                                                             \
    ENTRY(prompt_attention_##type##_64, CUDA_QUERY_WARPS * 32, 1, cuda_prompt_attention,           \
          prompt_attention<as_##type, 64>)                                                         \
    ENTRY(prompt_attention_##type##_128, CUDA_QUERY_WARPS * 32, 1, cuda_prompt_attention,          \
          prompt_attention<as_##type, 128>)                                                        \
    ENTRY(prompt_attention_##type##_256, CUDA_QUERY_WARPS * 32, 1, cuda_prompt_attention,          \
          prompt_attention<as_##type, 256>)
TYPE_OF(bf16)
TYPE_OF(f16)
ENTRY(prompt_operand, CUDA_THREADS, 1, cuda_operand, operand)
ENTRY(prompt_finish, CUDA_THREADS, 1, cuda_finish, finish)
ENTRY(prompt_rope_append, CUDA_THREADS, 1, cuda_prompt_rope, prompt_rope)
