#include "tokenizer_pack.h"

#include "bpe.h"
#include "checked.h"
#include "mem.h"
#include <stdlib.h>
#include <string.h>

enum { LOAD = 2 }; /* slots per entry: an absent key is found absent in 2.5 probes */

struct packing {
    const struct tokenizer_parts *parts;
    uint64_t offset[SECTION_COUNT], bytes[SECTION_COUNT], total;
    unsigned char *data;
    uint32_t index_slots, index_probes, merge_slots, merge_probes;
};

static int by_group_and_content(const void *a, const void *b)
{
    const struct pack_added *x = a, *y = b;
    if (x->normalized != y->normalized)
        return x->normalized - y->normalized;
    int order = memcmp(x->content, y->content, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* The three forms of a token, and whether a section of its own holds them. */
static void token_sizes(struct packing *p)
{
    const struct tokenizer_parts *parts = p->parts;
    uint64_t content = 0, first = 0;
    bool content_differs = false;
    for (uint32_t i = 0; i < parts->token_count; i++) {
        const struct pack_token *t = &parts->tokens[i];
        p->bytes[SECTION_TOKEN_BYTES] += t->n;
        content += t->content_n;
        first += t->first_n;
        p->index_slots += LOAD * t->vocabulary;
        content_differs |=
            t->vocabulary && (t->n != t->content_n || memcmp(t->bytes, t->content, t->n) != 0);
    }
    p->bytes[SECTION_TOKEN_ENDS] = 4ull * parts->token_count;
    p->bytes[SECTION_TOKEN_FLAGS] = parts->token_count;
    if (content_differs) {
        p->bytes[SECTION_CONTENT_ENDS] = 4ull * parts->token_count;
        p->bytes[SECTION_CONTENT_BYTES] = content;
    }
    if (parts->decoder.first_differs) {
        p->bytes[SECTION_FIRST_ENDS] = 4ull * parts->token_count;
        p->bytes[SECTION_FIRST_BYTES] = first;
    }
}

static void small_sizes(struct packing *p)
{
    const struct tokenizer_parts *parts = p->parts;
    for (uint32_t i = 0; i < parts->added_count; i++)
        p->bytes[SECTION_ADDED_BYTES] += parts->added[i].n;
    for (uint32_t i = 0; i < parts->step_count; i++)
        p->bytes[SECTION_STEP_BYTES] += parts->steps[i].n;
    for (uint32_t i = 0; i < parts->normalizer_count; i++)
        p->bytes[SECTION_NORMALIZER_BYTES] +=
            (uint64_t)parts->normalizers[i].pattern_n + parts->normalizers[i].content_n;
    for (uint32_t i = 0; i < parts->text_count; i++)
        p->bytes[SECTION_TEXT_BYTES] += (uint64_t)parts->texts[i].name_n + parts->texts[i].value_n;
    p->bytes[SECTION_ADDED] = 16ull * parts->added_count;
    p->bytes[SECTION_STEPS] = 16ull * parts->step_count;
    p->bytes[SECTION_POST] = 4ull * parts->post_count;
    p->bytes[SECTION_NORMALIZERS] = 24ull * parts->normalizer_count;
    p->bytes[SECTION_TEXTS] = 16ull * parts->text_count;
    p->bytes[SECTION_WORD] = parts->word_n;
}

/* Is there a token for all text, so that nothing of it is left out? */
static bool complete(const struct tokenizer_parts *parts)
{
    if (parts->unk != TOKEN_NONE)
        return true;
    if (parts->model == MODEL_BPE_CHARS && !(parts->model_flags & MODEL_BYTE_FALLBACK))
        return false;
    for (int b = 0; b < 256; b++)
        if (parts->byte_ids[b] == TOKEN_NONE && b != 0xc0 && b != 0xc1 && b < 0xf5)
            return false;
    return true;
}

/* Cutting relies on what a symbol's content is, and that symbols stand where their text does:
 * tokens for unknown text have another content, and what is left out makes neighbours. */
static bool may_cut(const struct tokenizer_parts *parts)
{
    if (!complete(parts))
        return false;
    for (uint32_t i = 0; i < parts->merge_count; i++) {
        const uint32_t side[2] = {parts->merges[i].left, parts->merges[i].right};
        for (int k = 0; k < 2; k++) {
            if (side[k] == parts->unk)
                return false;
            for (int b = 0; b < 256; b++)
                if (parts->model == MODEL_BPE_CHARS && parts->byte_ids[b] == side[k])
                    return false;
        }
    }
    return parts->merge_count > 0;
}

static void lay_out(struct packing *p)
{
    token_sizes(p);
    small_sizes(p);
    p->merge_slots = p->parts->merge_count * LOAD;
    p->bytes[SECTION_BYTE_IDS] = 4 * 256;
    p->bytes[SECTION_INDEX] = 4ull * p->index_slots;
    p->bytes[SECTION_MERGES] = 16ull * p->merge_slots;
    p->bytes[SECTION_CUTS] = may_cut(p->parts) ? TOKENIZER_CUTS_BYTES : 0;
    p->total = TOKENIZER_HEADER_BYTES;
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (p->bytes[i] == 0)
            continue;
        p->offset[i] = align_up(p->total, TOKENIZER_ALIGN);
        p->total = p->offset[i] + p->bytes[i];
    }
}

/* Entry i of a table of ends; *end moves on. */
static void put_bytes(struct packing *p, int ends_section, uint32_t i, const char *bytes,
                      uint32_t n, uint32_t *end)
{
    if (p->bytes[ends_section] == 0)
        return;
    int section = ends_section == SECTION_TOKEN_ENDS ? SECTION_TOKEN_BYTES : ends_section + 1;
    if (n)
        memcpy(p->data + p->offset[section] + *end, bytes, n);
    *end += n;
    le_put_u32(p->data + p->offset[ends_section] + 4 * (size_t)i, *end);
}

static void put_tokens(struct packing *p)
{
    const struct tokenizer_parts *parts = p->parts;
    unsigned char *flags = p->data + p->offset[SECTION_TOKEN_FLAGS];
    uint32_t end = 0, content_end = 0, first_end = 0;
    for (uint32_t i = 0; i < parts->token_count; i++) {
        const struct pack_token *t = &parts->tokens[i];
        put_bytes(p, SECTION_TOKEN_ENDS, i, t->bytes, t->n, &end);
        put_bytes(p, SECTION_CONTENT_ENDS, i, t->content, t->content_n, &content_end);
        put_bytes(p, SECTION_FIRST_ENDS, i, t->first, t->first_n, &first_end);
        flags[i] = (unsigned char)((t->used ? TOKEN_USED : 0) | (t->special ? TOKEN_SPECIAL : 0) |
                                   (t->byte ? TOKEN_BYTE : 0));
    }
    for (size_t b = 0; b < 256; b++)
        le_put_u32(p->data + p->offset[SECTION_BYTE_IDS] + 4 * b, parts->byte_ids[b]);
}

/* What merges make has its neighbours marked. */
static void put_cuts(struct packing *p)
{
    const struct tokenizer_parts *parts = p->parts;
    unsigned char *cuts = p->data + p->offset[SECTION_CUTS];
    if (p->bytes[SECTION_CUTS] == 0)
        return;
    for (uint32_t m = 0; m < parts->merge_count; m++) {
        const struct pack_token *t = &parts->tokens[parts->merges[m].id];
        for (uint32_t i = 1; i < t->content_n; i++) {
            unsigned a = (unsigned char)t->content[i - 1], b = (unsigned char)t->content[i];
            cuts[a << 5 | b >> 3] |= (unsigned char)(1u << (b & 7));
        }
    }
}

static void put_index(struct packing *p)
{
    unsigned char *index = p->data + p->offset[SECTION_INDEX];
    for (uint32_t i = 0; i < p->parts->token_count; i++) {
        const struct pack_token *t = &p->parts->tokens[i];
        if (!t->vocabulary)
            continue;
        uint32_t slot =
            tokenizer_home(tokenizer_hash_bytes(t->content, t->content_n), p->index_slots);
        uint32_t probe = 0;
        for (; le_u32(index + 4 * (size_t)slot); probe++)
            slot = slot + 1 == p->index_slots ? 0 : slot + 1;
        le_put_u32(index + 4 * (size_t)slot, i + 1);
        if (probe > p->index_probes)
            p->index_probes = probe;
    }
}

static void put_merges(struct packing *p)
{
    unsigned char *table = p->data + p->offset[SECTION_MERGES];
    for (uint32_t i = 0; i < p->merge_slots; i++)
        le_put_u32(table + 16 * (size_t)i, TOKEN_NONE);
    for (uint32_t rank = 0; rank < p->parts->merge_count; rank++) {
        const struct pack_merge *m = &p->parts->merges[rank];
        uint32_t slot = tokenizer_home(tokenizer_hash_pair(m->left, m->right), p->merge_slots);
        uint32_t probe = 0;
        unsigned char *entry = table + 16 * (size_t)slot;
        while (le_u32(entry) != TOKEN_NONE &&
               (le_u32(entry) != m->left || le_u32(entry + 4) != m->right)) {
            slot = slot + 1 == p->merge_slots ? 0 : slot + 1;
            entry = table + 16 * (size_t)slot;
            probe++;
        }
        le_put_u32(entry, m->left);
        le_put_u32(entry + 4, m->right);
        le_put_u32(entry + 8, rank);
        le_put_u32(entry + 12, m->id);
        if (probe > p->merge_probes)
            p->merge_probes = probe;
    }
}

static void put_small_tables(struct packing *p, uint32_t *added_raw)
{
    const struct tokenizer_parts *parts = p->parts;
    uint32_t end = 0;
    for (uint32_t i = 0; i < parts->added_count; i++) {
        const struct pack_added *a = &parts->added[i];
        unsigned char *entry = p->data + p->offset[SECTION_ADDED] + 16 * (size_t)i;
        memcpy(p->data + p->offset[SECTION_ADDED_BYTES] + end, a->content, a->n);
        end += a->n;
        le_put_u32(entry, end);
        le_put_u32(entry + 4, a->id);
        le_put_u32(entry + 8, a->flags);
        *added_raw += !a->normalized;
    }
    end = 0;
    for (uint32_t i = 0; i < parts->step_count; i++) {
        const struct pack_step *s = &parts->steps[i];
        unsigned char *entry = p->data + p->offset[SECTION_STEPS] + 16 * (size_t)i;
        if (s->n)
            memcpy(p->data + p->offset[SECTION_STEP_BYTES] + end, s->pattern, s->n);
        end += s->n;
        le_put_u32(entry, s->kind);
        le_put_u32(entry + 4, s->behaviour);
        le_put_u32(entry + 8, s->invert);
        le_put_u32(entry + 12, end);
    }
    for (uint32_t i = 0; i < parts->post_count; i++)
        le_put_u32(p->data + p->offset[SECTION_POST] + 4 * (size_t)i, parts->post[i]);
}

static void put_bytes_at(struct packing *p, int section, uint32_t *end, const char *bytes,
                         uint32_t n)
{
    if (n)
        memcpy(p->data + p->offset[section] + *end, bytes, n);
    *end += n;
}

static void put_normalizers(struct packing *p)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < p->parts->normalizer_count; i++) {
        const struct pack_normalizer *z = &p->parts->normalizers[i];
        unsigned char *entry = p->data + p->offset[SECTION_NORMALIZERS] + 24 * (size_t)i;
        le_put_u32(entry, z->kind);
        le_put_u32(entry + 4, z->flags);
        le_put_u32(entry + 8, z->regex);
        put_bytes_at(p, SECTION_NORMALIZER_BYTES, &end, z->pattern, z->pattern_n);
        le_put_u32(entry + 12, end);
        put_bytes_at(p, SECTION_NORMALIZER_BYTES, &end, z->content, z->content_n);
        le_put_u32(entry + 16, end);
    }
}

