/* tpshard export: a bundle back to a Hugging Face folder that transformers loads. */
#include "commands.h"

#include "checked.h"
#include "export_plan.h"
#include "jobs.h"
#include "options.h"
#include "progress.h"
#include "values.h"
#include "values_of.h"
#include <stdio.h>

static const char help[] =
    "usage: tpshard export BUNDLE -o MODEL_DIR [options]\n"
    "\n"
    "Write a bundle as a Hugging Face folder: safetensors, config.json and the files that came "
    "along.\n"
    "Bit-exact where convert kept the dtype; quantized weights become the bundle's dtype, "
    "rounded.\n"
    "\n"
    "  -o, --output MODEL_DIR  folder to make; must not exist, or be empty\n"
    "      --mem SIZE          memory for buffers at most (default 1G)\n"
    "      --threads N         (default: all processors)\n"
    "  -q, --quiet             no notes, no progress\n"
    "\n"
    "The work goes on in MODEL_DIR.partial, which is renamed when all is done; the same command "
    "begins\n"
    "again after an interruption.\n";

enum { BLOCK_BYTES = 64 << 20 }; /* of rows converted at once, where memory allows */
static const char marker[] = ".tpshard-export"; /* in the partial folder: whose it is */

struct export {
    const struct options *options;
    struct source_bundle source;
    struct export_plan plan;
    char partial[IO_PATH_MAX];
    int *fds;                 /* [n_files] */
    uint64_t *first_job;      /* [n_tensors + 1] */
    uint64_t block_bytes;     /* f32 and stored bytes of the rows of a block together, about */
    unsigned char **spaces;   /* [threads] made at first use */
    uint64_t space_bytes;
    int threads;
    struct jobs jobs;
};

/* ---- memory ---- */

/* Stored rows, a row as f32, rows as exported, scales. */
static uint64_t row_space(const struct tensor *t)
{
    return t->cols * (tensor_element_bytes(t) + 4) + 4;
}

static uint64_t block_rows(const struct export *x, const struct tensor *t)
{
    uint64_t rows = (x->block_bytes - t->cols * 4) / row_space(t) / 16 * 16;
    return rows ? rows : 16;
}

/* As many threads as --mem gives room to, then as large blocks. */
static bool plan_memory(struct export *x, struct tp_error *err)
{
    uint64_t least = 0, memory = x->options->memory, reader = x->source.source.worker_bytes;
    for (uint32_t i = 0; i < x->source.whole.n_tensors; i++) {
        const struct tensor *t = &x->source.whole.tensors[i];
        uint64_t n = 16 * row_space(t) + t->cols * 4;
        least = n > least ? n : least;
    }
    if (memory < reader + least)
        return tp_fail(err, TP_E_LIMIT, "--mem %llu: one thread needs %llu bytes",
                       (unsigned long long)memory, (unsigned long long)(reader + least));
    uint64_t most = memory / (reader + least);
    x->threads = x->options->threads;
    if ((uint64_t)x->threads > most)
        x->threads = (int)most;
    x->block_bytes = memory / (uint64_t)x->threads - reader;
    if (x->block_bytes > BLOCK_BYTES)
        x->block_bytes = least > BLOCK_BYTES ? least : BLOCK_BYTES;
    x->space_bytes = x->block_bytes;
    return true;
}

/* ---- tensors ---- */

static bool not_exact(const struct export *x, const struct tensor *t, struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    return tp_fail(err, TP_E_MANIFEST, "%s: tensor \"%s\": has values that the manifest's dtype "
                                       "cannot hold",
                   x->source.bundle.dir, tensor_name(name, t->role, t->layer, t->part));
}

/* What was narrowed is what it was. */
static bool is_exact(enum dtype dtype, const float *wide, uint64_t n, const unsigned char *narrow)
{
    enum { STRIP = 256 };
    float back[STRIP];
    for (uint64_t at = 0; at < n; at += STRIP) {
        size_t strip = n - at < STRIP ? n - at : STRIP;
        values_widen(dtype, narrow + at * dtype_bytes(dtype), strip, back);
        if (memcmp(back, wide + at, strip * sizeof *back) != 0)
            return false;
    }
    return true;
}

