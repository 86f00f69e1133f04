/* Dots of many rows with 256-bit registers. Rows of x lie side by side in strips of four. A stretch
 * of a panel is widened to f32 in the first-level cache, then meets all strips; the next panel's
 * stretch meets them while they are in the second-level cache. None of it changes a bit.
 */
#include "columns_avx2.h"

enum { STRIP_ROWS = 4, BLOCK_FLOATS = BLOCK_COLS * PANEL_ROWS };

void rows_begin_avx2(void)
{
}

void rows_end_avx2(void)
{
}

INLINE size_t strip_rows(size_t M)
{
    return M < STRIP_ROWS ? M : STRIP_ROWS;
}

/* Strip after strip, an odd number of stretches from one to the next: where rows are powers of two
 * all strips' stretches would share a few sets of the caches. */
void pack_rows_avx2(PACK_ROWS_ARGS)
{
    const size_t strip = strip_blocks(blocks) * BLOCK_COLS;
    float *to = (float *)(void *)packed;
    for (size_t m = 0, rows; m < M; m += rows, x += rows * x_stride, to += rows * strip) {
        rows = strip_rows(M - m);
        for (size_t k = 0; k < blocks * BLOCK_COLS; k++)
            for (size_t r = 0; r < rows; r++)
                to[k * rows + r] = x[r * x_stride + k];
    }
}

/* Some blocks of a leaf, or of codes a whole piece, of one panel. */
struct stretch {
    const float *wide;
    size_t block, blocks; /* block: of x */
    const struct leaf_at *at;
    bool first, last; /* of the leaf */
    /* Of codes: sums are folded, out = fma(scale, sum, out), then fma(minimum, S, out). */
    const float *scale, *minimum;
    const float *sums; /* S of row m at m * sums_stride; NULL: no minimum */
    size_t sums_stride;
};

INLINE void clear_sums(size_t R, __m256 total[STRIP_ROWS][2])
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 2 * R; i++)
        total[i / 2][i % 2] = _mm256_setzero_ps();
}

/* sum + a b; GCC copies the sum. */
INLINE __m256 add_product(__m256 sum, __m256 a, __m256 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}

/* Every other column of a block. The loop is unrolled: its end would be predicted wrongly. */
INLINE void chains_of(size_t R, const float *w, const float *x, __m256 chain[STRIP_ROWS][2])
{
    clear_sums(R, chain);
#pragma GCC unroll 16
    for (size_t k = 0; k < BLOCK_COLS; k += 2) {
        const __m256 low = _mm256_load_ps(w + k * PANEL_ROWS),
                     high = _mm256_load_ps(w + k * PANEL_ROWS + 8);
#pragma GCC unroll 4
        for (size_t r = 0; r < R; r++) {
            const __m256 at = _mm256_broadcast_ss(x + k * R + r);
            chain[r][0] = add_product(chain[r][0], low, at);
            chain[r][1] = add_product(chain[r][1], high, at);
        }
    }
}

/* total[r] += the dots of R rows with the blocks. The even chains of a block, then the odd ones:
 * with both at once there are registers for fewer rows. */
INLINE void blocks_dot(size_t R, const float *w, size_t blocks, const float *x, struct ahead *ahead,
                       __m256 total[STRIP_ROWS][2])
{
    _Alignas(32) float even[STRIP_ROWS * PANEL_ROWS];
    for (size_t b = 0; b < blocks; b++, w += BLOCK_FLOATS, x += BLOCK_COLS * R) {
        __m256 chain[STRIP_ROWS][2];
        ask(ahead, 1, true);
        chains_of(R, w, x, chain);
#pragma GCC unroll 8
        for (size_t i = 0; i < 2 * R; i++)
            _mm256_store_ps(even + 8 * i, chain[i / 2][i % 2]);
        /* Kept in registers they would take the weights', which would be read for each row. */
        __asm__("" : "+m"(even));
        chains_of(R, w + PANEL_ROWS, x + R, chain);
#pragma GCC unroll 8
        for (size_t i = 0; i < 2 * R; i++)
            total[i / 2][i % 2] =
                _mm256_add_ps(total[i / 2][i % 2],
                              _mm256_add_ps(_mm256_load_ps(even + 8 * i), chain[i / 2][i % 2]));
    }
}

INLINE void store_sums(size_t R, __m256 total[STRIP_ROWS][2], float *to, size_t out_stride)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 2 * R; i++)
        _mm256_storeu_ps(to + i / 2 * out_stride + i % 2 * 8, total[i / 2][i % 2]);
}

/* put_leaf of R rows in registers. */
INLINE void put_sums(size_t R, const struct leaf_at *at, __m256 total[STRIP_ROWS][2], float *to,
                     size_t out_stride)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 2 * R; i++)
        total[i / 2][i % 2] = _mm256_add_ps(total[i / 2][i % 2], _mm256_setzero_ps());
    for (unsigned join = *at->merges; join; join--) {
        to -= at->node;
#pragma GCC unroll 8
        for (size_t i = 0; i < 2 * R; i++)
            total[i / 2][i % 2] = _mm256_add_ps(
                _mm256_loadu_ps(to + i / 2 * out_stride + i % 2 * 8), total[i / 2][i % 2]);
    }
    store_sums(R, total, to, out_stride);
}

