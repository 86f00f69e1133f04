#include "bpe.h"

#include "mem.h"
#include "utf8.h"
#include <string.h>

enum { SHORT_PIECE = 32, HEAP_ARITY = 4, WINDOW = 1 << 16 /* symbols merged at once */ };

bool token_ids_push(struct token_ids *list, uint32_t id, struct tp_error *err)
{
    if (list->take && list->count == TOKEN_IDS_TAKEN_AT && !list->take(list, err))
        return false;
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
    mem_free(bpe->left_ends);
    mem_free(bpe->rights);
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

/* Symbols of text, n bytes, behind those in bpe->start. last: the piece ends here. */
static bool add_symbols(struct bpe *bpe, const struct tokenizer_file *file, const unsigned char *s,
                        size_t n, bool last, struct token_ids *list, struct tp_error *err)
{
    size_t need = bpe->start_count + n + 2;
    if (bpe->start_cap < need &&
        !mem_grow((void **)&bpe->start, &bpe->start_cap, need, sizeof *bpe->start, err))
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

/* The list of the first n symbols and all their pairs in order. */
static bool begin_long(struct bpe *bpe, const struct tokenizer_file *file, size_t n,
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
static bool merge_at(struct bpe *bpe, const struct tokenizer_file *file, uint32_t i,
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

static bool push_symbols(const struct bpe *bpe, struct token_ids *list, struct tp_error *err)
{
    for (uint32_t i = 0; i != BPE_END; i = bpe->symbols[i].next)
        if (!token_ids_push(list, bpe->symbols[i].id, err))
            return false;
    return true;
}

/* At least one symbol. */
static bool encode_long(struct bpe *bpe, const struct tokenizer_file *file, struct token_ids *list,
                        struct tp_error *err)
{
    if (!begin_long(bpe, file, bpe->start_count, err))
        return false;
    for (uint64_t top; next_entry(bpe, &top);)
        if (bpe->symbols[(uint32_t)top].rank == top >> 32 &&
            !merge_at(bpe, file, (uint32_t)top, err))
            return false;
    return push_symbols(bpe, list, err);
}

/* ---- longer than a window: what follows is not looked at ----
 * The symbols of a window are merged as if nothing followed, up to an edge. Left of it all is as
 * merging of the whole piece would have it; the symbol at the edge stood there once, and has grown
 * to the right or not. A merge left of the edge is certain if it comes before any of the last
 * symbol with what may be at the edge; else the edge goes one symbol to the left. When nothing is
 * left to merge, an edge that no merge ever crosses divides the piece. */

static size_t window_of(const struct bpe *bpe)
{
    return bpe->window ? bpe->window : WINDOW;
}

static bool joins(const struct tokenizer_file *file, const struct tokenizer_pair *pair)
{
    struct tokenizer_bytes left = tokenizer_file_content(file, pair->left);
    struct tokenizer_bytes right = tokenizer_file_content(file, pair->right);
    struct tokenizer_bytes whole = tokenizer_file_content(file, pair->id);
    return whole.n == left.n + right.n && memcmp(whole.data, left.data, left.n) == 0 &&
           memcmp(whole.data + left.n, right.data, right.n) == 0;
}

/* What merges with each token on its right; made once. */
static bool list_rights(struct bpe *bpe, const struct tokenizer_file *file, struct tp_error *err)
{
    struct tokenizer_pair pair;
    if (bpe->rights)
        return true;
    if (!bpe->left_ends)
        bpe->left_ends = mem_array((size_t)file->tokens + 1, sizeof *bpe->left_ends, err);
    if (!bpe->left_ends)
        return false;
    uint32_t *at = bpe->left_ends + 1, count = 0; /* at[left]: where its next one goes */
    memset(bpe->left_ends, 0, ((size_t)file->tokens + 1) * sizeof *bpe->left_ends);
    bpe->divides = true;
    for (uint32_t i = 0; i < file->merge_slots; i++)
        if (tokenizer_file_pair(file, i, &pair)) {
            bpe->divides &= joins(file, &pair);
            at[pair.left]++;
        }
    for (uint32_t left = 0; left < file->tokens; left++) {
        uint32_t n = at[left];
        at[left] = count;
        count += n;
    }
    bpe->rights = mem_array(count, sizeof *bpe->rights, err);
    for (uint32_t i = 0; bpe->rights && i < file->merge_slots; i++)
        if (tokenizer_file_pair(file, i, &pair))
            bpe->rights[at[pair.left]++] = (struct bpe_right){pair.right, pair.rank};
    return bpe->rights != NULL;
}

/* May the symbols from bpe->start[at] on become a token, of at least n bytes? */
static bool may_become(const struct bpe *bpe, const struct tokenizer_file *file, size_t at,
                       uint32_t id, size_t n)
{
    struct tokenizer_bytes whole = tokenizer_file_content(file, id);
    for (size_t i = 0; i < whole.n && at < bpe->start_count; at++) {
        struct tokenizer_bytes part = tokenizer_file_content(file, bpe->start[at]);
        if (part.n > whole.n - i || memcmp(whole.data + i, part.data, part.n) != 0)
            return false;
        i += part.n;
    }
    return whole.n >= n;
}

struct edge {
    uint32_t at;     /* in bpe->start */
    uint32_t last;   /* the symbol left of it; BPE_END: none */
    uint32_t id;     /* what stood right of it */
    uint32_t lowest; /* rank of a merge across it, at least; BPE_END: there is none */
};

static void look_across(const struct bpe *bpe, const struct tokenizer_file *file, struct edge *edge)
{
    edge->lowest = BPE_END;
    if (edge->last == BPE_END)
        return;
    const size_t n = tokenizer_file_content(file, edge->id).n;
    const uint32_t left = bpe->symbols[edge->last].id;
    for (uint32_t i = bpe->left_ends[left]; i < bpe->left_ends[left + 1]; i++) {
        const struct bpe_right *r = &bpe->rights[i];
        if (r->rank < edge->lowest && may_become(bpe, file, edge->at, r->id, n))
            edge->lowest = r->rank;
    }
}

/* To where no merge across may come before those of `rank`. */
static void move_edge(struct bpe *bpe, const struct tokenizer_file *file, uint32_t rank,
                      struct edge *edge)
{
    while (edge->lowest < rank) {
        struct bpe_symbol *s = &bpe->symbols[edge->last];
        *edge = (struct edge){.at = edge->last, .last = s->prev, .id = s->id};
        if (edge->last != BPE_END) {
            bpe->symbols[edge->last].next = BPE_END;
            bpe->symbols[edge->last].rank = BPE_END;
        }
        look_across(bpe, file, edge);
    }
}

/* Merge the first n symbols of bpe->start, n below its count. The first *done of them, which may be
 * none, come to the ids in bpe->symbols whatever follows. */
static bool merge_window(struct bpe *bpe, const struct tokenizer_file *file, size_t n, size_t *done,
                         struct tp_error *err)
{
    struct edge edge = {.at = (uint32_t)n, .last = (uint32_t)n - 1, .id = bpe->start[n]};
    if (!begin_long(bpe, file, n, err))
        return false;
    look_across(bpe, file, &edge);
    for (uint64_t top; next_entry(bpe, &top);) {
        const uint32_t i = (uint32_t)top, rank = (uint32_t)(top >> 32);
        if (bpe->symbols[i].rank != rank)
            continue;
        move_edge(bpe, file, rank, &edge);
        if (edge.at <= n / 2)
            break; /* too little is left */
        if (bpe->symbols[i].rank != rank)
            continue;
        bool grows = bpe->symbols[i].next == edge.last; /* the symbol at the edge */
        if (!merge_at(bpe, file, i, err))
            return false;
        if (grows) {
            edge.last = i;
            look_across(bpe, file, &edge);
        }
    }
    move_edge(bpe, file, BPE_END, &edge);
    *done = edge.at;
    return true;
}

static bool too_long(size_t n, struct tp_error *err)
{
    return tp_fail(err, TP_E_LIMIT, "text: %zu symbols without a place to cut, at most %u allowed",
                   n, BPE_WINDOW_MAX);
}

/* Merge what of bpe->start can be, a window at a time; *window grows where one has no end. */
static bool encode_windows(struct bpe *bpe, const struct tokenizer_file *file, size_t *window,
                           struct token_ids *list, struct tp_error *err)
{
    size_t done;
    while (bpe->start_count > *window) {
        if (!merge_window(bpe, file, *window, &done, err))
            return false;
        if (done <= *window / 2) { /* what merges here reaches far */
            *window *= 2;
            if (*window > BPE_WINDOW_MAX)
                return too_long(*window, err);
            continue;
        }
        if (!push_symbols(bpe, list, err))
            return false;
        bpe->start_count -= done;
        memmove(bpe->start, bpe->start + done, bpe->start_count * sizeof *bpe->start);
        *window = window_of(bpe);
    }
    return true;
}

/* ---- pieces ---- */

/* The end of a block that begins at `from`, not within a character. */
static size_t block_end(const unsigned char *s, size_t n, size_t from, size_t block)
{
    if (n - from <= block)
        return n;
    size_t end = from + block;
    for (int i = 0; i < 3 && end < n && (s[end] & 0xc0) == 0x80; i++)
        end++;
    return end;
}

/* Text that no merge reaches out of. */
static bool merge_part(struct bpe *bpe, const struct tokenizer_file *file, const unsigned char *s,
                       size_t n, bool last, struct token_ids *list, struct tp_error *err)
{
    size_t window = window_of(bpe), block = n;
    if (n > window) {
        if (!list_rights(bpe, file, err))
            return false;
        block = bpe->divides ? window : n;
        if (block > BPE_WINDOW_MAX)
            return too_long(n, err);
    }
    bpe->start_count = 0;
    for (size_t at = 0, end = 0; end < n; at = end) {
        end = block_end(s, n, at, block);
        if (!add_symbols(bpe, file, s + at, end - at, last && end == n, list, err) ||
            (end < n && !encode_windows(bpe, file, &window, list, err)))
            return false;
    }
    return bpe->start_count <= SHORT_PIECE ? encode_short(bpe, file, list, err)
                                           : encode_long(bpe, file, list, err);
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
