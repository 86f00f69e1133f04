/* What the dots with 256-bit registers share: columns of a panel widened to f32, two registers
 * each, rows 0-7 and 8-15. */
#pragma once
#include "prefetch.h"
#include "tables.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* How far ahead weights of one panel are asked for, by the bytes of a block; f32 is read as fast as
 * memory without. On Zen 3 the first step of bf16 takes 1.2 times a plain one with six KiB, 1.5
 * times with four or eight. */
INLINE size_t near_bytes(size_t block_bytes)
{
    return block_bytes == 2048 ? 0 : 6144;
}

INLINE __m256i load(const char *w)
{
    return _mm256_load_si256((const __m256i *)w);
}

/* Each code as the top byte of a word, 2^24 times what it is. */
INLINE __m256 code_of_byte(__m256i codes, int byte)
{
    enum { NONE = 0x80 };
#define TO_TOP(b)                                                                                  \
    NONE, NONE, NONE, b, NONE, NONE, NONE, 4 + b, NONE, NONE, NONE, 8 + b, NONE, NONE, NONE, 12 + b
    static const _Alignas(32) uint8_t to_top[3][32] = {
        {TO_TOP(0), TO_TOP(0)}, {TO_TOP(1), TO_TOP(1)}, {TO_TOP(2), TO_TOP(2)}};
#undef TO_TOP
    return _mm256_cvtepi32_ps(byte < 3
                                  ? _mm256_shuffle_epi8(codes, load((const char *)to_top[byte]))
                                  : _mm256_and_si256(codes, _mm256_set1_epi32((int)0xff000000)));
}

/* A block's sum of its chains. */
INLINE __m256 sum_of(bool moderate, __m256 even, __m256 odd)
{
    __m256 sum = _mm256_add_ps(even, odd);
    return moderate ? _mm256_mul_ps(sum, _mm256_set1_ps(0x1p-24f)) : sum;
}

INLINE __m256 f32_of(__m256i bits)
{
    return _mm256_castsi256_ps(bits);
}

/* w is at rows 0-7, or 32 bytes on at rows 8-15. */
INLINE void columns_f32(const char *w, __m256 v[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = f32_of(load(w + 64 * i));
}

INLINE void columns_bf16(const char *w, __m256 v[4])
{
    for (int i = 0; i < 2; i++) {
        __m256i pair = load(w + 64 * i);
        v[2 * i] = f32_of(_mm256_slli_epi32(pair, 16));
        v[2 * i + 1] = f32_of(_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
    }
}

/* The conversion widens subnormal halves whatever MXCSR says. */
INLINE void columns_f16(const char *w, __m256 v[4])
{
    for (int i = 0; i < 2; i++) { /* lanes of a and b: row, then column */
        __m256 a = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(w + 64 * i)));
        __m256 b = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(w + 64 * i + 16)));
        __m256 low = _mm256_shuffle_ps(a, b, 0x88), high = _mm256_shuffle_ps(a, b, 0xdd);
        v[2 * i] = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(low), 0xd8));
        v[2 * i + 1] = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(high), 0xd8));
    }
}

INLINE void columns_i8_moderate(const char *w, __m256 v[4])
{
    __m256i codes = load(w);
    for (int i = 0; i < 4; i++)
        v[i] = code_of_byte(codes, i);
}

INLINE void columns_i8(const char *w, __m256 v[4])
{
    __m256i codes = load(w);
    for (int i = 0; i < 4; i++) {
        __m256i top = i < 3 ? _mm256_slli_epi32(codes, 24 - 8 * i) : codes;
        v[i] = _mm256_cvtepi32_ps(_mm256_srai_epi32(top, 24));
    }
}

/* Codes as bf16, two at a time: sign, then exponent and mantissa moved right by four, the
 * exponent's bias changed from 7 to 127. Codes with exponent 0 come out as 2^-7 (1 + m/8) in place
 * of 2^-6 m/8; they are rare and mended apart. (-0 becomes +0 there: no dot can tell, since it ends
 * with + 0.0.) */
INLINE void columns_e4m3(const char *w, __m256 v[4])
{
    const __m256i keep = _mm256_set1_epi16((short)0x87f0), bias = _mm256_set1_epi16(120 << 7);
    const __m256i upper = _mm256_set1_epi32((int)0xffff0000), exponent = _mm256_set1_epi8(0x78);
    __m256i codes = load(w);
    __m256i odd = _mm256_srai_epi16(codes, 4);
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 4);
    odd = _mm256_add_epi16(_mm256_and_si256(odd, keep), bias);
    even = _mm256_add_epi16(_mm256_and_si256(even, keep), bias);
    v[0] = f32_of(_mm256_slli_epi32(even, 16));
    v[1] = f32_of(_mm256_slli_epi32(odd, 16));
    v[2] = f32_of(_mm256_and_si256(even, upper));
    v[3] = f32_of(_mm256_and_si256(odd, upper));
    __m256i subnormals =
        _mm256_cmpeq_epi8(_mm256_and_si256(codes, exponent), _mm256_setzero_si256());
    if (__builtin_expect(_mm256_movemask_epi8(subnormals) != 0, 0)) {
        const __m256 two_to_minus_6 = _mm256_set1_ps(0x1p-6f), sign = _mm256_set1_ps(-0.0f);
        for (int i = 0; i < 4; i++) {
            __m256 subnormal =
                _mm256_cmp_ps(_mm256_andnot_ps(sign, v[i]), two_to_minus_6, _CMP_LT_OQ);
            __m256 one = _mm256_or_ps(two_to_minus_6, _mm256_and_ps(v[i], sign));
            v[i] = _mm256_blendv_ps(v[i], _mm256_sub_ps(_mm256_add_ps(v[i], v[i]), one), subnormal);
        }
    }
}

/* Four neighbouring columns. */
INLINE void columns(enum stored_id stored, bool moderate, const char *w, __m256 v[4])
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
        moderate ? columns_i8_moderate(w, v) : columns_i8(w, v);
        break;
    default:
        columns_e4m3(w, v);
    }
}

/* Column k of the eight in these words, less its zero. */
INLINE __m256 code_int4(enum stored_offset offset, __m256i words, int k, __m256 zero)
{
    __m256i code =
        _mm256_and_si256(_mm256_srli_epi32(words, k % 2 * 16 + k / 2 * 4), _mm256_set1_epi32(15));
    return offset == OFFSET_MINIMUM ? _mm256_cvtepi32_ps(code)
                                    : _mm256_sub_ps(_mm256_cvtepi32_ps(code), zero);
}

/* One row: codes keep one panel busy; two at once cost registers. */
#define DOT_ROW_CODES(name)                                                                        \
    void dot_row_avx2_##name(DOT_ROW_ARGS)                                                         \
    {                                                                                              \
        const char *at = w;                                                                        \
        for (size_t p = 0; p < panels; p++, at += panel_bytes, out += PANEL_ROWS)                  \
            (moderate ? dot_moderate_##name : dot_avx2_##name)(at, leaves, x, 0, sums, 1, out,     \
                                                               PANEL_ROWS, node);                  \
    }
