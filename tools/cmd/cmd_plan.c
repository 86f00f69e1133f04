/* tpshard plan: what a model needs at every degree, from config.json alone. */
#include "commands.h"

#include "estimate.h"
#include "hf_config.h"
#include "model_path.h"
#include "print_model.h"
#include "room.h"
#include "shown.h"
#include <stdio.h>
#include <string.h>

static const char help[] =
    "usage: tpshard plan (MODEL_DIR | config.json) [options]\n"
    "\n"
    "What every rank of a model holds and reads at every degree, from config.json alone; no "
    "weights are\n"
    "needed. Of a quantized checkpoint 16 bits are planned, and the scheme is named.\n"
    "\n"
    "      --tp N,N,...             degrees, 1 to 48 (default 1,2,4,8); nothing has to divide\n"
    "      --dtype keep|f32|bf16|f16  storage and arithmetic (default keep: "
    "config.json's)\n" OPTIONS_QUANT_HELP
    "      --context N              positions of KV cache a sequence (default 8192, or the "
    "model's)\n"
    "      --batch N                sequences (default 1)\n"
    "      --gpu-mem SIZE           memory of a rank, such as 80G: does it fit, and what would\n"
    "      --mem-fraction F         of it that may be planned, as tprun has it (default 0.9)\n"
    "      --layers N               the first N layers\n"
    "      --threads N              cores that load, for the advice on zstd (default: all)\n"
    "      --ignore-key NAME        a key of config.json that is not to be refused; may be "
    "repeated\n"
    "  -o, --output BUNDLE          where it would go: what is free there (default: here)\n"
    "      --json                   for programs\n"
    "\n"
    "imbalance: time of a decode step against an ideal cut, as bytes read by the slowest rank "
    "of each phase.\n"
    "replicated: weights held beyond one copy, such as KV heads that two ranks need.\n"
    "disk: the rank files of a bundle, all ranks, not compressed.\n"
    "sizes: K, M, G, T and KiB ... are powers of 1024, KB ... of 1000.\n";

/* "14.19 GiB", "93.2 MiB" */
static const char *size_text(char buf[24], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(buf, 24, "%.*f %s", unit == 0 ? 0 : value < 10 ? 2 : 1, value, units[unit]);
    return buf;
}

/* "7.62 billion parameters", "135 million parameters" */
static const char *count_text(char buf[40], uint64_t n)
{
    static const char *const units[] = {"", " thousand", " million", " billion"};
    double value = (double)n;
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    int decimals = unit == 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(buf, 40, "%.*f%s parameters", decimals, value, units[unit]);
    return buf;
}

static const char *range_text(char buf[40], struct range r)
{
    if (range_count(r) == 0)
        return "-";
    snprintf(buf, 40, "%llu..%llu", (unsigned long long)r.begin, (unsigned long long)r.end);
    return buf;
}

#define FRACTION 0.9 /* as tprun has it */

struct plan {
    const struct options *options;
    const struct hf_config *config;
    uint64_t layers_of; /* the model's layers, of which some may be left out */
    struct estimate_request request;
    struct estimate_zstd zstd;
    struct room room;
};

/* ---- text ---- */

static void print_head(const struct plan *p)
{
    const struct model_config *m = p->request.model;
    char count[40];
    print_model(m, p->layers_of);
    printf("%s as %s", count_text(count, estimate_parameters(m)),
           dtype_name(p->request.recipe.dtype));
    if (p->options->quant)
        printf(", layers as %s", p->options->quant->name);
    printf("; KV cache %s, %llu position%s, batch %llu\n", dtype_name(p->request.recipe.dtype),
           (unsigned long long)p->request.context, p->request.context == 1 ? "" : "s",
           (unsigned long long)p->request.batch);
    uint64_t sliding = 0, width = 0;
    for (uint64_t i = 0; i < m->n_layers; i++)
        if (m->window[i]) {
            sliding++;
            width = m->window[i];
        }
    if (sliding)
        printf("%llu layer%s a window of %llu positions; the KV cache holds all of them "
               "nevertheless\n",
               (unsigned long long)sliding, sliding == 1 ? " sees" : "s see",
               (unsigned long long)width);
    if (p->config->quantization[0]) {
        printf("the checkpoint is quantized (");
        shown_put(stdout, p->config->quantization);
        printf("): planned as %s\n", dtype_name(p->request.recipe.dtype));
    }
}

static void print_memory(const struct plan *p)
{
    char memory[24], reserved[24];
    if (p->request.gpu_memory)
        printf("%s of memory a rank, %s of it reserved for the driver\n",
               size_text(memory, p->request.gpu_memory), size_text(reserved, p->request.reserved));
}

static void print_fit(const struct plan *p, const struct estimate *e)
{
    if (!p->request.gpu_memory)
        return;
    printf("  %-4s", e->fits ? "yes" : "no");
    if (e->context_max)
        printf("  %9llu", (unsigned long long)e->context_max);
    else
        printf("  %9s", "-");
    if (e->batch_max)
        printf("  %9llu", (unsigned long long)e->batch_max);
    else
        printf("  %9s", "-");
}

