#include "engine.h"

#include "checked.h"
#include "host.h"
#include "rope.h"
#include <immintrin.h>
#include <string.h>

/* The LM head runs over as many rows at a time as this holds. */
enum { LOGIT_SLICE_BYTES = 16 << 20 };

/* ---- the plan ---- */

static uint64_t slice_max(const struct model_config *model, uint64_t rows_max)
{
    uint64_t rows = LOGIT_SLICE_BYTES / (model->vocab * sizeof(float));
    rows = rows < rows_max ? rows : rows_max;
    return rows ? rows : 1;
}

static struct backend_setup backend_setup_of(struct engine *e)
{
    uint64_t threads = (uint64_t)e->setup.threads;
    return (struct backend_setup){
        .kernels = e->setup.kernels,
        .comm = &e->comm,
        .kv_dtype = e->setup.kv_dtype,
        .rows_max = e->setup.rows_max,
        .n_pages = e->setup.n_pages,
        .parts_max = div_ceil(threads, e->bundle->tp_size),
    };
}

static bool plan_memory(struct engine *e, const struct bundle *bundle, struct tp_error *err)
{
    const struct backend_setup setup = backend_setup_of(e);
    uint64_t total, fresh;
    if (!comm_bytes(&bundle->model, bundle->tp_size, setup.rows_max,
                    slice_max(&bundle->model, setup.rows_max), &e->shared_planned, err))
        return false;
    total = fresh = e->shared_planned;
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        struct backend_bytes bytes;
        uint64_t decoded = weights_decoded_bytes(bundle, r);
        if (!e->forward.backend->plan(&bundle->model, &bundle->plans[r].partition, &setup, &bytes,
                                      err))
            return false;
        e->planned[r] = (struct engine_memory){decoded ? decoded : bundle->ranks[r].file_bytes,
                                               bytes.kv, bytes.activations};
        fresh += decoded;
        if (!tp_add(fresh, bytes.kv, &fresh) || !tp_add(fresh, bytes.activations, &fresh) ||
            !tp_add(total, e->planned[r].weights, &total) || !tp_add(total, bytes.kv, &total) ||
            !tp_add(total, bytes.activations, &total))
            return tp_fail(err, TP_E_LIMIT, "%s: the memory planned does not fit in 64 bits",
                           bundle->dir);
    }
    uint64_t available = host_memory_available(), limit = host_memory_limit();
    if (total > available)
        return tp_fail(err, TP_E_MEMORY, "%s: %llu bytes of memory needed, %llu available",
                       bundle->dir, (unsigned long long)total, (unsigned long long)available);
    if (fresh > limit)
        return tp_fail(err, TP_E_MEMORY, "%s: %llu bytes to allocate, %llu allowed", bundle->dir,
                       (unsigned long long)fresh, (unsigned long long)limit);
    return true;
}

/* ---- opening ---- */

static bool hash_config(struct engine *e, struct tp_error *err)
{
    const struct bundle *b = e->bundle;
    json_t *model = model_config_to_json(&b->model, err);
    size_t n;
    char *text = model ? json_text(model, &n, err) : NULL;
    json_decref(model);
    if (!text)
        return false;
    struct hash_stream stream;
    const uint32_t recipe[3] = {(uint32_t)b->recipe.dtype, (uint32_t)b->recipe.quant,
                                (uint32_t)e->setup.kv_dtype};
    hash_start(&stream);
    hash_add(&stream, text, n);
    hash_add(&stream, recipe, sizeof recipe);
    e->config_hash = hash_end(&stream);
    mem_free(text);
    hash_start(&stream);
    for (uint64_t r = 0; r < b->tp_size; r++) {
        const struct partition *p = &b->plans[r].partition;
        const struct range ranges[3] = {p->attention_leaves, p->mlp_leaves, p->panels};
        hash_add(&stream, ranges, sizeof ranges);
    }
    e->rank_map_hash = hash_end(&stream);
    return true;
}

static bool open_step(struct engine *e, struct tp_error *err)
{
    struct forward *f = &e->forward;
    uint64_t half = f->model->head_dim / 2, rows = e->setup.rows_max;
    f->rope = mem_array(half, sizeof *f->rope, err);
    f->step.rows = mem_array(rows, sizeof *f->step.rows, err);
    f->step.cos = mem_array(rows * half, sizeof *f->step.cos, err);
    f->step.sin = mem_array(rows * half, sizeof *f->step.sin, err);
    f->step.logit_rows = mem_array(rows, sizeof *f->step.logit_rows, err);
    if (!f->rope || !f->step.rows || !f->step.cos || !f->step.sin || !f->step.logit_rows)
        return false;
    rope_frequencies(f->model, f->rope);
    f->step.pages = e->cache.pages;
    return true;
}

static bool open_ranks(struct engine *e, struct tp_error *err)
{
    const struct backend_setup setup = backend_setup_of(e);
    const struct model_config *model = &e->bundle->model;
    if (!comm_open_threads(&e->comm, model, e->bundle->tp_size, setup.rows_max,
                           slice_max(model, setup.rows_max), e->setup.threads, err))
        return false;
    e->shared_used = e->comm.memory_bytes;
    for (uint64_t r = 0; r < e->bundle->tp_size; r++) {
        struct backend_bytes bytes;
        e->ranks[r] = e->forward.backend->open(&e->weights.ranks[r], &setup, &bytes, err);
        if (!e->ranks[r])
            return false;
        e->used[r] = (struct engine_memory){e->weights.decoded[r] ? e->weights.decoded_bytes[r]
                                                                  : e->weights.shards[r].file_bytes,
                                            bytes.kv, bytes.activations};
    }
    return true;
}

