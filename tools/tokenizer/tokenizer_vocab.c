#include "tokenizer_vocab.h"

#include "json.h"
#include <string.h>

/* The forms of token id, whose name is new. */
static bool name_token(struct tokenizer_vocab *c, uint32_t id, const char *name, size_t n)
{
    struct pack_token *token = &c->tokens[id];
    c->names[id] = name;
    token->used = true;
    return tokenizer_forms_apply(c->in, c->forms, name, n, token);
}

/* An id in range; the table must have room for it. */
static bool id_of(struct tokenizer_vocab *c, const json_t *value, const char *name, uint32_t *id)
{
    char buf[TP_NAME_BUF];
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < 0 || v > INT32_MAX)
        return tp_fail(c->in->err, TP_E_TK_INVALID, "%s: token \"%s\": id 0 to 2^31 - 1 expected",
                       c->in->file, tp_name_cut(buf, name, strlen(name)));
    if (v >= TOKENIZER_TOKENS_MAX)
        return tp_fail(c->in->err, TP_E_LIMIT, "%s: token \"%s\": id %lld, at most %u allowed",
                       c->in->file, tp_name_cut(buf, name, strlen(name)), (long long)v,
                       TOKENIZER_TOKENS_MAX - 1);
    *id = (uint32_t)v;
    if (c->token_count <= *id)
        c->token_count = *id + 1;
    return true;
}

static bool length_ok(struct tokenizer_vocab *c, const char *name, size_t n, size_t max,
                      enum tp_code code)
{
    char buf[TP_NAME_BUF];
    return n <= max || tp_fail(c->in->err, code, "%s: token \"%s\": more than %zu bytes",
                               c->in->file, tp_name_cut(buf, name, n), max);
}

static bool two_tokens(struct tokenizer_vocab *c, uint32_t id, const char *name)
{
    char a[TP_NAME_BUF], b[TP_NAME_BUF];
    return tp_fail(c->in->err, TP_E_TK_INVALID, "%s: id %u has two tokens: \"%s\" and \"%s\"",
                   c->in->file, id, tp_name_cut(a, c->names[id], strlen(c->names[id])),
                   tp_name_cut(b, name, strlen(name)));
}

static bool size_tables(struct tokenizer_vocab *c, const json_t *added)
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
            return tp_fail(c->in->err, TP_E_TK_INVALID,
                           "%s: added_tokens: entry %zu has no content", c->in->file, i);
        if (!length_ok(c, json_string_value(content), json_string_length(content),
                       TOKENIZER_ADDED_BYTES_MAX, TP_E_LIMIT) ||
            !id_of(c, json_object_get(entry, "id"), json_string_value(content), &id))
            return false;
    }
    if (c->token_count == 0)
        return tp_fail(c->in->err, TP_E_TK_INVALID, "%s: model: empty vocab", c->in->file);
    c->tokens = mem_array(c->token_count, sizeof *c->tokens, c->in->err);
    c->names = mem_array(c->token_count, sizeof *c->names, c->in->err);
    c->added = mem_array(json_array_size(added), sizeof *c->added, c->in->err);
    return c->tokens && c->names && c->added;
}

/* What text the token is, and whether merges can make it. */
static bool add_content(struct tokenizer_vocab *c, uint32_t id, const char *name, size_t n)
{
    struct pack_token *token = &c->tokens[id];
    size_t count = n;
    token->content = name;
    token->vocabulary = n > 0;
    if (c->model == MODEL_BPE_BYTES) {
        char *bytes = mem_arena_alloc(c->in->arena, n, c->in->err);
        if (!bytes)
            return false;
        token->content = bytes;
        token->vocabulary = tokenizer_forms_letters(c->forms, name, n, bytes, &count) && n;
        if (!token->vocabulary)
            count = 0;
    }
    token->content_n = (uint32_t)count;
    return true;
}

