#include "hf_config_keys.h"

#include <string.h>

/* Read by hf_config.c, hf_rope.c, hf_architecture.c, hf_quantization.c for every architecture. */
/* clang-format off */
static const char *const handled[] = {
    "architectures", "auto_map", "bos_token_id", "compression_config", "dtype", "eos_token_id",
    "head_dim", "hidden_size", "intermediate_size", "layer_types", "max_position_embeddings",
    "model_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads",
    "original_max_position_embeddings", "pad_token_id", "quantization", "quantization_config",
    "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings",
    "torch_dtype", "trust_remote_code", "vocab_size",
};
/* clang-format on */

/* Training, generation, bookkeeping: no effect on the logits, whatever the value. */
/* clang-format off */
static const char *const harmless[] = {
    "attention_dropout", "attn_implementation", "bad_words_ids", "begin_suppress_tokens",
    "chunk_size_feed_forward", "classifier_dropout", "cross_attention_hidden_size",
    "custom_pipelines", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "early_stopping", "embd_pdrop", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
    "forced_eos_token_id", "gradient_checkpointing", "hidden_dropout", "id2label",
    "initializer_range", "is_decoder", "is_llama_config", "keys_to_ignore_at_inference",
    "label2id", "length_penalty", "mask_token_id", "max_length", "max_sequence_length",
    "max_window_layers", "min_length", "model_max_length", "name_or_path",
    "neftune_noise_alpha", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores",
    "prefix", "pretraining_tp", "problem_type", "remove_invalid_values", "repetition_penalty",
    "resid_pdrop", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tokenizer_class", "tokenizer_model_max_length", "top_k", "top_p", "torchscript",
    "transformers.js_config", "transformers_version", "typical_p", "unk_token_id",
    "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
};
/* clang-format on */

/* Known to change the result: harmless at one number only, and not to be ignored. */
static const struct {
    const char *key;
    double value;
    /* clang-format off */
} fixed[] = {
    {"partial_rotary_factor", 1}, {"rotary_pct", 1}, {"rope_interleaved", 0}, {"use_mrope", 0},
    {"attn_logit_softcapping", 0}, {"final_logit_softcapping", 0}, {"logit_scale", 1},
    {"logits_scaling", 1}, {"embedding_multiplier", 1}, {"residual_multiplier", 1},
    {"is_encoder_decoder", 0}, {"add_cross_attention", 0}, {"alibi", 0}, {"parallel_attn", 0},
    {"clip_qkv", 0}, {"attention_chunk_size", 0}, {"is_causal", 1}, {"causal", 1}, {"use_rope", 1},
};
/* clang-format on */

static bool listed(const char *const *names, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], key) == 0)
            return true;
    return false;
}
#define LISTED(names, key) listed(names, sizeof(names) / sizeof *(names), key)

static bool is_empty(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == 0;
    default:
        return !json_is_true(value);
    }
}

static bool is_fixed(const char *key, size_t *index)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strcmp(fixed[i].key, key) == 0) {
            *index = i;
            return true;
        }
    return false;
}

/* A leading underscore marks what a library notes for itself. */
bool hf_config_key_known(const struct hf_architecture *architecture, const char *key)
{
    size_t index;
    return key[0] == '_' || strcmp(key, "hidden_act") == 0 || is_fixed(key, &index) ||
           LISTED(handled, key) || LISTED(harmless, key) ||
           hf_architecture_honours(architecture, key);
}

static bool check_activation(const struct json_in *in, struct tp_error *err)
{
    const char *name;
    if (!json_find(in->object, "hidden_act"))
        return true;
    if (!json_get_string(in, "hidden_act", &name, err))
        return false;
    char cut[TP_NAME_BUF];
    if (strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0)
        return tp_fail(err, TP_E_CF_KEY, "%s: hidden_act \"%s\" is not supported, only silu",
                       in->file, tp_name_cut(cut, name, strlen(name)));
    return true;
}

static bool check_fixed(const struct json_in *in, const char *key, const json_t *value,
                        struct tp_error *err)
{
    size_t i;
    if (!is_fixed(key, &i) || json_is_null(value))
        return true;
    const double number = json_is_true(value) ? 1 : json_number_value(value);
    if (json_is_number(value) || json_is_boolean(value) ? number == fixed[i].value
                                                        : fixed[i].value == 0 && is_empty(value))
        return true;
    return tp_fail(err, TP_E_CF_KEY, "%s: %s: only %g is supported", in->file, key, fixed[i].value);
}

bool hf_config_keys_check(const struct json_in *in, const struct hf_architecture *architecture,
                          const struct hf_options *options, struct tp_error *err)
{
    const char *experts = hf_expert_key(in->object);
    if (experts)
        return tp_fail(err, TP_E_CF_KEY, "%s: %s: a mixture of experts is not supported", in->file,
                       experts);
    if (!check_activation(in, err))
        return false;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)in->object, key, value)
    {
        if (!check_fixed(in, key, value, err))
            return false;
        if (hf_config_key_known(architecture, key) || is_empty(value) ||
            listed(options->ignore_keys, options->n_ignore_keys, key))
            continue;
        char cut[TP_NAME_BUF];
        return tp_fail(err, TP_E_CF_KEY,
                       "%s: key \"%s\" is not known for %s and may change the result "
                       "(--ignore-key converts without it)",
                       in->file, tp_name_cut(cut, key, strlen(key)), architecture->class_name);
    }
    return true;
}
