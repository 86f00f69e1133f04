/* Products of a span: by our kernels on the packed panels, or by cuBLASLt where there are many
 * rows. */
#include "cuda_blas.h"
#include "cuda_prompt.h"

#include "checked.h"
#include "mem.h"
#include <stdio.h>

/* Kernels of products. All have the same bits. With two sets of 32 rows of weights a CTA reads x
 * half as often: for matrices that leave no multiprocessor without. */
enum { PRODUCTS = 5 };
#define SUMS(parts, sets) ((size_t)(parts)*16 * (32 * (sets) + 1) * 4) /* product.cuh */
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
_Static_assert(sizeof((struct cuda_product_kernels *)0)->products[0] ==
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
            cu_function *product = &g->product.products[s->id][i];
            char name[64];
            snprintf(name, sizeof name, "product_%s_%s_%s", dtype_name(r->weights->arithmetic),
                     format_name(s), products[i].name);
            ok = *product || cuda_kernel(g->cuda, name, product, err);
        }
    }
    return ok;
}

static bool find_kernels(struct cuda_gpu *g, struct tp_error *err)
{
    struct cuda_product_kernels *k = &g->product;
    if (!k->found)
        k->found = cuda_kernel(g->cuda, "product_operand", &k->operand, err) &&
                   cuda_kernel(g->cuda, "product_finish", &k->finish, err) && find_products(g, err);
    return k->found;
}

static uint64_t tile_of(uint64_t rows)
{
    return rows <= 32 ? 32 : rows <= 64 ? 64 : 128;
}

uint32_t cuda_prompt_rows(const struct cuda_prompt *p)
{
    return p->n_rows > CUDA_TOKENS ? (uint32_t)align_up(p->n_rows, CUDA_TOKENS) : p->n_rows;
}

/* x [n_rows][stride] to the operand that a kind of matrix takes; row by row for cuBLASLt. */
static bool make_operand(const struct cuda_prompt *p, const struct cuda_rank *r,
                         enum cuda_kind kind, uint32_t layer, const float *x, uint64_t stride,
                         bool by_row)
{
    const struct cuda_geometry *g = &r->kinds[kind];
    struct cuda_operand a = {
        .from = x,
        .to = p->gpu->operand,
        .n_rows = p->n_rows,
        .n_out = cuda_prompt_rows(p),
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
    return cuda_prompt_launch(p, p->gpu->product.operand, div_ceil(threads, CUDA_THREADS),
                              CUDA_THREADS, 0, &a);
}

void cuda_add_matrix(const struct cuda_rank *r, struct cuda_product *a, const struct matrix *m,
                     float *out, uint64_t stride, bool full)
{
    struct cuda_matrix *to = &a->matrix[a->n_matrices++];
    *to = cuda_matrix_at(r, m, out, stride, full);
    to->first = a->panels;
    a->panels += (uint32_t)m->panels;
}

/* A product of at most CUDA_TOKENS rows. */
static bool run_product(const struct cuda_prompt *p, const struct cuda_geometry *g,
                        struct cuda_product *a)
{
    const struct cuda *c = p->gpu->cuda;
    const uint64_t sets = a->pair ? a->panels : div_ceil(a->panels, 2);
    const bool many = sets >= (uint64_t)c->multiprocessors;
    int i = 0;
    while (products[i].tokens < a->n_rows ||
           (products[i].sets == 2 && (!many || products[i].shared > (size_t)c->shared_max)))
        i++;
    return cuda_prompt_launch(p, p->gpu->product.products[g->stored->id][i],
                              div_ceil(sets, products[i].sets), CUDA_THREADS, products[i].shared,
                              a);
}

/* By our own kernels, CUDA_TOKENS rows at a time. */
static bool run_products(const struct cuda_prompt *p, const struct cuda_rank *r,
                         enum cuda_kind kind, struct cuda_product *a)
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
static bool fits_blas(const struct cuda_prompt *p, const struct cuda_geometry *g,
                      const struct cuda_product *a, bool *fits)
{
    *fits = p->gpu->blas && p->n_rows > CUDA_TOKENS;
    for (uint32_t j = 0; *fits && j < a->n_matrices; j++)
        if (!cuda_product_fits(p->gpu->blas, g, a->matrix[j].panels, cuda_prompt_rows(p),
                               a->matrix[a->pair ? 0 : j].out_stride, fits, p->err))
            return false;
    return true;
}

bool cuda_prepare_products(struct cuda_gpu *g, uint32_t n_rows, struct tp_error *err)
{
    const struct cuda_prompt p = {.gpu = g, .n_rows = n_rows, .err = err};
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
            cuda_add_matrix(r, &a, m[kind], NULL, strides[kind], true);
            ok = fits_blas(&p, &r->kinds[kind], &a, &fits);
        }
    }
    return ok;
}

/* What cuBLASLt does not do, of one matrix or of a pair. */
static bool run_finish(const struct cuda_prompt *p, const struct cuda_matrix *m, bool pair,
                       bool round)
{
    struct cuda_finish a = {.matrix = {*m}, .n_rows = p->n_rows, .pair = pair, .round = round};
    if (pair)
        a.matrix[1] = m[1];
    if (!pair && !m->scale && !m->bias)
        return true;
    return cuda_prompt_launch(p, p->gpu->product.finish,
                              div_ceil((uint64_t)a.n_rows * m->rows, CUDA_THREADS), CUDA_THREADS, 0,
                              &a);
}

static bool run_blas(const struct cuda_prompt *p, const struct cuda_rank *r, enum cuda_kind kind,
                     struct cuda_product *a)
{
    bool ok = true;
    if (a->pair) {
        a->matrix[1].out = p->gpu->second;
        a->matrix[1].out_stride = a->matrix[0].out_stride;
    }
    for (uint32_t j = 0; ok && j < a->n_matrices; j++)
        ok = cuda_product(p->gpu->blas, &r->kinds[kind], a->matrix[j].w, a->matrix[j].panels,
                          p->gpu->operand, cuda_prompt_rows(p), a->matrix[j].out,
                          a->matrix[j].out_stride, p->err);
    for (uint32_t j = 0; ok && j < a->n_matrices; j += a->pair ? 2 : 1)
        ok = run_finish(p, &a->matrix[j], a->pair, r->weights->arithmetic == DTYPE_BF16);
    return ok;
}

bool cuda_multiply(const struct cuda_prompt *p, const struct cuda_rank *r, enum cuda_kind kind,
                   uint32_t layer, const float *x, uint64_t stride, struct cuda_product *a)
{
    bool fits;
    return fits_blas(p, &r->kinds[kind], a, &fits) &&
           make_operand(p, r, kind, layer, x, stride, fits) &&
           (fits ? run_blas(p, r, kind, a) : run_products(p, r, kind, a));
}

/* ---- the library ---- */

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

void cuda_close_blas(struct cuda_gpu *g)
{
    if (g->blas)
        cuda_blas_close(g->blas);
    mem_free(g->blas);
}
