#include "engine.h"

#include "checked.h"
#include "clock.h"
#include "host.h"
#include <math.h>
#include <string.h>

enum { LOOK_SECONDS = 1 };

/* ---- watching a step ---- */

static void trace_layer(void *arg, uint32_t layer)
{
    struct engine *e = arg;
    bool normed = layer == e->bundle->model.n_layers;
    for (uint32_t m = 0; m < e->step.n_rows; m++) {
        e->device->type->read_row(e->device, &e->step, m, normed, e->trace.row);
        trace_add(&e->trace, e->step.rows[m].sequence, layer, e->trace.row);
    }
}

struct finding {
    struct engine *engine;
    float *row;
    uint32_t layer;
    bool found;
};

static void find_in_layer(void *arg, uint32_t layer)
{
    struct finding *f = arg;
    struct engine *e = f->engine;
    const uint64_t hidden = e->bundle->model.hidden;
    if (f->found)
        return;
    e->device->type->read_row(e->device, &e->step, 0, layer == e->bundle->model.n_layers, f->row);
    for (uint64_t i = 0; i < hidden && !f->found; i++)
        f->found = !isfinite(f->row[i]);
    f->layer = layer;
}

bool engine_find_nonfinite(struct engine *engine, struct step_row row, uint32_t *layer)
{
    struct engine *e = engine;
    struct step *step = &e->step;
    const struct step was = *step;
    struct finding finding = {.engine = e,
                              .row = mem_array(e->bundle->model.hidden, sizeof(float), NULL)};
    struct tp_error ignored = {0};
    engine_begin(e);
    step->after_layer = find_in_layer;
    step->after_layer_arg = &finding;
    bool ok = finding.row && engine_add(e, row, false) &&
              e->device->type->step(e->device, step, &ignored) && finding.found;
    step->after_layer = was.after_layer;
    step->after_layer_arg = was.after_layer_arg;
    mem_free(finding.row);
    *layer = finding.layer;
    return ok;
}

/* ---- the plan ---- */

static struct device_setup device_setup_of(struct engine *e)
{
    uint64_t positions = 0;
    for (uint32_t s = 0; s < e->setup.n_sequences; s++)
        positions = e->setup.positions_max[s] > positions ? e->setup.positions_max[s] : positions;
    return (struct device_setup){
        .model = &e->bundle->model,
        .plans = e->bundle->plans,
        .ranks = {0, e->bundle->tp_size},
        .comm = &e->comm,
        .team = &e->team,
        .pin = &e->pin,
        .weights = &e->weights,
        .verify = e->setup.verify,
        .memory_fraction = e->setup.memory_fraction,
        .share = e->setup.share,
        .deadline = e->setup.deadline,
        .isa = e->setup.isa,
        .kv_dtype = e->setup.kv_dtype,
        .rows_max = e->setup.rows_max,
        .span_rows_max = e->setup.span_rows_max,
        .n_pages = e->setup.n_pages,
        .positions_max = positions,
    };
}

static bool plan_memory(struct engine *e, struct tp_error *err)
{
    const struct bundle *bundle = e->bundle;
    const struct device_setup setup = device_setup_of(e);
    struct device_plan plan = {0};
    if (!e->setup.device->plan(&setup, &plan, err))
        return false;
    uint64_t totals[PARTITION_TP_MAX] = {plan.shared}, fresh = plan.shared;
    e->shared_planned = plan.shared;
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        struct device_bytes bytes = plan.ranks[r];
        uint64_t weights = weights_bytes(bundle, r), *total = &totals[plan.memory_of[r]];
        uint64_t decoded = bundle->compress == COMPRESS_NONE ? 0 : weights;
        e->planned[r] = (struct engine_memory){weights, bytes.kv, bytes.activations};
        if (!tp_add(fresh, decoded, &fresh) || !tp_add(fresh, bytes.kv, &fresh) ||
            !tp_add(fresh, bytes.activations, &fresh) ||
            !tp_add(*total, e->planned[r].weights, total) || !tp_add(*total, bytes.kv, total) ||
            !tp_add(*total, bytes.activations, total))
            return tp_fail(err, TP_E_LIMIT, "%s: the memory planned does not fit in 64 bits",
                           bundle->dir);
    }
    for (uint32_t i = 0; i < plan.n_memories; i++)
        if (totals[i] > plan.available[i])
            return tp_fail(err, TP_E_MEMORY, "%s: %llu bytes of memory needed%s, %llu available",
                           bundle->dir, (unsigned long long)totals[i],
                           plan.n_memories > 1 ? " on a GPU" : "",
                           (unsigned long long)plan.available[i]);
    if (fresh > plan.allowed)
        return tp_fail(err, TP_E_MEMORY, "%s: %llu bytes to allocate, %llu allowed", bundle->dir,
                       (unsigned long long)fresh, (unsigned long long)plan.allowed);
    return true;
}

