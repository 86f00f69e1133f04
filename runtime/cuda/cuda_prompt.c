/* Prompts, fast: a span of rows through the layers on tensor cores (kernels/cuda/prompt.cuh). The
 * ranks of a GPU take turns for half a layer each, then their sums meet. */
#include "cuda_blas.h"
#include "cuda_nccl.h"

#include "checked.h"
#include "mem.h"
#include <stdio.h>
#include <string.h>

/* A span on one GPU. */
struct prompt {
    struct cuda_gpu *gpu;
    uint32_t first, n_rows; /* rows of the step */
    uint32_t position;      /* of the first */
    struct tp_error *err;
};

const uint32_t cuda_chunks[] = {128, 256, 512, 1024, 2048, 0};

/* ---- kernels ---- */

/* Kernels of products. All have the same bits. With two sets of 32 rows of weights a CTA reads x
 * half as often: for matrices that leave no multiprocessor without. */
enum { PRODUCTS = 5 };
#define SUMS(parts, sets) ((size_t)(parts)*16 * (32 * (sets) + 1) * 4) /* prompt.cuh */
static const struct {
    const char *name;
    uint32_t tokens, sets; /* at most so many; of a CTA */
    size_t shared;         /* bytes, a multiple of 16 */
} products[PRODUCTS] = {
    {"32_wide", 32, 2, SUMS(CUDA_WARPS, 2)},
    {"32", 32, 1, SUMS(CUDA_WARPS, 1)},
    {"64", 64, 1, SUMS(CUDA_WARPS, 1)},
    {"128_wide", 128, 2, SUMS(CUDA_WARPS / 2, 2) + (size_t)CUDA_WARPS * 32 * CUDA_TOKENS * 4},
    {"128", 128, 1, SUMS(CUDA_WARPS, 1)},
};
_Static_assert(sizeof((struct cuda_prompt_kernels *)0)->products[0] ==
                   PRODUCTS * sizeof(cu_function),
               "a place for each");

static const char *format_name(const struct stored *s)
{
    return s->bits == 16 ? "16" : s->group ? "int4" : s->name;
}

static bool find_products(struct cuda_gpu *g, struct tp_error *err)
{
    const struct cuda_rank *r = &g->ranks[0];
    bool ok = true;
    for (int kind = 0; ok && kind < KIND_LM; kind++) {
        const struct stored *s = r->kinds[kind].stored;
        for (int i = 0; ok && i < PRODUCTS; i++) {
            cu_function *product = &g->prompt.products[s->id][i];
            char name[64];
            snprintf(name, sizeof name, "product_%s_%s_%s", dtype_name(r->weights->arithmetic),
                     format_name(s), products[i].name);
            ok = *product || cuda_kernel(g->cuda, name, product, err);
        }
    }
    return ok;
}

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

/* The kernels, where they are not known yet. */
static bool find_kernels(struct cuda_gpu *g, struct tp_error *err)
{
    struct cuda_prompt_kernels *k = &g->prompt;
    if (!k->found)
        k->found = cuda_kernel(g->cuda, "prompt_operand", &k->operand, err) &&
                   cuda_kernel(g->cuda, "prompt_rope_append", &k->rope, err) &&
                   cuda_kernel(g->cuda, "prompt_finish", &k->finish, err) &&
                   find_attention(g, err) && find_products(g, err);
    return k->found;
}

static bool launch(const struct prompt *p, cu_function function, uint64_t grid, unsigned threads,
                   size_t shared, void *arguments)
{
    return cuda_launch(p->gpu->cuda, function, (unsigned)grid, threads, shared, arguments, p->err);
}

/* ---- products ---- */

static uint64_t tile_of(uint64_t rows)
{
    return rows <= 32 ? 32 : rows <= 64 ? 64 : 128;
}

/* Rows that sums have room for, and products of cuBLASLt have: the tail is padded. */
static uint32_t rows_of(const struct prompt *p)
{
    return p->n_rows > CUDA_TOKENS ? (uint32_t)align_up(p->n_rows, CUDA_TOKENS) : p->n_rows;
}

