/* The matrices of the CPU. A phase is jobs, of all ranks of a crew; its threads share the panels of
 * all of them: every panel is one thread's. */
#include "cpu.h"

#include "checked.h"
#include "first_pass.h"
#include <string.h>

/* Rows of x that go through panels together at most, packed or not. */
static uint64_t rows_together(const struct kernels *k)
{
    return k->rows_tile > CPU_ROW_TILE ? k->rows_tile : CPU_ROW_TILE;
}

static uint64_t tile_rows(const struct cpu_device *d)
{
    return min_u64(d->setup.rows_max, rows_together(d->kernels));
}

/* Of a tile's sums over pieces, at most one for each block; a cache line ends them. */
static uint64_t sums_floats(const struct cpu_crew *c)
{
    return align_up(tile_rows(c->device) * (c->x_stride_max / BLOCK_COLS), 16);
}

/* Results of a tile of rows for so many panels, at least one. */
static uint64_t results_floats(const struct kernels *k, uint64_t panels)
{
    return rows_together(k) * (panels ? panels : 1) * PANEL_ROWS;
}

/* A node of a stack of partial sums. */
static uint64_t node_floats(const struct kernels *k)
{
    return results_floats(k, k->leaf_panels);
}

/* A stack of partial sums, or a tile of up. */
static uint64_t stack_floats(const struct kernels *k)
{
    uint64_t stack = TREE_STACK_MAX * node_floats(k), up = results_floats(k, k->run_panels);
    return stack > up ? stack : up;
}

/* Behind it the room of dot_rows; the sums of x over pieces; packed rows. */
uint64_t cpu_matmul_scratch(const struct cpu_crew *c)
{
    const struct kernels *k = c->device->kernels;
    uint64_t packed =
        k->pack_rows ? packed_words(k, c->x_stride_max / BLOCK_COLS, tile_rows(c->device)) : 0;
    return stack_floats(k) + k->rows_room / sizeof(float) + sums_floats(c) + packed;
}

/* Where an activation tile meets the panels: rows [row, row + n) of x. */
struct tile {
    const float *x;
    uint64_t x_stride, row, n;
    uint32_t *packed;           /* the rows once more, for dot_rows; or NULL */
    const struct stored *suits; /* whose weights the sums are for, and: */
    bool moderate;              /* of one row, for dot_row */
    /* room in the thread's scratch */
    float *stack; /* of partial sums, or for up */
    float *sums;  /* of its rows, where a format has a minimum */
    void *room;   /* of dot_rows */
};

/* Is this tile packed, for weights of this format? */
static bool by_rows(const struct kernels *k, const struct matrix *w, struct tile t)
{
    return t.packed && k->dot_rows[w->stored->id];
}

/* Is it one row, for which there is a dot of its own? */
static bool alone(const struct kernels *k, const struct matrix *w, struct tile t)
{
    return t.n == 1 && k->dot_row[w->stored->id];
}

/* Sums of a tile over the pieces of leaves. */
static void sum_pieces(const struct kernels *k, const struct leaf_run *leaves, struct tile t)
{
    uint64_t block = 0;
    for (uint32_t i = 0; i < leaves->count; i++) {
        const struct pieces pieces = leaves->leaves[i].pieces;
        k->piece_sums(pieces, t.x + t.row * t.x_stride + block * BLOCK_COLS, t.x_stride, t.n,
                      t.sums + block);
        block += pieces.blocks;
    }
}

/* What the weights' format wants to know of a tile: once, however often it meets them. */
static void suit(const struct kernels *k, const struct matrix *w, const struct leaf_run *leaves,
                 struct tile *t)
{
    if (t->suits == w->stored)
        return;
    t->suits = w->stored;
    if (w->stored->offset == OFFSET_MINIMUM)
        sum_pieces(k, leaves, *t);
    t->moderate = alone(k, w, *t) && stored_quantized(w->stored) &&
                  k->moderate(t->x + t->row * t->x_stride, t->x_stride);
}

