/* Reading a bundle: the manifest against its own digest, then against the plan it implies. */
#include "bundle.h"

#include "checked.h"
#include "folder.h"
#include "link.h"
#include "sealed.h"
#include "text.h"

static bool get_hash(const struct json_in *in, const char *key, struct hash128 *out,
                     struct tp_error *err)
{
    const char *hex;
    if (!json_get_string(in, key, &hex, err))
        return false;
    return hash_from_hex(hex, out) ||
           tp_fail(err, in->code, "%s: %s: 32 hex digits expected", in->file, key);
}

/* A string field that must be one of a small vocabulary. */
static bool bad_value(const struct json_in *in, const char *key, const char *value,
                      struct tp_error *err)
{
    char cut_name[TP_NAME_BUF];
    return tp_fail(err, in->code, "%s: %s: unknown value \"%s\"", in->file, key,
                   tp_name_cut(cut_name, value, strlen(value)));
}

/* A stored format for each matrix that may be quantized: one that does, or the dtype's. */
static bool read_stored(struct recipe *recipe, const struct json_in *in, struct tp_error *err)
{
    const json_t *object;
    if (!json_get_object(in, "stored", &object, err))
        return false;
    const struct json_in stored_in = {object, in->file, in->code};
    size_t count = 0;
    *recipe = recipe_of(recipe->dtype, NULL);
    for (int role = ROLE_EMBED; role < ROLE_COUNT; role++) {
        const char *name, *key = role_key((enum role)role);
        if (!role_is_quantized((enum role)role))
            continue;
        if (!json_get_string(&stored_in, key, &name, err))
            return false;
        const struct stored *stored = stored_by_name(name);
        if (!stored || (!stored_quantized(stored) && (enum dtype)stored->id != recipe->dtype))
            return bad_value(&stored_in, key, name, err);
        recipe->stored[role] = (uint8_t)stored->id;
        count++;
    }
    return count == json_object_size(object) ||
           tp_fail(err, in->code, "%s: recipe.stored: %zu keys expected, %zu found", in->file,
                   count, json_object_size(object));
}

static bool read_recipe(struct bundle *bundle, const struct json_in *top, struct tp_error *err)
{
    const json_t *object;
    const char *dtype, *compress;
    if (!json_get_object(top, "recipe", &object, err))
        return false;
    struct json_in in = {object, top->file, top->code};
    if (!json_get_string(&in, "dtype", &dtype, err) ||
        !json_get_string(&in, "compress", &compress, err))
        return false;
    if (!dtype_from_name(dtype, &bundle->recipe.dtype))
        return bad_value(&in, "dtype", dtype, err);
    if (!read_stored(&bundle->recipe, &in, err))
        return false;
    if (strcmp(compress, "none") != 0 && strcmp(compress, "zstd") != 0)
        return bad_value(&in, "compress", compress, err);
    bundle->compress = strcmp(compress, "zstd") == 0 ? COMPRESS_ZSTD : COMPRESS_NONE;
    return true;
}

