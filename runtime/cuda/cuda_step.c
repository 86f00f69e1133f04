/* A step on the GPU: kernels in a stream, in the order of forward.h; of rows that decode a graph, made
 * once for each number of rows and replayed. More rows than CUDA_ROWS go group by group, layer by
 * layer. */
#include "cuda_device.h"

#include "checked.h"
#include "clock.h"
#include "rope.h"
#include <math.h>
#include <string.h>

/* Up to so many rows the reductions and norms are done in the kernels that need them: five a layer. Every
 * CTA does them, which more rows make too dear. */
enum { FUSED_ROWS = 4 };
/* Of o_proj into L2 while attention runs: a part of every GPU's. */
enum { AHEAD_BYTES = 16 << 20 };

/* One group of rows, on its way through the layers. */
struct group {
    struct cuda_rank *rank;
    cu_stream stream;
    uint32_t first, n_rows;       /* rows of the step */
    int kind;                     /* of kernels: for 1 << kind rows */
    bool fused;                   /* reductions and norms are done by who needs them */
    bool apart;                   /* rows are of one sequence each: RoPE is done in attention */
    const struct cuda_step *step; /* on the device */
    struct tp_error *err;
};

static int kind_of(uint32_t rows)
{
    int kind = 0;
    while (1u << kind < rows)
        kind++;
    return kind;
}

static bool launch(const struct group *g, cu_function function, unsigned grid, size_t shared,
                   void *arguments)
{
    return cuda_launch(g->rank->cuda, g->stream, function, grid, CUDA_THREADS, shared, arguments,
                       g->err);
}

static float *row_of(const struct group *g, float *rows, uint64_t stride)
{
    return rows + g->first * stride;
}

/* ---- the residual stream ---- */

/* From the embedding (w NULL), or the reduction of w's roots; then norm number `norm`. The residual
 * stream alternates between two buffers: behind a layer it is in the first. */
