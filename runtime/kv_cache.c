#include "kv_cache.h"

#include "mem.h"

bool kv_cache_init(struct kv_cache *cache, uint32_t n_sequences, const uint64_t *positions_max,
                   uint32_t n_pages, struct tp_error *err)
{
    uint64_t total = 0;
    for (uint32_t s = 0; s < n_sequences; s++)
        total += kv_cache_pages_of(positions_max[s]);
    *cache = (struct kv_cache){.n_sequences = n_sequences, .n_pages = n_pages, .n_free = n_pages};
    cache->free = mem_array(n_pages, sizeof *cache->free, err);
    cache->dirty = mem_array(n_pages, sizeof *cache->dirty, err);
    cache->pages = mem_array(n_sequences, sizeof *cache->pages, err);
    cache->counts = mem_array(n_sequences, sizeof *cache->counts, err);
    cache->lists = mem_array(total, sizeof *cache->lists, err);
    if (!cache->free || !cache->dirty || !cache->pages || !cache->counts || !cache->lists) {
        kv_cache_free(cache);
        return false;
    }
    for (uint32_t i = 0; i < n_pages; i++)
        cache->free[i] = n_pages - 1 - i;
    uint32_t *list = cache->lists;
    for (uint32_t s = 0; s < n_sequences; s++) {
        cache->pages[s] = list;
        list += kv_cache_pages_of(positions_max[s]);
    }
    return true;
}

void kv_cache_free(struct kv_cache *cache)
{
    mem_free(cache->free);
    mem_free(cache->dirty);
    mem_free(cache->pages);
    mem_free(cache->counts);
    mem_free(cache->lists);
    *cache = (struct kv_cache){0};
}

bool kv_cache_extend(struct kv_cache *cache, uint32_t sequence, uint64_t positions,
                     void (*clear)(void *arg, uint32_t page), void *arg)
{
    uint64_t wanted = kv_cache_pages_of(positions);
    if (wanted > cache->counts[sequence] && wanted - cache->counts[sequence] > cache->n_free)
        return false;
    while (cache->counts[sequence] < wanted) {
        uint32_t page = cache->free[--cache->n_free];
        if (cache->dirty[page])
            clear(arg, page);
        cache->dirty[page] = true;
        cache->pages[sequence][cache->counts[sequence]++] = page;
    }
    return true;
}

void kv_cache_truncate(struct kv_cache *cache, uint32_t sequence, uint64_t positions)
{
    uint64_t kept = kv_cache_pages_of(positions);
    while (cache->counts[sequence] > kept)
        cache->free[cache->n_free++] = cache->pages[sequence][--cache->counts[sequence]];
}
