#include "batch.h"

#include "clock.h"
#include "host.h"
#include "mem.h"
#include <string.h>

struct slot {
    bool taken;
    uint32_t next, previous; /* in the list that it is in */
    struct request request;
    struct answer answer;
    uint8_t *seen; /* [vocab] marks of its own, where the repetition penalty wants them; or NULL */
    struct hash128 marks_hash; /* of the request's */
    bool wants_layer;          /* its error does not say yet where it began: */
    struct step_row failed;    /* the row that had it */
};

const char *batch_finish_name(enum batch_finish finish)
{
    static const char *const names[] = {"going",   "eos",         "stop",  "length",
                                        "context", "interrupted", "failed"};
    return names[finish];
}

static uint64_t vocab_of(const struct batch *b)
{
    return b->engine->bundle->model.vocab;
}

/* ---- lists ---- */

enum { NONE = UINT32_MAX };

static bool in_prompt(const struct slot *slot)
{
    return slot->answer.n_cached < slot->request.n_ids;
}

/* Decided once for a request, by it alone. */
static bool is_fast(const struct batch *b, uint32_t s)
{
    const struct request *q = &b->slots[s].request;
    return b->engine->setup.span_rows_max && !q->exact &&
           q->n_ids - q->n_cached > b->engine->setup.device->fast_above;
}

static void append(struct batch *b, struct slot_list *list, uint32_t s)
{
    b->slots[s].previous = list->last;
    b->slots[s].next = NONE;
    *(list->last == NONE ? &list->first : &b->slots[list->last].next) = s;
    list->last = s;
}

static void unlink_slot(struct batch *b, struct slot_list *list, uint32_t s)
{
    const struct slot *slot = &b->slots[s];
    *(slot->previous == NONE ? &list->first : &b->slots[slot->previous].next) = slot->next;
    *(slot->next == NONE ? &list->last : &b->slots[slot->next].previous) = slot->previous;
}

static void finish(struct batch *b, uint32_t s, enum batch_finish why)
{
    struct slot *slot = &b->slots[s];
    if (slot->answer.finish == BATCH_GOING) {
        unlink_slot(b, in_prompt(slot) ? &b->prompts : &b->answers, s);
        b->ended = true;
    }
    slot->answer.finish = why;
}

/* ---- opening ---- */

bool batch_open(struct batch *batch, struct engine *engine, uint64_t chunk, struct tp_error *err)
{
    struct batch *b = batch;
    uint32_t n = engine->setup.n_sequences;
    *b = (struct batch){.engine = engine, .chunk = chunk, .n_slots = n};
    b->prompts = b->answers = (struct slot_list){NONE, NONE};
    b->slots = mem_array(n, sizeof *b->slots, err);
    b->samplers = mem_array((uint64_t)engine->team.count, sizeof *b->samplers, err);
    b->choices = mem_array(engine->setup.rows_max, sizeof *b->choices, err);
    b->picked = mem_array(engine->setup.rows_max, sizeof *b->picked, err);
    if (b->slots && b->samplers && b->choices && b->picked)
        return true;
    batch_close(b);
    return false;
}

static void empty(struct slot *slot)
{
    mem_free(slot->answer.ids);
    mem_free(slot->answer.error);
    mem_free(slot->seen);
    *slot = (struct slot){0};
}

void batch_close(struct batch *batch)
{
    for (uint32_t s = 0; batch->slots && s < batch->n_slots; s++)
        empty(&batch->slots[s]);
    for (int i = 0; i < batch->n_samplers; i++)
        sampler_free(&batch->samplers[i]);
    mem_free(batch->slots);
    mem_free(batch->samplers);
    mem_free(batch->choices);
    mem_free(batch->picked);
    *batch = (struct batch){0};
}

/* ---- requests ---- */

