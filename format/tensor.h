/* The tensors of a model by role, and their Hugging Face names. The numbers are on disk: never
 * reused. */
#pragma once
#include "model_config.h"
#include <stddef.h>

enum role {
    ROLE_EMBED = 1,     /* [vocab][hidden]            rows cut, by vocabulary panels */
    ROLE_ATTN_NORM = 2, /* [hidden]                   whole on every rank */
    ROLE_Q = 3,         /* [n_heads*head_dim][hidden] rows cut, by heads */
    ROLE_K = 4,         /* [n_kv_heads*head_dim][hidden] rows cut; shared KV heads on both ranks */
    ROLE_V = 5,
    ROLE_Q_NORM = 6, /* [head_dim]                 whole */
    ROLE_K_NORM = 7,
    ROLE_O = 8,        /* [hidden][n_heads*head_dim] columns cut, by leaves */
    ROLE_MLP_NORM = 9, /* [hidden]                   whole */
    ROLE_GATE = 10,    /* [d_ff][hidden]             rows cut, by the columns of down's leaves */
    ROLE_UP = 11,
    ROLE_DOWN = 12,       /* [hidden][d_ff]             columns cut, by leaves */
    ROLE_FINAL_NORM = 13, /* [hidden]                   whole */
    ROLE_LM_HEAD = 14, /* [vocab][hidden]            rows cut; absent where tied to the embedding */
    ROLE_COUNT
};

/* What of a role: the matrix or norm itself, the bias of a matrix, the per-row scales of a
 * quantized one. Bias and scale follow the rows of their matrix: cut with them, or whole where
 * columns are cut. */
enum part { PART_WEIGHT = 0, PART_BIAS = 1, PART_SCALE = 2 };

#define TENSOR_NO_LAYER UINT32_MAX
#define TENSOR_NAME_MAX 96

/* "model.layers.3.self_attn.q_proj.weight"; scales end in ".weight_scale". Returns buf. */
const char *tensor_name(char buf[TENSOR_NAME_MAX], enum role role, uint32_t layer, enum part part);
/* "q_proj": the last part of its name */
const char *role_key(enum role role);
/* A matrix (packed in panels), else a vector */
bool role_is_matrix(enum role role);
/* The model has this role's weight, and this part of it (PART_BIAS; PART_SCALE is the recipe's
 * matter) */
bool role_present(const struct model_config *model, enum role role, enum part part);
/* Rows and columns of the whole weight; a vector has columns 1 */
void role_shape(const struct model_config *model, enum role role, uint64_t *rows, uint64_t *cols);
/* Matrices of the layers, which --quant quantizes */
bool role_is_quantized(enum role role);
