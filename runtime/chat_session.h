/* A conversation on one engine, turn by turn: each renders and encodes all of it, keeps the KV
 * cache up to the first token that differs from the turn before, and runs the model over the rest.
 * What the model says is what it would say to the whole conversation at once.
 */
#pragma once
#include "choice.h"
#include "detokenizer.h"
#include "generate.h"
#include "run.h"
#include "text.h"

/* Figures of the last turn. */
struct chat_turn {
    uint32_t n_prompt, n_reused, n_new; /* tokens: of the conversation; of it in the cache; said */
    enum generate_finish finish;
    double prefill_seconds, decode_seconds;
};

/* {0} is safe to close. */
struct chat_session {
    struct run *run; /* bundle, tokenizer, chat; borrowed */
    struct choice choice;
    json_t *messages;
    struct token_ids cached; /* what the KV cache holds */
    struct token_ids ids;    /* the conversation as it was last encoded */
    struct prompt prompt;
    struct prompts prompts; /* the one above */
    struct detokenizer text;
    struct tp_text answer;    /* what was shown of the last answer */
    struct generate generate; /* while a turn runs */
    struct chat_turn last;
    const _Atomic int *interrupted;
    /* Text of the answer, as it comes; NULL, 0 after a step: it may be flushed. */
    void (*show)(const char *text, size_t n);
};

/* run: opened for RUN_CHAT, its context set. */
bool chat_session_open(struct chat_session *session, struct run *run,
                       const _Atomic int *interrupted, void (*show)(const char *text, size_t n),
                       struct tp_error *err);
void chat_session_close(struct chat_session *session);

/* Forget all messages but, where it is set, the system's. */
void chat_session_reset(struct chat_session *session);
/* The system message; n 0: none. */
bool chat_session_set_system(struct chat_session *session, const char *text, size_t n,
                             struct tp_error *err);
/* Replace the messages: an array of objects with strings "role" and "content".
 * Errors  TP_E_PROMPT naming `where` */
bool chat_session_set_messages(struct chat_session *session, const json_t *messages,
                               const char *where, struct tp_error *err);
/* Say text, n bytes, and let the model answer; both become messages. Stopped by *interrupted the
 * answer is what was shown; had nothing been, neither becomes a message. On error the messages are
 * those before.
 *
 * Errors  TP_E_LIMIT: the conversation does not fit into the context; those of the template and of
 *         generate_drive, but TP_E_INTERRUPTED */
bool chat_session_say(struct chat_session *session, struct engine *engine, const char *text,
                      size_t n, struct tp_error *err);
