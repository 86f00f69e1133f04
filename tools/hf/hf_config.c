#include "hf_config.h"
#include "hf_rope.h"
#include "io.h"
#include "mem.h"
#include "token_ids.h"

#include <stdio.h>
#include <string.h>

/* ---- sizes ---- */

/* 1 to max; another type is TP_E_CF_FIELD, another number TP_E_CF_RANGE */
static bool get_size(const struct json_in *in, const char *key, uint64_t max, uint64_t *out,
                     struct tp_error *err)
{
    struct json_in range = *in;
    if (json_is_integer(json_object_get(in->object, key)))
        range.code = TP_E_CF_RANGE;
    return json_get_u64(&range, key, 1, max, out, err);
}

static bool get_size_or(const struct json_in *in, const char *key, uint64_t max, uint64_t fallback,
                        uint64_t *out, struct tp_error *err)
{
    *out = fallback;
    return !json_find(in->object, key) || get_size(in, key, max, out, err);
}

static bool read_heads(const struct json_in *in, const struct hf_architecture *a,
                       struct model_config *m, struct tp_error *err)
{
    /* absent and null differ in transformers: a default, or the query heads */
    bool absent = !json_object_get(in->object, "num_key_value_heads");
    uint64_t kv_heads = absent && a->kv_heads ? a->kv_heads : m->n_heads;
    if (!get_size_or(in, "num_key_value_heads", MODEL_HEADS_MAX, kv_heads, &m->n_kv_heads, err))
        return false;
    if (json_find(in->object, "head_dim"))
        return get_size(in, "head_dim", MODEL_HEAD_DIM_MAX, &m->head_dim, err);
    m->head_dim = a->head_dim ? a->head_dim : m->hidden / m->n_heads;
    if (!a->head_dim && m->hidden % m->n_heads)
        return tp_fail(err, TP_E_CF_HEADS,
                       "%s: no head_dim, and hidden_size %llu is no multiple of "
                       "num_attention_heads %llu",
                       in->file, (unsigned long long)m->hidden, (unsigned long long)m->n_heads);
    return true;
}

/* All classes have the same default. */
static bool read_eps(const struct json_in *in, struct model_config *m,
                     const struct findings *findings, struct tp_error *err)
{
    static const char key[] = "rms_norm_eps";
    if (!json_object_get(in->object, key))
        finding_note(findings, "%s: no %s: 1e-6 is taken, as transformers does", in->file, key);
    else
        return json_get_double(in, key, &m->rms_eps, err);
    m->rms_eps = 1e-6;
    return true;
}

static bool read_sizes(const struct json_in *in, const struct hf_architecture *a,
                       struct model_config *m, const struct findings *findings,
                       struct tp_error *err)
{
    return get_size(in, "num_hidden_layers", MODEL_LAYERS_MAX, &m->n_layers, err) &&
           get_size(in, "hidden_size", MODEL_WIDTH_MAX, &m->hidden, err) &&
           get_size(in, "num_attention_heads", MODEL_HEADS_MAX, &m->n_heads, err) &&
           get_size(in, "intermediate_size", MODEL_WIDTH_MAX, &m->d_ff, err) &&
           get_size(in, "vocab_size", MODEL_VOCAB_MAX, &m->vocab, err) &&
           get_size_or(in, "max_position_embeddings", MODEL_POSITIONS_MAX, a->positions,
                       &m->max_positions, err) &&
           read_eps(in, m, findings, err) && read_heads(in, a, m, err);
}

/* ---- the block ---- */

static bool read_biases(const struct json_in *in, const struct hf_architecture *a,
                        struct model_config *m, struct tp_error *err)
{
    bool attention = false, mlp = false;
    if (hf_architecture_honours(a, "attention_bias") &&
        !json_get_bool_or(in, "attention_bias", false, &attention, err))
        return false;
    if (hf_architecture_honours(a, "mlp_bias") &&
        !json_get_bool_or(in, "mlp_bias", false, &mlp, err))
        return false;
    m->qkv_bias = a->qkv_bias || attention;
    m->o_bias = attention;
    m->mlp_bias = mlp;
    m->qk_norm = a->qk_norm;
    return json_get_bool_or(in, "tie_word_embeddings", false, &m->tied_embeddings, err);
}

