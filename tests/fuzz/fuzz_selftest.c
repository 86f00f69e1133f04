/* The input is a selftest.json, compared with the results of a small model. What agrees with them
 * names every one of their hashes. */
#include "json.h"
#include "selftest.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct model_config model = {
    .n_layers = 2, .vocab = 7, .max_positions = 3, .hidden = 4};

static void fill(struct selftest *test)
{
    struct tp_error err = {0};
    tp_assert(selftest_init(test, &model, &err));
    for (uint32_t p = 0; p < test->n_prompts; p++) {
        for (uint32_t i = 0; i < test->prompts[p].n_ids; i++) {
            float logits[7];
            for (uint32_t id = 0; id < model.vocab; id++)
                logits[id] = (float)((id * 3 + p + i) % 5);
            selftest_set_logits(test, p, i, logits, model.vocab);
        }
        for (uint32_t l = 0; l <= test->n_layers; l++)
            test->layers[p][l] = hash_bytes((uint32_t[]){p, l}, 8);
    }
}

static void check_hash(const json_t *value, struct hash128 want)
{
    char hex[33];
    hash_to_hex(want, hex);
    tp_assert(json_is_string(value) && strcmp(json_string_value(value), hex) == 0);
}

static void check_agrees(const struct selftest *test, const char *text, size_t n)
{
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    const json_t *prompts = json_object_get(root, "prompts");
    tp_assert(json_array_size(prompts) == test->n_prompts);
    for (uint32_t p = 0; p < test->n_prompts; p++) {
        const json_t *prompt = json_array_get(prompts, p);
        const json_t *layers = json_object_get(prompt, "layers");
        const json_t *positions = json_object_get(prompt, "positions");
        for (uint32_t l = 0; l <= test->n_layers; l++)
            check_hash(json_array_get(layers, l), test->layers[p][l]);
        for (uint32_t i = 0; i < test->prompts[p].n_ids; i++)
            check_hash(json_object_get(json_array_get(positions, i), "logits"),
                       test->positions[p][i].hash);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct selftest test;
    struct tp_error err = {0};
    if (!test.n_prompts)
        fill(&test);
    if (selftest_compare(&test, "fuzz", (const char *)data, size, &err))
        check_agrees(&test, (const char *)data, size);
    else
        tp_assert(err.code != TP_OK && err.text[0]);
    return 0;
}
