/* The kernels of a layer, for one group of rows: arguments, grids, shared memory. */
#include "cuda_device.h"

#include "checked.h"
#include <math.h>
#include <string.h>

/* Of o_proj into L2 while attention runs: a part of every GPU's. */
enum { AHEAD_BYTES = 16 << 20 };

static bool launch(const struct cuda_group *g, cu_function function, unsigned grid, size_t shared,
                   void *arguments)
{
    return cuda_launch(g->gpu->cuda, function, grid, CUDA_THREADS, shared, arguments, g->err);
}

static float *row_of(const struct cuda_group *g, float *rows, uint64_t stride)
{
    return rows + g->first * stride;
}

/* ---- the residual stream ---- */

/* Rows of a root in an inbox: where GPUs gather, no more than the kernels have. */
static uint64_t root_rows(const struct cuda_group *g)
{
    return g->gpu->gathers ? 1u << g->kind : CUDA_ROWS;
}

static struct cuda_inbox inbox_of(const struct cuda_group *g, uint32_t layer,
                                  enum cuda_reduction reduction)
{
    const struct cuda_gpu *gpu = g->gpu;
    const uint32_t local = layer - (uint32_t)gpu->ranks[0].plan->partition.layers.begin;
    struct cuda_inbox inbox = {
        .n = gpu->gathers ? 1 : gpu->n_gpus,
        .index = (local * g->count + g->number) * 2 + reduction,
        .root_stride = (uint32_t)(root_rows(g) * gpu->stride),
        .floats = (uint32_t)gpu->inbox_floats,
    };
    const struct comm *comm = gpu->setup->comm;
    const uint64_t *first_root = (reduction ? &comm->mlp : &comm->attention)->first_root;
    for (uint32_t i = 0; i < gpu->n_gpus; i++) {
        const struct range ranks = cuda_ranks_of(comm->size, gpu->n_gpus, i);
        inbox.absent |= (first_root[ranks.begin] == first_root[ranks.end] ? 1u : 0) << i;
    }
    if (gpu->gathers) /* always the same one: its address is NCCL's */
        inbox.index = reduction;
    memcpy(inbox.at, gpu->inboxes, sizeof inbox.at);
    return inbox;
}

/* All GPUs' roots into this one's inbox. */
static bool gather_roots(const struct cuda_group *g, enum cuda_reduction reduction)
{
    struct cuda_gpu *gpu = g->gpu;
    return !gpu->gathers || cuda_gather(gpu, gpu->inbox + reduction * gpu->inbox_floats,
                                        gpu->slots[reduction] * root_rows(g) * gpu->stride, g->err);
}

/* What both kinds have in common; norm: number of the next one. */
static struct cuda_residual residual_of(const struct cuda_group *g, uint32_t norm)
{
    const struct cuda_gpu *gpu = g->gpu;
    const struct cuda_rank *r = &gpu->ranks[0];
    return (struct cuda_residual){
        .step = g->step,
        .tokens = g->tokens,
        .residual_out = row_of(g, gpu->residual[0], gpu->stride),
        .normed = row_of(g, gpu->normed, gpu->stride),
        .norm = cuda_at(r, rank_norm(r->weights, norm)),
        .stride = (uint32_t)gpu->stride,
        .hidden = (uint32_t)gpu->setup->model->hidden,
        .eps = (float)gpu->setup->model->rms_eps,
        .round = r->weights->arithmetic == DTYPE_BF16,
        .gpu = gpu->number,
        .watch = gpu->watch,
        .deadline = gpu->deadline * 1000000000u,
    };
}

