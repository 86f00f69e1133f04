/* Dots with 256-bit registers: a column of a panel is two of them, rows 0-7 and 8-15.
 *
 * A tile is R rows of x against the whole panel: 4R chains in registers, the accumulators in memory,
 * since sixteen registers hold no more. R changes no bit.
 */
#include "tables.h"

#include <immintrin.h>

enum { TILE_ROWS = 3, PREFETCH_BYTES = 4096 };

#define INLINE static inline __attribute__((always_inline))

INLINE __m256 f32_of(__m256i bits)
{
    return _mm256_castsi256_ps(bits);
}

INLINE __m256i load(const char *w)
{
    return _mm256_load_si256((const __m256i *)w);
}

/* Of a 16-bit column pair or 8-bit column quad: column i of rows 0-7 (w) or 8-15 (w + 32). */

INLINE __m256 column_bf16(__m256i pair, size_t i)
{
    return f32_of(i ? _mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000))
                    : _mm256_slli_epi32(pair, 16));
}

/* The conversion widens subnormal halves whatever MXCSR says. */
INLINE __m256 column_f16(__m256i pair, size_t i)
{
    __m256i wide = i ? _mm256_srli_epi32(pair, 16) : _mm256_and_si256(pair, _mm256_set1_epi32(0xffff));
    __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(wide, wide), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
}

INLINE __m256 column_i8(__m256i quad, size_t i)
{
    __m256i top = i < 3 ? _mm256_slli_epi32(quad, 24 - 8 * (int)i) : quad;
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(top, 24));
}

/* Sign, exponent and mantissa to their places, the bias from 7 to 127: 2^(e-7) (1 + m/8). With e = 0
 * the value is 2^-6 m/8 instead: twice that number less 2^-6. (-0 becomes +0: no dot can tell, since it ends
 * with + 0.0.) */
INLINE __m256 column_e4m3(__m256i quad, size_t i)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), two_to_minus_6 = _mm256_set1_ps(0x1p-6f);
    __m256i top = i < 3 ? _mm256_slli_epi32(quad, 24 - 8 * (int)i) : quad;
    __m256i bits = _mm256_and_si256(_mm256_srai_epi32(top, 4), _mm256_set1_epi32((int)0x87f00000));
    __m256 v = f32_of(_mm256_add_epi32(bits, _mm256_set1_epi32(120 << 23)));
    __m256 subnormal = _mm256_cmp_ps(_mm256_andnot_ps(sign, v), two_to_minus_6, _CMP_LT_OQ);
    __m256 one = _mm256_or_ps(two_to_minus_6, _mm256_and_ps(v, sign));
    return _mm256_blendv_ps(v, _mm256_sub_ps(_mm256_add_ps(v, v), one), subnormal);
}

/* Column k (of the block at w), rows 8 * half .. 8 * half + 7, widened. */
INLINE __m256 column(enum dtype dtype, const char *w, size_t k, size_t half)
{
    switch (dtype) {
    case DTYPE_F32:
        return _mm256_load_ps((const float *)w + k * PANEL_ROWS + half * 8);
    case DTYPE_F16:
        return column_f16(load(w + k / 2 * 64 + half * 32), k % 2);
    case DTYPE_BF16:
        return column_bf16(load(w + k / 2 * 64 + half * 32), k % 2);
    case DTYPE_I8:
        return column_i8(load(w + k / 4 * 64 + half * 32), k % 4);
    default:
        return column_e4m3(load(w + k / 4 * 64 + half * 32), k % 4);
    }
}

INLINE void tile(enum dtype dtype, size_t element_bytes, size_t R, const char *w, size_t blocks,
                 const float *x, size_t x_stride, float *out, size_t out_stride)
{
    __m256 acc[TILE_ROWS][2], chain[2][TILE_ROWS][2];
    for (size_t r = 0; r < R; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (size_t b = 0; b < blocks; b++, w += 512 * element_bytes, x += BLOCK_COLS) {
        for (size_t r = 0; r < R; r++)
            for (size_t half = 0; half < 2; half++)
                chain[0][r][half] = chain[1][r][half] = _mm256_setzero_ps();
#pragma GCC unroll 32
        for (size_t k = 0; k < BLOCK_COLS; k++) {
            if (R == 1 && k * element_bytes % 4 == 0)
                _mm_prefetch(w + k * element_bytes * 16 + PREFETCH_BYTES, _MM_HINT_T0);
            __m256 low = column(dtype, w, k, 0), high = column(dtype, w, k, 1);
#pragma GCC unroll 3
            for (size_t r = 0; r < R; r++) {
                __m256 xk = _mm256_broadcast_ss(x + r * x_stride + k);
                chain[k % 2][r][0] = _mm256_fmadd_ps(low, xk, chain[k % 2][r][0]);
                chain[k % 2][r][1] = _mm256_fmadd_ps(high, xk, chain[k % 2][r][1]);
            }
        }
        for (size_t r = 0; r < R; r++)
            for (size_t half = 0; half < 2; half++)
                acc[r][half] = _mm256_add_ps(acc[r][half],
                                             _mm256_add_ps(chain[0][r][half], chain[1][r][half]));
    }
    for (size_t r = 0; r < R; r++)
        for (size_t half = 0; half < 2; half++)
            _mm256_storeu_ps(out + r * out_stride + half * 8,
                             _mm256_add_ps(acc[r][half], _mm256_setzero_ps()));
}

INLINE void dot(enum dtype dtype, size_t element_bytes, DOT_ARGS)
{
    size_t tiles = (M + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t t = 0, m = 0; t < tiles; t++) {
        size_t rows = (M - m) / (tiles - t);
        const float *xm = x + m * x_stride;
        float *om = out + m * out_stride;
        if (rows == 1)
            tile(dtype, element_bytes, 1, w, blocks, xm, x_stride, om, out_stride);
        else if (rows == 2)
            tile(dtype, element_bytes, 2, w, blocks, xm, x_stride, om, out_stride);
        else
            tile(dtype, element_bytes, 3, w, blocks, xm, x_stride, om, out_stride);
        m += rows;
    }
}

#define DOT(name, dtype, bytes)                                                                    \
    void dot_avx2_##name(DOT_ARGS)                                                                 \
    {                                                                                              \
        dot(dtype, bytes, w, blocks, x, x_stride, M, out, out_stride);                             \
    }
DOT(f32, DTYPE_F32, 4)
DOT(f16, DTYPE_F16, 2)
DOT(bf16, DTYPE_BF16, 2)
DOT(i8, DTYPE_I8, 1)
DOT(e4m3, DTYPE_E4M3, 1)