/* x [n_rows][stride] to the operand that a kind of matrix takes; row by row for cuBLASLt. */
static bool make_operand(const struct prompt *p, const struct cuda_rank *r, enum cuda_kind kind,
                         uint32_t layer, const float *x, uint64_t stride, bool by_row)
{
    const struct cuda_geometry *g = &r->kinds[kind];
    struct cuda_operand a = {
        .from = x,
        .to = p->gpu->operand,
        .n_rows = p->n_rows,
        .n_out = rows_of(p),
        .stride = (uint32_t)stride,
        .blocks = g->blocks,
        .per_word = by_row ? 0 : 32 / g->stored->bits,
        .half = r->weights->arithmetic == DTYPE_F16,
        .mark_at = p->gpu->mark,
        .mark = CUDA_MARK(layer, kind, r->number),
    };
    const uint64_t rest = p->n_rows % CUDA_TOKENS;
    const uint64_t rows = p->n_rows - rest + (rest ? tile_of(rest) : 0);
    /* 16 bytes a thread, or 4 */
    const uint64_t threads = by_row ? (uint64_t)a.n_out * g->blocks * 16 : rows * g->blocks * 4;
    return launch(p, p->gpu->prompt.operand, div_ceil(threads, CUDA_THREADS), CUDA_THREADS, 0, &a);
}

static void add_matrix(const struct cuda_rank *r, struct cuda_product *a, const struct matrix *m,
                       float *out, uint64_t stride, bool full)
{
    struct cuda_matrix *to = &a->matrix[a->n_matrices++];
    *to = cuda_matrix_at(r, m, out, stride, full);
    to->first = a->panels;
    a->panels += (uint32_t)m->panels;
}

/* A product of at most CUDA_TOKENS rows. */
static bool run_product(const struct prompt *p, const struct cuda_geometry *g,
                        struct cuda_product *a)
{
    const struct cuda *c = p->gpu->cuda;
    const uint64_t sets = a->pair ? a->panels : div_ceil(a->panels, 2);
    const bool many = sets >= (uint64_t)c->multiprocessors;
    int i = 0;
    while (products[i].tokens < a->n_rows ||
           (products[i].sets == 2 && (!many || products[i].shared > (size_t)c->shared_max)))
        i++;
    return launch(p, p->gpu->prompt.products[g->stored->id][i], div_ceil(sets, products[i].sets),
                  CUDA_THREADS, products[i].shared, a);
}

/* By our own kernels, CUDA_TOKENS rows at a time. */
static bool run_products(const struct prompt *p, const struct cuda_rank *r, enum cuda_kind kind,
                         struct cuda_product *a)
{
    const struct cuda_geometry *g = &r->kinds[kind];
    bool ok = true;
    a->table = g->stored->group ? g->table : NULL;
    a->blocks = g->blocks;
    a->panel_words = g->panel_words;
    a->zeros = g->stored->offset == OFFSET_ZERO;
    a->minimum = g->stored->offset == OFFSET_MINIMUM;
    a->round = r->weights->arithmetic == DTYPE_BF16;
    for (uint32_t at = 0; ok && at < p->n_rows; at += CUDA_TOKENS) {
        a->n_rows = p->n_rows - at < CUDA_TOKENS ? p->n_rows - at : CUDA_TOKENS;
        a->x = p->gpu->operand + (size_t)at * g->blocks * 16;
        ok = run_product(p, g, a);
        for (uint32_t j = 0; j < a->n_matrices; j++)
            a->matrix[j].out += (size_t)CUDA_TOKENS * a->matrix[j].out_stride;
    }
    return ok;
}

/* Does cuBLASLt take all matrices of this product? */
static bool fits_blas(const struct prompt *p, const struct cuda_geometry *g,
                      const struct cuda_product *a, bool *fits)
{
    *fits = p->gpu->blas && p->n_rows > CUDA_TOKENS;
    for (uint32_t j = 0; *fits && j < a->n_matrices; j++)
        if (!cuda_product_fits(p->gpu->blas, g, a->matrix[j].panels, rows_of(p),
                               a->matrix[a->pair ? 0 : j].out_stride, fits, p->err))
            return false;
    return true;
}

static bool run_finish(const struct prompt *p, const struct cuda_matrix *m,
                       const struct cuda_matrix *second, bool round)
{
    struct cuda_finish a = {
        .out = m->out,
        .second = second ? second->out : NULL,
        .scale = m->scale,
        .bias = m->bias,
        .scale_second = second ? second->scale : NULL,
        .bias_second = second ? second->bias : NULL,
        .n_rows = p->n_rows,
        .columns = m->rows,
        .out_stride = m->out_stride,
        .round = round,
    };
    if (!second && !m->scale && !m->bias)
        return true;
    return launch(p, p->gpu->prompt.finish, div_ceil((uint64_t)a.n_rows * a.columns, CUDA_THREADS),
                  CUDA_THREADS, 0, &a);
}

