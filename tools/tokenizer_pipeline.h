/* The parts of tokenizer.json around the model: normalizer, pre_tokenizer, post_processor, decoder,
 * turned into the data of the compiled form. Everything it does not know is refused by name. */
#pragma once
#include "mem.h"
#include "tokenizer_pack.h"
#include <jansson.h>

struct tokenizer_pipeline {
    struct pack_step steps[TOKENIZER_STEPS_MAX]; /* patterns live in the arena */
    uint32_t step_count;
    uint32_t post[TOKENIZER_POST_MAX];
    uint32_t post_count, post_before;
};

/* root: the document, file its name in errors. Ids of the post-processor are checked to be below
 * 2^31, not against a vocabulary.
 *
 * Errors  TP_E_TK_INVALID: malformed; TP_E_TK_UNSUPPORTED: a part that is not supported;
 * TP_E_MEMORY */
bool tokenizer_pipeline_read(const char *file, const json_t *root, struct mem_arena *arena,
                             struct tokenizer_pipeline *out, struct tp_error *err);
