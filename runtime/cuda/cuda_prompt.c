/* Prompts, fast: a span of rows through the layers on tensor cores (kernels/cuda/product.cuh,
 * prompt.cuh). The ranks of a GPU take turns for half a layer each, then their sums meet. */
#include "cuda_prompt.h"

#include "checked.h"
#include <stdio.h>
#include <string.h>

const uint32_t cuda_chunks[] = {128, 256, 512, 1024, 2048, 0};

static bool find_attention(struct cuda_gpu *g, struct tp_error *err)
{
    const enum dtype kv = g->setup->kv_dtype;
    char name[64];
    if (kv == DTYPE_F32 || g->head_pad > 256)
        return true;
    snprintf(name, sizeof name, "prompt_attention_%s_%d", dtype_name(kv),
             g->head_pad <= 64    ? 64
             : g->head_pad <= 128 ? 128
                                  : 256);
    return cuda_kernel(g->cuda, name, &g->prompt.attention, err);
}

bool cuda_prepare_span(struct cuda_gpu *g, uint32_t n_rows, struct tp_error *err)
{
    struct cuda_prompt_kernels *k = &g->prompt;
    return (k->rope || (cuda_kernel(g->cuda, "prompt_rope_append", &k->rope, err) &&
                        find_attention(g, err))) &&
           cuda_prepare_products(g, n_rows, err);
}

bool cuda_prompt_launch(const struct cuda_prompt *p, cu_function function, uint64_t grid,
                        unsigned threads, size_t shared, void *arguments)
{
    return cuda_launch(p->gpu->cuda, function, (unsigned)grid, threads, shared, arguments, p->err);
}

/* ---- products ---- */

static float *normed_of(const struct cuda_prompt *p)
{
    return p->gpu->normed + p->first * p->gpu->stride;
}

/* q, k, v in one launch where they are stored alike. */
static bool run_qkv(const struct cuda_prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    const struct matrix *const m[] = {&w->q, &w->k, &w->v};
    float *const out[] = {r->q, r->k, r->v};
    bool ok = true;
    for (int i = 0; ok && i < 3;) {
        const enum cuda_kind kind = (enum cuda_kind)(KIND_Q + i);
        struct cuda_product a = {.n_matrices = 0};
        for (; i < 3 && r->kinds[KIND_Q + i].stored == r->kinds[kind].stored; i++)
            cuda_add_matrix(r, &a, m[i], out[i], i ? r->kv_stride : r->q_stride, true);
        ok = cuda_multiply(p, r, kind, layer, normed_of(p), p->gpu->stride, &a);
    }
    return ok;
}

static float *sums_of(const struct cuda_prompt *p, uint64_t rank)
{
    return p->gpu->sums + cuda_sum_slot(p->gpu, rank) * cuda_prompt_rows(p) * p->gpu->stride;
}

/* Whole dots of this rank's columns; scale and bias come when all ranks' are added. */
static bool run_sums(const struct cuda_prompt *p, const struct cuda_rank *r, uint32_t layer,
                     enum cuda_reduction reduction)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    const enum cuda_kind kind = reduction ? KIND_DOWN : KIND_O;
    struct cuda_product a = {.n_matrices = 0};
    cuda_add_matrix(r, &a, reduction ? &w->down : &w->o, sums_of(p, r->number), p->gpu->stride,
                    false);
    return cuda_multiply(p, r, kind, layer, reduction ? r->act : r->attn,
                         reduction ? r->act_stride : r->attn_stride, &a);
}

static bool feed(const struct cuda_prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    struct cuda_product a = {.pair = 1};
    if (!r->ff)
        return true;
    cuda_add_matrix(r, &a, &w->gate, r->act, r->act_stride, true);
    cuda_add_matrix(r, &a, &w->up, NULL, 0, true);
    a.panels = (uint32_t)w->gate.panels;
    return cuda_multiply(p, r, KIND_GATE, layer, normed_of(p), p->gpu->stride, &a) &&
           run_sums(p, r, layer, REDUCE_MLP);
}

/* ---- attention ---- */

/* The exact kernel, a group of rows at a time, for what the fast one is not made for. */
static bool attend_exactly(const struct cuda_prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    const struct cuda_gpu *gpu = p->gpu;
    bool ok = true;
    for (uint32_t at = 0; ok && at < p->n_rows; at += CUDA_ROWS) {
        const struct cuda_group g = {
            .gpu = p->gpu,
            .n_rows = p->n_rows - at < CUDA_ROWS ? p->n_rows - at : CUDA_ROWS,
            .step = (const struct cuda_step *)(const void *)(gpu->steps +
                                                             at / CUDA_ROWS * gpu->step_bytes),
            .err = p->err,
        };
        struct cuda_attentions a = {{cuda_attention_of(&g, r, layer)}, 1};
        a.rank[0].queries += at * r->heads * gpu->head_pad;
        a.rank[0].out += at * r->attn_stride;
        ok = cuda_run_attention(&g, &a);
    }
    return ok;
}