static bool mark_seen(const struct batch *b, struct slot *slot, struct tp_error *err)
{
    const struct request *q = &slot->request;
    if (q->sampling.repetition_penalty == 1)
        return true;
    slot->seen = mem_array(vocab_of(b), 1, err);
    if (!slot->seen)
        return false;
    if (q->marks)
        memcpy(slot->seen, q->marks, vocab_of(b));
    for (uint32_t i = 0; i < q->n_ids; i++)
        slot->seen[q->ids[i]] |= SAMPLER_SEEN;
    return true;
}

/* As many as rows may be chosen from at a time, and threads can. */
static bool one_more_sampler(struct batch *b, struct tp_error *err)
{
    int i = b->n_samplers;
    if (i == b->engine->team.count || (uint32_t)i == b->n_slots)
        return true;
    b->n_samplers += sampler_init(&b->samplers[i], vocab_of(b), err);
    return b->n_samplers > i;
}

uint32_t batch_add(struct batch *batch, const struct request *request, uint32_t slot,
                   struct tp_error *err)
{
    uint32_t s = slot == UINT32_MAX ? 0 : slot;
    tp_assert(request->n_ids > 0 && request->n_cached < request->n_ids);
    while (slot == UINT32_MAX && s < batch->n_slots && batch->slots[s].taken)
        s++;
    if (s >= batch->n_slots || batch->slots[s].taken) {
        tp_fail(err, TP_E_LIMIT, "%u requests at a time, all slots are taken", batch->n_slots);
        return UINT32_MAX;
    }
    struct slot *to = &batch->slots[s];
    to->request = *request;
    to->answer = (struct answer){.n_cached = request->n_cached};
    to->answer.ids = mem_array(request->n, sizeof *to->answer.ids, err);
    if (!to->answer.ids || !mark_seen(batch, to, err) ||
        (request->n > 0 && !one_more_sampler(batch, err))) {
        empty(to);
        return UINT32_MAX;
    }
    if (request->marks && batch->engine->setup.device->chooses)
        to->marks_hash = hash_bytes(request->marks, vocab_of(batch));
    to->taken = true;
    append(batch, &batch->prompts, s);
    return s;
}

const struct answer *batch_answer(const struct batch *batch, uint32_t slot)
{
    tp_assert(slot < batch->n_slots && batch->slots[slot].taken);
    return &batch->slots[slot].answer;
}

bool batch_check(const struct batch *batch, uint32_t slot, struct tp_error *err)
{
    const struct answer *answer = batch_answer(batch, slot);
    const struct tp_error *why = answer->error;
    return answer->finish != BATCH_FAILED ||
           tp_fail(err, why ? why->code : TP_E_MEMORY, "%s", why ? why->text : "out of memory");
}

void batch_interrupt(struct batch *batch)
{
    while (batch->prompts.first != NONE)
        finish(batch, batch->prompts.first, BATCH_INTERRUPTED);
    while (batch->answers.first != NONE)
        finish(batch, batch->answers.first, BATCH_INTERRUPTED);
}

void batch_remove(struct batch *batch, uint32_t slot, bool keep)
{
    finish(batch, slot, BATCH_INTERRUPTED);
    empty(&batch->slots[slot]);
    if (!keep)
        engine_forget(batch->engine, slot, 0);
}

/* ---- a step ---- */

/* A token of every answer. Who finds no page for it waits. */
static uint32_t add_answers(struct batch *b)
{
    uint32_t n = 0;
    for (uint32_t s = b->answers.first; s != NONE; s = b->slots[s].next) {
        const struct answer *a = &b->slots[s].answer;
        n += engine_add(b->engine, (struct step_row){s, a->n_cached, a->ids[a->count - 1]}, true);
    }
    return n;
}

static bool wants_logits(const struct request *q, uint32_t position)
{
    return q->on_logits || (position + 1 == q->n_ids && q->n > 0);
}

/* Rows of the next span of a fast prompt. */
static uint32_t span_rows(const struct batch *b, uint32_t s)
{
    const struct slot *slot = &b->slots[s];
    const uint32_t left = slot->request.n_ids - slot->answer.n_cached;
    return left < b->chunk ? left : (uint32_t)b->chunk;
}

