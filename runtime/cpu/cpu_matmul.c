/* The matrices of the CPU. Threads share the panels of a matrix: every panel is one
 * thread's. */
#include "cpu.h"

#include "checked.h"
#include "first_pass.h"
#include <string.h>

/* Rows of x that go through panels together at most, packed or not. */
static uint64_t rows_together(const struct kernels *k)
{
    return k->rows_tile > CPU_ROW_TILE ? k->rows_tile : CPU_ROW_TILE;
}

static uint64_t tile_rows(const struct cpu_rank *r)
{
    return min_u64(r->rows_max, rows_together(r->kernels));
}

/* Of a tile's sums over pieces, at most one for each block; a cache line ends them. */
static uint64_t sums_floats(const struct cpu_rank *r)
{
    return align_up(tile_rows(r) * (r->x_stride_max / BLOCK_COLS), 16);
}

/* Results of a tile of rows for so many panels, at least one. */
static uint64_t results_floats(const struct cpu_rank *r, uint64_t panels)
{
    return rows_together(r->kernels) * (panels ? panels : 1) * PANEL_ROWS;
}

/* A node of a stack of partial sums. */
static uint64_t node_floats(const struct cpu_rank *r)
{
    return results_floats(r, r->kernels->leaf_panels);
}

/* A stack of partial sums, or a tile of up. */
static uint64_t stack_floats(const struct cpu_rank *r)
{
    uint64_t stack = TREE_STACK_MAX * node_floats(r),
             up = results_floats(r, r->kernels->run_panels);
    return stack > up ? stack : up;
}

/* Behind it the room of dot_rows; the sums of x over pieces; packed rows. */
uint64_t cpu_matmul_scratch(const struct cpu_rank *r)
{
    uint64_t packed = r->kernels->pack_rows
                          ? packed_words(r->kernels, r->x_stride_max / BLOCK_COLS, tile_rows(r))
                          : 0;
    return stack_floats(r) + r->kernels->rows_room / sizeof(float) + sums_floats(r) + packed;
}

/* Where an activation tile meets the panels: rows [row, row + n) of x. */
struct tile {
    const float *x;
    uint64_t x_stride, row, n;
    float *sums;      /* of its rows, where a format has a minimum: room in the thread's scratch */
    uint32_t *packed; /* the rows once more, for dot_rows; or NULL */
    bool moderate;    /* of one row, for dot_row */
    void *room;       /* of dot_rows */
};

/* Sums of a tile over the pieces of leaves. */
static void sum_pieces(const struct cpu_rank *r, const struct matrix *w,
                       const struct leaf_run *leaves, struct tile t)
{
    uint64_t block = 0;
    for (uint32_t i = 0; w->stored->offset == OFFSET_MINIMUM && i < leaves->count; i++) {
        const struct pieces pieces = leaves->leaves[i].pieces;
        r->kernels->piece_sums(pieces, t.x + t.row * t.x_stride + block * BLOCK_COLS, t.x_stride,
                               t.n, t.sums + block);
        block += pieces.blocks;
    }
}

/* Rows [0, n) of x, with room in the thread's scratch for what belongs to a tile of them. */
static struct tile all_rows(const struct cpu_rank *r, struct share share, const float *x,
                            uint64_t x_stride, uint64_t n)
{
    float *room = cpu_scratch(r, share) + stack_floats(r);
    float *sums = room + r->kernels->rows_room / sizeof(float);
    float *packed = sums + sums_floats(r);
    return (struct tile){x, x_stride, 0, n, sums, (uint32_t *)(void *)packed, false, room};
}

/* Is this tile packed, for weights of this format? */
static bool by_rows(const struct cpu_rank *r, const struct matrix *w, struct tile t)
{
    return t.packed && r->kernels->dot_rows[w->stored->id];
}

/* Is it one row, for which there is a dot of its own? */
static bool alone(const struct cpu_rank *r, const struct matrix *w, struct tile t)
{
    return t.n == 1 && r->kernels->dot_row[w->stored->id];
}

