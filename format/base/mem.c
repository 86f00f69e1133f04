#include "mem.h"
#include "checked.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic uint64_t alloc_count;
static _Atomic bool lacking;

/* What the system gave, counted; NULL is remembered. */
static void *given(void *p)
{
    atomic_fetch_add(&alloc_count, 1);
    if (!p)
        lacking = true;
    return p;
}

bool mem_lacking(void)
{
    return lacking;
}

void mem_note_lack(void)
{
    lacking = true;
}

bool mem_held(struct tp_error *err)
{
    return !lacking || tp_fail(err, TP_E_MEMORY, "out of memory");
}

uint64_t mem_alloc_count(void)
{
    return alloc_count;
}

void *mem_alloc(uint64_t bytes, struct tp_error *err)
{
    void *p = given(calloc(1, bytes ? bytes : 1));
    if (!p)
        tp_fail(err, TP_E_MEMORY, "out of memory: %llu bytes", (unsigned long long)bytes);
    return p;
}

void *mem_array(uint64_t count, uint64_t size, struct tp_error *err)
{
    uint64_t bytes;
    if (!tp_mul(count, size, &bytes)) {
        tp_fail(err, TP_E_LIMIT, "%llu x %llu bytes do not fit in 64 bits",
                (unsigned long long)count, (unsigned long long)size);
        return NULL;
    }
    return mem_alloc(bytes, err);
}

bool mem_grow(void **items, size_t *cap, size_t need, size_t size, struct tp_error *err)
{
    if (need <= *cap)
        return true;
    size_t grown = *cap ? *cap * 2 : 16;
    if (grown < need)
        grown = need;
    void *p = given(reallocarray(*items, grown, size));
    if (!p)
        return tp_fail(err, TP_E_MEMORY, "out of memory: %zu x %zu bytes", grown, size);
    *items = p;
    *cap = grown;
    return true;
}

char *mem_copy(const void *data, size_t n, struct tp_error *err)
{
    char *p = mem_alloc(n + 1, err);
    if (p)
        memcpy(p, data, n);
    return p;
}

void *mem_plain(size_t n)
{
    return given(malloc(n));
}

void mem_free(void *p)
{
    free(p);
}

void *mem_map_alloc(uint64_t bytes, struct tp_error *err)
{
    if (bytes == 0)
        bytes = 1;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!given(p == MAP_FAILED ? NULL : p)) {
        tp_fail(err, TP_E_MEMORY, "out of memory: %llu bytes", (unsigned long long)bytes);
        return NULL;
    }
    madvise(p, bytes, MADV_HUGEPAGE); /* a hint: fresh memory costs 20x more by 4 KiB pages */
    return p;
}

void mem_map_free(void *p, uint64_t bytes)
{
    if (p)
        munmap(p, bytes ? bytes : 1);
}

struct mem_block {
    struct mem_block *next;
    uint64_t pad; /* keeps the data 16-byte aligned */
};

void *mem_arena_alloc(struct mem_arena *arena, uint64_t bytes, struct tp_error *err)
{
    enum { BLOCK = 64 * 1024 };
    uint64_t need;
    if (!tp_align_up(bytes ? bytes : 1, 16, &need) || need > SIZE_MAX / 2) {
        tp_fail(err, TP_E_LIMIT, "allocation of %llu bytes", (unsigned long long)bytes);
        return NULL;
    }
    if (!arena->blocks || need > arena->size - arena->used) {
        size_t size = need > BLOCK ? need : BLOCK;
        struct mem_block *block = mem_alloc(sizeof *block + size, err);
        if (!block)
            return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        arena->size = size;
        arena->used = 0;
        arena->total += size;
    }
    void *p = (char *)(arena->blocks + 1) + arena->used;
    arena->used += need;
    return p;
}

char *mem_arena_copy(struct mem_arena *arena, const void *data, size_t n, struct tp_error *err)
{
    char *p = mem_arena_alloc(arena, n + 1, err);
    if (p && n)
        memcpy(p, data, n);
    return p;
}

void mem_arena_free(struct mem_arena *arena)
{
    for (struct mem_block *b = arena->blocks, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    *arena = (struct mem_arena){0};
}
