/* Memory: the one place that allocates, so that failures are errors and the peak is known.
 *
 * An allocation that fails is remembered, whatever comes of it: jansson makes a shorter text of it
 * now and then, and a caller may drop the error. From then on every error is TP_E_MEMORY
 * (tp_fail), nothing is published, and no command ends well: all ask mem_held.
 *
 * mem_alloc zero-fills. An arena is many small allocations freed at once: documents own what they
 * return through one. Big blocks (weights, KV cache, activations) come from mem_map_alloc: page
 * aligned, zeroed by the kernel, with huge pages where the system gives them.
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed; 0 bytes gives a valid pointer. NULL and TP_E_MEMORY when there is none. */
void *mem_alloc(uint64_t bytes, struct tp_error *err);
/* count * size, overflow is TP_E_LIMIT */
void *mem_array(uint64_t count, uint64_t size, struct tp_error *err);
/* Grow to at least `need` elements (doubling); *items and *cap are updated. false: untouched. */
bool mem_grow(void **items, size_t *cap, size_t need, size_t size, struct tp_error *err);
char *mem_copy(const void *data, size_t n, struct tp_error *err); /* n bytes and a NUL */
void *mem_plain(size_t n); /* as malloc: for libraries that take such a function */
void mem_free(void *p);    /* NULL is allowed */

void *mem_map_alloc(uint64_t bytes, struct tp_error *err);
void mem_map_free(void *p, uint64_t bytes);

struct mem_block;
struct mem_arena {
    struct mem_block *blocks;
    size_t used, size; /* of the newest block */
    uint64_t total;    /* bytes held */
};
/* Zeroed, 16-byte aligned, valid until mem_arena_free. */
void *mem_arena_alloc(struct mem_arena *arena, uint64_t bytes, struct tp_error *err);
char *mem_arena_copy(struct mem_arena *arena, const void *data, size_t n, struct tp_error *err);
void mem_arena_free(struct mem_arena *arena);

/* false and TP_E_MEMORY: an allocation has failed in this process, on whichever thread. */
bool mem_held(struct tp_error *err);
bool mem_lacking(void);   /* the same as a question */
void mem_note_lack(void); /* what failed elsewhere counts as well: a thread */

/* Calls of mem_alloc, mem_array, mem_grow, mem_plain and mem_map_alloc so far: "nothing is
 * allocated after the first token" is checked with it. */
uint64_t mem_alloc_count(void);
