/* One step of the forward pass: a batch of rows, each a token of a sequence at a position. Rows of
 * one sequence that lie side by side have ascending positions. Who fills it knows nothing of ranks.
 *
 * Exact rows come first; then, on a device that has a fast mode, spans: rows of one sequence at
 * neighbouring positions, each span run by itself, after all that stands before it.
 */
#pragma once
#include "partition.h"
#include <stdint.h>

/* Up to so many rows every rank folds all of them itself; beyond, rank j folds the rows it owns. */
enum { STEP_ONE_SHOT_ROWS = 16 };

struct step_row {
    uint32_t sequence, position, token;
};

struct step_span {
    uint32_t first, n_rows; /* rows of the step */
};

struct step {
    uint32_t n_rows;
    struct step_row *rows;  /* [n_rows] */
    uint32_t *const *pages; /* [sequence][position / 256]: KV pages */
    uint32_t n_logits;
    uint32_t *logit_rows; /* [n_logits] rows whose logits are wanted, ascending */
    uint32_t n_spans;
    struct step_span *spans; /* [n_spans] */
    /* The tokens that are to be chosen from them, [n_logits]; NULL: none is. A device that can
     * puts the ids into chosen, which is all STEP_HOST_CHOOSES before. */
    const struct sampler_choice *choices;
    uint32_t *chosen;
    /* After each layer, and with n_layers behind the last, where the device's read_row is allowed.
     * NULL: nobody watches. */
    void (*after_layer)(void *arg, uint32_t layer);
    void *after_layer_arg;
};

enum { STEP_HOST_CHOOSES = UINT32_MAX };

/* The rows before the spans, as a step. */
static inline struct step step_exact(const struct step *step)
{
    struct step exact = *step;
    exact.n_rows = step->n_spans ? step->spans[0].first : step->n_rows;
    exact.n_spans = 0;
    while (exact.n_logits && exact.logit_rows[exact.n_logits - 1] >= exact.n_rows)
        exact.n_logits--;
    return exact;
}

static inline bool step_one_shot(const struct step *step)
{
    return step->n_rows <= STEP_ONE_SHOT_ROWS;
}

/* The rows whose residual stream this rank answers for. */
static inline struct range step_rows_of(const struct step *step, uint64_t rank, uint64_t tp_size)
{
    return (struct range){cut(step->n_rows, rank, tp_size), cut(step->n_rows, rank + 1, tp_size)};
}
