/* Dots of many rows with TDPBF16PS (tile.h).
 *
 * Rows of x are packed by strips of 16: block after block, a tile each. A block of a panel of bf16
 * is a tile as it lies; other values become one on the way, in a buffer. Two strips meet two panels
 * at a time: four products for four loads. A leaf is taken in chunks of a few blocks, so that the
 * two strips' stay in the first-level cache while all panels of a run pass them, and the run's in
 * the second-level one while all rows do; results wait there too, as tiles. While a chunk is
 * multiplied, the next one is asked for or widened, some lines after every block.
 *
 * Groups of codes: a piece is a chunk, whose tiles are added to the results by its scale.
 */
#include "tables.h"
#include "tile.h"

#include <immintrin.h>

enum {
    PAIR_ROWS = 2 * TILE_ROWS,
    TILE_FLOATS = TILE_BYTES / 4,
    PAIR_FLOATS = 4 * TILE_FLOATS, /* results of two strips with two panels */
    AHEAD_BYTES = 8192,
};

#define INLINE static inline __attribute__((always_inline))

typedef uint32_t words __attribute__((vector_size(64), may_alias));
typedef float floats __attribute__((vector_size(64), may_alias));
typedef int16_t halves __attribute__((vector_size(64), may_alias));

void TILE_NAME(rows_begin, )(void)
{
    tile_configure();
}

void TILE_NAME(rows_end, )(void)
{
    tile_release();
}

