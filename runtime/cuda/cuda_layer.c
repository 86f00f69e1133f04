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
    return cuda_launch(g->rank->cuda, function, grid, CUDA_THREADS, shared, arguments, g->err);
}

static float *row_of(const struct cuda_group *g, float *rows, uint64_t stride)
{
    return rows + g->first * stride;
}

/* ---- the residual stream ---- */

struct cuda_residual cuda_residual_of(const struct cuda_group *g, const struct matrix *w,
                                      int reduction, uint32_t norm)
{
    const struct cuda_rank *r = g->rank;
    const struct matrix *embed = &r->weights->embed;
    struct cuda_residual a = {
        .step = g->step,
        .residual = row_of(g, r->residual[reduction], r->stride),
        .residual_out = row_of(g, r->residual[w ? !reduction : 0], r->stride),
        .normed = row_of(g, r->normed, r->stride),
        .norm = cuda_at(r, rank_norm(r->weights, norm)),
        .stride = (uint32_t)r->stride,
        .hidden = (uint32_t)r->setup->model->hidden,
        .eps = (float)r->setup->model->rms_eps,
        .round = r->weights->arithmetic == DTYPE_BF16,
    };
    if (!w) {
        a.embed = cuda_at(r, embed->w);
        a.embed_dtype = embed->stored->id;
        a.first_token = (uint32_t)r->weights->partition.vocab.begin;
        a.tokens = (uint32_t)embed->rows;
        a.panel_words = (uint32_t)(embed->panel_bytes / (PANEL_ROWS * 4));
    } else {
        const struct comm *comm = r->setup->comm;
        a.roots = r->roots[reduction];
        a.merges = r->merges[reduction];
        a.scale = cuda_at(r, w->scale);
        a.bias = cuda_at(r, w->bias);
        a.n_roots = (uint32_t)(reduction ? &comm->mlp : &comm->attention)->first_root[1];
        a.root_stride = (uint32_t)(CUDA_ROWS * r->stride);
    }
    return a;
}

bool cuda_run_residual(const struct cuda_group *g, struct cuda_residual *a)
{
    return launch(g, g->rank->residual_norm, g->n_rows, align_up(a->hidden * 4, 16) + 16, a);
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
    const size_t most = (size_t)g->rank->cuda->shared_max / ctas - (ctas > 1 ? 1024 : 0);
    a->slots = (uint32_t)div_ceil((CUDA_WARPS + 1) * CUDA_GROUPS, units) + 1;
    size_t bytes = 2 * align_up(a->slots * 4, 16);
    if (a->minimum)
        bytes += align_up((size_t)m * a->blocks * 4, 16);
    const size_t x = staged_bytes(a->blocks, g->kind);
    const size_t rows = m + (s->group > 0); /* constants of groups beside the values */
    const size_t inner = align_up((size_t)a->slots * rows * parts * a->blocks * PANEL_ROWS * 4, 16);
    if (!a->x) /* made in every CTA, to shared memory */
        bytes += x + factor_bytes(g->kind);
    a->inner = bytes + inner <= most ? NULL : g->rank->inner;
    bytes += a->inner ? 0 : inner;
    a->stage_x = !a->x || bytes + x <= most;
    return bytes + (a->x && a->stage_x ? x : 0);
}

bool cuda_has_room(const struct cuda_rank *r, int kind)
{
    const size_t x = staged_bytes(r->stride / BLOCK_COLS, kind) + factor_bytes(kind);
    return x + 4096 <= (size_t)r->cuda->shared_max / 2;
}

static bool run_dot(const struct cuda_group *g, const struct cuda_geometry *geometry,
                    struct cuda_dot *a)
{
    const struct cuda_rank *r = g->rank;
    const unsigned ctas =
        g->kind <= 2 ? 2 : 1; /* of a multiprocessor: the kernels' launch bounds */
    a->step = g->step;
    a->table = geometry->table;
    a->blocks = geometry->blocks;
    a->panel_words = geometry->panel_words;
    a->minimum = geometry->stored->offset == OFFSET_MINIMUM;
    a->edge = r->edge;
    a->edge_arrived = r->edge_arrived;
    const size_t shared = place_dot(g, geometry->stored, a, ctas);
    const uint64_t units = (uint64_t)a->panels *
                           div_ceil(a->blocks, lane_blocks(geometry->stored)) * (a->pair ? 2 : 1);
    const uint64_t grid =
        min_u64((uint64_t)r->cuda->multiprocessors * ctas, div_ceil(units, CUDA_GROUPS));
    return launch(g, r->dots[geometry->stored->id][g->kind], (unsigned)grid, shared, a);
}

