/* The CPU as a device. */
#include "cpu.h"

#include "host.h"
#include "mem.h"
#include "processors.h"
#include "rope.h"
#include <string.h>

static const struct kernels *kernels_of(const struct device_setup *setup)
{
    enum isa isa;
    return setup->isa && isa_from_name(setup->isa, &isa) ? kernels_get(isa) : kernels_best();
}

static bool check_isa(const char *isa, struct tp_error *err)
{
    enum isa known;
    return !isa || (isa_from_name(isa, &known) && kernels_get(known)) ||
           tp_fail(err, TP_E_ISA, "--isa %s: not available here, %s is the best", isa,
                   kernels_best()->name);
}

/* A number of bytes; null: there is no limit, or it is not known. */
static json_t *bytes_or_null(uint64_t bytes)
{
    return bytes <= INT64_MAX ? json_integer((json_int_t)bytes) : json_null();
}

static json_t *info(struct tp_error *err)
{
    const char *names[KERNELS_FEATURES_MAX];
    char model[HOST_PROCESSOR_MAX];
    json_t *features = json_array(), *sets = json_array();
    bool ok = features && sets;
    const size_t n = kernels_features(names);
    for (size_t i = 0; ok && i < n; i++)
        ok = json_array_append_new(features, json_string(names[i])) == 0;
    for (int isa = ISA_COUNT; ok && isa-- > 0;)
        if (kernels_get((enum isa)isa))
            ok = json_array_append_new(sets, json_string(kernels_get((enum isa)isa)->name)) == 0;
    const int quota = processors_quota();
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:s, s:i, s:i, s:i, s:o, s:i, s:i, s:o, s:o, s:o, s:o}", "model",
                  host_processor(model), "features", features, "kernels", sets, "kernels_used",
                  kernels_best()->name, "processors", processors_available(), "processors_online",
                  processors_online(), "processors_allowed", processors_allowed(),
                  "processors_quota", quota ? json_integer(quota) : json_null(), "cores_allowed",
                  processors_cores(), "nodes_online", processors_nodes(), "memory_total_bytes",
                  bytes_or_null(host_memory_total()), "memory_available_bytes",
                  bytes_or_null(host_memory_available()), "memory_group_limit_bytes",
                  bytes_or_null(host_memory_group()), "memory_process_limit_bytes",
                  bytes_or_null(host_memory_limit()));
    if (object && ok)
        return object;
    json_decref(object);
    tp_fail(err, TP_E_MEMORY, "what the CPU is does not fit in memory");
    return NULL;
}

static bool plan(const struct device_setup *setup, struct device_plan *plan, struct tp_error *err)
{
    struct cpu_device *d = mem_alloc(sizeof *d, err);
    bool ok = d != NULL;
    if (ok) {
        d->setup = *setup;
        d->kernels = kernels_of(setup);
        ok = check_isa(setup->isa, err) && cpu_place(d, err);
        plan->shared = d->memory_bytes;
    }
    for (uint64_t r = setup->ranks.begin; ok && r < setup->ranks.end; r++)
        plan->ranks[r] = d->ranks[r].bytes;
    for (uint64_t c = 0; ok && c < setup->comm->crews; c++)
        plan->shared += d->crews[c].memory_bytes;
    plan->n_memories = 1;
    plan->available[0] = host_memory_available();
    plan->allowed = host_memory_limit();
    mem_free(d);
    return ok;
}

static void close_device(struct device *device)
{
    struct cpu_device *d = cpu_device_of(device);
    for (uint64_t r = 0; d && r < PARTITION_TP_MAX; r++)
        if (d->ranks[r].memory)
            mem_map_free(d->ranks[r].memory, d->ranks[r].bytes.kv + d->ranks[r].bytes.activations);
    for (uint64_t c = 0; d && c < PARTITION_TP_MAX; c++)
        if (d->crews[c].memory)
            mem_map_free(d->crews[c].memory, d->crews[c].memory_bytes);
    if (d && d->memory)
        mem_map_free(d->memory, d->memory_bytes);
    if (d)
        mem_free(d->frequencies);
    mem_free(d);
}

