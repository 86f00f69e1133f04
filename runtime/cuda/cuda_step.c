/* A step on the GPUs, a thread each: groups of rows through the layers, in the order of forward.h;
 * of rows that decode a graph, made once for each number of rows and replayed. More rows than
 * CUDA_ROWS go group by group, layer by layer. */
#include "cuda_device.h"

#include "checked.h"
#include "cuda_nccl.h"
#include "clock.h"
#include "rope.h"
#include <string.h>

/* Up to so many rows the reductions and norms are done in the kernels that need them: five a
 * layer. Every CTA does them, which more rows make too dear. */
enum { FUSED_ROWS = 4 };
enum { TURNS = 1000 * CUDA_INBOXES }; /* that are counted, before it begins anew */

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

/* What a group of rows is, on the device; the last one is for logits and spans. */
static const struct cuda_step *step_at(const struct cuda_gpu *gpu, uint64_t group)
{
    return (const struct cuda_step *)(const void *)(gpu->steps + group * gpu->step_bytes);
}

static struct cuda_group group_of(struct cuda_gpu *gpu, const struct step *step, uint32_t first,
                                  struct tp_error *err)
{
    const uint32_t left = step->n_rows - first, n = left < CUDA_ROWS ? left : CUDA_ROWS;
    return (struct cuda_group){
        .gpu = gpu,
        .first = first,
        .n_rows = n,
        .number = first / CUDA_ROWS,
        .count = (uint32_t)div_ceil(step->n_rows, CUDA_ROWS),
        .kind = kind_of(n),
        .fused = step->n_rows <= FUSED_ROWS && !step->after_layer && cuda_can_fuse(gpu, kind_of(n)),
        .apart = step->n_rows <= FUSED_ROWS && are_apart(step),
        .step = step_at(gpu, first / CUDA_ROWS),
        .tokens = step_at(gpu, first / CUDA_ROWS)->token,
        .err = err,
    };
}

/* ---- before it ---- */

static uint32_t rows_of_inbox(const struct step *step)
{
    return step->n_rows < CUDA_ROWS ? step->n_rows : CUDA_ROWS;
}

void cuda_set_rows(struct cuda_device *d, const struct step *step)
{
    const struct cuda_gpu *g = &d->gpus[0];
    const uint32_t groups = (uint32_t)div_ceil(step->n_rows, CUDA_ROWS);
    const uint32_t rows = rows_of_inbox(step);
    for (uint32_t i = 0; i < groups; i++) {
        struct cuda_step *s = (struct cuda_step *)(void *)(d->steps + i * g->step_bytes);
        uint32_t *pages = (uint32_t *)(s + 1), first = i * CUDA_ROWS;
        s->n_rows = step->n_rows - first < CUDA_ROWS ? step->n_rows - first : CUDA_ROWS;
        s->turn = g->gathers ? 0 : d->turn;
        s->empty_rows = rows > d->rows_before ? rows : d->rows_before;
        for (uint32_t m = 0; m < s->n_rows; m++) {
            const struct step_row *row = &step->rows[first + m];
            s->token[m] = row->token;
            s->position[m] = row->position;
            memcpy(pages + m * g->chunks_max, step->pages[row->sequence],
                   (row->position / CUDA_CHUNK + 1) * sizeof *pages);
        }
    }
}

/* The inboxes go on with the next step where this one leaves them. */
static void count_turns(struct cuda_device *d, const struct step *step)
{
    const uint32_t groups = (uint32_t)div_ceil(step->n_rows, CUDA_ROWS);
    const uint32_t layers = (uint32_t)range_count(d->ranks[0].plan->partition.layers);
    d->turn = (d->turn + 2 * layers * groups) % TURNS;
    d->rows_before = rows_of_inbox(step);
}

bool cuda_put_rows(struct cuda_device *d, const struct cuda_gpu *g, const struct step *step,
                   struct tp_error *err)
{
    /* of one group no more than its rows */
    const uint64_t groups = div_ceil(step->n_rows, CUDA_ROWS);
    const uint64_t bytes = groups > 1 ? groups * g->step_bytes
                                      : sizeof(struct cuda_step) + step->n_rows * g->chunks_max * 4;
    return CUDA(&g->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)g->steps, d->steps, bytes, g->cuda->stream));
}

