/* Token ids in configuration files: one integer, a list of them, or none. */
#pragma once
#include "json.h"
#include "model_config.h"

/* ids (MODEL_EOS_MAX): *n of them, each below vocab; a missing or null key gives none. Anything
 * else, nested lists and negative ids included, is TP_E_CF_TOKEN_ID. */
bool token_ids_read(const struct json_in *in, const char *key, uint64_t vocab,
                    int64_t ids[MODEL_EOS_MAX], uint64_t *n, struct tp_error *err);
