/* Arrays of values from one element type to another. Bytes may have any alignment. */
#pragma once
#include "dtype.h"

/* f32, f16, bf16 to f32, exactly */
void values_widen(enum dtype from, const unsigned char *bytes, size_t n, float *out);
/* f32 to f32, f16, bf16, to nearest even. Returns false where a value left the range. */
bool values_narrow(enum dtype to, const float *values, size_t n, unsigned char *out);
/* Index of the first infinity or NaN, n where all are finite */
size_t values_finite(enum dtype dtype, const unsigned char *bytes, size_t n);
