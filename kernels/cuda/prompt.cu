#include "entry.h"
#include "prompt.cuh"

#define HEADS(type)                                                                                \
    ENTRY(prompt_attention_##type##_64, CUDA_QUERY_WARPS * 32, 1, cuda_prompt_attention,           \
          prompt_attention<as_##type, 64>)                                                         \
    ENTRY(prompt_attention_##type##_128, CUDA_QUERY_WARPS * 32, 1, cuda_prompt_attention,          \
          prompt_attention<as_##type, 128>)                                                        \
    ENTRY(prompt_attention_##type##_256, CUDA_QUERY_WARPS * 32, 1, cuda_prompt_attention,          \
          prompt_attention<as_##type, 256>)
HEADS(bf16)
HEADS(f16)
ENTRY(prompt_rope_append, CUDA_THREADS, 1, cuda_prompt_rope, prompt_rope)
