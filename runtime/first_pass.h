/* The first pass over weights that nothing has checked yet: a step hashes panels as it reads them,
 * so that memory is read once. The panels of a chunk are hashed in order, each by the thread that
 * reads it, where those before it have been; what is left of a chunk is hashed behind the step. No
 * bit of a step depends on it.
 */
#pragma once
#include "hash.h"
#include "kernels.h"
#include "model.h"
#include <stdatomic.h>

struct pass_chunk {
    struct hash_stream stream; /* of its first bytes: */
    _Atomic uint64_t bytes;
};

/* A panel that is its chunk's next one: hashed while it is read, or once it has been. Any thread;
 * one at a time has a panel. */
struct pass_panel {
    struct follower follower;
    struct pass_chunk *chunk;
    const unsigned char *at, *end; /* what is not hashed yet */
    uint64_t then;                 /* the chunk's bytes with it */
};

/* A call is worth FOLLOW_BYTES; what is left of a panel is hashed with what comes before it. */
static inline void pass_follow(struct follower *self, const void *end)
{
    struct pass_panel *p = (struct pass_panel *)self;
    const unsigned char *to = end;
    if (to < p->end && (to - p->at < FOLLOW_BYTES || p->end - to < FOLLOW_BYTES / 2))
        return;
    hash_add(&p->chunk->stream, p->at, (size_t)(to - p->at));
    p->at = to;
}

/* chunks: of the rank's file. false: it is not the next one, and is hashed behind the step. */
static inline bool pass_begin(struct pass_panel *p, struct pass_chunk *chunks,
                              const struct matrix *w, uint64_t panel)
{
    struct pass_chunk *chunk = &chunks[w->first_chunk + panel / w->chunk_panels];
    const unsigned char *at = w->w + panel * w->panel_bytes;
    const uint64_t before = panel % w->chunk_panels * w->panel_bytes;
    if (atomic_load_explicit(&chunk->bytes, memory_order_acquire) != before)
        return false;
    if (before == 0)
        hash_start(&chunk->stream);
    *p =
        (struct pass_panel){{pass_follow}, chunk, at, at + w->panel_bytes, before + w->panel_bytes};
    return true;
}

/* The panel has been read, and lies in a cache. */
static inline void pass_end(struct pass_panel *p)
{
    if (p->at < p->end)
        pass_follow(&p->follower, p->end);
    atomic_store_explicit(&p->chunk->bytes, p->then, memory_order_release);
}
