/* What a model's folder says of chat, resolved as transformers does for a tokenizer:
 *
 *   templates   chat_template.jinja ("default") and additional_chat_templates/NAME.jinja; without
 *               any of these chat_template of tokenizer_config.json, one text or a list of
 *               {name, template}; last chat_template.json, the file of a processor
 *   variables   bos_token, eos_token, unk_token ... and further *_token of tokenizer_config.json,
 *               the tokenizer class's own where it names none, special_tokens_map.json where it has
 *               no added_tokens_decoder
 *
 * Every template is compiled and rendered once: one that is none, or exhausts its limits, is left
 * out, with a warning, and the reason takes its place. So is what of the files is malformed.
 */
#pragma once
#include "findings.h"
#include "tokenizer_compile.h"
#include "mem.h"

enum {
    CHAT_TEMPLATES_MAX = 64,
    CHAT_VARIABLES_MAX = 64,
    CHAT_NAME_BYTES_MAX = 128,
    CHAT_CONFIG_MAX = 16 << 20, /* bytes of a JSON file */
    CHAT_TOKENS = 7,
};
extern const char *const chat_tokens[CHAT_TOKENS]; /* "bos_token", "eos_token" ... */

/* {0} is safe to free. */
struct chat_source {
    struct pack_text list[2 * CHAT_TEMPLATES_MAX + CHAT_VARIABLES_MAX];
    uint32_t count;
    json_t *folder;         /* chat_folder.h */
    struct mem_arena arena; /* owns all texts */
};

/* What is left out is a finding.
 *
 * Errors  those of findings that are strict; TP_E_IO, TP_E_MEMORY */
bool chat_source_read(struct chat_source *source, const char *dir, struct findings *findings,
                      struct tp_error *err);
void chat_source_free(struct chat_source *source);
static inline struct tokenizer_texts chat_source_texts(const struct chat_source *source)
{
    return (struct tokenizer_texts){source->list, source->count};
}

/* DIR/NAME, an object; *out: NULL where there is none, or it is malformed, which is a finding
 * (findings NULL: somebody else's).
 *
 * Errors  those of findings that are strict; TP_E_IO, TP_E_MEMORY */
bool chat_config_read(const char *dir, const char *name, struct findings *findings, json_t **out,
                      struct tp_error *err);

/* A token as configuration files give it: a text, or an object that holds one. NULL: neither. */
const json_t *chat_token_text(const json_t *token);
