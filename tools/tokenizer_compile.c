#include "tokenizer_compile.h"

#include "io.h"
#include "json.h"
#include "mem.h"
#include "tokenizer_agree.h"
#include "tokenizer_pipeline.h"
#include "utf8.h"
#include <string.h>

enum { LETTERS = 0x144 }; /* code points of GPT-2's byte letters are below */

struct compiling {
    const char *file;
    const struct tokenizer_texts *texts; /* NULL: none */
    const json_t *root, *model, *vocab;
    struct mem_arena arena;
    int16_t byte_of_letter[LETTERS]; /* -1: none */
    struct pack_token *tokens;
    const char **names; /* token i as tokenizer.json writes it; NULL: a hole */
    uint32_t token_count;
    struct pack_merge *merges;
    uint32_t merge_count;
    struct pack_added *added;
    uint32_t added_count;
    struct tokenizer_pipeline pipeline;
    struct tp_error *err;
};

/* Bytes that print in Latin-1 are their own letters; the others follow from U+0100. */
static void make_letters(struct compiling *c)
{
    memset(c->byte_of_letter, -1, sizeof c->byte_of_letter);
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
        bool own = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        c->byte_of_letter[own ? b : next++] = (int16_t)b;
    }
}

/* The bytes that a token decodes to: those its letters stand for, or, where a character of it is no
 * letter, its own. *letters says which. */
static bool token_bytes(struct compiling *c, const char *name, size_t n, struct pack_token *token,
                        bool *letters)
{
    char *bytes = mem_arena_copy(&c->arena, name, n, c->err);
    if (!bytes)
        return false;
    uint32_t count = 0;
    *letters = true;
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_length((const unsigned char *)name + i, n - i);
        uint32_t letter = k ? utf8_decode((const unsigned char *)name + i, k) : LETTERS;
        if (letter >= LETTERS || c->byte_of_letter[letter] < 0) {
            memcpy(bytes, name, n);
            count = (uint32_t)n;
            *letters = false;
            break;
        }
        bytes[count++] = (char)c->byte_of_letter[letter];
    }
    token->bytes = token->content = bytes;
    token->n = token->content_n = count;
    token->used = true;
    return true;
}

/* An id in range; the table must have room for it. */
static bool id_of(struct compiling *c, const json_t *value, const char *name, uint32_t *id)
{
    char buf[TP_NAME_BUF];
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < 0 || v > INT32_MAX)
        return tp_fail(c->err, TP_E_TK_INVALID, "%s: token \"%s\": id 0 to 2^31 - 1 expected",
                       c->file, tp_name_cut(buf, name, strlen(name)));
    if (v >= TOKENIZER_TOKENS_MAX)
        return tp_fail(c->err, TP_E_LIMIT, "%s: token \"%s\": id %lld, at most %u allowed", c->file,
                       tp_name_cut(buf, name, strlen(name)), (long long)v,
                       TOKENIZER_TOKENS_MAX - 1);
    *id = (uint32_t)v;
    if (c->token_count <= *id)
        c->token_count = *id + 1;
    return true;
}

static bool length_ok(struct compiling *c, const char *name, size_t n, size_t max,
                      enum tp_code code)
{
    char buf[TP_NAME_BUF];
    return n <= max || tp_fail(c->err, code, "%s: token \"%s\": more than %zu bytes", c->file,
                               tp_name_cut(buf, name, n), max);
}

static bool two_tokens(struct compiling *c, uint32_t id, const char *name)
{
    char a[TP_NAME_BUF], b[TP_NAME_BUF];
    return tp_fail(c->err, TP_E_TK_INVALID, "%s: id %u has two tokens: \"%s\" and \"%s\"", c->file,
                   id, tp_name_cut(a, c->names[id], strlen(c->names[id])),
                   tp_name_cut(b, name, strlen(name)));
}

static bool size_tables(struct compiling *c, const json_t *added)
{
    const char *name;
    json_t *value;
    uint32_t id;
    json_object_foreach(
        (json_t *)(uintptr_t)c->vocab, name,
        value) if (!length_ok(c, name, strlen(name), TOKENIZER_TOKEN_BYTES_MAX, TP_E_TK_INVALID) ||
                   !id_of(c, value, name, &id)) return false;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *entry = json_array_get(added, i);
        const json_t *content = json_object_get(entry, "content");
        if (!json_is_string(content))
            return tp_fail(c->err, TP_E_TK_INVALID, "%s: added_tokens: entry %zu has no content",
                           c->file, i);
        if (!length_ok(c, json_string_value(content), json_string_length(content),
                       TOKENIZER_ADDED_BYTES_MAX, TP_E_LIMIT) ||
            !id_of(c, json_object_get(entry, "id"), json_string_value(content), &id))
            return false;
    }
    if (c->token_count == 0)
        return tp_fail(c->err, TP_E_TK_INVALID, "%s: model: empty vocab", c->file);
    c->tokens = mem_array(c->token_count, sizeof *c->tokens, c->err);
    c->names = mem_array(c->token_count, sizeof *c->names, c->err);
    c->added = mem_array(json_array_size(added), sizeof *c->added, c->err);
    return c->tokens && c->names && c->added;
}

