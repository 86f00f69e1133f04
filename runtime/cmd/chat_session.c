#include "chat_session.h"

#include "mem.h"
#include <string.h>

bool chat_session_open(struct chat_session *session, const struct chat_session_setup *setup,
                       struct tp_error *err)
{
    struct chat_session *s = session;
    *s = (struct chat_session){.setup = *setup};
    s->messages = json_array();
    bool ok =
        choice_read(&s->choice, setup->bundle, setup->tokenizer, &setup->choice, err) &&
        detokenizer_open(&s->text, &setup->tokenizer->file, true,
                         setup->n < setup->context ? setup->n : setup->context, setup->stops,
                         setup->n_stops, err) &&
        (!setup->system || chat_session_set_system(s, setup->system, strlen(setup->system), err));
    if (ok) {
        chat_set_stops(setup->chat, s->choice.eos, s->choice.n_eos);
        ok = s->choice.sampling.temperature == 0 ||
             choice_ban_holes(setup->tokenizer, setup->bundle->model.vocab, setup->chat->stops,
                              setup->chat->n_stops, &s->marks, err);
    }
    if (!ok)
        chat_session_close(s);
    return ok;
}

void chat_session_close(struct chat_session *session)
{
    json_decref(session->messages);
    token_ids_free(&session->cached);
    token_ids_free(&session->ids);
    detokenizer_close(&session->text);
    mem_free(session->answer.data);
    mem_free(session->marks);
    *session = (struct chat_session){0};
}

/* ---- messages ---- */

static const char *role_of(const json_t *messages, size_t i)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return role ? role : "";
}

static bool has_system(const struct chat_session *session)
{
    return strcmp(role_of(session->messages, 0), "system") == 0;
}

static void cut_messages(struct chat_session *session, size_t count)
{
    while (json_array_size(session->messages) > count)
        json_array_remove(session->messages, json_array_size(session->messages) - 1);
}

size_t chat_session_forget(struct chat_session *session)
{
    size_t turns = 0;
    for (size_t i = 0; i < json_array_size(session->messages); i++)
        turns += strcmp(role_of(session->messages, i), "user") == 0;
    cut_messages(session, has_system(session));
    return turns;
}

bool chat_session_set_system(struct chat_session *session, const char *text, size_t n,
                             struct tp_error *err)
{
    json_t *all = json_array();
    if (n && !chat_add(all, "system", text, n, err)) {
        json_decref(all);
        return false;
    }
    if (has_system(session))
        json_array_remove(session->messages, 0);
    json_array_extend(all, session->messages);
    json_decref(session->messages);
    session->messages = all;
    return true;
}

bool chat_session_set_messages(struct chat_session *session, const json_t *messages,
                               const char *where, struct tp_error *err)
{
    if (!json_is_array(messages))
        return tp_fail(err, TP_E_PROMPT, "%s: an array of messages expected, %s found", where,
                       json_type_name(messages));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        struct json_in fields = {json_array_get(messages, i), where, TP_E_PROMPT};
        const char *text;
        size_t n;
        if (!json_is_object(fields.object))
            return tp_fail(err, TP_E_PROMPT, "%s: message %zu: an object expected", where, i);
        if (!json_get_string(&fields, "role", &text, err) ||
            !json_get_text(&fields, "content", &text, &n, err))
            return false;
    }
    json_t *copy = json_deep_copy(messages);
    if (!copy)
        return tp_fail(err, TP_E_MEMORY, "out of memory: messages");
    json_decref(session->messages);
    session->messages = copy;
    return true;
}

/* ---- a turn ---- */

static bool on_token(void *arg, uint32_t slot, uint32_t id)
{
    struct chat_session *session = arg;
    (void)slot;
    detokenizer_push(&session->text, id, &session->fresh, &session->n_fresh);
    return session->text.stream.stopped;
}

/* The conversation's ids, fit for the model and its context. */
static bool encode(struct chat_session *session, struct tp_error *err)
{
    const struct chat_session_setup *run = &session->setup;
    struct token_ids *ids = &session->ids;
    ids->count = 0;
    if (!chat_encode(run->chat, session->messages, NULL, ids, err))
        return false;
    if (ids->count == 0)
        return tp_fail(err, TP_E_PROMPT, "the template makes no tokens of the conversation");
    if (ids->count >= run->context)
        return tp_fail(err, TP_E_LIMIT, "the conversation has %zu token%s, --context allows %llu",
                       ids->count, ids->count == 1 ? "" : "s", (unsigned long long)run->context);
    for (size_t i = 0; i < ids->count; i++)
        if (ids->ids[i] >= run->bundle->model.vocab)
            return tp_fail(err, TP_E_PROMPT, "token id %u, 0 to %llu expected", ids->ids[i],
                           (unsigned long long)run->bundle->model.vocab - 1);
    return true;
}

