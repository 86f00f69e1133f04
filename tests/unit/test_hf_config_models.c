/* Published configs and the checkpoints with known results, where that data is at hand. */
#include "generation_config.h"
#include "hf_config.h"
#include "io.h"
#include "mem.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *shared(void)
{
    const char *dir = getenv("SHARED");
    return dir ? dir : "../shared";
}

/* Paths under the data folder; an empty result skips the test, loudly. */
static void find(const char *pattern, glob_t *found)
{
    char full[IO_PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", shared(), pattern);
    if (glob(full, 0, NULL, found) != 0) {
        print_message("SKIP: %s: no such files\n", full);
        skip();
    }
}

/* What is refused, and why: the code and a word of the line. */
static const struct {
    const char *file;
    enum tp_code code;
    const char *word;
} not_read[] = {
    {"Qwen--Qwen3-235B-A22B.json", TP_E_CF_ARCH, "Qwen3MoeForCausalLM"},
    {"Qwen--Qwen3-30B-A3B-FP8.json", TP_E_CF_ARCH, "Qwen3MoeForCausalLM"},
    {"Qwen--Qwen3-30B-A3B.json", TP_E_CF_ARCH, "a mixture of experts by num_experts"},
    {"Qwen--Qwen3.5-27B.json", TP_E_CF_ARCH, "Qwen3_5ForConditionalGeneration"},
    {"WizardLM-2-8x22B.json", TP_E_CF_ARCH, "MixtralForCausalLM"},
    {"compressed-tensors--example_int8.json", TP_E_CF_FIELD, "model_type"}, /* no model's config */
    {"compressed-tensors--fp8-dynamic.quantization_config.json", TP_E_CF_FIELD, "model_type"},
    {"gptq--llama-2-13b-chat.quantize_config.json", TP_E_CF_FIELD, "model_type"},
    {"meta-llama--Llama-3.1-70B-Instruct.json", TP_E_CF_FIELD,
     "model_type"}, /* stripped of both names */
    {"deepseek-ai--DeepSeek-R1.json", TP_E_CF_ARCH, "DeepseekV3ForCausalLM"},
    {"deepseek-ai--DeepSeek-V3.json", TP_E_CF_ARCH, "DeepseekV3ForCausalLM"},
    {"google--gemma-2-2b.json", TP_E_CF_ARCH, "Gemma2ForCausalLM"},
    {"google--gemma-2-9b.json", TP_E_CF_ARCH, "Gemma2ForCausalLM"},
    {"google--gemma-3-27b-it.json", TP_E_CF_ARCH, "Gemma3ForConditionalGeneration"},
    {"google--gemma-4-26B-A4B.json", TP_E_CF_ARCH, "Gemma4ForConditionalGeneration"},
    {"meta-llama--Llama-4-Scout-17B-16E-Instruct.json", TP_E_CF_ARCH,
     "Llama4ForConditionalGeneration"},
    {"microsoft--Phi-3-medium-4k-instruct.json", TP_E_CF_ARCH, "Phi3ForCausalLM"},
    {"microsoft--Phi-3-mini-128k-instruct.json", TP_E_CF_ARCH, "Phi3ForCausalLM"},
    {"microsoft--Phi-3-mini-4k-instruct.json", TP_E_CF_ARCH, "Phi3ForCausalLM"},
    {"mistralai--Mixtral-8x22B-v0.1.json", TP_E_CF_ARCH, "MixtralForCausalLM"},
    {"mistralai--Mixtral-8x7B-v0.1.json", TP_E_CF_ARCH,
     "a mixture of experts by num_local_experts"},
    {"moonshotai--Kimi-K2-Instruct.json", TP_E_CF_ARCH, "DeepseekV3ForCausalLM"},
    {"moonshotai--Kimi-K2.5.json", TP_E_CF_ARCH, "KimiK25ForConditionalGeneration"},
    {"openai--gpt-oss-20b.json", TP_E_CF_ARCH, "GptOssForCausalLM"},
    {"phi3--chocolatine-3b.json", TP_E_CF_ARCH, "Phi3ForCausalLM"},
};

static const struct {
    const char *file, *quantization;
} quantized[] = {
    {"Qwen--Qwen3-32B-FP8-Static-PerTensor.json", "modelopt FP8"},
    {"Qwen--Qwen3-32B-FP8.json", "fp8"},
    {"awq--Qwen3-32B-v5.json", "awq 4-bit"},
    {"bnb4--llama-2-13b-v5.json", "bitsandbytes 4-bit"},
    {"bnb8--llama-3.1-8b-instruct.json", "bitsandbytes 8-bit"},
    {"bnb8--llama-3.1-8b-linear-rope.json", "bitsandbytes 8-bit"},
    {"gptq--genz-70b-3bit-actorder.json", "gptq 3-bit"},
    {"gptq--llama-2-13b-chat.json", "gptq 4-bit"},
    {"gptq--wizard-vicuna-30b.json", "gptq 4-bit"},
    {"mlx3--qwen2-14b.json", "mlx 3-bit"},
    {"mlx4--qwen3-14b.json", "mlx 4-bit"},
};

static struct hf_config config, again;

/* Refused as the table says, or read with the scheme that the table says. */
static void check_published(const char *path)
{
    const char *name = io_base_name(path), *scheme = "";
    struct tp_error err = {0};
    bool ok = hf_config_read(path, NULL, &config, NULL, NULL, &err);
    for (size_t i = 0; i < sizeof not_read / sizeof *not_read; i++)
        if (strcmp(name, not_read[i].file) == 0) {
            if (ok || err.code != not_read[i].code || !strstr(err.text, not_read[i].word))
                fail_msg("%s: %s expected: %s", name, not_read[i].word, err.text);
            return;
        }
    if (!ok)
        fail_msg("%s: refused: %s", name, err.text);
    for (size_t i = 0; i < sizeof quantized / sizeof *quantized; i++)
        if (strcmp(name, quantized[i].file) == 0)
            scheme = quantized[i].quantization;
    if (strcmp(config.quantization, scheme) != 0)
        fail_msg("%s: quantization \"%s\", \"%s\" expected", name, config.quantization, scheme);
    json_t *json = model_config_to_json(&config.model, &err);
    assert_true(model_config_from_json(json, name, &again.model, &err));
    assert_memory_equal(&config.model, &again.model, sizeof config.model);
    json_decref(json);
}

static void published_configs_are_read_or_refused_by_name(void **state)
{
    (void)state;
    glob_t found;
    find("data/configs/*.json", &found);
    for (size_t i = 0; i < found.gl_pathc; i++)
        check_published(found.gl_pathv[i]);
    globfree(&found);
}

static void configs_beside_tokenizers_are_read_or_refused_by_name(void **state)
{
    (void)state;
    static const char *const readable[] = {
        "llama-2-7b",         "llama-3.2", "qwen2.5", "qwen3", "smollm2-135m-instruct",
        "tinyllama-1.1b-chat"};
    glob_t found;
    find("data/tokenizers/*/config.json", &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct tp_error err = {0};
        bool ok = hf_config_read(found.gl_pathv[i], NULL, &config, NULL, NULL, &err),
             wanted = false;
        for (size_t j = 0; j < sizeof readable / sizeof *readable; j++) {
            char part[64];
            snprintf(part, sizeof part, "/%s/", readable[j]);
            wanted |= strstr(found.gl_pathv[i], part) != NULL;
        }
        if (ok != wanted || (!ok && (err.code != TP_E_CF_ARCH || !strstr(err.text, "ForCausalLM"))))
            fail_msg("%s: %s", found.gl_pathv[i], ok ? "read" : err.text);
    }
    globfree(&found);
}

/* As the README of those folders lists them. window: of the first and the last layer. */
static const struct {
    const char *name;
    uint64_t n_layers, heads, kv_heads, head_dim, hidden, d_ff, vocab, window[2];
    enum dtype dtype;
    enum rope_type rope;
    bool tied, qkv_bias, o_bias, mlp_bias, qk_norm;
    const char *quantization;
    /* clang-format off */
} known[] = {
    {"llama-gqa", 3, 8, 2, 16, 128, 344, 512, {0, 0}, DTYPE_F32, ROPE_DEFAULT, 0, 0, 0, 0, 0, ""},
    {"llama3-rope", 4, 6, 2, 24, 144, 400, 515, {0, 0}, DTYPE_BF16, ROPE_LLAMA3, 1, 0, 0, 0, 0, ""},
    {"mistral-window", 4, 5, 5, 32, 96, 256, 512, {16, 16}, DTYPE_BF16, ROPE_DEFAULT, 0, 0, 0, 0, 0,
     ""},
    {"qwen2-bias", 4, 14, 2, 8, 112, 296, 640, {0, 0}, DTYPE_BF16, ROPE_DEFAULT, 0, 1, 0, 0, 0, ""},
    {"qwen3-norm", 4, 4, 2, 32, 96, 256, 512, {0, 0}, DTYPE_F16, ROPE_DEFAULT, 1, 0, 0, 0, 1, ""},
    {"qwen2-28x4", 2, 28, 4, 8, 224, 592, 512, {0, 0}, DTYPE_BF16, ROPE_DEFAULT, 0, 1, 0, 0, 0, ""},
    {"mqa-bias", 3, 7, 1, 16, 112, 300, 512, {0, 0}, DTYPE_F32, ROPE_LINEAR, 0, 1, 1, 1, 0, ""},
    {"yarn", 3, 4, 2, 32, 128, 320, 512, {0, 0}, DTYPE_BF16, ROPE_YARN, 0, 0, 0, 0, 0, ""},
    {"qwen2-window", 4, 8, 2, 16, 128, 288, 512, {0, 12}, DTYPE_BF16, ROPE_DEFAULT, 0, 1, 0, 0, 0,
     ""},
    {"yarn-keys", 3, 6, 2, 32, 96, 256, 512, {0, 0}, DTYPE_BF16, ROPE_YARN, 0, 0, 0, 0, 1, ""},
    {"mixed-dtype", 3, 6, 3, 16, 96, 256, 512, {0, 0}, DTYPE_F32, ROPE_DEFAULT, 0, 0, 0, 0, 0, ""},
    {"fp8-block", 2, 8, 2, 32, 256, 320, 512, {0, 0}, DTYPE_BF16, ROPE_DEFAULT, 0, 0, 0, 0, 1,
     "fp8"},
    {"ct-int8", 2, 8, 4, 32, 256, 384, 512, {0, 0}, DTYPE_BF16, ROPE_DEFAULT, 0, 0, 0, 0, 0,
     "compressed-tensors int-quantized"},
    {"ct-fp8", 2, 8, 2, 32, 256, 384, 512, {0, 0}, DTYPE_BF16, ROPE_DEFAULT, 0, 1, 0, 0, 0,
     "compressed-tensors float-quantized"},
    {"ct-w4a16", 2, 8, 2, 32, 256, 384, 512, {0, 0}, DTYPE_BF16, ROPE_DEFAULT, 0, 0, 0, 0, 0,
     "compressed-tensors pack-quantized"},
    {"gptq-g128", 2, 8, 2, 32, 256, 384, 512, {0, 0}, DTYPE_F16, ROPE_DEFAULT, 0, 1, 0, 0, 0,
     "gptq 4-bit"},
    {"gptq-actorder", 2, 4, 2, 64, 256, 384, 512, {0, 0}, DTYPE_F16, ROPE_DEFAULT, 0, 0, 0, 0, 0,
     "gptq 4-bit"},
    {"awq-g64", 2, 8, 4, 32, 256, 384, 512, {0, 0}, DTYPE_F16, ROPE_DEFAULT, 0, 0, 0, 0, 0,
     "awq 4-bit"},
};
/* clang-format on */

static void checkpoints_with_known_results_are_read_exactly(void **state)
{
    (void)state;
    glob_t found;
    find("checkpoints/*/config.json", &found);
    globfree(&found);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char dir[IO_PATH_MAX];
        struct tp_error err = {0};
        snprintf(dir, sizeof dir, "%s/checkpoints/%s", shared(), known[i].name);
        if (!hf_config_read(dir, NULL, &config, NULL, NULL, &err))
            fail_msg("%s", err.text);
        const struct model_config *m = &config.model;
        print_message("%s\n", known[i].name);
        assert_int_equal(m->n_layers, known[i].n_layers);
        assert_int_equal(m->n_heads, known[i].heads);
        assert_int_equal(m->n_kv_heads, known[i].kv_heads);
        assert_int_equal(m->head_dim, known[i].head_dim);
        assert_int_equal(m->hidden, known[i].hidden);
        assert_int_equal(m->d_ff, known[i].d_ff);
        assert_int_equal(m->vocab, known[i].vocab);
        assert_int_equal(m->window[0], known[i].window[0]);
        assert_int_equal(m->window[m->n_layers - 1], known[i].window[1]);
        assert_int_equal(m->dtype, known[i].dtype);
        assert_int_equal(m->rope.type, known[i].rope);
        assert_int_equal(m->tied_embeddings, known[i].tied);
        assert_int_equal(m->qkv_bias, known[i].qkv_bias);
        assert_int_equal(m->o_bias, known[i].o_bias);
        assert_int_equal(m->mlp_bias, known[i].mlp_bias);
        assert_int_equal(m->qk_norm, known[i].qk_norm);
        assert_string_equal(config.quantization, known[i].quantization);
    }
}

static void published_generation_configs_are_read(void **state)
{
    (void)state;
    glob_t found;
    find("*/*/*/generation_config.json", &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *data;
        size_t n;
        struct tp_error err = {0};
        struct generation_config g;
        assert_true(io_read_file(found.gl_pathv[i], GENERATION_CONFIG_BYTES_MAX, &data, &n, &err));
        struct findings findings = {.strict = true};
        if (!generation_config_read(found.gl_pathv[i], data, n, 262144, &findings, &g, &err))
            fail_msg("%s", err.text);
        assert_true(g.n_eos >= 1 && g.ignored == NULL);
        mem_free(data);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_configs_are_read_or_refused_by_name),
        cmocka_unit_test(configs_beside_tokenizers_are_read_or_refused_by_name),
        cmocka_unit_test(checkpoints_with_known_results_are_read_exactly),
        cmocka_unit_test(published_generation_configs_are_read),
    };
    return cmocka_run_group_tests_name("hf_config_models", tests, NULL, NULL);
}
