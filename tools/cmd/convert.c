/* tpshard convert, tpshard reshard: a bundle from a checkpoint, or from another bundle. */
#include "commands.h"

#include "clock.h"
#include "interrupt.h"
#include "model_folder.h"
#include "print_model.h"
#include "print_plan.h"
#include "shown.h"
#include "source_bundle.h"
#include "writer.h"
#include <stdio.h>

static const char convert_help[] =
    "usage: tpshard convert MODEL_DIR -o BUNDLE [options]\n"
    "\n"
    "Convert a Hugging Face folder (config.json, safetensors, tokenizer.json) to a bundle: one "
    "packed\n"
    "file per rank, ready to be mapped, and a manifest. Interrupted, the same command resumes.\n"
    "\n"
    "  -o, --output BUNDLE          folder to make\n"
    "      --tp N                   ranks, 1 to 48 (default 1); nothing has to divide\n"
    "      --dtype keep|f32|bf16|f16  storage and arithmetic (default keep: "
    "config.json's)\n" OPTIONS_QUANT_HELP
    "      --compress none|zstd     independent frames of a few MiB (default none)\n"
    "      --mem SIZE               memory for buffers at most (default 1G)\n"
    "      --threads N              (default: all processors)\n"
    "      --no-selftest            do not record reference results with tprun\n"
    "      --ignore-key NAME        a key of config.json that is not to be refused; may be "
    "repeated\n"
    "      --strict                 a warning about the folder is an error, exit 3\n"
    "      --follow-links           take files that are links out of MODEL_DIR, too\n"
    "      --force                  replace the bundle or export that has the output's name\n"
    "      --restart                begin anew where an unfinished conversion was found\n"
    "      --layers N               the first N layers, to try a large model\n"
    "      --dry-run [--json]       print the plan, write nothing\n"
    "  -q, --quiet                  no notes, no report, no progress; warnings are said\n"
    "  -v, --verbose                what disk is needed and free, time of each phase\n"
    "\n"
    "sizes: K, M, G, T and KiB ... are powers of 1024, KB ... of 1000.\n";

static const char reshard_help[] =
    "usage: tpshard reshard BUNDLE -o OUT --tp N [options]\n"
    "\n"
    "Cut a bundle to another degree, without the checkpoint; the result is what a fresh conversion "
    "gives.\n"
    "\n"
    "  -o, --output OUT  folder to make\n"
    "      --tp N        ranks, 1 to 48\n"
    "      --mem SIZE, --threads N, --force, --restart, -q, -v   as for convert\n";

static void print_times(const struct writer_report *r)
{
    fprintf(stderr, "%s: time: converting %.2f s", TPSHARD, r->convert_seconds);
    if (r->selftest_seconds > 0)
        fprintf(stderr, ", selftest %.2f s", r->selftest_seconds);
    if (r->compress_seconds > 0)
        fprintf(stderr, ", compressing %.2f s", r->compress_seconds);
    fprintf(stderr, ", the rest %.2f s\n",
            r->seconds - r->convert_seconds - r->selftest_seconds - r->compress_seconds);
}

/* The rate is of the converting alone: every byte of the source that was read, every byte of the
 * rank files that was written, or read again. */
static void print_done(const struct options *o, const struct writer_request *request,
                       uint64_t layers_of)
{
    struct writer_report r = writer_last_report();
    uint64_t tp_size = request->tp_size, bytes = r.bytes_written + r.bytes_resumed;
    uint64_t layers = request->source->model->n_layers;
    char text[LAYERS_TEXT_BUF];
    if (o->verbose)
        print_times(&r);
    fprintf(stderr, "%s: ", TPSHARD);
    shown_put(stderr, o->output);
    fprintf(stderr, ": %s%s%llu rank%s, %.3f GB",
            layers < layers_of ? layers_text(text, layers, layers_of) : "",
            layers < layers_of ? ", " : "", (unsigned long long)tp_size, tp_size == 1 ? "" : "s",
            (double)bytes * 1e-9);
    if (!r.bytes_written)
        fprintf(stderr, ", all of it from the interrupted run");
    else if (r.bytes_resumed)
        fprintf(stderr, ", of it %.3f GB from the interrupted run", (double)r.bytes_resumed * 1e-9);
    if (r.bytes_written)
        fprintf(stderr, "; converted in %.2f s (%.2f GB/s read and written)", r.convert_seconds,
                clock_rate((double)(r.bytes_read + bytes) * 1e-9, r.convert_seconds));
    fprintf(stderr, "%s %.2f s in all\n", r.bytes_written ? "," : ";", r.seconds);
}

/* Everything that decides the bytes, so that a resume goes on with the same run only. */
static bool run_hash(const char *command, const struct model_config *model, struct recipe recipe,
                     struct writer_request *request, struct tp_error *err)
{
    size_t n;
    json_t *json = model_config_to_json(model, err);
    char *text = json ? json_text(json, &n, err) : NULL;
    json_decref(json);
    if (!text)
        return false;
    const uint64_t numbers[] = {BUNDLE_FORMAT_VERSION, SHARD_VERSION,    recipe.dtype,
                                request->compress,     request->tp_size, request->selftest,
                                request->n_files};
    struct hash_stream stream;
    hash_start(&stream);
    hash_add(&stream, command, strlen(command) + 1);
    hash_add(&stream, numbers, sizeof numbers);
    hash_add(&stream, recipe.stored, sizeof recipe.stored);
    hash_add(&stream, text, n);
    mem_free(text);
    for (uint32_t i = 0; i < request->n_files; i++) {
        struct hash128 h = hash_bytes(request->files[i].data, request->files[i].size);
        hash_add(&stream, request->files[i].name, strlen(request->files[i].name) + 1);
        hash_add(&stream, &h, sizeof h);
    }
    request->run.hash = hash_end(&stream);
    return true;
}

