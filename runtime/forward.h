/* One step of the model: token rows in, residual stream through all layers, logits of the rows
 * asked for.
 *
 * All compute threads call it together and run the same phases; where the ranks need each other,
 * they meet (comm). With at least as many threads as ranks, rank r has threads [cut(T,r,TP),
 * cut(T,r+1,TP)), which share its work; with fewer, thread t runs ranks [cut(TP,t,T),
 * cut(TP,t+1,T)) in turn within each phase.
 */
#pragma once
#include "backend.h"
#include "trace.h"

struct forward {
    const struct model_config *model;
    const struct backend *backend;
    struct backend_rank **ranks; /* [comm->size] */
    struct comm *comm;
    int threads;
    double *rope; /* [head_dim / 2] radians per position */
    struct step step;
    struct trace *trace; /* NULL: off */
};

/* Which ranks a thread works for, and with which share of each. */
struct crew {
    struct range ranks;
    struct share share;
};
struct crew crew_of(uint64_t tp_size, int thread, int threads);

/* Collective over all compute threads: f->step through the model; the KV cache grows. */
void forward_step(struct forward *f, int thread);
/* Collective: logits of the step's slice into comm->logits. */
void forward_logits(struct forward *f, int thread);