/* Leaves of panels to roots: kernels.h. */
static void plain_dots(const struct kernels *k, const struct matrix *w, struct range panels,
                       const struct leaf_run *leaves, struct tile t, float *out,
                       uint64_t out_stride, uint64_t node)
{
    const enum stored_id id = w->stored->id;
    const unsigned char *weights = w->w + panels.begin * w->panel_bytes;
    const float *x = t.x + t.row * t.x_stride;
    if (by_rows(k, w, t))
        k->dot_rows[id](weights, w->panel_bytes, range_count(panels), leaves, t.packed,
                        t.x_stride / BLOCK_COLS, t.sums, t.n, out, out_stride, node, t.room);
    else if (alone(k, w, t))
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
        plain_dots(r->kernels, w, panels, &followed, t, out, out_stride, node);
        pass_end(&pass);
        return;
    }
    plain_dots(r->kernels, w, panels, leaves, t, out, out_stride, node);
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
    return by_rows(r->kernels, w, t) && t.n > r->kernels->few_rows ? packed : 1;
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
typedef void tile_fn(const struct cpu_job *job, struct tile *tile, struct range group);

/* What a thread has to do in a phase: some panels of some jobs, all rows. */
struct work {
    const struct cpu_crew *crew;
    const struct cpu_job *jobs;
    uint64_t n_jobs, n_rows;
    struct share share;
    tile_fn *fn;
};

/* Of panels that are counted over all jobs the first that are one job's. */
struct portion {
    const struct cpu_job *job;
    struct range panels; /* of the job */
};

/* false: there are none. */
static bool next_portion(const struct work *work, struct range *left, struct portion *portion)
{
    if (left->begin >= left->end)
        return false;
    uint64_t first = left->begin;
    const struct cpu_job *job = cpu_job_at(work->jobs, &first);
    const uint64_t n = min_u64(range_count(*left), job->w->panels - first);
    *portion = (struct portion){job, {first, first + n}};
    left->begin += n;
    return true;
}

/* Rows from `row` on of what a job meets, `rows` at most. */
static struct tile tile_at(const struct work *work, const struct cpu_job *job, uint64_t row,
                           uint64_t rows)
{
    const struct kernels *k = work->crew->device->kernels;
    struct tile t = {.x = job->x,
                     .x_stride = job->x_stride,
                     .row = row,
                     .n = min_u64(rows, work->n_rows - row),
                     .stack = cpu_scratch(work->crew, work->share)};
    t.room = t.stack + stack_floats(k);
    t.sums = t.stack + stack_floats(k) + k->rows_room / sizeof(float);
    return t;
}

static void pack(const struct work *work, struct tile *t)
{
    t->packed = (uint32_t *)(void *)(t->sums + sums_floats(work->crew));
    work->crew->device->kernels->pack_rows(t->x + t->row * t->x_stride, t->x_stride,
                                           t->x_stride / BLOCK_COLS, t->n, t->packed);
}

/* Packed rows are many for each panel: they pass over all panels, which then need not stay in a
 * cache. */
static void packed_tiles(const struct work *work)
{
    const struct kernels *k = work->crew->device->kernels;
    k->rows_begin();
    for (uint64_t m = 0; m < work->n_rows; m += k->rows_tile) {
        struct taking taking =
            cpu_taking(work->crew, work->jobs, work->n_jobs, work->share, k->run_panels);
        struct tile t = {0};
        struct portion s;
        for (struct range panels; cpu_take(&taking, &panels);)
            while (next_portion(work, &panels, &s)) {
                if (t.x != s.job->x) { /* ranks may meet the same rows */
                    t = tile_at(work, s.job, m, k->rows_tile);
                    pack(work, &t);
                }
                work->fn(s.job, &t, s.panels);
            }
    }
    k->rows_end();
}

/* Rows as they are. Where they are one tile, no panel is read twice, and the panels that are taken
 * are one group. */
static void plain_tiles(const struct work *work)
{
    struct taking taking =
        cpu_taking(work->crew, work->jobs, work->n_jobs, work->share, CPU_PANEL_GROUP);
    struct tile t = {0};
    struct portion s;
    for (struct range panels; cpu_take(&taking, &panels);)
        while (next_portion(work, &panels, &s)) {
            const bool one = work->n_rows <= CPU_ROW_TILE;
            const uint64_t width = one ? range_count(s.panels) : CPU_PANEL_GROUP;
            for (uint64_t p = s.panels.begin; p < s.panels.end; p += width)
                for (uint64_t m = 0; m < work->n_rows; m += CPU_ROW_TILE) {
                    if (!one || t.x != s.job->x)
                        t = tile_at(work, s.job, m, CPU_ROW_TILE);
                    work->fn(s.job, &t, (struct range){p, min_u64(p + width, s.panels.end)});
                }
        }
}