void TILE_NAME(pack_rows, )(PACK_ROWS_ARGS)
{
    for (size_t m = 0; m < (M + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS; m++)
        for (size_t b = 0; b < blocks; b++) {
            size_t tile = m / TILE_ROWS * blocks + b;
            uint16_t *to = (uint16_t *)(packed + tile * TILE_FLOATS + m % TILE_ROWS * 16);
            for (size_t k = 0; k < BLOCK_COLS; k++)
                to[k] =
                    m < M ? (uint16_t)(f32_bits(x[m * x_stride + b * BLOCK_COLS + k]) >> 16) : 0;
        }
}

/* ---- lines of codes to lines of pairs of bf16 ---- */

INLINE bool grouped(enum stored_id stored)
{
    return stored > STORED_FP8;
}

INLINE enum stored_offset offset_of(enum stored_id stored)
{
    return stored >= STORED_INT4_G32_MIN    ? OFFSET_MINIMUM
           : stored >= STORED_INT4_G32_ZERO ? OFFSET_ZERO
                                            : OFFSET_NONE;
}

INLINE size_t block_bytes(enum stored_id stored)
{
    return stored == STORED_BF16 ? TILE_BYTES : grouped(stored) ? TILE_BYTES / 4 : TILE_BYTES / 2;
}

/* bf16 values as f32: the first of each pair in the low half. */
INLINE void put_pairs(const floats *first, const floats *second, char *to)
{
    *(words *)to = ((words)*first >> 16) | (words)*second;
}

/* As columns_i8 of columns_avx512.h: codes as mantissa bits. */
INLINE void widen_int8(const char *w, char *to)
{
    for (int i = 0; i < 2; i++, to += TILE_LINE) {
        words codes = *(const words *)w >> 16 * i;
        floats first = (floats)((codes & 0xff) ^ 0x4b000080) - (0x1p23f + 128);
        floats second = (floats)((codes & 0xff00) ^ 0x47008000) - (0x1p15f + 128);
        put_pairs(&first, &second, to);
    }
}

/* values[] by the five low bits of each index */
INLINE void look_up(const uint16_t values[32], const halves *index, halves *to)
{
#ifdef __AVX512BW__
    *to = (halves)_mm512_permutexvar_epi16((__m512i)*index, _mm512_load_si512(values));
#else
    for (size_t i = 0; i < 32; i++)
        (*to)[i] = (int16_t)values[(*index)[i] & 31];
#endif
}

/* As columns_e4m3 of columns_avx512.h, every other code at a time; those with exponent 0, a sign
 * and three bits of mantissa, are looked up. */
INLINE void widen_fp8(const char *w, char *to)
{
    _Alignas(64) static const uint16_t subnormal[32] = {
        0,      0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60,
        0x8000, 0xbb00, 0xbb80, 0xbbc0, 0xbc00, 0xbc20, 0xbc40, 0xbc60};
    enum { KEEP = (int16_t)0x87f0, EXPONENT = 0x0780, BIAS = 120 << 7 };
    halves value[2];
    for (int i = 0; i < 2; i++) {
        halves code = i ? *(const halves *)w : *(const halves *)w << 8, small;
        code >>= 4;
        halves is_small = (code & EXPONENT) == 0, index = (code >> 4 & 7) | (code >> 12 & 8);
        look_up(subnormal, &index, &small);
        value[i] = (((code & KEEP) + BIAS) & ~is_small) | (small & is_small);
    }
    words even = (words)value[0], odd = (words)value[1];
    *(words *)to = (even & 0xffff) | odd << 16;
    *(words *)(to + TILE_LINE) = even >> 16 | (odd & 0xffff0000);
}

/* Columns 2q and 2q + 1 of a row are at bits 4q and 16 + 4q of its word: a pair, moved down. */
INLINE void widen_int4(enum stored_offset offset, const char *w, char *to)
{
    _Alignas(64) static const uint16_t less_eight[32] = {
        0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0,      0x3f80, 0x4000,
        0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040,
        0xc000, 0xbf80, 0,      0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
    _Alignas(64) static const uint16_t as_is[32] = {
        0,      0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
        0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0,      0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
        0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
    for (int q = 0; q < 4; q++, to += TILE_LINE) {
        halves codes = (halves)(*(const words *)w >> 4 * q);
        look_up(offset == OFFSET_NONE ? less_eight : as_is, &codes, (halves *)to);
    }
}

/* The same, less each row's zero, of a byte. */
INLINE void widen_int4_zero(const char *w, const char *constants, char *to)
{
    typedef int32_t integers __attribute__((vector_size(64), may_alias));
    const integers zero = *(const integers *)constants & 0xff;
    for (int q = 0; q < 4; q++, to += TILE_LINE) {
        integers codes = (integers)(*(const words *)w >> 4 * q);
        floats first = __builtin_convertvector((codes & 15) - zero, floats);
        floats second = __builtin_convertvector((codes >> 16 & 15) - zero, floats);
        put_pairs(&first, &second, to);
    }
}

/* constants: the line of them that belongs to w's piece */
INLINE void widen_line(enum stored_id stored, const char *w, const char *constants, char *to)
{
    _mm_prefetch(w + AHEAD_BYTES, _MM_HINT_T1);
    if (stored == STORED_INT8)
        widen_int8(w, to);
    else if (stored == STORED_FP8)
        widen_fp8(w, to);
    else if (offset_of(stored) == OFFSET_ZERO)
        widen_int4_zero(w, constants, to);
    else
        widen_int4(offset_of(stored), w, to);
}

/* ---- chunks ---- */

/* A chunk is what is multiplied in one go: of formats with groups a piece, else some blocks of a
 * leaf. Its places are the first panel's. false: there is no other, and c has no blocks. */
INLINE bool chunk_next(enum stored_id stored, struct pieces pieces, struct piece_at *c)
{
    if (grouped(stored)) {
        if (!next_piece(offset_of(stored), pieces, c))
            c->blocks = 0;
    } else {
        c->codes += c->blocks * (block_bytes(stored) / sizeof *c->codes);
        c->block += c->blocks;
        c->blocks = pieces.blocks - c->block;
        c->blocks = c->blocks < AMX_CHUNK_BLOCKS ? c->blocks : AMX_CHUNK_BLOCKS;
    }
    return c->blocks > 0;
}

/* What a call multiplies: at most AMX_ROWS rows and AMX_PANELS panels. */
struct work {
    const char *w, *behind; /* behind: what is read next, the next leaf or run */
    size_t panel_bytes, panels;
    struct pieces pieces;
    const char *x; /* at the leaf's first block */
    size_t strip_bytes, M;
    const float *sums;
    size_t sums_stride;
};

/* The tiles of rows from m on and panels from p on, m and p even in strips and panels. */
INLINE float *results_at(const struct work *work, float *results, size_t m, size_t p)
{
    return results + (m / PAIR_ROWS * ((work->panels + 1) / 2) + p / 2) * PAIR_FLOATS;
}

/* ---- what goes on beside the tiles: the next chunk, panel after panel ---- */

struct beside {
    const char *values, *constants, *line; /* of a panel */
    size_t panel_bytes, panels, lines, lines_left;
    char *to;
    size_t rate; /* lines after every block */
};

/* rounds: of blocks in which to be done */
INLINE void beside_begin(enum stored_id stored, struct beside *s, const struct work *work,
                         struct piece_at chunk, size_t rounds, char *to)
{
    size_t lines = chunk.blocks * block_bytes(stored) / TILE_LINE;
    *s = (struct beside){.values = (const char *)chunk.codes,
                         .constants = (const char *)chunk.word,
                         .line = (const char *)chunk.codes,
                         .panel_bytes = work->panel_bytes,
                         .panels = lines ? work->panels : 0,
                         .lines = lines,
                         .lines_left = lines,
                         .to = to,
                         .rate = (work->panels * lines + rounds - 1) / rounds};
}

INLINE void beside_go_on(enum stored_id stored, struct beside *s, size_t lines)
{
    for (; lines && s->panels; lines--, s->line += TILE_LINE) {
        if (s->lines_left == 0) {
            s->line = s->values += s->panel_bytes;
            if (grouped(stored))
                s->constants += s->panel_bytes;
            s->lines_left = s->lines;
            if (--s->panels == 0)
                return;
        }
        s->lines_left--;
        if (stored == STORED_BF16) {
            _mm_prefetch(s->line, _MM_HINT_T1);
        } else {
            widen_line(stored, s->line, s->constants, s->to);
            s->to += TILE_BYTES * TILE_LINE / block_bytes(stored);
        }
    }
}

/* ---- tiles ---- */

/* Two strips, a_next bytes apart, with two panels over some blocks; c: four tiles. */
INLINE void pair(enum stored_id stored, const char *a, size_t a_next, const char *b, size_t b_next,
                 size_t blocks, bool first, float *c, struct beside *beside)
{
    if (first) {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
    } else {
        tile_load(0, c);
        tile_load(1, c + TILE_FLOATS);
        tile_load(2, c + 2 * TILE_FLOATS);
        tile_load(3, c + 3 * TILE_FLOATS);
    }
    for (size_t i = 0; i < blocks; i++, a += TILE_BYTES, b += TILE_BYTES) {
        tile_load(4, a);
        tile_load(6, b);
        tile_dot(0, 4, 6);
        tile_load(7, b + b_next);
        tile_dot(1, 4, 7);
        tile_load(5, a + a_next);
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
        beside_go_on(stored, beside, beside->rate);
    }
    tile_store(0, c);
    tile_store(1, c + TILE_FLOATS);
    tile_store(2, c + 2 * TILE_FLOATS);
    tile_store(3, c + 3 * TILE_FLOATS);
}

/* A piece of some rows to their totals, from +0 with the first piece. */
INLINE void fold(enum stored_offset offset, const uint32_t *constants, struct piece_at chunk,
                 size_t rows, const float *p, const float *sums, size_t sums_stride, float *total)
{
    _Alignas(64) float scale[PANEL_ROWS], zero[PANEL_ROWS], minimum[PANEL_ROWS];
    constants_of(offset, constants, chunk.second, scale, zero, minimum);
    if (chunk.block == 0)
        memset(total, 0, TILE_BYTES);
    fold_piece(offset, scale, minimum, p, rows, sums, sums_stride, total, PANEL_ROWS);
}

/* The tiles of a piece to their results. */
INLINE void fold_pair(enum stored_id stored, const struct work *work, struct piece_at chunk,
                      size_t m, size_t panel, const float *p, float *c)
{
    for (size_t i = 0; i < 4; i++, p += TILE_FLOATS, c += TILE_FLOATS) {
        size_t row = m + i / 2 * TILE_ROWS, at = panel + i % 2;
        if (row >= work->M || at >= work->panels)
            continue;
        size_t rows = work->M - row < TILE_ROWS ? work->M - row : TILE_ROWS;
        size_t first = row * work->sums_stride + chunk.block;
        fold(offset_of(stored), chunk.word + at * (work->panel_bytes / sizeof *chunk.word), chunk,
             rows, p, offset_of(stored) == OFFSET_MINIMUM ? work->sums + first : NULL,
             work->sums_stride, c);
    }
}

/* Where a strip or a panel has no neighbour it is its own, and the tiles are not looked at. */
INLINE void chunk_by_tiles(enum stored_id stored, const struct work *work, struct piece_at chunk,
                           const char *wide, float *results, struct beside *beside)
{
    _Alignas(64) float p[PAIR_FLOATS];
    const char *b = stored == STORED_BF16 ? (const char *)chunk.codes : wide;
    size_t b_next = stored == STORED_BF16 ? work->panel_bytes : chunk.blocks * TILE_BYTES;
    for (size_t m = 0; m < work->M; m += PAIR_ROWS) {
        const char *a = work->x + m / TILE_ROWS * work->strip_bytes + chunk.block * TILE_BYTES;
        size_t a_next = m + TILE_ROWS < work->M ? work->strip_bytes : 0;
        for (size_t n = 0; n < work->panels; n += 2) {
            float *c = results_at(work, results, m, n);
            pair(stored, a, a_next, b + n * b_next, n + 1 < work->panels ? b_next : 0, chunk.blocks,
                 grouped(stored) || chunk.block == 0, grouped(stored) ? p : c, beside);
            if (grouped(stored))
                fold_pair(stored, work, chunk, m, n, p, c);
        }
    }
}

/* Behind a leaf's last chunk. */
static struct beside behind(const struct work *work, struct piece_at last, size_t rounds)
{
    struct beside s;
    last.codes = (const uint32_t *)(const void *)work->behind;
    beside_begin(STORED_BF16, &s, work, last, rounds, NULL);
    return s;
}

/* wide: twice a run's chunk, this one and the next */
INLINE void leaf_by_tiles(enum stored_id stored, const struct work *work, float *results,
                          char (*wide)[AMX_WIDE_BYTES])
{
    const size_t pairs = (work->panels + 1) / 2 * ((work->M + PAIR_ROWS - 1) / PAIR_ROWS);
    struct piece_at now = before_pieces(work->w), next;
    struct beside beside;
    bool more = chunk_next(stored, work->pieces, &now);
    if (stored != STORED_BF16) {
        beside_begin(stored, &beside, work, now, 1, wide[0]);
        beside_go_on(stored, &beside, SIZE_MAX);
    }
    for (size_t turn = 0; more; now = next, turn ^= 1) {
        next = now;
        more = chunk_next(stored, work->pieces, &next);
        if (stored == STORED_BF16 && !more)
            beside = behind(work, now, pairs * now.blocks);
        else
            beside_begin(stored, &beside, work, next, pairs * now.blocks, wide[turn ^ 1]);
        chunk_by_tiles(stored, work, now, wide[turn], results, &beside);
        beside_go_on(stored, &beside, SIZE_MAX);
    }
}

/* A leaf's, m_at from the top. */
static void put_results(const struct work *work, float *results, const struct leaf_at *at,
                        size_t m_at, size_t out_stride)
{
    for (size_t m = 0; m < work->M; m++)
        for (size_t p = 0; p < work->panels; p++) {
            size_t tile = m / TILE_ROWS % 2 * 2 + p % 2;
            const float *from =
                results_at(work, results, m, p) + tile * TILE_FLOATS + m % TILE_ROWS * PANEL_ROWS;
            put_leaf(at, m_at + m * out_stride + p * PANEL_ROWS, from);
        }
}

INLINE void dot_rows(enum stored_id stored, DOT_ROWS_ARGS)
{
    float *results = room;
    char(*wide)[AMX_WIDE_BYTES] = (void *)((char *)room + AMX_RESULTS_BYTES);
    for (size_t p = 0; p < panels; p += AMX_PANELS)
        for (size_t m = 0; m < M; m += AMX_ROWS)
            EACH_LEAF(at)
            {
                const size_t n = panels - p < AMX_PANELS ? panels - p : AMX_PANELS;
                const char *run = at.w + p * panel_bytes;
                const struct work work = {
                    .w = run,
                    .behind = at.left > 1 ? run + at.leaf->panel_bytes
                                          : (const char *)w + (p + n) * panel_bytes,
                    .panel_bytes = panel_bytes,
                    .panels = n,
                    .pieces = at.leaf->pieces,
                    .x = (const char *)x + (m / TILE_ROWS * x_blocks + at.block) * TILE_BYTES,
                    .strip_bytes = x_blocks * TILE_BYTES,
                    .M = M - m < AMX_ROWS ? M - m : AMX_ROWS,
                    .sums = sums ? sums + m * x_blocks + at.block : NULL,
                    .sums_stride = x_blocks,
                };
                leaf_by_tiles(stored, &work, results, wide);
                put_results(&work, results, &at, m * out_stride + p * PANEL_ROWS, out_stride);
            }
}

#define DOT_ROWS(name, stored)                                                                     \
    void TILE_NAME(dot_rows, _##name)(DOT_ROWS_ARGS)                                               \
    {                                                                                              \
        dot_rows(stored, w, panel_bytes, panels, leaves, x, x_blocks, sums, M, out, out_stride,    \
                 node, room);                                                                      \
    }
DOT_ROWS(bf16, STORED_BF16)
DOT_ROWS(i8, STORED_INT8)
DOT_ROWS(e4m3, STORED_FP8)
DOT_ROWS(int4_none, STORED_INT4_G32)
DOT_ROWS(int4_zero, STORED_INT4_G32_ZERO)
DOT_ROWS(int4_min, STORED_INT4_G32_MIN)

/* ---- does the instruction do what tile.h says? ---- */

void TILE_NAME(tile_product, )(const uint32_t *a, const uint32_t *b, float *c)
{
    tile_load(0, c);
    tile_load(1, a);
    tile_load(2, b);
    tile_dot(0, 1, 2);
    tile_store(0, c);
}

bool TILE_NAME(tiles_add_in_order, )(void)
{
    uint32_t a[TILE_FLOATS], b[TILE_FLOATS], state = 1;
    float got[TILE_FLOATS], want[TILE_FLOATS];
    for (size_t i = 0; i < TILE_FLOATS; i++) { /* from 2^-7 to 2^8, of any sign and mantissa */
        a[i] = ((state = state * 1664525 + 1013904223) & 0x87ff87ff) + 0x3c003c00;
        b[i] = ((state = state * 1664525 + 1013904223) & 0x87ff87ff) + 0x3c003c00;
        got[i] = want[i] = (float)(int32_t)state * 0x1p-20f;
    }
    tile_configure();
    TILE_NAME(tile_product, )(a, b, got);
    tile_release();
    tile_product_plain(a, b, want);
    return memcmp(got, want, sizeof got) == 0;
}
