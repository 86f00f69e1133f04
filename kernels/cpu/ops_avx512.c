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
    ROWS_TABLE(avx512bf16),
    .rows_worth = {[STORED_BF16] = 4,
                   [STORED_INT8] = 4,
                   [STORED_FP8] = 4,
                   [STORED_INT4_G32... STORED_INT4_G128_MIN] = 1},
    .few_rows = 2,
    .rows_tile = 128,
    .run_panels = 2,
    .leaf_panels = 2,
    OPS_TABLE,
};

/* Rows of bf16 values by TDPBF16PS. Where there is that, VDPBF16PS is half as fast as FMA. */
const struct kernels kernels_amx = {
    .isa = ISA_AMX,
    .name = "amx",
    DOT_TABLE(avx512),
    ROWS_TABLE_AMX(amx),
    OPS_TABLE,
};
