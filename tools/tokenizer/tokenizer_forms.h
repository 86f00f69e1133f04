/* The decoder of tokenizer.json worked out ahead: what each token decodes to, and the little that
 * depends on its neighbours (format/text/tokenizer_file.h). Supported are the decoders there are of
 * BPE tokenizers: ByteLevel; Replace, ByteFallback, Fuse, Strip in that order, some of them or all;
 * Metaspace; none. */
#pragma once
#include "tokenizer_pack.h"
#include "tokenizer_reading.h"

enum { TOKENIZER_FORM_STEPS_MAX = 16 };

enum form_kind { FORM_REPLACE, FORM_METASPACE, FORM_LETTERS };

/* A step that looks at one token alone. */
struct form_step {
    enum form_kind kind;
    const char *from, *to; /* borrowed from the document */
    size_t from_n, to_n;
    bool drops_first; /* METASPACE: in the first token there is nothing in its place */
};

struct tokenizer_forms {
    struct tokenizer_decoder decoder;
    struct form_step steps[TOKENIZER_FORM_STEPS_MAX];
    uint32_t count;
    bool byte_tokens;
    int16_t byte_of_letter[0x144]; /* -1: none */
};

/* value: the decoder, NULL: none.
 *
 * Errors  TP_E_TK_INVALID: malformed; TP_E_TK_UNSUPPORTED: not supported */
bool tokenizer_forms_read(const struct tokenizer_reading *in, const json_t *value,
                          struct tokenizer_forms *out);

/* The bytes that the letters of name, n bytes of UTF-8, stand for: *count of them at out (n bytes
 * of room). false: a character of it is no letter. */
bool tokenizer_forms_letters(const struct tokenizer_forms *forms, const char *name, size_t n,
                             char *out, size_t *count);

/* Fill what token decodes to from the name it has in tokenizer.json. */
bool tokenizer_forms_apply(const struct tokenizer_reading *in, const struct tokenizer_forms *forms,
                           const char *name, size_t n, struct pack_token *token);
