#include "model_config.h"
#include "json.h"

#include <string.h>

static const char *const rope_names[] = {[ROPE_DEFAULT] = "default",
                                         [ROPE_LINEAR] = "linear",
                                         [ROPE_LLAMA3] = "llama3",
                                         [ROPE_YARN] = "yarn"};

const char *rope_type_name(enum rope_type type)
{
    return rope_names[type];
}

bool rope_type_from_name(const char *name, enum rope_type *out)
{
    for (size_t i = 0; i < sizeof rope_names / sizeof *rope_names; i++)
        if (strcmp(name, rope_names[i]) == 0) {
            *out = (enum rope_type)i;
            return true;
        }
    return false;
}

/* ---- the manifest's form: one table of the plain fields, both ways ---- */

static const struct {
    const char *key;
    size_t offset;
    /* clang-format off */
} sizes[] = {
#define SIZE(name) {#name, offsetof(struct model_config, name)}
    SIZE(n_layers), SIZE(hidden), SIZE(n_heads), SIZE(n_kv_heads), SIZE(head_dim), SIZE(d_ff),
    SIZE(vocab), SIZE(max_positions),
#undef SIZE
/* clang-format off */
}, flags[] = {
/* clang-format on */
#define FLAG(name)                                                                                 \
    {                                                                                              \
#name, offsetof(struct model_config, name)                                                 \
    }
          FLAG(tied_embeddings), FLAG(qkv_bias), FLAG(o_bias), FLAG(mlp_bias), FLAG(qk_norm),
#undef FLAG
          /* clang-format off */
}, rope_numbers[] = {
/* clang-format on */
#define NUMBER(name)                                                                               \
    {                                                                                              \
#name, offsetof(struct rope_config, name)                                                  \
    }
      NUMBER(theta),
      NUMBER(factor),
      NUMBER(low_freq_factor),
      NUMBER(high_freq_factor),
      NUMBER(original_positions),
      NUMBER(beta_fast),
      NUMBER(beta_slow),
      NUMBER(attention_factor),
#undef NUMBER
};
/* clang-format on */
#define COUNT(table) (sizeof(table) / sizeof *(table))

static json_t *rope_to_json(const struct rope_config *rope)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "type", json_string(rope_type_name(rope->type)));
    for (size_t i = 0; i < COUNT(rope_numbers); i++) {
        double value;
        memcpy(&value, (const char *)rope + rope_numbers[i].offset, sizeof value);
        bad |= json_object_set_new(o, rope_numbers[i].key, json_real(value));
    }
    bad |= json_object_set_new(o, "truncate", json_boolean(rope->truncate));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *model_config_to_json(const struct model_config *model, struct tp_error *err)
{
    json_t *o = json_object(), *windows = json_array(), *eos = json_array();
    int bad = json_object_set_new(o, "architecture", json_string(model->architecture));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        uint64_t value;
        memcpy(&value, (const char *)model + sizes[i].offset, sizeof value);
        bad |= json_object_set_new(o, sizes[i].key, json_integer((json_int_t)value));
    }
    for (size_t i = 0; i < COUNT(flags); i++) {
        bool value;
        memcpy(&value, (const char *)model + flags[i].offset, sizeof value);
        bad |= json_object_set_new(o, flags[i].key, json_boolean(value));
    }
    for (uint64_t i = 0; i < model->n_layers; i++)
        bad |= json_array_append_new(windows, json_integer((json_int_t)model->window[i]));
    for (uint64_t i = 0; i < model->n_eos; i++)
        bad |= json_array_append_new(eos, json_integer((json_int_t)model->eos_id[i]));
    bad |= json_object_set_new(o, "rms_eps", json_real(model->rms_eps));
    bad |= json_object_set_new(o, "dtype", json_string(dtype_name(model->dtype)));
    bad |= json_object_set_new(o, "rope", rope_to_json(&model->rope));
    bad |= json_object_set_new(o, "window", windows);
    bad |= json_object_set_new(o, "bos_id", json_integer(model->bos_id));
    bad |= json_object_set_new(o, "pad_id", json_integer(model->pad_id));
    bad |= json_object_set_new(o, "eos_ids", eos);
    if (bad) {
        json_decref(o);
        tp_fail(err, TP_E_MEMORY, "out of memory: the manifest's model");
        return NULL;
    }
    return o;
}

