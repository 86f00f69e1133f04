/* Inside kernels/cpu only: the three tables and the dots they point to. */
#pragma once
#include "kernels.h"

extern const struct kernels kernels_scalar, kernels_avx2, kernels_avx512;

#define DOT_ARGS                                                                                   \
    const void *w, size_t blocks, const float *x, size_t x_stride, size_t M, float *out,           \
        size_t out_stride
#define DOT_DECLARE(isa)                                                                           \
    void dot_##isa##_f32(DOT_ARGS);                                                                \
    void dot_##isa##_f16(DOT_ARGS);                                                                \
    void dot_##isa##_bf16(DOT_ARGS);                                                               \
    void dot_##isa##_i8(DOT_ARGS);                                                                 \
    void dot_##isa##_e4m3(DOT_ARGS)
DOT_DECLARE(scalar);
DOT_DECLARE(avx2);
DOT_DECLARE(avx512);

#define DOT_TABLE(isa)                                                                             \
    .dot = {[DTYPE_F32] = dot_##isa##_f32,                                                         \
            [DTYPE_F16] = dot_##isa##_f16,                                                         \
            [DTYPE_BF16] = dot_##isa##_bf16,                                                       \
            [DTYPE_I8] = dot_##isa##_i8,                                                           \
            [DTYPE_E4M3] = dot_##isa##_e4m3}