/* Leaves of panels to roots: kernels.h. */
static void plain_dots(const struct cpu_rank *r, const struct matrix *w, struct range panels,
                       const struct leaf_run *leaves, struct tile t, float *out,
                       uint64_t out_stride, uint64_t node)
{
    const struct kernels *k = r->kernels;
    const enum stored_id id = w->stored->id;
    const unsigned char *weights = w->w + panels.begin * w->panel_bytes;
    const float *x = t.x + t.row * t.x_stride;
    if (by_rows(r, w, t))
        k->dot_rows[id](weights, w->panel_bytes, range_count(panels), leaves, t.packed,
                        t.x_stride / BLOCK_COLS, t.sums, t.n, out, out_stride, node, t.room);
    else if (alone(r, w, t))
        k->dot_row[id](weights, w->panel_bytes, range_count(panels), leaves, x, t.sums, t.moderate,
                       out, node);
    else
        for (uint64_t n = range_count(panels); n; n--, weights += w->panel_bytes, out += PANEL_ROWS)
            k->dot[id](weights, leaves, x, t.x_stride, t.sums, t.n, out, out_stride, node);
}

/* The same; in the first pass panels are hashed too: one that one row meets while it is read, all
 * others behind it. */
static void dots(const struct cpu_rank *r, const struct matrix *w, struct range panels,
                 const struct leaf_run *leaves, struct tile t, float *out, uint64_t out_stride,
                 uint64_t node)
{
    struct pass_chunk *chunks = r->weights->pass;
    struct pass_panel pass;
    if (chunks && t.n == 1 && range_count(panels) == 1 &&
        pass_begin(&pass, chunks, w, panels.begin)) {
        struct leaf_run followed = *leaves;
        followed.follower = &pass.follower;
        plain_dots(r, w, panels, &followed, t, out, out_stride, node);
        pass_end(&pass);
        return;
    }
    plain_dots(r, w, panels, leaves, t, out, out_stride, node);
    for (uint64_t p = panels.begin; chunks && p < panels.end; p++)
        if (pass_begin(&pass, chunks, w, p))
            pass_end(&pass);
}

/* Panels that a tile meets at once, `packed` of them where it is many packed rows. In the first
 * pass one row meets one, which is hashed with it. */
static uint64_t panels_at_once(const struct cpu_rank *r, const struct matrix *w, struct tile t,
                               uint64_t packed)
{
    if (t.n == 1)
        return r->weights->pass ? 1 : CPU_ROW_PANELS;
    return by_rows(r, w, t) && t.n > r->kernels->few_rows ? packed : 1;
}

/* The next panels of a group; run begins as {0, group's begin}. false: there are none. */
static bool next_run(const struct cpu_rank *r, const struct matrix *w, struct tile t,
                     uint64_t packed, struct range group, struct range *run)
{
    const uint64_t end = run->end + panels_at_once(r, w, t, packed);
    *run = (struct range){run->end, min_u64(end, group.end)};
    return run->begin < group.end;
}

/* out[m][0 .. rows of the panels): scale and bias after the full dot. */
static void full_dot(const struct cpu_rank *r, const struct matrix *w, struct range panels,
                     struct tile t, float *out, uint64_t out_stride)
{
    dots(r, w, panels, ONE_LEAF(w->pieces), t, out, out_stride, 0);
    if (!w->scale && !w->bias)
        return;
    uint64_t first = panels.begin * PANEL_ROWS,
             n = min_u64(panels.end * PANEL_ROWS, w->rows) - first;
    for (uint64_t m = 0; m < t.n; m++)
        r->kernels->scale_bias(out + m * out_stride, w->scale ? w->scale + first : NULL,
                               w->bias ? w->bias + first : NULL, n, out + m * out_stride);
}

/* fn for a tile of rows and a group of panels. */
typedef void tile_fn(const struct cpu_rank *r, void *arg, struct tile t, struct range group);

