/* The CPU as a device: its memory. */
#include "cpu.h"

#include "checked.h"
#include "host.h"
#include "mem.h"
#include "processors.h"
#include "rope.h"
#include <math.h>
#include <string.h>

/* The LM head runs over as many rows at a time as this holds. */
enum { LOGIT_SLICE_BYTES = 16 << 20 };

/* ---- memory of a rank ---- */

static const struct kernels *kernels_of(const struct device_setup *setup)
{
    enum isa isa;
    return setup->isa && isa_from_name(setup->isa, &isa) ? kernels_get(isa) : kernels_best();
}

static void set_sizes(struct cpu_rank *r, const struct device_setup *setup, uint64_t rank)
{
    const struct model_config *model = setup->model;
    const struct partition *partition = &setup->plans[rank].partition;
    uint64_t d = model->head_dim;
    r->model = model;
    r->kernels = kernels_of(setup);
    r->kv_dtype = setup->kv_dtype;
    r->rows_max = setup->rows_max;
    r->n_pages = setup->n_pages;
    r->eps = (float)model->rms_eps;
    r->attention_scale = (float)(1.0 / sqrt((double)d));
    r->rank = rank;
    r->n_heads_local = range_count(partition->heads);
    r->n_kv_heads_local = range_count(partition->kv_heads);
    r->group = model->n_heads / model->n_kv_heads;
    r->head_pad = align_up(d, BLOCK_COLS);
    r->q_stride = align_up(r->n_heads_local * d, PANEL_ROWS);
    r->kv_stride = align_up(r->n_kv_heads_local * d, PANEL_ROWS);
    r->page_bytes = ATTENTION_CHUNK * r->head_pad * dtype_bytes(setup->kv_dtype);
    const struct rank_plan *plan = &setup->plans[rank];
    const uint32_t layer = (uint32_t)partition->layers.begin;
    r->attn_stride = rank_plan_find(plan, ROLE_O, layer, PART_WEIGHT)->k;
    r->act_stride = rank_plan_find(plan, ROLE_DOWN, layer, PART_WEIGHT)->k;
}

struct block {
    float **at;
    uint64_t floats;
};

/* Blocks one behind the other, with a base their addresses: the bytes that they take. */
static uint64_t place(unsigned char *base, const struct block *blocks, size_t n)
{
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (base)
            *blocks[i].at = (float *)(void *)(base + at);
        at += align_up(blocks[i].floats * sizeof(float), 64);
    }
    return at;
}

/* Sizes of all blocks, and with r->memory their addresses. */
static bool place_rank(struct cpu_rank *r, const struct partition *partition, struct tp_error *err)
{
    const uint64_t rows = r->rows_max;
    const struct block blocks[] = {
        {&r->q, rows * r->q_stride},       {&r->k, rows * r->kv_stride},
        {&r->v, rows * r->kv_stride},      {&r->queries, rows * r->n_heads_local * r->head_pad},
        {&r->attn, rows * r->attn_stride}, {&r->act, rows * r->act_stride},
    };
    unsigned char *base = r->memory;
    r->bytes.activations = align_up(place(base, blocks, sizeof blocks / sizeof *blocks), 4096);
    uint64_t *kv = &r->bytes.kv;
    if (!tp_mul(range_count(partition->layers) * r->n_kv_heads_local, 2 * r->page_bytes, kv) ||
        !tp_mul(*kv, r->n_pages, kv))
        return tp_fail(err, TP_E_LIMIT, "a KV cache of %llu pages does not fit in 64 bits",
                       (unsigned long long)r->n_pages);
    r->kv = base ? base + r->bytes.activations : NULL;
    return true;
}

/* ---- memory of a crew ---- */

