/* Unicode normalization forms of UTF-8 text, as Hugging Face tokenizers makes them.
 *
 * utf8proc has the data and composes; this file cuts text at characters that no form changes and
 * nothing before them can join, puts marks in order in linear time, and keeps to the reference's
 * tables, which are those of Unicode 9: what is newer passes unchanged.
 */
#pragma once
#include "text.h"
#include <stdint.h>

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };

/* Append the form of text, n bytes of valid UTF-8, to out. Linear in n.
 *
 * Errors  TP_E_MEMORY, TP_E_LIMIT */
bool unicode_form_add(enum unicode_form form, const char *text, size_t n, struct tp_text *out,
                      struct tp_error *err);
