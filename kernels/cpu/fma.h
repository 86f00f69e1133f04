/* fma(a, b, c) of f32: a*b+c with one rounding, in every build with the same bits.
 *
 * Without FMA hardware: the product is exact in binary64, the sum is formed there with its rounding
 * error (TwoSum) and rounded to odd, so that the conversion to f32 rounds as if from the exact
 * value; the conversion also flushes as the hardware's fma does, since tininess is decided after
 * rounding. Subnormal operands are zeros (DAZ) in the widening conversions already.
 */
#pragma once
#include <stdint.h>
#include <string.h>

static inline float fma_soft(float a, float b, float c)
{
    double p = (double)a * b, d = c;
    double sum = p + d, from_d = sum - p;
    double error = (p - (sum - from_d)) + (d - from_d);
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    /* inexact and even: step to the odd neighbour on the error's side */
    int64_t away = (error > 0) == (sum > 0) ? 1 : -1;
    bits += error != 0 && !(bits & 1) ? away : 0;
    memcpy(&sum, &bits, sizeof bits);
    return (float)sum;
}

static inline float fma_f32(float a, float b, float c)
{
#ifdef __FMA__
    return __builtin_fmaf(a, b, c);
#else
    return fma_soft(a, b, c);
#endif
}