static bool read_vocab(struct tokenizer_vocab *c)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)c->vocab, name, value)
    {
        uint32_t id = (uint32_t)json_integer_value(value);
        if (c->names[id])
            return two_tokens(c, id, name);
        if (!name_token(c, id, name, strlen(name)) || !add_content(c, id, name, strlen(name)))
            return false;
    }
    return true;
}

static bool added_flag(struct tokenizer_vocab *c, const json_t *entry, const char *key, bool *out)
{
    struct json_in in = {.object = entry, .file = c->in->file, .code = TP_E_TK_INVALID};
    return json_get_bool_or(&in, key, false, out, c->in->err);
}

/* The content is new to `seen`, which maps contents to ids. */
static bool added_once(struct tokenizer_vocab *c, json_t *seen, const char *name, uint32_t id)
{
    const json_t *other = json_object_get(seen, name);
    char cut[TP_NAME_BUF];
    if (other)
        return tp_fail(c->in->err, TP_E_TK_INVALID,
                       "%s: added_tokens: \"%s\" stands there twice, with ids %lld and %u",
                       c->in->file, tp_name_cut(cut, name, strlen(name)),
                       (long long)json_integer_value(other), id);
    return json_object_set_new(seen, name, json_integer(id)) == 0 ||
           tp_fail(c->in->err, TP_E_MEMORY, "out of memory: added tokens");
}

/* A token that is normalized decodes to what normalization makes of it, and is a control token
 * there if one has that content: so the reference. */
static bool normalize_added(struct tokenizer_vocab *c, uint32_t id, const json_t *specials,
                            const char **name, size_t *n)
{
    struct pack_token *token = &c->tokens[id];
    if (!tokenizer_normalizers_apply(c->in, c->normalizers, *name, *n, name, n))
        return false;
    token->special = json_object_getn(specials, *name, *n) != NULL;
    token->byte = false;
    return tokenizer_forms_apply(c->in, c->forms, *name, *n, token);
}

