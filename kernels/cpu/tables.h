/* Inside kernels/cpu only: the tables and the dots they point to. */
#pragma once
#include "fma.h"
#include "kernels.h"

extern const struct kernels kernels_scalar, kernels_avx2, kernels_avx512, kernels_avx512bf16,
    kernels_amx;

/* Before a loop whose turns do not depend on each other, whatever overlaps. clang has no such hint
 * that does not also allow sums in another order; it looks at the addresses. */
#ifdef __clang__
#define INDEPENDENT
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define DOT_ARGS                                                                                   \
    const void *w, const struct leaf_run *leaves, const float *x, size_t x_stride,                 \
        const float *sums, size_t M, float *out, size_t out_stride, size_t node
#define DOT_DECLARE(isa)                                                                           \
    void dot_##isa##_f32(DOT_ARGS), dot_##isa##_f16(DOT_ARGS), dot_##isa##_bf16(DOT_ARGS);         \
    void dot_##isa##_i8(DOT_ARGS), dot_##isa##_e4m3(DOT_ARGS), dot_##isa##_int4_none(DOT_ARGS);    \
    void dot_##isa##_int4_zero(DOT_ARGS), dot_##isa##_int4_min(DOT_ARGS)
DOT_DECLARE(scalar);
DOT_DECLARE(avx2);
DOT_DECLARE(avx512);

#define DOT_ROW_ARGS                                                                               \
    const void *w, size_t panel_bytes, size_t panels, const struct leaf_run *leaves,               \
        const float *x, const float *sums, bool moderate, float *out, size_t node
void dot_row_avx2_f16(DOT_ROW_ARGS), dot_row_avx2_bf16(DOT_ROW_ARGS), dot_row_avx2_i8(DOT_ROW_ARGS);
void dot_row_avx2_int4_none(DOT_ROW_ARGS), dot_row_avx2_int4_zero(DOT_ROW_ARGS);
bool moderate_avx2(const float *x, size_t n);

