/* A step on the GPU: groups of rows through the layers, in the order of forward.h; of rows that
 * decode a graph, made once for each number of rows and replayed. More rows than CUDA_ROWS go
 * group by group, layer by layer. */
#include "cuda_device.h"

#include "checked.h"
#include "clock.h"
#include "rope.h"
#include <string.h>

/* Up to so many rows the reductions and norms are done in the kernels that need them: five a
 * layer. Every CTA does them, which more rows make too dear. */
enum { FUSED_ROWS = 4 };

static int kind_of(uint32_t rows)
{
    int kind = 0;
    while (1u << kind < rows)
        kind++;
    return kind;
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

static struct cuda_group group_of(struct cuda_device *d, const struct step *step, uint32_t first,
                                  struct tp_error *err)
{
    struct cuda_rank *r = &d->rank;
    uint32_t n = step->n_rows - first < CUDA_ROWS ? step->n_rows - first : CUDA_ROWS;
    return (struct cuda_group){
        .rank = r,
        .first = first,
        .n_rows = n,
        .kind = kind_of(n),
        .fused =
            step->n_rows <= FUSED_ROWS && !d->setup.after_layer && cuda_has_room(r, kind_of(n)),
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
    /* of one group no more than its rows */
    const uint64_t bytes = groups > 1 ? groups * r->step_bytes
                                      : sizeof(struct cuda_step) + step->n_rows * r->chunks_max * 4;
    return CUDA(&r->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)r->steps, d->steps, bytes, r->cuda->stream));
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
    struct cuda_group g;
    bool ok = true;
    for (uint32_t m = 0; ok && m < step->n_rows; m += CUDA_ROWS) {
        g = group_of(d, step, m, err);
        before = cuda_residual_of(&g, NULL, 0, 2 * first);
        ok = g.fused || cuda_run_residual(&g, &before);
    }
    for (uint32_t layer = first; ok && layer < layers.end; layer++) {
        for (uint32_t m = 0; ok && m < step->n_rows; m += CUDA_ROWS) {
            g = group_of(d, step, m, err);
            if (!g.fused) /* it has been run: only where the rows are matters */
                before = cuda_residual_of(&g, NULL, 0, 0);
            ok = cuda_run_layer(&g, layer, &before);
        }
        if (!ok || !d->setup.after_layer)
            continue;
        d->setup.after_layer(d->setup.after_layer_arg, layer);
        if (layer + 1 == d->setup.model->n_layers)
            d->setup.after_layer(d->setup.after_layer_arg, layer + 1);
    }
    return ok && (!g.fused || cuda_run_residual(&g, &before));
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
    struct cuda_group g = group_of(d, step, 0, err);
    return cuda_run_logits(&g, d->rank.normed) && cuda_run_choices(&g);
}

