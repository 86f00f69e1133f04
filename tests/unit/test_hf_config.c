/* config.json: what is read, what is refused, rows 46 to 60 of the fault catalogue (those about
 * config.json alone). A case is a base text with some keys replaced. */
#include "hf_config.h"
#include "output_file.h"
#include "mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char llama[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 128,"
    " \"num_hidden_layers\": 4, \"num_attention_heads\": 8, \"num_key_value_heads\": 2,"
    " \"intermediate_size\": 344, \"vocab_size\": 512, \"max_position_embeddings\": 256,"
    " \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0, \"bos_token_id\": 1, \"eos_token_id\": 2,"
    " \"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": false, \"hidden_act\": \"silu\"}";
static const char qwen[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_size\": 128,"
    " \"num_hidden_layers\": 4, \"num_attention_heads\": 8, \"num_key_value_heads\": 2,"
    " \"intermediate_size\": 344, \"vocab_size\": 512, \"max_position_embeddings\": 256,"
    " \"rms_norm_eps\": 1e-06, \"use_sliding_window\": true, \"sliding_window\": 12,"
    " \"max_window_layers\": 2}";
#define AS_MISTRAL "{\"architectures\": [\"MistralForCausalLM\"], \"model_type\": \"mistral\""
#define AS_QWEN3 "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\""

static struct hf_config config;
static struct tp_error error;
static char notes[2048]; /* lines that reading it said */
static unsigned n_notes;

/* hf_config_parse, whose notes are kept. */
static bool parse(const char *text, size_t n, const struct hf_options *options)
{
    struct findings findings = {0};
    struct hf_options o = options ? *options : (struct hf_options){0};
    FILE *said = tmpfile();
    int stderr_was = dup(2);
    assert_true(said && stderr_was >= 0 && dup2(fileno(said), 2) == 2);
    o.findings = &findings;
    error = (struct tp_error){0};
    bool ok = hf_config_parse("config.json", text, n, &o, &config, &error);
    assert_true(dup2(stderr_was, 2) == 2);
    close(stderr_was);
    rewind(said);
    size_t length = fread(notes, 1, sizeof notes - 1, said);
    fclose(said);
    notes[length] = '\0';
    n_notes = 0;
    for (const char *line = notes; (line = strchr(line, '\n')) != NULL; line++)
        n_notes++;
    return ok;
}

/* base with the members of changes set, and those of value "-" removed; false leaves the error in
 * error */
static bool read_with(const char *base, const char *changes, const struct hf_options *options)
{
    json_t *object = json_loads(base, 0, NULL), *more = json_loads(changes, 0, NULL), *value;
    assert_non_null(object);
    assert_non_null(more);
    const char *key;
    json_object_foreach(more, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "-") == 0)
            json_object_del(object, key);
        else
            json_object_set(object, key, value);
    }
    char *text = json_dumps(object, JSON_PRESERVE_ORDER);
    bool ok = parse(text, strlen(text), options);
    free(text);
    json_decref(object);
    json_decref(more);
    return ok;
}

static const struct model_config *accepted(const char *base, const char *changes)
{
    if (!read_with(base, changes, NULL))
        fail_msg("%s: refused: %s", changes, error.text);
    return &config.model;
}

/* Refused with this exit code, the line naming word. */
static void refused(const char *base, const char *changes, enum tp_exit code, const char *word)
{
    if (read_with(base, changes, NULL))
        fail_msg("%s: accepted", changes);
    if (tp_code_exit(error.code) != code || !strstr(error.text, word) ||
        !strstr(error.text, "config.json"))
        fail_msg("%s: exit %d, %d and \"%s\" expected: %s", changes, (int)tp_code_exit(error.code),
                 (int)code, word, error.text);
}

static void text_refused(const char *text, size_t n)
{
    assert_false(parse(text, n, NULL));
    assert_int_equal(tp_code_exit(error.code), TP_EXIT_INPUT);
}

/* ---- what is read ---- */

static void llama_is_read_in_the_form_of_transformers_4(void **state)
{
    (void)state;
    const struct model_config *m = accepted(llama, "{\"rope_scaling\": null}");
    assert_string_equal(m->architecture, "LlamaForCausalLM");
    assert_int_equal(m->n_layers, 4);
    assert_int_equal(m->hidden, 128);
    assert_int_equal(m->n_heads, 8);
    assert_int_equal(m->n_kv_heads, 2);
    assert_int_equal(m->head_dim, 16);
    assert_int_equal(m->d_ff, 344);
    assert_int_equal(m->vocab, 512);
    assert_int_equal(m->max_positions, 256);
    assert_true(m->rms_eps == 1e-5 && m->rope.theta == 500000);
    assert_int_equal(m->rope.type, ROPE_DEFAULT);
    assert_true(m->rope.attention_factor == 1);
    assert_int_equal(m->dtype, DTYPE_BF16);
    assert_false(m->tied_embeddings || m->qkv_bias || m->o_bias || m->mlp_bias || m->qk_norm);
    assert_int_equal(m->bos_id, 1);
    assert_int_equal(m->pad_id, -1);
    assert_int_equal(m->n_eos, 1);
    assert_int_equal(m->eos_id[0], 2);
    assert_int_equal(m->window[3], 0);
    assert_string_equal(config.quantization, "");
    assert_int_equal(n_notes, 0);
}

