/* generation_config.json: how the model's author wants tokens chosen. tpshard checks it and
 * puts it into the bundle as it is; tprun reads it there. */
#pragma once
#include "error.h"
#include "model_config.h"
#include <stddef.h>

#define GENERATION_CONFIG_BYTES_MAX (UINT64_C(4) << 20)

struct generation_config {
    bool do_sample;            /* false: the token of the highest logit, nothing below matters */
    double temperature;        /* 0: as if do_sample were false */
    uint64_t top_k;            /* 0: all */
    double top_p;              /* 1: all */
    double min_p;              /* 0: all */
    double repetition_penalty; /* 1: none */
    uint64_t n_eos;            /* 0: config.json's hold */
    int64_t eos_id[MODEL_EOS_MAX];
    const char *ignored; /* the first key asking for what tprun does not do (beam
                                * search, ...), static text for a note; NULL: none */
};

/* No file, and every key a file leaves out or null, as transformers: greedy, temperature 1,
 * top_k 50, top_p 1, no penalty. */
struct generation_config generation_config_default(void);
/* data (n) JSON text; file is for errors; ids must lie below vocab. TP_E_CF_GENERATION names the
 * field, TP_E_CF_TOKEN_ID an id. */
bool generation_config_read(const char *file, const char *data, size_t n, uint64_t vocab,
                            struct generation_config *out, struct tp_error *err);