/* Sums of the blocks before wait where the leaf's are going to be. */
INLINE void get_sums(size_t R, bool first, const float *from, size_t out_stride,
                     __m256 total[STRIP_ROWS][2])
{
    if (first) {
        clear_sums(R, total);
    } else {
#pragma GCC unroll 8
        for (size_t i = 0; i < 2 * R; i++)
            total[i / 2][i % 2] = _mm256_loadu_ps(from + i / 2 * out_stride + i % 2 * 8);
    }
}

/* A piece's sums to those of the pieces before, of R rows from the m-th on. */
INLINE void fold_sums(size_t R, const struct stretch *s, size_t m, __m256 piece[][2],
                      __m256 total[][2])
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 2 * R; i++)
        total[i / 2][i % 2] = _mm256_fmadd_ps(_mm256_load_ps(s->scale + i % 2 * 8),
                                              piece[i / 2][i % 2], total[i / 2][i % 2]);
    if (!s->sums)
        return;
#pragma GCC unroll 8
    for (size_t i = 0; i < 2 * R; i++)
        total[i / 2][i % 2] = _mm256_fmadd_ps(
            _mm256_load_ps(s->minimum + i % 2 * 8),
            _mm256_broadcast_ss(s->sums + (m + i / 2) * s->sums_stride), total[i / 2][i % 2]);
}

/* R rows, from the m-th on, whose sums are out_at from the leaf's. */
INLINE void tile(size_t R, bool codes, const struct stretch *s, const float *x, size_t m,
                 size_t out_at, size_t out_stride, struct ahead *ahead)
{
    float *out = s->at->top + out_at;
    __m256 total[STRIP_ROWS][2], piece[STRIP_ROWS][2];
    if (codes) {
        clear_sums(R, piece);
        blocks_dot(R, s->wide, s->blocks, x, ahead, piece);
        get_sums(R, s->first, out, out_stride, total);
        fold_sums(R, s, m, piece, total);
    } else {
        get_sums(R, s->first, out, out_stride, total);
        blocks_dot(R, s->wide, s->blocks, x, ahead, total);
    }
    if (s->last)
        put_sums(R, s->at, total, out, out_stride);
    else
        store_sums(R, total, out, out_stride);
}

/* All M rows of x, packed; of panel p. */
INLINE void tiles(bool codes, const struct stretch *s, const uint32_t *packed, size_t x_blocks,
                  size_t M, size_t p, size_t out_stride, struct ahead ahead)
{
    const float *x = (const float *)(const void *)packed;
    for (size_t m = 0, rows; m < M; m += rows, x += rows * strip_blocks(x_blocks) * BLOCK_COLS) {
        const size_t out_at = m * out_stride + p * PANEL_ROWS;
        rows = strip_rows(M - m);
        switch (rows) {
#define TILE(R)                                                                                    \
    case R:                                                                                        \
        tile(R, codes, s, x + s->block * BLOCK_COLS * R, m, out_at, out_stride, &ahead);           \
        break
            TILE(1);
            TILE(2);
            TILE(3);
            TILE(4);
#undef TILE
        }
    }
}

/* Not in each format: one for values, one for codes. */
static __attribute__((noinline)) void tiles_values(const struct stretch *s, const uint32_t *packed,
                                                   size_t x_blocks, size_t M, size_t p,
                                                   size_t out_stride, struct ahead ahead)
{
    tiles(false, s, packed, x_blocks, M, p, out_stride, ahead);
}

static __attribute__((noinline)) void tiles_codes(const struct stretch *s, const uint32_t *packed,
                                                  size_t x_blocks, size_t M, size_t p,
                                                  size_t out_stride, struct ahead ahead)
{
    tiles(true, s, packed, x_blocks, M, p, out_stride, ahead);
}

/* What is read after a stretch of panel p, `from` on: the next panel's; after the last one's what
 * follows in the first one; behind all leaves the next run, which is at `behind`. As many bytes. */
INLINE struct ahead next_stretch(const struct stretch *s, const char *from, size_t bytes,
                                 const char *behind, size_t panel_bytes, size_t p, size_t panels,
                                 size_t M)
{
    const size_t turns = s->blocks * ((M + STRIP_ROWS - 1) / STRIP_ROWS);
    const char *next = p + 1 < panels                ? from + panel_bytes
                       : s->last && s->at->left == 1 ? behind
                                                     : from + bytes - p * panel_bytes;
    return (struct ahead){next, next + bytes, 0, (bytes / 64 + turns - 1) / turns};
}

