#include "export_config.h"

static bool has_other_dtype(const struct bundle *b)
{
    return b->model.dtype != DTYPE_NONE && b->model.dtype != b->recipe.dtype;
}

static void set_dtype(json_t *root, enum dtype dtype)
{
    static const char *const names[] = {
        [DTYPE_F32] = "float32", [DTYPE_F16] = "float16", [DTYPE_BF16] = "bfloat16"};
    const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
    json_object_set_new(root, key, json_string(names[dtype]));
}

/* max_window_layers may be more than there are layers. */
static void set_layers(json_t *root, uint64_t n)
{
    json_t *types = json_object_get(root, "layer_types");
    json_object_set_new(root, "num_hidden_layers", json_integer((json_int_t)n));
    while (json_array_size(types) > n)
        json_array_remove(types, json_array_size(types) - 1);
}

bool export_config_changes(const struct bundle *bundle)
{
    return has_other_dtype(bundle) || bundle->model.n_layers < bundle->layers_of;
}

char *export_config_text(const struct bundle *bundle, const char *data, size_t n, size_t *size,
                         struct tp_error *err)
{
    json_t *root = json_parse_wide("config.json", data, n, TP_E_CF_FILE, err);
    if (!root)
        return NULL;
    if (has_other_dtype(bundle))
        set_dtype(root, bundle->recipe.dtype);
    if (bundle->model.n_layers < bundle->layers_of)
        set_layers(root, bundle->model.n_layers);
    char *text = json_text(root, size, err);
    json_decref(root);
    return text;
}
