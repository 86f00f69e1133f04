/* A conversation on one engine, turn by turn: each renders and encodes all of it, keeps the KV
 * cache up to the first token that differs from the turn before, and runs the model over the rest.
 * What the model says is what it would say to the whole conversation at once.
 */
#pragma once
#include "batch.h"
#include "chat.h"
#include "choice.h"
#include "detokenizer.h"
#include "text.h"

/* Figures of the last turn. */
struct chat_turn {
    uint32_t n_prompt, n_reused, n_new; /* tokens: of the conversation; of it in the cache; said */
    enum batch_finish finish;
    double prefill_seconds, decode_seconds;
};

struct chat_session_setup {
    const struct bundle *bundle;
    struct tokenizer *tokenizer;
    struct chat *chat;
    uint64_t context; /* tokens that a conversation may have */
    uint64_t n;       /* new tokens of an answer */
    bool no_reuse;    /* begin every turn with an empty cache */
    struct choice_given choice;
    const char *const *stops;
    size_t n_stops;
    const char *system; /* NULL: none */
    const _Atomic int *interrupted;
    /* Text of the answer, as it comes; NULL, 0 after a step: it may be flushed. */
    void (*show)(const char *text, size_t n);
};

/* {0} is safe to close. */
struct chat_session {
    struct chat_session_setup setup;
    struct choice choice;
    json_t *messages;
    struct token_ids cached; /* what the KV cache holds */
    struct token_ids ids;    /* the conversation as it was last encoded */
    struct detokenizer text;
    const char *fresh; /* [n_fresh] what the last step has added to it */
    size_t n_fresh;
    struct tp_text answer; /* what was shown of the last answer */
    uint8_t *marks;
    struct chat_turn last;
};

bool chat_session_open(struct chat_session *session, const struct chat_session_setup *setup,
                       struct tp_error *err);
void chat_session_close(struct chat_session *session);

/* Forget all messages but, where it is set, the system's. Returns how many turns they were. */
size_t chat_session_forget(struct chat_session *session);
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
 *         batch_step */
bool chat_session_say(struct chat_session *session, struct batch *batch, const char *text, size_t n,
                      struct tp_error *err);