static struct tile tile_at(const struct cpu_rank *r, const struct matrix *w, struct tile all,
                           uint64_t row, uint64_t rows)
{
    struct tile t = all;
    t.row = row;
    t.n = min_u64(rows, all.n - row);
    t.packed = NULL;
    t.moderate = alone(r, w, t) && stored_quantized(w->stored) &&
                 r->kernels->moderate(t.x + row * t.x_stride, t.x_stride);
    return t;
}

/* Packed rows are many for each panel: they pass over all panels, which then need not stay in a
 * cache. */
static void packed_tiles(const struct cpu_rank *r, const struct matrix *w, uint64_t n,
                         struct share share, struct tile all, tile_fn *fn, void *arg)
{
    const struct kernels *k = r->kernels;
    k->rows_begin();
    for (uint64_t m = 0; m < all.n; m += k->rows_tile) {
        struct taking taking = cpu_taking(r, w, n, share, k->run_panels);
        struct tile t = tile_at(r, w, all, m, k->rows_tile);
        for (struct range panels; cpu_take(&taking, &panels); fn(r, arg, t, panels))
            if (!t.packed) { /* who comes too late packs nothing */
                t.packed = all.packed;
                k->pack_rows(t.x + m * t.x_stride, t.x_stride, t.x_stride / BLOCK_COLS, t.n,
                             t.packed);
            }
    }
    k->rows_end();
}

/* Rows as they are. Where they are one tile, no panel is read twice, and the panels that are taken
 * are one group. */
static void plain_tiles(const struct cpu_rank *r, const struct matrix *w, uint64_t n,
                        struct share share, struct tile all, tile_fn *fn, void *arg)
{
    struct taking taking = cpu_taking(r, w, n, share, CPU_PANEL_GROUP);
    const struct tile first = tile_at(r, w, all, 0, CPU_ROW_TILE);
    for (struct range panels; cpu_take(&taking, &panels);) {
        const uint64_t width = all.n > CPU_ROW_TILE ? CPU_PANEL_GROUP : range_count(panels);
        for (uint64_t p = panels.begin; p < panels.end; p += width)
            for (uint64_t m = 0; m < all.n; m += CPU_ROW_TILE)
                fn(r, arg, m ? tile_at(r, w, all, m, CPU_ROW_TILE) : first,
                   (struct range){p, min_u64(p + width, panels.end)});
    }
}

/* All rows, and the thread's panels of w, or of n of matrices of its format, w's before the
 * others'. */
static void each_tile(const struct cpu_rank *r, const struct matrix *w, uint64_t n,
                      struct share share, struct tile all, tile_fn *fn, void *arg)
{
    if (kernels_packs(r->kernels, w->stored->id, r->bf16, all.n))
        packed_tiles(r, w, n, share, all, fn, arg);
    else
        plain_tiles(r, w, n, share, all, fn, arg);
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
    sum_pieces(r, job->w, ONE_LEAF(job->w->pieces), t);
    for (struct range run = {0, group.begin};
         next_run(r, job->w, t, r->kernels->run_panels, group, &run);)
        full_dot(r, job->w, run, t, out + run.begin * PANEL_ROWS, job->stride);
}

/* The panels of the three in one row, so that the shares are even. */
static void qkv_tile(const struct cpu_rank *r, void *arg, struct tile t, struct range group)
{
    struct full_job *jobs = arg;
    uint64_t first = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t n = jobs[i].w->panels;
        uint64_t begin = group.begin > first ? group.begin - first : 0;
        uint64_t end = group.end > first ? min_u64(group.end - first, n) : 0;
        if (begin < end)
            full_tile(r, &jobs[i], t, (struct range){begin, end});
        first += n;
    }
}

void cpu_qkv(struct cpu_rank *r, const struct step *step, const struct op *op, struct share share)
{
    const struct layer_weights *w = &r->weights->layers[op->layer];
    struct full_job jobs[3] = {
        {&w->q, r->q, r->q_stride}, {&w->k, r->k, r->kv_stride}, {&w->v, r->v, r->kv_stride}};
    each_tile(r, &w->q, w->q.panels + w->k.panels + w->v.panels, share,
              all_rows(r, share, cpu_normed(r, step), r->device->row_stride, step->n_rows),
              qkv_tile, jobs);
}