static void the_form_of_transformers_5_gives_the_same(void **state)
{
    (void)state;
    const struct model_config *m = accepted(
        llama,
        "{\"torch_dtype\": \"-\", \"dtype\": \"float16\", \"rope_theta\": \"-\","
        " \"rope_parameters\": {\"rope_theta\": 1e6, \"rope_type\": \"linear\", \"factor\": 2.0},"
        " \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\","
        " \"full_attention\"]}");
    assert_int_equal(m->dtype, DTYPE_F16);
    assert_int_equal(m->rope.type, ROPE_LINEAR);
    assert_true(m->rope.theta == 1e6 && m->rope.factor == 2);
}

static void what_old_configs_leave_out_is_the_default_of_the_architecture(void **state)
{
    (void)state;
    const char *gaps =
        "{\"num_key_value_heads\": \"-\", \"rope_theta\": \"-\", \"torch_dtype\": \"-\","
        " \"max_position_embeddings\": \"-\", \"tie_word_embeddings\": \"-\","
        " \"eos_token_id\": \"-\", \"bos_token_id\": \"-\"}";
    const struct model_config *m = accepted(llama, gaps);
    assert_int_equal(m->n_kv_heads, 8);
    assert_true(m->rope.theta == 10000);
    assert_int_equal(m->dtype, DTYPE_NONE);
    assert_int_equal(m->max_positions, 2048);
    assert_int_equal(m->bos_id, 1);
    assert_int_equal(m->eos_id[0], 2);
    m = accepted(qwen, "{}");
    assert_int_equal(m->bos_id, -1);
    assert_int_equal(m->n_eos, 0);
    m = accepted(llama, "{\"num_key_value_heads\": null, \"eos_token_id\": null}");
    assert_int_equal(m->n_kv_heads, 8);
    assert_int_equal(m->n_eos, 0);
    m = accepted(qwen, "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\"}");
    assert_int_equal(m->head_dim, 128);
}

static void architectures_differ_in_biases_and_norms(void **state)
{
    (void)state;
    const struct model_config *m = accepted(qwen, "{}");
    assert_true(m->qkv_bias && !m->o_bias && !m->mlp_bias && !m->qk_norm);
    m = accepted(qwen, AS_QWEN3 "}");
    assert_true(!m->qkv_bias && !m->o_bias && m->qk_norm);
    m = accepted(qwen, AS_QWEN3 ", \"attention_bias\": true}");
    assert_true(m->qkv_bias && m->o_bias && m->qk_norm);
    m = accepted(llama, "{\"attention_bias\": true, \"mlp_bias\": true, \"head_dim\": 32}");
    assert_true(m->qkv_bias && m->o_bias && m->mlp_bias && m->head_dim == 32);
}

static void model_type_decides_where_architectures_is_absent(void **state)
{
    (void)state;
    assert_string_equal(accepted(qwen, "{\"architectures\": \"-\"}")->architecture,
                        "Qwen2ForCausalLM");
    assert_string_equal(accepted(llama, "{\"architectures\": []}")->architecture,
                        "LlamaForCausalLM");
    assert_string_equal(accepted(llama, "{\"model_type\": \"-\"}")->architecture,
                        "LlamaForCausalLM");
    refused(llama, "{\"architectures\": null, \"model_type\": null}", TP_EXIT_INPUT, "model_type");
}

static void windows_are(const struct model_config *m, uint64_t a, uint64_t b, uint64_t c,
                        uint64_t d)
{
    assert_int_equal(m->window[0], a);
    assert_int_equal(m->window[1], b);
    assert_int_equal(m->window[2], c);
    assert_int_equal(m->window[3], d);
}

static void windows_follow_the_rule_of_the_architecture(void **state)
{
    (void)state;
    windows_are(accepted(llama, AS_MISTRAL ", \"sliding_window\": 16}"), 16, 16, 16, 16);
    windows_are(accepted(llama, AS_MISTRAL ", \"sliding_window\": null}"), 0, 0, 0, 0);
    windows_are(accepted(llama, AS_MISTRAL "}"), 4096, 4096, 4096, 4096);
    windows_are(accepted(qwen, "{}"), 0, 0, 12, 12);
    windows_are(accepted(qwen, "{\"max_window_layers\": 4}"), 0, 0, 0, 0);
    windows_are(accepted(qwen, "{\"max_window_layers\": \"-\"}"), 0, 0, 0, 0);
    windows_are(accepted(qwen, "{\"use_sliding_window\": false}"), 0, 0, 0, 0);
    windows_are(accepted(qwen, "{\"use_sliding_window\": \"-\"}"), 0, 0, 0, 0);
    windows_are(accepted(qwen, "{\"sliding_window\": null}"), 0, 0, 0, 0);
    windows_are(accepted(qwen, AS_QWEN3 ", \"max_window_layers\": 0}"), 12, 12, 12, 12);
    refused(llama, AS_MISTRAL ", \"sliding_window\": 0}", TP_EXIT_INPUT, "sliding_window");
    refused(llama, "{\"sliding_window\": 16}", TP_EXIT_UNSUPPORTED, "sliding_window");
}

