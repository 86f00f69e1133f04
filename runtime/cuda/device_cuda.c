/* GPUs as a device: every rank on one of its own, or shared by several. */
#include "cuda_device.h"

#include "checked.h"
#include "clock.h"
#include "cuda_nccl.h"
#include "mem.h"
#include "rope.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct opened {
    struct cuda gpus[CUDA_GPUS]; /* [count], from the first plan to stop */
    uint32_t count;
    bool gathers; /* not all reach the memory of all */
    bool hangs;   /* one of them: nothing can be given back */
    double seconds;
} opened;

enum { RESERVE_BYTES = 256 << 20, DEADLINE_SECONDS = 60 };
enum { STACK_BYTES = 8 << 20 }; /* of a GPU's thread: NVIDIA's libraries expect it */

void cuda_time(struct device *device, const char *what, double seconds)
{
    int n = 0;
    while (device->times[n].what)
        n++;
    tp_assert(n + 1 < DEVICE_TIMES_MAX);
    device->times[n] = (struct device_time){what, seconds};
}

static struct cuda_device *self_of(struct device *device)
{
    return (struct cuda_device *)(void *)device;
}

static bool check_isa(const char *isa, struct tp_error *err)
{
    return !isa || tp_fail(err, TP_E_UNSUPPORTED, "--isa %s: goes with --device cpu", isa);
}

/* Before what libraries do at exit, which may wait for a GPU that hangs. */
static void leave(int status, void *arg)
{
    (void)arg;
    fflush(NULL);
    _exit(status);
}

static void stop(void)
{
    if (opened.hangs)
        on_exit(leave, NULL);
    for (uint32_t i = 0; i < opened.count && !opened.hangs; i++)
        cuda_close(&opened.gpus[i]);
    opened = (struct opened){.count = 0};
}

/* One GPU as info shows it; NULL: err, or out of memory. */
static json_t *info_of(int number, int *driver, struct tp_error *err)
{
    struct cuda c;
    size_t free, total;
    char capability[32];
    json_t *object = NULL;
    if (!cuda_open(&c, number, err))
        return NULL;
    *driver = c.driver;
    snprintf(capability, sizeof capability, "%d.%d", c.major, c.minor);
    if (CUDA(&c.api, err, cuMemGetInfo_v2, (&free, &total)))
        object = json_pack("{s:s, s:s, s:i, s:I, s:I}", "name", c.name, "compute_capability",
                           capability, "multiprocessors", c.multiprocessors, "memory_total_bytes",
                           (json_int_t)total, "memory_free_bytes", (json_int_t)free);
    cuda_close(&c);
    return object;
}

static json_t *info(struct tp_error *err)
{
    int count, driver = 0;
    char version[32];
    if (!cuda_count(&count, err))
        return NULL;
    json_t *gpus = json_array();
    bool ok = gpus != NULL;
    for (int i = 0; ok && i < count; i++)
        ok = json_array_append_new(gpus, info_of(i, &driver, err)) == 0;
    snprintf(version, sizeof version, "CUDA %d.%d", driver / 1000, driver % 1000 / 10);
    json_t *object = json_pack("{s:s, s:I, s:o}", "driver", version, "kernels_bytes",
                               (json_int_t)cuda_image().size, "gpus", gpus);
    if (object && ok)
        return object;
    json_decref(object);
    if (!err->code)
        tp_fail(err, TP_E_MEMORY, "what the GPUs are does not fit in memory");
    return NULL;
}

/* What this version can run. */
static bool check_model(const struct device_setup *setup, struct tp_error *err)
{
    const struct recipe *recipe = &setup->plans[0].recipe;
    if (opened.count > 1 && (setup->span_rows_max || opened.gathers) && !cuda_nccl_there())
        return tp_fail(err, TP_E_UNSUPPORTED,
                       opened.gathers
                           ? "--device cuda: these GPUs do not reach each other's memory, and NCCL "
                             "(libnccl.so.2) is not here; CUDA_VISIBLE_DEVICES=0 and --share-gpu "
                             "do with one"
                           : "--device cuda: prompts of more than 16 tokens on several GPUs need "
                             "NCCL (libnccl.so.2 is not here); --exact does without");
    return recipe->stored[ROLE_GATE] == recipe->stored[ROLE_UP] ||
           tp_fail(err, TP_E_UNSUPPORTED,
                   "--device cuda: gate_proj and up_proj are stored in different formats");
}

