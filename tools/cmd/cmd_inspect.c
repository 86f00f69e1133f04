/* tpshard inspect: what a bundle holds, from its manifest. */
#include "commands.h"

#include "bundle.h"
#include "print_model.h"
#include "shown.h"
#include <stdio.h>

static const char help[] =
    "usage: tpshard inspect BUNDLE [--tensors] [--json]\n"
    "\n"
    "What a bundle holds: model, recipe, ranks and what each owns, files and their hashes. Only "
    "the manifest\n"
    "is read and checked; tpshard verify checks the rest.\n"
    "\n"
    "      --tensors  every tensor of every rank too\n"
    "      --json     for programs\n";

typedef unsigned long long ull; /* for printf */

/* Of what lies in the rank files: as it is there, and as it is in memory. */
struct sizes {
    uint64_t file, raw;
};

static struct sizes sizes_of(const struct bundle *bundle)
{
    struct sizes s = {0};
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        uint64_t bytes = bundle->ranks[r].file_bytes, offset = bundle->plans[r].data_offset;
        s.file += bytes > offset ? bytes - offset : 0; /* a manifest may say anything */
        s.raw += bundle->plans[r].data_bytes;
    }
    return s;
}

/* ---- text ---- */

static void print_contents(const struct bundle *b)
{
    printf("model      ");
    print_model(&b->model, b->layers_of);
    printf("recipe     %s, quant %s, tp %llu\n", dtype_name(b->recipe.dtype),
           recipe_quant_name(&b->recipe), (ull)b->tp_size);
}

static void print_range(const char *what, struct range r)
{
    if (range_count(r))
        printf(", %s %llu..%llu", what, (ull)r.begin, (ull)r.end);
    else
        printf(", no %s", what);
}

static void print_ranks(const struct bundle *b)
{
    for (uint64_t r = 0; r < b->tp_size; r++) {
        const struct partition *p = &b->plans[r].partition;
        char name[RANK_FILE_NAME_MAX];
        printf("  %s  %14llu bytes, %u tensors", rank_file_name(name, r, b->tp_size),
               (ull)b->ranks[r].file_bytes, b->plans[r].n_tensors);
        print_range("heads", p->heads);
        print_range("KV heads", p->kv_heads);
        print_range("MLP columns", p->ff);
        print_range("vocabulary", p->vocab);
        putchar('\n');
    }
}

static void print_tensors(const struct bundle *b)
{
    const json_t *ranks = json_object_get(b->root, "ranks");
    for (uint64_t r = 0; r < b->tp_size; r++) {
        const json_t *list = json_object_get(json_array_get(ranks, r), "tensors");
        char name[TENSOR_NAME_MAX], file[RANK_FILE_NAME_MAX];
        printf("%s\n", rank_file_name(file, r, b->tp_size));
        for (uint32_t i = 0; i < b->plans[r].n_tensors; i++) {
            const struct tensor *t = &b->plans[r].tensors[i];
            const char *hash = json_string_value(json_object_get(json_array_get(list, i), "hash"));
            printf("  %-52s %-14s %s rows %llu..%llu of %llu columns %llu..%llu of %llu at %llu "
                   "bytes %llu  ",
                   tensor_name(name, t->role, t->layer, t->part), t->stored->name,
                   t->layout == LAYOUT_PANEL16 ? "panel16" : "vector ", (ull)t->own_rows.begin,
                   (ull)t->own_rows.end, (ull)t->rows, (ull)t->own_cols.begin, (ull)t->own_cols.end,
                   (ull)t->cols, (ull)t->offset, (ull)t->bytes);
            shown_put(stdout, hash ? hash : "");
            putchar('\n');
        }
    }
}

static void print_templates(const struct bundle *b)
{
    const char *name;
    json_t *digest;
    if (!b->templates)
        printf("template   none\n");
    json_object_foreach((json_t *)(uintptr_t)b->templates, name, digest)
    {
        char cut[TP_NAME_BUF];
        const char *hex = json_string_value(digest);
        printf("template   ");
        shown_put(stdout, tp_name_cut(cut, name, strlen(name)));
        printf(", SHA-256 ");
        shown_put(stdout, hex ? hex : "unknown");
        putchar('\n');
    }
}

