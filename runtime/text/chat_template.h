/* The chat template of a compiled tokenizer: found by name, compiled once, rendered over messages
 * with the variables that transformers' apply_chat_template gives it.
 */
#pragma once
#include "jinja.h"
#include "tokenizer_file.h"

/* Which template a conversation gets, as transformers chooses: the one that is asked for by name;
 * NULL: with tools "tool_use" where there is one, else "default". The result is asked, or static.
 *
 * Errors  NULL: TP_E_UNSUPPORTED, with the reason or the names there are; TP_E_USAGE: none has the
 *         name that is asked for */
const char *chat_template_find(const struct tokenizer_file *file, const char *asked, bool tools,
                               struct tp_error *err);

/* {0} is safe to close. */
struct chat_template {
    struct jinja_template *compiled;
    json_t *trusted;  /* bos_token, eos_token ...: names to texts */
    const char *name; /* as chat_template_find gave it; borrowed */
};

/* Errors  TP_E_TEMPLATE_SYNTAX, TP_E_TK_INVALID: a file that tpshard would not have made */
bool chat_template_open(struct chat_template *chat, const struct tokenizer_file *file,
                        const char *name, struct tp_error *err);
void chat_template_close(struct chat_template *chat);

/* What apply_chat_template passes beside the special tokens. */
struct chat_request {
    const json_t *messages;     /* array of objects */
    const json_t *tools;        /* NULL: none given (the template sees None) */
    bool add_generation_prompt; /* end where an answer begins */
    int64_t now;                /* struct jinja_options */
};
/* Fields of a message that are null are left out, as the reference does. The owner frees *out
 * with jinja_text_free.
 * Errors  those of jinja_fail; TP_E_PROMPT: messages is no array of objects, or empty */
bool chat_template_render(const struct chat_template *chat, const struct chat_request *request,
                          struct jinja_text *out, struct tp_error *err);

/* Seconds since 1970 of the clock on the wall here: what strftime_now shows. */
int64_t chat_now(void);