static bool capture(struct cuda_device *d, const struct step *step, bool apart, cu_graph_exec *exec,
                    struct tp_error *err)
{
    const struct cuda *c = d->rank.cuda;
    cu_graph graph = NULL;
    /* as if the kernels' rows were all there: *n_rows says how many are */
    struct step full = *step;
    struct step_row rows[CUDA_ROWS] = {{0, 0, 0}};
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

static bool capture_first(struct cuda_device *d, const struct step *step, bool apart,
                          cu_graph_exec *exec, struct tp_error *err)
{
    double start = clock_seconds();
    struct tp_error why = {0};
    struct cuda *c = d->rank.cuda;
    bool ok = capture(d, step, apart, exec, c->early ? &why : err);
    if (!ok && c->early) { /* early launches in graphs came with CUDA 12.3 */
        c->early = false;
        ok = capture(d, step, apart, exec, err);
    }
    if (!d->captured)
        cuda_time(&d->device, "capture", clock_seconds() - start);
    d->captured = true;
    return ok;
}

/* The LM head over some wanted rows, and what is chosen from them. */
static bool run_wanted(struct cuda_device *d, const struct step *step, uint32_t first,
                       struct tp_error *err)
{
    struct cuda_rank *r = &d->rank;
    const struct cuda_api *api = &r->cuda->api;
    const uint32_t n = step->n_logits - first < CUDA_ROWS ? step->n_logits - first : CUDA_ROWS;
    struct cuda_step *rows = (struct cuda_step *)(void *)(d->steps + r->groups * r->step_bytes);
    unsigned char *at = r->steps + r->groups * r->step_bytes;
    rows->n_rows = n;
    struct cuda_group g = {.rank = r,
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
    d->slice_first = first;
    d->slice_count = n;
    d->fetched = false;
    return ok && cuda_find_dots(r, g.kind, err) && cuda_run_logits(&g, r->wanted) &&
           (!step->choices || (cuda_put_choices(r, step, first, n, err) && cuda_run_choices(&g) &&
                               cuda_get_chosen(r, step, first, n, err)));
}

/* The tokens of a step of which not all rows' logits are wanted. */
static bool choose_wanted(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    bool ok = true;
    for (uint32_t first = 0; ok && first < step->n_logits; first += d->slice_count)
        ok = run_wanted(d, step, first, err);
    return ok;
}

static bool run_rows(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const struct cuda *c = d->rank.cuda;
    const struct cuda_group last =
        group_of(d, step, (step->n_rows - 1) / CUDA_ROWS * CUDA_ROWS, err);
    if (!fill_rope(d, step, err) || !put_rows(d, step, err) ||
        (wants_all(step) && !cuda_put_choices(&d->rank, step, 0, step->n_rows, err)) ||
        !cuda_find_dots(&d->rank, last.kind, err) ||
        (last.first && !cuda_find_dots(&d->rank, CUDA_ROW_KINDS - 1, err)))
        return false;
    if (step->n_rows > CUDA_ROWS || d->setup.after_layer)
        return run_decode(d, step, err);
    cu_graph_exec *exec = &d->graphs[last.kind][wants_all(step)][last.apart];
    return (*exec || capture_first(d, step, last.apart, exec, err)) &&
           CUDA(&c->api, err, cuGraphLaunch, (*exec, c->stream));
}

static bool run(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const struct cuda *c = d->rank.cuda;
    d->slice_count = 0;
    if (!run_rows(d, step, err))
        return false;
    if (!wants_all(step)) /* without choices, logits when they are asked for */
        return (!step->choices || choose_wanted(d, step, err)) &&
               CUDA(&c->api, err, cuStreamSynchronize, (c->stream));
    d->slice_first = 0;
    d->slice_count = step->n_rows;
    d->fetched = !step->choices;
    return (!d->fetched || get_logits(d, step->n_rows, err)) &&
           cuda_get_chosen(&d->rank, step, 0, step->n_rows, err) &&
           CUDA(&c->api, err, cuStreamSynchronize, (c->stream));
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

const float *cuda_logits(struct device *device, const struct step *step, uint32_t first,
                         uint32_t *count, struct tp_error *err)
{
    struct cuda_device *d = (struct cuda_device *)(void *)device;
    const struct cuda *c = d->rank.cuda;
    struct tp_error why = {0};
    bool ok = !d->failed;
    if (first < d->slice_first || first >= d->slice_first + d->slice_count) {
        struct step plain = *step;
        plain.choices = NULL; /* they have been made */
        ok = ok && run_wanted(d, &plain, first, &why);
    }
    if (ok && !d->fetched)
        ok = d->fetched = get_logits(d, d->slice_count, &why) &&
                          CUDA(&c->api, &why, cuStreamSynchronize, (c->stream));
    if (!ok) {
        fail(d, &why, err);
        return NULL;
    }
    *count = d->slice_first + d->slice_count - first;
    return d->logits + (first - d->slice_first) * d->rank.logit_stride;
}

void cuda_free_graphs(struct cuda_device *d)
{
    for (int i = 0; i < CUDA_ROW_KINDS; i++)
        for (int j = 0; j < 4; j++)
            if (d->graphs[i][j / 2][j % 2])
                d->rank.cuda->api.cuGraphExecDestroy(d->graphs[i][j / 2][j % 2]);
}
