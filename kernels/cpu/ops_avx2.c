#include "ops.inc.h"

const struct kernels kernels_avx2 = {
    .isa = ISA_AVX2,
    .name = "avx2",
    DOT_TABLE(avx2),
    .moderate = moderate_avx2,
    .dot_moderate = {[STORED_INT8] = dot_avx2_i8_moderate,
                     [STORED_INT4_G32... STORED_INT4_G128] = dot_avx2_int4_none_moderate,
                     [STORED_INT4_G32_ZERO... STORED_INT4_G128_ZERO] = dot_avx2_int4_zero_moderate},
    OPS_TABLE,
};