/* Rows are packed, or not, as the first job's format has it; each asks its own whether they are. */
static void run_jobs(const struct cpu_crew *c, const struct cpu_job *jobs, uint64_t n_jobs,
                     uint64_t n_rows, struct share share, tile_fn *fn)
{
    const struct work work = {c, jobs, n_jobs, n_rows, share, fn};
    if (n_jobs && kernels_packs(c->device->kernels, jobs->w->stored->id, jobs->rank->bf16, n_rows))
        packed_tiles(&work);
    else
        plain_tiles(&work);
}

/* ---- q, k, v ---- */

static void full_tile(const struct cpu_job *job, struct tile *tile, struct range group)
{
    const struct cpu_rank *r = job->rank;
    suit(r->kernels, job->w, ONE_LEAF(job->w->pieces), tile);
    const struct tile t = *tile;
    float *out = job->out + t.row * job->out_stride;
    for (struct range run = {0, group.begin};
         next_run(r, job->w, t, r->kernels->run_panels, group, &run);)
        full_dot(r, job->w, run, t, out + run.begin * PANEL_ROWS, job->out_stride);
}

void cpu_qkv(const struct cpu_crew *c, const struct step *step, const struct op *op,
             struct share share)
{
    struct cpu_job jobs[3 * PARTITION_TP_MAX];
    uint64_t n = 0;
    const float *x = cpu_normed(c, step);
    const uint64_t stride = c->device->row_stride;
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
        const struct cpu_rank *r = cpu_rank_of(c, rank);
        const struct layer_weights *w = &r->weights->layers[op->layer];
        jobs[n++] = (struct cpu_job){r, &w->q, x, stride, .out = r->q, .out_stride = r->q_stride};
        jobs[n++] = (struct cpu_job){r, &w->k, x, stride, .out = r->k, .out_stride = r->kv_stride};
        jobs[n++] = (struct cpu_job){r, &w->v, x, stride, .out = r->v, .out_stride = r->kv_stride};
    }
    run_jobs(c, jobs, n, step->n_rows, share, full_tile);
}

/* ---- gate, up ---- */

/* All of a group's gate, then all of its up: the longer a stretch of memory, the faster it is read.
 */
static void gate_tile(const struct cpu_job *job, struct tile *tile, struct range group)
{
    const struct cpu_rank *r = job->rank;
    const struct matrix *gate = job->w, *up = job->up;
    const uint64_t stride = job->out_stride, panels = r->kernels->run_panels;
    const struct range before = {0, group.begin};
    suit(r->kernels, gate, ONE_LEAF(gate->pieces), tile);
    struct tile t = *tile;
    /* Only the last leaf is padded, so that a column of down is the rank's column of gate. */
    float *act = job->out + t.row * stride;
    for (struct range run = before; next_run(r, gate, t, panels, group, &run);)
        full_dot(r, gate, run, t, act + run.begin * PANEL_ROWS, stride);
    suit(r->kernels, up, ONE_LEAF(up->pieces), tile);
    t = *tile;
    for (struct range run = before; next_run(r, up, t, panels, group, &run);) {
        uint64_t first = run.begin * PANEL_ROWS, width = range_count(run) * PANEL_ROWS;
        uint64_t n = min_u64(first + width, gate->rows) - first;
        float *at = act + first;
        full_dot(r, up, run, t, t.stack, width);
        for (uint64_t m = 0; m < t.n; m++)
            r->kernels->silu_mul(at + m * stride, t.stack + m * width, n, r->bf16, at + m * stride);
    }
}