#define TYPES(a, b) "\"layer_types\": [\"" a "\", \"" b "\", \"" a "\", \"" b "\"]"

static void layer_types_decide_where_given(void **state)
{
    (void)state;
    windows_are(accepted(qwen, "{" TYPES("sliding_attention", "full_attention") "}"), 12, 0, 12, 0);
    windows_are(accepted(llama, AS_MISTRAL ", \"sliding_window\": 16, " TYPES(
                                    "full_attention", "sliding_attention") "}"),
                0, 16, 0, 16);
    windows_are(accepted(qwen, "{\"use_sliding_window\": false, " TYPES("sliding_attention",
                                                                        "full_attention") "}"),
                0, 0, 0, 0);
    assert_int_equal(n_notes, 1);
    refused(llama, "{" TYPES("sliding_attention", "full_attention") "}", TP_EXIT_UNSUPPORTED,
            "sliding_attention");
    refused(qwen, "{" TYPES("linear_attention", "full_attention") "}", TP_EXIT_UNSUPPORTED,
            "linear_attention");
    refused(qwen, "{\"layer_types\": [\"full_attention\"]}", TP_EXIT_INPUT, "layer_types");
    refused(qwen, "{\"layer_types\": [1, 2, 3, 4]}", TP_EXIT_INPUT, "layer_types");
}

static void rope_scaling_is_resolved(void **state)
{
    (void)state;
    const struct rope_config *r =
        &accepted(llama,
                  "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1,"
                  " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 32}}")
             ->rope;
    assert_int_equal(r->type, ROPE_LLAMA3);
    assert_true(r->factor == 8 && r->low_freq_factor == 1 && r->high_freq_factor == 4 &&
                r->original_positions == 32 && r->theta == 500000 && r->attention_factor == 1);

    r = &accepted(llama, "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0,"
                         " \"original_max_position_embeddings\": 64}}")
             ->rope;
    assert_true(r->type == ROPE_YARN && r->beta_fast == 32 && r->beta_slow == 1 && r->truncate);
    assert_true(fabs(r->attention_factor - 1.138629436111989) < 1e-15);

    r = &accepted(llama,
                  "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 5.0, \"beta_fast\": 16,"
                  " \"beta_slow\": 2, \"attention_factor\": 1.25, \"truncate\": false}}")
             ->rope;
    assert_true(r->beta_fast == 16 && r->beta_slow == 2 && r->attention_factor == 1.25 &&
                !r->truncate && r->original_positions == 256);

    r = &accepted(llama, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale\": 1.0,"
                         " \"mscale_all_dim\": 0.707, \"original_max_position_embeddings\": 64}}")
             ->rope;
    assert_true(fabs(r->attention_factor - 1.0857263992561357) < 1e-15);

    /* the factor may follow from the two lengths, the original length may stand at top level */
    r = &accepted(llama, "{\"original_max_position_embeddings\": 64, \"rope_scaling\":"
                         " {\"rope_type\": \"yarn\", \"factor\": null}}")
             ->rope;
    assert_true(r->factor == 4 && r->original_positions == 64);
}

/* Of both, rope_scaling with the defaults of what it leaves out: so does transformers 5. */
static void rope_scaling_wins_over_rope_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *scaling, *parameters, *more, *differ; /* NULL: no note */
        double theta, factor;
    } rows[] = {
        {"{\"type\": \"linear\", \"factor\": 2}", "{\"rope_type\": \"linear\", \"factor\": 2.0}",
         "", NULL, 500000, 2},
        {"{\"type\": \"linear\", \"factor\": 2}",
         "{\"rope_type\": \"linear\", \"factor\": 2, \"rope_theta\": 500000, \"truncate\": null}",
         "", NULL, 500000, 2},
        {"{\"rope_type\": \"yarn\", \"factor\": 2}",
         "{\"type\": \"yarn\", \"factor\": 2, \"beta_fast\": 32, \"beta_slow\": 1.0,"
         " \"original_max_position_embeddings\": 256}",
         "", NULL, 500000, 2},
        {"{\"type\": \"linear\", \"factor\": 2}", "{\"rope_type\": \"default\"}", "",
         "differ in rope_type, factor:", 500000, 2},
        {"{\"type\": \"linear\", \"factor\": 2}",
         "{\"rope_type\": \"linear\", \"factor\": 4, \"rope_theta\": 7}", "",
         "differ in rope_theta, factor:", 500000, 2},
        {"{\"type\": \"linear\", \"factor\": 2}",
         "{\"rope_type\": \"linear\", \"factor\": 2, \"rope_theta\": 7}", ", \"rope_theta\": null",
         "differ in rope_theta:", 10000, 2},
        {"{\"type\": \"default\"}", "{\"rope_type\": \"yarn\", \"factor\": 2}", "",
         "differ in rope_type, factor, original_max_position_embeddings, beta_fast", 500000, 0},
        {"{\"type\": \"linear\", \"factor\": 3}", "{\"rope_type\": \"longrope\"}", "",
         "rope_type longrope is not supported", 500000, 3},
        {"{}", "{\"rope_type\": \"linear\", \"factor\": 4, \"rope_theta\": 7}", "", NULL, 7, 4},
        {"null", "{\"rope_type\": \"linear\", \"factor\": 4}", "", NULL, 500000, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char changes[512];
        snprintf(changes, sizeof changes, "{\"rope_scaling\": %s, \"rope_parameters\": %s%s}",
                 rows[i].scaling, rows[i].parameters, rows[i].more);
        const struct rope_config *r = &accepted(llama, changes)->rope;
        assert_true(r->theta == rows[i].theta && r->factor == rows[i].factor);
        assert_int_equal(n_notes, rows[i].differ != NULL);
        if (rows[i].differ && !strstr(notes, rows[i].differ))
            fail_msg("%s expected: %s", rows[i].differ, notes);
    }
    refused(llama, "{\"rope_scaling\": {\"type\": \"longrope\"}, \"rope_parameters\": {}}",
            TP_EXIT_UNSUPPORTED, "longrope");
}

