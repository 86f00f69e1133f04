/* Normalized text and where its bytes came from. */
#pragma once
#include "added_scan.h"

/* source after the tokenizer's normalizer: *normal, its bytes in the tokenizer's memory until the
 * next call. Where origins matter they are carried along: exactly where the parts of one origin,
 * normalized one by one, give the same text; else all of it counts as data.
 *
 * Errors  TP_E_LIMIT: a pattern's limit; TP_E_MEMORY */
bool normal_text_make(struct tokenizer *tokenizer, const struct token_source *source,
                      struct token_source *normal, struct tp_error *err);