/* specials: contents of all control tokens */
static bool read_added_entry(struct tokenizer_vocab *c, const json_t *entry, const json_t *specials,
                             json_t *seen)
{
    const json_t *content = json_object_get(entry, "content");
    const char *name = json_string_value(content);
    size_t n = json_string_length(content);
    uint32_t id = (uint32_t)json_integer_value(json_object_get(entry, "id"));
    bool special, normalized, lstrip, rstrip, single_word;
    char cut[TP_NAME_BUF];
    if (!added_flag(c, entry, "special", &special) ||
        !added_flag(c, entry, "normalized", &normalized) ||
        !added_flag(c, entry, "lstrip", &lstrip) || !added_flag(c, entry, "rstrip", &rstrip) ||
        !added_flag(c, entry, "single_word", &single_word))
        return false;
    if (n == 0)
        return true; /* the reference passes over it as well */
    if (n != strlen(name))
        return tp_fail(c->in->err, TP_E_TK_UNSUPPORTED,
                       "%s: added_tokens: NUL in the token of id %u", c->in->file, id);
    const json_t *first = json_object_get(seen, name);
    if (first && json_integer_value(first) == (json_int_t)id)
        return true; /* of two alike the reference takes the first */
    if (!added_once(c, seen, name, id))
        return false;
    const json_t *other = json_object_get(c->vocab, name);
    if (other && json_integer_value(other) != (json_int_t)id)
        return tp_fail(c->in->err, TP_E_TK_INVALID, "%s: token \"%s\" has two ids: %lld and %u",
                       c->in->file, tp_name_cut(cut, name, n), (long long)json_integer_value(other),
                       id);
    if (c->names[id] && strcmp(c->names[id], name) != 0)
        return two_tokens(c, id, name);
    if (!c->names[id] && !name_token(c, id, name, n))
        return false;
    c->tokens[id].special = special;
    if (normalized && !normalize_added(c, id, specials, &name, &n))
        return false;
    if (n == 0)
        return true; /* nothing is left to look for */
    if (!length_ok(c, name, n, TOKENIZER_ADDED_BYTES_MAX, TP_E_LIMIT))
        return false;
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

/* Of two that are the same after normalization the first is found, control tokens before others. */
static void drop_repeated(struct tokenizer_vocab *c, json_t *seen)
{
    uint32_t kept = 0;
    for (int special = 1; special >= 0; special--)
        for (uint32_t i = 0; i < c->added_count; i++) {
            struct pack_added *a = &c->added[i];
            bool is = (a->flags & ADDED_SPECIAL) != 0;
            if (!a->normalized || is != special)
                continue;
            if (json_object_getn(seen, a->content, a->n))
                a->n = 0;
            else
                json_object_setn_new(seen, a->content, a->n, json_true());
        }
    for (uint32_t i = 0; i < c->added_count; i++)
        if (c->added[i].n)
            c->added[kept++] = c->added[i];
    c->added_count = kept;
}

static bool read_added(struct tokenizer_vocab *c, const json_t *added)
{
    json_t *seen = json_object(), *specials = json_object();
    bool ok = (seen && specials) || tp_fail(c->in->err, TP_E_MEMORY, "out of memory: added tokens");
    for (size_t i = 0; ok && i < json_array_size(added); i++) {
        const json_t *entry = json_array_get(added, i),
                     *content = json_object_get(entry, "content");
        if (json_is_true(json_object_get(entry, "special")) && json_string_length(content))
            json_object_setn_new(specials, json_string_value(content), json_string_length(content),
                                 json_true());
    }
    for (size_t i = 0; ok && i < json_array_size(added); i++)
        ok = read_added_entry(c, json_array_get(added, i), specials, seen);
    if (ok) {
        json_object_clear(seen);
        drop_repeated(c, seen);
    }
    json_decref(seen);
    json_decref(specials);
    return ok;
}

/* <0x0A> of a vocabulary that falls back to bytes. What looks like one must be one. */
static bool read_byte_token(struct tokenizer_vocab *c, const char *name, uint32_t id)
{
    char cut[TP_NAME_BUF];
    size_t n = strlen(name);
    if (n < 5 || n > 6 || memcmp(name, "<0x", 3) != 0 || name[n - 1] != '>')
        return true;
    const char *digits = "0123456789ABCDEF";
    const char *high = strchr(digits, name[3]), *low = strchr(digits, name[4]);
    if (n != 6 || !high || !low)
        return tp_fail(c->in->err, TP_E_TK_INVALID,
                       "%s: token \"%s\": a byte as <0x00> to <0xFF> expected", c->in->file,
                       tp_name_cut(cut, name, n));
    c->byte_ids[(high - digits) << 4 | (low - digits)] = id;
    return true;
}

static bool read_byte_ids(struct tokenizer_vocab *c)
{
    memset(c->byte_ids, 0xff, sizeof c->byte_ids);
    for (uint32_t i = 0; i < c->token_count; i++) {
        const struct pack_token *t = &c->tokens[i];
        if (c->model == MODEL_BPE_BYTES && t->vocabulary && t->content_n == 1)
            c->byte_ids[(unsigned char)t->content[0]] = i;
        if (c->fallback && c->names[i] && json_object_get(c->vocab, c->names[i]) &&
            !read_byte_token(c, c->names[i], i))
            return false;
    }
    return true;
}

bool tokenizer_vocab_read(struct tokenizer_vocab *c, const json_t *root)
{
    const json_t *added = json_find(root, "added_tokens");
    if (added && !json_is_array(added))
        return tp_fail(c->in->err, TP_E_TK_INVALID, "%s: added_tokens: an array expected, %s found",
                       c->in->file, json_type_name(added));
    return size_tables(c, added) && read_vocab(c) && read_added(c, added) && read_byte_ids(c);
}

void tokenizer_vocab_free(struct tokenizer_vocab *c)
{
    mem_free(c->tokens);
    mem_free(c->names);
    mem_free(c->added);
    c->tokens = NULL;
    c->names = NULL;
    c->added = NULL;
}
