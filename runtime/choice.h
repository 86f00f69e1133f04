/* How a run chooses tokens: the command line over generation_config.json over greedy. */
#pragma once
#include "bundle.h"
#include "generation_config.h"
#include "run_options.h"
#include "sampler.h"

struct choice {
    struct generation_config config;
    struct sampler_options sampling; /* has passed sampler_check */
    const int64_t *eos;              /* [n_eos] of config or the bundle's model */
    uint64_t n_eos;
};

/* Borrows from bundle. Any option that shapes a distribution asks for sampling; --temp 0 is greedy
 * whatever else is given. A note on stderr names what generation_config.json asks for in vain. */
bool choice_read(struct choice *choice, const struct bundle *bundle,
                 const struct run_options *options, struct tp_error *err);
