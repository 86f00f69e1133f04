/* Inside the CPU as a device: what it and one rank hold, and the phases of its files. */
#pragma once
#include "device.h"
#include "forward.h"
#include "kernels.h"

/* Rows that go through a group of panels together, and panels of a group: what is widened of a
 * panel serves all of them, and a group stays in the second-level cache. For speed only: no bit
 * depends on them. */
enum { CPU_ROW_TILE = 96, CPU_PANEL_GROUP = 2, CPU_QUERY_TILE = 32 };
/* Panels that one row meets before scales are applied and sums go elsewhere. */
enum { CPU_ROW_PANELS = 16 };
_Static_assert((int)CPU_ROW_PANELS <= (int)CPU_ROW_TILE, "there is room for so many results");

/* Which part of a rank's work: threads that work for one rank share it. */
struct share {
    uint64_t part, parts;
};

/* Which ranks a thread works for, and with which share of each. With at least as many threads as
 * ranks, rank r has threads [cut(T,r,TP), cut(T,r+1,TP)), which share its work; with fewer, thread
 * t runs ranks [cut(TP,t,T), cut(TP,t+1,T)) in turn within each phase. */
struct crew {
    struct range ranks;
    struct share share;
};
struct crew crew_of(uint64_t tp_size, int thread, int threads);

/* Of a thread's share of panels, what is taken: cpu_panels.c. */
struct cpu_part {
    _Alignas(64) _Atomic uint64_t taken; /* a turn << 32 | so many panels of it */
    uint32_t turn;                       /* the thread's own */
};

struct cpu_rank {
    const struct cpu_device *device;
    const struct rank_weights *weights;
    const struct model_config *model;
    const struct kernels *kernels;
    bool bf16; /* arithmetic: activations are rounded where they enter a matrix */
    float eps, attention_scale;
    enum dtype kv_dtype;
    uint64_t rank, rows_max, n_pages, parts_max;
    uint64_t n_heads_local, n_kv_heads_local;
    uint64_t group;               /* query heads of a KV head in the model */
    uint64_t head_pad;            /* head_dim padded to 32 */
    uint64_t q_stride, kv_stride; /* rows of q, and of k and v */
    uint64_t page_bytes;          /* of k, or of v, of one KV head */
    uint64_t attn_stride, act_stride,
        x_stride_max; /* rows of attn and act; the longest that enter a matrix */

    float *residual; /* [rows_max][row_stride] */
    float *normed;   /* [rows_max][row_stride] in one-shot steps; else device->rows is it */
    float *q;        /* [rows_max][q_stride] as they come out of the matrix */
    float *k, *v;    /* [rows_max][kv_stride] */
    float *queries;  /* per KV head [rows_max][its query heads][head_pad]: what attention takes */
    float *attn;     /* [rows_max][attn_stride] the input of o_proj, padded as its columns are */
    float *act;      /* [rows_max][act_stride] the input of down */
    float *partial;  /* chunks that threads share: o [partials_max][head_pad], maxima, sums */
    uint64_t partials_max; /* queries x chunks: those of one row with the longest context */
    float *scratch;        /* [parts_max][scratch_floats] */
    uint64_t scratch_floats;
    struct cpu_part *parts; /* [parts_max] */
    unsigned char *kv;      /* [n_layers][n_pages][n_kv_heads_local][k, v][page_bytes] */
    struct device_bytes bytes;
    void *memory;
};

/* One kind of reduction: its tree, and per rank the roots [n_roots][rows_max][root_stride]. */
struct cpu_roots {
    const struct comm_tree *tree;
    float *of[PARTITION_TP_MAX];
};

struct cpu_device {
    struct device device;
    struct device_setup setup;
    const struct kernels *kernels;
    struct cpu_rank ranks[PARTITION_TP_MAX];
    /* what ranks leave for each other */
    uint64_t row_stride, root_stride, slice_max;
    float *rows;   /* [rows_max][row_stride] */
    float *logits; /* [slice_max][logit_stride] */
    struct cpu_roots attention, mlp;
    uint32_t slice_first, slice_count; /* of the step's logit_rows: what the LM head runs over */
    /* cos and sin of every position, by page of 256: filled when it is first needed */
    double *frequencies; /* [head_dim / 2] radians per position */
    float *cos, *sin;    /* [rope_pages * 256][head_dim / 2] */
    uint64_t rope_pages, rope_filled;
    void *memory;
    uint64_t memory_bytes;
};

static inline struct cpu_device *cpu_device_of(struct device *device)
{
    return (struct cpu_device *)(void *)device;
}

static inline struct range share_of(uint64_t n, struct share share)
{
    return (struct range){cut(n, share.part, share.parts), cut(n, share.part + 1, share.parts)};
}

/* Panels as one of a rank's threads takes them. */
struct taking {
    uint64_t n, unit;
    struct share share;
    struct cpu_part *parts; /* NULL: its own share alone, as ranges */
    struct range ranges[2];
    uint64_t next; /* which range; or which share, counted from its own */
    uint32_t turn;
};
/* Of w's panels, or n of matrices of its format, w's first; unit: at least so many at once. All
 * threads of a rank begin the same takings, in the same order. */
struct taking cpu_taking(const struct cpu_rank *r, const struct matrix *w, uint64_t n,
                         struct share share, uint64_t unit);
/* false: all are taken. */
bool cpu_take(struct taking *taking, struct range *panels);

static inline float *cpu_scratch(const struct cpu_rank *r, struct share share)
{
    return r->scratch + share.part * r->scratch_floats;
}

/* x of the matrices behind a norm: [n_rows][row_stride] */
static inline float *cpu_normed(const struct cpu_rank *r, const struct step *step)
{
    return step_one_shot(step) ? r->normed : r->device->rows;
}

/* Root `index` of row `row` of a rank: [root_stride] */
static inline float *cpu_root(const struct cpu_device *d, const struct cpu_roots *roots,
                              uint64_t rank, uint64_t index, uint64_t row)
{
    return roots->of[rank] + (index * d->setup.rows_max + row) * d->root_stride;
}

/* Local query heads of a local KV head */
struct range cpu_heads_of(const struct cpu_rank *r, uint64_t kv_head);
/* Floats of scratch that one thread needs in the phases of a file. */
uint64_t cpu_matmul_scratch(const struct cpu_rank *r);
uint64_t cpu_attention_scratch(const struct cpu_rank *r);

typedef void cpu_phase(struct cpu_rank *rank, const struct step *step, const struct op *op,
                       struct share share);
cpu_phase cpu_embed, cpu_enter, cpu_reduce_attention, cpu_reduce_mlp;
cpu_phase cpu_qkv, cpu_o_proj, cpu_gate_up, cpu_down, cpu_logits;
cpu_phase cpu_rope_append, cpu_attention;

/* Of device_cpu: introduce, step, logits. */
void cpu_introduce(struct device *device, struct comm_hello *hellos);
bool cpu_step(struct device *device, const struct step *step, struct tp_error *err);
const float *cpu_logit_rows(struct device *device, const struct step *step, uint32_t first,
                            uint32_t *count, struct tp_error *err);
