/* Long pieces: a list of symbols, pairs in order of rank and position. */
#include "bpe_inside.h"

#include "mem.h"
#include <string.h>

enum { HEAP_ARITY = 4 };

static void sift_down(uint64_t *heap, size_t count, size_t i)
{
    uint64_t moved = heap[i];
    for (;;) {
        size_t child = HEAP_ARITY * i + 1, best = child;
        if (child >= count)
            break;
        size_t end = child + HEAP_ARITY < count ? child + HEAP_ARITY : count;
        for (size_t c = child + 1; c < end; c++)
            if (heap[c] < heap[best])
                best = c;
        if (heap[best] >= moved)
            break;
        heap[i] = heap[best];
        i = best;
    }
    heap[i] = moved;
}

static bool heap_push(struct bpe *bpe, uint64_t entry, struct tp_error *err)
{
    if (bpe->heap_count == bpe->heap_cap &&
        !mem_grow((void **)&bpe->heap, &bpe->heap_cap, bpe->heap_count + 1, sizeof *bpe->heap, err))
        return false;
    size_t i = bpe->heap_count++;
    while (i && bpe->heap[(i - 1) / HEAP_ARITY] > entry) {
        bpe->heap[i] = bpe->heap[(i - 1) / HEAP_ARITY];
        i = (i - 1) / HEAP_ARITY;
    }
    bpe->heap[i] = entry;
    return true;
}

/* The lowest entry of both sources. false: there is none left. */
bool bpe_list_next(struct bpe *bpe, uint64_t *entry)
{
    bool in_first = bpe->first_at < bpe->first_count;
    if (!in_first && bpe->heap_count == 0)
        return false;
    if (bpe->heap_count == 0 || (in_first && bpe->first[bpe->first_at] < bpe->heap[0])) {
        *entry = bpe->first[bpe->first_at++];
        return true;
    }
    *entry = bpe->heap[0];
    uint64_t last = bpe->heap[--bpe->heap_count];
    if (bpe->heap_count) {
        bpe->heap[0] = last;
        sift_down(bpe->heap, bpe->heap_count, 0);
    }
    return true;
}

/* Sort entries, which are in order of position, by rank: byte by byte, the heap's memory in
 * between. */
static void sort_first(struct bpe *bpe)
{
    uint64_t *from = bpe->first, *to = bpe->heap;
    size_t n = bpe->first_count;
    for (int shift = 32; shift < 64; shift += 8) {
        size_t count[257] = {0};
        for (size_t i = 0; i < n; i++)
            count[(from[i] >> shift & 255) + 1]++;
        if (n == 0 || count[(from[0] >> shift & 255) + 1] == n)
            continue;
        for (size_t i = 0; i < 256; i++)
            count[i + 1] += count[i];
        for (size_t i = 0; i < n; i++)
            to[count[from[i] >> shift & 255]++] = from[i];
        uint64_t *other = from;
        from = to;
        to = other;
    }
    if (from != bpe->first)
        memcpy(bpe->first, from, n * sizeof *from);
}

/* Look up the pair that begins at symbol i. false: it does not merge. */
static bool find_pair(struct bpe *bpe, const struct tokenizer_file *file, uint32_t i)
{
    struct bpe_symbol *s = &bpe->symbols[i];
    if (s->next != BPE_END &&
        tokenizer_file_merge(file, s->id, bpe->symbols[s->next].id, &s->rank, &s->merged))
        return true;
    s->rank = BPE_END;
    return false;
}

static uint64_t pair_entry(const struct bpe *bpe, uint32_t i)
{
    return (uint64_t)bpe->symbols[i].rank << 32 | i;
}

/* The list of the first n symbols and all their pairs in order. */
bool bpe_list_begin(struct bpe *bpe, const struct tokenizer_file *file, size_t n,
                    struct tp_error *err)
{
    if (!mem_grow((void **)&bpe->symbols, &bpe->symbols_cap, n, sizeof *bpe->symbols, err) ||
        !mem_grow((void **)&bpe->first, &bpe->first_cap, n, sizeof *bpe->first, err) ||
        !mem_grow((void **)&bpe->heap, &bpe->heap_cap, n, sizeof *bpe->heap, err))
        return false;
    for (uint32_t i = 0; i < n; i++)
        bpe->symbols[i] = (struct bpe_symbol){bpe->start[i], i ? i - 1 : BPE_END, i + 1, 0, 0};
    bpe->symbols[n - 1].next = BPE_END;
    bpe->first_count = bpe->first_at = bpe->heap_count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (find_pair(bpe, file, i))
            bpe->first[bpe->first_count++] = pair_entry(bpe, i);
    sort_first(bpe);
    return true;
}

/* Merge symbol i and the next, whose ranks are known. */
bool bpe_list_merge(struct bpe *bpe, const struct tokenizer_file *file, uint32_t i,
                    struct tp_error *err)
{
    struct bpe_symbol *s = &bpe->symbols[i];
    struct bpe_symbol *gone = &bpe->symbols[s->next];
    s->id = s->merged;
    s->next = gone->next;
    gone->rank = BPE_END;
    if (s->next != BPE_END)
        bpe->symbols[s->next].prev = i;
    return (!find_pair(bpe, file, i) || heap_push(bpe, pair_entry(bpe, i), err)) &&
           (s->prev == BPE_END || !find_pair(bpe, file, s->prev) ||
            heap_push(bpe, pair_entry(bpe, s->prev), err));
}

bool bpe_list_push(const struct bpe *bpe, struct token_ids *list, struct tp_error *err)
{
    for (uint32_t i = 0; i != BPE_END; i = bpe->symbols[i].next)
        if (!token_ids_push(list, bpe->symbols[i].id, err))
            return false;
    return true;
}
