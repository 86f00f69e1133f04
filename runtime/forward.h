/* A step as a program: what every rank does, in order, and what must be readable by whom
 * afterwards. A device walks it: with its threads, or once, to learn what to replay.
 */
#pragma once
#include "comm.h"
#include "step.h"

enum phase {
    PHASE_EMBED,       /* rows of the tokens this rank owns, to everyone */
    PHASE_ENTER,       /* residual = embedding; normed = norm(residual) */
    PHASE_QKV,         /* q, k, v = normed x weights, scale, bias */
    PHASE_ROPE_APPEND, /* QK norm, RoPE; k and v into the cache */
    PHASE_ATTENTION,
    PHASE_O_PROJ,           /* leaves, folded to the rank's roots */
    PHASE_REDUCE_ATTENTION, /* all ranks' roots folded, scale, bias, residual, the next norm */
    PHASE_GATE_UP,          /* silu(gate) * up */
    PHASE_DOWN,             /* leaves, folded to the rank's roots */
    PHASE_REDUCE_MLP,       /* as above */
    PHASE_LOGITS,           /* the vocabulary rows of this rank */
    PHASES,
};

struct op {
    enum phase phase;
    enum comm_what then;
    uint32_t layer; /* outside the layers of no meaning */
    uint32_t norm;  /* that ENTER and the reductions apply next, rank_norm's index */
};

struct walker {
    void (*run)(void *arg, const struct op *op);
    void (*meet)(void *arg, enum comm_what what);
    void (*after_layer)(void *arg, uint32_t layer); /* NULL: nothing */
    void *arg;
};

/* The step through these layers; with logits wanted, those of the first slice. */
void forward_walk(const struct step *step, struct range layers, const struct walker *walker);
/* The LM head alone. */
void forward_walk_logits(const struct walker *walker);
