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

/* Which part of a crew's work: its threads share it. */
struct share {
    uint64_t part, parts;
};

/* Of a thread's share of panels, what is taken: cpu_panels.c. */
struct cpu_part {
    _Alignas(64) _Atomic uint64_t taken; /* a turn << 32 | so many panels of it */
    uint32_t turn;                       /* the thread's own */
};

struct cpu_rank {
    const struct cpu_device *device;
    const struct cpu_crew *crew;
    const struct rank_weights *weights;
    const struct model_config *model;
    const struct kernels *kernels;
    bool bf16; /* arithmetic: activations are rounded where they enter a matrix */
    float eps, attention_scale;
    enum dtype kv_dtype;
    uint64_t rank, rows_max, n_pages;
    uint64_t n_heads_local, n_kv_heads_local;
    uint64_t group;                   /* query heads of a KV head in the model */
    uint64_t head_pad;                /* head_dim padded to 32 */
    uint64_t q_stride, kv_stride;     /* rows of q, and of k and v */
    uint64_t attn_stride, act_stride; /* rows of attn and act */
    uint64_t page_bytes;              /* of k, or of v, of one KV head */

    float *q;          /* [rows_max][q_stride] as they come out of the matrix */
    float *k, *v;      /* [rows_max][kv_stride] */
    float *queries;    /* per KV head [rows_max][its query heads][head_pad]: what attention takes */
    float *attn;       /* [rows_max][attn_stride] the input of o_proj, padded as its columns are */
    float *act;        /* [rows_max][act_stride] the input of down */
    unsigned char *kv; /* [n_layers][n_pages][n_kv_heads_local][k, v][page_bytes] */
    struct device_bytes bytes;
    void *memory;
};

/* Threads and ranks that work together (comm.h): what they need besides. */
struct cpu_crew {
    const struct cpu_device *device;
    struct range ranks;
    uint64_t first_thread, parts; /* threads */
    uint64_t x_stride_max;        /* of rows that enter a matrix */
    uint64_t partials_max;        /* queries x chunks: those of one row with the longest context */
    uint64_t scratch_floats;

    float *residual; /* [rows_max][row_stride] */
    float *normed;   /* [rows_max][row_stride] in one-shot steps; else device->rows is it */
    float *partial;  /* chunks that threads share: o [partials_max][head_pad], maxima, sums */
    float *scratch;  /* [parts][scratch_floats] */
    struct cpu_part *taken; /* [parts] */
    void *memory;
    uint64_t memory_bytes;
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
    struct cpu_crew crews[PARTITION_TP_MAX]; /* [setup.comm->crews] */
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

static inline const struct cpu_crew *cpu_crew_of(const struct cpu_device *d, int thread)
{
    return &d->crews[crew_with((uint64_t)d->setup.team->count, (uint64_t)thread,
                               d->setup.comm->crews)];
}

static inline struct range share_of(uint64_t n, struct share share)
{
    return (struct range){cut(n, share.part, share.parts), cut(n, share.part + 1, share.parts)};
}

static inline const struct cpu_rank *cpu_rank_of(const struct cpu_crew *crew, uint64_t rank)
{
    return &crew->device->ranks[rank];
}

/* A matrix as a phase meets it. */
struct cpu_job {
    const struct cpu_rank *rank;
    const struct matrix *w; /* whose panels are shared out; gate with up */
    const float *x;         /* [rows][x_stride] */
    uint64_t x_stride;
    float *out; /* [rows][out_stride]; or roots: */
    uint64_t out_stride;
    const struct matrix *up;
    const struct leaf_run *leaves;
    const struct cpu_roots *roots;
};

/* The job that has a panel, counted over all jobs; *panel becomes its number there. */
const struct cpu_job *cpu_job_at(const struct cpu_job *jobs, uint64_t *panel);

/* Panels as one of a crew's threads takes them. */
struct taking {
    uint64_t n, unit;
    struct share share;
    struct cpu_part *parts; /* NULL: its own share alone, as ranges */
    struct range ranges[2];
    uint64_t next; /* which range; or which share, counted from its own */
    uint32_t turn;
};
/* Of the panels of all jobs, side by side; unit: at least so many at once. All threads of a crew
 * begin the same takings, in the same order. */
struct taking cpu_taking(const struct cpu_crew *crew, const struct cpu_job *jobs, uint64_t n_jobs,
                         struct share share, uint64_t unit);
/* false: all are taken. */
bool cpu_take(struct taking *taking, struct range *panels);

static inline float *cpu_scratch(const struct cpu_crew *c, struct share share)
{
    return c->scratch + share.part * c->scratch_floats;
}

/* The rows that a crew's ranks answer for. */
static inline struct range cpu_rows_of(const struct cpu_crew *c, const struct step *step)
{
    const uint64_t tp_size = c->device->setup.comm->size;
    return (struct range){step_rows_of(step, c->ranks.begin, tp_size).begin,
                          step_rows_of(step, c->ranks.end - 1, tp_size).end};
}

/* x of the matrices behind a norm: [n_rows][row_stride] */
static inline float *cpu_normed(const struct cpu_crew *c, const struct step *step)
{
    return step_one_shot(step) ? c->normed : c->device->rows;
}

/* Root `index` of row `row` of a rank: [root_stride] */
static inline float *cpu_root(const struct cpu_device *d, const struct cpu_roots *roots,
                              uint64_t rank, uint64_t index, uint64_t row)
{
    return roots->of[rank] + (index * d->setup.rows_max + row) * d->root_stride;
}

/* Sizes of what the setup asks for, and where there is memory addresses. TP_E_LIMIT: a size does
 * not fit in 64 bits. */
bool cpu_place(struct cpu_device *d, struct tp_error *err);
/* Local query heads of a local KV head */
struct range cpu_heads_of(const struct cpu_rank *r, uint64_t kv_head);
/* Floats of scratch that one thread needs in the phases of a file. */
uint64_t cpu_matmul_scratch(const struct cpu_crew *c);
uint64_t cpu_attention_scratch(const struct cpu_rank *r);

typedef void cpu_phase(const struct cpu_crew *crew, const struct step *step, const struct op *op,
                       struct share share);
cpu_phase cpu_embed, cpu_enter, cpu_reduce_attention, cpu_reduce_mlp;
cpu_phase cpu_qkv, cpu_o_proj, cpu_gate_up, cpu_down, cpu_logits;
cpu_phase cpu_rope_append, cpu_attention;

/* Of device_cpu: introduce, step, logits. */
void cpu_introduce(struct device *device, struct comm_hello *hellos);
bool cpu_step(struct device *device, const struct step *step, struct tp_error *err);
const float *cpu_logit_rows(struct device *device, const struct step *step, uint32_t first,
                            uint32_t *count, struct tp_error *err);