/* ---- the handshake ---- */

static bool hash_config(const struct engine *e, struct comm_hello *hello, struct tp_error *err)
{
    const struct bundle *b = e->bundle;
    json_t *model = model_config_to_json(&b->model, err);
    size_t n;
    char *text = model ? json_text(model, &n, err) : NULL;
    json_decref(model);
    if (!text)
        return false;
    struct hash_stream stream;
    const uint32_t dtypes[2] = {(uint32_t)b->recipe.dtype, (uint32_t)e->setup.kv_dtype};
    hash_start(&stream);
    hash_add(&stream, text, n);
    hash_add(&stream, dtypes, sizeof dtypes);
    hash_add(&stream, b->recipe.stored, sizeof b->recipe.stored);
    hello->config = hash_end(&stream);
    mem_free(text);
    hash_start(&stream);
    for (uint64_t r = 0; r < b->tp_size; r++) {
        const struct partition *p = &b->plans[r].partition;
        const struct range ranges[3] = {p->attention_leaves, p->mlp_leaves, p->panels};
        hash_add(&stream, ranges, sizeof ranges);
    }
    hello->rank_map = hash_end(&stream);
    return true;
}

static bool shake_hands(struct engine *e, struct tp_error *err)
{
    struct comm_hello hellos[PARTITION_TP_MAX], mine[PARTITION_TP_MAX];
    struct comm_hello all = {.format_version = SHARD_VERSION};
    if (!hash_config(e, &all, err))
        return false;
    for (uint64_t r = 0; r < e->bundle->tp_size; r++) {
        const struct partition *p = &e->weights.ranks[r].partition;
        mine[r] = all;
        mine[r].tp_size = (uint32_t)p->tp_size;
        mine[r].rank = (uint32_t)p->rank;
        mine[r].bundle_id = e->weights.shards[r].head.bundle_id;
    }
    e->device->type->introduce(e->device, mine);
    return e->comm.allgather(&e->comm, mine, hellos, sizeof *mine, err) &&
           comm_handshake(hellos, e->bundle->tp_size, err);
}

/* ---- opening ---- */

static bool open_step(struct engine *e, struct tp_error *err)
{
    e->step.rows = mem_array(e->setup.rows_max, sizeof *e->step.rows, err);
    e->step.logit_rows = mem_array(e->setup.rows_max, sizeof *e->step.logit_rows, err);
    e->step.spans = mem_array(e->setup.rows_max, sizeof *e->step.spans, err);
    e->step.pages = e->cache.pages;
    return e->step.rows && e->step.logit_rows && e->step.spans;
}

static bool open_device(struct engine *e, struct tp_error *err)
{
    const struct device_setup setup = device_setup_of(e);
    e->device = e->setup.device->open(&setup, err);
    for (uint64_t r = 0; e->device && r < e->bundle->tp_size; r++) {
        struct device_bytes bytes = e->device->used.ranks[r];
        uint64_t weights =
            e->weights.decoded[r] ? e->weights.decoded_bytes[r] : e->weights.shards[r].file_bytes;
        weights -= range_count(e->bundle->plans[r].unused.bytes);
        e->used[r] = (struct engine_memory){weights, bytes.kv, bytes.activations};
    }
    return e->device;
}

bool engine_open(struct engine *engine, const struct bundle *bundle,
                 const struct engine_setup *setup, struct tp_error *err)
{
    struct engine *e = engine;
    *e = (struct engine){.bundle = bundle, .setup = *setup};
    double t0 = clock_seconds();
    e->mapped = !setup->device->copies && bundle->compress == COMPRESS_NONE;
    const bool later = setup->verify && e->mapped && !setup->hash_first;
    bool ok = weights_open(&e->weights, bundle, err) &&
              team_start(&e->team, setup->threads, TEAM_STACK, err);
    if (ok && !setup->device->copies)
        read_ahead_start(&e->ahead, bundle, e->weights.shards);
    if (ok && setup->device->copies && setup->pin == PIN_YES)
        tp_note("--pin yes: threads of a GPU's run are not bound");
    if (ok)
        pin_open(&e->pin, setup->device->copies ? PIN_NO : setup->pin, bundle->tp_size, &e->team);
    ok = ok &&
         comm_open_threads(&e->comm, &bundle->model, bundle->tp_size, setup->threads, e->pin.crews,
                           setup->deadline, err) &&
         plan_memory(e, err);
    double t1 = clock_seconds();
    ok = ok && (!setup->verify || !setup->files || bundle_check_files(bundle, err)) &&
         weights_load(&e->weights, bundle, &e->team, &e->pin,
                      setup->verify && !setup->device->copies && !later, err) &&
         (!later || weights_defer(&e->weights, bundle, err));
    double t2 = clock_seconds();
    ok = ok && open_device(e, err) &&
         weights_settle(&e->weights, bundle, &e->team, setup->verify, err) && shake_hands(e, err) &&
         kv_cache_init(&e->cache, setup->n_sequences, setup->positions_max, setup->n_pages, err) &&
         open_step(e, err);
    if (ok && setup->trace) {
        e->step.after_layer = trace_layer;
        e->step.after_layer_arg = e;
        ok = trace_init(&e->trace, setup->n_sequences, bundle->model.n_layers, bundle->model.hidden,
                        err);
    }
    e->map_seconds = t1 - t0;
    e->hash_seconds = t2 - t1;
    e->alloc_seconds = clock_seconds() - t2;
    if (!ok)
        engine_close(e);
    return ok;
}