/* Does everyone reach the memory of all? */
static bool reach_each_other(struct tp_error *err)
{
    for (uint32_t i = 0; i < opened.count; i++)
        for (uint32_t j = 0; j < opened.count; j++) {
            bool can = true;
            if (i != j && !cuda_reach(&opened.gpus[i], &opened.gpus[j], &can, err))
                return false;
            opened.gathers |= !can;
        }
    return true;
}

/* A GPU for each rank; with share, as many as there are. */
static bool open_gpus(const struct device_setup *setup, struct tp_error *err)
{
    int there = 0;
    const uint64_t ranks = setup->comm->size;
    if (opened.count)
        return true;
    if (!cuda_count(&there, err))
        return false;
    if ((uint64_t)there < ranks && !setup->share)
        return tp_fail(
            err, TP_E_UNSUPPORTED,
            "--device cuda: the bundle has %llu ranks, the machine %d GPU%s; --share-gpu "
            "puts several on one, tpshard reshard --tp %d makes fewer",
            (unsigned long long)ranks, there, there == 1 ? "" : "s", there);
    const uint32_t wanted = (uint32_t)min_u64(min_u64((uint64_t)there, ranks), CUDA_GPUS);
    if (wanted < ranks && !setup->share)
        return tp_fail(err, TP_E_UNSUPPORTED, "--device cuda: %llu ranks, %d GPUs are supported",
                       (unsigned long long)ranks, CUDA_GPUS);
    for (; opened.count < wanted; opened.count++)
        if (!cuda_open(&opened.gpus[opened.count], (int)opened.count, err))
            return false;
    return reach_each_other(err);
}

static bool plan_gpu(const struct device_setup *setup, uint32_t number, struct device_plan *plan,
                     struct tp_error *err)
{
    struct cuda *c = &opened.gpus[number];
    struct cuda_rank ranks[PARTITION_TP_MAX];
    struct cuda_gpu gpu;
    size_t free, total;
    cuda_set_sizes(&gpu, c, setup, number, opened.count, opened.gathers, ranks);
    if (!gpu.tile || setup->model->hidden * 4 + 32 > (uint64_t)c->shared_max)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "--device cuda: %s has %d bytes of shared memory, too few for this model's "
                       "heads or width",
                       c->name, c->shared_max);
    if (!cuda_place(&gpu, err) || !cuda_use(c, err) ||
        !CUDA(&c->api, err, cuMemGetInfo_v2, (&free, &total)))
        return false;
    for (uint32_t i = 0; i < gpu.n_ranks; i++) {
        plan->ranks[ranks[i].number] = ranks[i].bytes;
        plan->memory_of[ranks[i].number] = number;
    }
    /* beside the plan there are graphs, and what the driver keeps for stacks */
    const uint64_t kept = min_u64(total / 64, RESERVE_BYTES);
    plan->available[number] =
        min_u64(free > kept ? free - kept : 0, (uint64_t)((double)total * setup->memory_fraction));
    return true;
}

static void read_ahead(const struct shard *shard, const struct rank_plan *plan)
{
    const struct range unused = plan->unused.bytes;
    if (unused.begin)
        io_read_ahead(shard->fd, 0, plan->data_offset + unused.begin);
    io_read_ahead(shard->fd, unused.begin ? plan->data_offset + unused.end : 0, 0);
}

