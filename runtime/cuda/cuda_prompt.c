/* Prompts, fast: a span of rows through the layers on tensor cores (kernels/cuda/prompt.cuh). Per
 * rank and half a layer, so that ranks can meet between them; per span and step, for one rank. */
#include "cuda_device.h"

#include "checked.h"
#include <stdio.h>
#include <string.h>

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

static bool find_products(struct cuda_rank *r, struct tp_error *err)
{
    bool ok = true;
    for (int kind = 0; ok && kind < KIND_LM; kind++) {
        const struct stored *s = r->kinds[kind].stored;
        for (int i = 0; ok && i < PRODUCTS; i++) {
            cu_function *product = &r->prompt.products[s->id][i];
            char name[64];
            snprintf(name, sizeof name, "product_%s_%s_%s", dtype_name(r->weights->arithmetic),
                     format_name(s), products[i].name);
            ok = *product || cuda_kernel(r->cuda, name, product, err);
        }
    }
    return ok;
}

static bool find_attention(struct cuda_rank *r, struct tp_error *err)
{
    const enum dtype kv = r->setup->kv_dtype;
    char name[64];
    if (kv == DTYPE_F32 || r->head_pad > 256)
        return true;
    snprintf(name, sizeof name, "prompt_attention_%s_%d", dtype_name(kv),
             r->head_pad <= 64    ? 64
             : r->head_pad <= 128 ? 128
                                  : 256);
    return cuda_kernel(r->cuda, name, &r->prompt.attention, err);
}

bool cuda_find_prompt(struct cuda_rank *r, struct tp_error *err)
{
    struct cuda_prompt_kernels *k = &r->prompt;
    if (!k->found)
        k->found = cuda_kernel(r->cuda, "prompt_operand", &k->operand, err) &&
                   cuda_kernel(r->cuda, "prompt_residual_norm", &k->residual, err) &&
                   cuda_kernel(r->cuda, "prompt_rope_append", &k->rope, err) &&
                   find_attention(r, err) && find_products(r, err);
    return k->found;
}

static bool launch(const struct cuda_prompt *p, cu_function function, uint64_t grid,
                   unsigned threads, size_t shared, void *arguments)
{
    return cuda_launch(p->rank->cuda, function, (unsigned)grid, threads, shared, arguments, p->err);
}

/* ---- products ---- */

static uint64_t tile_of(uint64_t rows)
{
    return rows <= 32 ? 32 : rows <= 64 ? 64 : 128;
}

/* x [n_rows][stride] to the operand that a kind of matrix takes. */
static bool make_operand(const struct cuda_prompt *p, enum cuda_kind kind, const float *x,
                         uint64_t stride)
{
    const struct cuda_rank *r = p->rank;
    const struct cuda_geometry *g = &r->kinds[kind];
    struct cuda_operand a = {
        .from = x,
        .to = r->operand,
        .n_rows = p->n_rows,
        .stride = (uint32_t)stride,
        .blocks = g->blocks,
        .per_word = 32 / g->stored->bits,
        .half = r->weights->arithmetic == DTYPE_F16,
    };
    const uint64_t rest = p->n_rows % CUDA_TOKENS;
    const uint64_t rows = p->n_rows - rest + (rest ? tile_of(rest) : 0);
    return launch(p, r->prompt.operand, div_ceil(rows * g->blocks * 4, CUDA_THREADS), CUDA_THREADS,
                  0, &a);
}

/* A product of at most CUDA_TOKENS rows. */
static bool run_product(const struct cuda_prompt *p, const struct cuda_geometry *g,
                        struct cuda_product *a)
{
    const struct cuda *c = p->rank->cuda;
    const uint64_t sets = a->pair ? a->panels : div_ceil(a->panels, 2);
    const bool many = sets >= (uint64_t)c->multiprocessors;
    int i = 0;
    while (products[i].tokens < a->n_rows ||
           (products[i].sets == 2 && (!many || products[i].shared > (size_t)c->shared_max)))
        i++;
    return launch(p, p->rank->prompt.products[g->stored->id][i], div_ceil(sets, products[i].sets),
                  CUDA_THREADS, products[i].shared, a);
}

/* A product over the span's operand: all its rows, CUDA_TOKENS of them at a time. */
static bool prompt_product(const struct cuda_prompt *p, enum cuda_kind kind, struct cuda_product *a)
{
    const struct cuda_rank *r = p->rank;
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
        a->x = r->operand + (size_t)at * g->blocks * 16;
        ok = run_product(p, g, a);
        for (uint32_t j = 0; j < a->n_matrices; j++)
            a->matrix[j].out += (size_t)CUDA_TOKENS * a->matrix[j].out_stride;
    }
    return ok;
}