static bool read_vocab(struct compiling *c)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)c->vocab, name, value)
    {
        uint32_t id = (uint32_t)json_integer_value(value);
        bool letters;
        if (c->names[id])
            return two_tokens(c, id, name);
        c->names[id] = name;
        if (!token_bytes(c, name, strlen(name), &c->tokens[id], &letters))
            return false;
        c->tokens[id].vocabulary = letters && c->tokens[id].n;
    }
    return true;
}

static bool added_flag(struct compiling *c, const json_t *entry, const char *key, bool *out)
{
    struct json_in in = {.object = entry, .file = c->file, .code = TP_E_TK_INVALID};
    return json_get_bool_or(&in, key, false, out, c->err);
}

/* The content is new to `seen`, which maps contents to ids. */
static bool added_once(struct compiling *c, json_t *seen, const char *name, uint32_t id)
{
    const json_t *other = json_object_get(seen, name);
    char cut[TP_NAME_BUF];
    if (other)
        return tp_fail(c->err, TP_E_TK_INVALID,
                       "%s: added_tokens: \"%s\" stands there twice, with ids %lld and %u", c->file,
                       tp_name_cut(cut, name, strlen(name)), (long long)json_integer_value(other),
                       id);
    return json_object_set_new(seen, name, json_integer(id)) == 0 ||
           tp_fail(c->err, TP_E_MEMORY, "out of memory: added tokens");
}

static bool read_added_entry(struct compiling *c, const json_t *entry, json_t *seen)
{
    const json_t *content = json_object_get(entry, "content");
    const char *name = json_string_value(content);
    size_t n = json_string_length(content);
    uint32_t id = (uint32_t)json_integer_value(json_object_get(entry, "id"));
    bool special, normalized, lstrip, rstrip, single_word, letters;
    char cut[TP_NAME_BUF];
    if (!added_flag(c, entry, "special", &special) ||
        !added_flag(c, entry, "normalized", &normalized) ||
        !added_flag(c, entry, "lstrip", &lstrip) || !added_flag(c, entry, "rstrip", &rstrip) ||
        !added_flag(c, entry, "single_word", &single_word))
        return false;
    if (n == 0)
        return true; /* the reference passes over it as well */
    if (n != strlen(name))
        return tp_fail(c->err, TP_E_TK_UNSUPPORTED, "%s: added_tokens: NUL in the token of id %u",
                       c->file, id);
    if (!added_once(c, seen, name, id))
        return false;
    const json_t *other = json_object_get(c->vocab, name);
    if (other && json_integer_value(other) != (json_int_t)id)
        return tp_fail(c->err, TP_E_TK_INVALID, "%s: token \"%s\" has two ids: %lld and %u",
                       c->file, tp_name_cut(cut, name, n), (long long)json_integer_value(other),
                       id);
    if (c->names[id] && strcmp(c->names[id], name) != 0)
        return two_tokens(c, id, name);
    if (!c->names[id]) {
        c->names[id] = name;
        if (!token_bytes(c, name, n, &c->tokens[id], &letters))
            return false;
    }
    c->tokens[id].special = special;
    c->added[c->added_count++] = (struct pack_added){
        .content = name,
        .n = (uint32_t)n,
        .id = id,
        .flags = (lstrip ? ADDED_LSTRIP : 0u) | (rstrip ? ADDED_RSTRIP : 0u) |
                 (single_word ? ADDED_SINGLE_WORD : 0u) | (special ? ADDED_SPECIAL : 0u),
        .normalized = normalized,
    };
    return true;
}

static bool read_tokens(struct compiling *c)
{
    const json_t *added = json_find(c->root, "added_tokens");
    if (added && !json_is_array(added))
        return tp_fail(c->err, TP_E_TK_INVALID, "%s: added_tokens: an array expected, %s found",
                       c->file, json_type_name(added));
    if (!size_tables(c, added) || !read_vocab(c))
        return false;
    json_t *seen = json_object();
    bool ok = seen || tp_fail(c->err, TP_E_MEMORY, "out of memory: added tokens");
    for (size_t i = 0; ok && i < json_array_size(added); i++)
        ok = read_added_entry(c, json_array_get(added, i), seen);
    json_decref(seen);
    return ok;
}

