/* tokenizer.json of a Hugging Face checkpoint -> the compiled tokenizer
 * (format/text/tokenizer_file.h).
 *
 * Supported: model BPE (without dropout and affixes of words) with every normalizer but
 * Precompiled, every pre_tokenizer but UnicodeScripts and FixedLength, every post_processor, and
 * the decoders of tokenizer_forms. All else is refused by name. The same document gives the same
 * bytes.
 */
#pragma once
#include "findings.h"
#include "model_config.h"
#include "tokenizer_pack.h"
#include "tokenizer_rows.h"
#include <stddef.h>
#include <stdint.h>

#define TOKENIZER_JSON_MAX (256ull << 20)

/* Named texts that go into the file as they are; at most TOKENIZER_TEXTS_MAX. */
struct tokenizer_texts {
    const struct pack_text *list;
    uint32_t count;
};

/* json: n bytes of tokenizer.json; file: its name in errors; texts and rows may be NULL. The caller
 * frees *data with mem_free, and *rows.
 *
 * Errors  TP_E_TK_INVALID (exit 3), TP_E_TK_UNSUPPORTED (exit 4), TP_E_LIMIT, TP_E_MEMORY */
bool tokenizer_compile(const char *file, const char *json, size_t n,
                       const struct tokenizer_texts *texts, struct tokenizer_rows *rows,
                       unsigned char **data, uint64_t *bytes, struct tp_error *err);

/* json: n bytes, what DIR/tokenizer.json has; compared with what DIR's other files say
 * (tokenizer_agree), and with model, where it is not NULL: tokens beyond the embedding, which are
 * left out, and what is said otherwise are findings. */
bool tokenizer_compile_read(const char *dir, const char *json, size_t n,
                            const struct model_config *model, const struct tokenizer_texts *texts,
                            struct findings *findings, unsigned char **data, uint64_t *bytes,
                            struct tp_error *err);
/* The same of the file. A tokenizer.model alone is TP_E_TK_UNSUPPORTED. */
bool tokenizer_compile_dir(const char *dir, const struct model_config *model,
                           const struct tokenizer_texts *texts, struct findings *findings,
                           unsigned char **data, uint64_t *bytes, struct tp_error *err);
