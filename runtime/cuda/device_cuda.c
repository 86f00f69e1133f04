/* A GPU as a device: one rank on the first one there is. */
#include "cuda_device.h"

#include "checked.h"
#include "clock.h"
#include "mem.h"
#include "rope.h"
#include <stdio.h>
#include <string.h>

static struct cuda opened; /* from the first plan to stop */
static bool is_open;
static double open_seconds;

enum { RESERVE_BYTES = 256 << 20 };

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

static void stop(void)
{
    if (is_open)
        cuda_close(&opened);
    is_open = false;
}

static bool info(char text[DEVICE_INFO_MAX], struct tp_error *err)
{
    struct cuda c;
    size_t free, total;
    if (!cuda_open(&c, err))
        return false;
    bool ok = CUDA(&c.api, err, cuMemGetInfo_v2, (&free, &total));
    if (ok)
        snprintf(text, DEVICE_INFO_MAX,
                 "device: %s, compute capability %d.%d, %d multiprocessors\n"
                 "memory: %zu bytes, %zu free\ndriver: CUDA %d.%d\nkernels: %zu bytes\n",
                 c.name, c.major, c.minor, c.multiprocessors, total, free, c.driver / 1000,
                 c.driver % 1000 / 10, cuda_image().size);
    cuda_close(&c);
    return ok;
}

/* What this version can run. */
static bool check_model(const struct device_setup *setup, struct tp_error *err)
{
    const struct recipe *recipe = &setup->plans[0].recipe;
    if (setup->comm->size != 1)
        return tp_fail(
            err, TP_E_UNSUPPORTED,
            "--device cuda: the bundle has %llu ranks, one is supported; tpshard reshard "
            "--tp 1 makes it one",
            (unsigned long long)setup->comm->size);
    return recipe->stored[ROLE_GATE] == recipe->stored[ROLE_UP] ||
           tp_fail(err, TP_E_UNSUPPORTED,
                   "--device cuda: gate_proj and up_proj are stored in different formats");
}

static bool plan(const struct device_setup *setup, struct device_plan *plan, struct tp_error *err)
{
    struct cuda_rank rank;
    size_t free, total;
    if (!check_isa(setup->isa, err) || !check_model(setup, err))
        return false;
    double start = clock_seconds();
    io_read_ahead(setup->weights->shards[0].fd); /* while the context is made */
    if (!is_open && !(is_open = cuda_open(&opened, err)))
        return false;
    open_seconds = clock_seconds() - start;
    cuda_set_sizes(&rank, &opened, setup);
    if (!rank.tile || setup->model->hidden * 4 + 32 > (uint64_t)opened.shared_max)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "--device cuda: %s has %d bytes of shared memory, too few for this model's "
                       "heads or width",
                       opened.name, opened.shared_max);
    if (!cuda_place(&rank, err) || !CUDA(&opened.api, err, cuMemGetInfo_v2, (&free, &total)))
        return false;
    plan->ranks[0] = rank.bytes;
    /* beside the plan there are graphs, and what the driver keeps for stacks */
    const uint64_t kept = min_u64(total / 64, RESERVE_BYTES);
    plan->available =
        min_u64(free > kept ? free - kept : 0, (uint64_t)((double)total * setup->memory_fraction));
    plan->allowed = UINT64_MAX; /* it is not the host's */
    return true;
}

static void close_device(struct device *device)
{
    struct cuda_device *d = self_of(device);
    struct cuda_api *api = &opened.api;
    void *const pinned[] = {d->steps, d->logits, d->row, d->rope};
    api->cuStreamSynchronize(opened.stream);
    cuda_free_graphs(d);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        if (pinned[i])
            api->cuMemFreeHost(pinned[i]);
    cuda_close_chooser(&d->rank.chooser, api);
    if (d->rank.memory)
        api->cuMemFree_v2(d->rank.memory);
    mem_free(d->frequencies);
    mem_free(d);
}