static void set_crew(struct cpu_device *d, uint64_t crew)
{
    const struct comm *comm = d->setup.comm;
    struct cpu_crew *c = &d->crews[crew];
    const struct range threads = crew_range((uint64_t)d->setup.team->count, crew, comm->crews);
    uint64_t heads = 0;
    c->device = d;
    c->ranks = crew_range(comm->size, crew, comm->crews);
    c->first_thread = threads.begin;
    c->parts = range_count(threads);
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
        struct cpu_rank *r = &d->ranks[rank];
        const uint64_t strides[] = {d->row_stride, r->attn_stride, r->act_stride};
        for (int i = 0; i < 3; i++)
            c->x_stride_max = strides[i] > c->x_stride_max ? strides[i] : c->x_stride_max;
        heads += r->n_heads_local;
        r->crew = c;
    }
    if (c->parts > 1)
        c->partials_max = heads * div_ceil(d->setup.positions_max, ATTENTION_CHUNK);
}

/* Sizes of all blocks, and with c->memory their addresses. */
static void place_crew(struct cpu_crew *c)
{
    const struct cpu_device *d = c->device;
    const struct cpu_rank *r = cpu_rank_of(c, c->ranks.begin);
    const uint64_t needs[] = {TREE_STACK_MAX * d->root_stride, cpu_matmul_scratch(c),
                              cpu_attention_scratch(r)};
    for (int i = 0; i < 3; i++)
        c->scratch_floats = needs[i] > c->scratch_floats ? needs[i] : c->scratch_floats;
    c->scratch_floats = align_up(c->scratch_floats, 16);
    const uint64_t rows = d->setup.rows_max;
    const struct block blocks[] = {
        {&c->residual, rows * d->row_stride},
        {&c->normed, min_u64(rows, STEP_ONE_SHOT_ROWS) * d->row_stride},
        {&c->partial, c->partials_max * (r->head_pad + 2)},
        {&c->scratch, c->parts * c->scratch_floats},
    };
    unsigned char *base = c->memory;
    const uint64_t at = place(base, blocks, sizeof blocks / sizeof *blocks);
    c->taken = base ? (struct cpu_part *)(void *)(base + at) : NULL;
    c->memory_bytes = align_up(at + c->parts * sizeof *c->taken, 4096);
}

/* ---- memory that the ranks share ---- */

static uint64_t slice_max(const struct device_setup *setup)
{
    uint64_t rows = LOGIT_SLICE_BYTES / (setup->model->vocab * sizeof(float));
    rows = rows < setup->rows_max ? rows : setup->rows_max;
    return rows ? rows : 1;
}

static bool take(unsigned char *base, uint64_t *at, float **block, uint64_t count, uint64_t floats,
                 struct tp_error *err)
{
    uint64_t n;
    if (base)
        *block = (float *)(void *)(base + *at);
    return (tp_mul(count, floats, &n) && tp_mul(n, sizeof(float), &n) && tp_align_up(n, 64, &n) &&
            tp_add(*at, n, at)) ||
           tp_fail(err, TP_E_LIMIT, "buffers of %llu rows do not fit in 64 bits",
                   (unsigned long long)count);
}

static bool take_roots(struct cpu_device *d, struct cpu_roots *roots, uint64_t *at,
                       struct tp_error *err)
{
    const uint64_t *first = roots->tree->first_root;
    for (uint64_t r = 0; r < d->setup.comm->size; r++)
        if (!take(d->memory, at, &roots->of[r], d->setup.rows_max,
                  (first[r + 1] - first[r]) * d->root_stride, err))
            return false;
    return true;
}

/* Sizes of all blocks, and with d->memory their addresses. */
static bool place_shared(struct cpu_device *d, struct tp_error *err)
{
    const struct device_setup *s = &d->setup;
    uint64_t at = 0, half = s->model->head_dim / 2;
    d->row_stride = align_up(s->model->hidden, 32);
    d->root_stride = align_up(s->model->hidden, 16);
    d->device.logit_stride = align_up(s->model->vocab, 16);
    d->slice_max = slice_max(s);
    d->rope_pages = div_ceil(s->positions_max, ATTENTION_CHUNK);
    d->attention.tree = &s->comm->attention;
    d->mlp.tree = &s->comm->mlp;
    bool ok = take(d->memory, &at, &d->rows, s->rows_max, d->row_stride, err) &&
              take(d->memory, &at, &d->logits, d->slice_max, d->device.logit_stride, err) &&
              take_roots(d, &d->attention, &at, err) && take_roots(d, &d->mlp, &at, err) &&
              take(d->memory, &at, &d->cos, d->rope_pages, ATTENTION_CHUNK * half, err) &&
              take(d->memory, &at, &d->sin, d->rope_pages, ATTENTION_CHUNK * half, err);
    d->memory_bytes = at;
    return ok;
}

