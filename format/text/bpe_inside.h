/* What the files of bpe share. */
#pragma once
#include "bpe.h"

/* The list of the first n >= 1 symbols of bpe->start and all their pairs in order. */
bool bpe_list_begin(struct bpe *bpe, const struct tokenizer_file *file, size_t n,
                    struct tp_error *err);
/* The lowest entry, rank << 32 | symbol: stale where its symbol has another rank by now. false:
 * there is none left. */
bool bpe_list_next(struct bpe *bpe, uint64_t *entry);
/* Merge symbol i and the next, whose ranks are known. */
bool bpe_list_merge(struct bpe *bpe, const struct tokenizer_file *file, uint32_t i,
                    struct tp_error *err);
/* The ids of the symbols that are left. */
bool bpe_list_push(const struct bpe *bpe, struct token_ids *list, struct tp_error *err);

/* Symbols that are merged at once. */
size_t bpe_window_of(const struct bpe *bpe);
/* What merges with each token on its right, and bpe->divides; made once. */
bool bpe_rights_list(struct bpe *bpe, const struct tokenizer_file *file, struct tp_error *err);
/* Merge what of bpe->start can be, a window at a time; *window grows where one has no end. */
bool bpe_windows(struct bpe *bpe, const struct tokenizer_file *file, size_t *window,
                 struct token_ids *list, struct tp_error *err);
bool bpe_too_long(size_t n, struct tp_error *err); /* TP_E_LIMIT */
