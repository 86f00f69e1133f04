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

void cuda_set_chooser(struct cuda_rank *r)
{
    const uint64_t vocab = r->setup->model->vocab, chunks = div_ceil(vocab, CUDA_SUM_CHUNK);
    bool can = vocab < CUDA_VOCAB_MAX && max_u64(weigh_shared(), choose_shared((uint32_t)chunks)) <=
                                             (uint64_t)r->cuda->shared_max;
    r->chooser.chunks = can ? (uint32_t)chunks : 0;
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

bool cuda_find_chooser(struct cuda_rank *r, struct tp_error *err)
{
    struct cuda_chooser *c = &r->chooser;
    return !c->chunks || (cuda_kernel(r->cuda, "sample_scan_rows", &c->scan, err) &&
                          cuda_kernel(r->cuda, "sample_weigh_rows", &c->weigh, err) &&
                          cuda_kernel(r->cuda, "sample_choose_rows", &c->choose, err));
}

/* Requests have the same marks, if any: those of the first row that has some. */
static bool put_banned(struct cuda_rank *r, const struct sampler_choice *choices, uint32_t n,
                       struct tp_error *err)
{
    struct cuda_chooser *c = &r->chooser;
    uint32_t i = 0;
    while (i < n && !(choices[i].asked && choices[i].banned))
        i++;
    if (i == n || (c->has_banned && hash_equal(c->banned_hash, choices[i].banned_hash)))
        return true;
    c->has_banned = true;
    c->banned_hash = choices[i].banned_hash;
    return CUDA(&r->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)c->banned, choices[i].banned, r->setup->model->vocab, r->cuda->stream));
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

bool cuda_put_choices(struct cuda_rank *r, const struct step *step, uint32_t first, uint32_t n,
                      struct tp_error *err)
{
    struct cuda_chooser *c = &r->chooser;
    if (!c->chunks)
        return true;
    c->asked->n_rows = step->choices ? n : 0;
    if (step->choices && !put_banned(r, step->choices + first, n, err))
        return false;
    for (uint32_t i = 0; i < c->asked->n_rows; i++)
        c->asked->row[i] = choice_of(c, &step->choices[first + i]);
    return CUDA(&r->cuda->api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)c->choices, c->asked, sizeof *c->asked, r->cuda->stream));
}

bool cuda_run_choices(const struct cuda_group *g)
{
    const struct cuda_rank *r = g->rank;
    const struct cuda_chooser *c = &r->chooser;
    struct cuda_sample a = {
        .choices = c->choices,
        .logits = r->logits,
        .banned = c->banned,
        .best = c->best,
        .first = c->first,
        .sums = c->sums,
        .bins = c->bins,
        .chosen = c->chosen,
        .logit_stride = (uint32_t)r->logit_stride,
        .vocab = (uint32_t)r->setup->model->vocab,
        .chunks = c->chunks,
    };
    const uint32_t grid = g->n_rows * c->chunks;
    return !c->chunks ||
           (cuda_launch(r->cuda, c->scan, grid, CUDA_THREADS, CUDA_WARPS * PAIR, &a, g->err) &&
            cuda_launch(r->cuda, c->weigh, grid, CUDA_THREADS, weigh_shared(), &a, g->err) &&
            cuda_launch(r->cuda, c->choose, g->n_rows, CUDA_CHOOSE_THREADS,
                        choose_shared(c->chunks), &a, g->err));
}

bool cuda_get_chosen(struct cuda_rank *r, const struct step *step, uint32_t first, uint32_t n,
                     struct tp_error *err)
{
    const struct cuda_chooser *c = &r->chooser;
    const struct cuda_api *api = &r->cuda->api;
    if (!c->chunks || !step->choices)
        return true;
    if (!CUDA(api, err, cuMemcpyDtoHAsync_v2,
              (c->got, (uintptr_t)c->chosen, n * sizeof *c->got, r->cuda->stream)) ||
        !CUDA(api, err, cuStreamSynchronize, (r->cuda->stream)))
        return false;
    memcpy(step->chosen + first, c->got, n * sizeof *c->got);
    return true;
}
