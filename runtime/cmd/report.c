#include "report.h"

#include "clock.h"
#include "host.h"
#include <stdio.h>

enum { PLACES_MAX = PLACEMENT_MAX * 6 };

void report_start(struct report *report)
{
    *report = (struct report){.main_seconds = clock_seconds()};
    report->exec_ms = host_process_age() * 1e3;
}

static double first_token_ms(const struct report *report)
{
    double at = report->figures.first_token;
    return at > 0 ? (at - report->main_seconds) * 1e3 : 0;
}

struct figures {
    double prefill, decode; /* tok/s */
    double gb_s;            /* weights read in decode */
};

static struct figures figures_of(const struct report *report, const struct engine *engine)
{
    uint64_t bytes = 0;
    for (uint64_t r = 0; r < engine->comm.size; r++)
        bytes += engine->weights.ranks[r].decode_bytes;
    return (struct figures){
        .prefill = clock_rate((double)report->figures.prompt_rows, report->figures.prompt_seconds),
        .decode = clock_rate((double)report->figures.plain_rows, report->figures.plain_seconds),
        .gb_s = clock_rate((double)(bytes * report->figures.plain_steps) * 1e-9,
                           report->figures.plain_seconds),
    };
}

/* The size of rank r's file as the plan has it; with compression only the manifest knows. */
static uint64_t planned_file_bytes(const struct bundle *bundle, uint64_t r)
{
    const struct rank_plan *plan = &bundle->plans[r];
    return bundle->compress == COMPRESS_NONE ? plan->data_offset + plan->data_bytes
                                             : bundle->ranks[r].file_bytes;
}

static const char *file_of(const struct engine *engine, uint64_t r)
{
    return io_base_name(engine->weights.shards[r].path);
}

static uint64_t sum(const struct engine_memory *m)
{
    return m->weights + m->kv + m->activations;
}

static const char *pin_name(const struct engine *e)
{
    static const char *const names[] = {
        [PINNED_NOT] = "no", [PINNED_PROCESSORS] = "processors", [PINNED_NODES] = "nodes"};
    return names[e->pin.how];
}

/* Where each thread is, with what stands between two of them. */
static void put_places(const struct engine *e, const char *between, char *text, size_t size)
{
    *text = 0;
    for (int t = 0, n = 0; e->pin.how != PINNED_NOT && t < e->pin.threads && (size_t)n < size; t++)
        n += snprintf(text + n, size - (size_t)n, "%s%u", t ? between : "", pin_place(&e->pin, t));
}

static void print_times(const struct device *device)
{
    char text[512] = "";
    size_t n = 0;
    for (const struct device_time *t = device->times; t->what && n < sizeof text; t++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %.1f ms", n ? ", " : "", t->what,
                              t->seconds * 1e3);
    if (n)
        tp_message("tprun", "report", "%s: %s", device->type->name, text);
}

static void print_text(const struct report *report, const struct engine *e, uint64_t context,
                       uint64_t chunk)
{
    struct figures f = figures_of(report, e);
    for (uint64_t r = 0; r < e->comm.size; r++)
        tp_message("tprun", "report",
                   "rank %llu opened %s: %llu bytes, planned %llu; memory planned %llu, used %llu "
                   "(weights %llu, KV %llu, activations %llu)",
                   (unsigned long long)r, file_of(e, r),
                   (unsigned long long)e->weights.shards[r].file_bytes,
                   (unsigned long long)planned_file_bytes(e->bundle, r),
                   (unsigned long long)sum(&e->planned[r]), (unsigned long long)sum(&e->used[r]),
                   (unsigned long long)e->used[r].weights, (unsigned long long)e->used[r].kv,
                   (unsigned long long)e->used[r].activations);
    tp_message(
        "tprun", "report",
        "layers %llu of %llu, device %s, kernels %s, threads %d, chunk %llu, tp %llu, dtype %s, "
        "kv %s, context %llu, verify %s, peak memory %llu",
        (unsigned long long)e->bundle->model.n_layers, (unsigned long long)e->bundle->layers_of,
        e->device->type->name, e->device->kernels, e->setup.threads, (unsigned long long)chunk,
        (unsigned long long)e->comm.size, dtype_name(e->bundle->recipe.dtype),
        dtype_name(e->setup.kv_dtype), (unsigned long long)context,
        e->setup.verify ? "full" : "header", (unsigned long long)host_memory_peak());
    char places[PLACES_MAX];
    put_places(e, " ", places, sizeof places);
    if (*places)
        tp_message("tprun", "report", "pinned: threads on %s %s", pin_name(e), places);
    tp_message("tprun", "report",
               "cold start: exec %.0f ms, map %.1f, hash %.1f, allocate %.1f; first token %.1f ms "
               "after main",
               report->exec_ms, e->map_seconds * 1e3, e->hash_seconds * 1e3, e->alloc_seconds * 1e3,
               first_token_ms(report));
    print_times(e->device);
    tp_message(
        "tprun", "report",
        "prefill %llu tokens, %.1f tok/s; decode %llu tokens, %.1f tok/s, %.2f GB/s of weights; "
        "%llu steps, %llu meetings",
        (unsigned long long)report->figures.prompt_rows, f.prefill,
        (unsigned long long)report->figures.answer_rows, f.decode, f.gb_s,
        (unsigned long long)e->steps, (unsigned long long)e->comm.meetings);
}

