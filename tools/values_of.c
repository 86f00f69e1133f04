#include "values_of.h"

#include "quant.h"
#include "values.h"

void values_of_row(const struct tensor *tensor, const unsigned char *stored, uint64_t n,
                   const float *scale, float *out)
{
    bool codes = tensor->layout == LAYOUT_PANEL16 && dtype_bytes(tensor->dtype) == 1;
    if (!codes) {
        values_widen(tensor->layout == LAYOUT_VECTOR_F32 ? DTYPE_F32 : tensor->dtype, stored, n,
                     out);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        out[i] = quant_value(tensor->dtype, stored[i]) * (scale ? *scale : 1);
}
