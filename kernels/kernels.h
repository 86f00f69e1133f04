/* The CPU kernels: one table of functions per instruction set, all giving the same bits.
 *
 * kernels/ knows arrays and shapes, no models and no files. docs/numerics.md is normative; the
 * plain C table ("scalar") is its executable form and needs no FMA hardware. Every function expects
 * the floating-point mode of threads_set_fp_mode() and finite inputs, and never fails.
 *
 * Packed panels (LAYOUT_PANEL16, stored.h). A panel is 16 rows of words: 64 bytes hold a word of
 * each. A dot runs over a leaf of its columns: pieces, each padded with zeros to blocks of 32
 * columns. Panels and leaves are 64-byte aligned.
 */
#pragma once
#include "stored.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum isa { ISA_SCALAR, ISA_AVX2, ISA_AVX512, ISA_AVX512BF16, ISA_AMX, ISA_COUNT };

enum { ATTENTION_CHUNK = 256 }; /* a constant of numerics.md */

enum { SAMPLE_CHUNK = 1024, SAMPLE_BINS = 1024, SAMPLE_ROWS = SAMPLE_BINS + 8, SAMPLE_TABLES = 4 };

/* What of a vocabulary is kept: ids before or at (x, id), in order of falling x and rising id, of
 * at least this weight. */
struct sample_cut {
    float x;
    uint32_t id;
    float weight;
};

/* Told by dots of one row and one panel how far they have read it, in rising order; what was read
 * lies in the nearest cache. Dots tell every FOLLOW_BYTES or more often, or do not tell at all: for
 * speed only. */
enum { FOLLOW_BYTES = 4096 };
struct follower {
    void (*follow)(struct follower *self, const void *end);
};

struct kernels {
    enum isa isa;
    const char *name; /* "scalar", "avx2", "avx512", "avx512bf16", "amx" */

    /* The dots of row r < 16 of a panel with row m < M of x, leaf by leaf in the one order of
     * docs/numerics.md section 3, groups included, and folded: root i is out[i * node + m *
     * out_stride + r]. A row's scale is not applied.
     *   w       the panel at the first leaf's first word
     *   leaves  at least one; of their pieces formats without groups look at the blocks alone
     *   x       [M][x_stride] f32, the columns of the leaves' blocks of each row are read, padding
     *           is +0; 64-byte aligned rows; x_stride a multiple of 32 where sums are given
     *   sums    of piece_sums, for formats with a minimum; else not looked at
     *   out     [M][out_stride] f32, 16 per row written, in each node: one for each sum that waits
     *           at once, at most TREE_STACK_MAX. node: floats, not looked at with one leaf
     * The result for (m, r) does not depend on M. Bytes moved: 64 * stored_words of the leaves. */
    void (*dot[STORED_COUNT])(const void *w, const struct leaf_run *leaves, const float *x,
                              size_t x_stride, const float *sums, size_t M, float *out,
                              size_t out_stride, size_t node);
    /* dot's bits of one row of x, of `panels` panels, panel_bytes from one to the next: out[i *
     * node + p * 16 + r]. NULL where that is no faster than one after the other.
     *   moderate  what is not 0 in x lies within 2^-100 .. 2^60, so that sums of it and sums 2^24
     *             times as large stay within f32's range alike; false: it may be anything */
    void (*dot_row[STORED_COUNT])(const void *w, size_t panel_bytes, size_t panels,
                                  const struct leaf_run *leaves, const float *x, const float *sums,
                                  bool moderate, float *out, size_t node);
    /* Is x [n] moderate? Not NULL where there is a dot_row of codes. */
    bool (*moderate)(const float *x, size_t n);
    /* sums[m * (x_stride / 32) + b] = the sum of x row m over the piece that begins at block b, in
     * the dot's order. */
    void (*piece_sums)(struct pieces pieces, const float *x, size_t x_stride, size_t M,
                       float *sums);

