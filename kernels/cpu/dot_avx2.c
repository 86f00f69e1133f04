/* Dots with 256-bit registers: a column of a panel is two of them, rows 0-7 and 8-15.
 *
 * One or two rows of x read the packed panel as it streams by; of values that are easily decoded
 * two more do, from the cache. More rows would decode it again and again, so a stretch of it is
 * widened to f32 in the first-level cache once, and three rows at a time read that. Sums of a
 * stretch go on in `out`. None of it changes a bit.
 */
#include "tiles_avx2.h"

INLINE __m256 f32_of(__m256i bits)
{
    return _mm256_castsi256_ps(bits);
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

/* Four neighbouring columns, w being at the first of them: rows 0-7, or 8-15 when w is 32 bytes on.
 */
INLINE void columns(enum stored_id stored, bool moderate, const char *w, __m256 v[4])
{
    switch (stored) {
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

/* out = out + the blocks' sums, straight from packed panels: R rows of x and one panel, or one row
 * and P panels, panel_bytes apart, 16 results behind 16. */
INLINE void stream(enum stored_id stored, bool moderate, size_t block_bytes, size_t R, size_t P,
                   bool far, const char *w, size_t panel_bytes, size_t blocks, const float *x,
                   size_t x_stride, float *out, size_t out_stride)
{
    for (size_t b = 0; b < blocks; b++, x += BLOCK_COLS) {
        __m256 chain[2][2][2], v[4]; /* parity, row or panel, half */
        for (size_t p = 0; p < P && !far; p++)
            prefetch_next_page(w + p * panel_bytes, block_bytes);
        for (size_t i = 0; i < 2 * R * P; i++)
            chain[0][i / 2][i % 2] = chain[1][i / 2][i % 2] = _mm256_setzero_ps();
#pragma GCC unroll 8
        for (size_t k = 0; k < BLOCK_COLS; k += 4, w += block_bytes / 8)
#pragma GCC unroll 2
            for (size_t p = 0; p < P; p++) {
                const char *at = w + p * panel_bytes;
                for (size_t line = 0; line < block_bytes / 8; line += 64)
                    ask_ahead(far, block_bytes == BLOCK_COLS * PANEL_ROWS ? NEAR_BYTES : 0,
                              at + line);
#pragma GCC unroll 2
                for (size_t half = 0; half < 2; half++) {
                    columns(stored, moderate, at + 32 * half, v);
#pragma GCC unroll 4
                    for (size_t i = 0; i < 4; i++)
#pragma GCC unroll 2
                        for (size_t r = 0; r < R; r++)
                            chain[i % 2][p + r][half] =
                                _mm256_fmadd_ps(v[i], _mm256_broadcast_ss(x + r * x_stride + k + i),
                                                chain[i % 2][p + r][half]);
                }
            }
#pragma GCC unroll 4
        for (size_t i = 0; i < 2 * R * P; i++) {
            float *o = out + i / 2 * out_stride + i % 2 * 8;
            __m256 sum = sum_of(moderate, chain[0][i / 2][i % 2], chain[1][i / 2][i % 2]);
            _mm256_storeu_ps(o, _mm256_add_ps(_mm256_loadu_ps(o), sum));
        }
    }
}

INLINE void widen(enum stored_id stored, size_t block_bytes, const char *w, size_t blocks,
                  float *wide)
{
    __m256 v[4];
    for (size_t q = 0; q < blocks * 8; q++, w += block_bytes / 8, wide += 4 * PANEL_ROWS) {
        for (size_t line = 0; line < block_bytes / 8; line += 64)
            ask_ahead(true, 0, w + line);
        for (size_t half = 0; half < 2; half++) {
            columns(stored, false, w + 32 * half, v);
            for (size_t i = 0; i < 4; i++)
                _mm256_store_ps(wide + i * PANEL_ROWS + half * 8, v[i]);
        }
    }
}

/* Sums of a leaf, which lie at the top, are folded. */
INLINE void finish(const struct leaf_at *at, size_t M, size_t out_stride)
{
    for (size_t m = 0; m < M; m++)
        put_leaf(at, m * out_stride, at->top + m * out_stride);
}

/* One row: how far ahead is asked depends on whose the processor is. */
INLINE void stream_row(enum stored_id stored, bool moderate, size_t block_bytes, size_t P,
                       const char *w, size_t panel_bytes, size_t blocks, const float *x, float *out)
{
    if (prefetch_far())
        stream(stored, moderate, block_bytes, 1, P, true, w, panel_bytes, blocks, x, 0, out,
               PANEL_ROWS);
    else
        stream(stored, moderate, block_bytes, 1, P, false, w, panel_bytes, blocks, x, 0, out,
               PANEL_ROWS);
}

INLINE void leaf_dot(enum stored_id stored, size_t block_bytes, const char *w, size_t blocks,
                     const float *x, size_t x_stride, size_t M, float *out, size_t out_stride)
{
    size_t few = stored == STORED_BF16 || stored == STORED_INT8 ? 4 : 2; /* easily decoded again */
    if (M <= few) {
        for (size_t m = 0; m < M; m += 2) {
            const float *at = x + m * x_stride;
            float *to = out + m * out_stride;
            if (M - m > 1)
                stream(stored, false, block_bytes, 2, 1, true, w, 0, blocks, at, x_stride, to,
                       out_stride);
            else
                stream_row(stored, false, block_bytes, 1, w, 0, blocks, at, to);
        }
    } else {
        _Alignas(32) float wide[STRETCH_BLOCKS * BLOCK_COLS * PANEL_ROWS];
        for (size_t b = 0, n; b < blocks; b += n) {
            n = blocks - b < STRETCH_BLOCKS ? blocks - b : STRETCH_BLOCKS;
            widen(stored, block_bytes, w + b * block_bytes, n, wide);
            tiles(wide, n, x + b * BLOCK_COLS, x_stride, M, out, out_stride);
        }
    }
}

INLINE void dot(enum stored_id stored, size_t block_bytes, DOT_ARGS)
{
    (void)sums;
    EACH_LEAF(at)
    {
        begin(M, at.top, out_stride);
        leaf_dot(stored, block_bytes, at.w, at.leaf->pieces.blocks, x + at.block * BLOCK_COLS,
                 x_stride, M, at.top, out_stride);
        finish(&at, M, out_stride);
    }
}

void dot_avx2_f32(DOT_ARGS)
{
    (void)sums;
    EACH_LEAF(at)
    {
        begin(M, at.top, out_stride);
        tiles((const float *)(const void *)at.w, at.leaf->pieces.blocks, x + at.block * BLOCK_COLS,
              x_stride, M, at.top, out_stride);
        finish(&at, M, out_stride);
    }
}

#define DOT(name, stored, bytes)                                                                   \
    void dot_avx2_##name(DOT_ARGS)                                                                 \
    {                                                                                              \
        dot(stored, 512 * bytes, w, leaves, x, x_stride, sums, M, out, out_stride, node);          \
    }
DOT(f16, STORED_F16, 2)
DOT(bf16, STORED_BF16, 2)
DOT(i8, STORED_INT8, 1)
DOT(e4m3, STORED_FP8, 1)

/* ---- one row ---- */

/* Two panels at once are two streams of memory, and chains enough to hide an FMA's latency. */
#define DOT_ROW_PAIRS(name, stored)                                                                \
    void dot_row_avx2_##name(DOT_ROW_ARGS)                                                         \
    {                                                                                              \
        (void)moderate;                                                                            \
        for (; panels > 1; panels -= 2, out += 2 * PANEL_ROWS) {                                   \
            EACH_LEAF(at)                                                                          \
            {                                                                                      \
                begin(2, at.top, PANEL_ROWS);                                                      \
                stream_row(stored, false, 1024, 2, at.w, panel_bytes, at.leaf->pieces.blocks,      \
                           x + at.block * BLOCK_COLS, at.top);                                     \
                finish(&at, 2, PANEL_ROWS);                                                        \
            }                                                                                      \
            w = (const char *)w + 2 * panel_bytes;                                                 \
        }                                                                                          \
        if (panels)                                                                                \
            dot_avx2_##name(w, leaves, x, 0, sums, 1, out, PANEL_ROWS, node);                      \
    }
DOT_ROW_PAIRS(f16, STORED_F16)
DOT_ROW_PAIRS(bf16, STORED_BF16)

static void dot_moderate_i8(DOT_ARGS)
{
    (void)sums;
    (void)x_stride;
    EACH_LEAF(at)
    {
        begin(M, at.top, out_stride);
        stream_row(STORED_INT8, true, 512, 1, at.w, 0, at.leaf->pieces.blocks,
                   x + at.block * BLOCK_COLS, at.top);
        finish(&at, M, out_stride);
    }
}
DOT_ROW_CODES(i8)

bool moderate_avx2(const float *x, size_t n)
{
    const uint32_t least = 27u << 24, most = 187u << 24; /* 2^-100, 2^60, the sign shifted out */
    uint32_t beyond = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = f32_bits(x[i]) << 1;
        beyond |= (bits != 0) & ((bits < least) | (bits > most));
    }
    return !beyond;
}