bool cuda_embedding(const struct cuda_group *g, uint32_t norm, struct cuda_residual *out)
{
    struct cuda_gpu *gpu = g->gpu;
    const struct matrix *embed = &gpu->ranks[0].weights->embed;
    const uint64_t rows = g->span ? g->n_rows : root_rows(g);
    *out = residual_of(g, norm);
    out->embed = gpu->embed;
    out->n_embed = (uint32_t)gpu->setup->comm->size;
    out->embed_dtype = embed->stored->id;
    out->panel_words = (uint32_t)(embed->panel_bytes / (PANEL_ROWS * 4));
    if (!gpu->gathers)
        return true;
    /* the third inbox is free, and so are sums: rows that this GPU has, then everyone's */
    float *all = g->span ? gpu->sums : gpu->inbox + 2 * gpu->inbox_floats;
    struct cuda_residual own = *out;
    own.residual_out = all + gpu->number * rows * gpu->stride;
    out->gathered = all;
    out->gathered_rows = (uint32_t)rows;
    return cuda_run_residual(g, &own) && cuda_gather(gpu, all, rows * gpu->stride, g->err);
}

/* Of the roots of all ranks' w; the scale and the bias are every rank's. */
static struct cuda_residual reduction_of(const struct cuda_group *g, const struct matrix *w,
                                         uint32_t layer, enum cuda_reduction reduction)
{
    const struct cuda_gpu *gpu = g->gpu;
    const struct comm *comm = gpu->setup->comm;
    struct cuda_residual a = residual_of(g, 2 * layer + 1 + (uint32_t)reduction);
    a.residual = row_of(g, gpu->residual[reduction], gpu->stride);
    a.residual_out = row_of(g, gpu->residual[!reduction], gpu->stride);
    a.inbox = inbox_of(g, layer, reduction);
    a.roots = gpu->roots[reduction];
    a.scale = cuda_at(&gpu->ranks[0], w->scale);
    a.bias = cuda_at(&gpu->ranks[0], w->bias);
    a.n_roots = (uint32_t)(reduction ? &comm->mlp : &comm->attention)->n_roots;
    a.keeps = true;
    return a;
}

bool cuda_run_residual(const struct cuda_group *g, struct cuda_residual *a)
{
    return launch(g, g->gpu->residual_norm, g->n_rows, align_up(a->hidden * 4, 16) + 16, a);
}

bool cuda_reduce_span(const struct cuda_group *g, uint32_t layer, enum cuda_reduction reduction,
                      uint64_t rows)
{
    struct cuda_gpu *gpu = g->gpu;
    const struct layer_weights *w = &gpu->ranks[0].weights->layers[layer];
    struct cuda_residual a = reduction_of(g, reduction ? &w->down : &w->o, layer, reduction);
    a.inbox = (struct cuda_inbox){
        .at = {gpu->sums}, .n = 1, .root_stride = (uint32_t)(rows * gpu->stride)};
    a.roots = gpu->whole[reduction];
    a.n_roots = gpu->n_whole[reduction];
    a.keeps = false;
    return (!gpu->nccl ||
            cuda_gather(gpu, gpu->sums, gpu->sum_slots * rows * gpu->stride, g->err)) &&
           cuda_run_residual(g, &a);
}

/* ---- dots ---- */

static uint32_t lane_blocks(const struct stored *s)
{
    return s->bits >= 16 ? 1 : s->bits == 8 ? 2 : 4;
}

/* x of 1 << kind rows in shared memory; the factors of their norms */
static size_t staged_bytes(uint64_t blocks, int kind)
{
    return align_up(blocks * CUDA_XPAD * 4 << kind, 16);
}
static size_t factor_bytes(int kind)
{
    return align_up((size_t)4 << kind, 16);
}

