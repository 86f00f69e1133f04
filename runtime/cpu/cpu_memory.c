/* What the CPU computes with and where it is: sizes of ranks, of crews and of what all share, and
 * the places of their blocks. */
#include "cpu.h"

#include "checked.h"
#include <math.h>

/* The LM head runs over as many rows at a time as this holds. */
enum { LOGIT_SLICE_BYTES = 16 << 20 };

/* ---- memory of a rank ---- */

static void set_rank(struct cpu_device *device, uint64_t rank)
{
    const struct device_setup *setup = &device->setup;
    const struct model_config *model = setup->model;
    const struct partition *partition = &setup->plans[rank].partition;
    struct cpu_rank *r = &device->ranks[rank];
    uint64_t d = model->head_dim;
    r->device = device;
    r->model = model;
    r->kernels = device->kernels;
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

bool cpu_place(struct cpu_device *d, struct tp_error *err)
{
    const struct device_setup *setup = &d->setup;
    if (!place_shared(d, err))
        return false;
    for (uint64_t r = setup->ranks.begin; r < setup->ranks.end; r++) {
        set_rank(d, r);
        if (!place_rank(&d->ranks[r], &setup->plans[r].partition, err))
            return false;
    }
    for (uint64_t c = 0; c < setup->comm->crews; c++) {
        set_crew(d, c);
        place_crew(&d->crews[c]);
    }
    return true;
}
