#include "bpe.h"

#include "mem.h"

enum { SHORT_PIECE = 32, HEAP_ARITY = 4 };

bool token_ids_push(struct token_ids *list, uint32_t id, struct tp_error *err)
{
    if (list->count == list->cap &&
        !mem_grow((void **)&list->ids, &list->cap, list->count + 1, sizeof *list->ids, err))
        return false;
    list->ids[list->count++] = id;
    return true;
}

void token_ids_free(struct token_ids *list)
{
    mem_free(list->ids);
    *list = (struct token_ids){0};
}

void bpe_free(struct bpe *bpe)
{
    mem_free(bpe->symbols);
    mem_free(bpe->first);
    mem_free(bpe->heap);
    *bpe = (struct bpe){0};
}

/* ---- short pieces: arrays and a scan ---- */

struct short_piece {
    uint32_t id[SHORT_PIECE], rank[SHORT_PIECE], merged[SHORT_PIECE];
    size_t n;
};

static void pair_at(const struct tokenizer_file *file, struct short_piece *s, size_t i)
{
    if (i + 1 >= s->n || !tokenizer_file_merge(file, s->id[i], s->id[i + 1], &s->rank[i],
                                               &s->merged[i]))
        s->rank[i] = BPE_END;
}

static bool encode_short(const struct tokenizer_file *file, const unsigned char *piece, size_t n,
                         struct token_ids *list, struct tp_error *err)
{
    struct short_piece s;
    s.n = 0;
    for (size_t i = 0; i < n; i++) {
        s.id[s.n] = tokenizer_file_byte_id(file, piece[i]);
        s.n += s.id[s.n] != TOKEN_NONE;
    }
    list->dropped += n - s.n;
    for (size_t i = 0; i < s.n; i++)
        pair_at(file, &s, i);
    while (s.n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < s.n; i++)
            if (s.rank[i] < s.rank[best])
                best = i;
        if (s.rank[best] == BPE_END)
            break;
        s.id[best] = s.merged[best];
        s.n--;
        for (size_t i = best + 1; i < s.n; i++) {
            s.id[i] = s.id[i + 1];
            s.rank[i] = s.rank[i + 1];
            s.merged[i] = s.merged[i + 1];
        }
        pair_at(file, &s, best);
        if (best)
            pair_at(file, &s, best - 1);
    }
    for (size_t i = 0; i < s.n; i++)
        if (!token_ids_push(list, s.id[i], err))
            return false;
    return true;
}

/* ---- long pieces: a list of symbols, pairs in order of rank and position ----
 * An entry is stale when its symbol has another rank by now. */

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
static bool next_entry(struct bpe *bpe, uint64_t *entry)
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
    if (s->next != BPE_END && tokenizer_file_merge(file, s->id, bpe->symbols[s->next].id, &s->rank,
                                                   &s->merged))
        return true;
    s->rank = BPE_END;
    return false;
}

static uint64_t pair_entry(const struct bpe *bpe, uint32_t i)
{
    return (uint64_t)bpe->symbols[i].rank << 32 | i;
}

/* Symbols of the piece's bytes and all their pairs in order. */
static bool begin_long(struct bpe *bpe, const struct tokenizer_file *file,
                       const unsigned char *piece, size_t n, uint32_t *count,
                       struct tp_error *err)
{
    if (!mem_grow((void **)&bpe->symbols, &bpe->symbols_cap, n, sizeof *bpe->symbols, err) ||
        !mem_grow((void **)&bpe->first, &bpe->first_cap, n, sizeof *bpe->first, err) ||
        !mem_grow((void **)&bpe->heap, &bpe->heap_cap, n, sizeof *bpe->heap, err))
        return false;
    uint32_t used = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = tokenizer_file_byte_id(file, piece[i]);
        if (id == TOKEN_NONE)
            continue;
        bpe->symbols[used] = (struct bpe_symbol){id, used ? used - 1 : BPE_END, used + 1, 0, 0};
        used++;
    }
    if (used)
        bpe->symbols[used - 1].next = BPE_END;
    bpe->first_count = bpe->first_at = bpe->heap_count = 0;
    for (uint32_t i = 0; i < used; i++)
        if (find_pair(bpe, file, i))
            bpe->first[bpe->first_count++] = pair_entry(bpe, i);
    sort_first(bpe);
    *count = used;
    return true;
}

static bool encode_long(struct bpe *bpe, const struct tokenizer_file *file,
                        const unsigned char *piece, size_t n, struct token_ids *list,
                        struct tp_error *err)
{
    uint32_t count;
    if (!begin_long(bpe, file, piece, n, &count, err))
        return false;
    list->dropped += n - count;
    for (uint64_t top; next_entry(bpe, &top);) {
        uint32_t i = (uint32_t)top;
        struct bpe_symbol *s = &bpe->symbols[i];
        if (s->rank != top >> 32)
            continue;
        struct bpe_symbol *gone = &bpe->symbols[s->next];
        s->id = s->merged;
        s->next = gone->next;
        gone->rank = BPE_END;
        if (s->next != BPE_END)
            bpe->symbols[s->next].prev = i;
        if (find_pair(bpe, file, i) && !heap_push(bpe, pair_entry(bpe, i), err))
            return false;
        if (s->prev != BPE_END && find_pair(bpe, file, s->prev) &&
            !heap_push(bpe, pair_entry(bpe, s->prev), err))
            return false;
    }
    for (uint32_t i = count ? 0 : BPE_END; i != BPE_END; i = bpe->symbols[i].next)
        if (!token_ids_push(list, bpe->symbols[i].id, err))
            return false;
    return true;
}

bool bpe_encode(struct bpe *bpe, const struct tokenizer_file *file, const void *piece, size_t n,
                struct token_ids *list, struct tp_error *err)
{
    if (n <= SHORT_PIECE)
        return encode_short(file, piece, n, list, err);
    if (n > INT32_MAX)
        return tp_fail(err, TP_E_LIMIT, "text: %zu bytes without a place to cut, %d allowed", n,
                       INT32_MAX);
    return encode_long(bpe, file, piece, n, list, err);
}
