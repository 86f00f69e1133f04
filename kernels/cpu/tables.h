/* Inside kernels/cpu only: the tables and the dots they point to. */
#pragma once
#include "kernels.h"

extern const struct kernels kernels_scalar, kernels_avx2, kernels_avx512, kernels_avx512bf16;

/* Before a loop whose turns do not depend on each other, whatever overlaps. clang has no such hint
 * that does not also allow sums in another order; it looks at the addresses. */
#ifdef __clang__
#define INDEPENDENT
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define DOT_ARGS_OF(X)                                                                             \
    const void *w, struct pieces pieces, const X *x, size_t x_stride, const float *sums, size_t M, \
        float *out, size_t out_stride
#define DOT_ARGS DOT_ARGS_OF(float)
#define DOT_ROWS_ARGS DOT_ARGS_OF(uint32_t)
#define DOT_DECLARE(isa)                                                                           \
    void dot_##isa##_f32(DOT_ARGS), dot_##isa##_f16(DOT_ARGS), dot_##isa##_bf16(DOT_ARGS);         \
    void dot_##isa##_i8(DOT_ARGS), dot_##isa##_e4m3(DOT_ARGS), dot_##isa##_int4_none(DOT_ARGS);    \
    void dot_##isa##_int4_zero(DOT_ARGS), dot_##isa##_int4_min(DOT_ARGS)
DOT_DECLARE(scalar);
DOT_DECLARE(avx2);
DOT_DECLARE(avx512);

#define DOT_TABLE(isa)                                                                             \
    .dot = {[STORED_F32] = dot_##isa##_f32,                                                        \
            [STORED_F16] = dot_##isa##_f16,                                                        \
            [STORED_BF16] = dot_##isa##_bf16,                                                      \
            [STORED_INT8] = dot_##isa##_i8,                                                        \
            [STORED_FP8] = dot_##isa##_e4m3,                                                       \
            [STORED_INT4_G32... STORED_INT4_G128] = dot_##isa##_int4_none,                         \
            [STORED_INT4_G32_ZERO... STORED_INT4_G128_ZERO] = dot_##isa##_int4_zero,               \
            [STORED_INT4_G32_MIN... STORED_INT4_G128_MIN] = dot_##isa##_int4_min}

void dot_rows_avx512bf16_bf16(DOT_ROWS_ARGS), dot_rows_avx512bf16_i8(DOT_ROWS_ARGS);
void dot_rows_avx512bf16_e4m3(DOT_ROWS_ARGS), dot_rows_avx512bf16_int4_none(DOT_ROWS_ARGS);
void dot_rows_avx512bf16_int4_zero(DOT_ROWS_ARGS), dot_rows_avx512bf16_int4_min(DOT_ROWS_ARGS);
void pack_rows_avx512bf16(const float *x, size_t x_stride, size_t blocks, size_t M,
                          uint32_t *packed, size_t packed_stride);

/* VDPBF16PS here: x = fma(low, fma(high, x)), and not another order. */
bool pairs_add_in_order(void);

/* Blocks of the piece that begins at block b of a leaf. */
static inline size_t piece_blocks(struct pieces pieces, size_t b)
{
    size_t n = b ? pieces.group : pieces.lead, left = pieces.blocks - b;
    return n < left ? n : left;
}
