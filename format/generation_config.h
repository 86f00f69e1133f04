/* generation_config.json: how the model's author wants tokens chosen. tpshard says what of it is
 * not usable and puts it into the bundle as it came; tprun reads it there. */
#pragma once
#include "findings.h"
#include "model_config.h"
#include <stddef.h>

enum { GENERATION_CONFIG_BYTES_MAX = 4 << 20 };

struct generation_config {
    bool do_sample;            /* false: the token of the highest logit, nothing below matters */
    double temperature;        /* 0: as if do_sample were false */
    uint64_t top_k;            /* 0: all */
    double top_p;              /* 1: all */
    double min_p;              /* 0: all */
    double repetition_penalty; /* 1: none */
    uint64_t n_eos;            /* 0: config.json's hold */
    int64_t eos_id[MODEL_EOS_MAX];
    uint32_t n_ignored;  /* keys that are not followed: for what they ask (beam search, ...),
                                * or for what is wrong with them */
    const char *ignored; /* the first of them, static text for a note; NULL: none */
};

/* No file, and every key a file leaves out or null, as transformers: greedy, temperature 1,
 * top_k 50, top_p 1, no penalty. */
struct generation_config generation_config_default(void);
/* data (n) JSON text; file is for messages; ids must lie below vocab. A field that is not usable is
 * a finding and as if it were not there; where it says how tokens are drawn, none is drawn
 * (do_sample is false). So is a file that is no JSON, as a whole. False: the findings are strict,
 * TP_E_CF_GENERATION or, of an id, TP_E_CF_TOKEN_ID. */
bool generation_config_read(const char *file, const char *data, size_t n, uint64_t vocab,
                            struct findings *findings, struct generation_config *out,
                            struct tp_error *err);