/* How much of the conversation the cache holds; the last token has to be run in any case. */
static uint32_t count_reused(const struct chat_session *session)
{
    const struct token_ids *a = &session->cached, *b = &session->ids;
    size_t n = 0, most = a->count < b->count - 1 ? a->count : b->count - 1;
    if (session->setup.no_reuse)
        return 0;
    while (n < most && a->ids[n] == b->ids[n])
        n++;
    return (uint32_t)n;
}

static struct request request_of(struct chat_session *session, uint32_t reused)
{
    const struct chat_session_setup *setup = &session->setup;
    uint64_t room = setup->context - session->ids.count;
    return (struct request){
        .ids = session->ids.ids,
        .n_ids = (uint32_t)session->ids.count,
        .n_cached = reused,
        .n = (uint32_t)(setup->n < room ? setup->n : room),
        .cut = room < setup->n,
        .sampling = session->choice.sampling,
        .eos = setup->chat->stops,
        .n_eos = setup->chat->n_stops,
        .marks = session->marks,
        .on_token = on_token,
        .arg = session,
    };
}

/* What is in the cache now: of prompt and answer as many as were run. */
static bool keep_cached(struct chat_session *session, const struct answer *answer,
                        struct tp_error *err)
{
    const struct token_ids *prompt = &session->ids;
    struct token_ids *cached = &session->cached;
    while (cached->count < answer->n_cached) {
        size_t i = cached->count;
        uint32_t id = i < prompt->count ? prompt->ids[i] : answer->ids[i - prompt->count];
        if (!token_ids_push(cached, id, err))
            return false;
    }
    return true;
}

/* The answer as it was shown: its tokens through the stream once more. */
static bool keep_answer(struct chat_session *session, const struct answer *answer,
                        struct tp_error *err)
{
    uint32_t count = answer->count - (answer->finish == BATCH_EOS);
    const char *text;
    size_t n;
    detokenizer_reset(&session->text);
    session->answer.n = 0;
    for (uint32_t i = 0; i < count; i++) {
        detokenizer_push(&session->text, answer->ids[i], &text, &n);
        if (!tp_text_add(&session->answer, text, n, err))
            return false;
    }
    detokenizer_end(&session->text, &text, &n);
    return tp_text_add(&session->answer, text, n, err);
}

static bool run_request(struct chat_session *session, struct batch *batch, struct tp_error *err)
{
    bool ran = true;
    session->n_fresh = 0;
    while (ran) {
        if (!batch_step(batch, &ran, err))
            return false;
        if (session->n_fresh)
            session->setup.show(session->fresh, session->n_fresh);
        session->n_fresh = 0;
        session->setup.show(NULL, 0);
        if (*session->setup.interrupted)
            batch_interrupt(batch);
    }
    const char *text;
    size_t n;
    detokenizer_end(&session->text, &text, &n);
    session->setup.show(text, n);
    return true;
}

static bool answer(struct chat_session *session, struct batch *batch, struct tp_error *err)
{
    enum { SLOT = 0 };
    if (!encode(session, err))
        return false;
    uint32_t reused = count_reused(session);
    const struct batch_figures before = batch->figures;
    const struct request request = request_of(session, reused);
    engine_forget(batch->engine, SLOT, reused);
    session->cached.count = reused;
    detokenizer_reset(&session->text);
    if (batch_add(batch, &request, SLOT, err) != SLOT)
        return false;
    const struct answer *answer = batch_answer(batch, SLOT);
    bool ok = run_request(session, batch, err) && batch_check(batch, SLOT, err) &&
              keep_cached(session, answer, err) && keep_answer(session, answer, err);
    if (!ok)
        session->cached.count = 0;
    session->last = (struct chat_turn){
        .n_prompt = request.n_ids,
        .n_reused = reused,
        .n_new = answer->count,
        .finish = answer->finish,
        .prefill_seconds = batch->figures.prompt_seconds - before.prompt_seconds,
        .decode_seconds = batch->figures.plain_seconds - before.plain_seconds,
    };
    batch_remove(batch, SLOT, true);
    return ok;
}

bool chat_session_say(struct chat_session *session, struct batch *batch, const char *text, size_t n,
                      struct tp_error *err)
{
    size_t before = json_array_size(session->messages);
    bool ok = chat_add(session->messages, "user", text, n, err) && answer(session, batch, err);
    bool silent = ok && session->last.finish == BATCH_INTERRUPTED && session->answer.n == 0;
    if (ok && !silent)
        ok = chat_add(session->messages, "assistant",
                      session->answer.data ? session->answer.data : "", session->answer.n, err);
    if (!ok || silent)
        cut_messages(session, before);
    return ok;
}
