#include "values.h"

#include "le.h"

void values_widen(enum dtype from, const unsigned char *bytes, size_t n, float *out)
{
    if (from == DTYPE_F32)
        memcpy(out, bytes, n * 4);
    else if (from == DTYPE_BF16)
        for (size_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(le_u16(bytes + 2 * i));
    else
        for (size_t i = 0; i < n; i++)
            out[i] = f16_to_f32(le_u16(bytes + 2 * i));
}

bool values_narrow(enum dtype to, const float *values, size_t n, unsigned char *out)
{
    bool fits = true;
    if (to == DTYPE_F32) {
        memcpy(out, values, n * 4);
        fits = values_finite(DTYPE_F32, out, n) == n;
    } else if (to == DTYPE_BF16)
        for (size_t i = 0; i < n; i++) {
            uint16_t b = f32_to_bf16(values[i]);
            fits &= (b & 0x7f80) != 0x7f80;
            le_put_u16(out + 2 * i, b);
        }
    else
        for (size_t i = 0; i < n; i++) {
            uint16_t h = f32_to_f16(values[i]);
            fits &= (h & 0x7c00) != 0x7c00;
            le_put_u16(out + 2 * i, h);
        }
    return fits;
}

static bool block_finite(enum dtype dtype, const unsigned char *bytes, size_t n)
{
    uint32_t bad = 0;
    if (dtype == DTYPE_F32)
        for (size_t i = 0; i < n; i++)
            bad |= (le_u32(bytes + 4 * i) & 0x7f800000) == 0x7f800000;
    else {
        uint16_t mask = dtype == DTYPE_BF16 ? 0x7f80 : 0x7c00;
        uint16_t bad16 = 0;
        for (size_t i = 0; i < n; i++)
            bad16 |= (uint16_t)((le_u16(bytes + 2 * i) & mask) == mask);
        bad = bad16;
    }
    return !bad;
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