static void print_summary_head(const struct plan *p)
{
    char size[24];
    printf("\nlargest rank%30s", "");
    if (p->request.gpu_memory)
        printf("%37s%s, at most", "in ", size_text(size, p->request.gpu_memory));
    printf("\n  TP     weights    KV cache activations       total  replicated        disk  "
           "imbalance");
    if (p->request.gpu_memory)
        printf("  fits    context      batch");
    putchar('\n');
}

static void print_summary(const struct plan *p, const struct estimate *e)
{
    const struct estimate_rank *r = &e->ranks[e->largest];
    char a[24], b[24], c[24], d[24], x[24], y[24];
    printf("  %2llu  %10s  %10s  %10s  %10s  %10s  %10s  %9.3f", (unsigned long long)e->tp_size,
           size_text(a, r->weights), size_text(b, r->kv), size_text(c, r->activations),
           size_text(d, r->total), size_text(x, e->replicated_weights), size_text(y, e->disk),
           e->imbalance);
    print_fit(p, e);
    putchar('\n');
}

static void print_room(const struct room *room)
{
    char size[24];
    if (room->free != ROOM_UNKNOWN)
        printf("\n%s of disk free in %s\n", size_text(size, room->free), room->dir);
}

static void print_notes(const struct estimate *e)
{
    char size[24];
    if (e->kv_heads_again)
        printf("  %llu KV head%s of a layer %s held more than once; of KV cache that is %s more\n",
               (unsigned long long)e->kv_heads_again, e->kv_heads_again == 1 ? "" : "s",
               e->kv_heads_again == 1 ? "is" : "are", size_text(size, e->replicated_kv));
    if (e->idle_attention)
        printf("  %llu of the ranks have no attention heads\n",
               (unsigned long long)e->idle_attention);
    if (e->idle_mlp)
        printf("  %llu of the ranks have no columns of the MLP\n", (unsigned long long)e->idle_mlp);
}

static void print_ranks(const struct estimate *e)
{
    printf("\nTP %llu\n  rank      heads   KV heads    MLP columns       vocabulary     weights  "
           "  KV cache       total\n",
           (unsigned long long)e->tp_size);
    for (uint64_t i = 0; i < e->tp_size; i++) {
        const struct estimate_rank *r = &e->ranks[i];
        char a[40], b[40], c[40], d[40], w[24], k[24], t[24];
        printf("  %4llu %10s %10s %14s %16s  %10s  %10s  %10s\n", (unsigned long long)i,
               range_text(a, r->partition.heads), range_text(b, r->partition.kv_heads),
               range_text(c, r->partition.ff), range_text(d, r->partition.vocab),
               size_text(w, r->weights), size_text(k, r->kv), size_text(t, r->total));
    }
    print_notes(e);
}

/* ---- JSON ---- */

static json_t *span(struct range r)
{
    return json_pack("[I,I]", (json_int_t)r.begin, (json_int_t)r.end);
}

static json_t *rank_json(const struct estimate_rank *r)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "rank",
                     (json_int_t)r->partition.rank, "heads", span(r->partition.heads), "kv_heads",
                     span(r->partition.kv_heads), "ff_columns", span(r->partition.ff), "vocab_rows",
                     span(r->partition.vocab), "weights_bytes", (json_int_t)r->weights, "kv_bytes",
                     (json_int_t)r->kv, "activation_bytes", (json_int_t)r->activations,
                     "total_bytes", (json_int_t)r->total);
}

static json_t *degree_json(const struct plan *p, const struct estimate *e)
{
    const struct estimate_rank *r = &e->ranks[e->largest];
    json_t *ranks = json_array();
    for (uint64_t i = 0; i < e->tp_size; i++)
        json_array_append_new(ranks, rank_json(&e->ranks[i]));
    json_t *fit = json_null();
    if (p->request.gpu_memory)
        fit = json_pack("{s:b, s:I, s:I}", "fits", e->fits, "context_max",
                        (json_int_t)e->context_max, "batch_max", (json_int_t)e->batch_max);
    return json_pack(
        "{s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, "
        "s:o}",
        "tp", (json_int_t)e->tp_size, "largest", "rank", (json_int_t)e->largest, "weights_bytes",
        (json_int_t)r->weights, "kv_bytes", (json_int_t)r->kv, "activation_bytes",
        (json_int_t)r->activations, "total_bytes", (json_int_t)r->total, "weights_bytes",
        (json_int_t)e->weights, "disk_bytes", (json_int_t)e->disk, "replicated_bytes",
        (json_int_t)e->replicated_weights, "replicated_kv_bytes", (json_int_t)e->replicated_kv,
        "replicated_kv_heads", (json_int_t)e->kv_heads_again, "ranks_without_heads",
        (json_int_t)e->idle_attention, "ranks_without_mlp", (json_int_t)e->idle_mlp, "imbalance",
        e->imbalance, "gpu_mem", fit, "ranks", ranks);
}