void engine_close(struct engine *engine)
{
    struct engine *e = engine;
    read_ahead_stop(&e->ahead);
    if (e->device)
        e->device->type->close(e->device);
    team_stop(&e->team);
    pin_close(&e->pin);
    comm_close(&e->comm);
    if (e->setup.device && e->setup.device->stop)
        e->setup.device->stop();
    mem_free(e->step.rows);
    mem_free(e->step.logit_rows);
    mem_free(e->step.spans);
    kv_cache_free(&e->cache);
    trace_free(&e->trace);
    weights_close(&e->weights);
    *e = (struct engine){0};
}

/* ---- steps ---- */

static void clear_page(void *arg, uint32_t page)
{
    struct engine *e = arg;
    e->device->type->clear_page(e->device, page);
}

void engine_begin(struct engine *engine)
{
    engine->step.n_rows = engine->step.n_logits = engine->step.n_spans = 0;
    engine->step.choices = NULL;
}

bool engine_add(struct engine *engine, struct step_row row, bool wants_logits)
{
    struct step *step = &engine->step;
    if (step->n_rows == engine->setup.rows_max ||
        !kv_cache_extend(&engine->cache, row.sequence, (uint64_t)row.position + 1, clear_page,
                         engine))
        return false;
    if (wants_logits)
        step->logit_rows[step->n_logits++] = step->n_rows;
    step->rows[step->n_rows++] = row;
    return true;
}

bool engine_begin_span(struct engine *engine, uint32_t sequence, uint32_t position, uint32_t n_rows)
{
    struct step *step = &engine->step;
    tp_assert(n_rows <= engine->setup.span_rows_max);
    if (n_rows > engine->setup.rows_max - step->n_rows ||
        !kv_cache_extend(&engine->cache, sequence, (uint64_t)position + n_rows, clear_page, engine))
        return false;
    step->spans[step->n_spans++] = (struct step_span){step->n_rows, n_rows};
    return true;
}

void engine_choose(struct engine *engine, const struct sampler_choice *choices, uint32_t *chosen)
{
    engine->step.choices = choices;
    engine->step.chosen = chosen;
    for (uint32_t i = 0; i < engine->step.n_logits; i++)
        chosen[i] = STEP_HOST_CHOOSES;
}

/* After a step, so that nothing comes of one whose weights are known to be others. */
static bool look(struct engine *e, struct tp_error *err)
{
    double now = clock_seconds();
    if (!e->mapped || now < e->look_at)
        return true;
    e->look_at = now + LOOK_SECONDS;
    return weights_look(&e->weights, err);
}

/* The first step has read most of the weights, and hashed what it read. */
static bool finish_first(struct engine *e, struct tp_error *err)
{
    if (!e->weights.pass)
        return true;
    const double start = clock_seconds();
    bool ok = weights_finish(&e->weights, e->bundle, &e->team, err);
    e->hash_seconds += clock_seconds() - start;
    return ok;
}

bool engine_step(struct engine *engine, struct tp_error *err)
{
    struct engine *e = engine;
    e->steps++;
    return e->device->type->step(e->device, &e->step, err) && finish_first(e, err) && look(e, err);
}

bool engine_settle(struct engine *engine, struct tp_error *err)
{
    struct engine *e = engine;
    e->look_at = 0; /* however long it is until the next step */
    return !e->mapped || weights_settle(&e->weights, e->bundle, &e->team, e->setup.verify, err);
}

const float *engine_logits(struct engine *engine, uint32_t first, uint32_t *count,
                           struct tp_error *err)
{
    return engine->device->type->logits(engine->device, &engine->step, first, count, err);
}

void engine_forget(struct engine *engine, uint32_t sequence, uint64_t positions)
{
    kv_cache_truncate(&engine->cache, sequence, positions);
}
