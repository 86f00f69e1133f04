#include "ops.inc.h"

const struct kernels kernels_avx512 = {
    .isa = ISA_AVX512,
    .name = "avx512",
    DOT_TABLE(avx512),
    OPS_TABLE,
};

/* Rows of bf16 values by VDPBF16PS, all else as before. */
const struct kernels kernels_avx512bf16 = {
    .isa = ISA_AVX512BF16,
    .name = "avx512bf16",
    DOT_TABLE(avx512),
    .rows_worth = {[STORED_BF16] = 4,
                   [STORED_INT8] = 4,
                   [STORED_FP8] = 4,
                   [STORED_INT4_G32... STORED_INT4_G128_MIN] = 1},
    .pack_rows = pack_rows_avx512bf16,
    .dot_rows = {[STORED_BF16] = dot_rows_avx512bf16_bf16,
                 [STORED_INT8] = dot_rows_avx512bf16_i8,
                 [STORED_FP8] = dot_rows_avx512bf16_e4m3,
                 [STORED_INT4_G32... STORED_INT4_G128] = dot_rows_avx512bf16_int4_none,
                 [STORED_INT4_G32_ZERO... STORED_INT4_G128_ZERO] = dot_rows_avx512bf16_int4_zero,
                 [STORED_INT4_G32_MIN... STORED_INT4_G128_MIN] = dot_rows_avx512bf16_int4_min},
    OPS_TABLE,
};
