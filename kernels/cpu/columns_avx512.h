/* What the dots with 512-bit registers share: columns of a panel widened to f32, a register each,
 * its 16 rows the lanes. */
#pragma once
#include "tables.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* How far ahead weights are asked for, by the bytes of a block. On Zen 5 a step of bf16 comes to
 * 0.88 of a read with 2 KiB, 0.93 with four, 0.98 with seven, 0.93 with twelve; int8 to 0.89 with
 * five, 0.95 with nine, 0.94 with ten. */
INLINE size_t near_bytes(size_t block_bytes)
{
    return block_bytes == 2048 ? 0 : block_bytes == 1024 ? 7168 : 9216;
}

INLINE __m512 f32_of(__m512i bits)
{
    return _mm512_castsi512_ps(bits);
}

/* put_leaf of what lies in a register. */
INLINE void put_leaf_sums(const struct leaf_at *at, size_t m_at, __m512 total)
{
    float *to = at->top + m_at;
    total = _mm512_add_ps(total, _mm512_setzero_ps());
    for (unsigned i = *at->merges; i; i--) {
        to -= at->node;
        total = _mm512_add_ps(_mm512_loadu_ps(to), total);
    }
    _mm512_storeu_ps(to, total);
}

INLINE void columns_f32(const char *w, __m512 v[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_load_ps(w + 64 * i);
}

INLINE void columns_bf16(const char *w, __m512 v[4])
{
    for (int i = 0; i < 2; i++) {
        __m512i pair = _mm512_load_si512(w + 64 * i);
        v[2 * i] = f32_of(_mm512_slli_epi32(pair, 16));
        v[2 * i + 1] = f32_of(_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000)));
    }
}

/* The conversion widens subnormal halves whatever MXCSR says. */
INLINE void columns_f16(const char *w, __m512 v[4])
{
    const __m512i low =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i high = _mm512_or_si512(low, _mm512_set1_epi32(1));
    for (int i = 0; i < 2; i++) { /* lanes of a and b: row, then column */
        __m512 a = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(w + 64 * i)));
        __m512 b = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(w + 64 * i + 32)));
        v[2 * i] = _mm512_permutex2var_ps(a, low, b);
        v[2 * i + 1] = _mm512_permutex2var_ps(a, high, b);
    }
}

/* Codes as mantissa bits: with the sign bit flipped a code is code + 128 >= 0; in the low byte of
 * 2^23's mantissa it counts ones, in the second byte of 2^15's too. One subtraction leaves the
 * code. */
INLINE void columns_i8(const char *w, __m512 v[4])
{
    enum { MASK_XOR = 0x6a }; /* (a & b) ^ c */
    const __m512i byte0 = _mm512_set1_epi32(0xff), byte1 = _mm512_set1_epi32(0xff00);
    const __m512i bits0 = _mm512_set1_epi32(0x4b000080), bits1 = _mm512_set1_epi32(0x47008000);
    const __m512 bias0 = _mm512_set1_ps(0x1p23f + 128), bias1 = _mm512_set1_ps(0x1p15f + 128);
    __m512i codes = _mm512_load_si512(w), upper = _mm512_srli_epi32(codes, 16);
    v[0] = f32_of(_mm512_ternarylogic_epi32(codes, byte0, bits0, MASK_XOR));
    v[1] = f32_of(_mm512_ternarylogic_epi32(codes, byte1, bits1, MASK_XOR));
    v[2] = f32_of(_mm512_ternarylogic_epi32(upper, byte0, bits0, MASK_XOR));
    v[3] = f32_of(_mm512_ternarylogic_epi32(upper, byte1, bits1, MASK_XOR));
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_sub_ps(v[i], i % 2 ? bias1 : bias0);
}

/* Codes as bf16, two at a time: sign, then exponent and mantissa moved right by four, the
 * exponent's bias changed from 7 to 127. Codes with exponent 0 come out as 2^-7 (1 + m/8) in place
 * of 2^-6 m/8; they are rare and mended apart. (-0 becomes +0 there: no dot can tell, since it ends
 * with + 0.0.) */
INLINE void columns_e4m3(const char *w, __m512 v[4])
{
    const __m512i keep = _mm512_set1_epi16((short)0x87f0), bias = _mm512_set1_epi16(120 << 7);
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000);
    __m512i codes = _mm512_load_si512(w);
    __m512i odd = _mm512_srai_epi16(codes, 4);
    __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 4);
    odd = _mm512_add_epi16(_mm512_and_si512(odd, keep), bias);
    even = _mm512_add_epi16(_mm512_and_si512(even, keep), bias);
    v[0] = f32_of(_mm512_slli_epi32(even, 16));
    v[1] = f32_of(_mm512_slli_epi32(odd, 16));
    v[2] = f32_of(_mm512_and_si512(even, upper));
    v[3] = f32_of(_mm512_and_si512(odd, upper));
    if (__builtin_expect(_mm512_testn_epi8_mask(codes, _mm512_set1_epi8(0x78)) != 0, 0)) {
        const __m512 two_to_minus_6 = _mm512_set1_ps(0x1p-6f), sign = _mm512_set1_ps(-0.0f);
        for (int i = 0; i < 4; i++) {
            __mmask16 subnormal =
                _mm512_cmp_ps_mask(_mm512_abs_ps(v[i]), two_to_minus_6, _CMP_LT_OQ);
            __m512 one = _mm512_or_ps(two_to_minus_6, _mm512_and_ps(v[i], sign));
            v[i] = _mm512_mask_sub_ps(v[i], subnormal, _mm512_add_ps(v[i], v[i]), one);
        }
    }
}

/* Four neighbouring columns of a panel, widened; w is at the first of them. */
INLINE void columns(enum stored_id stored, const char *w, __m512 v[4])
{
    switch (stored) {
    case STORED_F32:
        columns_f32(w, v);
        break;
    case STORED_F16:
        columns_f16(w, v);
        break;
    case STORED_BF16:
        columns_bf16(w, v);
        break;
    case STORED_INT8:
        columns_i8(w, v);
        break;
    default:
        columns_e4m3(w, v);
    }
}

/* Four bits of each word, from bit `at` on, less the zero. Where all rows have one zero they are
 * looked up in `values`. Else they stay where they are and become mantissa bits of a number whose
 * last place is their unit, a column of the lower half of the words as it is, one of the upper half
 * moved down; bias takes that number and the zero away. */
INLINE __m512 code_int4(enum stored_offset offset, __m512i low, __m512i high, unsigned at,
                        __m512 values, const __m512 *bias)
{
    enum { AND_OR = 0xea };
    if (offset != OFFSET_ZERO) /* the lookup has no eyes for what is above four bits */
        return _mm512_permutexvar_ps(at ? _mm512_srli_epi32(low, at) : low, values);
    const __m512i mask = _mm512_set1_epi32(15 << at % 16),
                  magic = _mm512_set1_epi32((int)(150 - at % 16) << 23);
    return _mm512_sub_ps(
        f32_of(_mm512_ternarylogic_epi32(at < 16 ? low : high, mask, magic, AND_OR)),
        bias[at % 16 / 4]);
}

/* What the codes of a row whose zero is the format's stand for. */
INLINE __m512 values_int4(enum stored_offset offset)
{
    const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_sub_ps(codes, _mm512_set1_ps(offset == OFFSET_NONE ? 8 : 0));
}

INLINE void bias_int4(const float *zero, __m512 bias[4])
{
    for (int q = 0; q < 4; q++)
        bias[q] = _mm512_add_ps(_mm512_load_ps(zero), _mm512_set1_ps((float)(1 << (23 - 4 * q))));
}
