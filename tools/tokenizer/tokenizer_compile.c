#include "tokenizer_compile.h"

#include "io.h"
#include "json.h"
#include "mem.h"
#include "normalizer.h"
#include "onig_sets.h"
#include "tokenizer_agree.h"
#include "tokenizer_merges.h"
#include "tokenizer_post.h"
#include "tokenizer_steps.h"
#include "tokenizer_vocab.h"
#include <string.h>

struct compiling {
    struct tokenizer_reading in;
    const json_t *root, *model;
    struct mem_arena arena;
    struct tokenizer_normalizers normalizers;
    struct tokenizer_steps steps;
    struct tokenizer_post post;
    struct tokenizer_forms forms;
    struct tokenizer_vocab vocab;
    struct pack_merge *merges;
    struct tokenizer_parts parts;
    struct tokenizer_rows *rows;
};

static bool check_affixes(struct compiling *c)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_find(c->model, affixes[i]);
        if (affix && (!json_is_string(affix) || json_string_length(affix)))
            return reading_unsupported(&c->in, "model:", affixes[i]);
    }
    return true;
}

static bool read_model(struct compiling *c)
{
    const char *file = c->in.file, *type = "BPE"; /* files of old do not name it */
    struct tp_error *err = c->in.err;
    struct json_in in = {.object = c->root, .file = file, .code = TP_E_TK_INVALID};
    const json_t *version = json_find(c->root, "version");
    if (version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0") != 0))
        return tp_fail(err, TP_E_TK_UNSUPPORTED, "%s: version is not 1.0", file);
    if (!json_get_object(&in, "model", &c->model, err))
        return false;
    in.object = c->model;
    if (json_find(c->model, "type") && !json_get_string(&in, "type", &type, err))
        return false;
    if (strcmp(type, "BPE") != 0)
        return reading_unsupported(&c->in, "model", type);
    bool fallback, fuse, ignore;
    double dropout;
    if (!json_get_object(&in, "vocab", &c->vocab.vocab, err) ||
        !json_get_bool_or(&in, "byte_fallback", false, &fallback, err) ||
        !json_get_bool_or(&in, "fuse_unk", false, &fuse, err) ||
        !json_get_bool_or(&in, "ignore_merges", false, &ignore, err) ||
        !json_get_double_or(&in, "dropout", 0, &dropout, err))
        return false;
    if (dropout > 0)
        return reading_unsupported(&c->in, "model:", "dropout");
    c->parts.model_flags = (fallback ? MODEL_BYTE_FALLBACK : 0u) | (fuse ? MODEL_FUSE_UNK : 0u) |
                           (ignore ? MODEL_IGNORE_MERGES : 0u);
    return check_affixes(c);
}

/* The unknown token: of the vocabulary, or none. */
static bool read_unk(struct compiling *c)
{
    const json_t *unk = json_find(c->model, "unk_token");
    c->parts.unk = TOKEN_NONE;
    if (unk && !json_is_string(unk))
        return reading_invalid(&c->in, "model", "unk_token: a string expected");
    const json_t *id = unk ? json_object_get(c->vocab.vocab, json_string_value(unk)) : NULL;
    if (id)
        c->parts.unk = (uint32_t)json_integer_value(id);
    return true;
}

/* Where text ends up as the letters of bytes, the bytes themselves may merge: the same ids. */
static void choose_model(struct compiling *c)
{
    struct tokenizer_steps *steps = &c->steps;
    uint32_t letters = 0;
    for (uint32_t i = 0; i < steps->count; i++)
        letters += steps->list[i].kind == STEP_LETTERS;
    bool bytes = letters == 1 && steps->list[steps->count - 1].kind == STEP_LETTERS &&
                 !(c->parts.model_flags & MODEL_BYTE_FALLBACK);
    for (uint32_t i = 0; i < c->normalizers.count; i++)
        bytes &= c->normalizers.list[i].kind != NORMALIZER_BYTE_LEVEL;
    steps->count -= bytes;
    c->parts.model = bytes ? MODEL_BPE_BYTES : MODEL_BPE_CHARS;
}

static bool check_post(struct compiling *c)
{
    c->post.count = tokenizer_rows_keep(c->rows, c->post.ids, c->post.count, &c->post.before);
    for (uint32_t i = 0; i < c->post.count; i++) {
        uint32_t id = c->post.ids[i];
        if (id >= c->vocab.token_count || !c->vocab.tokens[id].used)
            return tp_fail(c->in.err, TP_E_TK_INVALID, "%s: post_processor: id %u is no token",
                           c->in.file, id);
    }
    return true;
}

static bool read_parts(struct compiling *c)
{
    const struct tokenizer_reading *in = &c->in;
    const json_t *root = c->root;
    if (!read_model(c) ||
        !tokenizer_normalizers_read(in, json_find(root, "normalizer"), &c->normalizers) ||
        !tokenizer_steps_read(in, json_find(root, "pre_tokenizer"), &c->steps) ||
        !tokenizer_post_read(in, json_find(root, "post_processor"), &c->post) ||
        !tokenizer_forms_read(in, json_find(root, "decoder"), &c->forms))
        return false;
    choose_model(c);
    c->vocab.in = in;
    c->vocab.forms = &c->forms;
    c->vocab.normalizers = &c->normalizers;
    c->vocab.model = c->parts.model;
    c->vocab.fallback = c->parts.model_flags & MODEL_BYTE_FALLBACK;
    return tokenizer_vocab_read(&c->vocab, root) && read_unk(c) && check_post(c) &&
           tokenizer_merges_read(in, c->model, c->vocab.vocab, c->rows->tokens, &c->merges,
                                 &c->parts.merge_count);
}

/* Added tokens that stand alone: apart from what? */
static bool make_word(struct compiling *c)
{
    struct tp_text text = {0};
    bool needed = false, ok = true;
    for (uint32_t i = 0; i < c->vocab.added_count; i++)
        needed |= (c->vocab.added[i].flags & ADDED_SINGLE_WORD) != 0;
    if (needed) {
        ok = onig_word_class(&text, c->in.err);
        c->parts.word = ok ? mem_arena_copy(&c->arena, text.data, text.n, c->in.err) : NULL;
        c->parts.word_n = (uint32_t)text.n;
        ok = c->parts.word != NULL;
    }
    mem_free(text.data);
    return ok;
}

static bool compile(struct compiling *c, const struct tokenizer_texts *texts, unsigned char **data,
                    uint64_t *bytes)
{
    struct tokenizer_parts *parts = &c->parts;
    if (!read_parts(c) || !make_word(c))
        return false;
    parts->decoder = c->forms.decoder;
    parts->tokens = c->vocab.tokens;
    parts->token_count = c->vocab.token_count;
    parts->texts = texts ? texts->list : NULL;
    parts->text_count = texts ? texts->count : 0;
    parts->merges = c->merges;
    parts->added = c->vocab.added;
    parts->added_count = c->vocab.added_count;
    parts->normalizers = c->normalizers.list;
    parts->normalizer_count = c->normalizers.count;
    parts->steps = c->steps.list;
    parts->step_count = c->steps.count;
    memcpy(parts->byte_ids, c->vocab.byte_ids, sizeof parts->byte_ids);
    memcpy(parts->post, c->post.ids, sizeof parts->post);
    parts->post_count = c->post.count;
    parts->post_before = c->post.before;
    return tokenizer_pack(parts, data, bytes, c->in.err);
}

static bool compile_document(const char *file, json_t *root, const struct tokenizer_texts *texts,
                             struct tokenizer_rows *rows, unsigned char **data, uint64_t *bytes,
                             struct tp_error *err)
{
    if (!json_is_object(root))
        return tp_fail(err, TP_E_TK_INVALID, "%s: an object expected at top level", file);
    struct compiling *c = mem_alloc(sizeof *c, err);
    if (!c)
        return false;
    c->in = (struct tokenizer_reading){.file = file, .arena = &c->arena, .err = err};
    c->root = root;
    c->rows = rows;
    bool ok = tokenizer_rows_apply(rows, root, err) && compile(c, texts, data, bytes);
    tokenizer_vocab_free(&c->vocab);
    mem_free(c->merges);
    mem_arena_free(&c->arena);
    mem_free(c);
    return ok;
}

bool tokenizer_compile(const char *file, const char *json, size_t n,
                       const struct tokenizer_texts *texts, struct tokenizer_rows *rows,
                       unsigned char **data, uint64_t *bytes, struct tp_error *err)
{
    struct tokenizer_rows all = {0};
    if (n > TOKENIZER_JSON_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: %zu bytes, at most %llu allowed", file, n,
                       TOKENIZER_JSON_MAX);
    json_t *root = json_parse_wide(file, json, n, TP_E_TK_INVALID, err);
    bool ok = root && compile_document(file, root, texts, rows ? rows : &all, data, bytes, err);
    json_decref(root);
    return ok;
}

static const char json_name[] = "tokenizer.json";

static bool warn_of_rows(const struct tokenizer_rows *rows, const char *file,
                         struct findings *findings, struct tp_error *err)
{
    return !rows->dropped ||
           finding_warn(findings, TP_E_TK_INVALID, err,
                        "%s: %u token%s, %s%s, but vocab_size of config.json is %llu: %s left out",
                        file, rows->dropped, rows->dropped == 1 ? "" : "s", rows->names,
                        rows->dropped > TOKENIZER_ROWS_SHOWN ? " the first" : "",
                        (unsigned long long)rows->count, rows->dropped == 1 ? "it is" : "they are");
}

bool tokenizer_compile_read(const char *dir, const char *json, size_t n,
                            const struct model_config *model, const struct tokenizer_texts *texts,
                            struct findings *findings, unsigned char **data, uint64_t *bytes,
                            struct tp_error *err)
{
    struct tokenizer_rows rows = {.count = model ? model->vocab : 0};
    bool made = tokenizer_compile(json_name, json, n, texts, &rows, data, bytes, err);
    bool ok = made && warn_of_rows(&rows, json_name, findings, err) &&
              tokenizer_agree(dir, model, rows.tokens, *data, *bytes, findings, err);
    if (made && !ok) {
        mem_free(*data);
        *data = NULL;
    }
    tokenizer_rows_free(&rows);
    return ok;
}

bool tokenizer_compile_dir(const char *dir, const struct model_config *model,
                           const struct tokenizer_texts *texts, struct findings *findings,
                           unsigned char **data, uint64_t *bytes, struct tp_error *err)
{
    char path[IO_PATH_MAX], *json;
    size_t n;
    if (!io_join(path, dir, "tokenizer.model", err))
        return false;
    bool sentencepiece = io_exists(path);
    if (!io_join(path, dir, json_name, err))
        return false;
    if (sentencepiece && !io_exists(path))
        return tp_fail(err, TP_E_TK_UNSUPPORTED, "tokenizer.model without a tokenizer.json");
    if (!io_read_file(path, TOKENIZER_JSON_MAX, &json, &n, err))
        return false;
    bool ok = tokenizer_compile_read(dir, json, n, model, texts, findings, data, bytes, err);
    mem_free(json);
    return ok;
}
