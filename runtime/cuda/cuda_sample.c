/* Tokens chosen on the GPU: what is asked of each row goes there, ids come back. What the GPU does
 * not choose stays STEP_HOST_CHOOSES. */
#include "cuda_device.h"

#include "checked.h"
#include "sampler.h"
#include <string.h>

_Static_assert((int)CUDA_SUM_CHUNK == (int)SAMPLE_CHUNK, "the same sums");
_Static_assert(CUDA_NO_CHOICE == (uint32_t)STEP_HOST_CHOOSES, "what is not chosen");

enum { PAIR = 8, STATE = 64 }; /* bytes: best_logit, chooser_state (sample.cuh) */

static size_t weigh_shared(void)
{
    return CUDA_BINS * 8 + CUDA_SUM_CHUNK * 4 + CUDA_WARPS * PAIR;
}

static size_t choose_shared(uint32_t chunks)
{
    return CUDA_CANDIDATES * (8 + 4) + align_up(chunks * 8, 16) + CUDA_SUM_CHUNK * 4 +
           CUDA_CHOOSE_WARPS * (PAIR + 8) + STATE;
}

void cuda_set_chooser(struct cuda_gpu *g)
{
    const uint64_t vocab = g->setup->model->vocab, chunks = div_ceil(vocab, CUDA_SUM_CHUNK);
    bool can = vocab < CUDA_VOCAB_MAX && max_u64(weigh_shared(), choose_shared((uint32_t)chunks)) <=
                                             (uint64_t)g->cuda->shared_max;
    g->chooser.chunks = can && g->number == 0 && !g->gathers ? (uint32_t)chunks : 0;
}

bool cuda_open_chooser(struct cuda_chooser *c, const struct cuda_api *api, struct tp_error *err)
{
    return CUDA(api, err, cuMemHostAlloc, ((void **)&c->asked, sizeof *c->asked, 0)) &&
           CUDA(api, err, cuMemHostAlloc, ((void **)&c->got, CUDA_ROWS * sizeof *c->got, 0));
}

void cuda_close_chooser(struct cuda_chooser *c, const struct cuda_api *api)
{
    if (c->asked)
        api->cuMemFreeHost(c->asked);
    if (c->got)
        api->cuMemFreeHost(c->got);
}

bool cuda_find_chooser(struct cuda_gpu *g, struct tp_error *err)
{
    struct cuda_chooser *c = &g->chooser;
    return !c->chunks || (cuda_kernel(g->cuda, "sample_scan_rows", &c->scan, err) &&
                          cuda_kernel(g->cuda, "sample_weigh_rows", &c->weigh, err) &&
                          cuda_kernel(g->cuda, "sample_choose_rows", &c->choose, err));
}

/* Requests have the same marks, if any: those of the first row that has some. */
static bool put_banned(struct cuda_gpu *g, const struct sampler_choice *choices, uint32_t n,
                       struct tp_error *err)
{
    struct cuda_chooser *c = &g->chooser;
    uint32_t i = 0;
    while (i < n && !(choices[i].asked && choices[i].banned))
        i++;
    if (i == n || (c->has_banned && hash_equal(c->banned_hash, choices[i].banned_hash)))
        return true;
    c->has_banned = true;
    c->banned_hash = choices[i].banned_hash;
    return CUDA(&g->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)c->banned, choices[i].banned, g->setup->model->vocab, g->cuda->stream));
}

static struct cuda_choice choice_of(const struct cuda_chooser *c, const struct sampler_choice *s)
{
    bool can = s->asked && s->top_k <= CUDA_TOP_K_MAX &&
               (!s->banned || hash_equal(s->banned_hash, c->banned_hash));
    return (struct cuda_choice){
        .asked = can,
        .banned = s->banned != NULL,
        .top_k = s->top_k,
        .temperature = s->temperature,
        .least_weight = s->least_weight,
        .top_p = s->top_p,
        .u = s->u,
    };
}

bool cuda_put_choices(struct cuda_gpu *g, const struct step *step, uint32_t first, uint32_t n,
                      struct tp_error *err)
{
    struct cuda_chooser *c = &g->chooser;
    if (!c->chunks)
        return true;
    c->asked->n_rows = step->choices ? n : 0;
    if (step->choices && !put_banned(g, step->choices + first, n, err))
        return false;
    for (uint32_t i = 0; i < c->asked->n_rows; i++)
        c->asked->row[i] = choice_of(c, &step->choices[first + i]);
    return CUDA(&g->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)c->choices, c->asked, sizeof *c->asked, g->cuda->stream));
}

bool cuda_run_choices(const struct cuda_gpu *g, uint32_t n_rows, struct tp_error *err)
{
    const struct cuda_chooser *c = &g->chooser;
    struct cuda_sample a = {
        .choices = c->choices,
        .logits = g->logits,
        .banned = c->banned,
        .best = c->best,
        .first = c->first,
        .sums = c->sums,
        .bins = c->bins,
        .chosen = c->chosen,
        .logit_stride = (uint32_t)g->logit_stride,
        .vocab = (uint32_t)g->setup->model->vocab,
        .chunks = c->chunks,
    };
    const uint32_t grid = n_rows * c->chunks;
    return !c->chunks ||
           (cuda_launch(g->cuda, c->scan, grid, CUDA_THREADS, CUDA_WARPS * PAIR, &a, err) &&
            cuda_launch(g->cuda, c->weigh, grid, CUDA_THREADS, weigh_shared(), &a, err) &&
            cuda_launch(g->cuda, c->choose, n_rows, CUDA_CHOOSE_THREADS, choose_shared(c->chunks),
                        &a, err));
}

bool cuda_fetch_chosen(const struct cuda_gpu *g, uint32_t n, struct tp_error *err)
{
    const struct cuda_chooser *c = &g->chooser;
    return !c->chunks || CUDA(&g->cuda->api, err, cuMemcpyDtoHAsync_v2,
                              (c->got, (uintptr_t)c->chosen, n * sizeof *c->got, g->cuda->stream));
}

void cuda_take_chosen(const struct cuda_gpu *g, const struct step *step, uint32_t first, uint32_t n)
{
    if (g->chooser.chunks)
        memcpy(step->chosen + first, g->chooser.got, n * sizeof *g->chooser.got);
}
