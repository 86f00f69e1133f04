/* The loops over many values of conversions: plain C, compiled for each instruction set. All give
 * the same bits, in any floating-point mode, but for what a NaN holds. Bytes may have any
 * alignment. */
#pragma once
#include "cpu_set.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Constants of 4-bit codes as numbers: value = (code - zero) * scale + minimum. */
struct affine {
    float scale, zero, minimum;
};
struct bounds {
    float lo, hi;
};

struct lanes {
    const char *name;
    void (*widen_bf16)(const unsigned char *bytes, size_t n, float *out);
    void (*widen_f16)(const unsigned char *bytes, size_t n, float *out);
    /* To nearest even; false where a value left the range. */
    bool (*narrow_bf16)(const float *values, size_t n, unsigned char *out);
    bool (*narrow_f16)(const float *values, size_t n, unsigned char *out);
    /* No element has all bits of `exponent`. */
    bool (*finite16)(const unsigned char *bytes, size_t n, uint16_t exponent);
    bool (*finite32)(const unsigned char *bytes, size_t n, uint32_t exponent);
    float (*absmax)(const float *values, size_t n);         /* of finite values; 0 of none */
    struct bounds (*bounds)(const float *values, size_t n); /* of n > 0 finite values */
    /* A code a byte: value / scale, to nearest even, clamped to what the format has. */
    void (*int8)(const float *values, size_t n, float scale, unsigned char *codes);
    void (*fp8)(const float *values, size_t n, float scale, unsigned char *codes);
    /* Sum over the values of (value / scale - its E4M3 value)^2, in 16 chains. */
    double (*fp8_errors)(const float *values, size_t n, float scale);
    /* Eight codes a word, a.scale > 0 or < 0; the last word padded with zero bits. */
    void (*int4)(const float *values, size_t n, struct affine a, unsigned char *words);
};
extern const struct lanes lanes_plain, lanes_avx2, lanes_avx512;

extern const struct lanes *const lanes_sets[CPU_SETS];
const struct lanes *lanes_best(void);
