/* The hyperparameters of a model: everything that config.json says about the mathematics, and
 * nothing else. tools/hf/hf_config fills it, the manifest stores it, the runtime reads it from
 * there only. A block is described as data (biases, norms, windows), not by the name of an
 * architecture.
 */
#pragma once
#include "dtype.h"
#include "error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Limits, so that every product of two sizes fits in 64 bits; beyond them: TP_E_CF_RANGE. */
#define MODEL_LAYERS_MAX 1024
#define MODEL_HEADS_MAX 1024
#define MODEL_HEAD_DIM_MAX 1024
#define MODEL_WIDTH_MAX (1 << 20) /* hidden, ff */
#define MODEL_VOCAB_MAX (1 << 24)
#define MODEL_POSITIONS_MAX                                                                        \
    (UINT64_C(1) << 40) /* angles of RoPE stay where math64_sincos is good */
#define MODEL_EOS_MAX 16

enum rope_type { ROPE_DEFAULT = 0, ROPE_LINEAR = 1, ROPE_LLAMA3 = 2, ROPE_YARN = 3 };
const char *rope_type_name(enum rope_type type); /* "default", "linear", "llama3", "yarn" */
bool rope_type_from_name(const char *name, enum rope_type *out);

struct rope_config {
    enum rope_type type;
    double theta;
    double factor;               /* linear, llama3, yarn */
    double low_freq_factor;      /* llama3 */
    double high_freq_factor;     /* llama3 */
    double original_positions;   /* llama3, yarn */
    double beta_fast, beta_slow; /* yarn: 32 and 1 where config.json is silent */
    double
        attention_factor; /* yarn: cos and sin are multiplied by it; always resolved, 1 elsewhere */
    bool truncate;        /* yarn: the ramp's ends are rounded to integers (default true) */
};

struct model_config {
    char architecture[64]; /* as config.json names it, for people */
    uint64_t n_layers, hidden, n_heads, n_kv_heads, head_dim, d_ff, vocab;
    uint64_t max_positions;
    double rms_eps;
    enum dtype dtype;     /* the config's dtype; DTYPE_NONE where it names none */
    bool tied_embeddings; /* the LM head is the embedding */
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm; /* RMS norm over each head of q and k, before RoPE */
    struct rope_config rope;
    uint64_t
        window[MODEL_LAYERS_MAX]; /* per layer: positions a token sees, itself included; 0: all */
    int64_t bos_id;               /* -1: none */
    int64_t pad_id;
    uint64_t n_eos; /* from config.json; generation_config.json may name others */
    int64_t eos_id[MODEL_EOS_MAX];
};

/* The manifest's "model" object: every field above, numbers exact. NULL: TP_E_MEMORY. */
json_t *model_config_to_json(const struct model_config *model, struct tp_error *err);
/* The inverse; every field checked against the limits and each other (model_config_check). */
bool model_config_from_json(const json_t *object, const char *file, struct model_config *model,
                            struct tp_error *err);
/* Are there n layers? n is of a command line: TP_E_USAGE names both numbers. */
bool model_config_check_layers(uint64_t n_layers, uint64_t n, const char *file,
                               struct tp_error *err);
/* The first n layers of it, n >= 1, if it has as many. */
bool model_config_take_layers(struct model_config *model, uint64_t n, const char *file,
                              struct tp_error *err);
/* Sizes in range and consistent: n_heads % n_kv_heads == 0, head_dim even, eps and rope numbers
 * positive and finite ... Errors name file and field: TP_E_CF_RANGE, TP_E_CF_HEADS,
 * TP_E_CF_ROPE. */
bool model_config_check(const struct model_config *model, const char *file, struct tp_error *err);
