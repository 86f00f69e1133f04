/* Stored formats: how the values of a matrix lie in a rank file, as data. A format is a row of a
 * table. What cuts, packs, checks, reads back or plans a matrix asks the row; only kernels know
 * more (dot[stored], kernels.h). docs/format.md section 5 is normative.
 *
 * A row of a matrix is a sequence of 32-bit words. Its columns are cut by leaves (partition.h), and
 * inside a leaf where a group of columns begins; a piece is what is between two cuts, padded to
 * BLOCK_COLS columns. Constants that a group's values share are words of the row too; those of a
 * whole row are a vector of their own (PART_SCALE).
 *
 * What a row can say of other formats: a block of 128 x 128 is a group of 128 whose scale 128 rows
 * repeat, an affair of the encoder alone. Groups of 16 (E2M1 by E4M3, exact in f32) are pieces of
 * 32 whose 16 constant bits are two scales; their second level is the row's scale. Another type of
 * scale is another meaning of the constants' bits. Reordered columns are a part more (a vector of
 * column numbers), applied to the activations. A size that depends on values is a bound here, and
 * the chunk table has what was used.
 */
#pragma once
#include "dtype.h"
#include "range.h"
#include <stdbool.h>
#include <stddef.h>

/* Rows of a panel, columns of a block: constants of the format. */
enum { PANEL_ROWS = 16, BLOCK_COLS = 32 };

/* On disk: never reused. */
enum stored_id {
    STORED_NONE = 0,
    STORED_F32 = DTYPE_F32,
    STORED_F16 = DTYPE_F16,
    STORED_BF16 = DTYPE_BF16,
    STORED_INT8 = 4,
    STORED_FP8 = 5,
    STORED_INT4_G32 = 6,
    STORED_INT4_G64,
    STORED_INT4_G128,
    STORED_INT4_G32_ZERO,
    STORED_INT4_G64_ZERO,
    STORED_INT4_G128_ZERO,
    STORED_INT4_G32_MIN,
    STORED_INT4_G64_MIN,
    STORED_INT4_G128_MIN,
    STORED_COUNT
};

/* Where zero is among a group's codes. */
enum stored_offset {
    OFFSET_NONE,
    OFFSET_ZERO,    /* an integer, taken from the code before the dot */
    OFFSET_MINIMUM, /* a number that is added to code times scale: a dot needs the sum of x */
};

/* Constants of a row or a group are handed around as 32 bits: an f32 scale; or a bf16 scale in the
 * high half and the offset, a small integer or a bf16, in the low one. */
struct stored {
    enum stored_id id;
    const char *name; /* "bf16", "int8", "int4-g64-zero" */
    uint32_t bits;    /* of a value or code: 4, 8, 16, 32 */
    bool row_scale;   /* an f32 for each row, PART_SCALE */
    uint32_t group;   /* columns that share constants, a multiple of BLOCK_COLS; 0: no groups */
    uint32_t constant_bits; /* of a group in the row: 32, 16 (of two groups in a word: the scales
                               alone), 0 */
    enum stored_offset offset;
    double zstd_ratio; /* what zstd leaves of normally distributed values, measured: for plan's
                          advice */

    /* The constants of a row or group of n finite values. NULL: there are none. */
    uint32_t (*constants)(const struct stored *self, const float *values, size_t n);
    /* Codes or values of n values, padded with zero bits to a word. False where a finite value left
     * the range. */
    bool (*encode)(const struct stored *self, const float *values, size_t n, uint32_t constants,
                   unsigned char *words);
    /* What n codes or values mean, to nearest f32; or, where that is inexact and to_odd, to the
     * neighbour whose last bit is set, so that rounding it to fewer bits is rounding once. */
    void (*decode)(const struct stored *self, const unsigned char *words, size_t n,
                   uint32_t constants, bool to_odd, float *values);
};

const struct stored *stored_of(unsigned id);           /* NULL where there is none */
const struct stored *stored_by_name(const char *name); /* NULL where there is none */
/* What --quant, --group and --offset name ("int4", 64, "zero"); group 0: the largest. NULL where
 * there is none; a format that does not quantize is none. */
const struct stored *stored_by_options(const char *quant, uint64_t group, const char *offset);
static inline bool stored_quantized(const struct stored *s)
{
    return s->id > STORED_BF16;
}
/* Bytes that zstd's planes are made of: 4, 2 or 1 */
static inline size_t stored_plane_bytes(const struct stored *s)
{
    return s->bits < 8 ? 1 : s->bits / 8;
}

/* One piece of a leaf. */
struct piece {
    struct range cols;  /* of the whole tensor */
    uint64_t index;     /* in the leaf */
    uint64_t k, word;   /* packed column, and word, of its first column, in the leaf's row */
    uint64_t constants; /* the word in the leaf's row that has its constants, where there are any */
};
/* The next piece of a leaf of columns; the first where *piece is {0}. False behind the last. */
bool stored_next_piece(const struct stored *s, struct range leaf, struct piece *piece);
/* The constants of a piece in a leaf's row, as 32 bits; 0 where it has none. */
uint32_t stored_get_constants(const struct stored *s, const unsigned char *leaf,
                              const struct piece *piece);
void stored_put_constants(const struct stored *s, unsigned char *leaf, const struct piece *piece,
                          uint32_t constants);

/* A leaf's blocks as a dot sees them: the first piece has `lead` of them, the others `group`, the
 * last what is left. */
struct pieces {
    uint32_t blocks, lead, group;
};
struct pieces stored_pieces(const struct stored *s, struct range leaf);

struct leaf {
    struct pieces pieces;
    uint32_t panel_bytes; /* of it in a panel */
};

/* Leaves in the order of their columns, and how their sums are folded: after leaf i merges[i] times
 * the two newest sums become one (tree_local of partition.h). What is left are the roots. */
struct leaf_run {
    uint32_t count, n_roots;
    const struct leaf *leaves; /* [count] */
    const uint8_t *merges;     /* [count] */
    struct follower *follower; /* kernels.h; NULL: none */
};

/* Of a row that no leaves cut. */
#define ONE_LEAF(of)                                                                               \
    (&(const struct leaf_run){.count = 1,                                                          \
                              .n_roots = 1,                                                        \
                              .leaves = &(const struct leaf){.pieces = (of)},                      \
                              .merges = (const uint8_t[1]){0}})

/* Words of a leaf's row */
uint64_t stored_words(const struct stored *s, struct range leaf);
