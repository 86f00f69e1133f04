/* Do tokenizer.json, tokenizer_config.json and config.json speak of the same tokens? */
#pragma once
#include "error.h"
#include "model_config.h"
#include <stdint.h>

/* data: the compiled tokenizer.json, n bytes, just made. model may be NULL;
 * DIR/tokenizer_config.json may be absent. Checked: every id has a row in the embedding; every
 * token of added_tokens_decoder has the same id; bos_token is a token, and config.json's
 * bos_token_id where both name one. (eos is not: what ends a turn and what ends a text differ in
 * published models.)
 * Errors  TP_E_TK_INVALID with both values; those of reading JSON */
bool tokenizer_agree(const char *dir, const struct model_config *model, const unsigned char *data,
                     uint64_t n, struct tp_error *err);
