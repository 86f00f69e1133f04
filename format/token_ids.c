#include "token_ids.h"

static bool read_one(const struct json_in *in, const char *key, const json_t *value, uint64_t vocab,
                     int64_t *id, struct tp_error *err)
{
    if (!json_is_integer(value))
        return tp_fail(err, TP_E_CF_TOKEN_ID,
                       "%s: %s: an integer or a list of integers expected, %s found", in->file, key,
                       json_type_name(value));
    json_int_t v = json_integer_value(value);
    if (v < 0 || (uint64_t)v >= vocab)
        return tp_fail(err, TP_E_CF_TOKEN_ID, "%s: %s: %lld, 0 to %llu expected (vocabulary %llu)",
                       in->file, key, (long long)v, (unsigned long long)vocab - 1,
                       (unsigned long long)vocab);
    *id = v;
    return true;
}

bool token_ids_read(const struct json_in *in, const char *key, uint64_t vocab,
                    int64_t ids[MODEL_EOS_MAX], uint64_t *n, struct tp_error *err)
{
    const json_t *value = json_find(in->object, key);
    *n = 0;
    if (!value)
        return true;
    if (!json_is_array(value)) {
        *n = 1;
        return read_one(in, key, value, vocab, ids, err);
    }
    size_t count = json_array_size(value);
    if (count > MODEL_EOS_MAX)
        return tp_fail(err, TP_E_CF_TOKEN_ID, "%s: %s: %zu ids, at most %d expected", in->file, key,
                       count, MODEL_EOS_MAX);
    for (size_t i = 0; i < count; i++)
        if (!read_one(in, key, json_array_get(value, i), vocab, &ids[i], err))
            return false;
    *n = count;
    return true;
}