static void put_texts(struct packing *p)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < p->parts->text_count; i++) {
        const struct pack_text *t = &p->parts->texts[i];
        unsigned char *entry = p->data + p->offset[SECTION_TEXTS] + 16 * (size_t)i;
        le_put_u32(entry, t->kind);
        put_bytes_at(p, SECTION_TEXT_BYTES, &end, t->name, t->name_n);
        le_put_u32(entry + 4, end);
        put_bytes_at(p, SECTION_TEXT_BYTES, &end, t->value, t->value_n);
        le_put_u32(entry + 8, end);
    }
}

static void put_header(const struct packing *p, uint32_t added_raw)
{
    unsigned char *h = p->data;
    memcpy(h, "TPTOKEN\n", 8);
    le_put_u32(h + 8, TOKENIZER_VERSION);
    le_put_u32(h + 12, TOKENIZER_HEADER_BYTES);
    le_put_u64(h + 16, p->total);
    le_put_u32(h + 40, p->parts->model);
    le_put_u32(h + 44, p->parts->token_count);
    le_put_u32(h + 48, p->index_probes);
    le_put_u32(h + 52, p->merge_probes);
    le_put_u32(h + 56, added_raw);
    le_put_u32(h + 60, p->parts->post_before);
    le_put_u32(h + 64, p->parts->model_flags);
    le_put_u32(h + 68, p->parts->unk);
    le_put_u32(h + 72, p->parts->decoder.mode);
    le_put_u32(h + 76, p->parts->decoder.strip);
    le_put_u32(h + 80, p->parts->decoder.strip_begin);
    le_put_u32(h + 84, p->parts->decoder.strip_end);
    for (int i = 0; i < SECTION_COUNT; i++) {
        le_put_u64(h + 128 + 16 * i, p->offset[i]);
        le_put_u64(h + 128 + 16 * i + 8, p->bytes[i]);
    }
    tokenizer_file_seal(h, p->total);
}

