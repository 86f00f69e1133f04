/* Tokens that a model has no row for: published models have a padding token that was added to the
 * tokenizer alone. They are taken out of tokenizer.json before it is read, so that no text becomes
 * one. */
#pragma once
#include "error.h"
#include <jansson.h>
#include <stdint.h>

enum { TOKENIZER_ROWS_SHOWN = 3 };

struct tokenizer_rows {
    uint64_t count;   /* of the embedding; 0: not known, nothing is taken out */
    uint32_t dropped; /* tokens that were taken out */
    char names[256];  /* the first of them, for a message */
    json_t *tokens;   /* all of them, names to ids; NULL: none */
};

/* root: the document, changed. Ids that are none stay, for the reader to refuse. */
bool tokenizer_rows_apply(struct tokenizer_rows *rows, json_t *root, struct tp_error *err);
/* Of n ids those whose token was not taken out; of the first *before how many are left. The new
 * n. */
uint32_t tokenizer_rows_keep(const struct tokenizer_rows *rows, uint32_t *ids, uint32_t n,
                             uint32_t *before);
void tokenizer_rows_free(struct tokenizer_rows *rows); /* {0} is allowed */
