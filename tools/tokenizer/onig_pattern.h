/* Oniguruma's regular expressions (Ruby syntax, as Hugging Face tokenizers reads them) rewritten
 * for PCRE2 with the same matches. What cannot be kept exactly is refused by name, never
 * approximated: back references, \X \K \G, named calls, options other than (?i:...) and (?m:...),
 * most properties that no tokenizer uses.
 */
#pragma once
#include "onig_sets.h"
#include "text.h"
#include <stdbool.h>
#include <stddef.h>

/* Append the PCRE2 form of pattern, n bytes, to out. where names the pattern in errors.
 *
 * Errors  TP_E_TK_UNSUPPORTED with the construct; TP_E_TK_INVALID: it is no pattern; TP_E_MEMORY */
bool onig_translate(const char *where, const char *pattern, size_t n, struct tp_text *out,
                    struct tp_error *err);
/* Append a pattern for exactly these bytes. */
bool onig_literal(const char *bytes, size_t n, struct tp_text *out, struct tp_error *err);
