/* Fill rank files with their chunks: workers pack, hash and write, one thread syncs and journals. */
#pragma once
#include "journal.h"
#include "writer.h"

struct fill {
    const struct writer_request *request;
    struct rank_plan *plans;       /* [tp_size] */
    struct shard_head *heads;      /* [tp_size], chunks allocated; raw_hash is filled in */
    int *fds;                      /* [tp_size] rank files, open at their final size */
    int *direct_fds;               /* [tp_size] the same past the page cache; -1 where small or impossible */
    char (*paths)[IO_PATH_MAX];    /* [tp_size] */
    struct journal *journal;
    struct hash128 *digests;       /* [n_tensors] of the source: filled in */
    uint64_t bytes_total, bytes_resumed;
};

/* Chunks that the journal has are hashed again on disk, and written again where they differ. */
bool fill_run(struct fill *fill, struct tp_error *err);
/* Workers that a run starts, and memory of one worker's buffers */
int fill_workers(const struct writer_request *request);
uint64_t fill_worker_bytes(const struct writer_request *request, const struct rank_plan *plans);
/* Set by a signal: stop soon, TP_E_INTERRUPTED. */
extern _Atomic int fill_interrupted;