static void dtypes_are_spelled_in_many_ways(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum dtype dtype;
    } rows[] = {
        {"\"auto\"", DTYPE_NONE},
        {"null", DTYPE_NONE},
        {"\"half\"", DTYPE_F16},
        {"\"float\"", DTYPE_F32},
        {"\"torch.half\"", DTYPE_F16},
        {"{\"\": \"float32\"}", DTYPE_F32},
        {"{}", DTYPE_NONE},
        {"{\"vision\": \"float64\"}", DTYPE_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char changes[128];
        snprintf(changes, sizeof changes, "{\"torch_dtype\": %s}", rows[i].value);
        assert_int_equal(accepted(llama, changes)->dtype, rows[i].dtype);
        snprintf(changes, sizeof changes, "{\"torch_dtype\": \"-\", \"dtype\": %s}", rows[i].value);
        assert_int_equal(accepted(llama, changes)->dtype, rows[i].dtype);
    }
    refused(llama, "{\"dtype\": {\"\": 16}}", TP_EXIT_INPUT, "config.json");
}

static void rope_parameters_may_be_nested_by_layer_type(void **state)
{
    (void)state;
#define BOTH TYPES("sliding_attention", "full_attention")
#define ONE TYPES("full_attention", "full_attention")
#define FULL "\"full_attention\": {\"rope_theta\": 5, \"rope_type\": \"default\"}"
#define SLIDING(theta)                                                                             \
    "\"sliding_attention\": {\"rope_theta\": " theta ", \"rope_type\": \"default\"}"
#define NESTED(rest) "\"rope_parameters\": {" rest "}}"
    assert_true(accepted(qwen, "{" BOTH ", " NESTED(FULL ", " SLIDING("5")))->rope.theta == 5);
    assert_true(accepted(llama, "{" ONE ", " NESTED(FULL ", " SLIDING("6")))->rope.theta == 5);
    refused(qwen, "{" BOTH ", " NESTED(FULL ", " SLIDING("6")), TP_EXIT_UNSUPPORTED,
            "rope_parameters");
    refused(qwen, "{" BOTH ", " NESTED(FULL), TP_EXIT_UNSUPPORTED, "sliding_attention");
    refused(qwen, "{" BOTH ", " NESTED("\"full_attention\": {}, \"sliding_attention\": 3"),
            TP_EXIT_UNSUPPORTED, "sliding_attention");
    refused(llama, "{" NESTED(FULL), TP_EXIT_UNSUPPORTED, "no layer_types");
    refused(llama, "{" ONE ", " NESTED(FULL ", \"rope_theta\": 10000"), TP_EXIT_UNSUPPORTED,
            "\"rope_theta\" beside");
}

static void quantization_is_named_not_refused(void **state)
{
    (void)state;
    static const struct {
        const char *changes, *name;
    } cases[] = {
        {"{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}", "gptq 4-bit"},
        {"{\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\"}}", "fp8"},
        {"{\"quantization_config\": {\"quant_method\": \"bitsandbytes\", \"load_in_8bit\": true}}",
         "bitsandbytes 8-bit"},
        {"{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\":"
         " \"int-quantized\"}}",
         "compressed-tensors int-quantized"},
        {"{\"quantization_config\": {\"quant_algo\": \"FP8\"}}", "modelopt FP8"},
        {"{\"quantization\": {\"group_size\": 64, \"bits\": 3}}", "mlx 3-bit"},
        {"{\"quantization_config\": {\"secret\": 1}}", "unknown"},
        {"{\"quantization_config\": 4}", "unknown"},
        {"{\"compression_config\": {\"quant_method\": \"compressed-tensors\"}}",
         "compressed-tensors"},
        {"{\"quantization_config\": null}", ""},
        {"{\"quantization_config\": []}", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        accepted(llama, cases[i].changes);
        assert_string_equal(config.quantization, cases[i].name);
    }
}

static const char *const size_fields[] = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim",    "intermediate_size", "vocab_size"};

/* ---- what is refused ---- */

static void row_46_text_that_is_no_config_is_refused(void **state)
{
    (void)state;
    text_refused("", 0);
    text_refused("{", 1);
    text_refused("[]", 2);
    text_refused("{\"a\": 1, \"a\": 2}", 16);
    text_refused("{\"a\": \"\xff\"}", 10);
    static char deep[200001];
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    text_refused(deep, 200000);
    for (size_t n = 0; n + 1 < sizeof llama - 1; n++)
        text_refused(llama, n);
}

static void row_46_files_of_another_kind_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
         "is a Git LFS pointer, not the file: run git lfs pull"},
        {"\n<!DOCTYPE html>", "is an HTML page, not JSON: the download failed; fetch it again"},
        {"<HTML>", "HTML"},
        {"\x1f\x8b\x08", "gzip"},
        {"PK\x03\x04", "zip"},
        {"\x80\x02}", "pickle"},
        {"GGUF\x03", "GGUF"},
        {"\xef\xbb\xbf{}", "begins with a byte order mark (BOM): save it as UTF-8 without"},
        {"\xff\xfe{", "UTF-16"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        text_refused(rows[i].text, strlen(rows[i].text));
        if (!strstr(error.text, rows[i].words))
            fail_msg("%s expected: %s", rows[i].words, error.text);
    }
}

