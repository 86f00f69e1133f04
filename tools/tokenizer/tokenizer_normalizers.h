/* The normalizer of tokenizer.json as steps of the compiled form, and what it makes of a text. */
#pragma once
#include "text.h"
#include "tokenizer_pack.h"
#include "tokenizer_reading.h"

struct tokenizer_normalizers {
    struct pack_normalizer list[TOKENIZER_NORMALIZERS_MAX]; /* strings live in arena or document */
    uint32_t count;
};

/* value: the normalizer, NULL: none.
 *
 * Errors  TP_E_TK_INVALID: malformed; TP_E_TK_UNSUPPORTED: not supported; TP_E_MEMORY */
bool tokenizer_normalizers_read(const struct tokenizer_reading *in, const json_t *value,
                                struct tokenizer_normalizers *out);

/* text, n bytes of UTF-8, after all steps, in the arena: *out, *out_n bytes. Meant for the content
 * of few tokens: patterns are opened each time. */
bool tokenizer_normalizers_apply(const struct tokenizer_reading *in,
                                 const struct tokenizer_normalizers *normalizers, const char *text,
                                 size_t n, const char **out, size_t *out_n);
