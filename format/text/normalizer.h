/* Normalization of text before it is cut, as Hugging Face tokenizers does it, one step at a time:
 * tools normalizes the content of added tokens with it, runtime the text.
 *
 * Unicode data are those of the reference, not those of the machine's library: where its tables are
 * older, newer characters pass unchanged.
 */
#pragma once
#include "pattern.h"
#include "text.h"
#include <stdint.h>

/* Numbers of the compiled tokenizer. */
enum normalizer_kind {
    NORMALIZER_NFC = 1,
    NORMALIZER_NFD = 2,
    NORMALIZER_NFKC = 3,
    NORMALIZER_NFKD = 4,
    NORMALIZER_LOWERCASE = 5,
    NORMALIZER_REPLACE = 6, /* matches of a pattern by content */
    NORMALIZER_PREPEND = 7, /* content before a text that is not empty */
    NORMALIZER_STRIP = 8,   /* white space at the ends that flags name */
    NORMALIZER_STRIP_ACCENTS = 9,
    NORMALIZER_BERT = 10,
    NORMALIZER_NMT = 11,
    NORMALIZER_BYTE_LEVEL = 12, /* every byte by its letter */
};

/* STRIP: ends; BERT: what it does */
enum normalizer_flags {
    NORMALIZER_LEFT = 1,
    NORMALIZER_RIGHT = 2,
    NORMALIZER_CLEAN = 4,
    NORMALIZER_CHINESE = 8,
    NORMALIZER_ACCENTS = 16,
    NORMALIZER_LOWER = 32,
};

struct normalizer_step {
    enum normalizer_kind kind;
    unsigned flags;
    struct pattern *pattern; /* REPLACE: borrowed, open; its syntax is PCRE2's */
    const char *literal;     /* REPLACE with pattern NULL: exactly these bytes */
    size_t literal_n;
    const char *content; /* REPLACE, PREPEND */
    size_t content_n;
};

/* out becomes the text, n bytes of valid UTF-8, after one step; its memory is kept from call to
 * call. out->data must not be text. Linear in n.
 *
 * Errors  TP_E_LIMIT: a pattern's limit, or more than SIZE_MAX bytes; TP_E_MEMORY */
bool normalizer_apply(const struct normalizer_step *step, const char *text, size_t n,
                      struct tp_text *out, struct tp_error *err);
