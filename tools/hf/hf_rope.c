#include "hf_rope.h"
#include "rope.h"

#include <stdio.h>
#include <string.h>

static const char *const layer_kinds[] = {"full_attention", "sliding_attention"};

/* The parameters of one kind of layers, where they are given by kind. They must agree where both
 * kinds are in use: the runtime has one table. */
static bool flatten(const struct json_in *in, const struct model_config *model, const char *name,
                    const json_t **block, struct tp_error *err)
{
    const json_t *entry[2];
    bool used[2] = {false, false};
    for (int i = 0; i < 2; i++)
        entry[i] = json_object_get(*block, layer_kinds[i]);
    if (!entry[0] && !entry[1])
        return true;
    if (!json_find(in->object, "layer_types")) /* transformers would take them for unknown keys */
        return tp_fail(err, TP_E_CF_KEY, "%s: %s: by kind of layer, but there are no layer_types",
                       in->file, name);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)*block, key, value)
    {
        char cut[TP_NAME_BUF];
        if (!json_is_null(value) && strcmp(key, layer_kinds[0]) != 0 &&
            strcmp(key, layer_kinds[1]) != 0)
            return tp_fail(err, TP_E_CF_KEY, "%s: %s: \"%s\" beside parameters by kind of layer",
                           in->file, name, tp_name_cut(cut, key, strlen(key)));
    }
    for (uint64_t i = 0; i < model->n_layers; i++)
        used[model->window[i] != 0] = true;
    const json_t *chosen = NULL;
    for (int i = 0; i < 2; i++) {
        if (!used[i])
            continue;
        if (!json_is_object(entry[i]))
            return tp_fail(err, TP_E_CF_KEY, "%s: %s: %s: rotary parameters expected, %s found",
                           in->file, name, layer_kinds[i], json_type_name(entry[i]));
        if (chosen && !json_equal(chosen, entry[i]))
            return tp_fail(err, TP_E_CF_KEY,
                           "%s: %s: full_attention and sliding_attention differ: not supported",
                           in->file, name);
        chosen = entry[i];
    }
    *block = chosen;
    return true;
}

static bool known_keys(const struct json_in *in, struct tp_error *err)
{
    /* clang-format off */
    static const char *const known[] = {
        "rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
        "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
        "mscale_all_dim", "truncate", "partial_rotary_factor", "finetuned"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)in->object, key, value) {
        bool found = json_is_null(value);
        for (size_t i = 0; i < sizeof known / sizeof *known && !found; i++)
            found = strcmp(key, known[i]) == 0;
        char cut[TP_NAME_BUF];
        if (!found)
            return tp_fail(err, TP_E_CF_KEY, "%s: key \"%s\" is not supported", in->file,
                           tp_name_cut(cut, key, strlen(key)));
    }
    /* clang-format on */
    double part;
    if (!json_get_double_or(in, "partial_rotary_factor", 1, &part, err))
        return false;
    if (part != 1)
        return tp_fail(err, TP_E_CF_KEY, "%s: partial_rotary_factor %g is not supported", in->file,
                       part);
    return true;
}

static bool read_type(const struct json_in *in, enum rope_type *type, struct tp_error *err)
{
    const char *name, *key = json_find(in->object, "rope_type") ? "rope_type" : "type";
    *type = ROPE_DEFAULT;
    if (!json_find(in->object, key)) {
        if (json_find(in->object, "factor"))
            return tp_fail(err, TP_E_CF_ROPE, "%s: a factor, but no rope_type", in->file);
        return true;
    }
    if (!json_get_string(in, key, &name, err))
        return false;
    char cut[TP_NAME_BUF];
    if (!rope_type_from_name(name, type))
        return tp_fail(err, TP_E_CF_KEY,
                       "%s: rope_type %s is not supported; supported: default, linear, llama3, "
                       "yarn",
                       in->file, tp_name_cut(cut, name, strlen(name)));
    return true;
}

/* A missing, null or zero number is the fallback: so transformers reads yarn's. */
static bool number_or(const struct json_in *in, const char *key, double fallback, double *out,
                      struct tp_error *err)
{
    if (!json_get_double_or(in, key, fallback, out, err))
        return false;
    if (*out == 0)
        *out = fallback;
    return true;
}

