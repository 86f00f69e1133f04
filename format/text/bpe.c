#include "bpe.h"

#include "mem.h"
#include "utf8.h"
#include <string.h>

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
    mem_free(bpe->start);
    mem_free(bpe->symbols);
    mem_free(bpe->first);
    mem_free(bpe->heap);
    *bpe = (struct bpe){0};
}

/* ---- symbols before merging ---- */

static void flush_unk(struct bpe *bpe)
{
    if (bpe->unk != TOKEN_NONE)
        bpe->start[bpe->start_count++] = bpe->unk;
    bpe->unk = TOKEN_NONE;
}

/* A character of n bytes that is no token: its bytes' tokens where all are there, else unknown.
 * An unknown token stays behind until a known one comes, past tokens of bytes: so the reference. */
static void add_unknown(struct bpe *bpe, const struct tokenizer_file *file, const unsigned char *s,
                        size_t n, struct token_ids *list)
{
    if (file->model_flags & MODEL_BYTE_FALLBACK) {
        size_t found = 0;
        while (found < n && tokenizer_file_byte_id(file, s[found]) != TOKEN_NONE)
            found++;
        for (size_t i = 0; found == n && i < n; i++)
            bpe->start[bpe->start_count++] = tokenizer_file_byte_id(file, s[i]);
        if (found == n)
            return;
    }
    if (file->unk == TOKEN_NONE)
        list->dropped += n;
    else if (!(file->model_flags & MODEL_FUSE_UNK))
        flush_unk(bpe);
    bpe->unk = file->unk;
}

/* Symbols of text, n bytes, into bpe->start. last: the piece ends here. */
static bool begin_symbols(struct bpe *bpe, const struct tokenizer_file *file,
                          const unsigned char *s, size_t n, bool last, struct token_ids *list,
                          struct tp_error *err)
{
    bpe->start_count = 0;
    if (bpe->start_cap < n + 2 &&
        !mem_grow((void **)&bpe->start, &bpe->start_cap, n + 2, sizeof *bpe->start, err))
        return false;
    bool bytes = file->model == MODEL_BPE_BYTES;
    for (size_t i = 0, k = 1; i < n; i += k) {
        if (!bytes)
            k = utf8_length(s + i, n - i);
        tp_assert(k);
        uint32_t id =
            bytes ? tokenizer_file_byte_id(file, s[i]) : tokenizer_file_find(file, s + i, k);
        if (id == TOKEN_NONE) {
            add_unknown(bpe, file, s + i, k, list);
            continue;
        }
        flush_unk(bpe);
        bpe->start[bpe->start_count++] = id;
    }
    if (last)
        flush_unk(bpe);
    return true;
}

/* ---- short pieces: arrays and a scan ---- */

struct short_piece {
    uint32_t id[SHORT_PIECE], rank[SHORT_PIECE], merged[SHORT_PIECE];
    size_t n;
};

static void pair_at(const struct tokenizer_file *file, struct short_piece *s, size_t i)
{
    if (i + 1 >= s->n ||
        !tokenizer_file_merge(file, s->id[i], s->id[i + 1], &s->rank[i], &s->merged[i]))
        s->rank[i] = BPE_END;
}

static bool encode_short(const struct bpe *bpe, const struct tokenizer_file *file,
                         struct token_ids *list, struct tp_error *err)
{
    struct short_piece s;
    s.n = bpe->start_count;
    memcpy(s.id, bpe->start, s.n * sizeof *s.id);
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

/* The list of symbols and all their pairs in order. */
static bool begin_long(struct bpe *bpe, const struct tokenizer_file *file, struct tp_error *err)
{
    size_t n = bpe->start_count;
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

/* At least one symbol. */
static bool encode_long(struct bpe *bpe, const struct tokenizer_file *file, struct token_ids *list,
                        struct tp_error *err)
{
    if (!begin_long(bpe, file, err))
        return false;
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
    for (uint32_t i = 0; i != BPE_END; i = bpe->symbols[i].next)
        if (!token_ids_push(list, bpe->symbols[i].id, err))
            return false;
    return true;
}

/* ---- pieces ---- */

/* Text that no merge reaches out of. */
static bool merge_part(struct bpe *bpe, const struct tokenizer_file *file, const unsigned char *s,
                       size_t n, bool last, struct token_ids *list, struct tp_error *err)
{
    if (n > INT32_MAX)
        return tp_fail(err, TP_E_LIMIT, "text: %zu bytes without a place to cut, %d allowed", n,
                       INT32_MAX);
    return begin_symbols(bpe, file, s, n, last, list, err) &&
           (bpe->start_count <= SHORT_PIECE ? encode_short(bpe, file, list, err)
                                            : encode_long(bpe, file, list, err));
}

static bool encode_part(struct bpe *bpe, const struct tokenizer_file *file, const unsigned char *s,
                        size_t n, bool last, struct token_ids *list, struct tp_error *err)
{
    uint32_t id = n <= file->content_bytes_max ? tokenizer_file_find(file, s, n) : TOKEN_NONE;
    if (id == TOKEN_NONE || !(tokenizer_file_flags(file, id) & TOKEN_WHOLE))
        return merge_part(bpe, file, s, n, last, list, err);
    uint32_t unk = bpe->unk;
    bpe->unk = TOKEN_NONE;
    return (unk == TOKEN_NONE || token_ids_push(list, unk, err)) && token_ids_push(list, id, err);
}

/* The end of the part of piece that begins at `from`. */
static size_t part_end(const struct tokenizer_file *file, const unsigned char *piece, size_t n,
                       size_t from)
{
    const bool chars = file->model == MODEL_BPE_CHARS;
    size_t i = from + 1;
    while (i < n && (!tokenizer_file_cuts(file, piece[i - 1], piece[i]) ||
                     (chars && (piece[i] & 0xc0) == 0x80)))
        i++;
    return i;
}

bool bpe_encode(struct bpe *bpe, const struct tokenizer_file *file, const void *piece, size_t n,
                struct token_ids *list, struct tp_error *err)
{
    const unsigned char *s = piece;
    bpe->unk = TOKEN_NONE;
    if (file->model_flags & MODEL_IGNORE_MERGES && n <= file->content_bytes_max) {
        uint32_t id = tokenizer_file_find(file, s, n);
        if (id != TOKEN_NONE)
            return token_ids_push(list, id, err);
    }
    if (!file->has_cuts || (file->model == MODEL_BPE_BYTES && n <= SHORT_PIECE))
        return encode_part(bpe, file, s, n, true, list, err);
    for (size_t at = 0, end; at < n; at = end) {
        end = part_end(file, s, n, at);
        if (!encode_part(bpe, file, s + at, end - at, end == n, list, err))
            return false;
    }
    return true;
}

bool bpe_merge(struct bpe *bpe, const struct tokenizer_file *file, const void *piece, size_t n,
               struct token_ids *list, struct tp_error *err)
{
    bpe->unk = TOKEN_NONE;
    return merge_part(bpe, file, piece, n, true, list, err);
}
