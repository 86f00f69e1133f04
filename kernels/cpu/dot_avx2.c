/* Dots with 256-bit registers: a column of a panel is two of them, rows 0-7 and 8-15. One or two
 * rows of x read the packed panel as it streams by. More pass in pairs, but rows_avx2.c is for
 * them.
 */
#include "columns_avx2.h"

/* `out` is cleared before, and holds the accumulators then. */
INLINE void begin(size_t M, float *out, size_t out_stride)
{
    for (size_t m = 0; m < M; m++)
        memset(out + m * out_stride, 0, PANEL_ROWS * sizeof *out);
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
                    ask_ahead(far, P == 1 ? near_bytes(block_bytes) : 0, at + line);
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

/* Sums of a leaf, which lie at the top, are folded. */
INLINE void finish(const struct leaf_at *at, size_t M, size_t out_stride)
{
    for (size_t m = 0; m < M; m++)
        put_leaf(at, m * out_stride, at->top + m * out_stride);
}

/* One row: how far ahead is asked depends on whose the processor is. One panel is followed. */
INLINE void stream_row(enum stored_id stored, bool moderate, size_t block_bytes, size_t P,
                       const struct leaf_at *at, size_t panel_bytes, const float *x,
                       struct follower *follower)
{
    const size_t told = FOLLOW_BYTES / block_bytes;
    const char *w = at->w;
    const bool far = prefetch_far();
    x += at->block * BLOCK_COLS;
    for (size_t b = at->leaf->pieces.blocks, n; b; b -= n, x += n * BLOCK_COLS) {
        n = follower && told < b ? told : b;
        if (far)
            stream(stored, moderate, block_bytes, 1, P, true, w, panel_bytes, n, x, 0, at->top,
                   PANEL_ROWS);
        else
            stream(stored, moderate, block_bytes, 1, P, false, w, panel_bytes, n, x, 0, at->top,
                   PANEL_ROWS);
        w += n * block_bytes;
        follow(follower, w);
    }
}

INLINE void dot(enum stored_id stored, size_t block_bytes, DOT_ARGS)
{
    (void)sums;
    EACH_LEAF(at)
    {
        begin(M, at.top, out_stride);
        for (size_t m = 0; m + 1 < M; m += 2)
            stream(stored, false, block_bytes, 2, 1, true, at.w, 0, at.leaf->pieces.blocks,
                   x + m * x_stride + at.block * BLOCK_COLS, x_stride, at.top + m * out_stride,
                   out_stride);
        if (M % 2) {
            struct leaf_at last = at;
            last.top += (M - 1) * out_stride;
            stream_row(stored, false, block_bytes, 1, &last, 0, x + (M - 1) * x_stride,
                       M == 1 ? leaves->follower : NULL);
        }
        finish(&at, M, out_stride);
    }
}

#define DOT(name, stored, bytes)                                                                   \
    void dot_avx2_##name(DOT_ARGS)                                                                 \
    {                                                                                              \
        dot(stored, 512 * bytes, w, leaves, x, x_stride, sums, M, out, out_stride, node);          \
    }
DOT(f32, STORED_F32, 4)
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
                stream_row(stored, false, 1024, 2, &at, panel_bytes, x, NULL);                     \
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
        stream_row(STORED_INT8, true, 512, 1, &at, 0, x, leaves->follower);
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
