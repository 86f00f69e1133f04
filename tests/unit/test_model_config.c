/* The manifest's form of a model: exact there and back, every field needed and checked. */
#include "model_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct model_config sample(void)
{
    struct model_config m = {.architecture = "Qwen2ForCausalLM",
                             .n_layers = 3,
                             .hidden = 112,
                             .n_heads = 14,
                             .n_kv_heads = 2,
                             .head_dim = 8,
                             .d_ff = 296,
                             .vocab = 640,
                             .max_positions = 4096,
                             .rms_eps = 1e-6,
                             .dtype = DTYPE_BF16,
                             .tied_embeddings = true,
                             .qkv_bias = true,
                             .rope = {.type = ROPE_YARN,
                                      .theta = 1e6 / 3,
                                      .factor = 4,
                                      .original_positions = 1024,
                                      .beta_fast = 32,
                                      .beta_slow = 1,
                                      .attention_factor = 1.138629436111989,
                                      .truncate = true},
                             .window = {0, 0, 12},
                             .bos_id = -1,
                             .pad_id = 5,
                             .n_eos = 2,
                             .eos_id = {1, 639}};
    return m;
}

static bool parse(const json_t *json, struct model_config *m, struct tp_error *err)
{
    *err = (struct tp_error){0};
    return model_config_from_json(json, "manifest.json", m, err);
}

static void every_field_survives_text(void **state)
{
    (void)state;
    static struct model_config m, back;
    struct tp_error err = {0};
    m = sample();
    json_t *json = model_config_to_json(&m, &err);
    assert_non_null(json);
    char *text = json_dumps(json, JSON_REAL_PRECISION(17));
    json_t *again = json_loads(text, 0, NULL);
    assert_true(parse(again, &back, &err));
    assert_memory_equal(&m, &back, sizeof m);
    m.dtype = DTYPE_NONE;
    json_decref(json);
    json = model_config_to_json(&m, &err);
    assert_true(parse(json, &back, &err));
    assert_int_equal(back.dtype, DTYPE_NONE);
    json_decref(json);
    json_decref(again);
    free(text);
}

static void a_missing_field_or_another_type_is_refused_by_name(void **state)
{
    (void)state;
    static struct model_config m, back;
    struct tp_error err = {0};
    m = sample();
    json_t *json = model_config_to_json(&m, &err);
    for (int rope = 0; rope < 2; rope++) {
        json_t *object = rope ? json_object_get(json, "rope") : json, *value, *copy;
        const char *key;
        void *next;
        json_object_foreach_safe(object, next, key, value)
        {
            char name[64];
            snprintf(name, sizeof name, "%s", key);
            copy = json_deep_copy(value);
            json_object_set_new(object, name, json_null());
            assert_false(parse(json, &back, &err));
            assert_int_equal(err.code, TP_E_MANIFEST);
            assert_non_null(strstr(err.text, name));
            json_object_set_new(object, name, copy);
            assert_true(parse(json, &back, &err));
        }
    }
    json_decref(json);
}

static void refused(const char *key, json_t *value, enum tp_code code, const char *word)
{
    static struct model_config m, back;
    struct tp_error err = {0};
    m = sample();
    json_t *json = model_config_to_json(&m, &err);
    json_object_set_new(json, key, value);
    assert_false(parse(json, &back, &err));
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, word));
    json_decref(json);
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    refused("n_layers", json_integer(0), TP_E_MANIFEST, "layers");
    refused("n_layers", json_integer(4), TP_E_MANIFEST, "window");
    refused("n_kv_heads", json_integer(0), TP_E_CF_RANGE, "num_key_value_heads");
    refused("n_kv_heads", json_integer(3), TP_E_CF_HEADS, "3");
    refused("head_dim", json_integer(7), TP_E_CF_HEADS, "7");
    refused("hidden", json_integer(INT64_MAX), TP_E_CF_RANGE, "hidden_size");
    refused("vocab", json_integer(639), TP_E_CF_TOKEN_ID, "639");
    refused("bos_id", json_integer(-2), TP_E_CF_TOKEN_ID, "bos_token_id");
    refused("rms_eps", json_real(0), TP_E_CF_RANGE, "rms_norm_eps");
    refused("dtype", json_string("int8"), TP_E_MANIFEST, "int8");
    refused("dtype", json_string("f64"), TP_E_MANIFEST, "f64");
    refused("window", json_pack("[i, i, i]", 1, 2, -3), TP_E_MANIFEST, "window");
    refused("architecture",
            json_string("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            TP_E_MANIFEST, "architecture");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_survives_text),
        cmocka_unit_test(a_missing_field_or_another_type_is_refused_by_name),
        cmocka_unit_test(values_out_of_range_are_refused),
    };
    return cmocka_run_group_tests_name("model_config", tests, NULL, NULL);
}