bool bundle_name_is_reserved(const char *name)
{
    static const char *const names[] = {
        BUNDLE_MANIFEST, BUNDLE_MANIFEST_OPEN, BUNDLE_EXPORT, "journal", "names", "raw"};
    static const char *const ends[] = {".tps", ".safetensors", ".safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (tp_ends_in(name, ends[i]))
            return true;
    return false;
}

static bool read_files(struct bundle *bundle, const struct json_in *top, struct tp_error *err)
{
    const json_t *list;
    if (!json_get_array(top, "files", &list, err))
        return false;
    if (json_array_size(list) > BUNDLE_FILES_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: files: %zu, at most %d", top->file,
                       json_array_size(list), BUNDLE_FILES_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct json_in in = {json_array_get(list, i), top->file, top->code};
        struct bundle_file *f = &bundle->files[i];
        const char *name;
        if (!json_get_string(&in, "name", &name, err) ||
            !json_get_u64(&in, "bytes", 0, INT64_MAX, &f->bytes, err) ||
            !get_hash(&in, "hash", &f->hash, err))
            return false;
        if (!io_name_is_plain(name, strlen(name)))
            return tp_fail(err, top->code, "%s: files: entry %zu is no plain file name", top->file,
                           i);
        if (bundle_name_is_reserved(name) || bundle_find_file(bundle, name))
            return tp_fail(err, top->code, "%s: files: entry %zu: \"%s\" is %s", top->file, i, name,
                           bundle_find_file(bundle, name) ? "there twice"
                                                          : "a name that the format reserves");
        memcpy(f->name, name, strlen(name) + 1);
        bundle->n_files++;
    }
    return true;
}

/* One rank's tensors in the manifest are what the plan says; their hashes are the table's
 * matter. */
static bool check_tensors(const struct rank_plan *plan, const json_t *list, const char *file,
                          struct tp_error *err)
{
    if (json_array_size(list) != plan->n_tensors)
        return tp_fail(err, TP_E_MANIFEST, "%s: rank %llu: %zu tensors, %u expected", file,
                       (unsigned long long)plan->partition.rank, json_array_size(list),
                       plan->n_tensors);
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        struct json_in in = {json_array_get(list, i), file, TP_E_MANIFEST};
        char want[TENSOR_NAME_MAX];
        const char *name;
        uint64_t offset, bytes;
        if (!json_get_string(&in, "name", &name, err) ||
            !json_get_u64(&in, "offset", 0, INT64_MAX, &offset, err) ||
            !json_get_u64(&in, "bytes", 0, INT64_MAX, &bytes, err))
            return false;
        tensor_name(want, t->role, t->layer, t->part);
        if (strcmp(name, want) != 0 || offset != t->offset || bytes != t->bytes)
            return tp_fail(err, TP_E_MANIFEST, "%s: rank %llu: tensor %u is not \"%s\" as planned",
                           file, (unsigned long long)plan->partition.rank, i, want);
    }
    return true;
}

static bool read_ranks(struct bundle *bundle, const struct json_in *top, struct tp_error *err)
{
    const json_t *list, *tensors;
    if (!json_get_array(top, "ranks", &list, err))
        return false;
    if (json_array_size(list) != bundle->tp_size)
        return tp_fail(err, top->code, "%s: ranks: %zu entries, tp_size is %llu", top->file,
                       json_array_size(list), (unsigned long long)bundle->tp_size);
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        struct json_in in = {json_array_get(list, r), top->file, top->code};
        char want[RANK_FILE_NAME_MAX];
        const char *name;
        uint64_t rank;
        if (!json_get_u64(&in, "rank", 0, PARTITION_TP_MAX, &rank, err) ||
            !json_get_string(&in, "file", &name, err) ||
            !json_get_u64(&in, "bytes", 0, INT64_MAX, &bundle->ranks[r].file_bytes, err) ||
            !get_hash(&in, "header_hash", &bundle->ranks[r].head_hash, err) ||
            !json_get_array(&in, "tensors", &tensors, err))
            return false;
        if (rank != r || strcmp(name, rank_file_name(want, r, bundle->tp_size)) != 0)
            return tp_fail(err, top->code, "%s: ranks: entry %llu is not rank file %s", top->file,
                           (unsigned long long)r, want);
        if (!rank_plan_build(&bundle->model, bundle->recipe, bundle->tp_size, r, &bundle->plans[r],
                             err) ||
            !check_tensors(&bundle->plans[r], tensors, top->file, err))
            return false;
    }
    return true;
}

/* Where the bundle has the first of the checkpoint's layers alone, the source says of how many. */
static bool read_layers_of(struct bundle *bundle, const char *path, struct tp_error *err)
{
    const struct json_in in = {bundle->source, path, TP_E_MANIFEST};
    uint64_t n = bundle->model.n_layers;
    return json_get_u64_or(&in, "layers_of", n + 1, MODEL_LAYERS_MAX, n, &bundle->layers_of, err);
}

