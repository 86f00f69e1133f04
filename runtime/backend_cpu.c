/* The CPU backend: memory of a rank, and the phases between the matrices. */
#include "cpu.h"

#include "checked.h"
#include "mem.h"
#include <math.h>
#include <string.h>

/* ---- memory ---- */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void set_sizes(struct backend_rank *r, const struct model_config *model,
                      const struct partition *partition, const struct backend_setup *setup)
{
    uint64_t d = model->head_dim;
    r->model = model;
    r->kernels = setup->kernels;
    r->comm = setup->comm;
    r->kv_dtype = setup->kv_dtype;
    r->rows_max = setup->rows_max;
    r->n_pages = setup->n_pages;
    r->parts_max = setup->parts_max;
    r->eps = (float)model->rms_eps;
    r->attention_scale = (float)(1.0 / sqrt((double)d));
    r->rank = partition->rank;
    r->n_heads_local = range_count(partition->heads);
    r->n_kv_heads_local = range_count(partition->kv_heads);
    r->group = model->n_heads / model->n_kv_heads;
    r->heads_per_leaf = leaves_of_attention(model).per_leaf;
    r->head_pad = align_up(d, BLOCK_COLS);
    r->q_stride = align_up(r->n_heads_local * d, PANEL_ROWS);
    r->kv_stride = align_up(r->n_kv_heads_local * d, PANEL_ROWS);
    r->page_bytes = ATTENTION_CHUNK * r->head_pad * dtype_bytes(setup->kv_dtype);
}

/* Sizes of all blocks, and with r->memory their addresses. */
static bool place(struct backend_rank *r, const struct partition *partition, struct tp_error *err)
{
    struct leaves attention = leaves_of_attention(r->model), mlp = leaves_of_mlp(r->model);
    uint64_t rows = r->rows_max, row_stride = align_up(r->model->hidden, BLOCK_COLS);
    uint64_t fold = TREE_STACK_MAX * align_up(r->model->hidden, PANEL_ROWS);
    uint64_t scratch = max_u64(fold, max_u64(cpu_matmul_scratch(), cpu_attention_scratch(r)));
    r->scratch_floats = align_up(scratch, 16);
    const struct {
        float **at;
        uint64_t floats;
    } blocks[] = {
        {&r->residual, rows * row_stride},
        {&r->normed, (rows < STEP_ONE_SHOT_ROWS ? rows : STEP_ONE_SHOT_ROWS) * row_stride},
        {&r->q, rows * r->q_stride},
        {&r->k, rows * r->kv_stride},
        {&r->v, rows * r->kv_stride},
        {&r->queries, rows * r->n_heads_local * r->head_pad},
        {&r->attn, rows * leaves_padded(&attention, partition->attention_leaves)},
        {&r->act, rows * leaves_padded(&mlp, partition->mlp_leaves)},
        {&r->scratch, r->parts_max * r->scratch_floats},
    };
    unsigned char *base = r->memory;
    uint64_t at = 0;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (base)
            *blocks[i].at = (float *)(void *)(base + at);
        at += align_up(blocks[i].floats * sizeof(float), 64);
    }
    r->bytes.activations = align_up(at, 4096);
    uint64_t *kv = &r->bytes.kv;
    if (!tp_mul(r->model->n_layers * r->n_kv_heads_local, 2 * r->page_bytes, kv) ||
        !tp_mul(*kv, r->n_pages, kv))
        return tp_fail(err, TP_E_LIMIT, "a KV cache of %llu pages does not fit in 64 bits",
                       (unsigned long long)r->n_pages);
    r->kv = base ? base + r->bytes.activations : NULL;
    return true;
}

static bool cpu_plan(const struct model_config *model, const struct partition *partition,
                     const struct backend_setup *setup, struct backend_bytes *bytes,
                     struct tp_error *err)
{
    struct backend_rank r = {0};
    set_sizes(&r, model, partition, setup);
    if (!place(&r, partition, err))
        return false;
    *bytes = r.bytes;
    return true;
}

static void cpu_close(struct backend_rank *r)
{
    if (r && r->memory)
        mem_map_free(r->memory, r->bytes.kv + r->bytes.activations);
    mem_free(r);
}

static struct backend_rank *cpu_open(const struct rank_weights *weights,
                                     const struct backend_setup *setup, struct backend_bytes *bytes,
                                     struct tp_error *err)
{
    struct backend_rank *r = mem_alloc(sizeof *r, err);
    if (!r)
        return NULL;
    r->weights = weights;
    r->bf16 = weights->arithmetic == DTYPE_BF16;
    set_sizes(r, weights->model, &weights->partition, setup);
    bool ok = place(r, &weights->partition, err);
    if (ok) {
        r->memory = mem_map_alloc(r->bytes.kv + r->bytes.activations, err);
        ok = r->memory && place(r, &weights->partition, err);
    }
    if (!ok) {
        cpu_close(r);
        return NULL;
    }
    *bytes = r->bytes;
    return r;
}

static void cpu_clear_page(struct backend_rank *r, uint32_t page)
{
    uint64_t bytes = r->n_kv_heads_local * 2 * r->page_bytes;
    for (uint64_t layer = 0; layer < r->model->n_layers; layer++)
        memset(r->kv + (layer * r->n_pages + page) * bytes, 0, bytes);
}

