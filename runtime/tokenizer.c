#include "tokenizer.h"

#include "added_scan.h"
#include "mem.h"
#include "splitter.h"
#include "utf8.h"

/* ---- opening ---- */

/* \w of Rust's regex, for added tokens that must stand as a single word. */
static const char word_pattern[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]";

static bool open_patterns(struct tokenizer *t, struct tp_error *err)
{
    for (uint32_t i = 0; i < t->file.step_count; i++) {
        struct tokenizer_step step = tokenizer_file_step(&t->file, i);
        if (step.kind == STEP_SPLIT &&
            !pattern_open(&t->steps[i], (const char *)step.pattern.data, step.pattern.n,
                          "compiled tokenizer: pre-tokenizer pattern", err))
            return false;
    }
    bool words = false;
    for (uint32_t i = 0; i < t->file.added_count; i++) {
        struct tokenizer_added token = tokenizer_file_added(&t->file, i);
        t->added_begins[i >= t->file.added_raw][token.content.data[0]] = true;
        words |= (token.flags & ADDED_SINGLE_WORD) != 0;
    }
    return !words || pattern_open(&t->word, word_pattern, sizeof word_pattern - 1, "\\w", err);
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
    struct io_identity who;
    struct io_map map = {0};
    int fd = io_open_read(path, &who, err);
    if (fd < 0)
        return false;
    bool ok = io_map(fd, path, who.size, &map, err);
    ok = io_close(&fd, path, err) && ok;
    ok = ok && tokenizer_open_bytes(map.data, map.size, path, tokenizer, err);
    if (ok)
        tokenizer->map = map;
    else
        io_unmap(&map);
    return ok;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    for (size_t i = 0; i < TOKENIZER_STEPS_MAX; i++)
        pattern_close(&tokenizer->steps[i]);
    pattern_close(&tokenizer->word);
    bpe_free(&tokenizer->bpe);
    mem_free(tokenizer->prefixed);
    io_unmap(&tokenizer->map);
    *tokenizer = (struct tokenizer){0};
}

/* ---- encoding: from the piece outwards ---- */

struct encoding {
    struct tokenizer *tokenizer;
    struct token_ids *list;
    struct tp_error *err;
};

static bool encode_piece(const struct encoding *e, const char *piece, size_t n)
{
    const struct tokenizer_file *file = &e->tokenizer->file;
    uint32_t id = n <= file->content_bytes_max ? tokenizer_file_find(file, piece, n) : TOKEN_NONE;
    if (id != TOKEN_NONE &&
        (file->model_flags & MODEL_IGNORE_MERGES || tokenizer_file_flags(file, id) & TOKEN_WHOLE))
        return token_ids_push(e->list, id, e->err);
    return bpe_encode(&e->tokenizer->bpe, file, piece, n, e->list, e->err);
}

/* A piece with a space before it, in the tokenizer's memory. */
static bool prefix_space(const struct encoding *e, const char **piece, size_t *n)
{
    struct tokenizer *t = e->tokenizer;
    if (**piece == ' ')
        return true;
    if (!mem_grow((void **)&t->prefixed, &t->prefixed_cap, *n + 1, 1, e->err))
        return false;
    t->prefixed[0] = ' ';
    memcpy(t->prefixed + 1, *piece, *n);
    *piece = t->prefixed;
    *n += 1;
    return true;
}

/* Begin the walk of step i; a step that does not cut is passed through to the first that does.
 * *depth: the step whose walk was begun, step_count where none is left and piece is final. */
static bool enter(const struct encoding *e, struct splitter *walks, uint32_t i, const char **piece,
                  size_t *n, uint32_t *depth)
{
    struct tokenizer *t = e->tokenizer;
    for (; i < t->file.step_count; i++) {
        struct tokenizer_step step = tokenizer_file_step(&t->file, i);
        if (step.kind == STEP_SPLIT) {
            walks[i] = splitter_begin(&t->steps[i], &step, *piece, *n);
            break;
        }
        if (!prefix_space(e, piece, n))
            return false;
    }
    *depth = i;
    return true;
}

/* The step before i that cuts; step_count where there is none. */
static uint32_t step_before(const struct tokenizer_file *file, uint32_t i)
{
    while (i-- > 0)
        if (tokenizer_file_step(file, i).kind == STEP_SPLIT)
            return i;
    return file->step_count;
}

/* Text between added tokens: every step cuts the parts of the one before. Depth first, so that
 * only one part per step is known at a time. */
static bool encode_text(const struct encoding *e, const char *text, size_t n)
{
    struct splitter walks[TOKENIZER_STEPS_MAX];
    const uint32_t steps = e->tokenizer->file.step_count;
    uint32_t depth;
    if (n == 0)
        return true;
    if (!enter(e, walks, 0, &text, &n, &depth))
        return false;
    if (depth == steps)
        return encode_piece(e, text, n);
    while (depth != steps) {
        struct splitter *walk = &walks[depth];
        size_t begin, end;
        bool more;
        if (!splitter_next(walk, &begin, &end, &more, e->err))
            return false;
        if (!more) {
            depth = step_before(&e->tokenizer->file, depth);
            continue;
        }
        const char *piece = walk->text + begin;
        size_t piece_n = end - begin;
        uint32_t below;
        if (!enter(e, walks, depth + 1, &piece, &piece_n, &below))
            return false;
        if (below != steps)
            depth = below;
        else if (!encode_piece(e, piece, piece_n))
            return false;
    }
    return true;
}

/* What lies between tokens found before normalization: look for those that are found after it. */
static bool encode_normalized(const struct encoding *e, const char *text, size_t n)
{
    struct added_scan scan = added_scan_begin(e->tokenizer, 1, text, n);
    struct added_segment segment;
    bool more;
    while (added_scan_next(&scan, &segment, &more, e->err)) {
        if (!more)
            return true;
        if (segment.id != TOKEN_NONE
                ? !token_ids_push(e->list, segment.id, e->err)
                : !encode_text(e, text + segment.begin, segment.end - segment.begin))
            return false;
    }
    return false;
}

static bool encode_valid(const struct encoding *e, const char *text, size_t n)
{
    struct added_scan scan = added_scan_begin(e->tokenizer, 0, text, n);
    struct added_segment segment;
    bool more;
    while (added_scan_next(&scan, &segment, &more, e->err)) {
        if (!more)
            return true;
        if (segment.id != TOKEN_NONE
                ? !token_ids_push(e->list, segment.id, e->err)
                : !encode_normalized(e, text + segment.begin, segment.end - segment.begin))
            return false;
    }
    return false;
}

static bool encode_byte(const struct encoding *e, unsigned char byte)
{
    uint32_t id = tokenizer_file_byte_id(&e->tokenizer->file, byte);
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
    (void)origin;
    const struct encoding e = {tokenizer, list, err};
    const struct tokenizer_file *file = &tokenizer->file;
    const unsigned char *s = (const unsigned char *)text;
    bool special = flags & TOKENIZER_ADD_SPECIAL;
    if (special && !encode_post(&e, 0, file->post_before))
        return false;
    for (size_t at = 0; at < n;) {
        size_t end = at, length;
        while (end < n && (length = utf8_length(s + end, n - end)))
            end += length;
        if (end > at && !encode_valid(&e, text + at, end - at))
            return false;
        if (end < n && !encode_byte(&e, s[end++]))
            return false;
        at = end;
    }
    return !special || encode_post(&e, file->post_before, file->post_count);
}
