#include "chat_session.h"

#include "mem.h"
#include <string.h>

bool chat_session_open(struct chat_session *session, struct run *run,
                       const _Atomic int *interrupted, void (*show)(const char *text, size_t n),
                       struct tp_error *err)
{
    const struct run_options *o = run->options;
    struct chat_session *s = session;
    *s = (struct chat_session){.run = run, .interrupted = interrupted, .show = show};
    s->messages = json_array();
    bool ok = choice_read(&s->choice, &run->bundle, o, err) &&
              detokenizer_open(&s->text, &run->tokenizer.file, true,
                               o->n < run->context ? o->n : run->context, o->stops,
                               (size_t)o->n_stops, err) &&
              (!o->system || chat_session_set_system(s, o->system, strlen(o->system), err));
    if (ok)
        chat_set_stops(&run->chat, s->choice.eos, s->choice.n_eos);
    else
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
    generate_free(&session->generate);
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

void chat_session_reset(struct chat_session *session)
{
    cut_messages(session, has_system(session));
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
        if (!json_is_object(fields.object))
            return tp_fail(err, TP_E_PROMPT, "%s: message %zu: an object expected", where, i);
        if (!json_get_string(&fields, "role", &text, err) ||
            !json_get_string(&fields, "content", &text, err))
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

static bool on_token(void *arg, uint32_t s, uint32_t id)
{
    struct chat_session *session = arg;
    const char *text;
    size_t n;
    (void)s;
    detokenizer_push(&session->text, id, &text, &n);
    if (n)
        session->show(text, n);
    return session->text.stream.stopped;
}

static bool on_step(void *arg, struct tp_error *err)
{
    struct chat_session *session = arg;
    (void)err;
    session->show(NULL, 0);
    return true;
}

/* The conversation's ids, fit for the model and its context. */
static bool encode(struct chat_session *session, struct tp_error *err)
{
    const struct run *run = session->run;
    struct token_ids *ids = &session->ids;
    ids->count = 0;
    if (!chat_encode(&run->chat, session->messages, NULL, ids, err))
        return false;
    if (ids->count == 0)
        return tp_fail(err, TP_E_PROMPT, "the template makes no tokens of the conversation");
    if (ids->count >= run->context)
        return tp_fail(err, TP_E_LIMIT, "the conversation has %zu tokens, --context allows %llu",
                       ids->count, (unsigned long long)run->context);
    for (size_t i = 0; i < ids->count; i++)
        if (ids->ids[i] >= run->bundle.model.vocab)
            return tp_fail(err, TP_E_PROMPT, "token id %u, 0 to %llu expected", ids->ids[i],
                           (unsigned long long)run->bundle.model.vocab - 1);
    return true;
}

/* How much of the conversation the cache holds; the last token has to be run in any case. */
static uint32_t count_reused(const struct chat_session *session)
{
    const struct token_ids *a = &session->cached, *b = &session->ids;
    size_t n = 0, most = a->count < b->count - 1 ? a->count : b->count - 1;
    if (session->run->options->no_reuse)
        return 0;
    while (n < most && a->ids[n] == b->ids[n])
        n++;
    return (uint32_t)n;
}

static bool prepare(struct chat_session *session, struct engine *engine, struct tp_error *err)
{
    const struct run *run = session->run;
    uint64_t room = run->context - session->ids.count;
    uint32_t reused = count_reused(session);
    kv_cache_truncate(&engine->cache, 0, reused);
    session->cached.count = reused;
    session->prompt = (struct prompt){
        .ids = session->ids.ids,
        .n_ids = (uint32_t)session->ids.count,
        .n = (uint32_t)(run->options->n < room ? run->options->n : room),
        .n_cached = reused,
    };
    session->prompts = (struct prompts){.list = &session->prompt, .count = 1};
    session->generate = (struct generate){
        .prompts = &session->prompts,
        .tokenizer = &run->tokenizer,
        .sampling = session->choice.sampling,
        .eos = run->chat.stops,
        .n_eos = run->chat.n_stops,
        .chunk = run->options->chunk,
        .report = run->report,
        .interrupted = session->interrupted,
        .on_token = on_token,
        .on_step = on_step,
        .arg = session,
    };
    detokenizer_reset(&session->text);
    return generate_init(&session->generate, run->bundle.model.vocab, err);
}

/* What is in the cache now: of prompt and answer as many as were run. */
static bool keep_cached(struct chat_session *session, struct tp_error *err)
{
    const struct generate_sequence *answer = &session->generate.sequences[0];
    const struct prompt *prompt = &session->prompt;
    struct token_ids *cached = &session->cached;
    while (cached->count < answer->n_cached) {
        size_t i = cached->count;
        uint32_t id = i < prompt->n_ids ? prompt->ids[i] : answer->ids[i - prompt->n_ids];
        if (!token_ids_push(cached, id, err))
            return false;
    }
    return true;
}

/* The answer as it was shown: its tokens through the stream once more. */
static bool keep_answer(struct chat_session *session, struct tp_error *err)
{
    const struct generate_sequence *answer = &session->generate.sequences[0];
    uint32_t count = answer->count - (answer->finish == GENERATE_EOS);
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

static void keep_figures(struct chat_session *session, const struct report *before)
{
    const struct report *now = session->run->report;
    const struct generate_sequence *answer = &session->generate.sequences[0];
    session->last = (struct chat_turn){
        .n_prompt = session->prompt.n_ids,
        .n_reused = session->prompt.n_cached,
        .n_new = answer->count,
        .finish = answer->finish,
        .prefill_seconds = now->prefill_seconds - before->prefill_seconds,
        .decode_seconds = now->decode_seconds - before->decode_seconds,
    };
}

static bool answer(struct chat_session *session, struct engine *engine, struct tp_error *err)
{
    struct report before = *session->run->report;
    struct tp_error why = {0};
    if (!encode(session, err) || !prepare(session, engine, err))
        return false;
    const char *text;
    size_t n;
    bool ok = generate_drive(engine, &session->generate, &why) || why.code == TP_E_INTERRUPTED;
    detokenizer_end(&session->text, &text, &n);
    session->show(text, n);
    ok = ok ? keep_cached(session, err) && keep_answer(session, err)
            : tp_fail(err, why.code, "%s", why.text);
    if (!ok)
        session->cached.count = 0;
    keep_figures(session, &before);
    generate_free(&session->generate);
    return ok;
}

bool chat_session_say(struct chat_session *session, struct engine *engine, const char *text,
                      size_t n, struct tp_error *err)
{
    size_t before = json_array_size(session->messages);
    bool ok = chat_add(session->messages, "user", text, n, err) && answer(session, engine, err);
    bool silent = ok && session->last.finish == GENERATE_INTERRUPTED && session->answer.n == 0;
    if (ok && !silent)
        ok = chat_add(session->messages, "assistant",
                      session->answer.data ? session->answer.data : "", session->answer.n, err);
    if (!ok || silent)
        cut_messages(session, before);
    return ok;
}
