#include "attention.cuh"
#include "entry.h"

#define TILES(name, type)                                                                          \
    ENTRY(attention_##name##_1, CUDA_THREADS, 1, cuda_attentions, attention<type, 1>)              \
    ENTRY(attention_##name##_4, CUDA_THREADS, 1, cuda_attentions, attention<type, 4>)              \
    ENTRY(attention_##name##_8, CUDA_THREADS, 1, cuda_attentions, attention<type, 8>)
TILES(f32, F32)
TILES(f16, F16)
TILES(bf16, BF16)