static void add_matrix(const struct cuda_rank *r, struct cuda_product *a, const struct matrix *m,
                       float *out, uint64_t stride, bool full)
{
    a->matrix[a->n_matrices++] = (struct cuda_matrix){
        .w = cuda_at(r, m->w),
        .out = out,
        .scale = full ? cuda_at(r, m->scale) : NULL,
        .bias = full ? cuda_at(r, m->bias) : NULL,
        .panels = (uint32_t)m->panels,
        .rows = (uint32_t)m->rows,
        .first = a->panels,
        .out_stride = (uint32_t)stride,
    };
    a->panels += (uint32_t)m->panels;
}

static float *normed_of(const struct cuda_prompt *p)
{
    return p->rank->normed + p->first * p->rank->stride;
}

/* q, k, v in one launch where they are stored alike. */
static bool run_qkv(const struct cuda_prompt *p, const struct layer_weights *w)
{
    const struct cuda_rank *r = p->rank;
    const struct matrix *const m[] = {&w->q, &w->k, &w->v};
    float *const out[] = {r->q, r->k, r->v};
    bool ok = true;
    for (int i = 0; ok && i < 3;) {
        const enum cuda_kind kind = (enum cuda_kind)(KIND_Q + i);
        struct cuda_product a = {.n_matrices = 0};
        for (; i < 3 && r->kinds[KIND_Q + i].stored == r->kinds[kind].stored; i++)
            add_matrix(r, &a, m[i], out[i], i ? r->kv_stride : r->q_stride, true);
        ok = make_operand(p, kind, normed_of(p), r->stride) && prompt_product(p, kind, &a);
    }
    return ok;
}

/* Whole dots of this rank's columns; scale and bias come when all ranks' are added. */
static bool run_sums(const struct cuda_prompt *p, const struct matrix *m, enum cuda_kind kind,
                     const float *x, uint64_t stride, float *sums)
{
    struct cuda_product a = {.n_matrices = 0};
    add_matrix(p->rank, &a, m, sums, p->rank->stride, false);
    return make_operand(p, kind, x, stride) && prompt_product(p, kind, &a);
}

bool cuda_prompt_feed(const struct cuda_prompt *p, uint32_t layer)
{
    const struct cuda_rank *r = p->rank;
    const struct layer_weights *w = &r->weights->layers[layer];
    struct cuda_product a = {.pair = 1};
    add_matrix(r, &a, &w->gate, r->act, r->act_stride, true);
    add_matrix(r, &a, &w->up, NULL, 0, true);
    a.panels = (uint32_t)w->gate.panels;
    return make_operand(p, KIND_GATE, normed_of(p), r->stride) &&
           prompt_product(p, KIND_GATE, &a) &&
           run_sums(p, &w->down, KIND_DOWN, r->act, r->act_stride, r->sums[1]);
}

/* ---- attention ---- */

/* The exact kernel, a group of rows at a time, for what the fast one is not made for. */
static bool attend_exactly(const struct cuda_prompt *p, uint32_t layer)
{
    struct cuda_rank *r = p->rank;
    bool ok = true;
    for (uint32_t at = 0; ok && at < p->n_rows; at += CUDA_ROWS) {
        const struct cuda_group g = {
            .rank = r,
            .n_rows = p->n_rows - at < CUDA_ROWS ? p->n_rows - at : CUDA_ROWS,
            .step =
                (const struct cuda_step *)(const void *)(r->steps + at / CUDA_ROWS * r->step_bytes),
            .err = p->err,
        };
        struct cuda_attention a = cuda_attention_of(&g, layer);
        a.queries += at * r->heads * r->head_pad;
        a.out += at * r->attn_stride;
        ok = cuda_run_attention(&g, &a);
    }
    return ok;
}