static bool put_rope(struct cuda_device *d, struct cuda_gpu *g, uint64_t page, struct tp_error *err)
{
    const struct cuda *c = g->cuda;
    const uint64_t floats = CUDA_CHUNK * d->setup.model->head_dim / 2, at = page * floats;
    return cuda_use(c, err) &&
           CUDA(&c->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)(g->cos + at), d->rope, floats * 4, c->stream)) &&
           CUDA(&c->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)(g->sin + at), d->rope + floats, floats * 4, c->stream)) &&
           cuda_wait(g, err);
}

/* cos and sin of pages that no step has needed before. */
static bool fill_rope(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    const uint64_t half = d->setup.model->head_dim / 2, floats = CUDA_CHUNK * half;
    uint32_t last = 0;
    for (uint32_t m = 0; m < step->n_rows; m++)
        last = step->rows[m].position > last ? step->rows[m].position : last;
    for (; d->rope_filled <= last / CUDA_CHUNK; d->rope_filled++) {
        for (uint64_t i = 0; i < CUDA_CHUNK; i++)
            rope_row(d->frequencies, half, d->rope_filled * CUDA_CHUNK + i,
                     d->setup.model->rope.attention_factor, d->rope + i * half,
                     d->rope + floats + i * half);
        for (uint32_t i = 0; i < d->n_gpus; i++)
            if (!put_rope(d, &d->gpus[i], d->rope_filled, &d->gpus[i].error))
                return cuda_all_well(d, err);
    }
    return true;
}

/* ---- on one GPU ---- */

/* Layer after layer, all groups in each, as tracing wants it too: of the first GPU. */
static bool run_layers(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                       struct tp_error *err)
{
    const struct range layers = gpu->ranks[0].plan->partition.layers;
    const uint32_t first = (uint32_t)layers.begin;
    struct cuda_residual before;
    struct cuda_group g;
    bool ok = true;
    for (uint32_t m = 0; ok && m < step->n_rows; m += CUDA_ROWS) {
        g = group_of(gpu, step, m, err);
        ok = cuda_embedding(&g, 2 * first, &before) && (g.fused || cuda_run_residual(&g, &before));
    }
    for (uint32_t layer = first; ok && layer < layers.end; layer++) {
        for (uint32_t m = 0; ok && m < step->n_rows; m += CUDA_ROWS) {
            g = group_of(gpu, step, m, err);
            if (!g.fused) /* it has been run: only where the rows are matters */
                before.normed = gpu->normed + g.first * gpu->stride;
            ok = cuda_run_layer(&g, layer, &before);
        }
        if (!ok || !step->after_layer || gpu->number > 0)
            continue;
        step->after_layer(step->after_layer_arg, layer);
        if (layer + 1 == d->setup.model->n_layers)
            step->after_layer(step->after_layer_arg, layer + 1);
    }
    return ok && (!g.fused || cuda_run_residual(&g, &before));
}

/* Are all rows one group, and the logits of all wanted? */
static bool wants_all(const struct step *step)
{
    return step->n_rows <= CUDA_ROWS && step->n_logits == step->n_rows;
}

/* n rows of logits to the host: all from the first GPU, but where GPUs gather its part from
 * each. */
static bool get_logits(struct cuda_device *d, const struct cuda_gpu *g, uint32_t n,
                       struct tp_error *err)
{
    const struct cuda *c = g->cuda;
    bool ok = true;
    if (!g->gathers)
        return g->number > 0 ||
               CUDA(&c->api, err, cuMemcpyDtoHAsync_v2,
                    (d->logits, (uintptr_t)g->logits, n * g->logit_stride * 4, c->stream));
    for (uint32_t i = 0; ok && i < g->n_ranks * n; i++) {
        const struct range vocab = g->ranks[i / n].plan->partition.vocab;
        const uint64_t at = i % n * g->logit_stride + vocab.begin;
        ok = !range_count(vocab) ||
             CUDA(&c->api, err, cuMemcpyDtoHAsync_v2,
                  (d->logits + at, (uintptr_t)(g->logits + at), range_count(vocab) * 4, c->stream));
    }
    return ok;
}

