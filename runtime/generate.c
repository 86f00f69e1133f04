#include "generate.h"

#include "host.h"
#include <string.h>

const char generate_interrupted[] =
    "interrupted; what was said so far is printed, run again to start over";

const char *generate_finish_name(enum generate_finish finish)
{
    static const char *const names[] = {"going", "eos", "stop", "length", "interrupted"};
    return names[finish];
}

void generate_free(struct generate *generate)
{
    sampler_free(&generate->sampler);
    mem_arena_free(&generate->arena);
    *generate = (struct generate){0};
}

static bool is_eos(const struct generate *g, uint32_t id)
{
    for (uint64_t i = 0; i < g->n_eos; i++)
        if (g->eos[i] == (int64_t)id)
            return true;
    return false;
}

/* Marks of ids that are no tokens, which are not drawn; NULL without error where there are none.
 * The most likely id is taken as it is: greedy results are those of the reference. */
static bool ban_holes(struct generate *g, uint64_t vocab, uint8_t **marks, struct tp_error *err)
{
    *marks = NULL;
    if (!g->tokenizer || g->sampling.temperature == 0)
        return true;
    for (uint32_t id = 0; id < vocab; id++) {
        if (tokenizer_is_token(g->tokenizer, id) || is_eos(g, id))
            continue;
        if (!*marks && !(*marks = mem_arena_alloc(&g->arena, vocab, err)))
            return false;
        (*marks)[id] = SAMPLER_BANNED;
    }
    return true;
}

static bool mark_prompt(struct generate *g, struct generate_sequence *seq,
                        const struct prompt *prompt, uint64_t vocab, struct tp_error *err)
{
    seq->seen = mem_arena_alloc(&g->arena, vocab, err);
    if (!seq->seen)
        return false;
    if (seq->marks)
        memcpy(seq->seen, seq->marks, vocab);
    for (uint32_t i = 0; i < prompt->n_ids; i++)
        seq->seen[prompt->ids[i]] |= SAMPLER_SEEN;
    seq->marks = seq->seen;
    return true;
}

bool generate_init(struct generate *generate, uint64_t vocab, struct tp_error *err)
{
    struct generate *g = generate;
    uint32_t n = g->prompts->count;
    g->sequences = mem_arena_alloc(&g->arena, n * sizeof *g->sequences, err);
    uint8_t *holes;
    bool ok =
        g->sequences && sampler_init(&g->sampler, vocab, err) && ban_holes(g, vocab, &holes, err);
    for (uint32_t s = 0; ok && s < n; s++) {
        struct generate_sequence *seq = &g->sequences[s];
        const struct prompt *prompt = &g->prompts->list[s];
        seq->ids = mem_arena_alloc(&g->arena, prompt->n * sizeof *seq->ids, err);
        ok = seq->ids != NULL;
        seq->n_cached = prompt->n_cached;
        if (prompt->n == 0)
            seq->finish = GENERATE_LENGTH;
        seq->marks = holes;
        if (ok && g->sampling.repetition_penalty != 1)
            ok = mark_prompt(g, seq, prompt, vocab, err);
    }
    if (!ok)
        generate_free(g);
    return ok;
}

static void accept(struct generate *g, uint32_t s, uint32_t id)
{
    struct generate_sequence *seq = &g->sequences[s];
    if (g->allocations == 0) {
        g->allocations = mem_alloc_count();
        report_first_token(g->report);
    }
    seq->ids[seq->count++] = id;
    if (seq->seen)
        seq->seen[id] |= SAMPLER_SEEN;
    if (is_eos(g, id))
        seq->finish = GENERATE_EOS;
    else if (g->on_token(g->arg, s, id))
        seq->finish = GENERATE_STOP;
    else if (seq->count == g->prompts->list[s].n)
        seq->finish = GENERATE_LENGTH;
}

/* Run the step, choose a token from every row of logits; false: interrupted too. */
static bool step(struct generate *g, struct engine *e, struct tp_error *err)
{
    const struct step *st = &e->forward.step;
    engine_step(e);
    for (uint32_t i = 0; i < st->n_rows; i++)
        g->sequences[st->rows[i].sequence].n_cached = st->rows[i].position + 1;
    uint32_t count;
    for (uint32_t first = 0; first < st->n_logits; first += count) {
        const float *logits = engine_logits(e, first, &count);
        for (uint32_t i = 0; i < count; i++) {
            const struct step_row *row = &st->rows[st->logit_rows[first + i]];
            const uint8_t *marks = g->sequences[row->sequence].marks;
            uint32_t id;
            if (!sampler_pick(&g->sampler, logits + i * engine_logit_stride(e), marks, &g->sampling,
                              row->sequence, row->position + 1, &id, err))
                return false;
            accept(g, row->sequence, id);
        }
    }
    return g->on_step(g->arg, err) &&
           (!*g->interrupted || tp_fail(err, TP_E_INTERRUPTED, "%s", generate_interrupted));
}

/* Prompts fill the steps one after the other; the last row of each gives its first token. */
static bool prefill(struct generate *g, struct engine *e, struct tp_error *err)
{
    const struct prompts *prompts = g->prompts;
    uint32_t s = 0, position = prompts->list[0].n_cached;
    while (s < prompts->count) {
        double t0 = host_seconds();
        engine_begin(e);
        while (s < prompts->count && e->forward.step.n_rows < g->chunk) {
            const struct prompt *prompt = &prompts->list[s];
            bool last = position + 1 == prompt->n_ids;
            bool added = engine_add(e, (struct step_row){s, position, prompt->ids[position]},
                                    last && prompt->n > 0);
            tp_assert(added);
            position++;
            if (last && ++s < prompts->count)
                position = prompts->list[s].n_cached;
        }
        g->report->prefill_tokens += e->forward.step.n_rows;
        bool ok = step(g, e, err);
        g->report->prefill_seconds += host_seconds() - t0;
        if (!ok)
            return false;
    }
    return true;
}

static bool decode(struct generate *g, struct engine *e, struct tp_error *err)
{
    for (;;) {
        double t0 = host_seconds();
        engine_begin(e);
        for (uint32_t s = 0; s < g->prompts->count; s++) {
            const struct generate_sequence *seq = &g->sequences[s];
            if (seq->finish != GENERATE_GOING)
                continue;
            uint32_t position = g->prompts->list[s].n_ids + seq->count - 1;
            bool added =
                engine_add(e, (struct step_row){s, position, seq->ids[seq->count - 1]}, true);
            tp_assert(added);
        }
        if (e->forward.step.n_rows == 0)
            return true;
        g->report->decode_tokens += e->forward.step.n_rows;
        g->report->decode_steps++;
        bool ok = step(g, e, err);
        g->report->decode_seconds += host_seconds() - t0;
        if (!ok)
            return false;
    }
}

bool generate_drive(struct engine *engine, void *arg, struct tp_error *err)
{
    struct generate *g = arg;
    bool ok = prefill(g, engine, err) && decode(g, engine, err);
    tp_assert(g->allocations == 0 || g->allocations == mem_alloc_count());
    for (uint32_t s = 0; s < g->prompts->count; s++)
        if (g->sequences[s].finish == GENERATE_GOING)
            g->sequences[s].finish = GENERATE_INTERRUPTED;
    return ok;
}
