/* The tokens of tokenizer.json: vocabulary and added tokens by id, their forms. */
#pragma once
#include "tokenizer_forms.h"
#include "tokenizer_normalizers.h"

/* Set up in, forms, normalizers and model, then read. {0} is safe to free. */
struct tokenizer_vocab {
    const struct tokenizer_reading *in;
    const struct tokenizer_forms *forms;
    const struct tokenizer_normalizers *normalizers;
    enum tokenizer_model model;
    bool fallback;       /* <0x0A> and its like stand for bytes of text */
    const json_t *vocab; /* borrowed from the document */
    struct pack_token *tokens;
    const char **names; /* token i as tokenizer.json writes it; NULL: a hole */
    uint32_t token_count;
    struct pack_added *added;
    uint32_t added_count;
    uint32_t byte_ids[256];
};

/* root: the document.
 *
 * Errors  TP_E_TK_INVALID, TP_E_TK_UNSUPPORTED, TP_E_LIMIT, TP_E_MEMORY */
bool tokenizer_vocab_read(struct tokenizer_vocab *vocab, const json_t *root);
void tokenizer_vocab_free(struct tokenizer_vocab *vocab);
