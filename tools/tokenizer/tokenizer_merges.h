/* The merges of a BPE model, by rank. */
#pragma once
#include "tokenizer_pack.h"
#include "tokenizer_reading.h"

/* model: the object with merges, strings of two parts or pairs; vocab: names to ids, checked.
 * Merges of tokens in `without` (names; NULL: none) are passed over. The caller frees *merges with
 * mem_free.
 *
 * Errors  TP_E_TK_INVALID with the number of the merge; TP_E_MEMORY */
bool tokenizer_merges_read(const struct tokenizer_reading *in, const json_t *model,
                           const json_t *vocab, const json_t *without, struct pack_merge **merges,
                           uint32_t *count);
