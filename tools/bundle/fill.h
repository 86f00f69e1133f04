/* Fill rank files with their chunks: workers pack, hash and write, one thread syncs and
 * journals. */
#pragma once
#include "journal.h"
#include "writer.h"

struct fill_file {
    const char *path; /* for messages */
    int fd;           /* open at its final size */
    int direct_fd;    /* the same past the page cache; -1 where small or impossible */
    bool writable;    /* false: an earlier run completed it; it is compared, not written */
};

struct fill {
    const struct writer_request *request;
    struct rank_plan *plans;  /* [tp_size] */
    struct shard_head *heads; /* [tp_size], chunks allocated; raw_hash is filled in */
    struct fill_file *files;  /* [tp_size] */
    struct journal *journal;
    struct hash128 *digests; /* [n_tensors] of the source: filled in */
    uint64_t bytes_total, bytes_resumed;
};

/* Chunks that the journal has are hashed again on disk, and written again where they differ; pieces
 * of the source that it has are hashed again too, and must not differ (TP_E_CHANGED). source_only:
 * digests alone, no files. */
bool fill_run(struct fill *fill, bool source_only, struct tp_error *err);
/* Workers that a run starts, and memory of one worker's buffers */
int fill_workers(const struct fill *fill);
uint64_t fill_worker_bytes(const struct writer_request *request, const struct rank_plan *plans);
