/* Text to token ids and back, from the compiled tokenizer of a bundle.
 *
 *     text -> runs of valid UTF-8 -> added tokens found in it -> the rest normalized
 *          -> added tokens found in that -> pieces -> ids
 *
 * The result is that of Hugging Face `tokenizers` for the tokenizer.json it was compiled from.
 * What that leaves open: bytes that are not UTF-8 stand for themselves. Each is encoded as the
 * token of that single byte, the valid text around it as if it stood alone. A byte for which the
 * vocabulary has no token is left out, as there, and counted.
 */
#pragma once
#include "bpe.h"
#include "io.h"
#include "pattern.h"
#include "text.h"
#include "tokenizer_file.h"

enum tokenizer_encode_flags {
    TOKENIZER_ADD_SPECIAL = 1,   /* what the post-processor puts around the text (<s> ...) */
    TOKENIZER_PARSE_SPECIAL = 2, /* control tokens are recognised in data, too */
};

/* {0} is safe to close. Encoding works in the struct's own memory: one thread at a time. */
struct tokenizer {
    struct tokenizer_file file;
    char *copy; /* of the file, where it was opened by its path: a mapping could change */
    struct pattern steps[TOKENIZER_STEPS_MAX];
    struct pattern normalizers[TOKENIZER_NORMALIZERS_MAX];
    struct pattern word;       /* \w of the reference; open where an added token needs it */
    bool added_begins[2][256]; /* an added token (raw, normalized) begins with this byte */
    bool first_matters;        /* a step looks at where all text begins */
    bool special_normalized;   /* a control token is looked for after normalization */
    struct bpe bpe;
    struct tp_text made[TOKENIZER_STEPS_MAX]; /* a piece as a step made it */
    struct tp_text normal[2];                 /* normalized text, and before its last step */
    struct tp_text parts;                     /* for the origins of normalized text */
    struct tp_text origin;
};

#define TOKENIZER_FILE_MAX (1ull << 30) /* bytes of a compiled tokenizer: TP_E_LIMIT */
bool tokenizer_open(const char *path, struct tokenizer *tokenizer, struct tp_error *err);
/* data, n bytes, outlives the tokenizer; any content is safe. name is used in errors. */
bool tokenizer_open_bytes(const void *data, size_t n, const char *name, struct tokenizer *tokenizer,
                          struct tp_error *err);
void tokenizer_close(struct tokenizer *tokenizer);

/* Append the ids of text, n bytes, any bytes, to list. Added tokens in the text are recognised.
 * origin: NULL, or n bytes, 1 for a byte of data (format/text/jinja/jinja.h): a control token of
 * which a byte is data is ordinary text, unless flags say otherwise; all else stays as it is.
 * flags: enum tokenizer_encode_flags. On error list holds a part.
 *
 * Errors  TP_E_LIMIT: a pattern's limit, or that of bpe_encode; TP_E_MEMORY */
bool tokenizer_encode(struct tokenizer *tokenizer, const char *text, size_t n,
                      const unsigned char *origin, unsigned flags, struct token_ids *list,
                      struct tp_error *err);

/* The token that ends a text by the tokenizer's own configuration (eos_token); TOKEN_NONE. */
uint32_t tokenizer_end(const struct tokenizer *tokenizer);

/* A token at all, not a hole and not out of range: what may be sampled. */
static inline bool tokenizer_is_token(const struct tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->file.tokens && tokenizer_file_flags(&tokenizer->file, id) & TOKEN_USED;
}
