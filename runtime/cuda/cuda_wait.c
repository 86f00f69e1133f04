/* Waiting for GPUs, never without a deadline: who does not come is named. */
#include "cuda_device.h"

#include "clock.h"
#include "program.h"
#include <sched.h>
#include <stdio.h>

enum { MORE_SECONDS = 1 }; /* for the host: a kernel that waits says more */

static uint32_t word_of(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

enum { GATHERS = 1u << 31 };

/* The rank whose kernel was the last to say that it begins, as far as was asked. */
static uint32_t rank_at(const struct cuda_gpu *g)
{
    const uint32_t mark = g->watch->mark[g->number] & ~GATHERS;
    return mark ? (mark - 1) % 64 : g->ranks[0].number;
}

/* Where the GPU is, as the last kernel that had something to say said: rank, layer, phase. */
static bool fail_hanging(struct cuda_gpu *g, struct tp_error *err)
{
    static const char *const kinds[CUDA_KINDS] = {
        "q, k, v", "k", "v", "o_proj", "gate_proj, up_proj", "up_proj", "down_proj", "logits"};
    const uint32_t mark = g->watch->mark[g->number] & ~GATHERS, at = mark ? mark - 1 : 0;
    g->hangs = true;
    return tp_fail(err, TP_E_RANK,
                   "--device cuda: rank %u: step %llu: the GPU did not go on within %llu seconds, "
                   "the last that began there was layer %u: %s",
                   rank_at(g), (unsigned long long)*g->n_steps, (unsigned long long)g->deadline,
                   at / 512, mark ? kinds[at / 64 % 8] : "nothing");
}

/* Fetches the mark, past whatever runs. true: it is another one than before. */
static bool has_gone_on(struct cuda_gpu *g)
{
    const struct cuda *c = g->cuda;
    uint32_t *mark = &g->watch->mark[g->number], before = *mark;
    if (!g->mark ||
        c->api.cuMemcpyDtoHAsync_v2(mark, (uintptr_t)g->mark, sizeof *mark, c->aside) != CU_OK)
        return false;
    const double begin = clock_seconds();
    while (c->api.cuStreamQuery(c->aside) == CU_NOT_READY && clock_seconds() - begin < MORE_SECONDS)
        sched_yield();
    return *mark != before;
}

bool cuda_wait(struct cuda_gpu *g, struct tp_error *err)
{
    const struct cuda *c = g->cuda;
    double since = clock_seconds(), asked = since;
    for (cu_result result; (result = c->api.cuStreamQuery(c->stream)) != CU_OK;) {
        if (result != CU_NOT_READY)
            return has_gone_on(g), cuda_ok(&c->api, result, "cuStreamQuery", err);
        const bool stop = word_of(&g->watch->stop);
        const double most = MORE_SECONDS + (stop ? 0 : (double)g->deadline), now = clock_seconds();
        if (now - asked > most / 4) {
            since = has_gone_on(g) ? now : since;
            asked = now;
        }
        if (now - since > most)
            return fail_hanging(g, err);
        sched_yield();
    }
    return true;
}

/* Whose root is missing, or which rank without. */
static uint32_t rank_of_root(const struct cuda_device *d, uint32_t missing)
{
    const struct comm *comm = d->setup.comm;
    const struct comm_tree *tree = (missing - 1) % 2 ? &comm->mlp : &comm->attention;
    uint32_t rank = 0, root = (missing - 1) / 2;
    if (root >= tree->n_roots)
        return d->gpus[root - tree->n_roots].ranks[0].number;
    while (tree->first_root[rank + 1] <= root)
        rank++;
    return rank;
}

static bool fail_missing(struct cuda_device *d, uint32_t gpu, struct tp_error *err)
{
    return tp_fail(err, TP_E_RANK,
                   "--device cuda: rank %u: step %llu: its sums did not come to GPU %u within %llu "
                   "seconds",
                   rank_of_root(d, word_of(&d->watch->missing[gpu])),
                   (unsigned long long)d->steps_run, gpu,
                   (unsigned long long)d->gpus[gpu].deadline);
}

/* An error of a GPU's thread, with rank and step where there are several. */
static bool fail_as(const struct cuda_device *d, const struct cuda_gpu *g, struct tp_error *err)
{
    const struct tp_error why = g->error;
    if (why.code != TP_E_RANK && d->setup.comm->size > 1)
        return tp_fail(err, why.code, "rank %u: step %llu: %s", rank_at(g),
                       (unsigned long long)d->steps_run, why.text);
    *err = why;
    return false;
}

/* Somebody's thread is not there. */
static bool fail_absent(struct cuda_device *d, struct tp_error *err)
{
    uint32_t late = 0;
    while (late + 1 < d->n_gpus && d->gpus[late].came)
        late++;
    return tp_fail(
        err, TP_E_RANK,
        "--device cuda: rank %u: step %llu: its GPU's thread did not come within %llu seconds",
        rank_at(&d->gpus[late]), (unsigned long long)d->steps_run,
        (unsigned long long)d->gpus[late].deadline);
}

void cuda_meet(struct cuda_device *d, struct cuda_gpu *g)
{
    g->came = true;
    if (g->error.code != TP_OK) /* the others shall not wait for it */
        __atomic_store_n(&d->watch->stop, 1, __ATOMIC_RELAXED);
    const uint32_t seconds =
        MORE_SECONDS + (word_of(&d->watch->stop) ? 0 : (uint32_t)g->deadline + MORE_SECONDS);
    if (d->n_gpus == 1 || barrier_wait_for(&d->together, (int)(g - d->gpus), seconds))
        return;
    struct tp_error err = {0};
    uint32_t waited = 0;
    while (waited < d->n_gpus && !word_of(&d->watch->missing[waited]))
        waited++;
    if (g->error.code != TP_OK && !g->gathering)
        fail_as(d, g, &err);
    else if (waited < d->n_gpus)
        fail_missing(d, waited, &err);
    else
        fail_absent(d, &err);
    program_give_up(&err);
}

/* A call that failed explains more than a GPU that hangs, and that more than what others wait
 * for, by whatever they do. */
static int weight_of(const struct cuda_gpu *g)
{
    return g->error.code == TP_OK ? 0 : g->gathering ? 1 : g->hangs ? 2 : 3;
}

/* How far it came; of GPUs that hang the one behind keeps the others waiting. */
static uint64_t progress_of(const struct cuda_gpu *g)
{
    const uint32_t mark = g->watch->mark[g->number];
    return (uint64_t)(mark & ~GATHERS) / 64 * 2 + mark / GATHERS;
}

static bool explains_more(const struct cuda_gpu *g, const struct cuda_gpu *other)
{
    return weight_of(g) != weight_of(other) ? weight_of(g) > weight_of(other)
                                            : progress_of(g) < progress_of(other);
}

bool cuda_all_well(struct cuda_device *d, struct tp_error *err)
{
    const struct cuda_gpu *worst = &d->gpus[0];
    for (uint32_t i = 1; i < d->n_gpus; i++)
        worst = explains_more(&d->gpus[i], worst) ? &d->gpus[i] : worst;
    for (uint32_t i = 0; weight_of(worst) < 2 && i < d->n_gpus; i++)
        if (word_of(&d->watch->missing[i]))
            return fail_missing(d, i, err);
    if (!weight_of(worst))
        return true;
    return fail_as(d, worst, err);
}
