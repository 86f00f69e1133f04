#include "ops.inc.h"

const struct kernels kernels_scalar = {
    .isa = ISA_SCALAR,
    .name = "scalar",
    DOT_TABLE(scalar),
    OPS_TABLE,
};