static bool check_isa(const char *isa, struct tp_error *err)
{
    enum isa known;
    return !isa || (isa_from_name(isa, &known) && kernels_get(known)) ||
           tp_fail(err, TP_E_ISA, "--isa %s: not available here, %s is the best", isa,
                   kernels_best()->name);
}

/* A number of bytes; null: there is no limit, or it is not known. */
static json_t *bytes_or_null(uint64_t bytes)
{
    return bytes <= INT64_MAX ? json_integer((json_int_t)bytes) : json_null();
}

static json_t *info(struct tp_error *err)
{
    const char *names[KERNELS_FEATURES_MAX];
    char model[HOST_PROCESSOR_MAX];
    json_t *features = json_array(), *sets = json_array();
    bool ok = features && sets;
    const size_t n = kernels_features(names);
    for (size_t i = 0; ok && i < n; i++)
        ok = json_array_append_new(features, json_string(names[i])) == 0;
    for (int isa = ISA_COUNT; ok && isa-- > 0;)
        if (kernels_get((enum isa)isa))
            ok = json_array_append_new(sets, json_string(kernels_get((enum isa)isa)->name)) == 0;
    const int quota = processors_quota();
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:s, s:i, s:i, s:i, s:o, s:i, s:i, s:o, s:o, s:o, s:o}", "model",
                  host_processor(model), "features", features, "kernels", sets, "kernels_used",
                  kernels_best()->name, "processors", processors_available(), "processors_online",
                  processors_online(), "processors_allowed", processors_allowed(),
                  "processors_quota", quota ? json_integer(quota) : json_null(), "cores_allowed",
                  processors_cores(), "nodes_online", processors_nodes(), "memory_total_bytes",
                  bytes_or_null(host_memory_total()), "memory_available_bytes",
                  bytes_or_null(host_memory_available()), "memory_group_limit_bytes",
                  bytes_or_null(host_memory_group()), "memory_process_limit_bytes",
                  bytes_or_null(host_memory_limit()));
    if (object && ok)
        return object;
    json_decref(object);
    tp_fail(err, TP_E_MEMORY, "what the CPU is does not fit in memory");
    return NULL;
}

static bool plan(const struct device_setup *setup, struct device_plan *plan, struct tp_error *err)
{
    struct cpu_device *d = mem_alloc(sizeof *d, err);
    bool ok = d != NULL;
    if (ok) {
        d->setup = *setup;
        d->kernels = kernels_of(setup);
        ok = check_isa(setup->isa, err) && place_shared(d, err);
        plan->shared = d->memory_bytes;
    }
    for (uint64_t r = setup->ranks.begin; ok && r < setup->ranks.end; r++) {
        set_sizes(&d->ranks[r], setup, r);
        ok = place_rank(&d->ranks[r], &setup->plans[r].partition, err);
        plan->ranks[r] = d->ranks[r].bytes;
    }
    for (uint64_t c = 0; ok && c < setup->comm->crews; c++) {
        set_crew(d, c);
        place_crew(&d->crews[c]);
        plan->shared += d->crews[c].memory_bytes;
    }
    plan->n_memories = 1;
    plan->available[0] = host_memory_available();
    plan->allowed = host_memory_limit();
    mem_free(d);
    return ok;
}

static void close_device(struct device *device)
{
    struct cpu_device *d = cpu_device_of(device);
    for (uint64_t r = 0; d && r < PARTITION_TP_MAX; r++)
        if (d->ranks[r].memory)
            mem_map_free(d->ranks[r].memory, d->ranks[r].bytes.kv + d->ranks[r].bytes.activations);
    for (uint64_t c = 0; d && c < PARTITION_TP_MAX; c++)
        if (d->crews[c].memory)
            mem_map_free(d->crews[c].memory, d->crews[c].memory_bytes);
    if (d && d->memory)
        mem_map_free(d->memory, d->memory_bytes);
    if (d)
        mem_free(d->frequencies);
    mem_free(d);
}

