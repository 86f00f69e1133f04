/* The first pass over weights that nothing has checked yet: a step hashes panels as it reads them,
 * so that memory is read once. The panels of a chunk are hashed in order, each by the thread that
 * reads it, where those before it have been; what is left of a chunk is hashed behind the step. No
 * bit of a step depends on it.
 */
#pragma once
#include "hash.h"
#include "model.h"
#include <stdatomic.h>

struct pass_chunk {
    struct hash_stream stream; /* of its first bytes: */
    _Atomic uint64_t bytes;
};

/* A panel, where it is its chunk's next one: hashed while it is read, or once it has been. Any
 * thread; one at a time has a panel. */
struct pass_panel {
    struct follower follower;
    struct pass_chunk *chunk; /* NULL: it is not the next one */
    const unsigned char *at, *end;
};

/* Some of them are worth a call. */
static inline void pass_follow(struct follower *self, const void *end)
{
    enum { WORTH = 4096 };
    struct pass_panel *p = (struct pass_panel *)self;
    const unsigned char *to = end;
    if (to < p->end && (to - p->at < WORTH || p->end - to < WORTH / 2))
        return;
    hash_add(&p->chunk->stream, p->at, (size_t)(to - p->at));
    p->at = to;
}

/* chunks: of the rank's file. */
static inline struct pass_panel pass_begin(struct pass_chunk *chunks, const struct matrix *w,
                                           uint64_t panel)
{
    struct pass_chunk *chunk = &chunks[w->first_chunk + panel / w->chunk_panels];
    const unsigned char *at = w->w + panel * w->panel_bytes;
    const uint64_t before = panel % w->chunk_panels * w->panel_bytes;
    const bool next = atomic_load_explicit(&chunk->bytes, memory_order_acquire) == before;
    if (next && before == 0)
        hash_start(&chunk->stream);
    return (struct pass_panel){{pass_follow}, next ? chunk : NULL, at, at + w->panel_bytes};
}

/* The panel has been read, and lies in a cache. */
static inline void pass_end(struct pass_panel *p, const struct matrix *w)
{
    if (!p->chunk)
        return;
    if (p->at < p->end)
        pass_follow(&p->follower, p->end);
    atomic_fetch_add_explicit(&p->chunk->bytes, w->panel_bytes, memory_order_release);
}
