/* Weight-only quantization, per output row: what a row becomes, independent of any cut (design:
 * quantize, then cut). docs/numerics.md section 7.
 */
#pragma once
#include "dtype.h"
#include <stddef.h>

/* The scale of one whole row: absmax / 127 (int8), a searched one for fp8. A row of zeros, or of
 * nothing above 2^-100, has scale 1. row: n finite f32 values. dtype: DTYPE_I8 or DTYPE_E4M3. Any
 * floating-point mode. */
float quant_scale(enum dtype dtype, const float *row, size_t n);
/* codes[i] for row[0..n), any part of the row, with its scale. */
void quant_codes(enum dtype dtype, const float *row, size_t n, float scale, uint8_t *codes);
/* The value of a code, before the scale. */
float quant_value(enum dtype dtype, uint8_t code);
