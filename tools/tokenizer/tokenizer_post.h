/* The post_processor of tokenizer.json: which ids go before and after a text. */
#pragma once
#include "tokenizer_pack.h"
#include "tokenizer_reading.h"

struct tokenizer_post {
    uint32_t ids[TOKENIZER_POST_MAX];
    uint32_t count, before; /* of the ids, those that go before the text */
};

/* value: the post_processor, NULL: none. Ids are checked to be below 2^31, not against a
 * vocabulary.
 *
 * Errors  TP_E_TK_INVALID: malformed; TP_E_TK_UNSUPPORTED: not supported */
bool tokenizer_post_read(const struct tokenizer_reading *in, const json_t *value,
                         struct tokenizer_post *out);
