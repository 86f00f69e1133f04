/* A device: what runs the program of a step (forward.h) for its local ranks.
 *
 * It owns their weights as it wants them, KV cache, activations, and what they leave for each
 * other: rows, roots, logits. Nothing above it knows an address of any of that, how work is shared
 * among threads, or which instructions are used; what the host may read it asks for. How a device
 * does its work changes no bit of exact rows; what holds of spans says docs/numerics.md, section
 * 12.
 */
#pragma once
#include "comm.h"
#include "json.h"
#include "model.h"
#include "pin.h"
#include "rank_plan.h"
#include "step.h"
#include "weights.h"

struct device_setup {
    const struct model_config *model;
    const struct rank_plan *plans; /* [tp_size] */
    struct range ranks;            /* the local ones, of tp_size */
    struct comm *comm;             /* how they meet */
    struct team *team;             /* the host's threads */
    const struct pin *pin;         /* and where they are */
    const struct weights *weights; /* opened and bound: for a device that takes a copy */
    bool verify;                   /* and then checks it */
    double memory_fraction;        /* of a device's memory that may be planned */
    bool share;                    /* a GPU may have several ranks */
    uint32_t deadline;             /* seconds that a rank may be waited for; 0: the default */
    const char *isa;               /* the CPU's instruction set by name; NULL: the best there is */
    enum dtype kv_dtype;
    uint64_t rows_max;      /* of a step */
    uint64_t span_rows_max; /* of a span; 0: there are none */
    uint64_t n_pages;       /* of the KV cache, 256 positions of every layer each */
    uint64_t positions_max; /* of any sequence */
};

struct device_bytes { /* of a rank, beside its weights */
    uint64_t kv, activations;
};

struct device_plan { /* memory, in bytes */
    struct device_bytes ranks[PARTITION_TP_MAX];
    uint64_t shared;                      /* by the local ranks: of the first memory */
    uint32_t n_memories;                  /* one, or each GPU's */
    uint32_t memory_of[PARTITION_TP_MAX]; /* which one a rank is in */
    uint64_t available[PARTITION_TP_MAX]; /* [n_memories] for all that is in it, weights too */
    uint64_t allowed;                     /* to allocate, for all but mapped weights */
};

/* What starting took, in order, beside what the engine measures. */
enum { DEVICE_TIMES_MAX = 8 };
struct device_time {
    const char *what; /* NULL ends the list */
    double seconds;
};

struct device {
    const struct device_type *type;
    const char *kernels; /* which of its instructions it uses: "avx512" */
    uint64_t logit_stride;
    struct device_plan used; /* as allocated */
    struct device_time times[DEVICE_TIMES_MAX];
};

struct device_type {
    const char *name;
    bool copies;  /* its weights are a copy, which it checks itself */
    bool chooses; /* tokens, where a step has choices */
    /* Prompts with more tokens than this may be run in spans, in 16-bit arithmetic; 0: there is no
     * fast mode. */
    uint32_t fast_above;
    const uint32_t *chunks; /* rows of a span, but for a prompt's last: rising, 0 ends the list */
    /* What there is of it, as an object that the caller owns: texts, numbers, null for "none",
     * lists of these or of objects; sizes have keys that end in "_bytes". NULL: the errors of plan
     * where there is no such device; TP_E_MEMORY. */
    json_t *(*info)(struct tp_error *err);
    /* TP_E_ISA: there is no such instruction set here. */
    bool (*check_isa)(const char *isa, struct tp_error *err);
    /* What open will allocate. TP_E_LIMIT where a size does not fit in 64 bits; TP_E_UNSUPPORTED
     * where there is no such device, or it cannot run the model. */
    bool (*plan)(const struct device_setup *setup, struct device_plan *plan, struct tp_error *err);
    /* The weights of the local ranks are borrowed until close. NULL: TP_E_MEMORY, TP_E_DEVICE,
     * TP_E_SHARD_HASH. */
    struct device *(*open)(const struct device_setup *setup, struct tp_error *err);
    void (*close)(struct device *device);
    void (*stop)(void); /* after plan, and whatever came of it; NULL: nothing to do */
    /* What computes, of every local rank: kernels and floating-point mode. */
    void (*introduce)(struct device *device, struct comm_hello *hellos);
    /* The step through all layers, and the first of its logits, or the tokens that it can choose;
     * the KV cache grows. TP_E_DEVICE: it has failed for good. */
    bool (*step)(struct device *device, const struct step *step, struct tp_error *err);
    /* Logits of the wanted rows from `first` on: *count of them, [*count][logit_stride]. Until the
     * next call. NULL: TP_E_DEVICE. */
    const float *(*logits)(struct device *device, const struct step *step, uint32_t first,
                           uint32_t *count, struct tp_error *err);
    /* The residual stream of a row, or its normed state, to the host: out [hidden]. Where that
     * fails the step does. */
    void (*read_row)(const struct device *device, const struct step *step, uint32_t row,
                     bool normed, float *out);
    /* Zero a KV page of all layers before another sequence gets it. */
    void (*clear_page)(struct device *device, uint32_t page);
};

extern const struct device_type device_cpu, device_cuda;