static void print_text(const struct bundle *b, bool tensors)
{
    char hex[33];
    struct sizes s = sizes_of(b);
    hash_to_hex(b->bundle_id, hex);
    printf("bundle     %s\n", hex);
    print_contents(b);
    printf("data       %llu bytes", (ull)s.raw);
    if (b->compress == COMPRESS_ZSTD)
        printf(", as zstd %llu: %.3f of it", (ull)s.file, (double)s.file / (double)s.raw);
    printf("\nselftest   %s\n", bundle_find_file(b, BUNDLE_SELFTEST) ? "recorded" : "none");
    printf("tokenizer  %s\n",
           bundle_find_file(b, BUNDLE_TOKENIZER) ? "compiled" : "none: token ids only");
    print_templates(b);
    printf("ranks\n");
    print_ranks(b);
    printf("files\n");
    for (uint32_t i = 0; i < b->n_files; i++) {
        hash_to_hex(b->files[i].hash, hex);
        printf("  ");
        size_t n = shown_put(stdout, b->files[i].name);
        printf("%*s %12llu bytes  %s\n", n < 28 ? (int)(28 - n) : 0, "", (ull)b->files[i].bytes,
               hex);
    }
    if (tensors)
        print_tensors(b);
}

/* ---- JSON ---- */

static json_t *hex_json(struct hash128 hash)
{
    char hex[33];
    hash_to_hex(hash, hex);
    return json_string(hex);
}

static json_t *span(struct range r)
{
    return json_pack("[I,I]", (json_int_t)r.begin, (json_int_t)r.end);
}

static json_t *rank_json(const struct bundle *b, uint64_t r, bool tensors)
{
    const struct partition *p = &b->plans[r].partition;
    char name[RANK_FILE_NAME_MAX];
    json_t *rank = json_pack(
        "{s:I, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "rank", (json_int_t)r, "file",
        rank_file_name(name, r, b->tp_size), "bytes", (json_int_t)b->ranks[r].file_bytes,
        "data_bytes", (json_int_t)b->plans[r].data_bytes, "heads", span(p->heads), "kv_heads",
        span(p->kv_heads), "ff_columns", span(p->ff), "vocab_rows", span(p->vocab));
    const json_t *stored = json_array_get(json_object_get(b->root, "ranks"), r);
    if (tensors)
        json_object_set(rank, "tensors", json_object_get(stored, "tensors"));
    return rank;
}

static bool print_json(const struct bundle *b, bool tensors, struct tp_error *err)
{
    struct sizes s = sizes_of(b);
    json_t *ranks = json_array();
    for (uint64_t r = 0; r < b->tp_size; r++)
        json_array_append_new(ranks, rank_json(b, r, tensors));
    json_t *root = json_pack(
        "{s:i, s:o, s:I, s:O, s:O, s:I, s:I, s:I, s:f, s:b, s:o, s:O, s:o}", "schema", JSON_SCHEMA,
        "bundle_id", hex_json(b->bundle_id), "tp_size", (json_int_t)b->tp_size, "recipe",
        json_object_get(b->root, "recipe"), "model", json_object_get(b->root, "model"), "layers_of",
        (json_int_t)b->layers_of, "data_bytes", (json_int_t)s.raw, "stored_bytes",
        (json_int_t)s.file, "stored_ratio", (double)s.file / (double)s.raw, "selftest",
        bundle_find_file(b, BUNDLE_SELFTEST) != NULL, "chat_templates",
        b->templates ? json_incref((json_t *)(uintptr_t)b->templates) : json_null(), "files",
        json_object_get(b->root, "files"), "ranks", ranks);
    return json_print(root, err);
}

static bool run_inspect(const struct options *options, struct tp_error *err)
{
    struct bundle bundle = {0};
    bool ok = bundle_open(&bundle, options->args[0], false, err);
    if (ok && options->json)
        ok = print_json(&bundle, options->tensors, err);
    else if (ok)
        print_text(&bundle, options->tensors);
    bundle_close(&bundle);
    return ok;
}

const struct command command_inspect = {
    .name = "inspect",
    .id = COMMAND_INSPECT,
    .n_args = 1,
    .args = "one BUNDLE",
    .summary = "what a bundle holds",
    .help = help,
    .run = run_inspect,
};