static bool get_bool(const struct json_in *in, const char *key, bool *out, struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_boolean(value))
        return tp_fail(err, in->code, "%s: %s: true or false expected, %s found", in->file, key,
                       json_type_name(value));
    *out = json_is_true(value);
    return true;
}

static bool get_id(const struct json_in *in, const char *key, int64_t *out, struct tp_error *err)
{
    const json_t *value = json_object_get(in->object, key);
    if (!json_is_integer(value))
        return tp_fail(err, in->code, "%s: %s: an integer expected, %s found", in->file, key,
                       json_type_name(value));
    *out = json_integer_value(value);
    return true;
}

/* An array of count integers >= 0, min_count <= count <= max_count. */
static bool get_integers(const struct json_in *in, const char *key, uint64_t min_count,
                         uint64_t max_count, uint64_t *out, uint64_t *count, struct tp_error *err)
{
    const json_t *array;
    if (!json_get_array(in, key, &array, err))
        return false;
    size_t n = json_array_size(array);
    if (n < min_count || n > max_count)
        return tp_fail(err, in->code, "%s: %s: %zu elements, %llu to %llu expected", in->file, key,
                       n, (unsigned long long)min_count, (unsigned long long)max_count);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return tp_fail(err, in->code, "%s: %s: element %zu is no integer from 0 on", in->file,
                           key, i);
        out[i] = (uint64_t)json_integer_value(value);
    }
    *count = n;
    return true;
}

static bool rope_from_json(const struct json_in *in, struct rope_config *rope, struct tp_error *err)
{
    const char *name;
    if (!json_get_string(in, "type", &name, err))
        return false;
    if (!rope_type_from_name(name, &rope->type))
        return tp_fail(err, in->code, "%s: rope type \"%.32s\" is unknown", in->file, name);
    for (size_t i = 0; i < COUNT(rope_numbers); i++) {
        double value;
        if (!json_get_double(in, rope_numbers[i].key, &value, err))
            return false;
        memcpy((char *)rope + rope_numbers[i].offset, &value, sizeof value);
    }
    return get_bool(in, "truncate", &rope->truncate, err);
}

static bool names_from_json(const struct json_in *in, struct model_config *model,
                            struct tp_error *err)
{
    const char *name, *dtype;
    if (!json_get_string(in, "architecture", &name, err) ||
        !json_get_string(in, "dtype", &dtype, err))
        return false;
    if (strlen(name) >= sizeof model->architecture)
        return tp_fail(err, in->code, "%s: architecture: more than %zu bytes", in->file,
                       sizeof model->architecture - 1);
    memcpy(model->architecture, name, strlen(name));
    if (strcmp(dtype, dtype_name(DTYPE_NONE)) != 0 && !dtype_from_name(dtype, &model->dtype))
        return tp_fail(err, in->code, "%s: dtype \"%.32s\" is unknown", in->file, dtype);
    return true;
}

