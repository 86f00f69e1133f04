#include "ops.inc.h"

const struct kernels kernels_avx512 = {
    .isa = ISA_AVX512,
    .name = "avx512",
    DOT_TABLE(avx512),
    OPS_TABLE,
};