static bool read_yarn(const struct json_in *in, double max_positions, struct rope_config *rope,
                      struct tp_error *err)
{
    double mscale, mscale_all_dim;
    if (!json_get_double_or(in, "factor", max_positions / rope->original_positions, &rope->factor,
                            err) ||
        !number_or(in, "beta_fast", 32, &rope->beta_fast, err) ||
        !number_or(in, "beta_slow", 1, &rope->beta_slow, err) ||
        !number_or(in, "mscale", 0, &mscale, err) ||
        !number_or(in, "mscale_all_dim", 0, &mscale_all_dim, err) ||
        !json_get_bool_or(in, "truncate", !json_object_get(in->object, "truncate"), &rope->truncate,
                          err)) /* null: false, as in transformers */
        return false;
    double fallback = rope_yarn_attention_factor(rope->factor, mscale, mscale_all_dim);
    return json_get_double_or(in, "attention_factor", fallback, &rope->attention_factor, err);
}

static bool read_scaled(const struct json_in *in, const struct json_in *top, double max_positions,
                        struct rope_config *rope, struct tp_error *err)
{
    double original;
    if (rope->type == ROPE_LINEAR)
        return json_get_double(in, "factor", &rope->factor, err);
    if (!json_get_double_or(in, "original_max_position_embeddings", max_positions, &original,
                            err) ||
        !json_get_double_or(top, "original_max_position_embeddings", original,
                            &rope->original_positions, err))
        return false;
    if (!(rope->original_positions >= 1))
        return tp_fail(err, TP_E_CF_ROPE,
                       "%s: original_max_position_embeddings: %g, 1 or more expected", in->file,
                       rope->original_positions);
    if (rope->type == ROPE_YARN)
        return read_yarn(in, max_positions, rope, err);
    return json_get_double(in, "factor", &rope->factor, err) &&
           json_get_double(in, "low_freq_factor", &rope->low_freq_factor, err) &&
           json_get_double(in, "high_freq_factor", &rope->high_freq_factor, err);
}

/* What config.json says with this block, where *there is one, or without. */
static bool read_block(const struct json_in *in, const struct model_config *model, const char *name,
                       struct rope_config *rope, bool *there, struct tp_error *err)
{
    const json_t *block = json_find(in->object, name);
    *rope = (struct rope_config){.attention_factor = 1, .truncate = true};
    if (block && !json_is_object(block))
        return tp_fail(err, TP_E_CF_FIELD, "%s: %s: an object expected, %s found", in->file, name,
                       json_type_name(block));
    *there = block && json_object_size(block) > 0;
    if (!json_get_double_or(in, "rope_theta", 10000, &rope->theta, err))
        return false;
    if (!*there)
        return true;
    if (!flatten(in, model, name, &block, err))
        return false;
    char where[TP_ERROR_LINE_MAX];
    snprintf(where, sizeof where, "%s: %s", in->file, name);
    struct json_in scaling = {block, where, in->code};
    if (!known_keys(&scaling, err) ||
        !json_get_double_or(&scaling, "rope_theta", rope->theta, &rope->theta, err) ||
        !read_type(&scaling, &rope->type, err))
        return false;
    return rope->type == ROPE_DEFAULT ||
           read_scaled(&scaling, in, (double)model->max_positions, rope, err);
}

/* The keys in which two differ that were read; returns buf. */
static const char *differences(char buf[256], const struct rope_config *a,
                               const struct rope_config *b)
{
    const struct {
        const char *key;
        bool differs;
    } fields[] = {
        {"rope_type", a->type != b->type},
        {"rope_theta", a->theta != b->theta},
        {"factor", a->factor != b->factor},
        {"low_freq_factor", a->low_freq_factor != b->low_freq_factor},
        {"high_freq_factor", a->high_freq_factor != b->high_freq_factor},
        {"original_max_position_embeddings", a->original_positions != b->original_positions},
        {"beta_fast", a->beta_fast != b->beta_fast},
        {"beta_slow", a->beta_slow != b->beta_slow},
        {"attention_factor", a->attention_factor != b->attention_factor},
        {"truncate", a->truncate != b->truncate},
    };
    size_t n = 0;
    buf[0] = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].differs)
            n += (size_t)snprintf(buf + n, 256 - n, "%s%s", n ? ", " : "", fields[i].key);
    return buf;
}

bool hf_rope_read(const struct json_in *in, struct model_config *model,
                  const struct findings *findings, struct tp_error *err)
{
    static const char v4[] = "rope_scaling", v5[] = "rope_parameters";
    struct rope_config other;
    struct tp_error why = {0};
    bool there;
    char keys[256];
    if (!read_block(in, model, v4, &model->rope, &there, err))
        return false;
    if (!there)
        return read_block(in, model, v5, &model->rope, &there, err);
    if (!read_block(in, model, v5, &other, &there, &why))
        finding_note(findings, "%s: %s is taken, %s is not: %.300s", in->file, v4, v5, why.text);
    else if (there && *differences(keys, &model->rope, &other))
        finding_note(findings, "%s: %s and %s differ in %s: %s is taken", in->file, v4, v5, keys,
                     v4);
    return true;
}