INLINE void widen(enum stored_id stored, size_t block_bytes, const char *w, size_t blocks,
                  float *wide)
{
    __m256 v[4];
    for (size_t q = 0; q < blocks * 8; q++, w += block_bytes / 8, wide += 4 * PANEL_ROWS) {
        for (size_t half = 0; half < 2; half++) {
            columns(stored, false, w + 32 * half, v);
            for (size_t i = 0; i < 4; i++)
                _mm256_store_ps(wide + i * PANEL_ROWS + half * 8, v[i]);
        }
    }
}

INLINE void dot_values(enum stored_id stored, size_t block_bytes, DOT_ROWS_ARGS)
{
    _Alignas(64) float wide[STRETCH_BLOCKS * BLOCK_FLOATS];
    const char *behind = (const char *)w + panels * panel_bytes;
    (void)sums;
    (void)room;
    EACH_LEAF(at)
    for (size_t b = 0, blocks = at.leaf->pieces.blocks, n; b < blocks; b += n) {
        n = blocks - b < STRETCH_BLOCKS ? blocks - b : STRETCH_BLOCKS;
        for (size_t p = 0; p < panels; p++) {
            const char *from = at.w + b * block_bytes + p * panel_bytes;
            struct stretch s = {.block = at.block + b,
                                .blocks = n,
                                .at = &at,
                                .first = b == 0,
                                .last = b + n == blocks};
            if (stored == STORED_F32) {
                s.wide = (const float *)(const void *)from;
            } else {
                widen(stored, block_bytes, from, n, wide);
                s.wide = wide;
            }
            tiles_values(
                &s, x, x_blocks, M, p, out_stride,
                next_stretch(&s, from, n * block_bytes, behind, panel_bytes, p, panels, M));
        }
    }
}

#define DOT_VALUES(name, stored, bytes)                                                            \
    void dot_rows_avx2_##name(DOT_ROWS_ARGS)                                                       \
    {                                                                                              \
        dot_values(stored, 512 * bytes, w, panel_bytes, panels, leaves, x, x_blocks, sums, M, out, \
                   out_stride, node, room);                                                        \
    }
DOT_VALUES(f32, STORED_F32, 4)
DOT_VALUES(f16, STORED_F16, 2)
DOT_VALUES(bf16, STORED_BF16, 2)
DOT_VALUES(i8, STORED_INT8, 1)
DOT_VALUES(e4m3, STORED_FP8, 1)

/* ---- groups of 4-bit codes ---- */

INLINE void widen_int4(enum stored_offset offset, const char *w, size_t blocks, const float *zero,
                       float *wide)
{
    for (size_t line = 0; line < blocks * 4; line++, w += 64) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++, wide += PANEL_ROWS)
            for (size_t half = 0; half < 2; half++)
                _mm256_store_ps(wide + half * 8, code_int4(offset, load(w + 32 * half), k,
                                                           _mm256_load_ps(zero + 8 * half)));
    }
}

/* A group is at most STRETCH_BLOCKS. */
INLINE void dot_codes(enum stored_offset offset, DOT_ROWS_ARGS)
{
    _Alignas(64) float wide[STRETCH_BLOCKS * BLOCK_FLOATS], scale[PANEL_ROWS], zero[PANEL_ROWS],
        minimum[PANEL_ROWS];
    const char *behind = (const char *)w + panels * panel_bytes;
    (void)room;
    EACH_LEAF(at)
    for (struct piece_at piece = before_pieces(at.w);
         next_piece(offset, at.leaf->pieces, &piece);) {
        const size_t block = at.block + piece.block, words = panel_bytes / sizeof *piece.word;
        for (size_t p = 0; p < panels; p++) {
            const struct stretch s = {.wide = wide,
                                      .block = block,
                                      .blocks = piece.blocks,
                                      .at = &at,
                                      .first = piece.block == 0,
                                      .last = piece.block + piece.blocks == at.leaf->pieces.blocks,
                                      .scale = scale,
                                      .minimum = minimum,
                                      .sums = offset == OFFSET_MINIMUM ? sums + block : NULL,
                                      .sums_stride = x_blocks};
            constants_of(offset, piece.word + p * words, piece.second, scale, zero, minimum);
            const char *codes = (const char *)(piece.codes + p * words);
            widen_int4(offset, codes, piece.blocks, zero, wide);
            tiles_codes(&s, x, x_blocks, M, p, out_stride,
                        next_stretch(&s, codes - 64, 64 + piece.blocks * 256, behind, panel_bytes,
                                     p, panels, M));
        }
    }
}

#define DOT_CODES(name, offset)                                                                    \
    void dot_rows_avx2_##name(DOT_ROWS_ARGS)                                                       \
    {                                                                                              \
        dot_codes(offset, w, panel_bytes, panels, leaves, x, x_blocks, sums, M, out, out_stride,   \
                  node, room);                                                                     \
    }
DOT_CODES(int4_none, OFFSET_NONE)
DOT_CODES(int4_zero, OFFSET_ZERO)
DOT_CODES(int4_min, OFFSET_MINIMUM)