/* With several GPUs logits are there when all have ended: what becomes of them is done then. */
static bool run_rows(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                     struct tp_error *err)
{
    if (!run_layers(d, gpu, step, err))
        return false;
    if (!wants_all(step))
        return true;
    struct cuda_group g = group_of(gpu, step, 0, err);
    return cuda_run_logits(&g, gpu->normed) &&
           (d->n_gpus > 1 || cuda_run_choices(gpu, step->n_rows, err));
}

static bool capture(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                    bool apart, cu_graph_exec *exec, struct tp_error *err)
{
    const struct cuda *c = gpu->cuda;
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
              run_rows(d, gpu, &full, err);
    ok = CUDA(&c->api, ok ? err : NULL, cuStreamEndCapture, (c->stream, &graph)) && ok &&
         CUDA(&c->api, err, cuGraphInstantiateWithFlags, (exec, graph, 0));
    if (graph)
        c->api.cuGraphDestroy(graph);
    return ok;
}

static bool capture_first(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                          bool apart, cu_graph_exec *exec, struct tp_error *err)
{
    double start = clock_seconds();
    struct tp_error why = {0};
    struct cuda *c = gpu->cuda;
    bool ok = capture(d, gpu, step, apart, exec, c->early ? &why : err);
    if (!ok && c->early) { /* early launches in graphs came with CUDA 12.3 */
        c->early = false;
        ok = capture(d, gpu, step, apart, exec, err);
    }
    if (gpu->number == 0 && !d->captured) {
        cuda_time(&d->device, "capture", clock_seconds() - start);
        d->captured = true;
    }
    return ok;
}

static struct cuda_group last_group(struct cuda_gpu *gpu, const struct step *step,
                                    struct tp_error *err)
{
    return group_of(gpu, step, (step->n_rows - 1) / CUDA_ROWS * CUDA_ROWS, err);
}

/* Where GPUs gather NCCL's calls stand between kernels: they are not captured. */
static bool is_replayed(const struct cuda_gpu *gpu, const struct step *step)
{
    return step->n_rows <= CUDA_ROWS && !step->after_layer && !gpu->gathers;
}

/* Kernels and graph of such a step, where they are not there yet. */
static bool make_step(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                      struct tp_error *err)
{
    const struct cuda_group last = last_group(gpu, step, err);
    cu_graph_exec *exec = &gpu->graphs[last.kind][wants_all(step)][last.apart];
    return cuda_find_dots(gpu, last.kind, err) &&
           (!last.first || cuda_find_dots(gpu, CUDA_ROW_KINDS - 1, err)) &&
           (!is_replayed(gpu, step) || *exec || capture_first(d, gpu, step, last.apart, exec, err));
}

static bool run_step(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                     struct tp_error *err)
{
    const struct cuda *c = gpu->cuda;
    const struct cuda_group last = last_group(gpu, step, err);
    if (!cuda_put_rows(d, gpu, step, err) ||
        (wants_all(step) && d->n_gpus == 1 && !cuda_put_choices(gpu, step, 0, step->n_rows, err)) ||
        !make_step(d, gpu, step, err))
        return false;
    if (!is_replayed(gpu, step))
        return run_rows(d, gpu, step, err);
    return CUDA(&c->api, err, cuGraphLaunch,
                (gpu->graphs[last.kind][wants_all(step)][last.apart], c->stream));
}

/* The LM head over n of the wanted rows, put side by side. */
static bool run_wanted(struct cuda_device *d, struct cuda_gpu *gpu, const struct step *step,
                       uint32_t first, uint32_t n, struct tp_error *err)
{
    const struct cuda *c = gpu->cuda;
    const uint64_t number = gpu->groups * gpu->step_bytes; /* of the last cuda_step */
    unsigned char *at = gpu->steps + number;
    struct cuda_group g = {.gpu = gpu,
                           .n_rows = n,
                           .kind = kind_of(n),
                           .step = (const struct cuda_step *)(const void *)at,
                           .err = err};
    bool ok = CUDA(&c->api, err, cuMemcpyHtoDAsync_v2,
                   ((uintptr_t)at, d->steps + number, sizeof(struct cuda_step), c->stream));
    for (uint32_t i = 0; ok && i < n; i++)
        ok = CUDA(&c->api, err, cuMemcpyDtoDAsync_v2,
                  ((uintptr_t)(gpu->wanted + i * gpu->stride),
                   (uintptr_t)(gpu->normed + step->logit_rows[first + i] * gpu->stride),
                   gpu->stride * 4, c->stream));
    return ok && cuda_find_dots(gpu, g.kind, err) && cuda_run_logits(&g, gpu->wanted);
}

