#include "tokenizer_rows.h"

#include "json.h"
#include <stdio.h>
#include <string.h>

static bool is_beyond(const struct tokenizer_rows *rows, const json_t *id)
{
    json_int_t v = json_integer_value(id);
    return json_is_integer(id) && v >= 0 && v <= INT32_MAX && (uint64_t)v >= rows->count;
}

static bool take_out(struct tokenizer_rows *rows, const char *name, size_t n, json_t *id,
                     struct tp_error *err)
{
    char cut[TP_NAME_BUF], *end = rows->names + strlen(rows->names);
    size_t left = sizeof rows->names - (size_t)(end - rows->names);
    if (!rows->tokens)
        rows->tokens = json_object();
    if (json_object_getn(rows->tokens, name, n))
        return true; /* of the vocabulary, and added */
    if (json_object_setn(rows->tokens, name, n, id) != 0)
        return tp_fail(err, TP_E_MEMORY, "out of memory: tokens without a row");
    if (rows->dropped++ < TOKENIZER_ROWS_SHOWN)
        snprintf(end, left, "%s\"%s\" (%lld)", *rows->names ? ", " : "",
                 tp_name_cut(cut, name, n < 48 ? n : 48), (long long)json_integer_value(id));
    return true;
}

static bool apply_to_vocab(struct tokenizer_rows *rows, json_t *vocab, struct tp_error *err)
{
    const char *name;
    json_t *id;
    void *next;
    json_object_foreach_safe(vocab, next, name, id)
    {
        if (!is_beyond(rows, id))
            continue;
        if (!take_out(rows, name, strlen(name), id, err))
            return false;
        json_object_del(vocab, name);
    }
    return true;
}

static bool apply_to_added(struct tokenizer_rows *rows, json_t *root, struct tp_error *err)
{
    const json_t *added = json_object_get(root, "added_tokens");
    if (!json_is_array(added))
        return true;
    json_t *kept = json_array();
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *entry = json_array_get(added, i), *id = json_object_get(entry, "id");
        const json_t *content = json_object_get(entry, "content");
        if (!is_beyond(rows, id) || !json_is_string(content)) {
            json_array_append(kept, entry);
        } else if (!take_out(rows, json_string_value(content), json_string_length(content), id,
                             err)) {
            json_decref(kept);
            return false;
        }
    }
    return json_object_set_new(root, "added_tokens", kept) == 0 ||
           tp_fail(err, TP_E_MEMORY, "out of memory: added tokens");
}

bool tokenizer_rows_apply(struct tokenizer_rows *rows, json_t *root, struct tp_error *err)
{
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    return !rows->count || (apply_to_vocab(rows, vocab, err) && apply_to_added(rows, root, err));
}

uint32_t tokenizer_rows_keep(const struct tokenizer_rows *rows, uint32_t *ids, uint32_t n,
                             uint32_t *before)
{
    uint32_t kept = 0, kept_before = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rows->dropped && ids[i] >= rows->count)
            continue;
        kept_before += i < *before;
        ids[kept++] = ids[i];
    }
    *before = kept_before;
    return kept;
}

void tokenizer_rows_free(struct tokenizer_rows *rows)
{
    json_decref(rows->tokens);
    *rows = (struct tokenizer_rows){0};
}
