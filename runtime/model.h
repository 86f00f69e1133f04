/* The weights of one rank as the forward pass sees them: contract structs with a shape on every
 * pointer. weights.c binds them to a checked rank file by role. Everything is borrowed from there.
 *
 * A per-rank dimension is the `rows` or `k` of its matrix; sizes of the whole model stand in
 * model_config.
 */
#pragma once
#include "model_config.h"
#include "partition.h"
#include "stored.h"
#include <stdint.h>

/* [rows][k] in panels of 16 rows (kernels.h); the last panel is padded with zero rows, k with zero
 * columns. */
struct matrix {
    const unsigned char *w; /* panels * panel_bytes, 64-byte aligned */
    const struct stored *stored;
    uint64_t rows, k, panels, panel_bytes;
    struct pieces pieces; /* of a row that no leaves cut */
    uint32_t first_chunk; /* in the rank's file */
    uint64_t chunk_panels;
    const float *scale; /* [rows], NULL where not quantized */
    const float *bias;  /* [rows], NULL where absent */
};

struct layer_weights {
    const float *attn_norm;       /* [hidden] */
    struct matrix q, k, v;        /* [heads or kv_heads of the rank * head_dim][hidden] */
    const float *q_norm, *k_norm; /* [head_dim], NULL where absent */
    struct matrix o;              /* [hidden][padded columns of the rank's attention leaves] */
    const float *mlp_norm;        /* [hidden] */
    struct matrix gate, up;       /* [columns of the rank][hidden] */
    struct matrix down;           /* [hidden][padded columns of the rank's MLP leaves] */
};

struct rank_weights {
    const struct model_config *model;
    struct partition partition;
    enum dtype arithmetic;          /* bf16: activations are rounded where they enter a matrix */
    struct matrix embed;            /* [vocabulary rows of the rank][hidden] */
    struct layer_weights *layers;   /* [n_layers] */
    const float *final_norm;        /* [hidden] */
    struct matrix lm_head;          /* like embed; the same where tied */
    struct leaf_run attention, mlp; /* that the rank owns of o_proj, down_proj */
    const uint32_t
        *o_columns;          /* [columns of the rank's heads] where each is in a row of o's x, which
                                  is padded as o is */
    uint64_t decode_bytes;   /* of weights read for one token */
    struct pass_chunk *pass; /* [chunks of the file] until the first step has been; else NULL */
};

/* Norms by number: 2 * layer the one before attention, 2 * layer + 1 the MLP's, 2 * n_layers the
 * last. [hidden] */
static inline const float *rank_norm(const struct rank_weights *w, uint32_t norm)
{
    const struct layer_weights *layer = &w->layers[norm / 2];
    return norm == 2 * w->model->n_layers ? w->final_norm
           : norm % 2                     ? layer->mlp_norm
                                          : layer->attn_norm;
}
