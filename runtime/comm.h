/* Ranks together: who they are, how they meet, and the all-reduce in tree order.
 *
 * A reduction is: every rank leaves the roots of its complete subtrees with its device, a meeting
 * makes them readable by everyone, and whoever needs a row folds all roots with the global program:
 * the order of additions is the tree's, whatever the degree. Rows and logits are gathered: every
 * rank writes its part at its place, and after the meeting all of it can be read.
 *
 * The transport here is `threads`: ranks share the memory of one process, so that a part is
 * written where everyone reads it and a meeting is a barrier. Threads and ranks are in crews: all
 * threads of a crew work for each of its ranks, so that any number of threads shares the work of
 * any number of ranks evenly. There is one, but where memory has nodes.
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

/* What must be readable after a meeting, and by whom. */
enum comm_what {
    COMM_CREW,   /* what a crew's own threads wrote in a phase: by them */
    COMM_ROWS,   /* rows, embedded or normed: by all ranks, as all that follows */
    COMM_ROOTS,  /* roots */
    COMM_LOGITS, /* logits */
};

enum { COMM_DEADLINE_SECONDS = 3600 }; /* a phase of a large step takes minutes on a slow machine */

struct comm {
    uint64_t size, crews; /* ranks; 1 <= crews <= ranks, threads */
    struct comm_tree attention, mlp;
    /* Collective: CREW of the threads of this thread's crew, else of all. Whoever waits
     * longer than the deadline ends the process, exit status 9: the others cannot go on either. */
    void (*meet)(struct comm *comm, int thread, enum comm_what what);
    /* Collective, of processes, while a run begins: `bytes` of each local rank, in order, to all
     * ranks' [size][bytes]. TP_E_RANK. Here all ranks are local. */
    bool (*allgather)(struct comm *comm, const void *mine, void *all, size_t bytes,
                      struct tp_error *err);
    uint32_t deadline; /* seconds */
    uint64_t meetings; /* of all ranks so far */
    struct barrier all, of_crew[PARTITION_TP_MAX];
};

/* Ranks as threads of this process, `threads` in all, in so many crews. deadline: seconds; 0: the
 * default. Errors TP_E_MEMORY. {0} may be closed. */
bool comm_open_threads(struct comm *comm, const struct model_config *model, uint64_t tp_size,
                       int threads, uint64_t crews, uint32_t deadline, struct tp_error *err);
void comm_close(struct comm *comm);

/* Crews share n ranks, or threads, evenly and in order: crew's are these, and thing i is of that
 * one. */
static inline struct range crew_range(uint64_t n, uint64_t crew, uint64_t crews)
{
    return (struct range){cut(n, crew, crews), cut(n, crew + 1, crews)};
}
static inline uint64_t crew_with(uint64_t n, uint64_t i, uint64_t crews)
{
    return ((i + 1) * crews - 1) / n; /* the last that begins there or before */
}

/* ---- handshake: before the first collective ---- */

/* What every rank says of itself; all but `rank` must agree. Fixed layout: it can travel. */
struct comm_hello {
    uint32_t format_version, tp_size, rank;
    uint32_t fp_mode; /* of the thread that computes; MXCSR on x86 */
    char kernels[16];
    struct hash128 bundle_id, rank_map, config;
};
_Static_assert(sizeof(struct comm_hello) == 80, "fixed layout");
/* hellos [size], of rank 0, 1, ... TP_E_HANDSHAKE: a sentence naming two ranks and what differs. */
bool comm_handshake(const struct comm_hello *hellos, uint64_t size, struct tp_error *err);
