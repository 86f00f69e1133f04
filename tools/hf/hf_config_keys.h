/* Every key of config.json is known to be read, known to be harmless, or refused: what is not
 * understood may change the result. */
#pragma once
#include "findings.h"
#include "hf_architecture.h"
#include "json.h"
#include <stddef.h>

struct hf_options {
    const char *const *ignore_keys; /* (n_ignore_keys) names of keys that are not to be refused */
    size_t n_ignore_keys;
    bool guess; /* a config that names no architecture may be guessed, with a note */
    const struct findings *findings; /* notes are said there; NULL: not at all */
};

/* A key that would change the result and is not read, at a value other than null, false, 0 or
 * empty, is TP_E_CF_KEY by name. */
bool hf_config_keys_check(const struct json_in *in, const struct hf_architecture *architecture,
                          const struct hf_options *options, struct tp_error *err);
/* Whether key is read, harmless or fixed for this architecture, so that ignoring it has no meaning.
 */
bool hf_config_key_known(const struct hf_architecture *architecture, const char *key);
