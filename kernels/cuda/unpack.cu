#include "entry.h"
#include "unpack.cuh"

#define UNPACK(name, type, kind)                                                                   \
    ENTRY(unpack_##name##_bf16, CUDA_THREADS, 4, cuda_unpack, unpack<type, TO_BF16, kind>)         \
    ENTRY(unpack_##name##_f16, CUDA_THREADS, 4, cuda_unpack, unpack<type, TO_F16, kind>)
UNPACK(f32, F32, GROUPS_SCALE)
UNPACK(f16, F16, GROUPS_SCALE)
UNPACK(bf16, BF16, GROUPS_SCALE)
UNPACK(int8, I8, GROUPS_SCALE)
UNPACK(fp8, E4M3, GROUPS_SCALE)
UNPACK(int4, I4<false>, GROUPS_SCALE)
UNPACK(int4_zero, I4<true>, GROUPS_ZERO)
UNPACK(int4_min, I4<true>, GROUPS_MINIMUM)
