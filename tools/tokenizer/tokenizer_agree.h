/* Do tokenizer.json, tokenizer_config.json and config.json speak of the same tokens? */
#pragma once
#include "findings.h"
#include "model_config.h"
#include <jansson.h>
#include <stdint.h>

/* data: the compiled tokenizer.json, n bytes, just made, without the tokens of `without` (names;
 * NULL: of all). model may be NULL; DIR/tokenizer_config.json may be absent, and one that is no
 * JSON is chat_source's affair. Findings: added_tokens.json that is none; with both values: a token
 * of added_tokens_decoder (or, without it, of DIR/added_tokens.json) that tokenizer.json has with
 * another id or other flags, or not as an added token; bos_token, eos_token ...,
 * additional_special_tokens, extra_special_tokens that are no special ones; split_special_tokens;
 * bos_token whose id is not config.json's, eos_token whose id is none of
 * config.json's. What tokenizer.json says holds; an answer ends at either eos.
 * Errors  TP_E_TK_INVALID: findings are strict; those of reading files */
bool tokenizer_agree(const char *dir, const struct model_config *model, const json_t *without,
                     const unsigned char *data, uint64_t n, struct findings *findings,
                     struct tp_error *err);
