#include "ops.inc.h"

const struct kernels kernels_avx2 = {
    .isa = ISA_AVX2,
    .name = "avx2",
    DOT_TABLE(avx2),
    OPS_TABLE,
};
