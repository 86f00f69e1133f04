/* Inside the CPU backend: what one rank holds, and the phases of its files. */
#pragma once
#include "backend.h"

/* Rows that go through a group of panels together, and panels of a group: a tile of x and the
 * weights of a group stay in the second-level cache. For speed only: no bit depends on them. */
enum { CPU_ROW_TILE = 32, CPU_PANEL_GROUP = 4, CPU_QUERY_TILE = 32 };

struct backend_rank {
    const struct rank_weights *weights;
    const struct model_config *model;
    const struct kernels *kernels;
    struct comm *comm;
    bool bf16; /* arithmetic: activations are rounded where they enter a matrix */
    float eps, attention_scale;
    enum dtype kv_dtype;
    uint64_t rank, rows_max, n_pages, parts_max;
    uint64_t n_heads_local, n_kv_heads_local;
    uint64_t group;               /* query heads of a KV head in the model */
    uint64_t heads_per_leaf;      /* 1 or 2 */
    uint64_t head_pad;            /* head_dim padded to 32 */
    uint64_t q_stride, kv_stride; /* rows of q, and of k and v */
    uint64_t page_bytes;          /* of k, or of v, of one KV head */

    float *residual; /* [rows_max][row_stride] */
    float *normed;   /* [rows_max][row_stride] in one-shot steps; else comm->rows is it */
    float *q;        /* [rows_max][q_stride] as they come out of the matrix */
    float *k, *v;    /* [rows_max][kv_stride] */
    float *queries;  /* per KV head [rows_max][its query heads][head_pad]: what attention takes */
    float *attn;     /* [rows_max][o.k] the input of o_proj, leaves padded */
    float *act;      /* [rows_max][down.k] the input of down */
    float *scratch;  /* [parts_max][scratch_floats] */
    uint64_t scratch_floats;
    unsigned char *kv; /* [n_layers][n_pages][n_kv_heads_local][k, v][page_bytes] */
    struct backend_bytes bytes;
    void *memory;
};

static inline struct range share_of(uint64_t n, struct share share)
{
    return (struct range){cut(n, share.part, share.parts), cut(n, share.part + 1, share.parts)};
}

static inline float *cpu_scratch(const struct backend_rank *r, struct share share)
{
    return r->scratch + share.part * r->scratch_floats;
}

/* x of the matrices behind a norm: [n_rows][row_stride] */
static inline float *cpu_normed(const struct backend_rank *r, const struct step *step)
{
    return step_one_shot(step) ? r->normed : r->comm->rows;
}

/* Local query heads of a local KV head */
struct range cpu_heads_of(const struct backend_rank *r, uint64_t kv_head);
/* Floats of scratch that one thread needs in the phases of a file. */
uint64_t cpu_matmul_scratch(void);
uint64_t cpu_attention_scratch(const struct backend_rank *r);

backend_phase cpu_qkv, cpu_o_proj, cpu_gate_up, cpu_down, cpu_logits;
backend_phase cpu_rope_append, cpu_attention;