/* Shared memory of a launch (dot.cuh), and what of it is in global memory instead. */
static size_t place_dot(const struct cuda_group *g, const struct stored *s, struct cuda_dot *a,
                        unsigned ctas)
{
    const uint32_t m = 1u << g->kind, parts = a->pair ? 2 : 1;
    const uint32_t units = (uint32_t)div_ceil(a->blocks, lane_blocks(s)) * parts;
    const size_t most = (size_t)g->gpu->cuda->shared_max / ctas - (ctas > 1 ? 1024 : 0);
    a->slots = (uint32_t)div_ceil((CUDA_WARPS + 1) * CUDA_GROUPS, units) + 1;
    size_t bytes = 2 * align_up(a->slots * 4, 16);
    if (a->minimum)
        bytes += align_up((size_t)m * a->blocks * 4, 16);
    const size_t x = staged_bytes(a->blocks, g->kind);
    const size_t rows = m + (s->group > 0); /* constants of groups beside the values */
    const size_t inner = align_up((size_t)a->slots * rows * parts * a->blocks * PANEL_ROWS * 4, 16);
    if (!a->x) /* made in every CTA, to shared memory */
        bytes += x + factor_bytes(g->kind);
    a->inner = bytes + inner <= most ? NULL : g->gpu->inner;
    bytes += a->inner ? 0 : inner;
    a->stage_x = !a->x || bytes + x <= most;
    return bytes + (a->x && a->stage_x ? x : 0);
}

/* There are kernels that do it, and x has room. */
bool cuda_can_fuse(const struct cuda_gpu *gpu, int kind)
{
    const size_t x = staged_bytes(gpu->stride / BLOCK_COLS, kind) + factor_bytes(kind);
    uint64_t heads = 0, ff = 0;
    for (uint32_t i = 0; i < gpu->n_ranks; i++) {
        heads += gpu->ranks[i].heads;
        ff += gpu->ranks[i].ff;
    }
    return heads && ff && x + 4096 <= (size_t)gpu->cuda->shared_max / 2;
}

/* Where nothing of the matrix is the rank's nothing is done. */
static bool run_dot(const struct cuda_group *g, const struct cuda_rank *r, enum cuda_kind kind,
                    uint32_t layer, struct cuda_dot *a)
{
    const struct cuda_geometry *geometry = &r->kinds[kind];
    const struct cuda_gpu *gpu = g->gpu;
    const unsigned ctas =
        g->kind <= 2 ? 2 : 1; /* of a multiprocessor: the kernels' launch bounds */
    if (!a->panels || !geometry->blocks)
        return true;
    a->step = g->step;
    a->table = geometry->table;
    a->blocks = geometry->blocks;
    a->panel_words = geometry->panel_words;
    a->minimum = geometry->stored->offset == OFFSET_MINIMUM;
    a->edge = gpu->edge;
    a->edge_arrived = gpu->edge_arrived;
    a->mark_at = gpu->mark;
    a->mark = CUDA_MARK(layer, kind, r->number);
    const size_t shared = place_dot(g, geometry->stored, a, ctas);
    const uint64_t units = (uint64_t)a->panels *
                           div_ceil(a->blocks, lane_blocks(geometry->stored)) * (a->pair ? 2 : 1);
    const uint64_t grid =
        min_u64((uint64_t)gpu->cuda->multiprocessors * ctas, div_ceil(units, CUDA_GROUPS));
    return launch(g, gpu->dots[geometry->stored->id][g->kind], (unsigned)grid, shared, a);
}

struct cuda_matrix cuda_matrix_at(const struct cuda_rank *r, const struct matrix *m, float *out,
                                  uint64_t stride, bool full)
{
    return (struct cuda_matrix){
        .w = cuda_at(r, m->w),
        .out = out,
        .scale = full ? cuda_at(r, m->scale) : NULL,
        .bias = full ? cuda_at(r, m->bias) : NULL,
        .panels = (uint32_t)m->panels,
        .rows = (uint32_t)m->rows,
        .out_stride = (uint32_t)stride,
    };
}

/* ---- what reads the same x: in one launch, of all ranks ---- */

struct launches {
    const struct cuda_group *group;
    const struct cuda_residual *before; /* what x is, or what makes it; NULL: x is given */
    const float *x;
    uint32_t layer;
    bool pair, keeps;    /* the first launch keeps the inboxes */
    enum cuda_kind kind; /* of the matrices so far, for a launch to come */
    struct cuda_dot dot;
};

