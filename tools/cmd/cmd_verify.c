/* tpshard verify: every byte of a bundle against its hashes; with --against every value against a
 * checkpoint. */
#include "commands.h"

#include "against.h"
#include "chat_digest.h"
#include "checked.h"
#include "clock.h"
#include "differ.h"
#include "folder.h"
#include "jobs.h"
#include "shown.h"
#include <stdio.h>

static const char help[] =
    "usage: tpshard verify BUNDLE [--against MODEL_DIR] [options]\n"
    "\n"
    "Check every byte of a bundle: the manifest's digest, the files that travel along, every "
    "header, table,\n"
    "chunk and padding of the rank files, and that ranks which hold the same values hold the "
    "same values.\n"
    "The first damage is named with its file and tensor; exit status 7.\n"
    "\n"
    "      --against MODEL_DIR  convert the checkpoint again, in memory, and compare every value\n"
    "      --ignore-key NAME    as it was given to convert\n"
    "      --threads N          (default: all processors)\n"
    "  -q, --quiet              no notes, no report, no progress; warnings are said\n";

struct verify {
    const struct options *options;
    struct source_bundle source;
    struct against against;
    uint64_t first_job[PARTITION_TP_MAX + 1]; /* of a rank: its chunks, then its padding */
    struct jobs jobs;
};

/* ---- chunks ---- */

static bool check_values(const struct verify *v, uint64_t rank, const struct tensor *t, uint32_t c,
                         unsigned char *raw, struct tp_error *err)
{
    const struct shard *shard = &v->source.shards[rank];
    const struct rank_plan *plan = &v->source.bundle.plans[rank];
    uint64_t n = tensor_chunk_bytes(t, c), most = align_up(v->source.chunk_bytes, 64);
    unsigned char *scratch = raw + most, *space = scratch + most;
    bool ok = shard_read_chunk(shard, t, c, raw, scratch, err);
    if (ok && !hash_equal(hash_bytes(raw, n), shard->head.chunks[t->first_chunk + c].raw_hash)) {
        char name[TENSOR_NAME_MAX];
        ok = tp_fail(err, TP_E_SHARD_HASH,
                     "%s: tensor \"%s\": chunk %u of %u: decoded, the hash "
                     "does not match",
                     shard->path, tensor_name(name, t->role, t->layer, t->part), c, t->n_chunks);
    }
    if (ok && v->options->against)
        ok = against_chunk(&v->against, rank, (uint32_t)(t - plan->tensors), c, raw, space, scratch,
                           err);
    return ok;
}

static bool check_job(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct verify *v = arg;
    uint64_t rank = jobs_owner(v->first_job, (uint32_t)v->source.bundle.tp_size, job);
    const struct shard *shard = &v->source.shards[rank];
    const struct rank_plan *plan = &v->source.bundle.plans[rank];
    uint64_t chunk = job - v->first_job[rank];
    if (chunk == plan->n_chunks)
        return shard_check_padding(shard, plan, err);
    const struct tensor *t = rank_plan_of_chunk(plan, chunk);
    uint32_t c = (uint32_t)chunk - t->first_chunk;
    bool plain = shard->head.compress == COMPRESS_NONE && !v->options->against;
    atomic_fetch_add(&v->jobs.bytes_done, shard->head.chunks[chunk].file_bytes);
    return plain ? shard_check_chunk(shard, t, c, err) : check_values(v, rank, t, c, space, err);
}

static bool check_chunks(struct verify *v, struct tp_error *err)
{
    const struct bundle *bundle = &v->source.bundle;
    struct progress progress;
    uint64_t bytes = 0;
    v->jobs = (struct jobs){
        .space_bytes = 2 * align_up(v->source.chunk_bytes, 64) +
                       (v->options->against ? against_space_bytes(&v->against) : 0),
        .run = check_job,
        .arg = v,
        .progress = &progress,
    };
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        v->first_job[r + 1] = v->first_job[r] + bundle->plans[r].n_chunks + 1;
        bytes += v->source.shards[r].head.data_file_bytes;
    }
    v->jobs.count = v->first_job[bundle->tp_size];
    progress_start(&progress, v->options->quiet ? NULL : TPSHARD, "checking", bytes);
    bool ok = jobs_run(&v->jobs, v->options->threads, err);
    progress_end(&progress);
    return ok;
}

/* ---- values that several ranks hold ---- */

static bool shared_differ(const struct verify *v, uint64_t a, uint64_t b, const struct tensor *t,
                          uint64_t row, struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    return tp_fail(err, TP_E_VALUE_DIFFERS,
                   "%s: tensor \"%s\": row %llu is not what rank %llu "
                   "holds",
                   io_base_name(v->source.shards[b].path),
                   tensor_name(name, t->role, t->layer, t->part), (unsigned long long)row,
                   (unsigned long long)a);
}