static void cpu_read_residual(const struct backend_rank *r, const struct step *step, uint32_t row,
                              float *out)
{
    (void)step;
    memcpy(out, r->residual + row * r->comm->row_stride, r->model->hidden * sizeof *out);
}

static void cpu_read_normed(const struct backend_rank *r, const struct step *step, uint32_t row,
                            float *out)
{
    memcpy(out, cpu_normed(r, step) + row * r->comm->row_stride, r->model->hidden * sizeof *out);
}

/* ---- rows ---- */

static void cpu_embed(struct backend_rank *r, const struct step *step, uint32_t layer,
                      struct share share)
{
    (void)layer;
    const struct matrix *w = &r->weights->embed;
    struct range vocab = r->weights->partition.vocab, mine = share_of(step->n_rows, share);
    uint64_t panel_bytes = w->k * PANEL_ROWS * dtype_bytes(w->dtype);
    for (uint64_t m = mine.begin; m < mine.end; m++) {
        uint64_t token = step->rows[m].token;
        if (token < vocab.begin || token >= vocab.end)
            continue;
        uint64_t row = token - vocab.begin;
        r->kernels->panel_row[w->dtype](w->w + row / PANEL_ROWS * panel_bytes, w->k / BLOCK_COLS,
                                        row % PANEL_ROWS, r->comm->rows + m * r->comm->row_stride);
    }
}

/* The rows whose residual stream this rank holds: all of them in a one-shot step. */
static struct range rows_of(const struct backend_rank *r, const struct step *step,
                            struct share share)
{
    struct range rows = {0, step->n_rows};
    if (!step_one_shot(step))
        rows = step_rows_of(step, r->rank, r->comm->size);
    struct range mine = share_of(range_count(rows), share);
    return (struct range){rows.begin + mine.begin, rows.begin + mine.end};
}

static void norm_row(const struct backend_rank *r, const struct step *step, uint64_t m,
                     const float *weight)
{
    uint64_t at = m * r->comm->row_stride;
    r->kernels->rms_norm(r->residual + at, weight, r->model->hidden, r->eps, r->bf16,
                         cpu_normed(r, step) + at);
}

static void cpu_enter(struct backend_rank *r, const struct step *step, uint32_t layer,
                      struct share share)
{
    (void)layer;
    struct range rows = rows_of(r, step, share);
    for (uint64_t m = rows.begin; m < rows.end; m++) {
        uint64_t at = m * r->comm->row_stride;
        memcpy(r->residual + at, r->comm->rows + at, r->model->hidden * sizeof(float));
        norm_row(r, step, m, r->weights->layers[0].attn_norm);
    }
}

/* The roots of all ranks for row m, folded with the global program.
 *   stack  [TREE_STACK_MAX][root_stride] */
static const float *fold_row(const struct backend_rank *r, const struct comm_tree *tree, uint64_t m,
                             float *stack)
{
    const float *values[TREE_STACK_MAX];
    const uint8_t *merges = tree->merges;
    uint64_t depth = 0;
    for (uint64_t rank = 0; rank < r->comm->size; rank++) {
        uint64_t n = tree->first_root[rank + 1] - tree->first_root[rank];
        for (uint64_t i = 0; i < n; i++) {
            values[depth++] = comm_root(r->comm, rank, i, m);
            for (uint8_t k = *merges++; k; k--) {
                float *sum = stack + (--depth - 1) * r->comm->root_stride;
                r->kernels->add(values[depth - 1], values[depth], r->model->hidden, sum);
                values[depth - 1] = sum;
            }
        }
    }
    return values[0];
}

static void reduce(struct backend_rank *r, const struct step *step, const struct comm_tree *tree,
                   const struct matrix *w, const float *norm, struct share share)
{
    struct range rows = rows_of(r, step, share);
    float *stack = cpu_scratch(r, share);
    for (uint64_t m = rows.begin; m < rows.end; m++) {
        const float *value = fold_row(r, tree, m, stack);
        if (w->scale || w->bias) {
            r->kernels->scale_bias(value, w->scale, w->bias, r->model->hidden, stack);
            value = stack;
        }
        float *residual = r->residual + m * r->comm->row_stride;
        r->kernels->add(residual, value, r->model->hidden, residual);
        norm_row(r, step, m, norm);
    }
}

static void cpu_reduce_attention(struct backend_rank *r, const struct step *step, uint32_t layer,
                                 struct share share)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    reduce(r, step, &r->comm->attention, &w->o, w->mlp_norm, share);
}

static void cpu_reduce_mlp(struct backend_rank *r, const struct step *step, uint32_t layer,
                           struct share share)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    bool last = layer + 1 == r->model->n_layers;
    reduce(r, step, &r->comm->mlp, &w->down, last ? r->weights->final_norm : w[1].attn_norm, share);
}

const struct backend backend_cpu = {
    .name = "cpu",
    .plan = cpu_plan,
    .open = cpu_open,
    .close = cpu_close,
    .clear_page = cpu_clear_page,
    .read_residual = cpu_read_residual,
    .read_normed = cpu_read_normed,
    .embed = cpu_embed,
    .enter = cpu_enter,
    .qkv = cpu_qkv,
    .rope_append = cpu_rope_append,
    .attention = cpu_attention,
    .o_proj = cpu_o_proj,
    .reduce_attention = cpu_reduce_attention,
    .gate_up = cpu_gate_up,
    .down = cpu_down,
    .reduce_mlp = cpu_reduce_mlp,
    .logits = cpu_logits,
};
