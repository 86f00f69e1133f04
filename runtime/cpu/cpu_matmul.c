/* The matrices of the CPU. Threads share the panels of a matrix: every panel is one
 * thread's. */
#include "cpu.h"

#include "checked.h"
#include <string.h>

enum { TILE_FLOATS = CPU_ROW_TILE * PANEL_ROWS };

/* A stack of partial sums, or a tile of up; then the sums of x over pieces, at most one for each
 * block. */
uint64_t cpu_matmul_scratch(const struct cpu_rank *r)
{
    return TREE_STACK_MAX * TILE_FLOATS + CPU_ROW_TILE / BLOCK_COLS * r->x_stride_max;
}

static const unsigned char *panel_of(const struct matrix *w, uint64_t panel)
{
    return w->w + panel * w->panel_bytes;
}

/* Where an activation tile meets the panels: rows [row, row + n) of x. */
struct tile {
    const float *x;
    uint64_t x_stride, row, n;
    float *sums; /* of its rows, where a format has a minimum: room in the thread's scratch */
};

/* Sums of a tile over the pieces of one leaf, which begins at column `at` of x. */
static void sum_pieces(const struct cpu_rank *r, const struct matrix *w, struct pieces pieces,
                       struct tile t, uint64_t at)
{
    if (w->stored->offset == OFFSET_MINIMUM)
        r->kernels->piece_sums(pieces, t.x + t.row * t.x_stride + at, t.x_stride, t.n,
                               t.sums + at / BLOCK_COLS);
}

static float *sums_of(const struct cpu_rank *r, struct share share)
{
    return cpu_scratch(r, share) + TREE_STACK_MAX * TILE_FLOATS;
}

/* out[m][0..16) of one panel: scale and bias after the full dot. */
static void full_dot(const struct cpu_rank *r, const struct matrix *w, uint64_t panel,
                     struct tile t, float *out, uint64_t out_stride)
{
    r->kernels->dot[w->stored->id](panel_of(w, panel), w->pieces, t.x + t.row * t.x_stride,
                                   t.x_stride, t.sums, t.n, out, out_stride);
    if (!w->scale && !w->bias)
        return;
    uint64_t first = panel * PANEL_ROWS, n = min_u64(PANEL_ROWS, w->rows - first);
    for (uint64_t m = 0; m < t.n; m++)
        r->kernels->scale_bias(out + m * out_stride, w->scale ? w->scale + first : NULL,
                               w->bias ? w->bias + first : NULL, n, out + m * out_stride);
}

/* fn for every row tile and group of panels of this share. Where the rows are one tile, no panel is
 * read twice, and all panels are one group. */
typedef void tile_fn(const struct cpu_rank *r, void *arg, struct tile t, struct range group);

static void each_tile(const struct cpu_rank *r, struct range panels, struct tile all, tile_fn *fn,
                      void *arg)
{
    uint64_t width = all.n > CPU_ROW_TILE ? CPU_PANEL_GROUP : range_count(panels);
    for (uint64_t p = panels.begin; p < panels.end; p += width) {
        struct range group = {p, min_u64(p + width, panels.end)};
        for (uint64_t m = 0; m < all.n; m += CPU_ROW_TILE) {
            struct tile t = {all.x, all.x_stride, all.row + m, min_u64(CPU_ROW_TILE, all.n - m),
                             all.sums};
            fn(r, arg, t, group);
        }
    }
}

/* ---- q, k, v ---- */

struct full_job {
    const struct matrix *w;
    float *out; /* [rows][stride] */
    uint64_t stride;
};

static void full_tile(const struct cpu_rank *r, void *arg, struct tile t, struct range group)
{
    struct full_job *job = arg;
    float *out = job->out + t.row * job->stride;
    sum_pieces(r, job->w, job->w->pieces, t, 0);
    for (uint64_t p = group.begin; p < group.end; p++)
        full_dot(r, job->w, p, t, out + p * PANEL_ROWS, job->stride);
}

void cpu_qkv(struct cpu_rank *r, const struct step *step, const struct op *op, struct share share)
{
    const struct layer_weights *w = &r->weights->layers[op->layer];
    struct full_job jobs[3] = {
        {&w->q, r->q, r->q_stride}, {&w->k, r->k, r->kv_stride}, {&w->v, r->v, r->kv_stride}};
    struct tile all = {cpu_normed(r, step), r->device->row_stride, 0, step->n_rows,
                       sums_of(r, share)};
    /* the panels of the three in one row, so that the shares are even */
    struct range mine = share_of(w->q.panels + w->k.panels + w->v.panels, share);
    uint64_t first = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t n = jobs[i].w->panels;
        uint64_t begin = mine.begin > first ? mine.begin - first : 0;
        uint64_t end = mine.end > first ? min_u64(mine.end - first, n) : 0;
        if (begin < end)
            each_tile(r, (struct range){begin, end}, all, full_tile, &jobs[i]);
        first += n;
    }
}

/* ---- gate, up ---- */

struct gate_job {
    const struct layer_weights *w;
    float *up; /* [CPU_ROW_TILE][16] */
};

/* All of a group's gate, then all of its up: the longer a stretch of memory, the faster it is read.
 */