static bool open_rank(struct cpu_device *d, uint64_t rank, const struct rank_weights *weights,
                      struct tp_error *err)
{
    struct cpu_rank *r = &d->ranks[rank];
    const struct partition *partition = &d->setup.plans[rank].partition;
    r->device = d;
    r->weights = weights;
    r->bf16 = weights->arithmetic == DTYPE_BF16;
    set_sizes(r, &d->setup, rank);
    if (!place_rank(r, partition, err))
        return false;
    r->memory = mem_map_alloc(r->bytes.kv + r->bytes.activations, err);
    if (r->memory)
        pin_memory(d->setup.pin, rank, r->memory, r->bytes.kv + r->bytes.activations);
    d->device.used.ranks[rank] = r->bytes;
    return r->memory && place_rank(r, partition, err);
}

static bool open_crew(struct cpu_device *d, uint64_t crew, struct tp_error *err)
{
    struct cpu_crew *c = &d->crews[crew];
    set_crew(d, crew);
    place_crew(c);
    c->memory = mem_map_alloc(c->memory_bytes, err);
    if (!c->memory)
        return false;
    pin_memory(d->setup.pin, c->ranks.begin, c->memory, c->memory_bytes);
    place_crew(c);
    d->device.used.shared += c->memory_bytes;
    return true;
}

static struct device *open_device(const struct device_setup *setup, struct tp_error *err)
{
    struct cpu_device *d = mem_alloc(sizeof *d, err);
    if (!d)
        return NULL;
    d->setup = *setup;
    d->kernels = kernels_of(setup);
    d->device = (struct device){.type = &device_cpu, .kernels = d->kernels->name};
    d->frequencies = mem_array(setup->model->head_dim / 2, sizeof *d->frequencies, err);
    bool ok = d->frequencies && place_shared(d, err) &&
              (d->memory = mem_map_alloc(d->memory_bytes, err)) != NULL && place_shared(d, err);
    if (ok)
        rope_frequencies(setup->model, d->frequencies);
    d->device.used.shared = d->memory_bytes;
    for (uint64_t r = setup->ranks.begin; ok && r < setup->ranks.end; r++)
        ok = open_rank(d, r, &setup->weights->ranks[r], err);
    for (uint64_t c = 0; ok && c < setup->comm->crews; c++)
        ok = open_crew(d, c, err);
    if (ok)
        return &d->device;
    close_device(&d->device);
    return NULL;
}

static void clear_page(struct device *device, uint32_t page)
{
    struct cpu_device *d = cpu_device_of(device);
    for (uint64_t rank = d->setup.ranks.begin; rank < d->setup.ranks.end; rank++) {
        struct cpu_rank *r = &d->ranks[rank];
        uint64_t bytes = r->n_kv_heads_local * 2 * r->page_bytes;
        uint64_t layers = range_count(r->weights->partition.layers);
        for (uint64_t layer = 0; layer < layers; layer++)
            memset(r->kv + (layer * r->n_pages + page) * bytes, 0, bytes);
    }
}

/* In a one-shot step every crew has every row. */
static void read_row(const struct device *device, const struct step *step, uint32_t row,
                     bool normed, float *out)
{
    const struct cpu_device *d = (const struct cpu_device *)(const void *)device;
    const struct cpu_crew *c = d->crews;
    while (!step_one_shot(step) && cpu_rows_of(c, step).end <= row)
        c++;
    memcpy(out, (normed ? cpu_normed(c, step) : c->residual) + row * d->row_stride,
           d->setup.model->hidden * sizeof *out);
}

const struct device_type device_cpu = {
    .name = "cpu",
    .info = info,
    .check_isa = check_isa,
    .plan = plan,
    .open = open_device,
    .close = close_device,
    .introduce = cpu_introduce,
    .step = cpu_step,
    .logits = cpu_logit_rows,
    .read_row = read_row,
    .clear_page = clear_page,
};