bool engine_open(struct engine *engine, const struct bundle *bundle,
                 const struct engine_setup *setup, struct tp_error *err)
{
    struct engine *e = engine;
    *e = (struct engine){.bundle = bundle, .setup = *setup};
    e->forward = (struct forward){
        .model = &bundle->model,
        .backend = &backend_cpu,
        .ranks = e->ranks,
        .comm = &e->comm,
        .threads = setup->threads,
        .trace = setup->trace ? &e->trace : NULL,
    };
    barrier_init(&e->start, setup->threads);
    double t0 = host_seconds();
    bool ok = weights_open(&e->weights, bundle, err) && plan_memory(e, bundle, err);
    double t1 = host_seconds();
    ok = ok && (!setup->verify || !setup->files || bundle_check_files(bundle, err)) &&
         weights_load(&e->weights, bundle, setup->threads, setup->verify, err);
    double t2 = host_seconds();
    ok = ok && hash_config(e, err) && open_ranks(e, err) &&
         kv_cache_init(&e->cache, setup->n_sequences, setup->positions_max, setup->n_pages, err) &&
         open_step(e, err);
    if (ok && setup->trace)
        ok = trace_init(&e->trace, setup->n_sequences, bundle->model.n_layers, bundle->model.hidden,
                        err);
    e->map_seconds = t1 - t0;
    e->hash_seconds = t2 - t1;
    e->alloc_seconds = host_seconds() - t2;
    if (!ok)
        engine_close(e);
    return ok;
}

void engine_close(struct engine *engine)
{
    struct engine *e = engine;
    for (int r = 0; r < PARTITION_TP_MAX; r++)
        if (e->ranks[r])
            e->forward.backend->close(e->ranks[r]);
    mem_free(e->forward.rope);
    mem_free(e->forward.step.rows);
    mem_free(e->forward.step.cos);
    mem_free(e->forward.step.sin);
    mem_free(e->forward.step.logit_rows);
    kv_cache_free(&e->cache);
    comm_close(&e->comm);
    trace_free(&e->trace);
    weights_close(&e->weights);
    *e = (struct engine){0};
}

/* ---- the team ---- */

static void say_hello(struct engine *e, uint64_t r)
{
    struct comm_hello *hello = &e->hellos[r];
    *hello = (struct comm_hello){
        .format_version = SHARD_VERSION,
        .tp_size = (uint32_t)e->weights.ranks[r].partition.tp_size,
        .rank = (uint32_t)e->weights.ranks[r].partition.rank,
        .mxcsr = _mm_getcsr(),
        .bundle_id = e->weights.shards[r].head.bundle_id,
        .rank_map = e->rank_map_hash,
        .config = e->config_hash,
    };
    strncpy(hello->kernels, e->setup.kernels->name, sizeof hello->kernels - 1);
}

static void run_command(struct engine *e, int thread)
{
    if (e->command == ENGINE_STEP)
        forward_step(&e->forward, thread);
    else
        forward_logits(&e->forward, thread);
}

static void drive(struct engine *e)
{
    e->driver_ok = comm_handshake(e->hellos, e->comm.size, e->driver_err) &&
                   e->driver(e, e->driver_arg, e->driver_err);
    e->command = ENGINE_STOP;
    barrier_wait(&e->start);
}

static void engine_thread(void *arg, int thread, int count)
{
    struct engine *e = arg;
    struct crew crew = crew_of(e->comm.size, thread, count);
    for (uint64_t r = crew.ranks.begin; crew.share.part == 0 && r < crew.ranks.end; r++)
        say_hello(e, r);
    barrier_wait(&e->start);
    if (thread == 0) {
        drive(e);
        return;
    }
    for (;;) {
        barrier_wait(&e->start);
        if (e->command == ENGINE_STOP)
            return;
        run_command(e, thread);
    }
}

bool engine_run(struct engine *engine, engine_driver *driver, void *arg, struct tp_error *err)
{
    engine->driver = driver;
    engine->driver_arg = arg;
    engine->driver_err = err;
    return threads_run(engine->setup.threads, engine_thread, engine, err) && engine->driver_ok;
}

/* ---- for the driver ---- */

static void clear_page(void *arg, uint32_t page)
{
    struct engine *e = arg;
    for (uint64_t r = 0; r < e->comm.size; r++)
        e->forward.backend->clear_page(e->ranks[r], page);
}

void engine_begin(struct engine *engine)
{
    engine->forward.step.n_rows = 0;
    engine->forward.step.n_logits = 0;
}

bool engine_add(struct engine *engine, struct step_row row, bool wants_logits)
{
    struct step *step = &engine->forward.step;
    if (step->n_rows == engine->setup.rows_max ||
        !kv_cache_extend(&engine->cache, row.sequence, (uint64_t)row.position + 1, clear_page,
                         engine))
        return false;
    if (wants_logits)
        step->logit_rows[step->n_logits++] = step->n_rows;
    step->rows[step->n_rows++] = row;
    return true;
}

static void command(struct engine *engine, enum engine_command what)
{
    engine->command = what;
    barrier_wait(&engine->start);
    run_command(engine, 0);
}

void engine_step(struct engine *engine)
{
    command(engine, ENGINE_STEP);
}

const float *engine_logits(struct engine *engine, uint32_t first, uint32_t *count)
{
    struct step *step = &engine->forward.step;
    uint32_t left = step->n_logits - first;
    step->slice_first = first;
    step->slice_count = left < engine->comm.slice_max ? left : (uint32_t)engine->comm.slice_max;
    command(engine, ENGINE_LOGITS);
    *count = step->slice_count;
    return engine->comm.logits;
}