/* Choose from n rows of logits that are there. */
static bool choose(struct cuda_gpu *gpu, const struct step *step, uint32_t first, uint32_t n,
                   struct tp_error *err)
{
    return cuda_put_choices(gpu, step, first, n, err) && cuda_run_choices(gpu, n, err);
}

/* What the host wants of n rows: ids, or without choices the logits. */
static bool fetch(struct cuda_device *d, const struct cuda_gpu *gpu, const struct step *step,
                  uint32_t n, struct tp_error *err)
{
    return !step->choices     ? get_logits(d, gpu, n, err)
           : gpu->number == 0 ? cuda_fetch_chosen(gpu, n, err)
                              : true;
}

/* ---- on all of them ---- */

enum work_part { WORK_MAKE, WORK_EXACT, WORK_SPAN, WORK_HEAD, WORK_LOGITS };
struct work {
    struct cuda_device *device;
    const struct step *step;
    enum work_part part;
    uint32_t first, n;     /* rows of logits that come of it */
    struct step_span span; /* WORK_SPAN */
};

/* What becomes of logits that are there. made: choosing was part of the graph. */
static bool use_logits(const struct work *w, struct cuda_gpu *gpu, bool made, struct tp_error *err)
{
    const bool asks = w->step->choices && gpu->number == 0;
    return !w->n || ((made || !asks || choose(gpu, w->step, w->first, w->n, err)) &&
                     fetch(w->device, gpu, w->step, w->n, err));
}

static bool run_part(const struct work *w, struct cuda_gpu *gpu, struct tp_error *err)
{
    struct cuda_device *d = w->device;
    const bool alone = d->n_gpus == 1;
    switch (w->part) {
    case WORK_MAKE: /* what may load code: before GPUs wait for each other */
        return w->span.n_rows ? cuda_prepare_span(gpu, w->span.n_rows, err)
                              : make_step(d, gpu, w->step, err);
    case WORK_EXACT:
        return run_step(d, gpu, w->step, err) && (!alone || use_logits(w, gpu, true, err));
    case WORK_HEAD:
        return run_wanted(d, gpu, w->step, w->first, w->n, err) &&
               (!alone || use_logits(w, gpu, false, err));
    case WORK_LOGITS:
        return use_logits(w, gpu, false, err);
    default:
        return cuda_run_span(d, gpu, w->step, w->span, err);
    }
}

static void run_thread(void *arg, int index, int count)
{
    const struct work *w = arg;
    struct cuda_gpu *gpu = &w->device->gpus[index];
    (void)count;
    bool ok = cuda_use(gpu->cuda, &gpu->error) && run_part(w, gpu, &gpu->error) &&
              cuda_wait(gpu, &gpu->error);
    gpu->gathering = ok && gpu->nccl && !cuda_nccl_check(gpu->nccl, &gpu->error);
    cuda_meet(w->device, gpu);
}

static bool run_on_all(struct work *w, struct tp_error *err)
{
    struct cuda_device *d = w->device;
    for (uint32_t i = 0; i < d->n_gpus; i++)
        d->gpus[i].came = false;
    team_call(&d->team, run_thread, w);
    return cuda_all_well(d, err);
}

/* Of several GPUs' logits nothing is made before all have ended. */
static bool run_work(struct work *w, struct tp_error *err)
{
    struct cuda_device *d = w->device;
    struct work logits = *w;
    logits.part = WORK_LOGITS;
    if (!run_on_all(w, err) ||
        (w->n && d->n_gpus > 1 && w->part != WORK_LOGITS && !run_on_all(&logits, err)))
        return false;
    if (!w->n)
        return true;
    if (w->step->choices)
        cuda_take_chosen(&d->gpus[0], w->step, w->first, w->n);
    d->slice_first = w->first;
    d->slice_count = w->n;
    d->fetched = !w->step->choices;
    return true;
}

static bool fail(struct cuda_device *d, const struct tp_error *why, struct tp_error *err)
{
    if (!d->failed)
        d->error = *why;
    d->failed = true;
    *err = d->error;
    return false;
}

