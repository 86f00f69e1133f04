/* The architectures that can be converted, each block described as data. A new one of the same
 * family is a row of the table in hf_architecture.c. */
#pragma once
#include "json.h"
#include <stdbool.h>
#include <stdint.h>

enum window_rule {
    WINDOW_NONE,  /* every layer sees everything */
    WINDOW_ALL,   /* sliding_window holds in every layer */
    WINDOW_UPPER, /* with use_sliding_window, from layer max_window_layers on */
};

struct hf_architecture {
    const char *class_name, *model_type;
    bool qkv_bias; /* q, k, v always have biases */
    bool qk_norm;
    enum window_rule window;
    const char *keys[4]; /* keys it honours beyond those all share; NULL ends them */
    /* what transformers takes where config.json is silent */
    uint64_t kv_heads; /* 0: as many as query heads */
    uint64_t head_dim; /* 0: hidden_size / num_attention_heads */
    uint64_t positions, window_size, max_window_layers;
    int64_t bos_id, eos_id; /* -1: none */
};

/* By "architectures", where absent by "model_type". NULL: TP_E_CF_ARCH naming what is not supported
 * and what is, TP_E_CF_FIELD where neither is there or one is no text. */
const struct hf_architecture *hf_architecture_find(const struct json_in *in, struct tp_error *err);
/* For a config.json that names neither: Llama where it holds both keys that only LlamaConfig
 * writes, else NULL. Good enough to plan by, not to convert by. */
const struct hf_architecture *hf_architecture_guess(const json_t *object);
/* Whether key is one of architecture->keys */
bool hf_architecture_honours(const struct hf_architecture *architecture, const char *key);
/* The first key that says "mixture of experts", NULL: none */
const char *hf_expert_key(const json_t *object);
