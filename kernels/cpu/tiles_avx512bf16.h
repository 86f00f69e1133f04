/* What the dots with VDPBF16PS share: x = fma(low, fma(high, x)) of pairs of bf16 values.
 *
 * A chain of docs/numerics.md section 3 takes every other column. So a pair is two neighbours of a
 * chain, the earlier one in its high half: columns (0, 2) of four for the even chain, (1, 3) for
 * the odd one. Weights are unpacked to pairs a strip of blocks at a time, which then serves all
 * rows of x from the first-level cache: tiles of four rows and two panels, whose sixteen chains
 * hide the instruction's latency. */
#pragma once
#include "columns_avx512.h"
#include "prefetch.h"

enum { STRIP_BLOCKS = 8, BLOCK_PAIRS = BLOCK_COLS / 2, TILE_R = 4, TILE_P = 2 };

/* Rows of x lie side by side in tiles of four, a pair of each; where there are but one or two, in
 * a tile of those. */
INLINE size_t width_of(size_t M)
{
    return M <= 2 ? M : TILE_R;
}

/* bf16 values as f32: the first in the high half. */
INLINE __m512i pair_of(__m512 first, __m512 second)
{
    return _mm512_or_si512(_mm512_castps_si512(first),
                           _mm512_srli_epi32(_mm512_castps_si512(second), 16));
}

/* sum with the pairs of 16 rows and a pair of x: GCC 12 copies the sum. */
INLINE __m512 add_pair(__m512 sum, __m512i pair, __m512i x)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(pair), "v"(x));
    return sum;
}

INLINE __m512i pair_at(const uint32_t *x)
{
    return _mm512_set1_epi32((int)*x);
}

/* What becomes of a piece's sums: out = fma(scale, sum, out), then fma(minimum, S, out). */
struct fold {
    __m512 scale[TILE_P], minimum[TILE_P];
    const float *sums; /* S of row m at m * stride; NULL: no minimum */
    size_t stride;
};

/* Blocks of one leaf; of formats with groups, a whole piece. */
struct segment {
    struct leaf_at at;
    bool first, last; /* of the leaf */
    size_t blocks;
    struct fold fold;
};

/* Blocks of up to two panels, unpacked: some of a leaf, or several leaves or pieces. */
struct strip {
    __m512i pairs[TILE_P][STRIP_BLOCKS * BLOCK_PAIRS];
    struct segment segments[STRIP_BLOCKS];
    size_t count, blocks;
    const uint32_t *x; /* row 0 at the strip's first block */
};

INLINE void strip_begin(struct strip *strip, const uint32_t *x)
{
    strip->count = strip->blocks = 0;
    strip->x = x;
}

INLINE bool strip_has_room(const struct strip *strip, size_t blocks)
{
    return strip->blocks + blocks <= STRIP_BLOCKS;
}

/* Where a panel's pairs of the segment that is added next belong. */
INLINE __m512i *strip_pairs(struct strip *strip, size_t p)
{
    return strip->pairs[p] + strip->blocks * BLOCK_PAIRS;
}

/* The n blocks of a leaf from its block b on. */
INLINE struct segment *strip_add(struct strip *strip, const struct leaf_at *at, size_t b, size_t n)
{
    struct segment *s = &strip->segments[strip->count++];
    s->at = *at;
    s->first = b == 0;
    s->last = b + n == at->leaf->pieces.blocks;
    s->blocks = n;
    strip->blocks += n;
    return s;
}

/* As many bytes as a strip of M rows has. */
INLINE struct ahead ahead_of(const struct strip *strip, const char *next, size_t block_bytes,
                             size_t panel_bytes, size_t M)
{
    const size_t blocks = strip->blocks, bytes = blocks * block_bytes;
    return (struct ahead){next, next + bytes, panel_bytes,
                          (bytes / 64 * TILE_R + blocks * M - 1) / (blocks * M)};
}

/* Sums of the blocks before: they wait where the leaf's are going to be. */
INLINE __m512 sums_before(const struct segment *s, size_t m_at)
{
    return s->first ? _mm512_setzero_ps() : _mm512_loadu_ps(s->at.top + m_at);
}

/* The dots of R rows, from the m-th on, with a segment of P panels go on in the leaf's sums; or,
 * folded, over a whole piece, are folded into them. */