/* ---- merges ---- */

struct span {
    const char *s;
    size_t n;
};

static bool bad_merge(struct compiling *c, size_t number, const char *what)
{
    return tp_fail(c->err, TP_E_TK_INVALID, "%s: merge %zu: %s", c->file, number, what);
}

/* The two parts of "left right" or ["left", "right"]. */
static bool merge_parts(struct compiling *c, const json_t *merge, size_t number,
                        struct span part[2])
{
    if (json_is_string(merge)) {
        const char *s = json_string_value(merge);
        size_t n = json_string_length(merge);
        const char *space = memchr(s, ' ', n);
        if (!space || memchr(space + 1, ' ', (size_t)(s + n - space - 1)))
            return bad_merge(c, number, "two parts expected");
        part[0] = (struct span){s, (size_t)(space - s)};
        part[1] = (struct span){space + 1, (size_t)(s + n - space - 1)};
        return true;
    }
    if (!json_is_array(merge) || json_array_size(merge) != 2)
        return bad_merge(c, number, "two parts expected");
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_array_get(merge, i);
        if (!json_is_string(value))
            return bad_merge(c, number, "strings expected");
        part[i] = (struct span){json_string_value(value), json_string_length(value)};
    }
    return true;
}

static bool merge_id(struct compiling *c, size_t number, struct span name, uint32_t *id)
{
    char cut[TP_NAME_BUF], what[2 * TP_NAME_BUF];
    const json_t *value = json_object_getn(c->vocab, name.s, name.n);
    if (!value) {
        snprintf(what, sizeof what, "\"%s\" is not in the vocabulary",
                 tp_name_cut(cut, name.s, name.n));
        return bad_merge(c, number, what);
    }
    *id = (uint32_t)json_integer_value(value);
    return true;
}

static bool read_merge(struct compiling *c, const json_t *merge, size_t number, char *joined)
{
    struct span part[2];
    struct pack_merge *out = &c->merges[c->merge_count];
    if (!merge_parts(c, merge, number, part) || !merge_id(c, number, part[0], &out->left) ||
        !merge_id(c, number, part[1], &out->right))
        return false;
    /* both are in the vocabulary: neither is longer than a token may be */
    memcpy(joined, part[0].s, part[0].n);
    memcpy(joined + part[0].n, part[1].s, part[1].n);
    if (!merge_id(c, number, (struct span){joined, part[0].n + part[1].n}, &out->id))
        return false;
    c->merge_count++;
    return true;
}

static bool read_merges(struct compiling *c)
{
    const json_t *merges = json_object_get(c->model, "merges");
    if (!json_is_array(merges))
        return tp_fail(c->err, TP_E_TK_INVALID, "%s: model: merges: an array expected, %s found",
                       c->file, json_type_name(merges));
    size_t count = json_array_size(merges);
    if (count > TOKENIZER_MERGES_MAX)
        return tp_fail(c->err, TP_E_TK_INVALID, "%s: %zu merges, at most %u allowed", c->file,
                       count, TOKENIZER_MERGES_MAX);
    char *joined = mem_alloc(2 * TOKENIZER_TOKEN_BYTES_MAX, c->err);
    c->merges = mem_array(count, sizeof *c->merges, c->err);
    bool ok = joined && c->merges;
    for (size_t i = 0; ok && i < count; i++) {
        const json_t *merge = json_array_get(merges, i);
        /* a line of the merges.txt of old, which the reference leaves out as well */
        const char *s = json_string_value(merge);
        if (!s || strncmp(s, "#version", 8) != 0)
            ok = read_merge(c, merge, i, joined);
    }
    mem_free(joined);
    return ok;
}

/* ---- the model ---- */

static bool unsupported(struct compiling *c, const char *what, const char *value)
{
    char cut[TP_NAME_BUF];
    return tp_fail(c->err, TP_E_TK_UNSUPPORTED, "%s: model%s %s", c->file, what,
                   tp_name_cut(cut, value, strlen(value)));
}