static void integers_of_any_size_are_read(void **state)
{
    (void)state;
    static const char huge[] = "1000000000000000019884624838656"; /* 10^30, as a tokenizer has it */
    char text[2048], digits[401] = "";
    memset(digits, '9', 400);
    static const char *const keys[] = {"model_max_length", "max_length", "_of_ours"};
    for (size_t i = 0; i < 3; i++)
        for (int sign = 0; sign < 2; sign++) {
            snprintf(text, sizeof text, "{\"%s\": [%s%s, {\"\\\"\": %s}, -%s ], %s", keys[i],
                     sign ? "-" : "", huge, digits, huge, llama + 1);
            if (!parse(text, strlen(text), NULL))
                fail_msg("%s", error.text);
            assert_int_equal(config.model.vocab, 512);
        }
    for (size_t i = 0; i < sizeof size_fields / sizeof *size_fields; i++) {
        snprintf(text, sizeof text, "{\"_\": %s, \"vocab\": 0, \"%s\": 9223372036854775808 }", huge,
                 size_fields[i]);
        text_refused(text, strlen(text));
    }
}

static void row_46_files_that_are_no_config_are_refused(void **state)
{
    (void)state;
    char dir[] = "/tmp/hf_config_XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    error = (struct tp_error){0};
    assert_false(hf_config_read(dir, NULL, &config, NULL, NULL, &error));
    assert_int_equal(error.code, TP_E_CF_FILE);

    snprintf(path, sizeof path, "%s/config.json", dir);
    const size_t n = (4 << 20) + 1;
    char *spaces = mem_alloc(n + 1, NULL);
    memset(spaces, ' ', n);
    memcpy(spaces, llama, sizeof llama - 1);
    for (size_t cut = 0; cut < 2; cut++) { /* one byte too many, then the limit itself */
        unlink(path);
        error = (struct tp_error){0};
        assert_true(output_file_put(path, spaces, n - cut, &error));
        assert_int_equal(hf_config_read(dir, NULL, &config, NULL, NULL, &error), cut == 1);
        assert_int_equal(error.code, cut ? TP_OK : TP_E_CF_FILE);
    }
    assert_true(hf_config_read(path, NULL, &config, NULL, NULL, &error)); /* the bare file */
    char beside[64];
    snprintf(beside, sizeof beside, "%s/hf_quant_config.json", dir);
    assert_true(output_file_put(beside, "{}", 2, &error));
    assert_true(hf_config_read(dir, NULL, &config, NULL, NULL, &error));
    assert_string_equal(config.quantization, "modelopt (hf_quant_config.json)");
    unlink(beside);
    unlink(path);
    rmdir(dir);
    mem_free(spaces);
}

