/* tpshard export: a bundle back to a Hugging Face folder that transformers loads. */
#include "commands.h"

#include "checked.h"
#include "clock.h"
#include "export_config.h"
#include "export_plan.h"
#include "interrupt.h"
#include "jobs.h"
#include "output.h"
#include "print_model.h"
#include "shown.h"
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
    "  -o, --output MODEL_DIR  folder to make\n"
    "      --force             replace the bundle or export that has its name\n"
    "      --restart           begin anew where something else unfinished was found\n"
    "      --mem SIZE          memory for buffers at most (default 1G)\n"
    "      --threads N         (default: all processors)\n"
    "  -q, --quiet             no notes, no report, no progress; warnings are said\n"
    "  -v, --verbose           what disk is needed and free\n"
    "\n"
    "The work goes on in MODEL_DIR.partial, which is renamed when all is done; the same command "
    "begins\n"
    "again after an interruption.\n";

enum { BLOCK_BYTES = 64 << 20 }; /* of rows converted at once, where memory allows */

struct export
{
    const struct options *options;
    struct source_bundle source;
    struct export_plan plan;
    struct output output;
    int *fds;                 /* [n_files] */
    struct bundle_file *made; /* [n_made] what its manifest says */
    uint32_t n_made;
    json_t *templates;    /* NAME to text, of the folder additional_chat_templates; or NULL */
    uint64_t *first_job;  /* [n_tensors + 1] */
    uint64_t block_bytes; /* f32 and stored bytes of the rows of a block together, about */
    int threads;
    struct jobs jobs;
};

/* ---- memory ---- */

/* Stored rows, a row as f32, rows as exported, scales. */
static uint64_t row_space(const struct tensor *t)
{
    return tensor_row_bytes(t) + t->cols * 4 + 4;
}

static uint64_t block_rows(const struct export *x, const struct tensor *t)
{
    uint64_t rows = (x->block_bytes - t->cols * 4) / row_space(t) / 16 * 16;
    return rows ? rows : 16;
}

/* As many threads as --mem gives room to, then as large blocks. */
static bool plan_memory(struct export *x, struct tp_error *err)
{
    uint64_t least = 0, memory = x->options->memory, reader = x->source.source.space_bytes;
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
    return true;
}

/* ---- tensors ---- */