static struct cuda_matrix matrix_at(const struct cuda_rank *r, const struct matrix *m, float *out,
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

/* q, k, v in one launch where they are stored alike. */
static bool run_qkv(const struct cuda_group *g, const struct layer_weights *w,
                    const struct cuda_residual *before)
{
    struct cuda_rank *r = g->rank;
    const struct cuda_matrix all[] = {
        matrix_at(r, &w->q, r->q, r->q_stride, true),
        matrix_at(r, &w->k, r->k, r->kv_stride, true),
        matrix_at(r, &w->v, r->v, r->kv_stride, true),
    };
    const bool alike = r->kinds[KIND_Q].stored == r->kinds[KIND_K].stored &&
                       r->kinds[KIND_Q].stored == r->kinds[KIND_V].stored;
    for (int i = 0, n; i < 3; i += n) {
        struct cuda_dot a = {.before = *before, .x_stride = (uint32_t)r->stride};
        a.x = g->fused ? NULL : before->normed;
        n = alike ? 3 : 1;
        for (int j = 0; j < n; j++) {
            a.matrix[j] = all[i + j];
            a.matrix[j].first = a.panels;
            a.panels += a.matrix[j].panels;
        }
        a.n_matrices = (uint32_t)n;
        if (!run_dot(g, &r->kinds[KIND_Q + i], &a))
            return false;
    }
    return true;
}

static bool run_leaves(const struct cuda_group *g, const struct matrix *m, enum cuda_kind kind,
                       const float *x, uint64_t stride, float *roots)
{
    const struct cuda_rank *r = g->rank;
    struct cuda_dot a = {
        .matrix = {matrix_at(r, m, roots, r->stride, false)},
        .n_matrices = 1,
        .panels = (uint32_t)m->panels,
        .x = x,
        .x_stride = (uint32_t)stride,
        .root_stride = (uint32_t)(CUDA_ROWS * r->stride),
    };
    return run_dot(g, &r->kinds[kind], &a);
}

static bool run_gate_up(const struct cuda_group *g, const struct layer_weights *w,
                        const struct cuda_residual *before)
{
    const struct cuda_rank *r = g->rank;
    struct cuda_dot a = {
        .before = *before,
        .matrix = {matrix_at(r, &w->gate, r->act, r->act_stride, true),
                   matrix_at(r, &w->up, NULL, 0, true)},
        .n_matrices = 2,
        .pair = 1,
        .panels = (uint32_t)w->gate.panels,
        .x = g->fused ? NULL : before->normed,
        .x_stride = (uint32_t)r->stride,
        .round = r->weights->arithmetic == DTYPE_BF16,
    };
    return run_dot(g, &r->kinds[KIND_GATE], &a);
}

bool cuda_run_logits(const struct cuda_group *g, const float *x)
{
    const struct cuda_rank *r = g->rank;
    const struct matrix *m = &r->weights->lm_head;
    struct cuda_dot a = {
        .matrix = {matrix_at(r, m, r->logits, r->logit_stride, true)},
        .n_matrices = 1,
        .panels = (uint32_t)m->panels,
        .x = x,
        .x_stride = (uint32_t)r->stride,
    };
    return run_dot(g, &r->kinds[KIND_LM], &a);
}

/* ---- between them ---- */

static unsigned char *pages_of(const struct cuda_rank *r, uint32_t layer)
{
    uint64_t local = layer - r->weights->partition.layers.begin;
    return r->kv + local * r->setup->n_pages * r->kv_heads * 2 * r->page_bytes;
}

static struct cuda_rope rope_of(const struct cuda_group *g, uint32_t layer)
{
    const struct cuda_rank *r = g->rank;
    const struct layer_weights *w = &r->weights->layers[layer];
    return (struct cuda_rope){
        .step = g->step,
        .q = r->q,
        .k = r->k,
        .v = r->v,
        .queries = r->queries,
        .pages = pages_of(r, layer),
        .cos = r->cos,
        .sin = r->sin,
        .q_norm = cuda_at(r, w->q_norm),
        .k_norm = cuda_at(r, w->k_norm),
        .kv_dtype = r->setup->kv_dtype,
        .heads = (uint32_t)r->heads,
        .kv_heads = (uint32_t)r->kv_heads,
        .head_dim = (uint32_t)r->setup->model->head_dim,
        .head_pad = (uint32_t)r->head_pad,
        .q_stride = (uint32_t)r->q_stride,
        .kv_stride = (uint32_t)r->kv_stride,
        .chunks_max = (uint32_t)r->chunks_max,
        .page_bytes = r->page_bytes,
        .eps = (float)r->setup->model->rms_eps,
        .round = r->weights->arithmetic == DTYPE_BF16,
    };
}

static bool run_rope(const struct cuda_group *g, uint32_t layer)
{
    const struct cuda_rank *r = g->rank;
    struct cuda_rope a = rope_of(g, layer);
    const unsigned warps = CUDA_THREADS / 32;
    uint64_t items = (r->heads + r->kv_heads) * g->n_rows;
    return launch(g, r->rope, (unsigned)div_ceil(items, warps),
                  align_up((uint64_t)warps * a.head_dim * 4, 16), &a);
}

/* The heads of a KV head are one tile, so that one CTA appends its k and v. */
static bool ropes_in_attention(const struct cuda_group *g)
{
    return g->fused && g->apart && g->rank->group <= g->rank->tile;
}

struct cuda_attention cuda_attention_of(const struct cuda_group *g, uint32_t layer)
{
    const struct cuda_rank *r = g->rank;
    const struct partition *p = &r->weights->partition;
    const struct matrix *next = &r->weights->layers[layer].o;
    return (struct cuda_attention){
        .step = g->step,
        .queries = ropes_in_attention(g) ? NULL : r->queries,
        .rope = rope_of(g, layer),
        .pages = pages_of(r, layer),
        .out = r->attn,
        .columns = r->columns,
        .partial = r->partial,
        .arrived = r->attention_arrived,
        .heads = (uint32_t)r->heads,
        .kv_heads = (uint32_t)r->kv_heads,
        .group = (uint32_t)r->group,
        .skip = (uint32_t)(p->heads.begin - p->kv_heads.begin * r->group),
        .head_dim = (uint32_t)r->setup->model->head_dim,
        .head_pad = (uint32_t)r->head_pad,
        .chunks_max = (uint32_t)r->chunks_max,
        .window = (uint32_t)r->setup->model->window[layer],
        .out_stride = (uint32_t)r->attn_stride,
        .page_bytes = r->page_bytes,
        .scale = (float)(1.0 / sqrt((double)r->setup->model->head_dim)),
        .round = r->weights->arithmetic == DTYPE_BF16,
        .ahead = cuda_at(r, next->w),
        .ahead_bytes = min_u64(next->panels * next->panel_bytes, AHEAD_BYTES),
    };
}

bool cuda_run_attention(const struct cuda_group *g, struct cuda_attention *a)
{
    const struct cuda_rank *r = g->rank;
    uint64_t items = r->kv_heads * div_ceil(r->group, r->tile) * g->n_rows * r->chunks_max;
    uint64_t grid = min_u64(items, (uint64_t)r->cuda->multiprocessors * 2);
    return launch(g, r->attention, (unsigned)grid, cuda_attention_shared(r, r->tile), a);
}

bool cuda_run_layer(const struct cuda_group *g, uint32_t layer, struct cuda_residual *before)
{
    const struct cuda_rank *r = g->rank;
    const struct layer_weights *w = &r->weights->layers[layer];
    struct cuda_residual middle = cuda_residual_of(g, &w->o, 0, 2 * layer + 1);
    struct cuda_attention attention = cuda_attention_of(g, layer);
    bool ok = run_qkv(g, w, before) && (ropes_in_attention(g) || run_rope(g, layer)) &&
              cuda_run_attention(g, &attention) &&
              run_leaves(g, &w->o, KIND_O, r->attn, r->attn_stride, r->roots[0]) &&
              (g->fused || cuda_run_residual(g, &middle)) && run_gate_up(g, w, &middle) &&
              run_leaves(g, &w->down, KIND_DOWN, r->act, r->act_stride, r->roots[1]);
    *before = cuda_residual_of(g, &w->down, 1, 2 * layer + 2);
    return ok && (g->fused || cuda_run_residual(g, before));
}