static bool plan(const struct device_setup *setup, struct device_plan *plan, struct tp_error *err)
{
    if (!check_isa(setup->isa, err))
        return false;
    double start = clock_seconds();
    for (uint64_t r = 0; r < setup->comm->size; r++) /* while the contexts are made */
        read_ahead(&setup->weights->shards[r], &setup->plans[r]);
    if (!open_gpus(setup, err) || !check_model(setup, err))
        return false;
    opened.seconds = clock_seconds() - start;
    plan->n_memories = opened.count;
    plan->allowed = UINT64_MAX; /* it is not the host's */
    bool ok = true;
    for (uint32_t i = 0; ok && i < opened.count; i++)
        ok = plan_gpu(setup, i, plan, err);
    return ok;
}

/* ---- opening ---- */

static void close_gpu(struct cuda_gpu *g)
{
    const struct cuda_api *api = &g->cuda->api;
    cuda_use(g->cuda, NULL);
    api->cuStreamSynchronize(g->cuda->stream);
    cuda_free_graphs(g);
    cuda_close_blas(g);
    cuda_close_nccl(g);
    if (g->memory)
        api->cuMemFree_v2(g->memory);
}

static void close_device(struct device *device)
{
    struct cuda_device *d = self_of(device);
    void *const pinned[] = {d->watch, d->steps, d->span, d->logits, d->row, d->rope};
    for (uint32_t i = 0; i < d->n_gpus; i++)
        d->hangs |= d->gpus[i].hangs;
    opened.hangs |= d->hangs;
    for (uint32_t i = 0; i < d->n_gpus && !d->hangs; i++)
        close_gpu(&d->gpus[i]);
    if (d->n_gpus && !d->hangs)
        cuda_use(&opened.gpus[0], NULL);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned && !d->hangs; i++)
        if (pinned[i])
            opened.gpus[0].api.cuMemFreeHost(pinned[i]);
    if (d->gpus && !d->hangs)
        cuda_close_chooser(&d->gpus[0].chooser, &opened.gpus[0].api);
    team_stop(&d->team);
    barrier_free(&d->together);
    mem_free(d->frequencies);
    mem_free(d->gpus);
    mem_free(d->ranks);
    mem_free(d);
}

/* Pinned memory that all GPUs' copies may use, zeroed. */
static bool pin(void *pointer, uint64_t bytes, struct tp_error *err)
{
    void *p = NULL;
    bool ok = CUDA(&opened.gpus[0].api, err, cuMemHostAlloc, (&p, bytes, CU_HOST_PORTABLE));
    if (ok)
        memset(p, 0, bytes);
    memcpy(pointer, &p, sizeof p);
    return ok;
}

static bool open_host(struct cuda_device *d, struct tp_error *err)
{
    const struct cuda_gpu *g = &d->gpus[0];
    const uint64_t half = d->setup.model->head_dim / 2;
    d->frequencies = mem_array(half, sizeof *d->frequencies, err);
    if (!d->frequencies || !cuda_use(g->cuda, err) || !pin(&d->watch, sizeof *d->watch, err) ||
        !pin(&d->steps, (g->groups + 1) * g->step_bytes, err) ||
        (d->setup.span_rows_max &&
         !pin(&d->span, (g->chunks_max + g->wide_rows) * sizeof *d->span, err)) ||
        !pin(&d->logits, CUDA_ROWS * g->logit_stride * 4, err) ||
        !pin(&d->row, g->stride * 4, err) || !pin(&d->rope, 2 * CUDA_CHUNK * half * 4, err) ||
        !cuda_open_chooser(&d->gpus[0].chooser, &opened.gpus[0].api, err))
        return false;
    rope_frequencies(d->setup.model, d->frequencies);
    return true;
}