/* Most words of a text are one token. Where a token's bytes encode to that token alone, the runtime
 * may take it without merging; which they are is found out here, by merging. */
static bool mark_whole(struct packing *p, struct tp_error *err)
{
    struct tokenizer_file file;
    struct bpe bpe = {0};
    struct token_ids ids = {0};
    bool ok = tokenizer_file_open(p->data, p->total, "tokenizer", &file, err);
    for (uint32_t i = 0; ok && i < p->parts->token_count; i++) {
        const struct pack_token *t = &p->parts->tokens[i];
        if (!t->vocabulary)
            continue;
        ids.count = 0;
        ids.dropped = 0;
        ok = bpe_merge(&bpe, &file, t->content, t->content_n, &ids, err);
        if (ok && ids.count == 1 && ids.ids[0] == i && ids.dropped == 0)
            p->data[p->offset[SECTION_TOKEN_FLAGS] + i] |= TOKEN_WHOLE;
    }
    bpe_free(&bpe);
    token_ids_free(&ids);
    if (ok)
        tokenizer_file_seal(p->data, p->total);
    return ok;
}

bool tokenizer_pack(struct tokenizer_parts *parts, unsigned char **data, uint64_t *n,
                    struct tp_error *err)
{
    struct packing p = {.parts = parts};
    if (parts->added_count)
        qsort(parts->added, parts->added_count, sizeof *parts->added, by_group_and_content);
    lay_out(&p);
    p.data = mem_alloc(p.total, err);
    if (!p.data)
        return false;
    uint32_t added_raw = 0;
    put_tokens(&p);
    put_index(&p);
    put_merges(&p);
    put_small_tables(&p, &added_raw);
    put_normalizers(&p);
    put_texts(&p);
    put_cuts(&p);
    if (parts->word_n)
        memcpy(p.data + p.offset[SECTION_WORD], parts->word, parts->word_n);
    put_header(&p, added_raw);
    bool ok = p.index_probes <= TOKENIZER_PROBES_MAX && p.merge_probes <= TOKENIZER_PROBES_MAX;
    if (!ok)
        tp_fail(err, TP_E_LIMIT, "tokenizer: hash table with a run of more than %u entries",
                TOKENIZER_PROBES_MAX);
    if (!ok || !mark_whole(&p, err)) {
        mem_free(p.data);
        return false;
    }
    *data = p.data;
    *n = p.total;
    return true;
}
