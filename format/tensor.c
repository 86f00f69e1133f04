#include "tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name; /* without ".weight"; of a layer where per_layer */
    bool per_layer, matrix, quantized;
} roles[ROLE_COUNT] = {
    [ROLE_EMBED] = {"model.embed_tokens", false, true, false},
    [ROLE_ATTN_NORM] = {"input_layernorm", true, false, false},
    [ROLE_Q] = {"self_attn.q_proj", true, true, true},
    [ROLE_K] = {"self_attn.k_proj", true, true, true},
    [ROLE_V] = {"self_attn.v_proj", true, true, true},
    [ROLE_Q_NORM] = {"self_attn.q_norm", true, false, false},
    [ROLE_K_NORM] = {"self_attn.k_norm", true, false, false},
    [ROLE_O] = {"self_attn.o_proj", true, true, true},
    [ROLE_MLP_NORM] = {"post_attention_layernorm", true, false, false},
    [ROLE_GATE] = {"mlp.gate_proj", true, true, true},
    [ROLE_UP] = {"mlp.up_proj", true, true, true},
    [ROLE_DOWN] = {"mlp.down_proj", true, true, true},
    [ROLE_FINAL_NORM] = {"model.norm", false, false, false},
    [ROLE_LM_HEAD] = {"lm_head", false, true, false},
};

const char *tensor_name(char buf[TENSOR_NAME_MAX], enum role role, uint32_t layer, enum part part)
{
    static const char *const suffix[] = {"weight", "bias", "weight_scale"};
    if (roles[role].per_layer)
        snprintf(buf, TENSOR_NAME_MAX, "model.layers.%u.%s.%s", layer, roles[role].name,
                 suffix[part]);
    else
        snprintf(buf, TENSOR_NAME_MAX, "%s.%s", roles[role].name, suffix[part]);
    return buf;
}

const char *role_key(enum role role)
{
    const char *dot = strrchr(roles[role].name, '.');
    return dot ? dot + 1 : roles[role].name;
}

bool role_is_matrix(enum role role)
{
    return roles[role].matrix;
}

bool role_is_quantized(enum role role)
{
    return roles[role].quantized;
}

bool role_present(const struct model_config *model, enum role role, enum part part)
{
    if (part == PART_BIAS)
        switch (role) {
        case ROLE_Q:
        case ROLE_K:
        case ROLE_V:
            return model->qkv_bias;
        case ROLE_O:
            return model->o_bias;
        case ROLE_GATE:
        case ROLE_UP:
        case ROLE_DOWN:
            return model->mlp_bias;
        default:
            return false;
        }
    if (role == ROLE_Q_NORM || role == ROLE_K_NORM)
        return model->qk_norm;
    if (role == ROLE_LM_HEAD)
        return !model->tied_embeddings;
    return true;
}

void role_shape(const struct model_config *model, enum role role, uint64_t *rows, uint64_t *cols)
{
    uint64_t q = model->n_heads * model->head_dim, kv = model->n_kv_heads * model->head_dim;
    *cols = roles[role].matrix ? model->hidden : 1;
    *rows = model->hidden;
    switch (role) {
    case ROLE_EMBED:
    case ROLE_LM_HEAD:
        *rows = model->vocab;
        break;
    case ROLE_Q:
        *rows = q;
        break;
    case ROLE_K:
    case ROLE_V:
        *rows = kv;
        break;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        *rows = model->head_dim;
        break;
    case ROLE_GATE:
    case ROLE_UP:
        *rows = model->d_ff;
        break;
    case ROLE_O:
        *cols = q;
        break;
    case ROLE_DOWN:
        *cols = model->d_ff;
        break;
    default:
        break;
    }
}
