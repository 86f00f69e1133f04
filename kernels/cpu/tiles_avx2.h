/* What the dots with 256-bit registers share: a column of a panel is two of them, rows 0-7 and
 * 8-15; tiles of rows over a panel of f32; codes as words' top bytes. */
#pragma once
#include "prefetch.h"
#include "tables.h"

#include <immintrin.h>

enum { TILE_ROWS = 3, STRETCH_BLOCKS = 8, NEAR_BYTES = 4096 };

#define INLINE static inline __attribute__((always_inline))

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

/* out = out + the blocks' sums, for R rows, from a panel of f32: packed so, or widened. */
INLINE void tile(size_t R, const float *w, size_t blocks, const float *x, size_t x_stride,
                 float *out, size_t out_stride)
{
    for (size_t b = 0; b < blocks; b++, x += BLOCK_COLS) {
        __m256 chain[2][TILE_ROWS][2];
        prefetch_next_page((const char *)w, BLOCK_COLS * PANEL_ROWS * sizeof *w);
        for (size_t i = 0; i < 2 * R; i++)
            chain[0][i / 2][i % 2] = chain[1][i / 2][i % 2] = _mm256_setzero_ps();
#pragma GCC unroll 32
        for (size_t k = 0; k < BLOCK_COLS; k++, w += PANEL_ROWS) {
            __m256 low = _mm256_load_ps(w), high = _mm256_load_ps(w + 8);
#pragma GCC unroll 3
            for (size_t r = 0; r < R; r++) {
                __m256 xk = _mm256_broadcast_ss(x + r * x_stride + k);
                chain[k % 2][r][0] = _mm256_fmadd_ps(low, xk, chain[k % 2][r][0]);
                chain[k % 2][r][1] = _mm256_fmadd_ps(high, xk, chain[k % 2][r][1]);
            }
        }
#pragma GCC unroll 6
        for (size_t i = 0; i < 2 * R; i++) {
            float *o = out + i / 2 * out_stride + i % 2 * 8;
            __m256 sum = _mm256_add_ps(chain[0][i / 2][i % 2], chain[1][i / 2][i % 2]);
            _mm256_storeu_ps(o, _mm256_add_ps(_mm256_loadu_ps(o), sum));
        }
    }
}

/* Three at a time, or two: one row alone has too few chains to fill the units. */
static void tiles(const float *w, size_t blocks, const float *x, size_t x_stride, size_t M,
                  float *out, size_t out_stride)
{
    for (size_t m = 0, n; m < M; m += n) {
        const float *at = x + m * x_stride;
        n = M - m == 4 || M - m == 2 ? 2 : M - m == 1 ? 1 : 3;
        if (n == 3)
            tile(3, w, blocks, at, x_stride, out + m * out_stride, out_stride);
        else if (n == 2)
            tile(2, w, blocks, at, x_stride, out + m * out_stride, out_stride);
        else
            tile(1, w, blocks, at, x_stride, out + m * out_stride, out_stride);
    }
}

/* `out` is cleared before, and holds the accumulators then. */
INLINE void begin(size_t M, float *out, size_t out_stride)
{
    for (size_t m = 0; m < M; m++)
        memset(out + m * out_stride, 0, PANEL_ROWS * sizeof *out);
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