static bool check_arguments(const struct options *o, struct tp_error *err)
{
    if (!o->output && !o->dry_run)
        return tp_fail(err, TP_E_USAGE, "-o is missing: the folder to make");
    return true;
}

/* What --dry-run shows. */
static bool show(const struct writer_request *request, const struct options *o,
                 struct tp_error *err)
{
    struct room room;
    uint64_t bytes;
    if (!writer_needs(request, &bytes, err) || !room_ask(&room, o->output, bytes, err))
        return false;
    if (!o->quiet)
        room_print(&room, TPSHARD);
    return print_plan(request->source->model, request->source->recipe, request->tp_size, &room,
                      o->json, err);
}

static bool convert(struct model_folder *folder, const struct options *o, struct output *output,
                    struct tp_error *err)
{
    struct writer_request request = {
        .program = TPSHARD,
        .output = output,
        .source = &folder->source.source,
        .tp_size = o->n_tp ? o->tp[0] : 1,
        .compress = o->compress,
        .run = {.inputs = folder->inputs,
                .n_inputs = folder->checkpoint.file_count,
                .restart = o->restart},
        .memory = o->memory,
        .threads = o->threads,
        .quiet = o->quiet,
        .verbose = o->verbose,
        .selftest = !o->no_selftest,
    };
    if (!model_folder_read_files(folder, err))
        return false;
    request.tables = source_checkpoint_bytes(&folder->source);
    request.files = folder->files;
    request.n_files = folder->n_files;
    if (o->dry_run)
        return show(&request, o, err);
    if (!run_hash("convert", &folder->config->model, folder->recipe, &request, err) ||
        !writer_run(&request, err))
        return false;
    if (!o->quiet)
        print_done(o, &request, folder->layers_of);
    return true;
}

static bool decide(struct output *output, const struct options *o, struct tp_error *err)
{
    return o->dry_run || output_decide(output, o->output, o->args[0], o->force, o->threads, err);
}

static bool is_no_bundle(const char *dir, struct tp_error *err)
{
    struct bundle bundle;
    struct tp_error why = {0};
    if (!bundle_open(&bundle, dir, false, &why))
        return true;
    bundle_close(&bundle);
    return tp_fail(err, TP_E_CF_FILE, "%s: is a bundle; tpshard reshard cuts it anew", dir);
}

static bool run_convert(const struct options *options, struct tp_error *err)
{
    struct model_folder folder = {0};
    struct output output = OUTPUT_CLOSED;
    bool ok = check_arguments(options, err) && decide(&output, options, err) &&
              is_no_bundle(options->args[0], err) &&
              model_folder_open(&folder, options->args[0], options, NULL, err) &&
              convert(&folder, options, &output, err);
    model_folder_close(&folder);
    output_close(&output);
    return ok;
}

const struct command command_convert = {
    .name = "convert",
    .id = COMMAND_CONVERT,
    .n_args = 1,
    .args = "one MODEL_DIR",
    .grace_ms = INTERRUPT_GRACE_MS,
    .summary = "a Hugging Face folder to a bundle of per-rank files",
    .help = convert_help,
    .run = run_convert,
};

/* ---- reshard ---- */

static bool read_travelling(const struct bundle *bundle, struct named_bytes *files, uint32_t *n,
                            struct tp_error *err)
{
    for (*n = 0; *n < bundle->n_files; ++*n) {
        char *data;
        size_t size;
        if (!bundle_read_file(bundle, &bundle->files[*n], &data, &size, err))
            return false;
        files[*n] = (struct named_bytes){bundle->files[*n].name, data, size};
    }
    return true;
}

static bool reshard(const struct source_bundle *source, const struct options *o,
                    struct output *output, struct tp_error *err)
{
    const struct bundle *bundle = &source->bundle;
    struct named_bytes files[BUNDLE_FILES_MAX];
    struct named_bytes input = {"bundle", &bundle->bundle_id, sizeof bundle->bundle_id};
    struct writer_request request = {
        .program = TPSHARD,
        .output = output,
        .source = &source->source,
        .tp_size = o->tp[0],
        .compress = bundle->compress,
        .run = {.inputs = &input, .n_inputs = 1, .restart = o->restart},
        .files = files,
        .memory = o->memory,
        .threads = o->threads,
        .quiet = o->quiet,
        .verbose = o->verbose,
    };
    bool ok = read_travelling(bundle, files, &request.n_files, err) &&
              run_hash("reshard", &bundle->model, bundle->recipe, &request, err) &&
              writer_run(&request, err);
    for (uint32_t i = 0; i < request.n_files; i++)
        mem_free((void *)(uintptr_t)files[i].data);
    if (ok && !o->quiet)
        print_done(o, &request, bundle->layers_of);
    return ok;
}

static bool run_reshard(const struct options *options, struct tp_error *err)
{
    struct source_bundle source = {0};
    struct output output = OUTPUT_CLOSED;
    bool ok = check_arguments(options, err);
    if (ok && !options->n_tp)
        ok = tp_fail(err, TP_E_USAGE, "--tp is missing: the degree to cut to");
    ok = ok && decide(&output, options, err) &&
         source_bundle_open(&source, options->args[0], err) &&
         reshard(&source, options, &output, err);
    source_bundle_close(&source);
    output_close(&output);
    return ok;
}

const struct command command_reshard = {
    .name = "reshard",
    .id = COMMAND_RESHARD,
    .n_args = 1,
    .args = "one BUNDLE",
    .grace_ms = INTERRUPT_GRACE_MS,
    .summary = "a bundle to another degree, without the checkpoint",
    .help = reshard_help,
    .run = run_reshard,
};
