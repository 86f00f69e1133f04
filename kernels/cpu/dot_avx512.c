/* Dots with 512-bit registers: a register is one column of a panel, its 16 rows the lanes.
 *
 * A tile is R rows of x against the whole panel: 2R chains and R accumulators in registers, x by
 * embedded broadcast. With one row the weights stream by at nearly memory speed; with more, the
 * panel is read again from the second-level cache for every tile. R changes no bit.
 */
#include "columns_avx512.h"
#include "fma.h"
#include "prefetch.h"

enum { TILE_ROWS = 8 };

/* One block of a tile. */
INLINE void step(enum stored_id stored, size_t block_bytes, size_t R, bool far, const char *w,
                 const float *x, size_t x_stride, __m512 acc[TILE_ROWS])
{
    __m512 even[TILE_ROWS], odd[TILE_ROWS], v[4];
    const float *row[TILE_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
        even[r] = odd[r] = _mm512_setzero_ps();
        row[r] = x + r * x_stride;
        __asm__("" : "+r"(row[r])); /* one address register a row; GCC would keep one an element */
    }
#pragma GCC unroll 8
    for (size_t k = 0; k < BLOCK_COLS; k += 4, w += block_bytes / 8) {
        for (size_t line = 0; line < block_bytes / 8; line += 64)
            ask_ahead(far, near_bytes(block_bytes), w + line);
        columns(stored, w, v);
#pragma GCC unroll 2
        for (size_t i = 0; i < 4; i += 2)
#pragma GCC unroll 8
            for (size_t r = 0; r < R; r++) {
                even[r] = _mm512_fmadd_ps(v[i], _mm512_set1_ps(row[r][k + i]), even[r]);
                odd[r] = _mm512_fmadd_ps(v[i + 1], _mm512_set1_ps(row[r][k + i + 1]), odd[r]);
            }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++)
        acc[r] = _mm512_add_ps(acc[r], _mm512_add_ps(even[r], odd[r]));
}

/* R rows of x from the m-th on, and a leaf. */
INLINE void tile(enum stored_id stored, size_t block_bytes, size_t R, bool far,
                 const struct leaf_at *at, size_t m, const float *x, size_t x_stride,
                 size_t out_stride, struct follower *follower)
{
    __m512 acc[TILE_ROWS];
    const char *w = at->w;
    x += m * x_stride + at->block * BLOCK_COLS;
    for (size_t r = 0; r < R; r++)
        acc[r] = _mm512_setzero_ps();
    for (size_t b = at->leaf->pieces.blocks, n; b; b -= n) {
        n = R > 1 || b < FOLLOW_BYTES / block_bytes ? b : FOLLOW_BYTES / block_bytes;
        for (size_t i = 0; i < n; i++, w += block_bytes, x += BLOCK_COLS) {
            if (!far)
                prefetch_next_page(w, block_bytes);
            step(stored, block_bytes, R, far, w, x, x_stride, acc);
        }
        if (R == 1)
            follow(follower, w);
    }
    for (size_t r = 0; r < R; r++)
        put_leaf_sums(at, (m + r) * out_stride, acc[r]);
}

/* ---- groups of 4-bit codes ---- */

