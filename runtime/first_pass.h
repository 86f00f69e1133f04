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

/* The panel was just read, and lies in a cache: its chunk is hashed on where it is the next one.
 * Any thread; one at a time has a panel. chunks: of the rank's file. */
static inline void pass_panel(struct pass_chunk *chunks, const struct matrix *w, uint64_t panel)
{
    struct pass_chunk *chunk = &chunks[w->first_chunk + panel / w->chunk_panels];
    const uint64_t at = panel % w->chunk_panels * w->panel_bytes;
    if (atomic_load_explicit(&chunk->bytes, memory_order_acquire) != at)
        return;
    if (at == 0)
        hash_start(&chunk->stream);
    hash_add(&chunk->stream, w->w + panel * w->panel_bytes, w->panel_bytes);
    atomic_store_explicit(&chunk->bytes, at + w->panel_bytes, memory_order_release);
}
