#include "hf_architecture.h"

#include <string.h>

/* transformers 5, models/NAME/configuration_NAME.py and modeling_NAME.py */
/* clang-format off */
static const struct hf_architecture table[] = {
    {.class_name = "LlamaForCausalLM", .model_type = "llama",
     .keys = {"attention_bias", "mlp_bias"},
     .positions = 2048, .bos_id = 1, .eos_id = 2},
    {.class_name = "MistralForCausalLM", .model_type = "mistral",
     .window = WINDOW_ALL, .keys = {"sliding_window"},
     .kv_heads = 8, .positions = 131072, .window_size = 4096, .bos_id = 1, .eos_id = 2},
    {.class_name = "Qwen2ForCausalLM", .model_type = "qwen2",
     .qkv_bias = true,
     .window = WINDOW_UPPER, .keys = {"use_sliding_window", "sliding_window", "max_window_layers"},
     .kv_heads = 32, .positions = 32768, .window_size = 4096, .max_window_layers = 28,
     .bos_id = -1, .eos_id = -1},
    {.class_name = "Qwen3ForCausalLM", .model_type = "qwen3",
     .qk_norm = true,
     .window = WINDOW_UPPER,
     .keys = {"use_sliding_window", "sliding_window", "max_window_layers", "attention_bias"},
     .kv_heads = 32, .head_dim = 128, .positions = 32768, .window_size = 4096,
     .max_window_layers = 28, .bos_id = -1, .eos_id = -1},
};
/* clang-format on */
static const char supported[] =
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM";
enum {
    TABLE_COUNT = sizeof table / sizeof *table,
    KEYS = sizeof table->keys / sizeof *table->keys
};

bool hf_architecture_honours(const struct hf_architecture *architecture, const char *key)
{
    for (size_t i = 0; i < KEYS && architecture->keys[i]; i++)
        if (strcmp(architecture->keys[i], key) == 0)
            return true;
    return false;
}

const char *hf_expert_key(const json_t *object)
{
    static const char *const keys[] = {"num_experts", "num_local_experts", "n_routed_experts",
                                       "moe_num_experts"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_find(object, keys[i]);
        if (value && !json_is_false(value) &&
            !(json_is_number(value) && json_number_value(value) == 0))
            return keys[i];
    }
    return NULL;
}

static void unsupported(const struct json_in *in, const char *what, const char *name,
                        struct tp_error *err)
{
    char cut[TP_NAME_BUF];
    const char *experts = hf_expert_key(in->object);
    tp_fail(err, TP_E_CF_ARCH, "%s: %s %s%s%s is not supported; supported: %s", in->file, what,
            tp_name_cut(cut, name, strlen(name)), experts ? ", a mixture of experts by " : "",
            experts ? experts : "", supported);
}

/* *out stays NULL where "architectures" is missing, null or an empty list. */
static bool class_name(const struct json_in *in, const char **out, struct tp_error *err)
{
    const json_t *value = json_find(in->object, "architectures");
    if (!value)
        return true;
    if (json_is_string(value)) {
        *out = json_string_value(value);
        return true;
    }
    if (!json_is_array(value))
        return tp_fail(err, TP_E_CF_FIELD, "%s: architectures: a list of names expected, %s found",
                       in->file, json_type_name(value));
    if (json_array_size(value) == 0)
        return true;
    const json_t *first = json_array_get(value, 0);
    if (!json_is_string(first))
        return tp_fail(err, TP_E_CF_FIELD, "%s: architectures: a list of names expected, %s in it",
                       in->file, json_type_name(first));
    *out = json_string_value(first);
    return true;
}

const struct hf_architecture *hf_architecture_find(const struct json_in *in, struct tp_error *err)
{
    const char *name = NULL, *type = NULL;
    if (!class_name(in, &name, err))
        return NULL;
    if (json_find(in->object, "model_type") && !json_get_string(in, "model_type", &type, err))
        return NULL;
    if (!name && !type) {
        tp_fail(err, TP_E_CF_FIELD, "%s: model_type: missing, and architectures too", in->file);
        return NULL;
    }
    const struct hf_architecture *found = NULL;
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(name ? name : type, name ? table[i].class_name : table[i].model_type) == 0)
            found = &table[i];
    if (!found)
        unsupported(in, name ? "architecture" : "model_type", name ? name : type, err);
    if (found && type && strcmp(type, found->model_type) != 0) {
        char cut[TP_NAME_BUF];
        tp_fail(err, TP_E_CF_ARCH, "%s: architecture %s with model_type %s is not supported",
                in->file, found->class_name, tp_name_cut(cut, type, strlen(type)));
        found = NULL;
    }
    return found;
}

const struct hf_architecture *hf_architecture_guess(const json_t *object)
{
    bool named = json_find(object, "architectures") || json_find(object, "model_type");
    bool llama = json_object_get(object, "mlp_bias") && json_object_get(object, "pretraining_tp");
    return !named && llama ? &table[0] : NULL;
}
