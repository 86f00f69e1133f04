/* Conversations to token ids, and the tokens that end an answer: what generate --chat and tprun
 * chat share. A conversation is a JSON array of messages {"role", "content"}, as transformers has
 * it; every turn renders and encodes all of it.
 */
#pragma once
#include "chat_template.h"
#include "model_config.h"
#include "tokenizer.h"

enum { CHAT_STOPS_MAX = MODEL_EOS_MAX + 2 };

/* {0} is safe to close. */
struct chat {
    struct tokenizer *tokenizer;   /* borrowed */
    const char *asked;             /* name of the template; NULL: as transformers chooses */
    struct chat_template template; /* without tools, where there is one */
    bool parse_special; /* control tokens in what people write count, as with transformers */
    int64_t now;
    int64_t stops[CHAT_STOPS_MAX]; /* chat_set_stops */
    uint64_t n_stops;
};

/* asked: as chat_template_find has it. Tokenizer and asked outlive the chat. Errors  there is no
 * template for conversations, with tools or without; those of chat_template_open */
bool chat_open(struct chat *chat, struct tokenizer *tokenizer, const char *asked,
               bool parse_special, struct tp_error *err);
void chat_close(struct chat *chat);

/* Append a message. Bytes of text that are not UTF-8 become U+FFFD. */
bool chat_add(json_t *messages, const char *role, const char *text, size_t n, struct tp_error *err);
/* Append the ids of a conversation that waits for an answer. tools: NULL or an array.
 *
 * Errors  those of chat_template_find, chat_template_render and tokenizer_encode */
bool chat_encode(const struct chat *chat, const json_t *messages, const json_t *tools,
                 struct token_ids *ids, struct tp_error *err);

/* The tokens that end an answer: eos (n_eos below CHAT_STOPS_MAX), and the control token that the
 * template puts after an answer. */
void chat_set_stops(struct chat *chat, const int64_t *eos, uint64_t n_eos);
/* The added token that stands after an answer in rendered text, white space between them passed
 * over; TOKEN_NONE where there is none, or the template renders no such conversation. */
uint32_t chat_turn_end(const struct chat *chat);