static void row_47_needed_fields_have_their_type(void **state)
{
    (void)state;
    static const char *const wrong[] = {"\"32\"", "32.5", "true", "[32]", "{}"};
    char changes[128];
    for (size_t i = 0; i < sizeof size_fields / sizeof *size_fields; i++)
        for (size_t j = 0; j < sizeof wrong / sizeof *wrong; j++) {
            snprintf(changes, sizeof changes, "{\"%s\": %s}", size_fields[i], wrong[j]);
            refused(llama, changes, TP_EXIT_INPUT, size_fields[i]);
        }
    static const char *const needed[] = {"hidden_size", "num_hidden_layers", "num_attention_heads",
                                         "intermediate_size", "vocab_size"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        snprintf(changes, sizeof changes, "{\"%s\": \"-\"}", needed[i]);
        refused(llama, changes, TP_EXIT_INPUT, needed[i]);
        snprintf(changes, sizeof changes, "{\"%s\": null}", needed[i]);
        refused(llama, changes, TP_EXIT_INPUT, needed[i]);
    }
    refused(llama, "{\"tie_word_embeddings\": 1}", TP_EXIT_INPUT, "tie_word_embeddings");
    refused(llama, "{\"attention_bias\": \"no\"}", TP_EXIT_INPUT, "attention_bias");
    refused(llama, "{\"rms_norm_eps\": \"1e-5\"}", TP_EXIT_INPUT, "rms_norm_eps");
    refused(llama, "{\"rms_norm_eps\": null}", TP_EXIT_INPUT, "rms_norm_eps");
    assert_true(accepted(llama, "{\"rms_norm_eps\": \"-\"}")->rms_eps ==
                1e-6); /* as transformers */
    refused(llama, "{\"rope_theta\": [1]}", TP_EXIT_INPUT, "rope_theta");
    refused(llama, "{\"torch_dtype\": 16}", TP_EXIT_INPUT, "torch_dtype");
    refused(llama, "{\"model_type\": 5}", TP_EXIT_INPUT, "model_type");
    accepted(llama, "{\"architectures\": \"LlamaForCausalLM\"}"); /* as transformers does */
    refused(llama, "{\"architectures\": [7]}", TP_EXIT_INPUT, "architectures");
    refused(llama, "{\"hidden_act\": 1}", TP_EXIT_INPUT, "hidden_act");
    refused(qwen, "{\"use_sliding_window\": 1}", TP_EXIT_INPUT, "use_sliding_window");
    refused(qwen, "{\"max_window_layers\": -1}", TP_EXIT_INPUT, "max_window_layers");
    refused(qwen, "{\"sliding_window\": 1.5}", TP_EXIT_INPUT, "sliding_window");
}

static void row_48_sizes_lie_in_their_limits(void **state)
{
    (void)state;
    static const char *const wrong[] = {"0", "-1", "2147483648", "4294967296",
                                        "1000000000000000000"};
    char changes[128];
    for (size_t i = 0; i < sizeof size_fields / sizeof *size_fields; i++)
        for (size_t j = 0; j < sizeof wrong / sizeof *wrong; j++) {
            snprintf(changes, sizeof changes, "{\"%s\": %s}", size_fields[i], wrong[j]);
            refused(llama, changes, TP_EXIT_INPUT, size_fields[i]);
        }
    /* beyond what the JSON library holds */
    static const char *const huge[] = {"9223372036854775808", "1e400", "-1e400"};
    char text[64];
    for (size_t j = 0; j < sizeof huge / sizeof *huge; j++) {
        snprintf(text, sizeof text, "{\"model_type\": \"llama\", \"hidden_size\": %s}", huge[j]);
        text_refused(text, strlen(text));
    }
    accepted(llama,
             "{\"hidden_size\": 1048576, \"vocab_size\": 16777216, \"num_hidden_layers\": 1024,"
             " \"num_attention_heads\": 1024, \"head_dim\": 1024}");
    refused(llama, "{\"num_hidden_layers\": 1025}", TP_EXIT_INPUT, "num_hidden_layers");
    refused(llama, "{\"vocab_size\": 16777217}", TP_EXIT_INPUT, "vocab_size");
}

static void row_49_heads_fit_each_other(void **state)
{
    (void)state;
    refused(llama, "{\"num_key_value_heads\": 16}", TP_EXIT_INPUT, "num_key_value_heads 16");
    refused(llama, "{\"num_key_value_heads\": 3}", TP_EXIT_INPUT, "num_attention_heads 8");
    refused(llama, "{\"num_attention_heads\": 6}", TP_EXIT_INPUT, "hidden_size 128");
    refused(llama, "{\"head_dim\": 15}", TP_EXIT_INPUT, "head_dim 15");
    accepted(llama, "{\"num_attention_heads\": 6, \"head_dim\": 10}");
}

static void row_53_a_context_of_2_to_the_40_is_accepted(void **state)
{
    (void)state;
    assert_int_equal(accepted(llama, "{\"max_position_embeddings\": 1099511627776}")->max_positions,
                     UINT64_C(1) << 40);
    refused(llama, "{\"max_position_embeddings\": 1099511627777}", TP_EXIT_INPUT,
            "max_position_embeddings");
    refused(llama, "{\"max_position_embeddings\": 0}", TP_EXIT_INPUT, "max_position_embeddings");
}