/* n stored rows to exported ones, by way of one row as f32. Only codes times scales are rounded. */
static bool convert_rows(const struct export *x, const struct export_tensor *e, uint64_t n,
                         const unsigned char *rows, const float *scales, float *wide,
                         unsigned char *out, struct tp_error *err)
{
    const struct tensor *t = &x->source.whole.tensors[e->index];
    uint64_t from = t->cols * tensor_element_bytes(t), to = t->cols * dtype_bytes(e->dtype);
    for (uint64_t i = 0; i < n; i++) {
        values_of_row(t, rows + i * from, t->cols, scales ? &scales[i] : NULL, wide);
        bool fits = values_narrow(e->dtype, wide, t->cols, out + i * to);
        if (scales && !fits)
            return tp_fail(err, TP_E_RANGE, "%s: a quantized value is beyond the range of %s",
                           x->source.bundle.dir, dtype_name(e->dtype));
        if (!scales && !is_exact(e->dtype, wide, t->cols, out + i * to))
            return not_exact(x, t, err);
    }
    return true;
}

static bool export_block(void *arg, uint64_t job, int thread, struct tp_error *err)
{
    struct export *x = arg;
    uint32_t at = 0;
    while (job >= x->first_job[at + 1])
        at++;
    const struct export_tensor *e = &x->plan.tensors[at];
    const struct tensor *t = &x->source.whole.tensors[e->index];
    const struct export_file *file = &x->plan.files[e->file];
    bool quantized = t->layout == LAYOUT_PANEL16 && dtype_bytes(t->dtype) == 1;
    bool as_is = t->layout == LAYOUT_PANEL16 && t->dtype == e->dtype;
    uint64_t most = block_rows(x, t), row = (job - x->first_job[at]) * most, n = t->rows - row;
    uint64_t stride = t->cols * tensor_element_bytes(t);
    n = n < most ? n : most;
    if (!x->spaces[thread] && !(x->spaces[thread] = mem_alloc(x->space_bytes, err)))
        return false;
    /* f32 first, for alignment: a row, scales; then bytes */
    float *wide = (float *)(void *)x->spaces[thread], *scales = wide + t->cols;
    unsigned char *rows = (unsigned char *)(scales + n), *out = as_is ? rows : rows + n * stride;
    const struct source *source = &x->source.source;
    uint64_t bytes = n * t->cols * dtype_bytes(e->dtype);
    struct range cols = {0, t->cols};
    if (!source->read_rows(source, e->index, row, n, cols, rows, stride, err) ||
        (quantized && !source->read_rows(source, e->index + 1, row, n, (struct range){0, 1},
                                         (unsigned char *)scales, 4, err)) ||
        (!as_is && !convert_rows(x, e, n, rows, quantized ? scales : NULL, wide, out, err)))
        return false;
    atomic_fetch_add(&x->jobs.bytes_done, bytes);
    return io_write_at(x->fds[e->file], file->name, out, bytes,
                       file->header_bytes + e->begin + row * t->cols * dtype_bytes(e->dtype), err);
}

static bool export_tensors(struct export *x, struct tp_error *err)
{
    x->first_job = mem_array(x->plan.n_tensors + 1, sizeof *x->first_job, err);
    x->spaces = mem_array((uint64_t)x->threads, sizeof *x->spaces, err);
    if (!x->first_job || !x->spaces)
        return false;
    for (uint32_t i = 0; i < x->plan.n_tensors; i++) {
        const struct tensor *t = &x->source.whole.tensors[x->plan.tensors[i].index];
        x->first_job[i + 1] = x->first_job[i] + div_ceil(t->rows, block_rows(x, t));
    }
    x->jobs = (struct jobs){.count = x->first_job[x->plan.n_tensors],
                            .run = export_block,
                            .arg = x,
                            .bytes_total = x->plan.bytes,
                            .quiet = x->options->quiet};
    return jobs_run(&x->jobs, x->threads, err);
}

/* ---- files ---- */

