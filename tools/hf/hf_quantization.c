#include "hf_quantization.h"

#include <stdio.h>
#include <string.h>

/* NULL where the key is missing or no text */
static const char *text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* 0 where none are named */
static long long bits_of(const json_t *block)
{
    if (json_is_true(json_object_get(block, "load_in_4bit")))
        return 4;
    if (json_is_true(json_object_get(block, "load_in_8bit")))
        return 8;
    const json_t *bits = json_object_get(block, "bits");
    return json_is_integer(bits) ? json_integer_value(bits) : 0;
}

/* The block that names a quantization, of whichever program; NULL: none does, or an empty one. */
static const json_t *find_block(const json_t *config)
{
    static const char *const keys[] = {"quantization_config", "compression_config", "quantization"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *block = json_find(config, keys[i]);
        bool empty = json_is_object(block)  ? json_object_size(block) == 0
                     : json_is_array(block) ? json_array_size(block) == 0
                                            : json_is_false(block);
        if (block && !empty)
            return block;
    }
    return NULL;
}

void hf_quantization_name(const struct json_in *in, char name[HF_QUANTIZATION_MAX])
{
    const json_t *block = find_block(in->object);
    bool mlx = json_find(in->object, "quantization") != NULL;
    name[0] = 0;
    if (!block)
        return;
    const char *method = text(block, "quant_method"), *detail = text(block, "format");
    if (!method && text(block, "quant_algo")) {
        method = "modelopt";
        detail = text(block, "quant_algo");
    } else if (!method) {
        method = mlx ? "mlx" : "unknown";
    }
    long long bits = bits_of(block);
    int n = snprintf(name, HF_QUANTIZATION_MAX, "%.32s%s%.32s", method, detail ? " " : "",
                     detail ? detail : "");
    if (bits)
        snprintf(name + n, HF_QUANTIZATION_MAX - (size_t)n, " %lld-bit", bits);
}

static bool is_something(const json_t *value)
{
    return json_is_object(value) || json_is_array(value)
               ? json_object_size(value) + json_array_size(value) > 0
               : value && !json_is_null(value) && !json_is_false(value);
}

const char *hf_quantization_at_work(const struct json_in *in)
{
    static const char *const of_block[] = {"kv_cache_scheme", "transform_config"},
                             *const of_group[] = {"input_activations", "output_activations"};
    const json_t *block = find_block(in->object);
    const char *method = block ? text(block, "quant_method") : NULL, *name;
    json_t *group;
    if (method && strcmp(method, "bitnet") == 0)
        return "bitnet";
    for (size_t i = 0; i < 2; i++)
        if (is_something(json_object_get(block, of_block[i])))
            return of_block[i];
    json_object_foreach(json_object_get(block, "config_groups"), name, group)
    {
        for (size_t i = 0; i < 2; i++)
            if (is_something(json_object_get(group, of_group[i])))
                return of_group[i];
    }
    return NULL;
}
