/* A bundle ready to run: weights of all ranks, a device, the KV cache, a team of threads.
 *
 * Whoever drives it fills a step row by row, runs it, and reads logits, always from one thread. All
 * memory is planned, compared with what there is, and allocated by engine_open.
 */
#pragma once
#include "bundle.h"
#include "device.h"
#include "kv_cache.h"
#include "pin.h"
#include "read_ahead.h"
#include "trace.h"
#include "weights.h"

struct engine_setup {
    const struct device_type *device;
    const char *isa; /* the CPU's instruction set; NULL: the best */
    int threads;
    enum pin_mode pin; /* of the threads, where the CPU computes */
    enum dtype kv_dtype;
    uint32_t rows_max;      /* of a step */
    uint32_t span_rows_max; /* of a span; 0: no prompt is run fast */
    uint32_t n_sequences, n_pages;
    const uint64_t *positions_max; /* [n_sequences] */
    bool verify;                   /* hash all data before anything that comes of it is seen */
    bool hash_first;               /* before the first step, not in it: where it is waited for */
    bool files;                    /* the travelling files too: not before a bundle is complete */
    bool trace;
    double memory_fraction; /* of a GPU's memory */
    bool share;             /* a GPU may have several ranks */
    uint32_t deadline;      /* seconds that a rank may be waited for; 0: the default */
};

/* Bytes, planned and as allocated. */
struct engine_memory {
    uint64_t weights, kv, activations; /* of a rank */
};

struct engine {
    const struct bundle *bundle;
    struct engine_setup setup;
    struct team team;
    struct comm comm;
    struct pin pin;
    struct weights weights;
    struct read_ahead ahead; /* of the weights */
    struct device *device;
    struct kv_cache cache;
    struct step step;
    struct trace trace;
    uint64_t steps; /* so far */
    bool mapped;    /* steps read weights from the files themselves */
    double look_at; /* when to look at them next, clock_seconds */
    struct engine_memory planned[PARTITION_TP_MAX], used[PARTITION_TP_MAX];
    uint64_t shared_planned;                         /* of all ranks together */
    double map_seconds, hash_seconds, alloc_seconds; /* how long each took */
};

/* bundle and setup's arrays are borrowed until close. Errors beside those of files: TP_E_LIMIT,
 * TP_E_MEMORY where the plan exceeds what there is (both numbers named), TP_E_HANDSHAKE. A {0}
 * engine may be closed. */
bool engine_open(struct engine *engine, const struct bundle *bundle,
                 const struct engine_setup *setup, struct tp_error *err);
void engine_close(struct engine *engine);

/* Can prompts be run fast? */
static inline bool engine_has_fast(const struct device_type *device, const struct bundle *bundle)
{
    return device->fast_above && bundle->recipe.dtype != DTYPE_F32;
}

/* An empty step. */
void engine_begin(struct engine *engine);
/* Add a row to the step. false: the step is full, or the KV cache has no page for it. */
bool engine_add(struct engine *engine, struct step_row row, bool wants_logits);
/* The next n_rows rows will be a span, the first at `position`. false: not all of them can be
 * added. */
bool engine_begin_span(struct engine *engine, uint32_t sequence, uint32_t position,
                       uint32_t n_rows);
/* The device may choose tokens, where it can: choices, chosen [n_logits] as in step.h; borrowed
 * until the next step begins. */
void engine_choose(struct engine *engine, const struct sampler_choice *choices, uint32_t *chosen);
/* TP_E_DEVICE: nothing more can be run. TP_E_CHANGED: a rank file was, within about a second. */
bool engine_step(struct engine *engine, struct tp_error *err);
/* What steps have computed so far is of the weights that were checked; else TP_E_CHANGED, or
 * TP_E_SHARD_HASH. Before an answer is one. */
bool engine_settle(struct engine *engine, struct tp_error *err);
/* The layer behind which a row of an earlier step is not finite, n_layers: only once it is normed.
 * It is run again by itself, as the step's only row. false: it is not found. */
bool engine_find_nonfinite(struct engine *engine, struct step_row row, uint32_t *layer);
/* The rows of the step, and those of them whose logits are wanted. */
static inline const struct step *engine_rows(const struct engine *engine)
{
    return &engine->step;
}
/* Logits of the wanted rows from `first` on: *count of them, [*count][stride]. Valid until the next
 * call. NULL: TP_E_DEVICE. */
const float *engine_logits(struct engine *engine, uint32_t first, uint32_t *count,
                           struct tp_error *err);
static inline uint64_t engine_logit_stride(const struct engine *engine)
{
    return engine->device->logit_stride;
}
/* Forget what a sequence has at `positions` and after; 0: all of it. */
void engine_forget(struct engine *engine, uint32_t sequence, uint64_t positions);
