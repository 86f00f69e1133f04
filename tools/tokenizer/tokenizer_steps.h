/* The pre_tokenizer of tokenizer.json as steps of the compiled form. What it does not know is
 * refused by name. */
#pragma once
#include "tokenizer_pack.h"
#include "tokenizer_reading.h"

struct tokenizer_steps {
    struct pack_step list[TOKENIZER_STEPS_MAX]; /* patterns live in the arena */
    uint32_t count;
};

/* value: the pre_tokenizer, NULL: none.
 *
 * Errors  TP_E_TK_INVALID: malformed; TP_E_TK_UNSUPPORTED: not supported; TP_E_MEMORY */
bool tokenizer_steps_read(const struct tokenizer_reading *in, const json_t *value,
                          struct tokenizer_steps *out);
