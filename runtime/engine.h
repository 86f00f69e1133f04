/* A bundle ready to run: weights of all ranks, backend, KV cache and the team of compute threads.
 *
 * Thread 0 drives: it fills a step row by row, runs it, and reads logits; the others wait for it.
 * All memory is planned, compared with what there is, and allocated by engine_open.
 */
#pragma once
#include "bundle.h"
#include "forward.h"
#include "kv_cache.h"
#include "weights.h"

struct engine_setup {
    int threads;
    const struct kernels *kernels;
    enum dtype kv_dtype;
    uint32_t rows_max; /* of a step */
    uint32_t n_sequences, n_pages;
    const uint64_t *positions_max; /* [n_sequences] */
    bool verify;                   /* hash all data before use */
    bool files;                    /* the travelling files too: not before a bundle is complete */
    bool trace;
};

/* Bytes, planned and as allocated. */
struct engine_memory {
    uint64_t weights, kv, activations; /* of a rank */
};

enum engine_command { ENGINE_STEP, ENGINE_LOGITS, ENGINE_STOP };
struct engine;
/* What thread 0 does with the team. */
typedef bool engine_driver(struct engine *engine, void *arg, struct tp_error *err);

struct engine {
    const struct bundle *bundle;
    struct engine_setup setup;
    struct weights weights;
    struct backend_rank *ranks[PARTITION_TP_MAX];
    struct comm comm;
    struct kv_cache cache;
    struct forward forward;
    struct trace trace;
    struct comm_hello hellos[PARTITION_TP_MAX];
    struct hash128 config_hash, rank_map_hash;
    struct engine_memory planned[PARTITION_TP_MAX], used[PARTITION_TP_MAX];
    uint64_t shared_planned, shared_used;            /* exchange buffers */
    double map_seconds, hash_seconds, alloc_seconds; /* how long each took */
    /* the team */
    struct barrier start;
    enum engine_command command;
    engine_driver *driver;
    void *driver_arg;
    struct tp_error *driver_err;
    bool driver_ok;
};

/* bundle and setup's arrays are borrowed until close. Errors beside those of files: TP_E_LIMIT,
 * TP_E_MEMORY where the plan exceeds what there is (both numbers named). A {0} engine may be
 * closed. */
bool engine_open(struct engine *engine, const struct bundle *bundle,
                 const struct engine_setup *setup, struct tp_error *err);
void engine_close(struct engine *engine);
/* Start the team, shake hands, run driver on thread 0. */
bool engine_run(struct engine *engine, engine_driver *driver, void *arg, struct tp_error *err);

/* ---- for the driver ---- */

void engine_begin(struct engine *engine);
/* Add a row to the step. false: the step is full, or the KV cache has no page for it. */
bool engine_add(struct engine *engine, struct step_row row, bool wants_logits);
void engine_step(struct engine *engine);
/* Logits of the wanted rows from `first` on: *count of them, [*count][stride]. Valid until the next
 * call. */
const float *engine_logits(struct engine *engine, uint32_t first, uint32_t *count);
static inline uint64_t engine_logit_stride(const struct engine *engine)
{
    return engine->comm.logit_stride;
}