static bool compare_rows(const struct verify *v, uint32_t index, uint64_t a, uint64_t b,
                         struct range rows, unsigned char *space, struct tp_error *err)
{
    const struct tensor *t = &v->source.bundle.plans[b].tensors[index];
    uint64_t stride = tensor_row_bytes(t), most = max_u64(SHARD_CHUNK_BYTES / stride, 16);
    unsigned char *of_a = mem_array(2 * most, stride, err);
    bool ok = of_a != NULL;
    for (uint64_t row = rows.begin; ok && row < rows.end; row += most) {
        unsigned char *of_b = of_a + most * stride;
        uint64_t n = rows.end - row < most ? rows.end - row : most;
        struct range part = {row, row + n};
        ok = source_bundle_read_rank(&v->source, a, index, part, t->own_leaves, of_a, stride, space,
                                     err) &&
             source_bundle_read_rank(&v->source, b, index, part, t->own_leaves, of_b, stride, space,
                                     err);
        for (uint64_t i = 0; ok && i < n; i++)
            if (memcmp(of_a + i * stride, of_b + i * stride, stride) != 0)
                ok = shared_differ(v, a, b, t, row + i, err);
    }
    mem_free(of_a);
    return ok;
}

/* Columns are never shared in part: a tensor is cut by columns or has whole rows. */
static bool check_shared(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct verify *v = arg;
    uint32_t index = (uint32_t)job;
    const struct tensor *before = NULL;
    for (uint64_t r = 0, last = 0; r < v->source.bundle.tp_size; r++) {
        const struct tensor *t = &v->source.bundle.plans[r].tensors[index];
        if (t->n_chunks == 0)
            continue;
        if (before && t->own_cols.begin < before->own_cols.end &&
            t->own_rows.begin < before->own_rows.end &&
            !compare_rows(v, index, last, r,
                          (struct range){t->own_rows.begin, before->own_rows.end}, space, err))
            return false;
        before = t;
        last = r;
    }
    return true;
}

/* ---- the manifest ---- */

static bool check_hashes(const struct verify *v, struct tp_error *err)
{
    const struct bundle *bundle = &v->source.bundle;
    const json_t *ranks = json_object_get(bundle->root, "ranks");
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        const struct rank_plan *plan = &bundle->plans[r];
        const json_t *list = json_object_get(json_array_get(ranks, r), "tensors");
        for (uint32_t i = 0; i < plan->n_tensors; i++) {
            const char *hex = json_string_value(json_object_get(json_array_get(list, i), "hash"));
            const struct tensor *t = &plan->tensors[i];
            char name[TENSOR_NAME_MAX], want[33];
            hash_to_hex(shard_tensor_hash(t, v->source.shards[r].head.chunks), want);
            if (!hex || strcmp(hex, want) != 0)
                return tp_fail(err, TP_E_SHARD_HASH,
                               "%s: tensor \"%s\": the table's hash is not "
                               "the manifest's",
                               v->source.shards[r].path,
                               tensor_name(name, t->role, t->layer, t->part));
        }
    }
    return true;
}

/* The digests of chat templates, from the compiled tokenizer. */
static bool find_templates(const struct bundle *bundle, json_t **templates, struct tp_error *err)
{
    const struct bundle_file *file = bundle_find_file(bundle, BUNDLE_TOKENIZER);
    char *data;
    size_t n;
    *templates = NULL;
    if (!file)
        return true;
    if (!bundle_read_file(bundle, file, &data, &n, err))
        return false;
    bool ok = chat_digests(data, n, templates, err);
    mem_free(data);
    return ok;
}

/* Every other field is what model, recipe and rank files imply: write the manifest again, and
 * compare. */
static bool check_manifest(struct verify *v, struct tp_error *err)
{
    struct bundle *bundle = &v->source.bundle;
    size_t n;
    json_t *templates;
    if (!find_templates(bundle, &templates, err))
        return false;
    bundle->templates = templates;
    struct shard_head *heads = mem_array(bundle->tp_size, sizeof *heads, err);
    for (uint64_t r = 0; heads && r < bundle->tp_size; r++)
        heads[r] = v->source.shards[r].head;
    char *text = heads ? bundle_manifest_text(bundle, heads, &n, err) : NULL;
    mem_free(heads);
    bundle->templates = NULL;
    json_decref(templates);
    json_t *again = text ? json_parse(BUNDLE_MANIFEST, text, n, TP_E_MANIFEST, err) : NULL;
    mem_free(text);
    if (!again)
        return false;
    /* the digest is of the text, and checked by bundle_open */
    json_object_set_new(again, "digest", json_incref(json_object_get(bundle->root, "digest")));
    bool ok = json_equal(again, bundle->root) ||
              tp_fail(err, TP_E_MANIFEST, "%s: %s: not what model, recipe and rank files imply",
                      bundle->dir, BUNDLE_MANIFEST);
    json_decref(again);
    return ok;
}

/* And cut the model of config.json to the layers that the bundle has. */
static bool check_layers_of(const struct bundle *bundle, struct model_config *model,
                            struct tp_error *err)
{
    if (model->n_layers != bundle->layers_of)
        return tp_fail(err, TP_E_VALUE_DIFFERS,
                       "%s: the model is of %llu layers, config.json has %llu", bundle->dir,
                       (unsigned long long)bundle->layers_of, (unsigned long long)model->n_layers);
    return model_config_take_layers(model, bundle->model.n_layers, bundle->dir, err);
}