bool cuda_prepare_span(struct cuda_gpu *g, uint32_t n_rows, struct tp_error *err)
{
    const struct prompt p = {.gpu = g, .n_rows = n_rows, .err = err};
    bool ok = find_kernels(g, err), fits;
    for (uint32_t i = 0; ok && i < g->n_ranks; i++) {
        struct cuda_rank *r = &g->ranks[i];
        const struct layer_weights *w = &r->weights->layers[r->plan->partition.layers.begin];
        const struct matrix *const m[KIND_LM] = {&w->q,    &w->k,  &w->v,   &w->o,
                                                 &w->gate, &w->up, &w->down};
        const uint64_t strides[KIND_LM] = {r->q_stride,   r->kv_stride,  r->kv_stride, g->stride,
                                           r->act_stride, r->act_stride, g->stride};
        for (int kind = 0; ok && kind < KIND_LM; kind++) {
            struct cuda_product a = {.n_matrices = 0};
            add_matrix(r, &a, m[kind], NULL, strides[kind], true);
            ok = fits_blas(&p, &r->kinds[kind], &a, &fits);
        }
    }
    return ok;
}

/* By cuBLASLt: whole products, and then what it does not do. */
static bool run_blas(const struct prompt *p, const struct cuda_rank *r, enum cuda_kind kind,
                     struct cuda_product *a)
{
    bool ok = true;
    if (a->pair) {
        a->matrix[1].out = p->gpu->second;
        a->matrix[1].out_stride = a->matrix[0].out_stride;
    }
    for (uint32_t j = 0; ok && j < a->n_matrices; j++)
        ok = cuda_product(p->gpu->blas, &r->kinds[kind], a->matrix[j].w, a->matrix[j].panels,
                          p->gpu->operand, rows_of(p), a->matrix[j].out, a->matrix[j].out_stride,
                          p->err);
    for (uint32_t j = 0; ok && j < (a->pair ? 1 : a->n_matrices); j++)
        ok = run_finish(p, &a->matrix[j], a->pair ? &a->matrix[1] : NULL,
                        r->weights->arithmetic == DTYPE_BF16);
    return ok;
}

/* A product over x [n_rows][stride]. */
static bool multiply(const struct prompt *p, const struct cuda_rank *r, enum cuda_kind kind,
                     uint32_t layer, const float *x, uint64_t stride, struct cuda_product *a)
{
    bool fits;
    return fits_blas(p, &r->kinds[kind], a, &fits) &&
           make_operand(p, r, kind, layer, x, stride, fits) &&
           (fits ? run_blas(p, r, kind, a) : run_products(p, r, kind, a));
}

static float *normed_of(const struct prompt *p)
{
    return p->gpu->normed + p->first * p->gpu->stride;
}

/* q, k, v in one launch where they are stored alike. */
static bool run_qkv(const struct prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    const struct matrix *const m[] = {&w->q, &w->k, &w->v};
    float *const out[] = {r->q, r->k, r->v};
    bool ok = true;
    for (int i = 0; ok && i < 3;) {
        const enum cuda_kind kind = (enum cuda_kind)(KIND_Q + i);
        struct cuda_product a = {.n_matrices = 0};
        for (; i < 3 && r->kinds[KIND_Q + i].stored == r->kinds[kind].stored; i++)
            add_matrix(r, &a, m[i], out[i], i ? r->kv_stride : r->q_stride, true);
        ok = multiply(p, r, kind, layer, normed_of(p), p->gpu->stride, &a);
    }
    return ok;
}

/* ---- sums ---- */

static float *sums_of(const struct prompt *p, uint64_t rank)
{
    return p->gpu->sums + cuda_sum_slot(p->gpu, rank) * rows_of(p) * p->gpu->stride;
}

/* Whole dots of this rank's columns; scale and bias come when all ranks' are added. */
static bool run_sums(const struct prompt *p, const struct cuda_rank *r, uint32_t layer,
                     enum cuda_reduction reduction)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    const enum cuda_kind kind = reduction ? KIND_DOWN : KIND_O;
    struct cuda_product a = {.n_matrices = 0};
    add_matrix(r, &a, reduction ? &w->down : &w->o, sums_of(p, r->number), p->gpu->stride, false);
    return multiply(p, r, kind, layer, reduction ? r->act : r->attn,
                    reduction ? r->act_stride : r->attn_stride, &a);
}

