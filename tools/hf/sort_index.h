/* A stable merge sort of positions: n log n whatever the input, so that names made to collide cost
 * nothing; runs that are in order already are only copied. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Element a goes before element b. */
typedef bool (*sort_before)(const void *items, uint32_t a, uint32_t b);

/* index[0..n) becomes the numbers 0..n-1 in the order of the items; scratch has n entries. */
void sort_index(uint32_t *index, uint32_t *scratch, size_t n, const void *items,
                sort_before before);