static bool check_model(struct compiling *c, bool *ignore_merges)
{
    struct json_in in = {.object = c->root, .file = c->file, .code = TP_E_TK_INVALID};
    const json_t *version = json_find(c->root, "version");
    if (version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0") != 0))
        return tp_fail(c->err, TP_E_TK_UNSUPPORTED, "%s: version is not 1.0", c->file);
    if (!json_get_object(&in, "model", &c->model, c->err))
        return false;
    in.object = c->model;
    const char *type = "BPE"; /* files of old do not name it */
    if (json_find(c->model, "type") && !json_get_string(&in, "type", &type, c->err))
        return false;
    if (strcmp(type, "BPE") != 0)
        return unsupported(c, "", type);
    bool fallback;
    double dropout;
    if (!json_get_object(&in, "vocab", &c->vocab, c->err) ||
        !json_get_bool_or(&in, "byte_fallback", false, &fallback, c->err) ||
        !json_get_bool_or(&in, "ignore_merges", false, ignore_merges, c->err) ||
        !json_get_double_or(&in, "dropout", 0, &dropout, c->err))
        return false;
    if (fallback)
        return unsupported(c, ":", "byte_fallback");
    if (dropout > 0)
        return unsupported(c, ":", "dropout");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_find(c->model, affixes[i]);
        if (affix && (!json_is_string(affix) || json_string_length(affix)))
            return unsupported(c, ":", affixes[i]);
    }
    return true;
}

static bool byte_ids(struct compiling *c, uint32_t ids[256])
{
    size_t found = 0;
    memset(ids, 0xff, 256 * sizeof *ids);
    for (uint32_t i = 0; i < c->token_count; i++)
        if (c->tokens[i].vocabulary && c->tokens[i].n == 1) {
            ids[(unsigned char)c->tokens[i].bytes[0]] = i;
            found++;
        }
    if (found < 256 && json_find(c->model, "unk_token"))
        return unsupported(c, ":", "unk_token with single bytes missing from the vocabulary");
    return true;
}

static bool compile(struct compiling *c, unsigned char **data, uint64_t *bytes)
{
    struct tokenizer_parts parts = {0};
    make_letters(c);
    bool ignore_merges;
    if (!check_model(c, &ignore_merges) ||
        !tokenizer_pipeline_read(c->file, c->root, &c->arena, &c->pipeline, c->err) ||
        !read_tokens(c) || !read_merges(c) || !byte_ids(c, parts.byte_ids))
        return false;
    for (uint32_t i = 0; i < c->pipeline.post_count; i++) {
        uint32_t id = c->pipeline.post[i];
        if (id >= c->token_count || !c->tokens[id].used)
            return tp_fail(c->err, TP_E_TK_INVALID, "%s: post_processor: id %u is no token",
                           c->file, id);
    }
    parts.model = MODEL_BPE_BYTES;
    parts.model_flags = ignore_merges ? MODEL_IGNORE_MERGES : 0;
    parts.unk = TOKEN_NONE;
    parts.decoder.mode = DECODE_BYTES;
    parts.tokens = c->tokens;
    parts.token_count = c->token_count;
    parts.texts = c->texts ? c->texts->list : NULL;
    parts.text_count = c->texts ? c->texts->count : 0;
    parts.merges = c->merges;
    parts.merge_count = c->merge_count;
    parts.added = c->added;
    parts.added_count = c->added_count;
    parts.steps = c->pipeline.steps;
    parts.step_count = c->pipeline.step_count;
    memcpy(parts.post, c->pipeline.post, sizeof parts.post);
    parts.post_count = c->pipeline.post_count;
    parts.post_before = c->pipeline.post_before;
    return tokenizer_pack(&parts, data, bytes, c->err);
}

bool tokenizer_compile(const char *file, const char *json, size_t n,
                       const struct tokenizer_texts *texts, unsigned char **data, uint64_t *bytes,
                       struct tp_error *err)
{
    struct compiling c = {.file = file, .texts = texts, .err = err};
    if (n > TOKENIZER_JSON_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: %zu bytes, at most %llu allowed", file, n,
                       TOKENIZER_JSON_MAX);
    json_t *root = json_parse(file, json, n, TP_E_TK_INVALID, err);
    if (!root)
        return false;
    c.root = root;
    bool ok = json_is_object(root) ||
              tp_fail(err, TP_E_TK_INVALID, "%s: an object expected at top level", file);
    ok = ok && compile(&c, data, bytes);
    mem_free(c.tokens);
    mem_free(c.names);
    mem_free(c.added);
    mem_free(c.merges);
    mem_arena_free(&c.arena);
    json_decref(root);
    return ok;
}

bool tokenizer_compile_dir(const char *dir, const struct model_config *model,
                           const struct tokenizer_texts *texts, unsigned char **data,
                           uint64_t *bytes, struct tp_error *err)
{
    static const char file[] = "tokenizer.json";
    char path[IO_PATH_MAX], *json;
    size_t n;
    if (!io_join(path, dir, file, err) || !io_read_file(path, TOKENIZER_JSON_MAX, &json, &n, err))
        return false;
    bool ok = tokenizer_compile(file, json, n, texts, data, bytes, err);
    mem_free(json);
    if (ok && !tokenizer_agree(dir, model, *data, *bytes, err)) {
        mem_free(*data);
        *data = NULL;
        ok = false;
    }
    return ok;
}