static bool read_manifest(struct bundle *bundle, const char *path, struct tp_error *err)
{
    struct json_in top = {bundle->root, path, TP_E_MANIFEST};
    const json_t *model;
    const char *format;
    uint64_t version;
    if (!json_get_string(&top, "format", &format, err) ||
        !json_get_u64(&top, "version", 0, UINT32_MAX, &version, err))
        return false;
    if (strcmp(format, "tpshard bundle") != 0)
        return bad_value(&top, "format", format, err);
    if (version != BUNDLE_FORMAT_VERSION)
        return tp_fail(err, TP_E_VERSION, "%s: format version %llu, this build reads %d", path,
                       (unsigned long long)version, BUNDLE_FORMAT_VERSION);
    if (json_find(bundle->root, "chat_templates") &&
        !json_get_object(&top, "chat_templates", &bundle->templates, err))
        return false;
    if (!get_hash(&top, "bundle_id", &bundle->bundle_id, err) ||
        !json_get_u64(&top, "tp_size", 1, PARTITION_TP_MAX, &bundle->tp_size, err) ||
        !read_recipe(bundle, &top, err) || !json_get_object(&top, "model", &model, err) ||
        !model_config_from_json(model, path, &bundle->model, err) ||
        !json_get_object(&top, "source", &bundle->source, err) ||
        !read_layers_of(bundle, path, err) || !read_files(bundle, &top, err))
        return false;
    bundle->n_layers = bundle->model.n_layers;
    bundle->ranks = mem_arena_alloc(&bundle->arena, bundle->tp_size * sizeof *bundle->ranks, err);
    bundle->plans = mem_arena_alloc(&bundle->arena, bundle->tp_size * sizeof *bundle->plans, err);
    return bundle->ranks && bundle->plans && read_ranks(bundle, &top, err);
}

static bool take_dir(struct bundle *bundle, const char *dir, struct tp_error *err)
{
    if (!io_join(bundle->dir, dir, "", err))
        return false;
    for (size_t n = strlen(bundle->dir); n > 1 && bundle->dir[n - 1] == '/';)
        bundle->dir[--n] = '\0';
    return true;
}

bool bundle_parse(struct bundle *bundle, const char *dir, const char *path, const char *text,
                  size_t n, struct tp_error *err)
{
    struct hash128 id;
    *bundle = (struct bundle){.manifest_hash = hash_bytes(text, n), .manifest_bytes = n};
    bool ok = take_dir(bundle, dir, err) && sealed_check(path, text, n, err) &&
              (bundle->root = json_parse(path, text, n, TP_E_MANIFEST, err)) &&
              read_manifest(bundle, path, err) && bundle_id_of(bundle, &id, err);
    if (ok && !hash_equal(id, bundle->bundle_id)) {
        char found[33], wanted[33];
        hash_to_hex(bundle->bundle_id, found);
        hash_to_hex(id, wanted);
        ok = tp_fail(err, TP_E_MANIFEST, "%s: bundle_id is %s, that of the contents is %s", path,
                     found, wanted);
    }
    if (!ok)
        bundle_close(bundle);
    return ok;
}

struct link_look {
    const struct bundle *bundle;
    struct tp_error *err;
};

static bool check_link(void *arg, const char *name)
{
    const struct link_look *look = arg;
    return link_check(look->bundle->dir, name, "", look->err);
}

/* Nothing there, or something else. */
static bool fail_absent(const char *dir, const char *manifest, struct tp_error *err)
{
    const char *slash = strrchr(dir, '/');
    if (!io_exists(dir))
        return tp_fail(err, TP_E_IO, "%s: no such folder", dir);
    if (!io_is_dir(dir))
        return tp_fail(err, TP_E_BUNDLE_NONE, "%s: is no folder; name the one that it is in: %.*s",
                       dir, slash > dir ? (int)(slash - dir) : 1, slash ? dir : ".");
    return tp_fail(err, TP_E_BUNDLE_NONE,
                   "%s: no %s: not a bundle, or its conversion did not finish; of a model's folder "
                   "tpshard convert makes one",
                   dir, manifest);
}

