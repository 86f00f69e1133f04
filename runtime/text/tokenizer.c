#include "tokenizer.h"

#include "added_scan.h"
#include "mem.h"
#include "normal_text.h"
#include "pieces.h"
#include "utf8.h"

/* ---- opening ---- */

static bool open_patterns(struct tokenizer *t, struct tp_error *err)
{
    for (uint32_t i = 0; i < t->file.step_count; i++) {
        struct tokenizer_step step = tokenizer_file_step(&t->file, i);
        t->first_matters |= step.kind == STEP_METASPACE && step.behaviour == PREPEND_FIRST;
        if (step.kind == STEP_SPLIT &&
            !pattern_open(&t->steps[i], (const char *)step.pattern.data, step.pattern.n,
                          "compiled tokenizer: pre-tokenizer pattern", err))
            return false;
    }
    for (uint32_t i = 0; i < t->file.normalizer_count; i++) {
        struct tokenizer_normalizer z = tokenizer_file_normalizer(&t->file, i);
        if (z.regex && !pattern_open(&t->normalizers[i], (const char *)z.pattern.data, z.pattern.n,
                                     "compiled tokenizer: normalizer pattern", err))
            return false;
    }
    bool words = false;
    for (uint32_t i = 0; i < t->file.added_count; i++) {
        struct tokenizer_added token = tokenizer_file_added(&t->file, i);
        bool normalized = i >= t->file.added_raw;
        t->added_begins[normalized][token.content.data[0]] = true;
        t->special_normalized |= normalized && token.flags & ADDED_SPECIAL;
        words |= (token.flags & ADDED_SINGLE_WORD) != 0;
    }
    return !words || pattern_open(&t->word, (const char *)t->file.section[SECTION_WORD],
                                  t->file.word_bytes, "compiled tokenizer: pattern for words", err);
}

bool tokenizer_open_bytes(const void *data, size_t n, const char *name, struct tokenizer *tokenizer,
                          struct tp_error *err)
{
    struct tokenizer t = {0};
    if (tokenizer_file_open(data, n, name, &t.file, err) && open_patterns(&t, err)) {
        *tokenizer = t;
        return true;
    }
    tokenizer_close(&t);
    return false;
}

bool tokenizer_open(const char *path, struct tokenizer *tokenizer, struct tp_error *err)
{
    char *copy;
    size_t n;
    if (!io_read_file(path, TOKENIZER_FILE_MAX, &copy, &n, err))
        return false;
    bool ok = tokenizer_open_bytes(copy, n, path, tokenizer, err);
    if (ok)
        tokenizer->copy = copy;
    else
        mem_free(copy);
    return ok;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    for (size_t i = 0; i < TOKENIZER_STEPS_MAX; i++) {
        pattern_close(&tokenizer->steps[i]);
        mem_free(tokenizer->made[i].data);
    }
    for (size_t i = 0; i < TOKENIZER_NORMALIZERS_MAX; i++)
        pattern_close(&tokenizer->normalizers[i]);
    pattern_close(&tokenizer->word);
    bpe_free(&tokenizer->bpe);
    mem_free(tokenizer->normal[0].data);
    mem_free(tokenizer->normal[1].data);
    mem_free(tokenizer->parts.data);
    mem_free(tokenizer->origin.data);
    mem_free(tokenizer->copy);
    *tokenizer = (struct tokenizer){0};
}

/* ---- encoding: from the outside inwards ---- */

struct encoding {
    struct tokenizer *tokenizer;
    struct token_ids *list;
    struct tp_error *err;
};

/* What lies between tokens found before normalization: normalize it, look for those that are found
 * after that. */
static bool encode_segment(const struct encoding *e, const struct token_source *source)
{
    struct tokenizer *t = e->tokenizer;
    struct token_source normal = *source;
    if (t->file.normalizer_count && !normal_text_make(t, source, &normal, e->err))
        return false;
    struct added_scan scan = added_scan_begin(t, 1, &normal);
    struct added_segment segment;
    bool more;
    while (added_scan_next(&scan, &segment, &more, e->err)) {
        if (!more)
            return true;
        if (segment.id != TOKEN_NONE
                ? !token_ids_push(e->list, segment.id, e->err)
                : !pieces_encode(t, normal.text + segment.begin, segment.end - segment.begin,
                                 normal.first && segment.begin == 0, e->list, e->err))
            return false;
    }
    return false;
}

/* n bytes of valid UTF-8. */
static bool encode_valid(const struct encoding *e, const struct token_source *source)
{
    struct added_scan scan = added_scan_begin(e->tokenizer, 0, source);
    struct added_segment segment;
    bool more;
    while (added_scan_next(&scan, &segment, &more, e->err)) {
        if (!more)
            return true;
        struct token_source part = {
            .text = source->text + segment.begin,
            .n = segment.end - segment.begin,
            .origin = source->origin ? source->origin + segment.begin : NULL,
            .first = source->first && segment.begin == 0,
        };
        if (segment.id != TOKEN_NONE ? !token_ids_push(e->list, segment.id, e->err)
                                     : !encode_segment(e, &part))
            return false;
    }
    return false;
}

static bool encode_byte(const struct encoding *e, unsigned char byte)
{
    uint32_t id = tokenizer_file_byte_id(&e->tokenizer->file, byte);
    if (id == TOKEN_NONE)
        id = e->tokenizer->file.unk;
    if (id == TOKEN_NONE) {
        e->list->dropped++;
        return true;
    }
    return token_ids_push(e->list, id, e->err);
}

static bool encode_post(const struct encoding *e, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (!token_ids_push(e->list, tokenizer_file_post(&e->tokenizer->file, i), e->err))
            return false;
    return true;
}

bool tokenizer_encode(struct tokenizer *tokenizer, const char *text, size_t n,
                      const unsigned char *origin, unsigned flags, struct token_ids *list,
                      struct tp_error *err)
{
    const struct encoding e = {tokenizer, list, err};
    const struct tokenizer_file *file = &tokenizer->file;
    const unsigned char *s = (const unsigned char *)text;
    bool special = flags & TOKENIZER_ADD_SPECIAL;
    if (flags & TOKENIZER_PARSE_SPECIAL)
        origin = NULL;
    if (special && !encode_post(&e, 0, file->post_before))
        return false;
    for (size_t at = 0; at < n;) {
        size_t end = at, length;
        while (end < n && (length = utf8_length(s + end, n - end)))
            end += length;
        struct token_source valid = {text + at, end - at, origin ? origin + at : NULL, at == 0};
        if (end > at && !encode_valid(&e, &valid))
            return false;
        if (end < n && !encode_byte(&e, s[end++]))
            return false;
        at = end;
    }
    return !special || encode_post(&e, file->post_before, file->post_count);
}

uint32_t tokenizer_end(const struct tokenizer *tokenizer)
{
    struct tokenizer_bytes name;
    return tokenizer_file_find_text(&tokenizer->file, TEXT_VARIABLE, "eos_token", &name)
               ? tokenizer_file_named(&tokenizer->file, name.data, name.n)
               : TOKEN_NONE;
}