static void gate_tile(const struct cpu_rank *r, void *arg, struct tile t, struct range group)
{
    struct gate_job *job = arg;
    const struct layer_weights *w = job->w;
    uint64_t stride = w->down.k;
    /* Only the last leaf is padded, so that a column of down is the rank's column of gate. */
    float *act = r->act + t.row * stride;
    sum_pieces(r, &w->gate, w->gate.pieces, t, 0);
    for (uint64_t p = group.begin; p < group.end; p++)
        full_dot(r, &w->gate, p, t, act + p * PANEL_ROWS, stride);
    if (w->up.stored != w->gate.stored) /* else they are the same */
        sum_pieces(r, &w->up, w->up.pieces, t, 0);
    for (uint64_t p = group.begin; p < group.end; p++) {
        float *at = act + p * PANEL_ROWS;
        uint64_t n = min_u64(PANEL_ROWS, w->gate.rows - p * PANEL_ROWS);
        full_dot(r, &w->up, p, t, job->up, PANEL_ROWS);
        for (uint64_t m = 0; m < t.n; m++)
            r->kernels->silu_mul(at + m * stride, job->up + m * PANEL_ROWS, n, r->bf16,
                                 at + m * stride);
    }
}

void cpu_gate_up(struct cpu_rank *r, const struct step *step, const struct op *op,
                 struct share share)
{
    const struct layer_weights *w = &r->weights->layers[op->layer];
    struct gate_job job = {w, cpu_scratch(r, share)};
    struct tile all = {cpu_normed(r, step), r->device->row_stride, 0, step->n_rows,
                       sums_of(r, share)};
    each_tile(r, share_of(w->gate.panels, share), all, gate_tile, &job);
}

/* ---- o_proj, down: leaves, folded to roots ---- */

struct leaf_job {
    const struct matrix *w;
    const struct leaf_run *leaves;
    const struct cpu_roots *roots;
    float *stack; /* [TREE_STACK_MAX][CPU_ROW_TILE][16] */
};

static void leaf_panel(const struct cpu_rank *r, const struct leaf_job *job, struct tile t,
                       uint64_t panel)
{
    const struct matrix *w = job->w;
    const unsigned char *weights = panel_of(w, panel);
    const float *x = t.x + t.row * t.x_stride;
    float *top = job->stack, *sums = t.sums;
    for (uint32_t i = 0; i < job->leaves->count; i++, top += TILE_FLOATS) {
        const struct leaf *leaf = &job->leaves->leaves[i];
        r->kernels->dot[w->stored->id](weights, leaf->pieces, x, t.x_stride, sums, t.n, top,
                                       PANEL_ROWS);
        weights += leaf->panel_bytes;
        x += (size_t)leaf->pieces.blocks * BLOCK_COLS;
        sums += leaf->pieces.blocks;
        for (uint8_t m = job->leaves->merges[i]; m; m--, top -= TILE_FLOATS)
            r->kernels->add(top - TILE_FLOATS, top, t.n * PANEL_ROWS, top - TILE_FLOATS);
    }
    for (uint32_t root = 0; root < job->leaves->n_roots; root++)
        for (uint64_t m = 0; m < t.n; m++)
            memcpy(cpu_root(r->device, job->roots, r->rank, root, t.row + m) + panel * PANEL_ROWS,
                   job->stack + root * TILE_FLOATS + m * PANEL_ROWS, PANEL_ROWS * sizeof(float));
}

static void leaf_tile(const struct cpu_rank *r, void *arg, struct tile t, struct range group)
{
    const struct leaf_job *job = arg;
    for (uint64_t i = 0, at = 0; i < job->leaves->count;
         at += job->leaves->leaves[i++].pieces.blocks * BLOCK_COLS)
        sum_pieces(r, job->w, job->leaves->leaves[i].pieces, t, at);
    for (uint64_t p = group.begin; p < group.end; p++)
        leaf_panel(r, job, t, p);
}

static void leaf_dots(const struct cpu_rank *r, const struct step *step, const struct matrix *w,
                      const struct leaf_run *leaves, const struct cpu_roots *roots, const float *x,
                      struct share share)
{
    struct leaf_job job = {w, leaves, roots, cpu_scratch(r, share)};
    if (leaves->count)
        each_tile(r, share_of(w->panels, share),
                  (struct tile){x, w->k, 0, step->n_rows, sums_of(r, share)}, leaf_tile, &job);
}

void cpu_o_proj(struct cpu_rank *r, const struct step *step, const struct op *op,
                struct share share)
{
    leaf_dots(r, step, &r->weights->layers[op->layer].o, &r->weights->attention,
              &r->device->attention, r->attn, share);
}

void cpu_down(struct cpu_rank *r, const struct step *step, const struct op *op, struct share share)
{
    leaf_dots(r, step, &r->weights->layers[op->layer].down, &r->weights->mlp, &r->device->mlp,
              r->act, share);
}

/* ---- LM head ---- */

void cpu_logits(struct cpu_rank *r, const struct step *step, const struct op *op,
                struct share share)
{
    (void)op;
    const uint32_t *rows = step->logit_rows + r->device->slice_first;
    const struct matrix *w = &r->weights->lm_head;
    struct range panels = share_of(w->panels, share);
    uint64_t stride = r->device->device.logit_stride, end;
    for (uint64_t i = 0; i < r->device->slice_count; i = end) {
        /* a run of rows that lie side by side */
        for (end = i + 1; end < r->device->slice_count && rows[end] == rows[end - 1] + 1; end++)
            ;
        float *first = r->device->logits + i * stride + r->weights->partition.vocab.begin;
        struct full_job job = {w, first, stride};
        const float *x = cpu_normed(r, step) + rows[i] * r->device->row_stride;
        struct tile all = {x, r->device->row_stride, 0, end - i, sums_of(r, share)};
        each_tile(r, panels, all, full_tile, &job);
    }
}
