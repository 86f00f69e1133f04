/* Stored values of any tensor as f32. */
#pragma once
#include "rank_plan.h"

/* Row `row` as source->read_rows gives it, of all the leaves that the tensor owns: its values in
 * the order of its columns, f32 as decode of stored.h has them. scale: the row's, where the format
 * has one; NULL: as if it were 1. */
void values_of_row(const struct tensor *tensor, const unsigned char *row, const uint32_t *scale,
                   bool to_odd, float *out);