/* One block: eight columns a line, column 2q from bit 4q on, 2q + 1 from bit 16 + 4q on. */
INLINE void step_int4(enum stored_offset offset, size_t R, bool far, const char *w, const float *x,
                      size_t x_stride, __m512 values, const __m512 bias[4], __m512 acc[TILE_ROWS])
{
    __m512 even[TILE_ROWS], odd[TILE_ROWS];
    const float *row[TILE_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
        even[r] = odd[r] = _mm512_setzero_ps();
        row[r] = x + r * x_stride;
        __asm__("" : "+r"(row[r]));
    }
#pragma GCC unroll 4
    for (size_t k = 0; k < BLOCK_COLS; k += 8, w += 64) {
        ask_ahead(far, near_bytes(BLOCK_COLS * PANEL_ROWS / 2), w);
        __m512i low = _mm512_load_si512(w), high = _mm512_srli_epi32(low, 16);
#pragma GCC unroll 4
        for (unsigned q = 0; q < 4; q++) {
            __m512 a = code_int4(offset, low, high, 4 * q, values, bias);
            __m512 b = code_int4(offset, low, high, 16 + 4 * q, values, bias);
#pragma GCC unroll 8
            for (size_t r = 0; r < R; r++) {
                even[r] = _mm512_fmadd_ps(a, _mm512_set1_ps(row[r][k + 2 * q]), even[r]);
                odd[r] = _mm512_fmadd_ps(b, _mm512_set1_ps(row[r][k + 2 * q + 1]), odd[r]);
            }
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++)
        acc[r] = _mm512_add_ps(acc[r], _mm512_add_ps(even[r], odd[r]));
}

INLINE void tile_int4(enum stored_offset offset, size_t R, bool far, const char *w, size_t blocks,
                      const float *x, size_t x_stride, const float *zero, float *out)
{
    __m512 acc[TILE_ROWS], bias[4], values = values_int4(offset);
    bias_int4(zero, bias);
    for (size_t r = 0; r < R; r++)
        acc[r] = _mm512_setzero_ps();
    for (size_t b = 0; b < blocks; b++)
        step_int4(offset, R, far, w + b * 256, x + b * BLOCK_COLS, x_stride, values, bias, acc);
    for (size_t r = 0; r < R; r++)
        _mm512_store_ps(out + r * PANEL_ROWS, acc[r]);
}

/* Calls TILE(R, rows of x before) for tiles of R rows that are M together. */
#define EACH_TILE(TILE)                                                                            \
    for (size_t t = 0, m = 0, rows, tiles = (M + TILE_ROWS - 1) / TILE_ROWS; t < tiles;            \
         t++, m += rows)                                                                           \
        switch (rows = (M - m) / (tiles - t)) {                                                    \
            TILE(1);                                                                               \
            TILE(2);                                                                               \
            TILE(3);                                                                               \
            TILE(4);                                                                               \
            TILE(5);                                                                               \
            TILE(6);                                                                               \
            TILE(7);                                                                               \
            TILE(8);                                                                               \
        }

INLINE void dot(enum stored_id stored, size_t block_bytes, DOT_ARGS)
{
    const bool far = prefetch_far();
    (void)sums;
#define TILE(R)                                                                                    \
    case R:                                                                                        \
        tile(stored, block_bytes, R, false, &at, m, x, x_stride, out_stride, NULL);                \
        break
    EACH_LEAF(at)
    {
        if (M > 1) { /* of short leaves there are many: no division for one row */
            EACH_TILE(TILE)
        } else if (far) {
            tile(stored, block_bytes, 1, true, &at, 0, x, x_stride, out_stride, leaves->follower);
        } else {
            tile(stored, block_bytes, 1, false, &at, 0, x, x_stride, out_stride, leaves->follower);
        }
    }
#undef TILE
}

INLINE void piece_int4(enum stored_offset offset, const uint32_t *w, size_t blocks, const float *x,
                       size_t x_stride, const float *zero, size_t M, float *acc)
{
    if (M == 1) {
        if (prefetch_far())
            tile_int4(offset, 1, true, (const char *)w, blocks, x, x_stride, zero, acc);
        else
            tile_int4(offset, 1, false, (const char *)w, blocks, x, x_stride, zero, acc);
        return;
    }
#define TILE(R)                                                                                    \
    case R:                                                                                        \
        tile_int4(offset, R, false, (const char *)w, blocks, x + m * x_stride, x_stride, zero,     \
                  acc + m * PANEL_ROWS);                                                           \
        break
    EACH_TILE(TILE)
#undef TILE
}

#define DOT(name, stored, bytes)                                                                   \
    void dot_avx512_##name(DOT_ARGS)                                                               \
    {                                                                                              \
        dot(stored, 512 * bytes, w, leaves, x, x_stride, sums, M, out, out_stride, node);          \
    }
DOT(f32, STORED_F32, 4)
DOT(f16, STORED_F16, 2)
DOT(bf16, STORED_BF16, 2)
DOT(i8, STORED_INT8, 1)
DOT(e4m3, STORED_FP8, 1)

#include "groups.inc.h"
GROUPS(dot_avx512_int4_none, OFFSET_NONE, piece_int4)
GROUPS(dot_avx512_int4_zero, OFFSET_ZERO, piece_int4)
GROUPS(dot_avx512_int4_min, OFFSET_MINIMUM, piece_int4)
