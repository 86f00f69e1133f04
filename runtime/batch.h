/* Requests in slots: prompts through the model in chunks, in the order in which they came; answers
 * a token a step, all together, beside the prompts. What a request is answered depends on it alone:
 * not on its slot, nor on who else is there. A step allocates nothing (asserted).
 *
 * An answer that has ended counts when batch_step has returned true: then the rank files were
 * looked at (engine_settle). Before that no text of a step is to be shown, and nothing published.
 *
 * Where the engine has spans, a prompt with more than the device's fast_above tokens left is run
 * fast, in chunks of its own, unless it is asked to be exact.
 */
#pragma once
#include "engine.h"
#include "sampler.h"

enum batch_finish {
    BATCH_GOING,
    BATCH_EOS,     /* an end token, the last of ids */
    BATCH_STOP,    /* on_token said so */
    BATCH_LENGTH,  /* as many as asked for */
    BATCH_CONTEXT, /* as many as there was room for */
    BATCH_INTERRUPTED,
    BATCH_FAILED, /* the answer's error says why; the others go on */
    BATCH_FINISHES,
};
const char *batch_finish_name(enum batch_finish finish);

struct request {
    uint64_t stream;     /* the sampler's: a number of the request's own */
    const uint32_t *ids; /* [n_ids] the prompt, at least one; borrowed until removed */
    uint32_t n_ids;
    uint32_t n_cached; /* below n_ids: so many of them the slot's cache holds already */
    uint32_t n;        /* new tokens at most; 0: the prompt is run and nothing chosen */
    bool cut;          /* n is what there is room for, fewer than were asked for */
    bool exact;        /* not fast, however long the prompt is */
    struct sampler_options sampling; /* has passed sampler_check */
    const int64_t *eos;              /* [n_eos]; borrowed, as marks */
    uint64_t n_eos;                  /* 0: no token ends the answer */
    const uint8_t *marks; /* [vocab] enum sampler_marks: what is never picked; NULL: all may be */
    /* A new token, not an end token; to be shown when batch_step has returned true. true: the
     * answer ends here. */
    bool (*on_token)(void *arg, uint32_t slot, uint32_t id);
    /* Logits [vocab] of every position that is run, in order; where it is NULL, only those that
     * tokens are chosen from are computed. */
    bool (*on_logits)(void *arg, uint32_t slot, uint32_t position, const float *logits,
                      struct tp_error *err);
    void *arg;
};

struct answer {
    uint32_t *ids; /* [count] the new ones */
    uint32_t count;
    uint32_t n_cached; /* positions whose keys and values the cache holds */
    enum batch_finish finish;
    struct tp_error *error; /* of one that failed: TP_E_NAN, or on_logits' */
};

struct batch_figures { /* so far */
    uint64_t prompt_rows, answer_rows;
    double prompt_seconds;            /* of steps with prompts, answers beside them or not */
    uint64_t plain_rows, plain_steps; /* of answers alone */
    double plain_seconds;
    double first_token; /* clock_seconds; 0: none yet */
};

struct batch {
    struct engine *engine;
    uint64_t chunk; /* rows of exact prompts in a step; of a fast one in a span, but its last */
    struct slot *slots;
    uint32_t n_slots;
    struct slot_list {
        uint32_t first, last; /* slots, as they came; UINT32_MAX: none */
    } prompts, answers;       /* that are going */
    struct sampler *samplers; /* [n_samplers] one for each thread that can have a row */
    int n_samplers;
    bool ended;                     /* an answer has, and was not settled */
    struct sampler_choice *choices; /* [rows_max] of the step's wanted rows */
    uint32_t *picked;               /* [rows_max] and the tokens */
    struct batch_figures figures;
};

/* Slots are the engine's sequences. A {0} batch may be closed. */
bool batch_open(struct batch *batch, struct engine *engine, uint64_t chunk, struct tp_error *err);
void batch_close(struct batch *batch);
/* Into a slot, which must be free: the lowest that is, or with `slot` not UINT32_MAX that one.
 * Returns it; UINT32_MAX: TP_E_LIMIT, none is free; TP_E_MEMORY. */
uint32_t batch_add(struct batch *batch, const struct request *request, uint32_t slot,
                   struct tp_error *err);
/* One step. *ran false: nobody has anything left to do. Errors TP_E_MEMORY: nobody can go on, the
 * KV cache is full; those of engine_step and engine_settle. An error of one request is its own. */
bool batch_step(struct batch *batch, bool *ran, struct tp_error *err);
/* What came of a request so far; until it is removed. */
const struct answer *batch_answer(const struct batch *batch, uint32_t slot);
/* The request has not failed; else its error. */
bool batch_check(const struct batch *batch, uint32_t slot, struct tp_error *err);
/* All that are going end here; a last batch_step settles what they have. */
void batch_interrupt(struct batch *batch);
/* Free the slot, whatever its state. keep: the cache holds what it holds, for n_cached of the next
 * request there. */
void batch_remove(struct batch *batch, uint32_t slot, bool keep);
