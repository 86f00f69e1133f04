/* Pieces longer than a window: what follows is not looked at.
 *
 * The symbols of a window are merged as if nothing followed, up to an edge. Left of it all is as
 * merging of the whole piece would have it; the symbol at the edge stood there once, and has grown
 * to the right or not. A merge left of the edge is certain if it comes before any of the last
 * symbol with what may be at the edge; else the edge goes one symbol to the left. When nothing is
 * left to merge, an edge that no merge ever crosses divides the piece. */
#include "bpe_inside.h"

#include "mem.h"
#include <string.h>

enum { WINDOW = 1 << 16 /* symbols merged at once */ };

size_t bpe_window_of(const struct bpe *bpe)
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
bool bpe_rights_list(struct bpe *bpe, const struct tokenizer_file *file, struct tp_error *err)
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
    if (!bpe_list_begin(bpe, file, n, err))
        return false;
    look_across(bpe, file, &edge);
    for (uint64_t top; bpe_list_next(bpe, &top);) {
        const uint32_t i = (uint32_t)top, rank = (uint32_t)(top >> 32);
        if (bpe->symbols[i].rank != rank)
            continue;
        move_edge(bpe, file, rank, &edge);
        if (edge.at <= n / 2)
            break; /* too little is left */
        if (bpe->symbols[i].rank != rank)
            continue;
        bool grows = bpe->symbols[i].next == edge.last; /* the symbol at the edge */
        if (!bpe_list_merge(bpe, file, i, err))
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

bool bpe_too_long(size_t n, struct tp_error *err)
{
    return tp_fail(err, TP_E_LIMIT, "text: %zu symbols without a place to cut, at most %u allowed",
                   n, BPE_WINDOW_MAX);
}

/* Merge what of bpe->start can be, a window at a time; *window grows where one has no end. */
bool bpe_windows(struct bpe *bpe, const struct tokenizer_file *file, size_t *window,
                 struct token_ids *list, struct tp_error *err)
{
    size_t done;
    while (bpe->start_count > *window) {
        if (!merge_window(bpe, file, *window, &done, err))
            return false;
        if (done <= *window / 2) { /* what merges here reaches far */
            *window *= 2;
            if (*window > BPE_WINDOW_MAX)
                return bpe_too_long(*window, err);
            continue;
        }
        if (!bpe_list_push(bpe, list, err))
            return false;
        bpe->start_count -= done;
        memmove(bpe->start, bpe->start + done, bpe->start_count * sizeof *bpe->start);
        *window = bpe_window_of(bpe);
    }
    return true;
}
