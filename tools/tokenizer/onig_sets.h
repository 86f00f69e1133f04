/* Sets of characters as Hugging Face tokenizers 0.23.3 has them (Oniguruma's and Rust's tables, of
 * Unicode 16), written as items of a PCRE2 class, whichever Unicode the PCRE2 here knows. */
#pragma once
#include "text.h"
#include <stdint.h>

/* The number of a set by the name that \p{...} gives it (case, spaces, - and _ do not count), or,
 * with posix, [:...:]; -1: not known. */
int onig_set_find(const char *name, size_t n, bool posix);
/* The sets behind \w, which differ in and outside of classes, and \s. */
int onig_set_word(bool in_class);
int onig_set_space(void);

/* Append the items of a set. */
bool onig_set_items(int set, struct tp_text *out, struct tp_error *err);
/* Append items that are not in the set although onig_set_items has them; *any: there are some. */
bool onig_set_exceptions(int set, struct tp_text *out, bool *any, struct tp_error *err);
/* Append all but white space, as items. */
bool onig_set_not_space(struct tp_text *out, struct tp_error *err);
/* Append first-last. */
bool onig_set_range(uint32_t first, uint32_t last, struct tp_text *out, struct tp_error *err);

/* Classes of pre-tokenizers that are no patterns: the characters Rust calls numeric (Digits); those
 * that Punctuation cuts at; words and what lies between words and space (Whitespace). */
bool onig_digit(struct tp_text *out, struct tp_error *err);
bool onig_punctuation(struct tp_text *out, struct tp_error *err);
bool onig_words(struct tp_text *out, struct tp_error *err);
/* A class of the characters of words, as Rust's regex has them. */
bool onig_word_class(struct tp_text *out, struct tp_error *err);
