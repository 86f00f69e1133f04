#include "tokenizer_agree.h"

#include "checked.h"
#include "io.h"
#include "json.h"
#include "tokenizer_file.h"
#include <string.h>

enum { CONFIG_MAX = 16 << 20 };
static const char config_name[] = "tokenizer_config.json";

/* The id of an added token by its content; TOKEN_NONE. Each of the two groups is in order. */
static uint32_t added_id(const struct tokenizer_file *file, const char *content, size_t n)
{
    for (int group = 0; group < 2; group++) {
        uint32_t low = group ? file->added_raw : 0;
        uint32_t high = group ? file->added_count : file->added_raw;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            struct tokenizer_added a = tokenizer_file_added(file, middle);
            int order = memcmp(a.content.data, content, a.content.n < n ? a.content.n : n);
            if (order == 0 && a.content.n == n)
                return a.id;
            if (order < 0 || (order == 0 && a.content.n < n))
                low = middle + 1;
            else
                high = middle;
        }
    }
    return tokenizer_file_find(file, content, n);
}

static bool check_added(const struct tokenizer_file *file, const json_t *decoder,
                        struct tp_error *err)
{
    const char *key;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, entry)
    {
        char name[TP_NAME_BUF];
        const json_t *content = json_object_get(entry, "content");
        uint64_t id;
        if (!json_is_string(content) || !tp_parse_u64(key, strlen(key), &id))
            return tp_fail(err, TP_E_TK_INVALID, "%s: added_tokens_decoder: malformed entry",
                           config_name);
        size_t n = json_string_length(content);
        uint32_t found = added_id(file, json_string_value(content), n);
        if (found == id)
            continue;
        tp_name_cut(name, json_string_value(content), n);
        if (found == TOKEN_NONE)
            return tp_fail(err, TP_E_TK_INVALID,
                           "%s: token \"%s\" has id %llu, tokenizer.json has no such token",
                           config_name, name, (unsigned long long)id);
        return tp_fail(err, TP_E_TK_INVALID, "%s: token \"%s\" has id %llu, tokenizer.json: %u",
                       config_name, name, (unsigned long long)id, found);
    }
    return true;
}

static bool check_bos(const struct tokenizer_file *file, const json_t *bos,
                      const struct model_config *model, struct tp_error *err)
{
    if (json_is_object(bos))
        bos = json_object_get(bos, "content");
    if (!json_is_string(bos))
        return true;
    char name[TP_NAME_BUF];
    uint32_t id = added_id(file, json_string_value(bos), json_string_length(bos));
    tp_name_cut(name, json_string_value(bos), json_string_length(bos));
    if (id == TOKEN_NONE)
        return tp_fail(err, TP_E_TK_INVALID,
                       "%s: bos_token \"%s\", tokenizer.json has no such token", config_name, name);
    if (model && model->bos_id >= 0 && model->bos_id != (int64_t)id)
        return tp_fail(err, TP_E_TK_INVALID, "%s: bos_token \"%s\" has id %u, config.json: %lld",
                       config_name, name, id, (long long)model->bos_id);
    return true;
}

bool tokenizer_agree(const char *dir, const struct model_config *model, const unsigned char *data,
                     uint64_t n, struct tp_error *err)
{
    struct tokenizer_file file;
    char path[IO_PATH_MAX];
    if (!tokenizer_file_open(data, n, "tokenizer.json", &file, err) ||
        !io_join(path, dir, config_name, err))
        return false;
    if (model && file.tokens > model->vocab)
        return tp_fail(err, TP_E_TK_INVALID,
                       "tokenizer.json: ids up to %u, config.json: vocab_size %llu",
                       file.tokens - 1, (unsigned long long)model->vocab);
    if (!io_exists(path))
        return true;
    json_t *config = json_read_wide(path, CONFIG_MAX, TP_E_TK_INVALID, err);
    if (!config)
        return false;
    bool ok = check_added(&file, json_find(config, "added_tokens_decoder"), err) &&
              check_bos(&file, json_find(config, "bos_token"), model, err);
    json_decref(config);
    return ok;
}