/* Sizes and memory of all GPUs. */
static bool open_memory(struct cuda_device *d, struct tp_error *err)
{
    const struct weights *w = d->setup.weights;
    d->n_gpus = opened.count;
    d->gpus = mem_array(d->n_gpus, sizeof *d->gpus, err);
    d->ranks = mem_array(d->setup.comm->size, sizeof *d->ranks, err);
    if (!d->gpus || !d->ranks) {
        d->n_gpus = 0;
        return false;
    }
    for (uint32_t i = 0; i < d->n_gpus; i++) {
        const struct range mine = cuda_ranks_of(d->setup.comm->size, d->n_gpus, i);
        cuda_set_sizes(&d->gpus[i], &opened.gpus[i], &d->setup, i, d->n_gpus, opened.gathers,
                       d->ranks + mine.begin);
    }
    for (uint64_t r = 0; r < d->setup.comm->size; r++) {
        d->ranks[r].weights = &w->ranks[r];
        d->ranks[r].host_data = w->decoded[r] ? w->decoded[r] : w->shards[r].data;
    }
    for (uint32_t i = 0; i < d->n_gpus; i++) {
        struct cuda_gpu *g = &d->gpus[i];
        if (!cuda_place(g, err) || !cuda_use(g->cuda, err) ||
            !CUDA(&g->cuda->api, err, cuMemAlloc_v2, (&g->memory, g->memory_bytes)) ||
            !cuda_place(g, err))
            return false;
    }
    return true;
}

/* NCCL carries what prompts on several GPUs exchange, and all where they do not reach each
 * other. */
static bool gathers(const struct cuda_device *d)
{
    return d->n_gpus > 1 && (d->setup.span_rows_max || d->gpus[0].gathers);
}

struct joining {
    struct cuda_device *device;
    const nccl_id *id;
};

static void join_thread(void *arg, int index, int count)
{
    const struct joining *j = arg;
    struct cuda_gpu *g = &j->device->gpus[index];
    (void)count;
    (void)(cuda_use(g->cuda, &g->error) && cuda_open_nccl(g, j->id, &g->error));
    cuda_meet(j->device, g);
}

static bool join_gpus(struct cuda_device *d, const nccl_id *id, struct tp_error *err)
{
    team_call(&d->team, join_thread, &(struct joining){d, id});
    return cuda_all_well(d, err);
}

/* What every GPU knows of the others: where their inboxes are, what part of the embedding a rank
 * has, where logits go. */
static bool introduce_gpus(struct cuda_device *d, struct tp_error *err)
{
    struct place {
        nccl_id id;
        float *inbox;
        struct cuda_embed embed;
    } mine[PARTITION_TP_MAX], all[PARTITION_TP_MAX];
    struct cuda_embed embed[PARTITION_TP_MAX];
    nccl_id id = {{0}};
    struct comm *comm = d->setup.comm;
    const struct range ranks = d->setup.ranks;
    if (gathers(d) && !cuda_nccl_new_id(&id, err))
        return false;
    for (uint64_t r = ranks.begin; r < ranks.end; r++) {
        const struct cuda_rank *rank = &d->ranks[r];
        const struct range vocab = rank->plan->partition.vocab;
        mine[r - ranks.begin] = (struct place){
            id,
            rank->gpu->inbox,
            {cuda_at(rank, rank->weights->embed.w), (uint32_t)vocab.begin,
             (uint32_t)range_count(vocab), rank->gpu->number, 0},
        };
    }
    if (!comm->allgather(comm, mine, all, sizeof *mine, err))
        return false;
    for (uint32_t i = 0; i < d->n_gpus; i++) {
        struct cuda_gpu *g = &d->gpus[i];
        for (uint64_t r = 0; r < comm->size; r++) {
            embed[r] = all[r].embed;
            if (g->gathers && embed[r].gpu != i)
                embed[r].panels = NULL;
        }
        for (uint32_t j = 0; j < d->n_gpus; j++) /* the own one first: not all write to one */
            g->inboxes[j] = all[d->gpus[(i + j) % d->n_gpus].ranks[0].number].inbox;
        g->all_logits = g->gathers ? g->logits : d->gpus[0].logits;
        g->watch = d->watch;
        g->n_steps = &d->steps_run;
        g->deadline = d->setup.deadline ? d->setup.deadline : DEADLINE_SECONDS;
        if (!cuda_use(g->cuda, err) || !cuda_prepare(g, embed, err) || !cuda_open_blas(g, err))
            return false;
    }
    return !gathers(d) || join_gpus(d, &all[0].id, err);
}

