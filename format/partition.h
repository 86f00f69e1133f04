/* Which rank owns what: pure arithmetic, no I/O. tpshard cuts by it, tprun re-checks by it.
 *
 *     part i of k of n things is [cut(n,i,k), cut(n,i+1,k)), cut(n,i,k) = floor(n*i/k)
 *
 * Leaves depend on the model only, never on TP (docs/numerics.md section 8), so the tree over
 * them, and with it every bit of the result, is the same at every degree. A rank may own nothing
 * of a kind.
 */
#pragma once
#include "model_config.h"
#include "range.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    PARTITION_MLP_UNIT = 32,   /* columns */
    PARTITION_MLP_LEAVES = 48, /* at most */
    PARTITION_TP_MAX = 48,
    PARTITION_LEAVES_MAX = MODEL_HEADS_MAX, /* (n + 1) / 2 attention leaves above 64 heads */
};

/* One kind of leaves (attention or MLP) of a model. */
struct leaves {
    uint64_t count;   /* leaves */
    uint64_t columns; /* columns in all: n_heads * head_dim, or d_ff */
    uint64_t units;   /* things that are cut: heads, or units of 32 columns */
    uint64_t unit_columns;
    uint64_t per_leaf; /* units of a leaf; 0 (MLP): units are cut over the leaves */
};
struct leaves leaves_of_attention(const struct model_config *model);
struct leaves leaves_of_mlp(const struct model_config *model);
/* Columns of leaf i */
struct range leaf_columns(const struct leaves *leaves, uint64_t i);
/* Columns that are not cut: one leaf of all of them */
struct leaves leaves_whole(uint64_t columns);

/* What one rank owns. */
struct partition {
    uint64_t tp_size, rank;
    struct range layers;                       /* all of them; fewer in a pipeline stage */
    struct range attention_leaves, mlp_leaves; /* of the model's leaves */
    struct range heads;                        /* query heads */
    struct range kv_heads;                     /* KV heads those need; ranks may share one */
    struct range ff;                           /* columns of gate and up, columns of down */
    struct range panels;                       /* vocabulary panels of 16 rows */
    struct range vocab;                        /* rows: panels * 16, cut at the vocabulary's end */
};
/* tp_size 1..48 and rank < tp_size are asserted. */
struct partition partition_of(const struct model_config *model, uint64_t tp_size, uint64_t rank);

/* ---- the tree ----
 * A fold program runs over a sequence of values (leaves of a rank, or roots of all ranks in order):
 * push value i on a stack, then merges[i] times: replace the top two (a below b) by a + b. */

/* merges[i - owned.begin] for the leaves of a rank, over n leaves in all; what remains on the stack
 * are the rank's roots, the largest complete subtrees it owns, in order. Returns the number of
 * roots. */
uint64_t tree_local(uint64_t n, struct range owned, uint8_t *merges);
/* merges for the roots of all tp_size ranks in order (rank r owns [cut(n,r,tp), cut(n,r+1,tp)));
 * one value remains. merges has room for tp_size * TREE_ROOTS_MAX. Returns the number of roots in
 * all. */
uint64_t tree_global(uint64_t n, uint64_t tp_size, uint8_t *merges);
enum { TREE_ROOTS_MAX = 20, TREE_STACK_MAX = 24 }; /* <= 2 log2(1024) roots a rank */