static bool take(const struct cpu_device *d, uint64_t rank, uint64_t bytes, void **memory,
                 struct tp_error *err)
{
    *memory = mem_map_alloc(bytes, err);
    if (*memory)
        pin_memory(d->setup.pin, rank, *memory, bytes);
    return *memory;
}

/* Memory for all that has a place, near those who use it. */
static bool take_all(struct cpu_device *d, struct tp_error *err)
{
    struct device_plan *used = &d->device.used;
    d->memory = mem_map_alloc(d->memory_bytes, err);
    bool ok = d->memory;
    used->shared = d->memory_bytes;
    for (uint64_t rank = d->setup.ranks.begin; ok && rank < d->setup.ranks.end; rank++) {
        struct cpu_rank *r = &d->ranks[rank];
        ok = take(d, rank, r->bytes.kv + r->bytes.activations, &r->memory, err);
        used->ranks[rank] = r->bytes;
    }
    for (uint64_t crew = 0; ok && crew < d->setup.comm->crews; crew++) {
        struct cpu_crew *c = &d->crews[crew];
        ok = take(d, c->ranks.begin, c->memory_bytes, &c->memory, err);
        used->shared += c->memory_bytes;
    }
    return ok;
}

static struct device *open_device(const struct device_setup *setup, struct tp_error *err)
{
    struct cpu_device *d = mem_alloc(sizeof *d, err);
    if (!d)
        return NULL;
    d->setup = *setup;
    d->kernels = kernels_of(setup);
    d->device = (struct device){.type = &device_cpu, .kernels = d->kernels->name};
    d->frequencies = mem_array(setup->model->head_dim / 2, sizeof *d->frequencies, err);
    const bool ok = d->frequencies && cpu_place(d, err) && take_all(d, err) && cpu_place(d, err);
    for (uint64_t r = setup->ranks.begin; ok && r < setup->ranks.end; r++) {
        d->ranks[r].weights = &setup->weights->ranks[r];
        d->ranks[r].bf16 = d->ranks[r].weights->arithmetic == DTYPE_BF16;
    }
    if (ok) {
        rope_frequencies(setup->model, d->frequencies);
        return &d->device;
    }
    close_device(&d->device);
    return NULL;
}

static void clear_page(struct device *device, uint32_t page)
{
    struct cpu_device *d = cpu_device_of(device);
    for (uint64_t rank = d->setup.ranks.begin; rank < d->setup.ranks.end; rank++) {
        struct cpu_rank *r = &d->ranks[rank];
        uint64_t bytes = r->n_kv_heads_local * 2 * r->page_bytes;
        uint64_t layers = range_count(r->weights->partition.layers);
        for (uint64_t layer = 0; layer < layers; layer++)
            memset(r->kv + (layer * r->n_pages + page) * bytes, 0, bytes);
    }
}

/* In a one-shot step every crew has every row. */
static void read_row(const struct device *device, const struct step *step, uint32_t row,
                     bool normed, float *out)
{
    const struct cpu_device *d = (const struct cpu_device *)(const void *)device;
    const struct cpu_crew *c = d->crews;
    while (!step_one_shot(step) && cpu_rows_of(c, step).end <= row)
        c++;
    memcpy(out, (normed ? cpu_normed(c, step) : c->residual) + row * d->row_stride,
           d->setup.model->hidden * sizeof *out);
}

const struct device_type device_cpu = {
    .name = "cpu",
    .info = info,
    .check_isa = check_isa,
    .plan = plan,
    .open = open_device,
    .close = close_device,
    .introduce = cpu_introduce,
    .step = cpu_step,
    .logits = cpu_logit_rows,
    .read_row = read_row,
    .clear_page = clear_page,
};