/* "auto", as none: what the weights have. An object names the parts of a model; "" is the rest. */
static bool read_dtype(const struct json_in *in, struct model_config *m, struct tp_error *err)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } names[] = {{"float32", DTYPE_F32}, {"float", DTYPE_F32}, {"float16", DTYPE_F16},
                 {"half", DTYPE_F16},    {"auto", DTYPE_NONE}, {"bfloat16", DTYPE_BF16}};
    const char *key = json_find(in->object, "dtype") ? "dtype" : "torch_dtype", *name;
    const json_t *value = json_find(in->object, key);
    struct json_in from = *in;
    if (json_is_object(value)) {
        from.object = value;
        key = "";
    }
    if (!json_find(from.object, key))
        return true;
    if (!json_get_string(&from, key, &name, err))
        return false;
    if (strncmp(name, "torch.", 6) == 0)
        name += 6;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            m->dtype = names[i].dtype;
            return true;
        }
    char cut[TP_NAME_BUF];
    return tp_fail(err, TP_E_CF_KEY,
                   "%s: dtype %s is not supported; supported: float32, float16, bfloat16", in->file,
                   tp_name_cut(cut, name, strlen(name)));
}

/* ---- windows ---- */

/* The width of sliding layers, 0 where no layer slides. */
static bool window_width(const struct json_in *in, const struct hf_architecture *a, uint64_t *width,
                         struct tp_error *err)
{
    bool on = true;
    *width = 0;
    if (a->window == WINDOW_NONE)
        return true;
    if (a->window == WINDOW_UPPER && !json_get_bool_or(in, "use_sliding_window", false, &on, err))
        return false;
    const json_t *value = json_object_get(in->object, "sliding_window");
    if (!on || json_is_null(value))
        return true;
    return get_size_or(in, "sliding_window", MODEL_POSITIONS_MAX, a->window_size, width, err);
}

/* layer_types decides where it is given. */
static bool windows_by_type(const struct json_in *in, const struct hf_architecture *a,
                            uint64_t width, struct model_config *m, const struct findings *findings,
                            struct tp_error *err)
{
    const json_t *types;
    if (!json_get_array(in, "layer_types", &types, err))
        return false;
    if (json_array_size(types) != m->n_layers)
        return tp_fail(err, TP_E_CF_FIELD, "%s: layer_types: %zu names for num_hidden_layers %llu",
                       in->file, json_array_size(types), (unsigned long long)m->n_layers);
    bool off = false;
    for (uint64_t i = 0; i < m->n_layers; i++) {
        const char *name = json_string_value(json_array_get(types, i));
        char cut[TP_NAME_BUF];
        if (!name)
            return tp_fail(err, TP_E_CF_FIELD, "%s: layer_types: element %llu is no text", in->file,
                           (unsigned long long)i);
        if (strcmp(name, "full_attention") == 0)
            continue;
        if (strcmp(name, "sliding_attention") != 0 || a->window == WINDOW_NONE)
            return tp_fail(err, TP_E_CF_KEY, "%s: layer_types: %s is not supported for %s",
                           in->file, tp_name_cut(cut, name, strlen(name)), a->class_name);
        m->window[i] = width;
        off |= width == 0;
    }
    if (off)
        finding_note(
            findings,
            "%s: layer_types names sliding layers, but the window is off: they see everything",
            in->file);
    return true;
}

static bool read_windows(const struct json_in *in, const struct hf_architecture *a,
                         struct model_config *m, const struct findings *findings,
                         struct tp_error *err)
{
    uint64_t width, first = 0;
    if (!window_width(in, a, &width, err))
        return false;
    if (json_find(in->object, "layer_types"))
        return windows_by_type(in, a, width, m, findings, err);
    if (width && a->window == WINDOW_UPPER &&
        !json_get_u64_or(in, "max_window_layers", 0, INT64_MAX, a->max_window_layers, &first, err))
        return false;
    for (uint64_t i = first; i < m->n_layers; i++)
        m->window[i] = width;
    return true;
}

/* ---- token ids ---- */

/* -1 where the value is null, or missing and there is no default */
static bool read_id(const struct json_in *in, const char *key, int64_t fallback,
                    bool negative_is_none, uint64_t vocab, int64_t *id, struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    int64_t ids[MODEL_EOS_MAX];
    uint64_t n;
    *id = value ? -1 : fallback;
    if (negative_is_none && json_is_integer(value) && json_integer_value(value) < 0)
        return true;
    if (json_is_array(value))
        return tp_fail(err, TP_E_CF_TOKEN_ID, "%s: %s: an integer expected, a list found", in->file,
                       key);
    if (!token_ids_read(in, key, vocab, ids, &n, err))
        return false;
    if (n)
        *id = ids[0];
    return true;
}