/* The manifest's model is that of the config.json that travels along; what convert was told to
 * ignore there does not matter here. */
static bool check_config(const struct verify *v, struct tp_error *err)
{
    enum { KEYS_MAX = 1024 };
    const struct bundle *bundle = &v->source.bundle;
    const struct bundle_file *file = bundle_find_file(bundle, "config.json");
    const char *keys[KEYS_MAX], *key;
    struct hf_options options = {keys, 0, false, NULL};
    char *text;
    size_t n;
    json_t *value;
    if (!file)
        return tp_fail(err, TP_E_MANIFEST, "%s: files: config.json is missing", bundle->dir);
    if (!bundle_read_file(bundle, file, &text, &n, err))
        return false;
    struct hf_config *config = mem_alloc(sizeof *config, err);
    json_t *root = config ? json_parse_wide("config.json", text, n, TP_E_CF_FILE, err) : NULL;
    json_object_foreach(root, key, value) if (options.n_ignore_keys < KEYS_MAX)
        keys[options.n_ignore_keys++] = key;
    bool ok = root && hf_config_parse("config.json", text, n, &options, config, err) &&
              check_layers_of(bundle, &config->model, err) &&
              model_equals(&bundle->model, &config->model, bundle->dir, "config.json", err);
    json_decref(root);
    mem_free(config);
    mem_free(text);
    return ok;
}

/* ---- names that the manifest does not list ---- */

static bool is_listed(const struct bundle *bundle, const char *name)
{
    char file[RANK_FILE_NAME_MAX];
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        if (strcmp(name, rank_file_name(file, r, bundle->tp_size)) == 0)
            return true;
    return strcmp(name, BUNDLE_MANIFEST) == 0 || bundle_find_file(bundle, name);
}

/* They do no harm, and are not ours to judge. */
static bool note_others(const struct bundle *bundle, struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names = {0};
    struct folder folder;
    const char *first = NULL;
    size_t others = 0;
    bool ok =
        folder_open(&folder, bundle->dir, err) && folder_read_names(&folder, &arena, &names, err);
    for (size_t i = 0; ok && i < names.count; i++)
        if (!is_listed(bundle, names.list[i]) && others++ == 0)
            first = names.list[i];
    if (others)
        tp_note("%s: %zu name%s that the manifest does not list, \"%.255s\" the first", bundle->dir,
                others, others == 1 ? "" : "s", first);
    folder_close(&folder);
    mem_arena_free(&arena);
    return ok;
}

/* ---- the command ---- */

static bool verify(struct verify *v, struct tp_error *err)
{
    const struct options *o = v->options;
    double start = clock_seconds();
    if (!source_bundle_open(&v->source, o->args[0], err) ||
        !bundle_check_files(&v->source.bundle, err) || !check_hashes(v, err) ||
        !check_manifest(v, err) || !check_config(v, err))
        return false;
    if (o->against && (!against_open(&v->against, &v->source, o->against, o, err) ||
                       !against_prepare(&v->against, o->threads, err)))
        return false;
    struct jobs shared = {.count = v->source.whole.n_tensors,
                          .space_bytes = v->source.source.space_bytes,
                          .run = check_shared,
                          .arg = v};
    if (!check_chunks(v, err) || !jobs_run(&shared, o->threads, err) ||
        !v->source.source.unchanged(&v->source.source, err) ||
        (o->against &&
         !v->against.folder.source.source.unchanged(&v->against.folder.source.source, err)))
        return false;
    if (o->quiet)
        return true;
    if (!note_others(&v->source.bundle, err))
        return false;
    uint64_t bytes = 0;
    for (uint64_t r = 0; r < v->source.bundle.tp_size; r++)
        bytes += v->source.shards[r].file_bytes;
    double seconds = clock_seconds() - start, gb = (double)bytes * 1e-9;
    shown_put(stdout, o->args[0]);
    printf(": %s", o->against ? "every byte, and every value of " : "every byte");
    shown_put(stdout, o->against ? o->against : "");
    printf(" as it should be: %llu rank file%s and %u others, %.3f GB in %.2f s (%.2f GB/s)\n",
           (unsigned long long)v->source.bundle.tp_size, v->source.bundle.tp_size == 1 ? "" : "s",
           v->source.bundle.n_files + 1, gb, seconds, clock_rate(gb, seconds));
    return true;
}

static bool run_verify(const struct options *options, struct tp_error *err)
{
    struct verify v = {.options = options};
    bool ok = verify(&v, err);
    against_close(&v.against);
    source_bundle_close(&v.source);
    return ok;
}

const struct command command_verify = {
    .name = "verify",
    .id = COMMAND_VERIFY,
    .n_args = 1,
    .args = "one BUNDLE",
    .summary = "every byte and every hash; --against: every value of a checkpoint",
    .help = help,
    .run = run_verify,
};