static bool print_json(const struct plan *p, json_t *degrees, struct tp_error *err)
{
    const struct estimate_request *q = &p->request;
    const char *scheme = p->config->quantization;
    json_t *model = model_config_to_json(q->model, err);
    json_t *root = json_pack(
        "{s:i, s:o, s:I, s:I, s:s?, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:{s:f, s:f}, s:o, s:o}",
        "schema", JSON_SCHEMA, "model", model, "layers_of", (json_int_t)p->layers_of, "parameters",
        (json_int_t)estimate_parameters(q->model), "quantization", *scheme ? scheme : NULL, "dtype",
        dtype_name(q->recipe.dtype), "quant", recipe_quant_name(&q->recipe), "kv_dtype",
        dtype_name(q->recipe.dtype), "context", (json_int_t)q->context, "batch",
        (json_int_t)q->batch, "gpu_mem", (json_int_t)q->gpu_memory, "gpu_mem_reserved",
        (json_int_t)q->reserved, "zstd", "ratio", p->zstd.ratio, "pays_below_bytes_per_second",
        p->zstd.bytes_per_second, "disk_free_bytes", room_free_json(&p->room), "degrees", degrees);
    return json_print(root, err);
}

/* ---- the command ---- */

static bool plan_degrees(struct plan *p, struct tp_error *err)
{
    static const uint64_t usual[] = {1, 2, 4, 8};
    const struct options *o = p->options;
    const uint64_t *list = o->n_tp ? o->tp : usual;
    size_t n = o->n_tp ? (size_t)o->n_tp : sizeof usual / sizeof *usual;
    if (!estimate_zstd(&p->request, o->threads, &p->zstd, err) ||
        !room_ask(&p->room, o->output, 0, err))
        return false;
    struct estimate *all = mem_array(n, sizeof *all, err);
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = estimate_degree(&p->request, list[i], &all[i], err);
    if (ok && o->json) {
        json_t *degrees = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(degrees, degree_json(p, &all[i]));
        ok = print_json(p, degrees, err);
    } else if (ok) {
        print_head(p);
        print_memory(p);
        print_summary_head(p);
        for (size_t i = 0; i < n; i++)
            print_summary(p, &all[i]);
        print_room(&p->room);
        printf("\nzstd leaves about %.2f of the bytes; loading gains from it where storage gives "
               "less than %.2f GB/s (%d thread%s)\n",
               p->zstd.ratio, p->zstd.bytes_per_second * 1e-9, o->threads,
               o->threads == 1 ? "" : "s");
        for (size_t i = 0; i < n; i++)
            print_ranks(&all[i]);
    }
    mem_free(all);
    return ok;
}

/* A quantized checkpoint is planned as 16 bits: its own dtype where that is one. */
static enum dtype planned_dtype(const struct options *o, const struct hf_config *config)
{
    enum dtype own = config->model.dtype;
    if (o->dtype != DTYPE_NONE)
        return o->dtype;
    if (own == DTYPE_NONE || (config->quantization[0] && own == DTYPE_F32))
        return DTYPE_BF16;
    return own;
}

static bool plan(const struct options *o, struct hf_config *config, struct tp_error *err)
{
    struct findings findings = {0};
    struct hf_options keys = {o->ignore_keys, (size_t)o->n_ignore_keys, true, &findings};
    if (!model_path_check(o->args[0], true, err) ||
        !hf_config_read(o->args[0], &keys, config, NULL, NULL, err))
        return false;
    struct plan p = {.options = o, .config = config, .layers_of = config->model.n_layers};
    if (o->layers && !model_config_take_layers(&config->model, o->layers, o->args[0], err))
        return false;
    p.request = (struct estimate_request){
        .model = &config->model,
        .recipe = recipe_of(planned_dtype(o, config), o->quant),
        .context =
            o->context < config->model.max_positions ? o->context : config->model.max_positions,
        .batch = o->batch,
        .gpu_memory = o->gpu_memory,
        .reserved = estimate_reserved(o->gpu_memory,
                                      o->memory_fraction > 0 ? o->memory_fraction : FRACTION),
    };
    if (config->model.dtype == DTYPE_NONE && o->dtype == DTYPE_NONE)
        tp_note("%s: no dtype is named, bf16 is assumed", o->args[0]);
    return plan_degrees(&p, err);
}

static bool run_plan(const struct options *options, struct tp_error *err)
{
    struct hf_config *config = mem_alloc(sizeof *config, err);
    bool ok = config && plan(options, config, err);
    mem_free(config);
    return ok;
}

const struct command command_plan = {
    .name = "plan",
    .id = COMMAND_PLAN,
    .n_args = 1,
    .args = "one MODEL_DIR or config.json",
    .summary = "what a model needs at every degree, from config.json alone",
    .help = help,
    .run = run_plan,
};