bool model_config_from_json(const json_t *object, const char *file, struct model_config *model,
                            struct tp_error *err)
{
    *model = (struct model_config){0};
    if (!json_is_object(object))
        return tp_fail(err, TP_E_MANIFEST, "%s: model: an object expected, %s found", file,
                       json_type_name(object));
    struct json_in in = {object, file, TP_E_MANIFEST}, rope = in;
    if (!names_from_json(&in, model, err))
        return false;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        uint64_t value;
        if (!json_get_u64(&in, sizes[i].key, 0, INT64_MAX, &value, err))
            return false;
        memcpy((char *)model + sizes[i].offset, &value, sizeof value);
    }
    for (size_t i = 0; i < COUNT(flags); i++) {
        bool value;
        if (!get_bool(&in, flags[i].key, &value, err))
            return false;
        memcpy((char *)model + flags[i].offset, &value, sizeof value);
    }
    uint64_t n_windows, eos[MODEL_EOS_MAX];
    if (!json_get_double(&in, "rms_eps", &model->rms_eps, err) ||
        !json_get_object(&in, "rope", &rope.object, err) ||
        !rope_from_json(&rope, &model->rope, err) || !get_id(&in, "bos_id", &model->bos_id, err) ||
        !get_id(&in, "pad_id", &model->pad_id, err) ||
        !get_integers(&in, "window", 1, MODEL_LAYERS_MAX, model->window, &n_windows, err) ||
        !get_integers(&in, "eos_ids", 0, MODEL_EOS_MAX, eos, &model->n_eos, err))
        return false;
    if (n_windows != model->n_layers)
        return tp_fail(err, TP_E_MANIFEST, "%s: window: %llu elements for %llu layers", file,
                       (unsigned long long)n_windows, (unsigned long long)model->n_layers);
    for (uint64_t i = 0; i < model->n_eos; i++)
        model->eos_id[i] = (int64_t)eos[i];
    return model_config_check(model, file, err);
}

bool model_config_check_layers(uint64_t n_layers, uint64_t n, const char *file,
                               struct tp_error *err)
{
    return n <= n_layers || tp_fail(err, TP_E_USAGE, "--layers %llu: %s has %llu layers",
                                    (unsigned long long)n, file, (unsigned long long)n_layers);
}

bool model_config_take_layers(struct model_config *model, uint64_t n, const char *file,
                              struct tp_error *err)
{
    if (!model_config_check_layers(model->n_layers, n, file, err))
        return false;
    for (uint64_t i = n; i < model->n_layers; i++)
        model->window[i] = 0;
    model->n_layers = n;
    return true;
}

/* ---- limits ---- */

static bool in_range(const char *file, const char *field, uint64_t value, uint64_t max,
                     struct tp_error *err)
{
    if (value >= 1 && value <= max)
        return true;
    return tp_fail(err, TP_E_CF_RANGE, "%s: %s: %llu, 1 to %llu expected", file, field,
                   (unsigned long long)value, (unsigned long long)max);
}

static bool number_in(const char *file, const char *field, double value, double min, double max,
                      enum tp_code code, struct tp_error *err)
{
    if (value >= min && value <= max) /* false for a NaN */
        return true;
    return tp_fail(err, code, "%s: %s: %g, %g to %g expected", file, field, value, min, max);
}

static bool heads_check(const struct model_config *m, const char *file, struct tp_error *err)
{
    if (m->n_kv_heads > m->n_heads || m->n_heads % m->n_kv_heads)
        return tp_fail(err, TP_E_CF_HEADS,
                       "%s: num_attention_heads %llu is no multiple of num_key_value_heads %llu",
                       file, (unsigned long long)m->n_heads, (unsigned long long)m->n_kv_heads);
    if (m->head_dim % 2)
        return tp_fail(err, TP_E_CF_HEADS,
                       "%s: head_dim %llu is odd: rotary positions turn pairs of components", file,
                       (unsigned long long)m->head_dim);
    return true;
}