static bool attend_fast(const struct cuda_prompt *p, const struct cuda_rank *r,
                        const struct cuda_attention *like)
{
    const struct cuda_gpu *gpu = p->gpu;
    struct cuda_prompt_attention a = {
        .queries = r->queries,
        .kv = like->pages,
        .pages = gpu->span,
        .out = r->attn,
        .columns = r->columns,
        .page_bytes = gpu->page_bytes,
        .heads = like->heads,
        .kv_heads = like->kv_heads,
        .group = like->group,
        .skip = like->skip,
        .head_dim = like->head_dim,
        .head_pad = like->head_pad,
        .out_stride = like->out_stride,
        .n_rows = p->n_rows,
        .position = p->position,
        .window = like->window,
        .scale = like->scale,
        .round = like->round,
    };
    const uint64_t tiles = div_ceil(p->n_rows, CUDA_QUERY_WARPS * 16);
    return cuda_prompt_launch(p, gpu->prompt.attention, tiles * r->heads, CUDA_QUERY_WARPS * 32, 0,
                              &a);
}

static bool run_rope(const struct cuda_prompt *p, const struct cuda_rank *r,
                     const struct cuda_rope *rope)
{
    struct cuda_prompt_rope a = {
        .rope = *rope, .pages = p->gpu->span, .n_rows = p->n_rows, .position = p->position};
    const uint64_t items = (r->heads + r->kv_heads) * p->n_rows;
    return cuda_prompt_launch(p, p->gpu->prompt.rope, div_ceil(items, CUDA_WARPS), CUDA_THREADS,
                              align_up((uint64_t)CUDA_WARPS * rope->head_dim * 4, 16), &a);
}

static bool attend(const struct cuda_prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    if (!r->heads)
        return true;
    const struct cuda_attention like =
        cuda_attention_of(&(struct cuda_group){.gpu = p->gpu, .err = p->err}, r, layer);
    return run_qkv(p, r, layer) && run_rope(p, r, &like.rope) &&
           (p->gpu->prompt.attention ? attend_fast(p, r, &like) : attend_exactly(p, r, layer)) &&
           run_sums(p, r, layer, REDUCE_ATTENTION);
}

/* ---- spans ---- */

static struct step part_of(const struct step *step, struct step_span span)
{
    struct step part = *step;
    part.rows += span.first;
    part.n_rows = span.n_rows;
    return part;
}

/* Attention that has no fast kernel takes groups of rows. */
static bool needs_groups(const struct cuda_gpu *g)
{
    return !g->prompt.attention;
}

void cuda_set_span(struct cuda_device *d, const struct step *step, struct step_span span)
{
    const struct cuda_gpu *g = &d->gpus[0];
    const struct step part = part_of(step, span);
    const uint32_t last = part.rows[span.n_rows - 1].position;
    memcpy(d->span, step->pages[part.rows->sequence], (last / CUDA_CHUNK + 1) * sizeof *d->span);
    for (uint32_t i = 0; i < span.n_rows; i++)
        d->span[g->chunks_max + i] = part.rows[i].token;
    ((struct cuda_step *)(void *)(d->steps + g->groups * g->step_bytes))->n_rows = span.n_rows;
    if (needs_groups(g))
        cuda_set_rows(d, &part);
}

/* Its rows as those of a group, for what does not mind how many there are. */
static struct cuda_group group_of(const struct cuda_prompt *p)
{
    struct cuda_gpu *g = p->gpu;
    return (struct cuda_group){
        .gpu = g,
        .first = p->first,
        .n_rows = p->n_rows,
        .step = (const struct cuda_step *)(const void *)(g->steps + g->groups * g->step_bytes),
        .tokens = g->span + g->chunks_max,
        .span = true,
        .err = p->err,
    };
}

/* What the span is, from the host's memory. */
static bool fetch_span(struct cuda_device *d, const struct cuda_prompt *p, const struct step *part)
{
    struct cuda_gpu *g = p->gpu;
    const struct cuda *c = g->cuda;
    const uint64_t last = g->groups * g->step_bytes;
    return CUDA(&c->api, p->err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)g->span, d->span, (g->chunks_max + p->n_rows) * sizeof *d->span,
                 c->stream)) &&
           CUDA(&c->api, p->err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)g->steps + last, d->steps + last, sizeof(struct cuda_step),
                 c->stream)) &&
           (!needs_groups(g) || cuda_put_rows(d, g, part, p->err));
}

bool cuda_run_span(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                   struct step_span span, struct tp_error *err)
{
    const struct range layers = gpu->ranks[0].plan->partition.layers;
    const struct step part = part_of(step, span);
    const struct cuda_prompt p = {gpu, span.first, span.n_rows, part.rows->position, err};
    const struct cuda_group g = group_of(&p);
    struct cuda_residual enter;
    bool ok = fetch_span(d, &p, &part) && cuda_embedding(&g, 2 * (uint32_t)layers.begin, &enter) &&
              cuda_run_residual(&g, &enter);
    for (uint32_t layer = (uint32_t)layers.begin; ok && layer < layers.end; layer++) {
        for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
            ok = attend(&p, &gpu->ranks[i], layer);
        ok = ok && cuda_reduce_span(&g, layer, REDUCE_ATTENTION, cuda_prompt_rows(&p));
        for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
            ok = feed(&p, &gpu->ranks[i], layer);
        ok = ok && cuda_reduce_span(&g, layer, REDUCE_MLP, cuda_prompt_rows(&p));
    }
    return ok;
}