/* Exact prompts one after the other, as many rows as fit: who came first is not overtaken. */
static uint32_t add_exact(struct batch *b, uint64_t room)
{
    uint32_t n = 0;
    for (uint32_t s = b->prompts.first; s != NONE; s = b->slots[s].next) {
        const struct request *q = &b->slots[s].request;
        if (is_fast(b, s))
            continue;
        for (uint32_t p = b->slots[s].answer.n_cached; p < q->n_ids; p++, n++)
            if (n == room ||
                !engine_add(b->engine, (struct step_row){s, p, q->ids[p]}, wants_logits(q, p)))
                return n;
    }
    return n;
}

/* Fast prompts, a span each, as many as fit whole. */
static uint32_t add_fast(struct batch *b)
{
    uint32_t n = 0;
    for (uint32_t s = b->prompts.first; s != NONE; s = b->slots[s].next) {
        const struct request *q = &b->slots[s].request;
        if (!is_fast(b, s))
            continue;
        const uint32_t first = b->slots[s].answer.n_cached, rows = span_rows(b, s);
        if (!engine_begin_span(b->engine, s, first, rows))
            return n;
        n += rows;
        for (uint32_t p = first; p < first + rows; p++)
            engine_add(b->engine, (struct step_row){s, p, q->ids[p]}, wants_logits(q, p));
    }
    return n;
}

/* The first fast prompt has its rows in every step, however many exact ones come. */
static uint32_t add_prompts(struct batch *b)
{
    const uint32_t left = b->engine->setup.rows_max - engine_rows(b->engine)->n_rows;
    uint32_t s = b->prompts.first;
    uint64_t room = b->chunk;
    while (s != NONE && !is_fast(b, s))
        s = b->slots[s].next;
    if (s != NONE) {
        const uint32_t kept = span_rows(b, s);
        room = kept < left ? left - kept : 0;
        room = room < b->chunk ? room : b->chunk;
    }
    uint32_t n = add_exact(b, room);
    return n + add_fast(b);
}

struct picks {
    struct batch *batch;
    const float *logits; /* [count][stride] of the wanted rows from first on */
    uint32_t first, count;
    _Atomic uint32_t next;
};

static const struct step_row *wanted_row(const struct batch *b, uint32_t i)
{
    const struct step *step = engine_rows(b->engine);
    return &step->rows[step->logit_rows[i]];
}

/* A token is chosen from the row: it is the last that is known of its request. */
static bool is_chosen_from(const struct slot *slot, uint32_t position)
{
    return slot->request.n > 0 && position + 1 == slot->request.n_ids + slot->answer.count;
}

/* What the device may choose. Where anybody wants logits they come to the host, which does it. */
static void ask(struct batch *b)
{
    const uint32_t n = engine_rows(b->engine)->n_logits;
    bool any = false, logits = false;
    for (uint32_t i = 0; i < n; i++)
        b->picked[i] = NONE;
    for (uint32_t i = 0; b->engine->setup.device->chooses && i < n; i++) {
        const struct step_row *row = wanted_row(b, i);
        const struct slot *slot = &b->slots[row->sequence];
        const struct request *q = &slot->request;
        logits |= q->on_logits != NULL;
        b->choices[i] = (struct sampler_choice){.asked = false};
        if (slot->seen || !is_chosen_from(slot, row->position))
            continue;
        b->choices[i] = sampler_choice_of(&q->sampling, vocab_of(b), q->stream, row->position + 1);
        b->choices[i].banned = q->marks;
        b->choices[i].banned_hash = slot->marks_hash;
        any = true;
    }
    if (any && !logits)
        engine_choose(b->engine, b->choices, b->picked);
}