/* Each type's own fields. A factor below 1 would give frequencies above 1, angles beyond 2^40. */
static bool rope_check(const struct rope_config *r, const char *file, struct tp_error *err)
{
    const enum tp_code code = TP_E_CF_ROPE;
    if ((unsigned)r->type > ROPE_YARN)
        return tp_fail(err, code, "%s: rope type %d is unknown", file, (int)r->type);
    if (!number_in(file, "rope_theta", r->theta, 1, 1e18, code, err) ||
        !number_in(file, "rope attention_factor", r->attention_factor, 1e-6, 1e6, code, err))
        return false;
    if (r->type != ROPE_DEFAULT && !number_in(file, "rope factor", r->factor, 1, 1e6, code, err))
        return false;
    if ((r->type == ROPE_LLAMA3 || r->type == ROPE_YARN) &&
        !number_in(file, "rope original_max_position_embeddings", r->original_positions, 1,
                   (double)MODEL_POSITIONS_MAX, code, err))
        return false;
    if (r->type == ROPE_LLAMA3) {
        if (!number_in(file, "rope low_freq_factor", r->low_freq_factor, 1e-6, 1e6, code, err) ||
            !number_in(file, "rope high_freq_factor", r->high_freq_factor, 1e-6, 1e6, code, err))
            return false;
        if (r->high_freq_factor <= r->low_freq_factor)
            return tp_fail(err, code,
                           "%s: rope high_freq_factor %g is not above low_freq_factor "
                           "%g",
                           file, r->high_freq_factor, r->low_freq_factor);
    }
    if (r->type == ROPE_YARN) {
        if (!number_in(file, "rope_theta", r->theta, 2, 1e18, code, err) || /* divides by its log */
            !number_in(file, "rope beta_fast", r->beta_fast, 1e-6, 1e6, code, err) ||
            !number_in(file, "rope beta_slow", r->beta_slow, 1e-6, 1e6, code, err))
            return false;
        if (r->beta_fast < r->beta_slow)
            return tp_fail(err, code, "%s: rope beta_fast %g is below beta_slow %g", file,
                           r->beta_fast, r->beta_slow);
    }
    return true;
}

/* id in [least, vocab) */
static bool id_check(const struct model_config *m, const char *file, const char *field, int64_t id,
                     int64_t least, struct tp_error *err)
{
    if (id >= least && (id < 0 || (uint64_t)id < m->vocab))
        return true;
    return tp_fail(err, TP_E_CF_TOKEN_ID, "%s: %s: %lld, 0 to %llu expected", file, field,
                   (long long)id, (unsigned long long)m->vocab - 1);
}

bool model_config_check(const struct model_config *m, const char *file, struct tp_error *err)
{
    if (!in_range(file, "num_hidden_layers", m->n_layers, MODEL_LAYERS_MAX, err) ||
        !in_range(file, "hidden_size", m->hidden, MODEL_WIDTH_MAX, err) ||
        !in_range(file, "num_attention_heads", m->n_heads, MODEL_HEADS_MAX, err) ||
        !in_range(file, "num_key_value_heads", m->n_kv_heads, MODEL_HEADS_MAX, err) ||
        !in_range(file, "head_dim", m->head_dim, MODEL_HEAD_DIM_MAX, err) ||
        !in_range(file, "intermediate_size", m->d_ff, MODEL_WIDTH_MAX, err) ||
        !in_range(file, "vocab_size", m->vocab, MODEL_VOCAB_MAX, err) ||
        !in_range(file, "max_position_embeddings", m->max_positions, MODEL_POSITIONS_MAX, err) ||
        !heads_check(m, file, err) ||
        !number_in(file, "rms_norm_eps", m->rms_eps, 1e-30, 1, TP_E_CF_RANGE, err) ||
        !rope_check(&m->rope, file, err))
        return false;
    for (uint64_t i = 0; i < m->n_layers; i++)
        if (m->window[i] > MODEL_POSITIONS_MAX)
            return tp_fail(err, TP_E_CF_RANGE, "%s: sliding_window: %llu, 1 to %llu expected", file,
                           (unsigned long long)m->window[i],
                           (unsigned long long)MODEL_POSITIONS_MAX);
    if (m->n_eos > MODEL_EOS_MAX)
        return tp_fail(err, TP_E_CF_TOKEN_ID, "%s: eos_token_id: %llu ids, at most %d expected",
                       file, (unsigned long long)m->n_eos, MODEL_EOS_MAX);
    for (uint64_t i = 0; i < m->n_eos; i++)
        if (!id_check(m, file, "eos_token_id", m->eos_id[i], 0, err))
            return false;
    return id_check(m, file, "bos_token_id", m->bos_id, -1, err) &&
           id_check(m, file, "pad_token_id", m->pad_id, -1, err);
}
