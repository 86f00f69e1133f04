/* The input is a compiled tokenizer; its hash is made right first, or nothing would get past it.
 * What opens must encode a text and decode the ids within its promises. Built with
 * -fsanitize=fuzzer,address,undefined. */
#include "mem.h"
#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "Hello world, it's 2024!\n\n  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
    "<s></s> caf\xc3\xa9 \xe4\xb8\x80\xe4\xba\x8c \xf0\x9f\x98\x80 \xff\xfe";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer t = {0};
    struct token_ids ids = {0};
    struct tp_error err = {0};
    /* exactly as long as the file, so that a byte beyond it is found out */
    unsigned char *copy = (unsigned char *)mem_alloc(size, &err);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (size >= TOKENIZER_HEADER_BYTES) {
        le_put_u64(copy + 16, size);
        tokenizer_file_seal(copy, size);
    }
    if (!tokenizer_open_bytes(copy, size, "fuzz", &t, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
    } else if (tokenizer_encode(&t, text, sizeof text - 1, NULL, TOKENIZER_ADD_SPECIAL, &ids,
                                &err)) {
        for (size_t i = 0; i < ids.count; i++) {
            struct tokenizer_bytes bytes = tokenizer_file_token(&t.file, ids.ids[i]);
            tp_assert(ids.ids[i] < t.file.tokens && bytes.n <= t.file.token_bytes_max);
            for (size_t k = 0; k < bytes.n; k++)
                ids.dropped += bytes.data[k]; /* read them all */
        }
    } else {
        tp_assert(err.code != TP_OK && err.text[0]);
    }
    token_ids_free(&ids);
    tokenizer_close(&t);
    mem_free(copy);
    return 0;
}