static bool each_rank(struct cuda_device *d, bool (*fn)(struct cuda_rank *, struct tp_error *),
                      struct tp_error *err)
{
    bool ok = true;
    for (uint64_t r = 0; ok && r < d->setup.comm->size; r++)
        ok = cuda_use(d->ranks[r].cuda, err) && fn(&d->ranks[r], err);
    return ok;
}

static struct device *open_device(const struct device_setup *setup, struct tp_error *err)
{
    struct cuda_device *d = mem_alloc(sizeof *d, err);
    if (!d)
        return NULL;
    d->setup = *setup;
    d->device = (struct device){.type = &device_cuda, .kernels = "cuda"};
    double t0 = clock_seconds();
    bool ok = barrier_init(&d->together, (int)opened.count, err) && open_memory(d, err) &&
              open_host(d, err) && team_start(&d->team, (int)d->n_gpus, STACK_BYTES, err) &&
              introduce_gpus(d, err);
    double t1 = clock_seconds();
    ok = ok && each_rank(d, cuda_copy, err);
    double t2 = clock_seconds();
    ok = ok && each_rank(d, cuda_check, err);
    cuda_time(&d->device, "context", opened.seconds);
    cuda_time(&d->device, "allocate", t1 - t0);
    cuda_time(&d->device, "copy", t2 - t1);
    cuda_time(&d->device, "hash", clock_seconds() - t2);
    if (!ok) {
        close_device(&d->device);
        return NULL;
    }
    d->device.logit_stride = d->gpus[0].logit_stride;
    for (uint64_t r = 0; r < setup->comm->size; r++)
        d->device.used.ranks[r] = d->ranks[r].bytes;
    return &d->device;
}

static void introduce(struct device *device, struct comm_hello *hellos)
{
    const struct cuda_device *d = self_of(device);
    for (uint64_t r = 0; r < range_count(d->setup.ranks); r++) {
        hellos[r].fp_mode = 0x9fc0; /* what the kernels are compiled for */
        strcpy(hellos[r].kernels, "cuda");
    }
}

static void read_row(const struct device *device, const struct step *step, uint32_t row,
                     bool normed, float *out)
{
    struct cuda_device *d = self_of((struct device *)(uintptr_t)device);
    struct cuda_gpu *g = &d->gpus[0];
    const float *from = (normed ? g->normed : g->residual[0]) + row * g->stride;
    (void)step;
    bool ok = g->error.code == TP_OK &&
              CUDA(&g->cuda->api, &g->error, cuMemcpyDtoHAsync_v2,
                   (d->row, (uintptr_t)from, g->stride * 4, g->cuda->stream)) &&
              cuda_wait(g, &g->error);
    if (ok)
        memcpy(out, d->row, d->setup.model->hidden * sizeof *out);
}

static void clear_page(struct device *device, uint32_t page)
{
    struct cuda_device *d = self_of(device);
    for (uint64_t i = 0; !d->failed && i < d->setup.comm->size; i++) {
        const struct cuda_rank *r = &d->ranks[i];
        const uint64_t bytes = r->kv_heads * 2 * r->gpu->page_bytes;
        const uint64_t layers = range_count(r->plan->partition.layers);
        d->failed = !cuda_use(r->cuda, &d->error);
        for (uint64_t layer = 0; bytes && !d->failed && layer < layers; layer++)
            d->failed = !CUDA(&r->cuda->api, &d->error, cuMemsetD8Async,
                              ((uintptr_t)(r->kv + (layer * d->setup.n_pages + page) * bytes), 0,
                               bytes, r->cuda->stream));
    }
}

const struct device_type device_cuda = {
    .name = "cuda",
    .copies = true,
    .chooses = true,
    .fast_above = CUDA_ROWS,
    .chunks = cuda_chunks,
    .info = info,
    .check_isa = check_isa,
    .plan = plan,
    .open = open_device,
    .close = close_device,
    .stop = stop,
    .introduce = introduce,
    .step = cuda_step_run,
    .logits = cuda_logits,
    .read_row = read_row,
    .clear_page = clear_page,
};