/* false: none can be chosen. */
static bool pick_one(const struct picks *p, uint32_t i, struct sampler *sampler, uint32_t *id,
                     struct tp_error *err)
{
    const struct step_row *row = wanted_row(p->batch, p->first + i);
    const struct slot *slot = &p->batch->slots[row->sequence];
    const struct request *q = &slot->request;
    return *id != NONE || !is_chosen_from(slot, row->position) ||
           sampler_pick(sampler, p->logits + i * engine_logit_stride(p->batch->engine),
                        slot->seen ? slot->seen : q->marks, &q->sampling, q->stream,
                        row->position + 1, id, err);
}

static void pick_thread(void *arg, int index, int count)
{
    struct picks *p = arg;
    (void)count;
    for (uint32_t i; index < p->batch->n_samplers && (i = p->next++) < p->count;)
        pick_one(p, i, &p->batch->samplers[index], &p->batch->picked[p->first + i], NULL);
}

static void pick(struct picks *p)
{
    if (p->count > 1 && p->batch->n_samplers > 1)
        team_call(&p->batch->engine->team, pick_thread, p);
    else
        pick_thread(p, 0, 1);
}

/* Why it ends who has as many tokens as it may. */
static enum batch_finish full(const struct request *request)
{
    return request->cut ? BATCH_CONTEXT : BATCH_LENGTH;
}

static void accept(struct batch *b, uint32_t s, uint32_t id)
{
    struct slot *slot = &b->slots[s];
    const struct request *q = &slot->request;
    struct answer *a = &slot->answer;
    if (b->figures.first_token <= 0)
        b->figures.first_token = clock_seconds();
    a->ids[a->count++] = id;
    if (slot->seen)
        slot->seen[id] |= SAMPLER_SEEN;
    for (uint64_t i = 0; i < q->n_eos; i++)
        if (q->eos[i] == (int64_t)id)
            return finish(b, s, BATCH_EOS);
    if (q->on_token && q->on_token(q->arg, s, id))
        finish(b, s, BATCH_STOP);
    else if (a->count == q->n)
        finish(b, s, full(q));
}

/* What comes of row i: its logits to whoever wants them, its token. */
static bool take_row(const struct picks *p, uint32_t i, struct tp_error *err)
{
    struct batch *b = p->batch;
    const struct step_row *row = wanted_row(b, p->first + i);
    const struct request *q = &b->slots[row->sequence].request;
    bool chosen = is_chosen_from(&b->slots[row->sequence], row->position);
    uint32_t id = b->picked[p->first + i];
    if (q->on_logits && !q->on_logits(q->arg, row->sequence, row->position,
                                      p->logits + i * engine_logit_stride(b->engine), err))
        return false;
    if (chosen && id == NONE && !pick_one(p, i, &b->samplers[0], &id, err)) /* to know why */
        return false;
    if (chosen)
        accept(b, row->sequence, id);
    return true;
}

static void fail(struct batch *b, uint32_t s, const struct tp_error *why)
{
    struct answer *answer = &b->slots[s].answer;
    finish(b, s, BATCH_FAILED);
    answer->error = mem_alloc(sizeof *answer->error, NULL);
    if (answer->error)
        *answer->error = *why;
}

/* Where it began, of a request that ended for that reason. The step is over: its rows are lost. */
static void say_layer(struct batch *b, uint32_t s)
{
    struct slot *slot = &b->slots[s];
    const struct tp_error *was = slot->answer.error;
    const uint32_t n_layers = (uint32_t)b->engine->bundle->model.n_layers;
    struct tp_error why = {0};
    uint32_t layer;
    if (!slot->wants_layer || !was)
        return;
    slot->wants_layer = false;
    if (!engine_find_nonfinite(b->engine, slot->failed, &layer))
        return;
    tp_fail(&why, was->code, "%s; not finite %s layer %u", was->text,
            layer < n_layers ? "at" : "at the norm behind", layer < n_layers ? layer : layer - 1);
    *slot->answer.error = why;
}

/* Of the wanted rows from p->first on, those that the device chose from; else a slice with its
 * logits, picked from. */
