/* Element types, the arithmetic they imply, and layouts. Numbers are on disk: never reused. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_NONE = 0, DTYPE_F32 = 1, DTYPE_F16 = 2, DTYPE_BF16 = 3, DTYPE_COUNT };

/* How a tensor's values lie in a rank file; docs/format.md section 5 is normative. */
enum layout {
    LAYOUT_NONE = 0,
    LAYOUT_VECTOR_F32 = 1, /* n values as f32, whatever the logical dtype */
    LAYOUT_PANEL16 = 2,    /* panels of 16 rows, as the stored format says (stored.h) */
};

size_t dtype_bytes(enum dtype dtype);
const char *dtype_name(enum dtype dtype); /* "f32", "bf16", ... */
bool dtype_from_name(const char *name, enum dtype *out);

/* ---- conversions, exact or round to nearest even; none depends on the floating-point mode ---- */

static inline float f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float bf16_to_f32(uint16_t b)
{
    return f32_from_bits((uint32_t)b << 16);
}

/* Finite values only are promised; a NaN stays one. */
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h);     /* subnormals widened exactly */
uint16_t f32_to_f16(float f);     /* subnormals kept; beyond 65519.99 gives infinity */
uint16_t f32_to_f16_sat(float f); /* beyond 65504 saturates: the KV cache's conversion */
float e4m3_to_f32(uint8_t b);     /* FP8 E4M3: no infinities, 0x7f and 0xff NaN */