static struct launches launches_of(const struct cuda_group *g, uint32_t layer,
                                   const struct cuda_residual *before, const float *x)
{
    return (struct launches){.group = g,
                             .before = before,
                             .x = x          ? x
                                  : g->fused ? NULL
                                             : before->normed,
                             .layer = layer,
                             .keeps = before != NULL};
}

static bool flush(struct launches *l)
{
    struct cuda_dot a = l->dot;
    l->dot = (struct cuda_dot){.n_matrices = 0};
    if (!a.n_matrices)
        return true;
    if (l->before)
        a.before = *l->before;
    a.before.keeps &= l->keeps;
    l->keeps = false;
    a.x = l->x;
    a.x_stride = (uint32_t)l->group->gpu->stride;
    a.pair = l->pair;
    a.round = l->group->gpu->ranks[0].weights->arithmetic == DTYPE_BF16;
    return run_dot(l->group, &l->group->gpu->ranks[0], l->kind, l->layer, &a);
}

/* One more matrix, or two; what is stored in another way begins another launch. */
static bool add(struct launches *l, enum cuda_kind kind, const struct cuda_matrix *matrix,
                const struct cuda_matrix *second)
{
    const struct cuda_rank *r = &l->group->gpu->ranks[0];
    const uint32_t n = second ? 2 : 1;
    if (!matrix->panels)
        return true;
    if (l->dot.n_matrices &&
        (l->dot.n_matrices + n > CUDA_MATRICES ||
         r->kinds[kind].stored != r->kinds[l->kind].stored) &&
        !flush(l))
        return false;
    l->kind = l->dot.n_matrices ? l->kind : kind;
    l->pair = second;
    for (uint32_t i = 0; i < n; i++) {
        struct cuda_matrix *to = &l->dot.matrix[l->dot.n_matrices++];
        *to = i ? *second : *matrix;
        to->first = l->dot.panels;
    }
    l->dot.panels += matrix->panels;
    return true;
}

static bool run_qkv(const struct cuda_group *g, uint32_t layer, const struct cuda_residual *before)
{
    struct launches l = launches_of(g, layer, before, NULL);
    bool ok = true;
    for (uint32_t i = 0; ok && i < g->gpu->n_ranks; i++) {
        const struct cuda_rank *r = &g->gpu->ranks[i];
        const struct layer_weights *w = &r->weights->layers[layer];
        const struct cuda_matrix q = cuda_matrix_at(r, &w->q, r->q, r->q_stride, true),
                                 k = cuda_matrix_at(r, &w->k, r->k, r->kv_stride, true),
                                 v = cuda_matrix_at(r, &w->v, r->v, r->kv_stride, true);
        ok = add(&l, KIND_Q, &q, NULL) && add(&l, KIND_K, &k, NULL) && add(&l, KIND_V, &v, NULL);
    }
    return ok && flush(&l);
}

static bool run_gate_up(const struct cuda_group *g, uint32_t layer,
                        const struct cuda_residual *before)
{
    struct launches l = launches_of(g, layer, before, NULL);
    bool ok = true;
    for (uint32_t i = 0; ok && i < g->gpu->n_ranks; i++) {
        const struct cuda_rank *r = &g->gpu->ranks[i];
        const struct layer_weights *w = &r->weights->layers[layer];
        const struct cuda_matrix gate = cuda_matrix_at(r, &w->gate, r->act, r->act_stride, true),
                                 up = cuda_matrix_at(r, &w->up, NULL, 0, true);
        ok = add(&l, KIND_GATE, &gate, &up);
    }
    return ok && flush(&l);
}