bool bundle_open(struct bundle *bundle, const char *dir, bool open_manifest, struct tp_error *err)
{
    char path[IO_PATH_MAX], *text = NULL;
    size_t n;
    *bundle = (struct bundle){0};
    if (!io_join(path, dir, open_manifest ? BUNDLE_MANIFEST_OPEN : BUNDLE_MANIFEST, err))
        return false;
    if (!io_reachable(path, err))
        return false;
    if (!io_is_dir(dir) || !io_exists(path))
        return fail_absent(dir, io_base_name(path), err);
    struct tp_error why = {0};
    if (!link_check(dir, io_base_name(path), "", err))
        return false;
    if (!io_read_file(path, BUNDLE_MANIFEST_MAX, &text, &n, &why))
        return tp_fail(err, why.code == TP_E_LIMIT ? TP_E_MANIFEST : why.code, "%s", why.text);
    bool ok = bundle_parse(bundle, dir, path, text, n, err);
    mem_free(text);
    struct link_look look = {bundle, err};
    if (ok && !bundle_each_file(bundle, check_link, &look)) {
        bundle_close(bundle);
        return false;
    }
    return ok;
}

void bundle_cut(struct bundle *bundle, uint64_t n_layers)
{
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        rank_plan_cut(&bundle->plans[r], n_layers);
    bundle->model.n_layers = n_layers;
}

void bundle_close(struct bundle *bundle)
{
    for (uint64_t r = 0; bundle->plans && r < bundle->tp_size; r++)
        rank_plan_free(&bundle->plans[r]);
    json_decref(bundle->root);
    mem_arena_free(&bundle->arena);
    *bundle = (struct bundle){0};
}

bool bundle_open_rank(const struct bundle *bundle, uint64_t rank, struct shard *shard,
                      struct tp_error *err)
{
    const struct bundle_rank *r = &bundle->ranks[rank];
    struct model_config model = bundle->model;
    model.n_layers = bundle->n_layers;
    if (!shard_open(shard, bundle->dir, &model, &bundle->plans[rank], &bundle->bundle_id, err))
        return false;
    bool ok = true;
    if (shard->file_bytes != r->file_bytes)
        ok = tp_fail(err, TP_E_SHARD_SIZE, "%s: %llu bytes, the manifest says %llu", shard->path,
                     (unsigned long long)shard->file_bytes, (unsigned long long)r->file_bytes);
    else if (!hash_equal(hash_bytes(shard->map.data, SHARD_HEADER_BYTES), r->head_hash))
        ok = tp_fail(err, TP_E_SHARD_HASH, "%s: header: not the one the manifest names",
                     shard->path);
    else if (shard->head.compress != bundle->compress)
        ok = tp_fail(err, TP_E_SHARD_MIXED, "%s: header: compression is not the manifest's",
                     shard->path);
    if (!ok)
        shard_close(shard);
    return ok;
}

bool bundle_each_file(const struct bundle *bundle, bool (*fn)(void *arg, const char *name),
                      void *arg)
{
    char name[RANK_FILE_NAME_MAX];
    bool ok = true;
    for (uint32_t i = 0; ok && i < bundle->n_files; i++)
        ok = fn(arg, bundle->files[i].name);
    for (uint64_t r = 0; ok && r < bundle->tp_size; r++)
        ok = fn(arg, rank_file_name(name, r, bundle->tp_size));
    return ok && fn(arg, BUNDLE_MANIFEST);
}

/* ---- files that travel along ---- */

const struct bundle_file *bundle_find_file(const struct bundle *bundle, const char *name)
{
    for (uint32_t i = 0; i < bundle->n_files; i++)
        if (strcmp(bundle->files[i].name, name) == 0)
            return &bundle->files[i];
    return NULL;
}

bool bundle_read_file(const struct bundle *bundle, const struct bundle_file *file, char **data,
                      size_t *size, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    if (!io_join(path, bundle->dir, file->name, err) ||
        !io_read_file(path, UINT64_C(1) << 32, data, size, err))
        return false;
    if (*size == file->bytes && hash_equal(hash_bytes(*data, *size), file->hash))
        return true;
    mem_free(*data);
    *data = NULL;
    return tp_fail(err, TP_E_FILE_HASH,
                   "%s: hash does not match the manifest's, the file is damaged", path);
}

bool bundle_check_files(const struct bundle *bundle, struct tp_error *err)
{
    for (uint32_t i = 0; i < bundle->n_files; i++) {
        char *data;
        size_t n;
        if (!bundle_read_file(bundle, &bundle->files[i], &data, &n, err))
            return false;
        mem_free(data);
    }
    return true;
}