static void row_54_rope_and_eps_are_positive_and_finite(void **state)
{
    (void)state;
    static const char *const wrong[] = {"0", "-1", "-0.0", "1e300"};
    char changes[256];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(changes, sizeof changes, "{\"rope_theta\": %s}", wrong[i]);
        refused(llama, changes, TP_EXIT_INPUT, "rope_theta");
        snprintf(changes, sizeof changes, "{\"rms_norm_eps\": %s}", wrong[i]);
        refused(llama, changes, TP_EXIT_INPUT, "rms_norm_eps");
        snprintf(changes, sizeof changes,
                 "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": %s}}", wrong[i]);
        refused(llama, changes, TP_EXIT_INPUT, "factor");
        snprintf(changes, sizeof changes,
                 "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": %s,"
                 " \"high_freq_factor\": 4}}",
                 wrong[i]);
        refused(llama, changes, TP_EXIT_INPUT, "low_freq_factor");
        snprintf(changes, sizeof changes,
                 "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2,"
                 " \"original_max_position_embeddings\": %s}}",
                 wrong[i]);
        refused(llama, changes, TP_EXIT_INPUT, "original_max_position_embeddings");
        snprintf(changes, sizeof changes,
                 "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2,"
                 " \"attention_factor\": %s}}",
                 wrong[i]);
        refused(llama, changes, TP_EXIT_INPUT, "attention_factor");
    }
    refused(llama, "{\"rope_scaling\": {\"type\": \"linear\"}}", TP_EXIT_INPUT, "factor");
    refused(llama, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": \"2\"}}", TP_EXIT_INPUT,
            "factor");
    refused(llama, "{\"rope_scaling\": {\"factor\": 2}}", TP_EXIT_INPUT, "rope_type");
    refused(llama, "{\"rope_scaling\": {\"type\": 3}}", TP_EXIT_INPUT, "type");
    refused(llama, "{\"rope_scaling\": \"linear\"}", TP_EXIT_INPUT, "rope_scaling");
    refused(llama,
            "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
            " \"high_freq_factor\": 4}}",
            TP_EXIT_INPUT, "high_freq_factor");
    refused(llama,
            "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"beta_fast\": 1,"
            " \"beta_slow\": 2}}",
            TP_EXIT_INPUT, "beta_fast");
    refused(llama, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"truncate\": 1}}",
            TP_EXIT_INPUT, "truncate");
    refused(llama, "{\"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}",
            TP_EXIT_INPUT, "rope_theta");
    static const char *const unknown[] = {"dynamic", "longrope", "su", "mrope", ""};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        snprintf(changes, sizeof changes, "{\"rope_scaling\": {\"type\": \"%s\", \"factor\": 2}}",
                 unknown[i]);
        refused(llama, changes, TP_EXIT_UNSUPPORTED, unknown[i]);
    }
    refused(llama, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"long_factor\": [1]}}",
            TP_EXIT_UNSUPPORTED, "long_factor");
    refused(llama, "{\"rope_parameters\": {\"rope_theta\": 5, \"partial_rotary_factor\": 0.5}}",
            TP_EXIT_UNSUPPORTED, "partial_rotary_factor");
}

static void row_55_other_architectures_are_named_with_what_is_supported(void **state)
{
    (void)state;
    refused(llama, "{\"architectures\": null, \"model_type\": \"mamba\"}", TP_EXIT_UNSUPPORTED,
            "mamba");
    refused(llama, "{\"architectures\": [\"Phi3ForCausalLM\"]}", TP_EXIT_UNSUPPORTED,
            "Qwen3ForCausalLM");
    refused(llama, "{\"architectures\": [\"LlamaForSequenceClassification\"]}", TP_EXIT_UNSUPPORTED,
            "LlamaForSequenceClassification");
    refused(llama, "{\"model_type\": \"qwen2\"}", TP_EXIT_UNSUPPORTED, "qwen2");
    char long_name[3000];
    memset(long_name, 'x', sizeof long_name);
    memcpy(long_name, "{\"architectures\": [\"", 20);
    memcpy(long_name + sizeof long_name - 4, "\"]}", 4);
    refused(llama, long_name, TP_EXIT_UNSUPPORTED, "bytes)");
}

static void row_56_custom_code_is_noted_once(void **state)
{
    (void)state;
    accepted(llama,
             "{\"auto_map\": {\"AutoModel\": \"modeling_x.X\"}, \"trust_remote_code\": true}");
    assert_int_equal(n_notes, 1);
    assert_non_null(strstr(notes, "custom code"));
}

static void row_58_token_ids_lie_in_the_vocabulary(void **state)
{
    (void)state;
    const struct model_config *m =
        accepted(llama, "{\"eos_token_id\": [2, 511], \"pad_token_id\": -1}");
    assert_int_equal(m->n_eos, 2);
    assert_int_equal(m->eos_id[1], 511);
    assert_int_equal(m->pad_id, -1);
    assert_int_equal(accepted(llama, "{\"pad_token_id\": 0, \"bos_token_id\": null}")->bos_id, -1);
    static const char *const keys[] = {"eos_token_id", "bos_token_id", "pad_token_id"};
    static const char *const wrong[] = {"512", "\"2\"", "1.5", "[[2]]", "true", "{}"};
    char changes[128];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (size_t j = 0; j < sizeof wrong / sizeof *wrong; j++) {
            snprintf(changes, sizeof changes, "{\"%s\": %s}", keys[i], wrong[j]);
            refused(llama, changes, TP_EXIT_INPUT, keys[i]);
        }
    refused(llama, "{\"eos_token_id\": -1}", TP_EXIT_INPUT, "eos_token_id");
    refused(llama, "{\"bos_token_id\": -1}", TP_EXIT_INPUT, "bos_token_id");
    refused(llama, "{\"eos_token_id\": [2, -3]}", TP_EXIT_INPUT, "eos_token_id");
    refused(llama, "{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", TP_EXIT_INPUT,
            "17 ids");
}

