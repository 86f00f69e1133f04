/* Stored values of any tensor as f32. */
#pragma once
#include "rank_plan.h"

/* n values of a row: floats widened exactly; codes of quantized weights times scale, or as they are
 * where scale is NULL. out may not alias. */
void values_of_row(const struct tensor *tensor, const unsigned char *stored, uint64_t n,
                   const float *scale, float *out);