static bool create_files(struct export *x, struct tp_error *err)
{
    x->fds = mem_array(x->plan.n_files, sizeof *x->fds, err);
    for (uint32_t i = 0; x->fds && i < x->plan.n_files; i++)
        x->fds[i] = -1;
    for (uint32_t i = 0; x->fds && i < x->plan.n_files; i++) {
        const struct export_file *f = &x->plan.files[i];
        char path[IO_PATH_MAX];
        if (!io_join(path, x->partial, f->name, err) ||
            (io_exists(path) && !io_unlink(path, err)) ||
            (x->fds[i] = io_create(path, err)) < 0 ||
            !io_reserve(x->fds[i], path, f->header_bytes + f->data_bytes, err) ||
            !io_write_at(x->fds[i], path, f->header, f->header_bytes, 0, err))
            return false;
    }
    return x->fds != NULL;
}

static bool sync_files(struct export *x, struct tp_error *err)
{
    for (uint32_t i = 0; i < x->plan.n_files; i++)
        if (!io_sync(x->fds[i], x->plan.files[i].name, err) ||
            !io_close(&x->fds[i], x->plan.files[i].name, err))
            return false;
    return true;
}

static bool write_small(const struct export *x, const char *name, const char *data, size_t n,
                        struct tp_error *err)
{
    char path[IO_PATH_MAX];
    return io_join(path, x->partial, name, err) && io_write_file(path, data, n, err);
}

/* config.json with the dtype of the exported weights: its own key, at its own place. */
static bool write_config(const struct export *x, const char *data, size_t n, struct tp_error *err)
{
    static const char *const names[] = {
        [DTYPE_F32] = "float32", [DTYPE_F16] = "float16", [DTYPE_BF16] = "bfloat16"};
    json_t *root = json_parse("config.json", data, n, TP_E_CF_FILE, err);
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    size_t size;
    if (root)
        json_object_set_new(root, key, json_string(names[x->source.bundle.recipe.dtype]));
    char *text = root ? json_text(root, &size, err) : NULL;
    bool ok = text && write_small(x, "config.json", text, size, err);
    json_decref(root);
    mem_free(text);
    return ok;
}

static bool copy_files(const struct export *x, struct tp_error *err)
{
    const struct bundle *b = &x->source.bundle;
    bool other_dtype = b->model.dtype != DTYPE_NONE && b->model.dtype != b->recipe.dtype;
    for (uint32_t i = 0; i < b->n_files; i++) {
        const char *name = b->files[i].name;
        char *data;
        size_t n;
        if (strcmp(name, BUNDLE_SELFTEST) == 0 || strcmp(name, BUNDLE_TOKENIZER) == 0)
            continue;
        if (!bundle_read_file(b, &b->files[i], &data, &n, err))
            return false;
        bool ok = other_dtype && strcmp(name, "config.json") == 0
                      ? write_config(x, data, n, err)
                      : write_small(x, name, data, n, err);
        mem_free(data);
        if (!ok)
            return false;
    }
    return true;
}

static bool write_index(const struct export *x, struct tp_error *err)
{
    size_t n;
    if (x->plan.n_files == 1)
        return true;
    char *text = export_index_text(&x->plan, &x->source, &n, err);
    bool ok = text && write_small(x, "model.safetensors.index.json", text, n, err);
    mem_free(text);
    return ok;
}

/* ---- the folder ---- */

/* A marker that was not finished is nothing yet. */
static void count_name(void *arg, const char *name)
{
    *(uint64_t *)arg += strcmp(name, ".tpshard-export.tmp") != 0;
}

static bool is_empty(const char *dir, bool *empty, struct tp_error *err)
{
    uint64_t n = 0;
    if (!io_list_dir(dir, count_name, &n, err))
        return false;
    *empty = n == 0;
    return true;
}

static bool check_output(const char *output, struct tp_error *err)
{
    bool empty = false;
    if (!io_exists(output))
        return true;
    if (io_is_dir(output) && !is_empty(output, &empty, err))
        return false;
    return empty ||
           tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: exists and is no empty folder", output);
}