#define DOT_TABLE(isa)                                                                             \
    .dot = {[STORED_F32] = dot_##isa##_f32,                                                        \
            [STORED_F16] = dot_##isa##_f16,                                                        \
            [STORED_BF16] = dot_##isa##_bf16,                                                      \
            [STORED_INT8] = dot_##isa##_i8,                                                        \
            [STORED_FP8] = dot_##isa##_e4m3,                                                       \
            [STORED_INT4_G32... STORED_INT4_G128] = dot_##isa##_int4_none,                         \
            [STORED_INT4_G32_ZERO... STORED_INT4_G128_ZERO] = dot_##isa##_int4_zero,               \
            [STORED_INT4_G32_MIN... STORED_INT4_G128_MIN] = dot_##isa##_int4_min}

#define DOT_ROWS_ARGS                                                                              \
    const void *w, size_t panel_bytes, size_t panels, const struct leaf_run *leaves,               \
        const uint32_t *x, size_t x_blocks, const float *sums, size_t M, float *out,               \
        size_t out_stride, size_t node, void *room
#define PACK_ROWS_ARGS const float *x, size_t x_stride, size_t blocks, size_t M, uint32_t *packed
#define ROWS_DECLARE(isa)                                                                          \
    void dot_rows_##isa##_bf16(DOT_ROWS_ARGS), dot_rows_##isa##_i8(DOT_ROWS_ARGS);                 \
    void dot_rows_##isa##_e4m3(DOT_ROWS_ARGS), dot_rows_##isa##_int4_none(DOT_ROWS_ARGS);          \
    void dot_rows_##isa##_int4_zero(DOT_ROWS_ARGS), dot_rows_##isa##_int4_min(DOT_ROWS_ARGS);      \
    void pack_rows_##isa(PACK_ROWS_ARGS), rows_begin_##isa(void), rows_end_##isa(void)
ROWS_DECLARE(avx2);
void dot_rows_avx2_f32(DOT_ROWS_ARGS), dot_rows_avx2_f16(DOT_ROWS_ARGS);
ROWS_DECLARE(avx512bf16);
ROWS_DECLARE(amx);
ROWS_DECLARE(emulated); /* amx's in tests, over a tile unit in memory */

/* tests/tools/emulated_tiles.c copies these fields. */
#define ROWS_TABLE(isa, ...)                                                                       \
    .pack_rows = pack_rows_##isa, .rows_begin = rows_begin_##isa, .rows_end = rows_end_##isa,      \
    .dot_rows = {[STORED_BF16] = dot_rows_##isa##_bf16,                                            \
                 [STORED_INT8] = dot_rows_##isa##_i8,                                              \
                 [STORED_FP8] = dot_rows_##isa##_e4m3,                                             \
                 [STORED_INT4_G32... STORED_INT4_G128] = dot_rows_##isa##_int4_none,               \
                 [STORED_INT4_G32_ZERO... STORED_INT4_G128_ZERO] = dot_rows_##isa##_int4_zero,     \
                 [STORED_INT4_G32_MIN... STORED_INT4_G128_MIN] = dot_rows_##isa##_int4_min,        \
                 ##__VA_ARGS__}
/* Few rows pass faster one by one; panels of a run and rows that are multiplied together fit in the
 * second-level cache with their results. Room: these, and widened blocks of a run twice. */
enum {
    AMX_ROWS = 128,
    AMX_PANELS = 16,
    AMX_CHUNK_BLOCKS = 8,
    AMX_RESULTS_BYTES = AMX_ROWS * AMX_PANELS * PANEL_ROWS * 4,
    AMX_WIDE_BYTES = AMX_PANELS * AMX_CHUNK_BLOCKS * BLOCK_COLS * PANEL_ROWS * 2, /* bf16 */
};
#define ROWS_TABLE_AMX(isa)                                                                        \
    ROWS_TABLE(isa), .rows_worth = {[STORED_BF16... STORED_COUNT - 1] = 8}, .rows_tile = AMX_ROWS, \
                     .run_panels = AMX_PANELS, .leaf_panels = 2,                                   \
                     .rows_room = AMX_RESULTS_BYTES + 2 * AMX_WIDE_BYTES

/* VDPBF16PS here: x = fma(low, fma(high, x)), and not another order. */
bool pairs_add_in_order(void);
/* TDPBF16PS here: as tile.h has it. */
bool tiles_add_in_order_amx(void), tiles_add_in_order_emulated(void);
/* One of them: c += a * b, [16][16] words each, between rows_begin and rows_end. */
void tile_product_amx(const uint32_t *a, const uint32_t *b, float *c);
void tile_product_emulated(const uint32_t *a, const uint32_t *b, float *c);

/* ---- the leaves of a panel ---- */

/* Where a dot is: a leaf, its first block in x, and the stack of sums. */
struct leaf_at {
    const struct leaf *leaf;
    const uint8_t *merges;
    size_t left; /* leaves, this one too */
    const char *w;
    size_t block;
    float *top; /* for its sums, with so many below joined to them */
    size_t node;
};

static inline struct leaf_at leaf_first(const void *w, const struct leaf_run *leaves, float *out,
                                        size_t node)
{
    return (struct leaf_at){leaves->leaves, leaves->merges, leaves->count, w, 0, out, node};
}

static inline void leaf_next(struct leaf_at *at)
{
    at->w += at->leaf->panel_bytes;
    at->block += at->leaf->pieces.blocks;
    at->top -= *at->merges * at->node;
    at->top += at->node;
    at->left--;
    at->leaf++;
    at->merges++;
}

/* By the names of the arguments of dots. */
#define EACH_LEAF(at)                                                                              \
    for (struct leaf_at at = leaf_first(w, leaves, out, node); at.left; leaf_next(&at))

static inline void follow(struct follower *follower, const void *end)
{
    if (follower)
        follower->follow(follower, end);
}

/* A leaf's sums of one row of x, to m_at from the top, where they may lie already: -0 becomes +0,
 * then the sums below are joined, the newest first. */
static inline void put_leaf(const struct leaf_at *at, size_t m_at, const float *sums)
{
    float total[PANEL_ROWS], *to = at->top + m_at;
    for (size_t r = 0; r < PANEL_ROWS; r++)
        total[r] = sums[r] + 0.0f;
    for (unsigned i = *at->merges; i; i--) {
        to -= at->node;
        for (size_t r = 0; r < PANEL_ROWS; r++)
            total[r] = to[r] + total[r];
    }
    memcpy(to, total, sizeof total);
}

/* ---- the pieces of a leaf of codes ---- */

/* Blocks of the piece that begins at block b of a leaf. */
static inline size_t piece_blocks(struct pieces pieces, size_t b)
{
    size_t n = b ? pieces.group : pieces.lead, left = pieces.blocks - b;
    return n < left ? n : left;
}

struct piece_at {
    const uint32_t *word, *codes; /* of its constants; of its first block */
    bool second;                  /* of the two pieces that the word serves */
    size_t block, blocks;
};

static inline struct piece_at before_pieces(const void *w)
{
    return (struct piece_at){.codes = w, .second = true};
}

/* false: there is no other. */
static inline __attribute__((always_inline)) bool
next_piece(enum stored_offset offset, struct pieces pieces, struct piece_at *at)
{
    at->codes += at->blocks * (BLOCK_COLS / 8 * PANEL_ROWS);
    at->block += at->blocks;
    if (at->block == pieces.blocks)
        return false;
    at->second = offset == OFFSET_NONE && !at->second;
    if (!at->second) {
        at->word = at->codes;
        at->codes += PANEL_ROWS;
    }
    at->blocks = piece_blocks(pieces, at->block);
    return true;
}

/* What a piece's word of each row says; second: of the two pieces that the word serves. */
static inline __attribute__((always_inline)) void constants_of(enum stored_offset offset,
                                                               const uint32_t *word, bool second,
                                                               float *scale, float *zero,
                                                               float *minimum)
{
    unsigned shift = offset == OFFSET_NONE && !second ? 16 : 0;
    for (size_t r = 0; r < PANEL_ROWS; r++) {
        scale[r] = f32_from_bits(word[r] << shift & 0xffff0000);
        zero[r] = offset == OFFSET_NONE   ? 8
                  : offset == OFFSET_ZERO ? (float)(int)(word[r] & 0xff)
                                          : 0;
        minimum[r] = f32_from_bits(word[r] << 16);
    }
}

/* Sums P over a piece to those over the pieces before it: out = fma(scale, P, out), then with a
 * minimum fma(minimum, S, out). sums: S of row m at m * sums_stride. */
static inline __attribute__((always_inline)) void
fold_piece(enum stored_offset offset, const float *scale, const float *minimum, const float *p,
           size_t M, const float *sums, size_t sums_stride, float *out, size_t out_stride)
{
    for (size_t m = 0; m < M; m++, p += PANEL_ROWS, out += out_stride) {
        const float s = offset == OFFSET_MINIMUM ? sums[m * sums_stride] : 0;
        INDEPENDENT
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            float total = fma_f32(scale[r], p[r], out[r]);
            out[r] = offset == OFFSET_MINIMUM ? fma_f32(minimum[r], s, total) : total;
        }
    }
}