static bool read_ids(const struct json_in *in, const struct hf_architecture *a,
                     struct model_config *m, struct tp_error *err)
{
    if (!read_id(in, "bos_token_id", a->bos_id, false, m->vocab, &m->bos_id, err) ||
        !read_id(in, "pad_token_id", -1, true, m->vocab, &m->pad_id, err) ||
        !token_ids_read(in, "eos_token_id", m->vocab, m->eos_id, &m->n_eos, err))
        return false;
    if (!json_object_get(in->object, "eos_token_id") && a->eos_id >= 0) {
        m->n_eos = 1;
        m->eos_id[0] = a->eos_id;
    }
    return true;
}

/* ---- the file ---- */

static bool read_object(const struct json_in *in, const struct hf_options *options,
                        struct hf_config *out, struct tp_error *err)
{
    struct model_config *m = &out->model;
    const struct findings *findings = options->findings;
    const struct hf_architecture *a = options->guess ? hf_architecture_guess(in->object) : NULL;
    if (a)
        finding_note(findings, "%s: names no architecture: taken for %s by its keys", in->file,
                     a->class_name);
    else
        a = hf_architecture_find(in, err);
    if (!a || !hf_config_keys_check(in, a, options, err))
        return false;
    snprintf(m->architecture, sizeof m->architecture, "%s", a->class_name);
    if (!read_sizes(in, a, m, findings, err) || !read_biases(in, a, m, err) ||
        !read_dtype(in, m, err) || !read_windows(in, a, m, findings, err) ||
        !hf_rope_read(in, m, findings, err) || !read_ids(in, a, m, err))
        return false;
    hf_quantization_name(in, out->quantization);
    out->quantization_at_work = hf_quantization_at_work(in);
    if (json_find(in->object, "auto_map") ||
        json_is_true(json_object_get(in->object, "trust_remote_code")))
        finding_note(findings,
                     "%s: custom code is never read: the model is taken for an ordinary %s",
                     in->file, a->class_name);
    for (size_t i = 0; i < options->n_ignore_keys; i++)
        if (json_find(in->object, options->ignore_keys[i]) &&
            !hf_config_key_known(a, options->ignore_keys[i]))
            finding_note(findings, "%s: key \"%s\" ignored as asked", in->file,
                         options->ignore_keys[i]);
    return model_config_check(m, in->file, err);
}

bool hf_config_parse(const char *file, const char *data, size_t n, const struct hf_options *options,
                     struct hf_config *out, struct tp_error *err)
{
    static const struct hf_options none;
    *out = (struct hf_config){0};
    json_t *root = json_parse_wide(file, data, n, TP_E_CF_FILE, err);
    if (!root)
        return false;
    bool ok;
    if (json_is_object(root)) {
        struct json_in in = {root, file, TP_E_CF_FIELD};
        ok = read_object(&in, options ? options : &none, out, err);
    } else {
        ok = tp_fail(err, TP_E_CF_FILE, "%s: %s at top level, an object expected", file,
                     json_type_name(root));
    }
    json_decref(root);
    return ok;
}

/* Schemes that older tools name in a file of their own. */
static bool quantization_beside(const char *dir, struct hf_config *out, struct tp_error *err)
{
    static const struct {
        const char *file, *scheme;
    } files[] = {{"hf_quant_config.json", "modelopt"}, {"quantize_config.json", "gptq"}};
    char path[IO_PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files && !out->quantization[0]; i++) {
        if (!io_join(path, dir, files[i].file, err))
            return false;
        if (io_exists(path))
            snprintf(out->quantization, sizeof out->quantization, "%s (%s)", files[i].scheme,
                     files[i].file);
    }
    return true;
}

bool hf_config_read(const char *path, const struct hf_options *options, struct hf_config *out,
                    char **text, size_t *n, struct tp_error *err)
{
    char file[IO_PATH_MAX];
    bool folder = io_is_dir(path);
    char *data;
    size_t size;
    *out = (struct hf_config){0};
    if (!folder)
        snprintf(file, sizeof file, "%s", path);
    else if (!io_join(file, path, "config.json", err))
        return false;
    if (!io_exists(file))
        return tp_fail(err, TP_E_CF_FILE, "%s: there is no such file", file);
    if (!io_read_file(file, HF_CONFIG_BYTES_MAX, &data, &size, err)) {
        if (err && err->code == TP_E_LIMIT)
            err->code = TP_E_CF_FILE; /* so large a config.json is no config.json */
        return false;
    }
    bool ok = hf_config_parse(file, data, size, options, out, err) &&
              (!folder || quantization_beside(path, out, err));
    if (!ok || !text) {
        mem_free(data);
        return ok;
    }
    *text = data;
    *n = size;
    return true;
}