static struct cuda_residual residual_of(const struct group *g, const struct matrix *w,
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

static bool run_residual(const struct group *g, struct cuda_residual *a)
{
    return launch(g, g->rank->residual_norm, g->n_rows, align_up(a->hidden * 4, 16) + 16, a);
}

/* ---- dots ---- */

static uint32_t lane_blocks(const struct stored *s)
{
    return s->bits >= 16 ? 1 : s->bits == 8 ? 2 : 4;
}

/* Shared memory of a launch (dot.cuh), and what of it is in global memory instead. */
static size_t place_dot(const struct group *g, const struct stored *s, struct cuda_dot *a,
                        unsigned ctas)
{
    const uint32_t m = 1u << g->kind, parts = a->pair ? 2 : 1, per_warp = 8, warps = 8;
    const uint32_t units = (uint32_t)div_ceil(a->blocks, lane_blocks(s)) * parts;
    const size_t most = (size_t)g->rank->cuda->shared_max / ctas - (ctas > 1 ? 1024 : 0);
    a->slots = (uint32_t)div_ceil((warps + 1) * per_warp, units) + 1;
    size_t bytes = 2 * align_up(a->slots * 4, 16);
    if (a->minimum)
        bytes += align_up((size_t)m * a->blocks * 4, 16);
    const size_t x = align_up((size_t)m * a->blocks * 36 * 4, 16);
    const size_t rows = m + (s->group > 0); /* constants of groups beside the values */
    const size_t inner = align_up((size_t)a->slots * rows * parts * a->blocks * PANEL_ROWS * 4, 16);
    if (!a->x) /* made in every CTA, to shared memory */
        bytes += x + align_up((size_t)m * 4, 16);
    a->inner = bytes + inner <= most ? NULL : g->rank->inner;
    bytes += a->inner ? 0 : inner;
    a->stage_x = !a->x || bytes + x <= most;
    return bytes + (a->x && a->stage_x ? x : 0);
}

/* Can a dot over so many columns make its own x? */
static bool has_room(const struct cuda_rank *r, int kind)
{
    const size_t x = ((size_t)r->stride / BLOCK_COLS * 36 + 4) * 4 << kind;
    return x + 4096 <= (size_t)r->cuda->shared_max / 2;
}

static bool run_dot(const struct group *g, const struct cuda_geometry *geometry, struct cuda_dot *a)
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
    const uint64_t grid = min_u64((uint64_t)r->cuda->multiprocessors * ctas, div_ceil(units, 8));
    return launch(g, geometry->dot[g->kind], (unsigned)grid, shared, a);
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
static bool run_qkv(const struct group *g, const struct layer_weights *w,
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

static bool run_leaves(const struct group *g, const struct matrix *m, enum cuda_kind kind,
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

static bool run_gate_up(const struct group *g, const struct layer_weights *w,
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

static bool run_logits(const struct group *g, const float *x)
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

static struct cuda_rope rope_of(const struct group *g, uint32_t layer)
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

static bool run_rope(const struct group *g, uint32_t layer)
{
    const struct cuda_rank *r = g->rank;
    struct cuda_rope a = rope_of(g, layer);
    const unsigned warps = CUDA_THREADS / 32;
    uint64_t items = (r->heads + r->kv_heads) * g->n_rows;
    return launch(g, r->rope, (unsigned)div_ceil(items, warps),
                  align_up((uint64_t)warps * a.head_dim * 4, 16), &a);
}

/* The heads of a KV head are one tile, so that one CTA appends its k and v. */
static bool ropes_in_attention(const struct group *g)
{
    return g->fused && g->apart && g->rank->group <= g->rank->tile;
}

static bool run_attention(const struct group *g, uint32_t layer)
{
    const struct cuda_rank *r = g->rank;
    const struct partition *p = &r->weights->partition;
    const struct matrix *next = &r->weights->layers[layer].o;
    const bool fused = ropes_in_attention(g);
    struct cuda_attention a = {
        .step = g->step,
        .queries = fused ? NULL : r->queries,
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
    uint64_t items = r->kv_heads * div_ceil(r->group, r->tile) * g->n_rows * r->chunks_max;
    uint64_t grid = min_u64(items, (uint64_t)r->cuda->multiprocessors * 2);
    return launch(g, r->attention, (unsigned)grid, cuda_attention_shared(r, r->tile), &a);
}

/* ---- the step ---- */

/* before: where the layer's x comes from. Behind it the next one's is *before, which has been run unless
 * the group is fused. */
static bool run_layer(const struct group *g, uint32_t layer, struct cuda_residual *before)
{
    const struct cuda_rank *r = g->rank;
    const struct layer_weights *w = &r->weights->layers[layer];
    struct cuda_residual middle = residual_of(g, &w->o, 0, 2 * layer + 1);
    bool ok = run_qkv(g, w, before) && (ropes_in_attention(g) || run_rope(g, layer)) &&
              run_attention(g, layer) &&
              run_leaves(g, &w->o, KIND_O, r->attn, r->attn_stride, r->roots[0]) &&
              (g->fused || run_residual(g, &middle)) && run_gate_up(g, w, &middle) &&
              run_leaves(g, &w->down, KIND_DOWN, r->act, r->act_stride, r->roots[1]);
    *before = residual_of(g, &w->down, 1, 2 * layer + 2);
    return ok && (g->fused || run_residual(g, before));
}

/* No two rows are of one sequence. */
static bool are_apart(const struct step *step)
{
    for (uint32_t i = 0; i < step->n_rows; i++)
        for (uint32_t j = 0; j < i; j++)
            if (step->rows[i].sequence == step->rows[j].sequence)
                return false;
    return true;
}

static struct group group_of(struct cuda_device *d, const struct step *step, uint32_t first,
                             struct tp_error *err)
{
    struct cuda_rank *r = &d->rank;
    uint32_t n = step->n_rows - first < CUDA_ROWS ? step->n_rows - first : CUDA_ROWS;
    return (struct group){
        .rank = r,
        .stream = r->cuda->stream,
        .first = first,
        .n_rows = n,
        .kind = kind_of(n),
        .fused = step->n_rows <= FUSED_ROWS && !d->setup.after_layer && has_room(r, kind_of(n)),
        .apart = step->n_rows <= FUSED_ROWS && are_apart(step),
        .step =
            (const struct cuda_step *)(const void *)(r->steps + first / CUDA_ROWS * r->step_bytes),
        .err = err,
    };
}

/* What the rows of all groups are, to the device. */
static bool put_rows(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const struct cuda_rank *r = &d->rank;
    const uint64_t groups = div_ceil(step->n_rows, CUDA_ROWS);
    for (uint64_t i = 0; i < groups; i++) {
        struct cuda_step *s = (struct cuda_step *)(void *)(d->steps + i * r->step_bytes);
        uint32_t *pages = (uint32_t *)(s + 1), first = (uint32_t)i * CUDA_ROWS;
        s->n_rows = step->n_rows - first < CUDA_ROWS ? step->n_rows - first : CUDA_ROWS;
        for (uint32_t m = 0; m < s->n_rows; m++) {
            const struct step_row *row = &step->rows[first + m];
            s->token[m] = row->token;
            s->position[m] = row->position;
            memcpy(pages + m * r->chunks_max, step->pages[row->sequence],
                   (row->position / CUDA_CHUNK + 1) * sizeof *pages);
        }
    }
    return CUDA(&r->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)r->steps, d->steps, groups * r->step_bytes, r->cuda->stream));
}

/* cos and sin of pages that no step has needed before. */
static bool fill_rope(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const struct cuda_rank *r = &d->rank;
    const struct cuda_api *api = &r->cuda->api;
    const uint64_t half = d->setup.model->head_dim / 2, floats = CUDA_CHUNK * half;
    uint32_t last = 0;
    for (uint32_t m = 0; m < step->n_rows; m++)
        last = step->rows[m].position > last ? step->rows[m].position : last;
    for (; d->rope_filled <= last / CUDA_CHUNK; d->rope_filled++) {
        for (uint64_t i = 0; i < CUDA_CHUNK; i++)
            rope_row(d->frequencies, half, d->rope_filled * CUDA_CHUNK + i,
                     d->setup.model->rope.attention_factor, d->rope + i * half,
                     d->rope + floats + i * half);
        uint64_t at = d->rope_filled * floats;
        if (!CUDA(api, err, cuMemcpyHtoDAsync_v2,
                  ((uintptr_t)(r->cos + at), d->rope, floats * 4, r->cuda->stream)) ||
            !CUDA(api, err, cuMemcpyHtoDAsync_v2,
                  ((uintptr_t)(r->sin + at), d->rope + floats, floats * 4, r->cuda->stream)) ||
            !CUDA(api, err, cuStreamSynchronize, (r->cuda->stream)))
            return false;
    }
    return true;
}

static bool get_logits(struct cuda_device *d, uint32_t n, struct tp_error *err)
{
    const struct cuda_rank *r = &d->rank;
    return CUDA(&r->cuda->api, err, cuMemcpyDtoHAsync_v2,
                (d->logits, (uintptr_t)r->logits, n * r->logit_stride * 4, r->cuda->stream));
}

/* Layer after layer, all groups in each, as tracing wants it too. */
static bool run_layers(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const struct range layers = d->rank.weights->partition.layers;
    const uint32_t first = (uint32_t)layers.begin;
    struct cuda_residual before;
    struct group g;
    bool ok = true;
    for (uint32_t m = 0; ok && m < step->n_rows; m += CUDA_ROWS) {
        g = group_of(d, step, m, err);
        before = residual_of(&g, NULL, 0, 2 * first);
        ok = g.fused || run_residual(&g, &before);
    }
    for (uint32_t layer = first; ok && layer < layers.end; layer++) {
        for (uint32_t m = 0; ok && m < step->n_rows; m += CUDA_ROWS) {
            g = group_of(d, step, m, err);
            if (!g.fused) /* it has been run: only where the rows are matters */
                before = residual_of(&g, NULL, 0, 0);
            ok = run_layer(&g, layer, &before);
        }
        if (!ok || !d->setup.after_layer)
            continue;
        d->setup.after_layer(d->setup.after_layer_arg, layer);
        if (layer + 1 == d->setup.model->n_layers)
            d->setup.after_layer(d->setup.after_layer_arg, layer + 1);
    }
    return ok && (!g.fused || run_residual(&g, &before));
}

/* Are all rows one group, and the logits of all wanted? */
static bool wants_all(const struct step *step)
{
    return step->n_rows <= CUDA_ROWS && step->n_logits == step->n_rows;
}

static bool run_decode(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    if (!run_layers(d, step, err))
        return false;
    if (!wants_all(step))
        return true;
    struct group g = group_of(d, step, 0, err);
    return run_logits(&g, d->rank.normed) && get_logits(d, step->n_rows, err);
}

static bool capture(struct cuda_device *d, const struct step *step, cu_graph_exec *exec,
                    struct tp_error *err)
{
    const struct cuda *c = d->rank.cuda;
    cu_graph graph = NULL;
    /* as if the kernels' rows were all there: *n_rows says how many are */
    struct step full = *step;
    struct step_row rows[CUDA_ROWS] = {{0, 0, 0}};
    const bool apart = are_apart(step);
    for (uint32_t i = 0; i < CUDA_ROWS; i++)
        rows[i].sequence = apart ? i : 0;
    full.rows = rows;
    full.n_rows = 1u << kind_of(step->n_rows);
    full.n_logits = wants_all(step) ? full.n_rows : 0;
    bool ok = CUDA(&c->api, err, cuStreamBeginCapture_v2, (c->stream, CU_CAPTURE_THREAD_LOCAL)) &&
              run_decode(d, &full, err);
    ok = CUDA(&c->api, ok ? err : NULL, cuStreamEndCapture, (c->stream, &graph)) && ok &&
         CUDA(&c->api, err, cuGraphInstantiateWithFlags, (exec, graph, 0));
    if (graph)
        c->api.cuGraphDestroy(graph);
    return ok;
}

static bool capture_first(struct cuda_device *d, const struct step *step, cu_graph_exec *exec,
                          struct tp_error *err)
{
    double start = clock_seconds();
    struct tp_error why = {0};
    struct cuda *c = d->rank.cuda;
    bool ok = capture(d, step, exec, c->early ? &why : err);
    if (!ok && c->early) { /* early launches in graphs came with CUDA 12.3 */
        c->early = false;
        ok = capture(d, step, exec, err);
    }
    if (!d->captured)
        cuda_time(&d->device, "capture", clock_seconds() - start);
    d->captured = true;
    return ok;
}

static bool run(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const struct cuda *c = d->rank.cuda;
    d->slice_count = 0;
    if (!fill_rope(d, step, err) || !put_rows(d, step, err))
        return false;
    if (step->n_rows > CUDA_ROWS || d->setup.after_layer) {
        if (!run_decode(d, step, err))
            return false;
    } else {
        cu_graph_exec *exec = &d->graphs[kind_of(step->n_rows)][wants_all(step)][are_apart(step)];
        if ((!*exec && !capture_first(d, step, exec, err)) ||
            !CUDA(&c->api, err, cuGraphLaunch, (*exec, c->stream)))
            return false;
    }
    if (wants_all(step)) {
        d->slice_first = 0;
        d->slice_count = step->n_rows;
    }
    return CUDA(&c->api, err, cuStreamSynchronize, (c->stream));
}

static bool fail(struct cuda_device *d, const struct tp_error *why, struct tp_error *err)
{
    if (!d->failed)
        d->error = *why;
    d->failed = true;
    *err = d->error;
    return false;
}

bool cuda_step_run(struct device *device, const struct step *step, struct tp_error *err)
{
    struct cuda_device *d = (struct cuda_device *)(void *)device;
    struct tp_error why = {0};
    return (!d->failed && run(d, step, &why) && !d->failed) || fail(d, &why, err);
}

/* ---- logits of some rows ---- */

static bool run_wanted(struct cuda_device *d, const struct step *step, uint32_t first, uint32_t n,
                       struct tp_error *err)
{
    struct cuda_rank *r = &d->rank;
    const struct cuda_api *api = &r->cuda->api;
    struct cuda_step *rows = (struct cuda_step *)(void *)(d->steps + r->groups * r->step_bytes);
    unsigned char *at = r->steps + r->groups * r->step_bytes;
    rows->n_rows = n;
    struct group g = {.rank = r,
                      .stream = r->cuda->stream,
                      .n_rows = n,
                      .kind = kind_of(n),
                      .step = (const struct cuda_step *)(const void *)at,
                      .err = err};
    bool ok =
        CUDA(api, err, cuMemcpyHtoDAsync_v2, ((uintptr_t)at, rows, sizeof *rows, r->cuda->stream));
    for (uint32_t i = 0; ok && i < n; i++)
        ok = CUDA(api, err, cuMemcpyDtoDAsync_v2,
                  ((uintptr_t)(r->wanted + i * r->stride),
                   (uintptr_t)(r->normed + step->logit_rows[first + i] * r->stride), r->stride * 4,
                   r->cuda->stream));
    return ok && run_logits(&g, r->wanted) && get_logits(d, n, err) &&
           CUDA(api, err, cuStreamSynchronize, (r->cuda->stream));
}

const float *cuda_logits(struct device *device, const struct step *step, uint32_t first,
                         uint32_t *count, struct tp_error *err)
{
    struct cuda_device *d = (struct cuda_device *)(void *)device;
    struct tp_error why = {0};
    if (!d->slice_count || first != d->slice_first) {
        d->slice_first = first;
        d->slice_count = step->n_logits - first < CUDA_ROWS ? step->n_logits - first : CUDA_ROWS;
        if (d->failed || !run_wanted(d, step, first, d->slice_count, &why)) {
            fail(d, &why, err);
            return NULL;
        }
    }
    *count = d->slice_count;
    return d->logits;
}

void cuda_free_graphs(struct cuda_device *d)
{
    for (int i = 0; i < CUDA_ROW_KINDS; i++)
        for (int j = 0; j < 4; j++)
            if (d->graphs[i][j / 2][j % 2])
                d->rank.cuda->api.cuGraphExecDestroy(d->graphs[i][j / 2][j % 2]);
}
