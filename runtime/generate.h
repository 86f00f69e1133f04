/* The generation loop: prompts through the model in chunks, in order; then all live sequences
 * together, a token of each per step. What a sequence says does not depend on its company. Nothing
 * is allocated after the first token (asserted).
 */
#pragma once
#include "report.h"
#include "prompts.h"
#include "sampler.h"

enum generate_finish {
    GENERATE_GOING,
    GENERATE_EOS,    /* the model's end token, the last of ids */
    GENERATE_STOP,   /* on_token said so */
    GENERATE_LENGTH, /* as many as asked for, or as fit */
    GENERATE_INTERRUPTED,
};
const char *generate_finish_name(enum generate_finish finish);
extern const char generate_interrupted[]; /* what an error of TP_E_INTERRUPTED says */

struct generate_sequence {
    uint32_t *ids; /* [count] the new ones */
    uint32_t count;
    uint32_t n_cached; /* positions whose keys and values the cache holds */
    enum generate_finish finish;
    const uint8_t *marks; /* [vocab] enum sampler_marks, NULL where none has one */
    uint8_t *seen;        /* the same, where the repetition penalty marks what was said; or NULL */
};

struct generate {
    /* given */
    const struct prompts *prompts;
    const struct tokenizer *tokenizer; /* what is no token of it is not drawn; NULL: all may be */
    struct sampler_options sampling;   /* has passed sampler_check */
    const int64_t *eos;
    uint64_t n_eos; /* 0: no token ends a sequence */
    uint64_t chunk; /* rows of a prefill step */
    struct report *report;
    const _Atomic int *interrupted; /* not 0: end after this step */
    /* A new token of sequence s, not an end token. true: the text ends here. */
    bool (*on_token)(void *arg, uint32_t s, uint32_t id);
    /* After every step. */
    bool (*on_step)(void *arg, struct tp_error *err);
    void *arg;
    /* the loop's own */
    struct generate_sequence *sequences; /* [prompts->count] */
    struct sampler sampler;
    uint64_t allocations; /* mem_alloc_count at the first token */
    struct mem_arena arena;
};

/* The rest of a struct whose given part is filled. A {0} generate may be freed. */
bool generate_init(struct generate *generate, uint64_t vocab, struct tp_error *err);
void generate_free(struct generate *generate);
/* For engine_run; arg is the struct generate. Errors TP_E_NAN, TP_E_INTERRUPTED, on_step's. */
bool generate_drive(struct engine *engine, void *arg, struct tp_error *err);