/* ---- gate, up ---- */

struct gate_job {
    const struct layer_weights *w;
    float *up; /* [rows][of a run's panels] */
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
    const struct range before = {0, group.begin};
    const uint64_t panels = r->kernels->run_panels;
    sum_pieces(r, &w->gate, ONE_LEAF(w->gate.pieces), t);
    for (struct range run = before; next_run(r, &w->gate, t, panels, group, &run);)
        full_dot(r, &w->gate, run, t, act + run.begin * PANEL_ROWS, stride);
    if (w->up.stored != w->gate.stored) /* else they are the same */
        sum_pieces(r, &w->up, ONE_LEAF(w->up.pieces), t);
    for (struct range run = before; next_run(r, &w->up, t, panels, group, &run);) {
        uint64_t first = run.begin * PANEL_ROWS, width = range_count(run) * PANEL_ROWS;
        uint64_t n = min_u64(first + width, w->gate.rows) - first;
        float *at = act + first;
        full_dot(r, &w->up, run, t, job->up, width);
        for (uint64_t m = 0; m < t.n; m++)
            r->kernels->silu_mul(at + m * stride, job->up + m * width, n, r->bf16, at + m * stride);
    }
}

void cpu_gate_up(struct cpu_rank *r, const struct step *step, const struct op *op,
                 struct share share)
{
    const struct layer_weights *w = &r->weights->layers[op->layer];
    struct gate_job job = {w, cpu_scratch(r, share)};
    struct tile all = all_rows(r, share, cpu_normed(r, step), r->device->row_stride, step->n_rows);
    each_tile(r, &w->gate, w->gate.panels, share, all, gate_tile, &job);
}

/* ---- o_proj, down: leaves, folded to roots ---- */

struct leaf_job {
    const struct matrix *w;
    const struct leaf_run *leaves;
    const struct cpu_roots *roots;
    float *stack; /* [TREE_STACK_MAX][node_floats] */
};

static void leaf_panels(const struct cpu_rank *r, const struct leaf_job *job, struct tile t,
                        struct range run)
{
    const uint64_t node = node_floats(r), width = range_count(run) * PANEL_ROWS;
    dots(r, job->w, run, job->leaves, t, job->stack, width, node);
    for (uint32_t root = 0; root < job->leaves->n_roots; root++)
        for (uint64_t m = 0; m < t.n; m++)
            memcpy(cpu_root(r->device, job->roots, r->rank, root, t.row + m) +
                       run.begin * PANEL_ROWS,
                   job->stack + root * node + m * width, width * sizeof(float));
}

static void leaf_tile(const struct cpu_rank *r, void *arg, struct tile t, struct range group)
{
    const struct leaf_job *job = arg;
    sum_pieces(r, job->w, job->leaves, t);
    for (struct range run = {0, group.begin};
         next_run(r, job->w, t, r->kernels->leaf_panels, group, &run);)
        leaf_panels(r, job, t, run);
}

static void leaf_dots(const struct cpu_rank *r, const struct step *step, const struct matrix *w,
                      const struct leaf_run *leaves, const struct cpu_roots *roots, const float *x,
                      struct share share)
{
    struct leaf_job job = {w, leaves, roots, cpu_scratch(r, share)};
    if (leaves->count)
        each_tile(r, w, w->panels, share, all_rows(r, share, x, w->k, step->n_rows), leaf_tile,
                  &job);
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
    uint64_t stride = r->device->device.logit_stride, end;
    for (uint64_t i = 0; i < r->device->slice_count; i = end) {
        /* a run of rows that lie side by side */
        for (end = i + 1; end < r->device->slice_count && rows[end] == rows[end - 1] + 1; end++)
            ;
        float *first = r->device->logits + i * stride + r->weights->partition.vocab.begin;
        struct full_job job = {w, first, stride};
        const float *x = cpu_normed(r, step) + rows[i] * r->device->row_stride;
        each_tile(r, w, w->panels, share, all_rows(r, share, x, r->device->row_stride, end - i),
                  full_tile, &job);
    }
}