static void row_59_mixtures_of_experts_are_named(void **state)
{
    (void)state;
    refused(llama, "{\"architectures\": [\"MixtralForCausalLM\"], \"num_local_experts\": 8}",
            TP_EXIT_UNSUPPORTED, "a mixture of experts by num_local_experts");
    refused(qwen, "{\"num_experts\": 64}", TP_EXIT_UNSUPPORTED, "num_experts");
    refused(qwen, "{\"n_routed_experts\": 64}", TP_EXIT_UNSUPPORTED, "n_routed_experts");
    accepted(qwen, "{\"num_experts\": 0, \"num_local_experts\": null}");
}

static void keys_that_matter_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *changes, *word;
    } cases[] = {
        {"{\"hidden_act\": \"gelu\"}", "hidden_act"},
        {"{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor"},
        {"{\"attn_logit_softcapping\": 50.0}", "attn_logit_softcapping"},
        {"{\"final_logit_softcapping\": 30.0}", "final_logit_softcapping"},
        {"{\"logit_scale\": 0.0625}", "logit_scale"},
        {"{\"rope_interleaved\": true}", "rope_interleaved"},
        {"{\"is_causal\": false}", "is_causal"},
        {"{\"is_causal\": 0}", "is_causal"},
        {"{\"use_rope\": false}", "use_rope"},
        {"{\"rotary_pct\": false}", "rotary_pct"},
        {"{\"torch_dtype\": \"float64\"}", "float64"},
        {"{\"dtype\": \"float8_e4m3fn\"}", "float8_e4m3fn"},
        {"{\"some_new_key\": 3}", "some_new_key"},
        {"{\"some_new_key\": [0]}", "some_new_key"},
        {"{\"some_new_key\": \"x\"}", "some_new_key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(llama, cases[i].changes, TP_EXIT_UNSUPPORTED, cases[i].word);
    refused(qwen, "{\"attention_bias\": true}", TP_EXIT_UNSUPPORTED, "attention_bias");
    accepted(llama,
             "{\"some_new_key\": null, \"b\": false, \"c\": 0, \"d\": 0.0, \"e\": \"\", \"f\": [],"
             " \"g\": {}, \"_h\": 5, \"logit_scale\": 1, \"partial_rotary_factor\": 1.0,"
             " \"use_mrope\": false, \"is_causal\": true, \"attention_dropout\": 0.1, "
             "\"pretraining_tp\": 4,"
             " \"hidden_act\": \"swish\"}");
}

static void ignore_key_lets_an_unknown_key_pass_with_a_note(void **state)
{
    (void)state;
    const char *const names[] = {"other", "some_new_key", "rope_theta", "logit_scale"};
    const struct hf_options options = {names, 4, false, NULL};
    assert_true(read_with(llama, "{\"some_new_key\": 3}", &options));
    assert_int_equal(n_notes, 1);
    assert_non_null(strstr(notes, "some_new_key"));
    assert_true(config.model.rope.theta == 500000);
    assert_false(read_with(llama, "{\"logit_scale\": 3}", &options));
    assert_false(read_with(llama, "{\"another\": 3}", &options));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_is_read_in_the_form_of_transformers_4),
        cmocka_unit_test(the_form_of_transformers_5_gives_the_same),
        cmocka_unit_test(what_old_configs_leave_out_is_the_default_of_the_architecture),
        cmocka_unit_test(architectures_differ_in_biases_and_norms),
        cmocka_unit_test(model_type_decides_where_architectures_is_absent),
        cmocka_unit_test(windows_follow_the_rule_of_the_architecture),
        cmocka_unit_test(layer_types_decide_where_given),
        cmocka_unit_test(rope_scaling_is_resolved),
        cmocka_unit_test(rope_scaling_wins_over_rope_parameters),
        cmocka_unit_test(dtypes_are_spelled_in_many_ways),
        cmocka_unit_test(rope_parameters_may_be_nested_by_layer_type),
        cmocka_unit_test(quantization_is_named_not_refused),
        cmocka_unit_test(row_46_text_that_is_no_config_is_refused),
        cmocka_unit_test(row_46_files_of_another_kind_are_named),
        cmocka_unit_test(row_46_files_that_are_no_config_are_refused),
        cmocka_unit_test(integers_of_any_size_are_read),
        cmocka_unit_test(row_47_needed_fields_have_their_type),
        cmocka_unit_test(row_48_sizes_lie_in_their_limits),
        cmocka_unit_test(row_49_heads_fit_each_other),
        cmocka_unit_test(row_53_a_context_of_2_to_the_40_is_accepted),
        cmocka_unit_test(row_54_rope_and_eps_are_positive_and_finite),
        cmocka_unit_test(row_55_other_architectures_are_named_with_what_is_supported),
        cmocka_unit_test(row_56_custom_code_is_noted_once),
        cmocka_unit_test(row_58_token_ids_lie_in_the_vocabulary),
        cmocka_unit_test(row_59_mixtures_of_experts_are_named),
        cmocka_unit_test(keys_that_matter_are_refused_by_name),
        cmocka_unit_test(ignore_key_lets_an_unknown_key_pass_with_a_note),
    };
    return cmocka_run_group_tests_name("hf_config", tests, NULL, NULL);
}