    /* Of many rows, where an instruction set has more for them than dot; NULL else. A tile of rows
     * is packed once, then meets runs of panels.
     *   rows_f32     packed rows stay f32, and may be any values; false: they are bf16 values, two
     *                in a word
     *   rows_worth   from so many rows on dot_rows of a format is the faster one; 0: there is none
     *   rows_tile    rows, and panels in a run, that are best together; leaf_panels where a panel
     *   run_panels   is many short leaves; so few rows that they read one panel as it streams by.
     *   few_rows     For speed only
     *   pack_rows    columns 0 .. blocks * 32 - 1 of M rows of 64-byte aligned x into
     *                packed_words(k, blocks, M), in an order of its own, which depends on M
     *   rows_begin   around calls of dot_rows, by the thread that makes them: rows_end gives back
     *   rows_end     what the processor keeps for them
     *   dot_rows     the bits of dot, of `panels` panels, panel_bytes from one to the next: out[i *
     *                node + m * out_stride + p * 16 + r]. x of pack_rows of M rows, x_blocks a row.
     *                sums of piece_sums, sums[m * x_blocks + b]. NULL for formats with values that
     *                are not bf16 values, unless rows_f32. room: rows_room bytes, 64-byte aligned,
     *                scratch
     */
    bool rows_f32;
    uint8_t rows_worth[STORED_COUNT], few_rows;
    uint16_t rows_tile, run_panels, leaf_panels;
    uint32_t rows_room;
    void (*pack_rows)(const float *x, size_t x_stride, size_t blocks, size_t M, uint32_t *packed);
    void (*rows_begin)(void);
    void (*rows_end)(void);
    void (*dot_rows[STORED_COUNT])(const void *w, size_t panel_bytes, size_t panels,
                                   const struct leaf_run *leaves, const uint32_t *x,
                                   size_t x_blocks, const float *sums, size_t M, float *out,
                                   size_t out_stride, size_t node, void *room);

    /* Decode row r (0..15) of a panel into out[0 .. blocks*32): the embedding lookup. f32, f16,
     * bf16. */
    void (*panel_row[DTYPE_COUNT])(const void *w, size_t blocks, size_t r, float *out);

    /* y = (x * (1 / sqrt(mean(x^2) + eps))) * w; y is rounded to bf16 values when round_bf16. x may
     * be y. n any. docs/numerics.md section 5. */
    void (*rms_norm)(const float *x, const float *w, size_t n, float eps, bool round_bf16,
                     float *y);
    /* x[i] = bf16 value of x[i] */
    void (*round_bf16)(float *x, size_t n);
    /* y = a + b */
    void (*add)(const float *a, const float *b, size_t n, float *y);
    /* y = x * scale + bias, two roundings; scale or bias NULL: that step is absent. x may be y. */
    void (*scale_bias)(const float *x, const float *scale, const float *bias, size_t n, float *y);
    /* y = silu(gate) * up, silu(g) = g / (1 + exp(-g)); rounded to bf16 values when round_bf16; y
     * may be gate */
    void (*silu_mul)(const float *gate, const float *up, size_t n, bool round_bf16, float *y);
    /* Rotate one head in place. cos, sin: head_dim / 2 values of its position. */
    void (*rope)(float *head, const float *cos, const float *sin, size_t head_dim);

    /* One chunk of attention for M query rows that share a KV head; section 6.
     *   k, v        the chunk's page: k is 16 panels of 16 positions x head_pad columns; v is
     *               head_pad / 16 panels (16 components each) x 256 columns (positions); element
     *               type kv
     *   q           [M][q_stride] f32, head_pad columns (zero padded), rounded as section 6 says
     *   first, last [M] visible positions of row m inside the chunk, first <= last < 256; a row
     *               with first > last sees nothing here: its state stays untouched
     *   m, l        [M] running maximum and sum; fresh[m] true: nothing joined yet
     *   o           [M][o_stride] running output, head_pad columns
     *   scratch     attention_scratch(self, M, head_pad) floats, 64-byte aligned
     */
    void (*attention_chunk)(const struct kernels *self, const void *k, const void *v, enum dtype kv,
                            size_t head_pad, const float *q, size_t q_stride, size_t M, float scale,
                            const int *first, const int *last, bool round_p, bool *fresh,
                            float *max, float *sum, float *o, size_t o_stride, float *scratch);
    /* Join a chunk's maximum, sum and output to a row's running ones; fresh as above. */
    void (*attention_join)(bool *fresh, float *max, float *sum, float *o, float max_c, float sum_c,
                           const float *o_c, size_t head_pad);
    /* out = o / l + 0.0f, rounded to bf16 values when round_bf16 */
    void (*attention_end)(const float *o, float l, size_t n, bool round_bf16, float *out);

