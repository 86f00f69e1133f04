#include "values.h"

#include "lanes.h"

void values_widen(enum dtype from, const unsigned char *bytes, size_t n, float *out)
{
    if (from == DTYPE_F32)
        memcpy(out, bytes, n * 4);
    else if (from == DTYPE_BF16)
        lanes_best()->widen_bf16(bytes, n, out);
    else
        lanes_best()->widen_f16(bytes, n, out);
}

bool values_narrow(enum dtype to, const float *values, size_t n, unsigned char *out)
{
    if (to == DTYPE_BF16)
        return lanes_best()->narrow_bf16(values, n, out);
    if (to == DTYPE_F16)
        return lanes_best()->narrow_f16(values, n, out);
    memcpy(out, values, n * 4);
    return values_finite(DTYPE_F32, out, n) == n;
}

static bool block_finite(enum dtype dtype, const unsigned char *bytes, size_t n)
{
    return dtype == DTYPE_F32
               ? lanes_best()->finite32(bytes, n, 0x7f800000)
               : lanes_best()->finite16(bytes, n, dtype == DTYPE_BF16 ? 0x7f80 : 0x7c00);
}

size_t values_finite(enum dtype dtype, const unsigned char *bytes, size_t n)
{
    enum { BLOCK = 4096 };
    size_t element = dtype_bytes(dtype);
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t block = n - at < BLOCK ? n - at : BLOCK;
        if (block_finite(dtype, bytes + at * element, block))
            continue;
        while (block_finite(dtype, bytes + at * element, 1))
            at++;
        return at;
    }
    return n;
}
