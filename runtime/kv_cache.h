/* Which page of the KV cache holds which positions of which sequence. The cache itself lies with
 * the device, rank by rank and layer by layer; a page number means the same 256 absolute positions
 * in all of them, so that one list per sequence serves every layer and rank.
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stdint.h>

enum { KV_PAGE_POSITIONS = 256 }; /* ATTENTION_CHUNK */

struct kv_cache {
    uint32_t n_sequences, n_pages, n_free;
    uint32_t *free;   /* [n_pages], the next one to give is free[n_free - 1] */
    bool *dirty;      /* [n_pages] has been in use: must be cleared */
    uint32_t **pages; /* [n_sequences] -> its list */
    uint32_t *counts; /* [n_sequences] pages in the list */
    uint32_t *lists;  /* the lists' memory */
};

static inline uint64_t kv_cache_pages_of(uint64_t positions)
{
    return positions / KV_PAGE_POSITIONS + (positions % KV_PAGE_POSITIONS != 0);
}

/* positions_max [n_sequences]: what each sequence may grow to. A {0} cache may be freed. */
bool kv_cache_init(struct kv_cache *cache, uint32_t n_sequences, const uint64_t *positions_max,
                   uint32_t n_pages, struct tp_error *err);
void kv_cache_free(struct kv_cache *cache);
/* Pages for positions [0, positions) of a sequence. clear is called for each one given that has
 * been used before. false: not enough free pages, nothing given. */
bool kv_cache_extend(struct kv_cache *cache, uint32_t sequence, uint64_t positions,
                     void (*clear)(void *arg, uint32_t page), void *arg);
/* Forget what lies at `positions` and after: pages that hold nothing else are given back. Later
 * positions of the last page keep their old values until they are written anew; attention never
 * looks beyond the position of a row. */
void kv_cache_truncate(struct kv_cache *cache, uint32_t sequence, uint64_t positions);