bool cuda_run_logits(const struct cuda_group *g, const float *x)
{
    const struct cuda_gpu *gpu = g->gpu;
    struct launches l = launches_of(g, 0, NULL, x);
    bool ok = true;
    for (uint32_t i = 0; ok && i < gpu->n_ranks; i++) {
        const struct cuda_rank *r = &gpu->ranks[i];
        const struct cuda_matrix m = cuda_matrix_at(
            r, &r->weights->lm_head, gpu->all_logits + r->plan->partition.vocab.begin,
            gpu->logit_stride, true);
        ok = add(&l, KIND_LM, &m, NULL);
    }
    return ok && flush(&l);
}

/* o_proj or down_proj over the rank's leaves: its roots go to all inboxes. */
static bool run_leaves(const struct cuda_group *g, const struct cuda_rank *r, uint32_t layer,
                       enum cuda_reduction reduction)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    const struct matrix *m = reduction ? &w->down : &w->o;
    struct cuda_dot a = {
        .matrix = {cuda_matrix_at(r, m, NULL, g->gpu->stride, false)},
        .n_matrices = 1,
        .panels = (uint32_t)m->panels,
        .x = reduction ? r->act : r->attn,
        .x_stride = (uint32_t)(reduction ? r->act_stride : r->attn_stride),
        .inbox = inbox_of(g, layer, reduction),
        .first_slot = cuda_slot_of(r->gpu, reduction, r->number),
    };
    return run_dot(g, r, reduction ? KIND_DOWN : KIND_O, layer, &a);
}

/* ---- between them ---- */

static unsigned char *pages_of(const struct cuda_rank *r, uint32_t layer)
{
    uint64_t local = layer - r->plan->partition.layers.begin;
    return r->kv + local * r->setup->n_pages * r->kv_heads * 2 * r->gpu->page_bytes;
}

static struct cuda_rope rope_of(const struct cuda_group *g, const struct cuda_rank *r,
                                uint32_t layer)
{
    const struct cuda_gpu *gpu = g->gpu;
    const struct layer_weights *w = &r->weights->layers[layer];
    return (struct cuda_rope){
        .step = g->step,
        .q = r->q,
        .k = r->k,
        .v = r->v,
        .queries = r->queries,
        .pages = pages_of(r, layer),
        .cos = gpu->cos,
        .sin = gpu->sin,
        .q_norm = cuda_at(r, w->q_norm),
        .k_norm = cuda_at(r, w->k_norm),
        .kv_dtype = r->setup->kv_dtype,
        .heads = (uint32_t)r->heads,
        .kv_heads = (uint32_t)r->kv_heads,
        .head_dim = (uint32_t)r->setup->model->head_dim,
        .head_pad = (uint32_t)gpu->head_pad,
        .q_stride = (uint32_t)r->q_stride,
        .kv_stride = (uint32_t)r->kv_stride,
        .chunks_max = (uint32_t)gpu->chunks_max,
        .page_bytes = gpu->page_bytes,
        .eps = (float)r->setup->model->rms_eps,
        .round = r->weights->arithmetic == DTYPE_BF16,
    };
}

static bool run_rope(const struct cuda_group *g, const struct cuda_rank *r, uint32_t layer)
{
    struct cuda_rope a = rope_of(g, r, layer);
    const unsigned warps = CUDA_THREADS / 32;
    uint64_t items = (r->heads + r->kv_heads) * g->n_rows;
    if (!items)
        return true;
    return launch(g, g->gpu->rope, (unsigned)div_ceil(items, warps),
                  align_up((uint64_t)warps * a.head_dim * 4, 16), &a);
}

/* The heads of a KV head are one tile, so that one CTA appends its k and v. */
static bool ropes_in_attention(const struct cuda_group *g)
{
    return g->fused && g->apart && g->gpu->group <= g->gpu->tile;
}