static void print_json(const struct report *report, const struct engine *e, uint64_t context,
                       uint64_t chunk)
{
    struct figures f = figures_of(report, e);
    FILE *out = stderr;
    fprintf(out,
            "{\"schema\": 1, \"device\": \"%s\", \"kernels\": \"%s\", \"threads\": %d, \"chunk\": "
            "%llu, ",
            e->device->type->name, e->device->kernels, e->setup.threads, (unsigned long long)chunk);
    char places[PLACES_MAX];
    put_places(e, ", ", places, sizeof places);
    fprintf(out, "\"pin\": \"%s\", \"places\": [%s], ", pin_name(e), places);
    fprintf(out, "\"tp\": %llu, \"dtype\": \"%s\", \"quant\": \"%s\", \"kv_dtype\": \"%s\", ",
            (unsigned long long)e->comm.size, dtype_name(e->bundle->recipe.dtype),
            recipe_quant_name(&e->bundle->recipe), dtype_name(e->setup.kv_dtype));
    fprintf(out, "\"context\": %llu, \"sequences\": %u, \"verify\": \"%s\", ",
            (unsigned long long)context, e->setup.n_sequences, e->setup.verify ? "full" : "header");
    fprintf(out, "\"layers\": %llu, \"model_layers\": %llu, ",
            (unsigned long long)e->bundle->model.n_layers,
            (unsigned long long)e->bundle->layers_of);
    fprintf(out,
            "\"exec_ms\": %.1f, \"map_ms\": %.3f, \"hash_ms\": %.3f, \"alloc_ms\": %.3f, "
            "\"first_token_ms\": %.3f, ",
            report->exec_ms, e->map_seconds * 1e3, e->hash_seconds * 1e3, e->alloc_seconds * 1e3,
            first_token_ms(report));
    fprintf(out,
            "\"prefill_tokens\": %llu, \"prefill_tok_s\": %.3f, \"decode_tokens\": %llu, "
            "\"decode_steps\": %llu, \"decode_tok_s\": %.3f, \"decode_gb_s\": %.4f, "
            "\"steps\": %llu, \"meetings\": %llu, ",
            (unsigned long long)report->figures.prompt_rows, f.prefill,
            (unsigned long long)report->figures.answer_rows,
            (unsigned long long)report->figures.plain_steps, f.decode, f.gb_s,
            (unsigned long long)e->steps, (unsigned long long)e->comm.meetings);
    fprintf(out, "\"device_ms\": {");
    for (const struct device_time *t = e->device->times; t->what; t++)
        fprintf(out, "%s\"%s\": %.3f", t == e->device->times ? "" : ", ", t->what,
                t->seconds * 1e3);
    fprintf(out, "}, ");
    fprintf(out,
            "\"hashed_bytes\": %llu, \"shared_planned_bytes\": %llu, \"shared_used_bytes\": %llu, "
            "\"peak_bytes\": %llu, \"ranks\": [",
            (unsigned long long)e->weights.hashed_bytes, (unsigned long long)e->shared_planned,
            (unsigned long long)e->device->used.shared, (unsigned long long)host_memory_peak());
    for (uint64_t r = 0; r < e->comm.size; r++) {
        const struct engine_memory *p = &e->planned[r], *u = &e->used[r];
        fprintf(out,
                "%s{\"rank\": %llu, \"file\": \"%s\", \"file_bytes\": %llu, "
                "\"planned_file_bytes\": %llu, \"planned_bytes\": %llu, \"used_bytes\": %llu, "
                "\"weight_bytes\": %llu, \"kv_bytes\": %llu, \"activation_bytes\": %llu}",
                r ? ", " : "", (unsigned long long)r, file_of(e, r),
                (unsigned long long)e->weights.shards[r].file_bytes,
                (unsigned long long)planned_file_bytes(e->bundle, r), (unsigned long long)sum(p),
                (unsigned long long)sum(u), (unsigned long long)u->weights,
                (unsigned long long)u->kv, (unsigned long long)u->activations);
    }
    fprintf(out, "]}\n");
    fflush(out);
}

void report_print(const struct report *report, const struct engine *engine, struct report_form form,
                  uint64_t context, uint64_t chunk)
{
    if (form.json)
        print_json(report, engine, context, chunk);
    else if (form.text)
        print_text(report, engine, context, chunk);
}

void report_line(const struct report *report, const struct engine *engine, struct report_form form,
                 uint64_t tokens, const char *more)
{
    const struct bundle *bundle = engine->bundle;
    double seconds = report->figures.prompt_seconds + report->figures.plain_seconds;
    int digits = seconds < 0.1 ? 4 : seconds < 10 ? 2 : 1;
    char layers[64] = "";
    if (form.json || form.text || form.quiet)
        return;
    if (bundle->model.n_layers < bundle->layers_of)
        snprintf(layers, sizeof layers, ", layers %llu of %llu",
                 (unsigned long long)bundle->model.n_layers, (unsigned long long)bundle->layers_of);
    fprintf(stderr, "tprun: %llu token%s in %.*f s, %.0f tok/s%s%s\n", (unsigned long long)tokens,
            tokens == 1 ? "" : "s", digits, seconds, clock_rate((double)tokens, seconds), more,
            layers);
}
