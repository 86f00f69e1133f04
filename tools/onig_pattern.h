/* Oniguruma's regular expressions (Ruby syntax, as Hugging Face tokenizers reads them) rewritten
 * for PCRE2 with the same matches. What cannot be kept exactly is refused by name, never
 *   approximated: \s is White_Space (PCRE2's has U+180E besides); ^ and $ are those of lines
 *   \p{L} and the other general categories know Unicode 16 (tokenizers 0.23), whichever PCRE2 is
 *   here refused: \w \b \h \R \X, back references, nested classes, &&, options other than (?i:...)
 */
#pragma once
#include "text.h"
#include <stdbool.h>
#include <stddef.h>


/* Append the PCRE2 form of pattern, n bytes, to out. where names the pattern in errors.
 *
 * Errors  TP_E_TK_UNSUPPORTED with the construct; TP_E_MEMORY */
bool onig_translate(const char *where, const char *pattern, size_t n, struct tp_text *out,
                    struct tp_error *err);
/* Append a pattern for exactly these bytes. */
bool onig_literal(const char *bytes, size_t n, struct tp_text *out, struct tp_error *err);
/* Append a class of the characters that Rust calls numeric (Digits). */
bool onig_digit(struct tp_text *out, struct tp_error *err);
/* Append a class of the characters that Punctuation cuts at. */
bool onig_punctuation(struct tp_text *out, struct tp_error *err);
/* Append a pattern for what Whitespace keeps: words, and what lies between words and space. */
bool onig_words(struct tp_text *out, struct tp_error *err);
