#include "bpe_inside.h"

#include "mem.h"
#include "utf8.h"
#include <string.h>

enum { SHORT_PIECE = 32 };

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

/* At least one symbol. */
static bool encode_long(struct bpe *bpe, const struct tokenizer_file *file, struct token_ids *list,
                        struct tp_error *err)
{
    if (!bpe_list_begin(bpe, file, bpe->start_count, err))
        return false;
    for (uint64_t top; bpe_list_next(bpe, &top);)
        if (bpe->symbols[(uint32_t)top].rank == top >> 32 &&
            !bpe_list_merge(bpe, file, (uint32_t)top, err))
            return false;
    return bpe_list_push(bpe, list, err);
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
    size_t window = bpe_window_of(bpe), block = n;
    if (n > window) {
        if (!bpe_rights_list(bpe, file, err))
            return false;
        block = bpe->divides ? window : n;
        if (block > BPE_WINDOW_MAX)
            return bpe_too_long(n, err);
    }
    bpe->start_count = 0;
    for (size_t at = 0, end = 0; end < n; at = end) {
        end = block_end(s, n, at, block);
        if (!add_symbols(bpe, file, s + at, end - at, last && end == n, list, err) ||
            (end < n && !bpe_windows(bpe, file, &window, list, err)))
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