struct cuda_attention cuda_attention_of(const struct cuda_group *g, const struct cuda_rank *r,
                                        uint32_t layer)
{
    const struct cuda_gpu *gpu = g->gpu;
    const struct partition *p = &r->plan->partition;
    const struct matrix *next = &r->weights->layers[layer].o;
    return (struct cuda_attention){
        .step = g->step,
        .queries = ropes_in_attention(g) ? NULL : r->queries,
        .rope = rope_of(g, r, layer),
        .pages = pages_of(r, layer),
        .out = r->attn,
        .columns = r->columns,
        .partial = r->partial,
        .arrived = r->arrived,
        .heads = (uint32_t)r->heads,
        .kv_heads = (uint32_t)r->kv_heads,
        .group = (uint32_t)gpu->group,
        .skip = (uint32_t)(p->heads.begin - p->kv_heads.begin * gpu->group),
        .head_dim = (uint32_t)r->setup->model->head_dim,
        .head_pad = (uint32_t)gpu->head_pad,
        .chunks_max = (uint32_t)gpu->chunks_max,
        .window = (uint32_t)r->setup->model->window[layer],
        .out_stride = (uint32_t)r->attn_stride,
        .page_bytes = gpu->page_bytes,
        .scale = (float)(1.0 / sqrt((double)r->setup->model->head_dim)),
        .round = r->weights->arithmetic == DTYPE_BF16,
        .ahead = cuda_at(r, next->w),
        .ahead_bytes = min_u64(next->panels * next->panel_bytes, AHEAD_BYTES / gpu->n_ranks),
    };
}

bool cuda_run_attention(const struct cuda_group *g, struct cuda_attentions *all)
{
    const struct cuda_gpu *gpu = g->gpu;
    uint64_t kv_heads = 0;
    for (uint32_t i = 0; i < all->n; i++)
        kv_heads += all->rank[i].kv_heads;
    uint64_t items = kv_heads * div_ceil(gpu->group, gpu->tile) * g->n_rows * gpu->chunks_max;
    uint64_t grid = min_u64(items, (uint64_t)gpu->cuda->multiprocessors * 2);
    return launch(g, gpu->attention, (unsigned)grid, cuda_attention_shared(gpu, gpu->tile), all);
}

/* Of all ranks that have heads, as many in a launch as there is room for. */
static bool run_attention(const struct cuda_group *g, uint32_t layer)
{
    const struct cuda_gpu *gpu = g->gpu;
    struct cuda_attentions all = {.n = 0};
    bool ok = true;
    for (uint32_t i = 0; ok && i < gpu->n_ranks; i++) {
        const struct cuda_rank *r = &gpu->ranks[i];
        if (r->heads)
            all.rank[all.n++] = cuda_attention_of(g, r, layer);
        if (all.n == CUDA_TOGETHER || (all.n && i + 1 == gpu->n_ranks)) {
            ok = cuda_run_attention(g, &all);
            all.n = 0;
        }
    }
    return ok;
}

bool cuda_run_layer(const struct cuda_group *g, uint32_t layer, struct cuda_residual *before)
{
    struct cuda_gpu *gpu = g->gpu;
    const struct layer_weights *w = &gpu->ranks[0].weights->layers[layer];
    struct cuda_residual middle = reduction_of(g, &w->o, layer, REDUCE_ATTENTION);
    bool ok = run_qkv(g, layer, before);
    for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
        ok = ropes_in_attention(g) || run_rope(g, &gpu->ranks[i], layer);
    ok = ok && run_attention(g, layer);
    for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
        ok = run_leaves(g, &gpu->ranks[i], layer, REDUCE_ATTENTION);
    ok = ok && gather_roots(g, REDUCE_ATTENTION) && (g->fused || cuda_run_residual(g, &middle)) &&
         run_gate_up(g, layer, &middle);
    for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
        ok = run_leaves(g, &gpu->ranks[i], layer, REDUCE_MLP);
    *before = reduction_of(g, &w->down, layer, REDUCE_MLP);
    return ok && gather_roots(g, REDUCE_MLP) && (g->fused || cuda_run_residual(g, before));
}