void cpu_gate_up(const struct cpu_crew *c, const struct step *step, const struct op *op,
                 struct share share)
{
    struct cpu_job jobs[PARTITION_TP_MAX];
    uint64_t n = 0;
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
        const struct cpu_rank *r = cpu_rank_of(c, rank);
        const struct layer_weights *w = &r->weights->layers[op->layer];
        jobs[n++] = (struct cpu_job){r,
                                     &w->gate,
                                     cpu_normed(c, step),
                                     c->device->row_stride,
                                     .out = r->act,
                                     .out_stride = r->act_stride,
                                     .up = &w->up};
    }
    run_jobs(c, jobs, n, step->n_rows, share, gate_tile);
}

/* ---- o_proj, down: leaves, folded to roots ---- */

static void leaf_panels(const struct cpu_job *job, struct tile t, struct range run)
{
    const struct cpu_rank *r = job->rank;
    const uint64_t node = node_floats(r->kernels), width = range_count(run) * PANEL_ROWS;
    dots(r, job->w, run, job->leaves, t, t.stack, width, node);
    for (uint32_t root = 0; root < job->leaves->n_roots; root++)
        for (uint64_t m = 0; m < t.n; m++)
            memcpy(cpu_root(r->device, job->roots, r->rank, root, t.row + m) +
                       run.begin * PANEL_ROWS,
                   t.stack + root * node + m * width, width * sizeof(float));
}

static void leaf_tile(const struct cpu_job *job, struct tile *tile, struct range group)
{
    const struct cpu_rank *r = job->rank;
    suit(r->kernels, job->w, job->leaves, tile);
    const struct tile t = *tile;
    for (struct range run = {0, group.begin};
         next_run(r, job->w, t, r->kernels->leaf_panels, group, &run);)
        leaf_panels(job, t, run);
}

static void run_leaves(const struct cpu_crew *c, const struct step *step, const struct op *op,
                       struct share share, bool mlp)
{
    struct cpu_job jobs[PARTITION_TP_MAX];
    uint64_t n = 0;
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
        const struct cpu_rank *r = cpu_rank_of(c, rank);
        const struct layer_weights *w = &r->weights->layers[op->layer];
        const struct leaf_run *leaves = mlp ? &r->weights->mlp : &r->weights->attention;
        if (leaves->count) /* else it leaves no roots */
            jobs[n++] = (struct cpu_job){r,
                                         mlp ? &w->down : &w->o,
                                         mlp ? r->act : r->attn,
                                         mlp ? r->act_stride : r->attn_stride,
                                         .leaves = leaves,
                                         .roots = mlp ? &c->device->mlp : &c->device->attention};
    }
    run_jobs(c, jobs, n, step->n_rows, share, leaf_tile);
}

void cpu_o_proj(const struct cpu_crew *c, const struct step *step, const struct op *op,
                struct share share)
{
    run_leaves(c, step, op, share, false);
}

void cpu_down(const struct cpu_crew *c, const struct step *step, const struct op *op,
              struct share share)
{
    run_leaves(c, step, op, share, true);
}

/* ---- LM head ---- */

/* Rows that lie side by side: of the slice's `first` on. */
static void logits_of(const struct cpu_crew *c, const float *x, uint64_t first, uint64_t n_rows,
                      struct share share)
{
    const struct cpu_device *d = c->device;
    const uint64_t stride = d->device.logit_stride;
    struct cpu_job jobs[PARTITION_TP_MAX];
    uint64_t n = 0;
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
        const struct cpu_rank *r = cpu_rank_of(c, rank);
        float *out = d->logits + first * stride + r->weights->partition.vocab.begin;
        jobs[n++] = (struct cpu_job){r,          &r->weights->lm_head, x, d->row_stride,
                                     .out = out, .out_stride = stride};
    }
    run_jobs(c, jobs, n, n_rows, share, full_tile);
}

void cpu_logits(const struct cpu_crew *c, const struct step *step, const struct op *op,
                struct share share)
{
    (void)op;
    const struct cpu_device *d = c->device;
    const uint32_t *rows = step->logit_rows + d->slice_first;
    for (uint64_t i = 0, end; i < d->slice_count; i = end) {
        for (end = i + 1; end < d->slice_count && rows[end] == rows[end - 1] + 1; end++)
            ;
        logits_of(c, cpu_normed(c, step) + rows[i] * d->row_stride, i, end - i, share);
    }
}