/* All GPUs have the same. */
static bool is_made(struct cuda_device *d, const struct step *step)
{
    struct cuda_gpu *gpu = &d->gpus[0];
    const struct cuda_group last = last_group(gpu, step, NULL);
    return is_replayed(gpu, step)
               ? gpu->graphs[last.kind][wants_all(step)][last.apart] != NULL
               : gpu->dots[gpu->ranks[0].kinds[KIND_LM].stored->id][last.kind] != NULL;
}

static bool run_exact(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    struct work work = {.device = d, .step = step, .part = WORK_MAKE};
    if (step->n_rows == 0)
        return true;
    if (d->n_gpus > 1 && !is_made(d, step) && !run_work(&work, err))
        return false;
    work.part = WORK_EXACT;
    work.n = wants_all(step) ? step->n_rows : 0;
    cuda_set_rows(d, step);
    count_turns(d, step);
    return run_work(&work, err);
}

static bool run_spans(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    bool ok = true;
    for (uint32_t i = 0; ok && i < step->n_spans; i++) {
        struct work work = {.device = d, .step = step, .part = WORK_MAKE, .span = step->spans[i]};
        ok = run_work(&work, err);
        if (!ok)
            break;
        work.part = WORK_SPAN;
        cuda_set_span(d, step, step->spans[i]);
        ok = run_work(&work, err);
    }
    return ok;
}

/* The LM head over the wanted rows from `first` on. */
static bool run_head(struct cuda_device *d, const struct step *step, uint32_t first,
                     struct tp_error *err)
{
    const struct cuda_gpu *g = &d->gpus[0];
    const uint32_t left = step->n_logits - first, n = left < CUDA_ROWS ? left : CUDA_ROWS;
    struct work work = {.device = d, .step = step, .part = WORK_HEAD, .first = first, .n = n};
    ((struct cuda_step *)(void *)(d->steps + g->groups * g->step_bytes))->n_rows = n;
    return run_work(&work, err);
}

/* Tokens of rows that the graph has not chosen from: prompts' last ones. */
static bool choose_rest(struct cuda_device *d, const struct step *step, struct tp_error *err)
{
    bool ok = true;
    for (uint32_t at = d->slice_count; ok && step->choices && at < step->n_logits;
         at += d->slice_count)
        ok = run_head(d, step, at, err);
    return ok;
}

bool cuda_step_run(struct device *device, const struct step *step, struct tp_error *err)
{
    struct cuda_device *d = (struct cuda_device *)(void *)device;
    const struct step exact = step_exact(step);
    struct tp_error why = {0};
    d->slice_count = 0;
    d->steps_run++;
    return (!d->failed && fill_rope(d, step, &why) && run_exact(d, &exact, &why) &&
            run_spans(d, step, &why) && choose_rest(d, step, &why) && !d->failed) ||
           fail(d, &why, err);
}

/* ---- logits of some rows ---- */

const float *cuda_logits(struct device *device, const struct step *step, uint32_t first,
                         uint32_t *count, struct tp_error *err)
{
    struct cuda_device *d = (struct cuda_device *)(void *)device;
    struct cuda_gpu *gpu = &d->gpus[0];
    struct tp_error why = {0};
    bool ok = !d->failed;
    struct step plain = *step;
    plain.choices = NULL; /* they have been made */
    if (first < d->slice_first || first >= d->slice_first + d->slice_count)
        ok = ok && run_head(d, &plain, first, &why);
    if (ok && !d->fetched) {
        struct work work = {.device = d,
                            .step = &plain,
                            .part = WORK_LOGITS,
                            .first = d->slice_first,
                            .n = d->slice_count};
        ok = run_work(&work, &why);
    }
    if (!ok) {
        fail(d, &why, err);
        return NULL;
    }
    *count = d->slice_first + d->slice_count - first;
    return d->logits + (first - d->slice_first) * gpu->logit_stride;
}

void cuda_free_graphs(struct cuda_gpu *gpu)
{
    for (int i = 0; i < CUDA_ROW_KINDS; i++)
        for (int j = 0; j < 4; j++)
            if (gpu->graphs[i][j / 2][j % 2])
                gpu->cuda->api.cuGraphExecDestroy(gpu->graphs[i][j / 2][j % 2]);
}
