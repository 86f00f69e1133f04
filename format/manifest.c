/* Writing a manifest, and the bundle id. */
#include "bundle.h"

#include "checked.h"
#include "sealed.h"
#include <stdlib.h>

/* Objects under construction: a failed jansson call means memory; checked once, at the end. */
static json_t *hex_of(struct hash128 hash)
{
    char hex[33];
    hash_to_hex(hash, hex);
    return json_string(hex);
}

static json_t *bounds_of(const struct leaves *leaves)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < leaves->count; i++)
        json_array_append_new(list, json_integer((json_int_t)leaf_columns(leaves, i).begin));
    json_array_append_new(list, json_integer((json_int_t)leaves->columns));
    return list;
}

static json_t *leaves_json(const struct model_config *model)
{
    struct leaves attention = leaves_of_attention(model), mlp = leaves_of_mlp(model);
    return json_pack("{s:o, s:o}", "attention", bounds_of(&attention), "mlp", bounds_of(&mlp));
}

static json_t *stored_json(const struct recipe *recipe)
{
    json_t *object = json_object();
    for (int role = ROLE_EMBED; role < ROLE_COUNT; role++)
        if (role_is_quantized((enum role)role))
            json_object_set_new(object, role_key((enum role)role),
                                json_string(stored_of(recipe->stored[role])->name));
    return object;
}

static json_t *files_json(const struct bundle *bundle, bool with_selftest)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < bundle->n_files; i++) {
        const struct bundle_file *f = &bundle->files[i];
        if (with_selftest || strcmp(f->name, BUNDLE_SELFTEST) != 0)
            json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "name", f->name, "bytes",
                                                  (json_int_t)f->bytes, "hash", hex_of(f->hash)));
    }
    return list;
}

bool bundle_id_of(const struct bundle *bundle, struct hash128 *id, struct tp_error *err)
{
    json_t *model = model_config_to_json(&bundle->model, err);
    if (!model)
        return false;
    json_t *root = json_pack(
        "{s:i, s:o, s:s, s:o, s:o, s:O, s:o}", "version", BUNDLE_FORMAT_VERSION, "model", model,
        "dtype", dtype_name(bundle->recipe.dtype), "stored", stored_json(&bundle->recipe), "leaves",
        leaves_json(&bundle->model), "source", bundle->source, "files", files_json(bundle, false));
    size_t n;
    char *text = root ? json_text(root, &n, err) : NULL;
    json_decref(root);
    if (!text)
        return tp_fail(err, TP_E_MEMORY, "out of memory: bundle id");
    *id = hash_bytes(text, n);
    mem_free(text);
    return true;
}

static json_t *tensor_json(const struct tensor *t, const struct shard_head *head)
{
    char name[TENSOR_NAME_MAX];
    tensor_name(name, t->role, t->layer, t->part);
    return json_pack("{s:s, s:[I,I], s:[I,I], s:[I,I], s:s, s:i, s:I, s:I, s:o}", "name", name,
                     "shape", (json_int_t)t->rows, (json_int_t)t->cols, "rows",
                     (json_int_t)t->own_rows.begin, (json_int_t)t->own_rows.end, "cols",
                     (json_int_t)t->own_cols.begin, (json_int_t)t->own_cols.end, "dtype",
                     t->stored->name, "layout", (int)t->layout, "offset", (json_int_t)t->offset,
                     "bytes", (json_int_t)t->bytes, "hash",
                     hex_of(shard_tensor_hash(t, head->chunks)));
}

static json_t *ranks_json(const struct bundle *bundle, const struct shard_head *heads)
{
    json_t *list = json_array();
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        const struct rank_plan *plan = &bundle->plans[r];
        char file[RANK_FILE_NAME_MAX];
        json_t *tensors = json_array();
        for (uint32_t i = 0; i < plan->n_tensors; i++)
            json_array_append_new(tensors, tensor_json(&plan->tensors[i], &heads[r]));
        json_array_append_new(
            list,
            json_pack("{s:I, s:s, s:I, s:I, s:I, s:o, s:o}", "rank", (json_int_t)r, "file",
                      rank_file_name(file, r, bundle->tp_size), "bytes",
                      (json_int_t)bundle->ranks[r].file_bytes, "data_offset",
                      (json_int_t)plan->data_offset, "data_bytes", (json_int_t)plan->data_bytes,
                      "header_hash", hex_of(bundle->ranks[r].head_hash), "tensors", tensors));
    }
    return list;
}

char *bundle_manifest_text(const struct bundle *bundle, const struct shard_head *heads,
                           size_t *size, struct tp_error *err)
{
    json_t *model = model_config_to_json(&bundle->model, err);
    if (!model)
        return NULL;
    json_t *root = json_pack(
        "{s:s, s:i, s:o, s:I, s:{s:s, s:o, s:s}, s:o, s:o, s:O, s:o, s:O*, s:o}", "format",
        "tpshard bundle", "version", BUNDLE_FORMAT_VERSION, "bundle_id", hex_of(bundle->bundle_id),
        "tp_size", (json_int_t)bundle->tp_size, "recipe", "dtype", dtype_name(bundle->recipe.dtype),
        "stored", stored_json(&bundle->recipe), "compress",
        bundle->compress == COMPRESS_ZSTD ? "zstd" : "none", "model", model, "leaves",
        leaves_json(&bundle->model), "source", bundle->source, "files", files_json(bundle, true),
        "chat_templates", bundle->templates, "ranks", ranks_json(bundle, heads));
    char *text = root ? sealed_text(root, size, err) : NULL;
    json_decref(root);
    if (!text)
        tp_fail(err, TP_E_MEMORY, "out of memory: manifest");
    return text;
}
