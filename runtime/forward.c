#include "forward.h"

/* Which norm comes next: the MLP's of this layer, or the one that begins the next (the model's
 * last, behind all). */
enum { NORM_MLP = 1, NORM_NEXT = 2 };

static const struct {
    enum phase phase;
    enum comm_what then;
    uint32_t norm;
} layer_program[] = {
    {PHASE_QKV, COMM_CREW, 0},
    {PHASE_ROPE_APPEND, COMM_CREW, 0},
    {PHASE_ATTENTION, COMM_CREW, 0},
    {PHASE_O_PROJ, COMM_ROOTS, 0},                 /* all-reduce: roots out, ... */
    {PHASE_REDUCE_ATTENTION, COMM_ROWS, NORM_MLP}, /* ... normed rows back */
    {PHASE_GATE_UP, COMM_CREW, 0},
    {PHASE_DOWN, COMM_ROOTS, 0}, /* all-reduce */
    {PHASE_REDUCE_MLP, COMM_ROWS, NORM_NEXT},
};

static void run(const struct walker *w, enum phase phase, enum comm_what then, uint32_t layer,
                uint32_t norm)
{
    const struct op op = {phase, then, layer, norm};
    w->run(w->arg, &op);
    w->meet(w->arg, then);
}

void forward_walk(const struct step *step, struct range layers, const struct walker *walker)
{
    enum { N = sizeof layer_program / sizeof *layer_program };
    /* in a one-shot step every crew has all rows: there is nothing to bring back */
    const enum comm_what rows = step_one_shot(step) ? COMM_CREW : COMM_ROWS;
    uint32_t first = (uint32_t)layers.begin;
    run(walker, PHASE_EMBED, COMM_ROWS, first, 0); /* each row from the owner of its token */
    run(walker, PHASE_ENTER, rows, first, NORM_NEXT * first);
    for (uint32_t layer = first; layer < layers.end; layer++) {
        for (int i = 0; i < N; i++)
            run(walker, layer_program[i].phase,
                layer_program[i].then == COMM_ROWS ? rows : layer_program[i].then, layer,
                2 * layer + layer_program[i].norm);
        if (walker->after_layer)
            walker->after_layer(walker->arg, layer);
    }
    if (step->n_logits)
        forward_walk_logits(walker);
}

void forward_walk_logits(const struct walker *walker)
{
    run(walker, PHASE_LOGITS, COMM_LOGITS, 0, 0); /* gather: every rank's part of the vocabulary */
}
