/* Ranks together: who they are, how they meet, and the all-reduce in tree order.
 *
 * A reduction is: every rank leaves the roots of its complete subtrees in its buffer, exchange()
 * makes them readable by everyone, and whoever needs a row folds all roots with the global program:
 * the order of additions is the tree's, whatever the degree. Rows and logits are gathered: every
 * rank writes its part at its place, and after exchange() all of it can be read.
 *
 * The implementation here is `threads`: ranks share the memory of one process, so that a part is
 * written where everyone reads it and exchange() is a barrier. One over a network would keep its
 * own copy of these buffers and fill it in exchange().
 */
#pragma once
#include "hash.h"
#include "partition.h"
#include "threads.h"

/* One kind of reduction: its fold program over the roots of all ranks in order. */
struct comm_tree {
    uint64_t n_roots;
    uint64_t first_root[PARTITION_TP_MAX + 1]; /* rank r's are [first_root[r], first_root[r + 1]) */
    uint8_t merges[PARTITION_TP_MAX * TREE_ROOTS_MAX];
};
void comm_tree_init(struct comm_tree *tree, uint64_t n_leaves, uint64_t tp_size);

enum comm_what {
    COMM_SYNC,   /* nothing but the meeting: a rank's own threads have finished a phase */
    COMM_ROWS,   /* rows: embedded or normed */
    COMM_ROOTS,  /* roots */
    COMM_LOGITS, /* logits */
};

struct comm {
    const char *name;
    uint64_t size; /* ranks */
    struct comm_tree attention, mlp;
    float *rows; /* [rows_max][row_stride], f32 */
    uint64_t row_stride;
    float *logits; /* [slice_max][logit_stride] */
    uint64_t logit_stride;
    float *roots[PARTITION_TP_MAX]; /* per rank [n_roots][rows_max][root_stride] */
    uint64_t rows_max, root_stride, slice_max;
    /* Collective over all compute threads. */
    void (*exchange)(struct comm *comm, enum comm_what what);
    struct barrier barrier;
    void *memory;
    uint64_t memory_bytes;
};

/* Bytes that comm_open_threads allocates, in all. */
bool comm_bytes(const struct model_config *model, uint64_t tp_size, uint64_t rows_max,
                uint64_t slice_max, uint64_t *bytes, struct tp_error *err);
/* For `threads` compute threads. A {0} comm may be closed. */
bool comm_open_threads(struct comm *comm, const struct model_config *model, uint64_t tp_size,
                       uint64_t rows_max, uint64_t slice_max, int threads, struct tp_error *err);
void comm_close(struct comm *comm);
/* Address of root `index` of row `row` of rank `rank`: [root_stride] */
static inline float *comm_root(const struct comm *comm, uint64_t rank, uint64_t index, uint64_t row)
{
    return comm->roots[rank] + (index * comm->rows_max + row) * comm->root_stride;
}

/* ---- handshake: before the first collective ---- */

/* What every rank says of itself; all but `rank` must agree. Fixed layout: it can travel. */
struct comm_hello {
    uint32_t format_version, tp_size, rank;
    uint32_t mxcsr; /* of the thread that computes */
    char kernels[16];
    struct hash128 bundle_id, rank_map, config;
};
_Static_assert(sizeof(struct comm_hello) == 80, "fixed layout");
/* hellos [size], of rank 0, 1, ... TP_E_HANDSHAKE: a sentence naming two ranks and what differs. */
bool comm_handshake(const struct comm_hello *hellos, uint64_t size, struct tp_error *err);