static bool feed(const struct prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    struct cuda_product a = {.pair = 1};
    if (!r->ff)
        return true;
    add_matrix(r, &a, &w->gate, r->act, r->act_stride, true);
    add_matrix(r, &a, &w->up, NULL, 0, true);
    a.panels = (uint32_t)w->gate.panels;
    return multiply(p, r, KIND_GATE, layer, normed_of(p), p->gpu->stride, &a) &&
           run_sums(p, r, layer, REDUCE_MLP);
}

/* ---- attention ---- */

/* The exact kernel, a group of rows at a time, for what the fast one is not made for. */
static bool attend_exactly(const struct prompt *p, const struct cuda_rank *r, uint32_t layer)
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

static bool attend_fast(const struct prompt *p, const struct cuda_rank *r,
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
    return launch(p, gpu->prompt.attention, tiles * r->heads, CUDA_QUERY_WARPS * 32, 0, &a);
}

static bool run_rope(const struct prompt *p, const struct cuda_rank *r,
                     const struct cuda_rope *rope)
{
    struct cuda_prompt_rope a = {
        .rope = *rope, .pages = p->gpu->span, .n_rows = p->n_rows, .position = p->position};
    const uint64_t items = (r->heads + r->kv_heads) * p->n_rows;
    return launch(p, p->gpu->prompt.rope, div_ceil(items, CUDA_WARPS), CUDA_THREADS,
                  align_up((uint64_t)CUDA_WARPS * rope->head_dim * 4, 16), &a);
}

static bool attend(const struct prompt *p, const struct cuda_rank *r, uint32_t layer)
{
    if (!r->heads)
        return true;
    const struct cuda_attention like =
        cuda_attention_of(&(struct cuda_group){.gpu = p->gpu, .err = p->err}, r, layer);
    return run_qkv(p, r, layer) && run_rope(p, r, &like.rope) &&
           (p->gpu->prompt.attention ? attend_fast(p, r, &like) : attend_exactly(p, r, layer)) &&
           run_sums(p, r, layer, REDUCE_ATTENTION);
}

/* ---- libraries ---- */

bool cuda_open_blas(struct cuda_gpu *g, struct tp_error *err)
{
    if (!g->workspace_bytes)
        return true;
    g->blas = mem_alloc(sizeof *g->blas, err);
    if (g->blas)
        cuda_blas_init(g->blas, g->cuda, g->ranks[0].weights->arithmetic, (uintptr_t)g->workspace,
                       g->largest);
    return g->blas;
}

bool cuda_open_nccl(struct cuda_gpu *g, const void *id, struct tp_error *err)
{
    g->nccl = mem_alloc(sizeof *g->nccl, err);
    return g->nccl && cuda_nccl_open(g->nccl, id, g->n_gpus, g->number, err);
}

bool cuda_gather(struct cuda_gpu *g, float *all, uint64_t count, struct tp_error *err)
{
    const struct cuda *c = g->cuda;
    return CUDA(&c->api, err, cuMemsetD8Async, ((uintptr_t)g->mark + 3, 0x80, 1, c->stream)) &&
           cuda_nccl_all_gather(g->nccl, all + g->number * count, all, count, c->stream, err);
}

void cuda_close_libraries(struct cuda_gpu *g)
{
    if (g->blas)
        cuda_blas_close(g->blas);
    if (g->nccl) {
        if (g->error.code != TP_OK)
            cuda_nccl_abort(g->nccl);
        cuda_nccl_close(g->nccl);
    }
    mem_free(g->blas);
    mem_free(g->nccl);
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
static struct cuda_group group_of(const struct prompt *p)
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
static bool fetch_span(struct cuda_device *d, const struct prompt *p, const struct step *part)
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
    const struct prompt p = {gpu, span.first, span.n_rows, part.rows->position, err};
    const struct cuda_group g = group_of(&p);
    struct cuda_residual enter;
    bool ok = fetch_span(d, &p, &part) && cuda_embedding(&g, 2 * (uint32_t)layers.begin, &enter) &&
              cuda_run_residual(&g, &enter);
    for (uint32_t layer = (uint32_t)layers.begin; ok && layer < layers.end; layer++) {
        for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
            ok = attend(&p, &gpu->ranks[i], layer);
        ok = ok && cuda_reduce_span(&g, layer, REDUCE_ATTENTION, rows_of(&p));
        for (uint32_t i = 0; ok && i < gpu->n_ranks; i++)
            ok = feed(&p, &gpu->ranks[i], layer);
        ok = ok && cuda_reduce_span(&g, layer, REDUCE_MLP, rows_of(&p));
    }
    return ok;
}
