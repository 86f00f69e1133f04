#include "chat_digest.h"

#include "sha256.h"
#include "tokenizer_file.h"

bool chat_digests(const void *data, uint64_t n, json_t **out, struct tp_error *err)
{
    struct tokenizer_file file;
    *out = NULL;
    if (!tokenizer_file_open(data, n, TOKENIZER_FILE_NAME, &file, err))
        return false;
    json_t *all = json_object();
    for (uint32_t i = 0; i < file.text_count; i++) {
        struct tokenizer_text text = tokenizer_file_text(&file, i);
        char hex[SHA256_HEX];
        if (text.kind != TEXT_TEMPLATE)
            continue;
        sha256_hex(text.value.data, text.value.n, hex);
        if (json_object_setn_new(all, (const char *)text.name.data, text.name.n,
                                 json_string(hex)) != 0) {
            json_decref(all);
            return tp_fail(err, TP_E_TK_INVALID, "%s: text %u: a name in UTF-8 expected",
                           TOKENIZER_FILE_NAME, i);
        }
    }
    if (json_object_size(all))
        *out = all;
    else
        json_decref(all);
    return true;
}
