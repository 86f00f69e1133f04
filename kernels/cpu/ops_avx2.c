#include "ops.inc.h"

const struct kernels kernels_avx2 = {
    .isa = ISA_AVX2,
    .name = "avx2",
    DOT_TABLE(avx2),
    .moderate = moderate_avx2,
    .dot_row = {[STORED_F16] = dot_row_avx2_f16,
                [STORED_BF16] = dot_row_avx2_bf16,
                [STORED_INT8] = dot_row_avx2_i8,
                [STORED_INT4_G32... STORED_INT4_G128] = dot_row_avx2_int4_none,
                [STORED_INT4_G32_ZERO... STORED_INT4_G128_ZERO] = dot_row_avx2_int4_zero},
    ROWS_TABLE(avx2, [STORED_F32] = dot_rows_avx2_f32, [STORED_F16] = dot_rows_avx2_f16),
    .rows_f32 = true,
    .rows_worth = {[STORED_F32... STORED_COUNT - 1] = 3},
    .rows_tile = 128,
    .few_rows = 8,
    .run_panels = 8,
    .leaf_panels = 8,
    OPS_TABLE,
};
