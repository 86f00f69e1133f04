#include "sort_index.h"

#include <string.h>

static void merge(const uint32_t *left, const uint32_t *middle, const uint32_t *right,
                  uint32_t *out, const void *items, sort_before before)
{
    const uint32_t *a = left, *b = middle;
    if (a < middle && b < right && before(items, *b, middle[-1])) {
        while (a < middle && b < right)
            *out++ = before(items, *b, *a) ? *b++ : *a++;
    }
    memcpy(out, a, (size_t)(middle - a) * sizeof *a);
    memcpy(out + (middle - a), b, (size_t)(right - b) * sizeof *b);
}

void sort_index(uint32_t *index, uint32_t *scratch, size_t n, const void *items, sort_before before)
{
    uint32_t *from = index, *to = scratch;
    for (size_t i = 0; i < n; i++)
        index[i] = (uint32_t)i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            size_t middle = i + width < n ? i + width : n;
            size_t end = i + 2 * width < n ? i + 2 * width : n;
            merge(from + i, from + middle, from + end, to + i, items, before);
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != index)
        memcpy(index, from, n * sizeof *index);
}