/* A partial folder of this bundle's export is used again; any other is not ours to touch. */
static bool open_partial(struct export *x, struct tp_error *err)
{
    char hex[33], path[IO_PATH_MAX], *found = NULL;
    size_t n = 0;
    bool empty = true;
    hash_to_hex(x->source.bundle.bundle_id, hex);
    int length = snprintf(x->partial, sizeof x->partial, "%s.partial", x->options->output);
    if (length < 0 || (size_t)length >= sizeof x->partial)
        return tp_fail(err, TP_E_LIMIT, "-o: the path is too long");
    if (!io_join(path, x->partial, marker, err))
        return false;
    if (!io_exists(x->partial))
        return io_mkdir(x->partial, err) && io_write_file(path, hex, sizeof hex - 1, err);
    if (io_is_dir(x->partial) && !is_empty(x->partial, &empty, err))
        return false;
    if (!empty && io_exists(path) && !io_read_file(path, 1 << 12, &found, &n, err))
        return false;
    bool ours = io_is_dir(x->partial) &&
                (empty || (n == sizeof hex - 1 && memcmp(found, hex, n) == 0));
    mem_free(found);
    if (!ours)
        return tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: exists and is no unfinished export of this "
                                                "bundle",
                       x->partial);
    return io_write_file(path, hex, sizeof hex - 1, err);
}

/* The marker goes after the rename, so that a partial folder always says whose it is. */
static bool publish(const struct export *x, struct tp_error *err)
{
    char path[IO_PATH_MAX], parent[IO_PATH_MAX];
    const char *output = x->options->output;
    snprintf(parent, sizeof parent, "%.*s", (int)(io_base_name(output) - output), output);
    return io_sync_dir(x->partial, err) && io_rename(x->partial, output, err) &&
           io_sync_dir(*parent ? parent : ".", err) && io_join(path, output, marker, err) &&
           io_unlink(path, err);
}

/* ---- the command ---- */

static void print_notes(const struct export *x)
{
    const struct bundle *b = &x->source.bundle;
    size_t unused = json_array_size(json_object_get(b->source, "unused"));
    if (b->recipe.quant != QUANT_NONE)
        tp_message(TPSHARD, "note", "%s weights become %s: code times scale, rounded",
                   quant_name(b->recipe.quant), dtype_name(b->recipe.dtype));
    if (unused)
        tp_message(TPSHARD, "note", "%zu tensors of the checkpoint that the model does not use "
                                    "are not in the bundle",
                   unused);
}

static bool export_bundle(struct export *x, struct tp_error *err)
{
    const struct options *o = x->options;
    if (o->n_args != 1)
        return tp_fail(err, TP_E_USAGE, "%d arguments given, one BUNDLE expected", o->n_args);
    if (!o->output)
        return tp_fail(err, TP_E_USAGE, "-o is missing: the folder to make");
    double start = progress_now();
    if (!check_output(o->output, err) || !source_bundle_open(&x->source, o->args[0], err) ||
        !export_plan_build(&x->plan, &x->source, EXPORT_FILE_BYTES, err) || !plan_memory(x, err))
        return false;
    if (!o->quiet)
        print_notes(x);
    if (!open_partial(x, err) || !create_files(x, err) || !export_tensors(x, err) ||
        !x->source.source.unchanged(&x->source.source, err) || !sync_files(x, err) ||
        !copy_files(x, err) || !write_index(x, err) || !publish(x, err))
        return false;
    double seconds = progress_now() - start, gb = (double)x->plan.bytes * 1e-9;
    if (!o->quiet)
        fprintf(stderr, "%s: %s: %u tensors in %u file%s, %.3f GB in %.2f s (%.2f GB/s)\n", TPSHARD,
                o->output, x->plan.n_tensors, x->plan.n_files, x->plan.n_files == 1 ? "" : "s", gb,
                seconds, seconds > 0 ? gb / seconds : 0);
    return true;
}

int command_export(int argc, char **argv)
{
    struct tp_error err = {0};
    struct options o;
    struct export x = {.options = &o};
    if (!options_parse(&o, argc, argv, "output,quiet,mem,threads", &err))
        return tp_error_print(TPSHARD, &err);
    if (o.help) {
        fputs(help, stdout);
        return TP_EXIT_OK;
    }
    bool ok = export_bundle(&x, &err);
    for (uint32_t i = 0; x.fds && i < x.plan.n_files; i++)
        io_close(&x.fds[i], x.plan.files[i].name, NULL);
    for (int i = 0; x.spaces && i < x.threads; i++)
        mem_free(x.spaces[i]);
    mem_free(x.fds);
    mem_free(x.spaces);
    mem_free(x.first_job);
    export_plan_free(&x.plan);
    source_bundle_close(&x.source);
    return ok ? TP_EXIT_OK : tp_error_print(TPSHARD, &err);
}