static bool open_host(struct cuda_device *d, struct tp_error *err)
{
    const struct cuda_rank *r = &d->rank;
    const struct cuda_api *api = &opened.api;
    const uint64_t half = d->setup.model->head_dim / 2;
    d->frequencies = mem_array(half, sizeof *d->frequencies, err);
    if (!d->frequencies ||
        !CUDA(api, err, cuMemHostAlloc, ((void **)&d->steps, (r->groups + 1) * r->step_bytes, 0)) ||
        !CUDA(api, err, cuMemHostAlloc,
              ((void **)&d->logits, CUDA_ROWS * r->logit_stride * 4, 0)) ||
        !CUDA(api, err, cuMemHostAlloc, ((void **)&d->row, r->stride * 4, 0)) ||
        !CUDA(api, err, cuMemHostAlloc, ((void **)&d->rope, 2 * CUDA_CHUNK * half * 4, 0)) ||
        !cuda_open_chooser(&d->rank.chooser, api, err))
        return false;
    memset(d->steps, 0, (r->groups + 1) * r->step_bytes);
    rope_frequencies(d->setup.model, d->frequencies);
    return true;
}

static struct device *open_device(const struct device_setup *setup, struct tp_error *err)
{
    struct cuda_device *d = mem_alloc(sizeof *d, err);
    if (!d)
        return NULL;
    d->setup = *setup;
    struct cuda_rank *r = &d->rank;
    cuda_set_sizes(r, &opened, &d->setup);
    r->weights = &setup->weights->ranks[0];
    r->host_data =
        setup->weights->decoded[0] ? setup->weights->decoded[0] : setup->weights->shards[0].data;
    d->device =
        (struct device){.type = &device_cuda, .kernels = "cuda", .logit_stride = r->logit_stride};
    double t0 = clock_seconds();
    bool ok = cuda_place(r, err) &&
              CUDA(&opened.api, err, cuMemAlloc_v2, (&r->memory, r->memory_bytes)) &&
              cuda_place(r, err) && open_host(d, err) && cuda_prepare(r, err);
    double t1 = clock_seconds();
    ok = ok && cuda_copy(r, err);
    double t2 = clock_seconds();
    ok = ok && cuda_check(r, err);
    cuda_time(&d->device, "context", open_seconds);
    cuda_time(&d->device, "allocate", t1 - t0);
    cuda_time(&d->device, "copy", t2 - t1);
    cuda_time(&d->device, "hash", clock_seconds() - t2);
    d->device.used.ranks[0] = r->bytes;
    if (ok)
        return &d->device;
    close_device(&d->device);
    return NULL;
}

static void introduce(struct device *device, struct comm_hello *hellos)
{
    (void)device;
    hellos[0].fp_mode = 0x9fc0; /* what the kernels are compiled for */
    strcpy(hellos[0].kernels, "cuda");
}

static void read_row(const struct device *device, const struct step *step, uint32_t row,
                     bool normed, float *out)
{
    struct cuda_device *d = self_of((struct device *)(uintptr_t)device);
    const struct cuda_rank *r = &d->rank;
    const struct cuda_api *api = &opened.api;
    const float *from = (normed ? r->normed : r->residual[0]) + row * r->stride;
    (void)step;
    bool ok = !d->failed &&
              CUDA(api, &d->error, cuMemcpyDtoHAsync_v2,
                   (d->row, (uintptr_t)from, r->stride * 4, opened.stream)) &&
              CUDA(api, &d->error, cuStreamSynchronize, (opened.stream));
    d->failed |= !ok;
    if (ok)
        memcpy(out, d->row, d->setup.model->hidden * sizeof *out);
}

static void clear_page(struct device *device, uint32_t page)
{
    struct cuda_device *d = self_of(device);
    const struct cuda_rank *r = &d->rank;
    const uint64_t bytes = r->kv_heads * 2 * r->page_bytes;
    const uint64_t layers = range_count(r->weights->partition.layers);
    for (uint64_t layer = 0; !d->failed && layer < layers; layer++)
        d->failed = !CUDA(&opened.api, &d->error, cuMemsetD8Async,
                          ((uintptr_t)(r->kv + (layer * d->setup.n_pages + page) * bytes), 0, bytes,
                           opened.stream));
}

const struct device_type device_cuda = {
    .name = "cuda",
    .copies = true,
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