INLINE void tile(size_t R, size_t P, size_t width, bool folded, const struct segment *s,
                 const __m512i *pairs, const uint32_t *x, size_t m, size_t out_stride,
                 struct ahead *ahead)
{
    __m512 sum[TILE_R][TILE_P], chain[2][TILE_R][TILE_P];
#pragma GCC unroll 8
    for (size_t i = 0; i < R * P; i++)
        sum[i / P][i % P] = folded ? _mm512_setzero_ps()
                                   : sums_before(s, (m + i / P) * out_stride + i % P * PANEL_ROWS);
    for (size_t b = 0; b < s->blocks; b++, pairs += BLOCK_PAIRS, x += BLOCK_PAIRS * width) {
        ask(ahead, P, false);
#pragma GCC unroll 8
        for (size_t i = 0; i < R * P; i++)
            chain[0][i / P][i % P] = chain[1][i / P][i % P] = _mm512_setzero_ps();
#pragma GCC unroll 16
        for (size_t k = 0; k < BLOCK_PAIRS; k++) {
#pragma GCC unroll 4
            for (size_t r = 0; r < R; r++) {
                const __m512i at = pair_at(x + k * width + r);
#pragma GCC unroll 2
                for (size_t p = 0; p < P; p++)
                    chain[k % 2][r][p] =
                        add_pair(chain[k % 2][r][p], pairs[p * STRIP_BLOCKS * BLOCK_PAIRS + k], at);
            }
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < R * P; i++)
            sum[i / P][i % P] = _mm512_add_ps(
                sum[i / P][i % P], _mm512_add_ps(chain[0][i / P][i % P], chain[1][i / P][i % P]));
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < R * P; i++) {
        const size_t r = i / P, p = i % P, m_at = (m + r) * out_stride + p * PANEL_ROWS;
        __m512 total = sum[r][p];
        if (folded)
            total = _mm512_fmadd_ps(s->fold.scale[p], total, sums_before(s, m_at));
        if (folded && s->fold.sums)
            total = _mm512_fmadd_ps(s->fold.minimum[p],
                                    _mm512_set1_ps(s->fold.sums[(m + r) * s->fold.stride]), total);
        if (s->last)
            put_leaf_sums(&s->at, m_at, total);
        else
            _mm512_storeu_ps(s->at.top + m_at, total);
    }
}

INLINE void tiles_of_rows(size_t R, size_t P, size_t width, bool folded, const struct strip *strip,
                          const uint32_t *x, size_t m, size_t out_stride, struct ahead *ahead)
{
    const __m512i *pairs = strip->pairs[0];
    for (size_t i = 0; i < strip->count; i++) {
        const struct segment *s = &strip->segments[i];
        tile(R, P, width, folded, s, pairs, x, m, out_stride, ahead);
        pairs += s->blocks * BLOCK_PAIRS;
        x += s->blocks * BLOCK_PAIRS * width;
    }
}

/* All rows; the strip is empty then. */
INLINE void tiles(size_t P, bool folded, struct strip *strip, size_t x_stride, size_t M,
                  size_t out_stride, struct ahead ahead)
{
    const uint32_t *x = strip->x;
#define TILES(R, width)                                                                            \
    case R:                                                                                        \
        tiles_of_rows(R, P, width, folded, strip, x, m, out_stride, &ahead);                       \
        break
    if (P == 1 && M <= 2) { /* each_pair */
        const size_t m = 0;
        switch (M) {
            TILES(1, 1);
            TILES(2, 2);
        }
    } else {
        for (size_t m = 0; m < M; m += TILE_R, x += TILE_R * x_stride)
            switch (M - m) {
                TILES(1, TILE_R);
                TILES(2, TILE_R);
                TILES(3, TILE_R);
            default:
                tiles_of_rows(TILE_R, P, TILE_R, folded, strip, x, m, out_stride, &ahead);
            }
    }
#undef TILES
    strip_begin(strip, strip->x + strip->blocks * BLOCK_PAIRS * width_of(M));
}

/* Runs of panels, two at a time where rows are many; few rows read one as it streams by: */
#define ROWS_ARGS                                                                                  \
    const char *w, size_t panel_bytes, const struct leaf_run *leaves, const uint32_t *x,           \
        size_t stride, const float *sums, size_t M, float *out, size_t out_stride, size_t node
/* Of one panel, and of two. */
typedef void rows_fn(ROWS_ARGS);

INLINE void each_pair(rows_fn *one, rows_fn *two, DOT_ROWS_ARGS)
{
    const size_t stride = x_blocks * BLOCK_PAIRS;
    const char *at = w;
    (void)room;
    for (; panels > 1 && M > 2; panels -= 2, at += 2 * panel_bytes, out += 2 * PANEL_ROWS)
        two(at, panel_bytes, leaves, x, stride, sums, M, out, out_stride, node);
    for (; panels; panels--, at += panel_bytes, out += PANEL_ROWS)
        one(at, panel_bytes, leaves, x, stride, sums, M, out, out_stride, node);
}

#define EACH_PAIR(name)                                                                            \
    void dot_rows_avx512bf16_##name(DOT_ROWS_ARGS)                                                 \
    {                                                                                              \
        each_pair(name##_1, name##_2, w, panel_bytes, panels, leaves, x, x_blocks, sums, M, out,   \
                  out_stride, node, room);                                                         \
    }
