/* The only seam between the forward pass and a device: one function per fused phase, for one rank.
 *
 * A backend owns the memory of its ranks (cache and activations) and never shows an address of it.
 * Phases are called by several threads at once: thread `share.part` of `share.parts` does that part
 * of the rank's work, and how the work is cut changes no bit. Between two phases all threads of all
 * ranks meet (comm.h), so a phase may read what any rank wrote in an earlier one.
 */
#pragma once
#include "comm.h"
#include "kernels.h"
#include "model.h"
#include "step.h"

struct share {
    uint64_t part, parts;
};

/* What decides a rank's memory beside its weights. */
struct backend_setup {
    const struct kernels *kernels;
    struct comm *comm;
    enum dtype kv_dtype;
    uint64_t rows_max;  /* of a step */
    uint64_t n_pages;   /* of the KV cache, 256 positions of every layer each */
    uint64_t parts_max; /* threads that share a rank */
};

struct backend_bytes {
    uint64_t kv, activations;
};

struct backend_rank;

typedef void backend_phase(struct backend_rank *rank, const struct step *step, uint32_t layer,
                           struct share share);

struct backend {
    const char *name;
    /* What open will allocate. TP_E_LIMIT where a size does not fit in 64 bits. */
    bool (*plan)(const struct model_config *model, const struct partition *partition,
                 const struct backend_setup *setup, struct backend_bytes *bytes,
                 struct tp_error *err);
    /* weights is borrowed until close. *bytes: what was allocated. NULL: TP_E_MEMORY. */
    struct backend_rank *(*open)(const struct rank_weights *weights,
                                 const struct backend_setup *setup, struct backend_bytes *bytes,
                                 struct tp_error *err);
    void (*close)(struct backend_rank *rank);
    /* Zero a KV page of all layers before another sequence gets it. */
    void (*clear_page)(struct backend_rank *rank, uint32_t page);
    /* The residual stream of a row this rank answers for, to the host: out [hidden]; and its normed
     * state. */
    void (*read_residual)(const struct backend_rank *rank, const struct step *step, uint32_t row,
                          float *out);
    void (*read_normed)(const struct backend_rank *rank, const struct step *step, uint32_t row,
                        float *out);

    /* in model order; layer is ignored outside the layers */
    backend_phase *embed;       /* rows of the tokens this rank owns, to everyone */
    backend_phase *enter;       /* residual = embedding; normed = norm(residual) */
    backend_phase *qkv;         /* q, k, v = normed x weights, scale, bias */
    backend_phase *rope_append; /* QK norm, RoPE; k and v into the cache */
    backend_phase *attention;
    backend_phase *o_proj;           /* leaves, folded to the rank's roots */
    backend_phase *reduce_attention; /* all ranks' roots folded, scale, bias, residual, MLP norm */
    backend_phase *gate_up;          /* silu(gate) * up */
    backend_phase *down;             /* leaves, folded to the rank's roots */
    backend_phase *reduce_mlp; /* the same as above; the next layer's norm, or the final one */
    backend_phase *logits;     /* the vocabulary rows of this rank, for the step's slice */
};

extern const struct backend backend_cpu;
