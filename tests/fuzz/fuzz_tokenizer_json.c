/* The input is a tokenizer.json. What compiles must open, and encode a text and decode its ids
 * within its promises. */
#include "mem.h"
#include "tokenizer.h"
#include "tokenizer_compile.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "<s>Hello  world, it's 2024!\n\n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
    "</s> caf\xc3\xa9 e\xcc\x81 \xe4\xb8\x80\xe4\xba\x8c \xe2\x96\x81 \xf0\x9f\x98\x80 \xff\xfe "
    "\tx";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *compiled;
    uint64_t n;
    struct tp_error err = {0};
    struct tokenizer t = {0};
    struct token_ids ids = {0};
    if (!tokenizer_compile("fuzz", (const char *)data, size, NULL, NULL, &compiled, &n, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
        return 0;
    }
    tp_assert(tokenizer_open_bytes(compiled, n, "fuzz", &t, &err));
    if (tokenizer_encode(&t, text, sizeof text - 1, NULL, TOKENIZER_ADD_SPECIAL, &ids, &err)) {
        for (size_t i = 0; i < ids.count; i++)
            tp_assert(tokenizer_is_token(&t, ids.ids[i]));
    } else {
        tp_assert(err.code == TP_E_LIMIT);
    }
    token_ids_free(&ids);
    tokenizer_close(&t);
    mem_free(compiled);
    return 0;
}