    /* Put one position's k and v (head_dim values each, f32) at position p (0..255) of a page. */
    void (*kv_append)(void *k, void *v, enum dtype kv, size_t head_dim, size_t head_pad, size_t p,
                      const float *k_head, const float *v_head);

    /* y[i] = exp(x[i]) of docs/numerics.md section 4; x may be y */
    void (*exp)(const float *x, size_t n, float *y);

    /* Passes over a vocabulary of n ids; section 10. */
    /* *max: the largest; false: one is NaN or +inf. */
    bool (*sample_scan)(const float *x, size_t n, float *max);
    /* scaled = x / temperature, w = exp(scaled - max) */
    void (*sample_weights)(const float *x, size_t n, float temperature, float max, float *scaled,
                           float *w);
    /* sums [div_ceil(n, SAMPLE_CHUNK)] of the weights that the cut keeps, in 32 chains each */
    void (*sample_sums)(const float *x, const float *w, size_t n, struct sample_cut cut,
                        double *sums);
    /* mass [SAMPLE_ROWS]: mass[b][.] += the weights (w NULL: 1 each) of ids in bin b; the bins are
     * stretches of falling x, from max on, 1 / scale wide; what is beyond SAMPLE_BINS - 1 may be
     * left incomplete */
    void (*sample_histogram)(const float *x, const float *w, size_t n, float max, float scale,
                             double (*mass)[SAMPLE_TABLES]);
    /* The ids in bin b, rising; how many. */
    size_t (*sample_bin)(const float *x, size_t n, float max, float scale, int32_t bin,
                         uint32_t *ids);
};

/* Rows that stay f32 are packed with an odd number of such stretches of blocks. */
enum { STRETCH_BLOCKS = 8 };
static inline size_t strip_blocks(size_t blocks)
{
    return ((blocks + STRETCH_BLOCKS - 1) / STRETCH_BLOCKS | 1) * STRETCH_BLOCKS;
}

/* Words of M packed rows; of pairs of bf16 values in whole strips of 16 rows. */
static inline size_t packed_words(const struct kernels *k, size_t blocks, size_t M)
{
    if (k->rows_f32)
        return M * BLOCK_COLS * strip_blocks(blocks);
    return (M + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS * (BLOCK_COLS / 2) * blocks;
}

/* Room of dot_rows; scores and outputs of a chunk's rows; queries, or weights of softmax,
 * packed. */
static inline size_t attention_scratch(const struct kernels *k, size_t M, size_t head_pad)
{
    size_t widest = head_pad > ATTENTION_CHUNK ? head_pad : ATTENTION_CHUNK;
    size_t packed = k->pack_rows ? packed_words(k, widest / BLOCK_COLS, M) : 0;
    return k->rows_room / sizeof(float) + M * (ATTENTION_CHUNK + head_pad) + packed;
}

/* Are so many rows worth packing, for weights of that format? bf16: they are bf16 values. */
static inline bool kernels_packs(const struct kernels *k, enum stored_id stored, bool bf16,
                                 size_t rows)
{
    return (bf16 || k->rows_f32) && k->rows_worth[stored] && rows >= k->rows_worth[stored];
}

/* The table for an instruction set, NULL where this CPU lacks it. */
const struct kernels *kernels_get(enum isa isa);
const struct kernels *kernels_best(void);
/* What this processor has of the instructions that tables may use, by name; how many. */
enum { KERNELS_FEATURES_MAX = 11 };
size_t kernels_features(const char *names[KERNELS_FEATURES_MAX]);
bool isa_from_name(const char *name, enum isa *out);