static bool attend(const struct cuda_prompt *p, const struct cuda_attention *like)
{
    const struct cuda_rank *r = p->rank;
    struct cuda_prompt_attention a = {
        .queries = r->queries,
        .kv = like->pages,
        .pages = r->span,
        .out = r->attn,
        .columns = r->columns,
        .page_bytes = r->page_bytes,
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
    return launch(p, r->prompt.attention, tiles * r->heads, CUDA_QUERY_WARPS * 32, 0, &a);
}

static bool run_rope(const struct cuda_prompt *p, const struct cuda_rope *rope)
{
    const struct cuda_rank *r = p->rank;
    struct cuda_prompt_rope a = {
        .rope = *rope, .pages = r->span, .n_rows = p->n_rows, .position = p->position};
    const uint64_t items = (r->heads + r->kv_heads) * p->n_rows;
    return launch(p, r->prompt.rope, div_ceil(items, CUDA_WARPS), CUDA_THREADS,
                  align_up((uint64_t)CUDA_WARPS * rope->head_dim * 4, 16), &a);
}

bool cuda_prompt_attend(const struct cuda_prompt *p, uint32_t layer)
{
    struct cuda_rank *r = p->rank;
    const struct layer_weights *w = &r->weights->layers[layer];
    const struct cuda_attention like =
        cuda_attention_of(&(struct cuda_group){.rank = r, .err = p->err}, layer);
    return run_qkv(p, w) && run_rope(p, &like.rope) &&
           (r->prompt.attention ? attend(p, &like) : attend_exactly(p, layer)) &&
           run_sums(p, &w->o, KIND_O, r->attn, r->attn_stride, r->sums[0]);
}

/* ---- the residual stream ---- */

static struct cuda_prompt_residual residual_of(const struct cuda_prompt *p, uint32_t norm)
{
    const struct cuda_rank *r = p->rank;
    return (struct cuda_prompt_residual){
        .residual = r->residual[0] + p->first * r->stride,
        .normed = normed_of(p),
        .norm = cuda_at(r, rank_norm(r->weights, norm)),
        .stride = (uint32_t)r->stride,
        .hidden = (uint32_t)r->setup->model->hidden,
        .eps = (float)r->setup->model->rms_eps,
        .round = r->weights->arithmetic == DTYPE_BF16,
    };
}

static bool run_residual(const struct cuda_prompt *p, struct cuda_prompt_residual *a)
{
    return launch(p, p->rank->prompt.residual, p->n_rows, CUDA_THREADS,
                  align_up(a->hidden * 4, 16) + 16, a);
}

bool cuda_prompt_embed(const struct cuda_prompt *p)
{
    const struct cuda_rank *r = p->rank;
    const struct matrix *embed = &r->weights->embed;
    struct cuda_prompt_residual a =
        residual_of(p, 2 * (uint32_t)r->weights->partition.layers.begin);
    a.embed = cuda_at(r, embed->w);
    a.embed_dtype = embed->stored->id;
    a.tokens = r->span + r->chunks_max;
    a.first_token = (uint32_t)r->weights->partition.vocab.begin;
    a.n_tokens = (uint32_t)embed->rows;
    a.panel_words = (uint32_t)(embed->panel_bytes / (PANEL_ROWS * 4));
    return run_residual(p, &a);
}

bool cuda_prompt_reduce(const struct cuda_prompt *p, const float *const *sums, uint32_t n,
                        uint32_t norm)
{
    const struct cuda_rank *r = p->rank;
    const struct layer_weights *layer = &r->weights->layers[(norm - 1) / 2];
    const struct matrix *w = norm % 2 ? &layer->o : &layer->down;
    struct cuda_prompt_residual a = residual_of(p, norm);
    memcpy(a.sums, sums, n * sizeof *sums);
    a.n_sums = n;
    a.scale = cuda_at(r, w->scale);
    a.bias = cuda_at(r, w->bias);
    return run_residual(p, &a);
}

/* ---- spans ---- */

/* What a span's rows are, to the device. The stream has ended: what the host wrote there before is
 * no longer read. */
static bool put_span(struct cuda_device *d, const struct step *step, struct step_span span,
                     struct tp_error *err)
{
    const struct cuda_rank *r = &d->rank;
    const struct step_row *rows = step->rows + span.first;
    const uint32_t last = rows[span.n_rows - 1].position;
    struct step part = *step;
    memcpy(d->span, step->pages[rows->sequence], (last / CUDA_CHUNK + 1) * sizeof *d->span);
    for (uint32_t i = 0; i < span.n_rows; i++)
        d->span[r->chunks_max + i] = rows[i].token;
    part.rows += span.first;
    part.n_rows = span.n_rows;
    return CUDA(&r->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)r->span, d->span, (r->chunks_max + span.n_rows) * sizeof *d->span,
                 r->cuda->stream)) &&
           (r->prompt.attention || cuda_put_rows(d, &part, err));
}

static bool run_span(struct cuda_device *d, const struct step *step, struct step_span span,
                     struct tp_error *err)
{
    struct cuda_rank *r = &d->rank;
    const struct range layers = r->weights->partition.layers;
    const struct cuda_prompt p = {r, span.first, span.n_rows, step->rows[span.first].position, err};
    const float *const attention = r->sums[0], *const mlp = r->sums[1];
    bool ok = cuda_find_prompt(r, err) && put_span(d, step, span, err) && cuda_prompt_embed(&p);
    for (uint32_t layer = (uint32_t)layers.begin; ok && layer < layers.end; layer++)
        ok = cuda_prompt_attend(&p, layer) &&
             cuda_prompt_reduce(&p, &attention, 1, 2 * layer + 1) && cuda_prompt_feed(&p, layer) &&
             cuda_prompt_reduce(&p, &mlp, 1, 2 * layer + 2);
    return ok && CUDA(&r->cuda->api, err, cuStreamSynchronize, (r->cuda->stream));
}

bool cuda_run_spans(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    bool ok = true;
    for (uint32_t i = 0; ok && i < step->n_spans; i++)
        ok = run_span(d, step, step->spans[i], err);
    return ok;
}
