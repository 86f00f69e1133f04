/* How a run chooses tokens: what is asked for over generation_config.json over greedy. */
#pragma once
#include "bundle.h"
#include "generation_config.h"
#include "sampler.h"
#include "tokenizer.h"

/* What was asked for; a value that was not given stays with generation_config.json. */
struct choice_given {
    bool given_temperature, given_top_k, given_top_p, given_min_p, given_penalty;
    double temperature, top_p, min_p, penalty;
    uint64_t top_k, seed;
};

struct choice {
    struct generation_config config;
    struct sampler_options sampling; /* has passed sampler_check */
    int64_t eos[MODEL_EOS_MAX + 1];  /* [n_eos] of config or the bundle's model, and the
                                     * tokenizer's */
    uint64_t n_eos;
};

/* tokenizer: of the bundle, NULL where it has none. Any option that shapes a distribution asks for
 * sampling; --temp 0 is greedy whatever else is given. config.ignored names what of
 * generation_config.json is not followed. */
bool choice_read(struct choice *choice, const struct bundle *bundle,
                 const struct tokenizer *tokenizer, const struct choice_given *given,
                 struct tp_error *err);
/* Marks [vocab] of ids that are no tokens, which are not drawn; mem_free. NULL without an error
 * where there are none. The most likely id is taken as it is: greedy results are those of the
 * reference. */
bool choice_ban_holes(const struct tokenizer *tokenizer, uint64_t vocab, const int64_t *eos,
                      uint64_t n_eos, uint8_t **marks, struct tp_error *err);