static bool not_exact(const struct export *x, const struct tensor *t, struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    return tp_fail(err, TP_E_MANIFEST,
                   "%s: tensor \"%s\": has values that the manifest's dtype "
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

/* n stored rows to exported ones, by way of one row as f32. Only what codes mean is rounded. */
static bool convert_rows(const struct export *x, const struct export_tensor *e, uint64_t n,
                         const unsigned char *rows, const uint32_t *scales, float *wide,
                         unsigned char *out, struct tp_error *err)
{
    const struct tensor *t = &x->source.whole.tensors[e->index];
    uint64_t from = tensor_row_bytes(t), to = t->cols * dtype_bytes(e->dtype);
    bool rounded = stored_quantized(t->stored);
    for (uint64_t i = 0; i < n; i++) {
        values_of_row(t, rows + i * from, scales ? &scales[i] : NULL, e->dtype != DTYPE_F32, wide);
        bool fits = values_narrow(e->dtype, wide, t->cols, out + i * to);
        if (rounded && !fits)
            return tp_fail(err, TP_E_RANGE, "%s: a quantized value is beyond the range of %s",
                           x->source.bundle.dir, dtype_name(e->dtype));
        if (!rounded && !is_exact(e->dtype, wide, t->cols, out + i * to))
            return not_exact(x, t, err);
    }
    return true;
}

static bool export_block(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct export *x = arg;
    uint32_t at = jobs_owner(x->first_job, x->plan.n_tensors, job);
    const struct export_tensor *e = &x->plan.tensors[at];
    const struct tensor *t = &x->source.whole.tensors[e->index];
    const struct export_file *file = &x->plan.files[e->file];
    bool scaled = t->layout == LAYOUT_PANEL16 && t->stored->row_scale;
    bool as_is = t->layout == LAYOUT_PANEL16 && t->stored->id == (unsigned)e->dtype &&
                 tensor_row_bytes(t) == t->cols * dtype_bytes(e->dtype); /* not padded either */
    uint64_t most = block_rows(x, t), row = (job - x->first_job[at]) * most, n = t->rows - row;
    uint64_t stride = tensor_row_bytes(t);
    n = min_u64(n, most);
    const struct source *source = &x->source.source;
    /* the reader's; f32, for alignment: a row, scales; then bytes */
    float *wide = (float *)(void *)(space + source->space_bytes);
    uint32_t *scales = (uint32_t *)(void *)(wide + t->cols);
    unsigned char *rows = (unsigned char *)(scales + n), *out = as_is ? rows : rows + n * stride;
    uint64_t bytes = n * t->cols * dtype_bytes(e->dtype);
    char path[IO_PATH_MAX];
    if (!source->read_rows(source, e->index, row, n, t->own_leaves, rows, stride, space, err) ||
        (scaled && !source->read_rows(source, e->index + 1, row, n, (struct range){0, 1},
                                      (unsigned char *)scales, 4, space, err)) ||
        (!as_is && !convert_rows(x, e, n, rows, scaled ? scales : NULL, wide, out, err)))
        return false;
    atomic_fetch_add(&x->jobs.bytes_done, bytes);
    folder_path(path, &x->output.stage.dir, file->name);
    return io_write_at(x->fds[e->file], path, out, bytes,
                       file->header_bytes + e->begin + row * t->cols * dtype_bytes(e->dtype), err);
}

static bool export_tensors(struct export *x, struct tp_error *err)
{
    struct progress progress;
    x->first_job = mem_array(x->plan.n_tensors + 1, sizeof *x->first_job, err);
    if (!x->first_job)
        return false;
    for (uint32_t i = 0; i < x->plan.n_tensors; i++) {
        const struct tensor *t = &x->source.whole.tensors[x->plan.tensors[i].index];
        x->first_job[i + 1] = x->first_job[i] + div_ceil(t->rows, block_rows(x, t));
    }
    x->jobs = (struct jobs){.count = x->first_job[x->plan.n_tensors],
                            .space_bytes = x->source.source.space_bytes + x->block_bytes,
                            .run = export_block,
                            .arg = x,
                            .progress = &progress};
    progress_start(&progress, x->options->quiet ? NULL : TPSHARD, "exporting", x->plan.bytes);
    bool ok = jobs_run(&x->jobs, x->threads, err);
    progress_end(&progress);
    return ok;
}

/* ---- files ---- */

/* Files of the bundle that an export has no use for. */
static bool is_bundles_own(const char *name)
{
    return strcmp(name, BUNDLE_SELFTEST) == 0 || strcmp(name, BUNDLE_TOKENIZER) == 0 ||
           strcmp(name, BUNDLE_TEMPLATES) == 0;
}

/* The name of the file of a template; "" where NAME is none that a file could have, which the
 * manifest names with its folder. */
static const char *template_file(const char *name, char file[256])
{
    size_t n = (size_t)snprintf(file, 256, "%s.jinja", name);
    if (n > 255 - sizeof TEMPLATES_FOLDER || !io_name_is_plain(file, n))
        *file = '\0';
    return file;
}

/* Additional chat templates, which the bundle has as one file. */
static bool read_templates(struct export *x, struct tp_error *err)
{
    static const char file[] = BUNDLE_TEMPLATES;
    const struct bundle_file *f = bundle_find_file(&x->source.bundle, file);
    char *data, name[256];
    size_t n;
    const char *key;
    json_t *text;
    if (!f)
        return true;
    if (!bundle_read_file(&x->source.bundle, f, &data, &n, err))
        return false;
    x->templates = json_parse(file, data, n, TP_E_TK_INVALID, err);
    mem_free(data);
    if (x->templates && !json_is_object(x->templates))
        return tp_fail(err, TP_E_TK_INVALID, "%s: an object expected", file);
    json_object_foreach(x->templates, key, text)
    {
        if (!*template_file(key, name) || !(json_is_string(text) || json_is_null(text)))
            return tp_fail(err, TP_E_TK_INVALID, "%s: \"%s\": is no template's name and text", file,
                           tp_name_cut((char[TP_NAME_BUF]){0}, key, strlen(key)));
    }
    return x->templates != NULL;
}

/* Every name that the folder is going to have; made is what the manifest will list. */
static bool list_names(struct export *x, const char ***names, uint32_t *n, struct tp_error *err)
{
    const struct bundle *b = &x->source.bundle;
    uint64_t most = (uint64_t)x->plan.n_files + b->n_files + json_object_size(x->templates) + 3;
    *names = mem_arena_alloc(&x->plan.arena, most * sizeof **names, err);
    x->made = mem_arena_alloc(&x->plan.arena, most * sizeof *x->made, err);
    *n = 0;
    if (!*names || !x->made)
        return false;
    for (uint32_t i = 0; i < x->plan.n_files; i++)
        (*names)[(*n)++] = x->plan.files[i].name;
    for (uint32_t i = 0; i < b->n_files; i++)
        if (!is_bundles_own(b->files[i].name))
            (*names)[(*n)++] = b->files[i].name;
    if (x->templates)
        (*names)[(*n)++] = TEMPLATES_FOLDER;
    if (x->plan.n_files > 1)
        (*names)[(*n)++] = EXPORT_INDEX;
    (*names)[(*n)++] = BUNDLE_EXPORT;
    return true;
}

static void add_made(struct export *x, const char *folder, const char *name, uint64_t bytes,
                     struct hash128 hash)
{
    struct bundle_file *f = &x->made[x->n_made++];
    *f = (struct bundle_file){.bytes = bytes, .hash = hash};
    snprintf(f->name, sizeof f->name, "%s%s", folder, name);
}

static bool create_files(struct export *x, struct tp_error *err)
{
    struct stage_file *list = mem_array(x->plan.n_files, sizeof *list, err);
    enum stage_found found;
    bool ok = list && (x->fds = mem_array(x->plan.n_files, sizeof *x->fds, err)) != NULL;
    for (uint32_t i = 0; ok && i < x->plan.n_files; i++) {
        x->fds[i] = -1;
        list[i] = (struct stage_file){.name = x->plan.files[i].name, .proof = STAGE_STAMPED};
    }
    ok = ok && stage_list(&x->output.stage, list, x->plan.n_files, err);
    for (uint32_t i = 0; ok && i < x->plan.n_files; i++) {
        const struct export_file *f = &x->plan.files[i];
        x->fds[i] = stage_file_open(&x->output.stage, f->name, STAGE_TOP,
                                    f->header_bytes + f->data_bytes, &found, err);
        ok = x->fds[i] >= 0;
    }
    mem_free(list);
    return ok;
}

/* The hash is of what can be read. */
static bool hash_file(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct export *x = arg;
    struct io_map map;
    (void)space;
    char path[IO_PATH_MAX];
    folder_path(path, &x->output.stage.dir, x->made[job].name);
    if (!io_map(x->fds[job], path, x->made[job].bytes, &map, err))
        return false;
    x->made[job].hash = hash_bytes(map.data, map.size);
    io_unmap(&map);
    return true;
}

/* The header comes last, over the stamp. */
static bool finish_files(struct export *x, struct tp_error *err)
{
    struct jobs jobs = {.count = x->plan.n_files, .run = hash_file, .arg = x};
    for (uint32_t i = 0; i < x->plan.n_files; i++) {
        const struct export_file *f = &x->plan.files[i];
        add_made(x, "", f->name, f->header_bytes + f->data_bytes, (struct hash128){0});
        if (!stage_file_finish(&x->output.stage, f->name, STAGE_TOP, x->fds[i],
                               (const unsigned char *)f->header, f->header_bytes, err))
            return false;
    }
    return jobs_run(&jobs, x->threads, err);
}

static bool put_small(struct export *x, const char *name, const char *data, size_t n,
                      struct tp_error *err)
{
    struct stage_file file = {name, STAGE_WHOLE, data, n, STAGE_TOP};
    add_made(x, "", name, n, hash_bytes(data, n));
    return stage_list(&x->output.stage, &file, 1, err) &&
           stage_put(&x->output.stage, name, STAGE_TOP, data, n, err);
}

static bool write_config(struct export *x, const char *data, size_t n, struct tp_error *err)
{
    size_t size;
    char *text = export_config_text(&x->source.bundle, data, n, &size, err);
    bool ok = text && put_small(x, "config.json", text, size, err);
    mem_free(text);
    return ok;
}

static bool copy_files(struct export *x, struct tp_error *err)
{
    const struct bundle *b = &x->source.bundle;
    bool change = export_config_changes(b);
    for (uint32_t i = 0; i < b->n_files; i++) {
        const char *name = b->files[i].name;
        char *data;
        size_t n;
        if (is_bundles_own(name))
            continue;
        if (!bundle_read_file(b, &b->files[i], &data, &n, err))
            return false;
        bool ok = change && strcmp(name, "config.json") == 0 ? write_config(x, data, n, err)
                                                             : put_small(x, name, data, n, err);
        mem_free(data);
        if (!ok)
            return false;
    }
    return true;
}

static bool put_template(struct export *x, const char *name, const json_t *text,
                         struct tp_error *err)
{
    struct stage *stage = &x->output.stage;
    const char *data = json_string_value(text);
    size_t n = json_string_length(text);
    struct stage_file file = {name, STAGE_WHOLE, data, n, STAGE_TEMPLATES};
    add_made(x, TEMPLATES_FOLDER "/", name, n, hash_bytes(data, n));
    return stage_list(stage, &file, 1, err) &&
           stage_put(stage, name, STAGE_TEMPLATES, data, n, err);
}

static bool write_templates(struct export *x, struct tp_error *err)
{
    const char *key;
    char name[256];
    json_t *text;
    bool ok = true, made = false;
    json_object_foreach(x->templates, key, text)
    {
        if (!ok || !json_is_string(text)) /* convert has left it out */
            continue;
        ok = (made || stage_make_folder(&x->output.stage, STAGE_TEMPLATES, err)) &&
             put_template(x, template_file(key, name), text, err);
        made = true;
    }
    return ok;
}

static bool write_index(struct export *x, struct tp_error *err)
{
    size_t n;
    if (x->plan.n_files == 1)
        return true;
    char *text = export_index_text(&x->plan, &x->source, &n, err);
    bool ok = text && put_small(x, EXPORT_INDEX, text, n, err);
    mem_free(text);
    return ok;
}

/* ---- the folder ---- */

/* Which bundle, to which files: an unfinished export of it is begun again. */
static struct hash128 run_hash(const struct export *x)
{
    static const char what[] = "export 1";
    struct hash_stream stream;
    hash_start(&stream);
    hash_add(&stream, what, sizeof what);
    hash_add(&stream, &x->source.bundle.bundle_id, sizeof x->source.bundle.bundle_id);
    return hash_end(&stream);
}

/* Headers again: the index says less than they do. */
static uint64_t bytes_on_disk(const struct export *x)
{
    enum { FOLDERS = 16 << 10, NAMED = 512 }; /* a file's entries in log and manifest */
    const struct bundle *b = &x->source.bundle;
    const char *key;
    json_t *text;
    uint64_t bytes = FOLDERS + room_of_file((x->plan.n_files + b->n_files) * (uint64_t)NAMED);
    for (uint32_t i = 0; i < x->plan.n_files; i++)
        bytes += room_of_file(x->plan.files[i].header_bytes + x->plan.files[i].data_bytes) +
                 (x->plan.n_files > 1 ? x->plan.files[i].header_bytes : 0);
    for (uint32_t i = 0; i < b->n_files; i++)
        bytes += is_bundles_own(b->files[i].name) ? 0 : room_of_file(b->files[i].bytes);
    json_object_foreach(x->templates, key, text)
    {
        bytes += room_of_file(json_string_length(text)) + NAMED;
    }
    return bytes;
}

static bool open_output(struct export *x, bool *done, struct tp_error *err)
{
    const char **names;
    uint32_t n;
    struct stage_run run = {.hash = run_hash(x), .restart = x->options->restart};
    return read_templates(x, err) && list_names(x, &names, &n, err) &&
           output_open(&x->output, &run, names, n, bytes_on_disk(x), done, err) &&
           (*done || x->output.stage.n_names == 0 ||
            stage_begin_again(&x->output.stage, &run, err));
}

static bool publish(struct export *x, struct tp_error *err)
{
    size_t n;
    uint32_t n_made = x->n_made; /* without itself */
    char *text = owned_export_text(x->source.bundle.bundle_id, x->made, n_made, &n, err);
    bool ok = text && put_small(x, BUNDLE_EXPORT, text, n, err) &&
              output_publish(&x->output, hash_bytes(text, n), err);
    mem_free(text);
    return ok;
}

/* ---- the command ---- */

static void print_notes(const struct export *x)
{
    const struct bundle *b = &x->source.bundle;
    size_t unused = json_array_size(json_object_get(b->source, "unused"));
    const char *quant = recipe_quant_name(&b->recipe);
    char layers[LAYERS_TEXT_BUF];
    if (strcmp(quant, "none") != 0)
        tp_note("%s weights become %s: what the codes mean, rounded", quant,
                dtype_name(b->recipe.dtype));
    if (b->model.n_layers < b->layers_of)
        tp_note("the %s of the model are exported; config.json says so",
                layers_text(layers, b->model.n_layers, b->layers_of));
    if (unused)
        tp_note("%zu tensor%s of the checkpoint that the model does not use %s not in the bundle",
                unused, unused == 1 ? "" : "s", unused == 1 ? "is" : "are");
}

static bool export_bundle(struct export *x, struct tp_error *err)
{
    const struct options *o = x->options;
    if (!o->output)
        return tp_fail(err, TP_E_USAGE, "-o is missing: the folder to make");
    double start = clock_seconds();
    bool done;
    interrupt_say("%.255s: interrupted; run the same command again to begin anew", o->output);
    if (!output_decide(&x->output, o->output, o->args[0], o->force, o->threads, err) ||
        !source_bundle_open(&x->source, o->args[0], err) ||
        !export_plan_build(&x->plan, &x->source, EXPORT_FILE_BYTES, err) || !plan_memory(x, err))
        return false;
    print_notes(x);
    if (!open_output(x, &done, err))
        return false;
    if (!done && o->verbose)
        room_print(&x->output.room, TPSHARD);
    if (done && !x->source.source.check(&x->source.source, o->threads, err))
        return false;
    if (!done && (!create_files(x, err) || !export_tensors(x, err) ||
                  !x->source.source.unchanged(&x->source.source, err) || !finish_files(x, err) ||
                  !copy_files(x, err) || !write_templates(x, err) || !write_index(x, err) ||
                  !publish(x, err)))
        return false;
    interrupt_off(TP_EXIT_OK);
    double seconds = clock_seconds() - start, gb = (double)x->plan.bytes * 1e-9;
    if (o->quiet)
        return true;
    fprintf(stderr, "%s: ", TPSHARD);
    shown_put(stderr, o->output);
    fprintf(stderr, ": %u tensors in %u file%s, %.3f GB in %.2f s (%.2f GB/s)\n", x->plan.n_tensors,
            x->plan.n_files, x->plan.n_files == 1 ? "" : "s", gb, seconds, clock_rate(gb, seconds));
    return true;
}

static bool run_export(const struct options *options, struct tp_error *err)
{
    struct export x = {.options = options, .output = OUTPUT_CLOSED};
    bool ok = export_bundle(&x, err);
    for (uint32_t i = 0; x.fds && i < x.plan.n_files; i++)
        io_close(&x.fds[i], x.plan.files[i].name, NULL);
    json_decref(x.templates);
    mem_free(x.fds);
    mem_free(x.first_job);
    export_plan_free(&x.plan);
    source_bundle_close(&x.source);
    output_close(&x.output);
    return ok;
}

const struct command command_export = {
    .name = "export",
    .id = COMMAND_EXPORT,
    .n_args = 1,
    .args = "one BUNDLE",
    .grace_ms = INTERRUPT_GRACE_MS,
    .summary = "a bundle back to a Hugging Face folder",
    .help = help,
    .run = run_export,
};