static bool next_rows(struct picks *p, struct tp_error *err)
{
    const struct batch *b = p->batch;
    const uint32_t n = engine_rows(b->engine)->n_logits;
    for (p->count = 0; p->first + p->count < n && b->picked[p->first + p->count] != NONE;)
        p->count++;
    if (p->count)
        return true;
    p->logits = engine_logits(b->engine, p->first, &p->count, err);
    if (!p->logits)
        return false;
    p->next = 0;
    pick(p);
    return true;
}

/* false: the device failed. *well: all requests went well. */
static bool take_logits(struct batch *b, bool *well, struct tp_error *err)
{
    const struct step *step = engine_rows(b->engine);
    struct picks p = {.batch = b};
    *well = true;
    for (; p.first < step->n_logits; p.first += p.count) {
        if (!next_rows(&p, err))
            return false;
        for (uint32_t i = 0; i < p.count; i++) {
            const struct step_row row = *wanted_row(b, p.first + i);
            uint32_t s = row.sequence;
            struct tp_error why = {0};
            if (b->slots[s].answer.finish != BATCH_GOING || take_row(&p, i, &why))
                continue;
            fail(b, s, &why);
            b->slots[s].wants_layer = why.code == TP_E_NAN;
            b->slots[s].failed = row;
            *well = false;
        }
    }
    return true;
}

static void set_cached(struct batch *b)
{
    const struct step *step = engine_rows(b->engine);
    for (uint32_t m = 0; m < step->n_rows; m++) {
        uint32_t s = step->rows[m].sequence;
        struct slot *slot = &b->slots[s];
        bool prompt = in_prompt(slot);
        slot->answer.n_cached = step->rows[m].position + 1;
        if (prompt && !in_prompt(slot)) {
            unlink_slot(b, &b->prompts, s);
            append(b, &b->answers, s);
        }
    }
}

/* Who was asked for no token is done with the prompt. */
static void end_prompts(struct batch *b)
{
    const struct step *step = engine_rows(b->engine);
    for (uint32_t m = 0; m < step->n_rows; m++) {
        const struct slot *slot = &b->slots[step->rows[m].sequence];
        if (slot->request.n == 0 && !in_prompt(slot) && slot->answer.finish == BATCH_GOING)
            finish(b, step->rows[m].sequence, full(&slot->request));
    }
}

static void count_figures(struct batch *b, uint32_t answers, uint32_t prompts, double seconds)
{
    struct batch_figures *f = &b->figures;
    f->answer_rows += answers;
    f->prompt_rows += prompts;
    if (prompts) {
        f->prompt_seconds += seconds;
        return;
    }
    f->plain_rows += answers;
    f->plain_steps++;
    f->plain_seconds += seconds;
}

/* Whatever ended is an answer once the weights are known to be what they were. */
static bool settle(struct batch *b, struct tp_error *err)
{
    if (b->ended && !engine_settle(b->engine, err))
        return false;
    b->ended = false;
    return true;
}

bool batch_step(struct batch *batch, bool *ran, struct tp_error *err)
{
    struct batch *b = batch;
    double start = clock_seconds();
    uint64_t allocations = mem_alloc_count();
    *ran = b->prompts.first != NONE || b->answers.first != NONE;
    if (!*ran)
        return settle(b, err);
    engine_begin(b->engine);
    uint32_t answers = add_answers(b), prompts = add_prompts(b);
    if (answers + prompts == 0)
        return tp_fail(err, TP_E_MEMORY, "the KV cache has no page left for any request");
    ask(b);
    if (!engine_step(b->engine, err))
        return false;
    set_cached(b);
    bool well;
    if (!take_logits(b, &well, err))
        return false;
    end_prompts(b);
    count_figures(b, answers, prompts, clock_seconds() - start);
    for (uint32_t s = 0; !well && s < b->n_slots; s++)
        say_layer(b, s);
    tp_assert(!well || allocations == mem_alloc_count());
    return settle(b, err);
}
