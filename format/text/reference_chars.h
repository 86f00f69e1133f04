/* Properties of characters as the reference, Hugging Face tokenizers, has them: its libraries have
 * Unicode data of several versions, none of them that of the machine's library. The exceptions were
 * found by asking both for every code point (scripts/normalizer_diff.py).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* The first character of c in lower case, without context; U+0130 alone becomes two, the second
 * is U+0307. */
uint32_t reference_lower(uint32_t c);
/* General category M, of which StripAccents removes all. */
bool reference_is_mark(uint32_t c);
/* Mn, which BERT's normalizer removes. */
bool reference_is_nonspacing(uint32_t c);
/* What BERT's normalizer removes as control characters: Cc, Cf, Co, U+0000 and U+FFFD, but not
 * \t, \n, \r. */
bool reference_is_control(uint32_t c);
