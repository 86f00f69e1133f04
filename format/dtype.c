#include "dtype.h"

#include "error.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_NONE] = {"none", 0},
    [DTYPE_F32] = {"f32", 4},
    [DTYPE_F16] = {"f16", 2},
    [DTYPE_BF16] = {"bf16", 2},
};

size_t dtype_bytes(enum dtype dtype)
{
    tp_assert(dtype > DTYPE_NONE && dtype < DTYPE_COUNT);
    return dtypes[dtype].bytes;
}

const char *dtype_name(enum dtype dtype)
{
    return dtype < DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

bool dtype_from_name(const char *name, enum dtype *out)
{
    for (int i = DTYPE_F32; i < DTYPE_COUNT; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    return false;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 31)
        return f32_from_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent)
        return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    if (mantissa == 0)
        return f32_from_bits(sign);
    uint32_t shift = (uint32_t)__builtin_clz(mantissa) - 21; /* brings the leading bit to bit 10 */
    return f32_from_bits(sign | (113 - shift) << 23 | (mantissa << shift & 0x3ff) << 13);
}

/* A magnitude's bits rounded to f16's, exponent and mantissa joined. */
static uint32_t round_to_f16(uint32_t magnitude)
{
    const uint32_t bits = 10;
    const int32_t least_exponent = -14;
    int32_t exponent = (int32_t)(magnitude >> 23) - 127;
    uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    if (magnitude >> 23 == 0)
        return 0; /* f32 subnormals are far below */
    uint32_t drop = 23 - bits, base = 0;
    if (exponent < least_exponent)
        drop += (uint32_t)(least_exponent - exponent);
    else
        base = (uint32_t)(exponent - least_exponent) << bits; /* implicit bit adds the other one */
    if (drop > 25)
        return 0;
    uint32_t kept = mantissa >> drop, rest = mantissa & ((1u << drop) - 1), half = 1u << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1));
    return base + kept;
}

uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    uint32_t h = magnitude >= 0x47800000 ? 0x7c00 : round_to_f16(magnitude);
    return (uint16_t)(sign | h);
}

uint16_t f32_to_f16_sat(float f)
{
    uint16_t h = f32_to_f16(f);
    return (h & 0x7fff) == 0x7c00 ? (uint16_t)(h - 1) : h;
}

float e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, exponent = b >> 3 & 15, mantissa = b & 7;
    if ((b & 0x7f) == 0x7f)
        return f32_from_bits(sign | 0x7fc00000);
    if (exponent)
        return f32_from_bits(sign | (exponent + 120) << 23 | mantissa << 20);
    float magnitude = (float)mantissa * 0x1p-9f;
    return sign ? -magnitude : magnitude;
}
