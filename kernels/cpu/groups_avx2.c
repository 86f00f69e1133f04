/* Dots over groups of 4-bit codes with 256-bit registers. One or two rows of x read the words as
 * they stream by, more in pairs, but rows_avx2.c is for them. */
#include "columns_avx2.h"

/* The low (nibble 0) or high codes of each byte, less the zeros. The low ones of a word's bytes are
 * columns 0, 4, 1, 5 of its eight, the high ones 2, 6, 3, 7. */
INLINE __m256i nibbles(__m256i words, int nibble, __m256i zeros)
{
    __m256i low = nibble ? _mm256_srli_epi16(words, 4) : words;
    return _mm256_sub_epi8(_mm256_and_si256(low, _mm256_set1_epi8(15)), zeros);
}

/* R rows of x over the blocks of a piece, straight from the words. zeros: of a moderate row, zero
 * as bytes. */
INLINE void stream_int4(enum stored_offset offset, bool moderate, size_t R, bool far, const char *w,
                        size_t blocks, const float *x, size_t x_stride, const float *zero,
                        const __m256i zeros[2], float *out)
{
    __m256 acc[2][2];
    for (size_t i = 0; i < 2 * R; i++)
        acc[i / 2][i % 2] = _mm256_setzero_ps();
    for (size_t b = 0; b < blocks; b++) {
        __m256 chain[2][2][2]; /* parity, row, half */
        for (size_t i = 0; i < 2 * R; i++)
            chain[0][i / 2][i % 2] = chain[1][i / 2][i % 2] = _mm256_setzero_ps();
        if (!far)
            prefetch_next_page(w, 256);
#pragma GCC unroll 4
        for (size_t line = 0; line < 4; line++, w += 64, x += 8) {
            __m256i bytes[2][2];
            ask_ahead(far, near_bytes(256), w);
            for (size_t i = 0; i < 4 && moderate; i++)
                bytes[i / 2][i % 2] = nibbles(load(w + 32 * (i / 2)), i % 2, zeros[i / 2]);
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
#pragma GCC unroll 2
                for (size_t half = 0; half < 2; half++) {
                    __m256 code = moderate ? code_of_byte(bytes[half][k / 2 % 2], k % 2 * 2 + k / 4)
                                           : code_int4(offset, load(w + 32 * half), k,
                                                       _mm256_load_ps(zero + 8 * half));
#pragma GCC unroll 2
                    for (size_t r = 0; r < R; r++)
                        chain[k % 2][r][half] = _mm256_fmadd_ps(
                            code, _mm256_broadcast_ss(x + r * x_stride + k), chain[k % 2][r][half]);
                }
        }
        for (size_t i = 0; i < 2 * R; i++)
            acc[i / 2][i % 2] =
                _mm256_add_ps(acc[i / 2][i % 2],
                              sum_of(moderate, chain[0][i / 2][i % 2], chain[1][i / 2][i % 2]));
    }
    for (size_t i = 0; i < 2 * R; i++)
        _mm256_store_ps(out + 8 * i, acc[i / 2][i % 2]);
}

INLINE void stream_row_int4(enum stored_offset offset, bool moderate, const uint32_t *w,
                            size_t blocks, const float *x, const float *zero,
                            const __m256i zeros[2], float *acc)
{
    const char *at = (const char *)w;
    if (prefetch_far())
        stream_int4(offset, moderate, 1, true, at, blocks, x, 0, zero, zeros, acc);
    else
        stream_int4(offset, moderate, 1, false, at, blocks, x, 0, zero, zeros, acc);
}

INLINE void piece_int4(enum stored_offset offset, const uint32_t *w, size_t blocks, const float *x,
                       size_t x_stride, const float *zero, size_t M, float *acc)
{
    for (size_t m = 0; m < M; m += 2, x += 2 * x_stride, acc += 2 * PANEL_ROWS)
        if (M - m > 1)
            stream_int4(offset, false, 2, true, (const char *)w, blocks, x, x_stride, zero, NULL,
                        acc);
        else
            stream_row_int4(offset, false, w, blocks, x, zero, NULL, acc);
}

static __attribute__((noinline)) void piece_any_zero(const uint32_t *w, size_t blocks,
                                                     const float *x, size_t x_stride,
                                                     const float *zero, size_t M, float *acc)
{
    piece_int4(OFFSET_ZERO, w, blocks, x, x_stride, zero, M, acc);
}

/* As a byte each; false: one is beyond 15, which the format knows not, and a code less it may not
 * be a byte. */
INLINE bool zeros_of(const float *zero, __m256i zeros[2])
{
    __m256i beyond = _mm256_setzero_si256();
    for (size_t half = 0; half < 2; half++) {
        __m256i z = _mm256_cvtps_epi32(_mm256_load_ps(zero + 8 * half));
        beyond = _mm256_or_si256(beyond, _mm256_cmpgt_epi32(z, _mm256_set1_epi32(15)));
        z = _mm256_or_si256(z, _mm256_slli_epi32(z, 8));
        zeros[half] = _mm256_or_si256(z, _mm256_slli_epi32(z, 16));
    }
    return _mm256_testz_si256(beyond, beyond);
}

INLINE void piece_int4_moderate(enum stored_offset offset, const uint32_t *w, size_t blocks,
                                const float *x, size_t x_stride, const float *zero, size_t M,
                                float *acc)
{
    __m256i zeros[2] = {_mm256_set1_epi8(8), _mm256_set1_epi8(8)};
    if (offset == OFFSET_ZERO && !zeros_of(zero, zeros))
        piece_any_zero(w, blocks, x, x_stride, zero, M, acc);
    else
        stream_row_int4(offset, true, w, blocks, x, zero, zeros, acc);
}

#include "groups.inc.h"
GROUPS(dot_avx2_int4_none, OFFSET_NONE, piece_int4)
GROUPS(dot_avx2_int4_zero, OFFSET_ZERO, piece_int4)
GROUPS(dot_avx2_int4_min, OFFSET_MINIMUM, piece_int4)
/* clang-format off */
static GROUPS(dot_moderate_int4_none, OFFSET_NONE, piece_int4_moderate)
static GROUPS(dot_moderate_int4_zero, OFFSET_ZERO, piece_int4_moderate)
DOT_ROW_CODES(int4_none)
DOT_ROW_CODES(int4_zero)
    /* clang-format on */
