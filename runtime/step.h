/* One step of the forward pass: a batch of rows, each a token of a sequence at a position. Rows of
 * one sequence that lie side by side have ascending positions. Who fills it knows nothing of ranks.
 */
#pragma once
#include "partition.h"
#include <stdint.h>

/* Up to so many rows every rank folds all of them itself; beyond, rank j folds the rows it owns. */
enum { STEP_ONE_SHOT_ROWS = 16 };

struct step_row {
    uint32_t sequence, position, token;
};

struct step {
    uint32_t n_rows;
    struct step_row *rows;  /* [n_rows] */
    uint32_t *const *pages; /* [sequence][position / 256]: KV pages */
    uint32_t n_logits;
    uint32_t *logit_rows; /* [n_logits] rows whose logits are wanted, ascending */
    /* The tokens that are to be chosen from them, [n_logits]; NULL: none is. A device that can
     * puts the ids into chosen, which is all STEP_HOST_CHOOSES before. */
    const struct sampler_choice *choices;
    uint32_t *chosen;
};

enum { STEP_HOST_CHOOSES = UINT32_MAX };

static inline bool step_one_shot(const struct step *step)
{
    return step->n_rows <= STEP_ONE_SHOT_ROWS;
}

/* The rows whose residual stream this rank answers for. */
static inline struct range step_rows_of(const struct step *step, uint64_t rank, uint64_t tp_size)
{
    return (struct range){cut(step->n_rows, rank, tp_size), cut(step->n_rows, rank + 1, tp_size)};
}
