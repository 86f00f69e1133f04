/* Text between added tokens through the pre-tokenizer into the model. */
#pragma once
#include "tokenizer.h"

/* Append the ids of text, n bytes of valid UTF-8. first: it is the beginning of all text. */
bool pieces_encode(struct tokenizer *tokenizer, const char *text, size_t n, bool first,
                   struct token_ids *list, struct tp_error *err);
