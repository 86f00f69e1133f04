/* Inside the GPUs as a device: what they hold, and what the files share. Addresses of a device's
 * memory are pointers here that the host never follows.
 *
 * A GPU has one or several of the ranks. They take turns phase by phase on its one stream, so that
 * they can share all memory that a phase leaves behind; what they have each is weights and cache.
 * Every GPU is driven by a thread of its own (cuda_step.c).
 */
#pragma once
#include "cuda_api.h"
#include "cuda_args.h"
#include "device.h"

enum { CUDA_ROW_KINDS = 5 }; /* kernels for 1, 2, 4, 8, 16 rows */

/* Matrices of a layer by what is asked of their dots, and the LM head. */
enum cuda_kind {
    KIND_Q,
    KIND_K,
    KIND_V,
    KIND_O,
    KIND_GATE,
    KIND_UP,
    KIND_DOWN,
    KIND_LM,
    CUDA_KINDS
};
/* The two reductions of a layer. */
enum cuda_reduction { REDUCE_ATTENTION, REDUCE_MLP };

/* A GPU, opened. */
struct cuda {
    struct cuda_api api;
    cu_device device;
    cu_context context;
    cu_module module;
    cu_stream stream, aside;         /* aside: for questions while the other is at work */
    int multiprocessors, shared_max; /* bytes of shared memory for a CTA */
    int major, minor, driver;
    bool early; /* a kernel may begin before the one ahead has ended: it waits itself */
    char name[96];
};
/* GPUs that there are. TP_E_UNSUPPORTED in one line where there is none. */
bool cuda_count(int *count, struct tp_error *err);
/* One of them. A failed open leaves nothing to close. The context is the calling thread's then. */
bool cuda_open(struct cuda *cuda, int ordinal, struct tp_error *err);
void cuda_close(struct cuda *cuda);
/* Calls of this thread go to this GPU. */
bool cuda_use(const struct cuda *cuda, struct tp_error *err);
/* Its kernels may use the memory of the other one. *can false: the machine cannot do that. */
bool cuda_reach(const struct cuda *cuda, const struct cuda *other, bool *can, struct tp_error *err);
/* A kernel by name, allowed all the shared memory there is. */
bool cuda_kernel(const struct cuda *cuda, const char *name, cu_function *function,
                 struct tp_error *err);
bool cuda_launch(const struct cuda *cuda, cu_function function, unsigned grid, unsigned threads,
                 size_t shared_bytes, void *arguments, struct tp_error *err);
/* On another stream than the main one; early: only a kernel that waits itself. */
bool cuda_launch_on(const struct cuda *cuda, cu_stream stream, bool early, cu_function function,
                    unsigned grid, unsigned threads, size_t shared_bytes, void *arguments,
                    struct tp_error *err);

/* The kernels as a module's bytes; size 0: this build has none. */
struct cuda_image {
    const void *data;
    size_t size;
};
struct cuda_image cuda_image(void);

/* How the columns of one kind of matrix are cut, on the device. */
struct cuda_geometry {
    const struct stored *stored;
    const struct cuda_block *table; /* NULL: no groups, one leaf */
    uint32_t blocks, panel_words;
};

/* The kernels of spans, for the bundle's arithmetic. */
struct cuda_product_kernels {
    cu_function operand, finish;
    cu_function products[STORED_COUNT][5]; /* cuda_product.c */
    bool found;
};
struct cuda_prompt_kernels {
    cu_function rope;      /* NULL: not asked for yet */
    cu_function attention; /* NULL: none for these heads, or this KV cache */
};

/* What chooses tokens from rows of logits (cuda_sample.c). */
struct cuda_chooser {
    struct cuda_choices *choices;
    uint8_t *banned; /* [vocab] */
    float *best;     /* [16][chunks], as first and sums */
    uint32_t *first;
    double *sums;
    uint64_t *bins;   /* [16][CUDA_BINS] */
    uint32_t *chosen; /* [16] */
    uint32_t chunks;  /* of the vocabulary; 0: this GPU does not choose */
    cu_function scan, weigh, choose;
    bool has_banned;
    struct hash128 banned_hash; /* of what banned holds */
    /* pinned memory of the host */
    struct cuda_choices *asked;
    uint32_t *got; /* [16] */
};

/* What a rank has of its own on its GPU. */
struct cuda_rank {
    struct cuda_gpu *gpu;
    struct cuda *cuda;
    const struct device_setup *setup;
    uint32_t number;
    const struct rank_plan *plan;
    const struct rank_weights *weights; /* the host's: geometry, and where data is (cuda_at) */
    const unsigned char *host_data;
    uint64_t data_bytes;
    struct device_bytes bytes; /* planned; what its GPU's ranks share is the first one's */

    unsigned char *data, *kv;
    float *q, *k, *v;  /* [wide_rows][stride], as what follows */
    float *queries;    /* [wide_rows][heads][head_pad] */
    float *partial;    /* [16][heads][chunks_max][head_pad + 2] */
    uint32_t *arrived; /* [16][kv_heads][tiles] */
    float *attn, *act; /* zero where leaves are padded, which is the rank's affair */
    uint32_t *columns;
    struct cuda_block *blocks;

    uint64_t q_stride, kv_stride, attn_stride, act_stride; /* floats of a row */
    uint64_t heads, kv_heads, ff, n_blocks;
    struct cuda_geometry kinds[CUDA_KINDS];
};

/* Everything on one GPU: one allocation, and where what is in it. */
struct cuda_gpu {
    struct cuda *cuda;
    const struct device_setup *setup;
    uint32_t number, n_gpus;
    struct cuda_rank *ranks; /* [n_ranks] that it has */
    uint32_t n_ranks;
    cu_address memory;
    uint64_t memory_bytes;

    float *residual[2], *normed; /* [rows_max, to whole groups of 16][stride]; in turn */
    float *inbox;  /* [CUDA_INBOXES][inbox_floats]: [n_gpus][slots][16][stride], a word of each */
    float *wanted; /* [16][stride] rows whose logits are wanted */
    float *logits; /* [16][logit_stride] the whole vocabulary: of the first GPU */
    float *edge, *inner;
    /* of spans */
    uint32_t *span;    /* [chunks_max] pages of the sequence, then [wide_rows] tokens */
    uint32_t *operand; /* a product's x: [wide_rows, to whole tiles][widest x] of 16 bits */
    float *sums;       /* of every rank, GPU by GPU: [n_gpus][sum_slots][rows][stride] */
    float *second;     /* up_proj's, where cuBLASLt multiplies: [wide_rows][widest act_stride] */
    unsigned char *workspace; /* cuBLASLt's: [workspace_bytes] */
    struct cuda_blas *blas;   /* NULL: no span is long enough, or the library is not there */
    struct cuda_nccl *nccl;   /* NULL: one GPU, or no spans */
    uint32_t *edge_arrived;
    uint32_t *mark; /* what has begun last: CUDA_MARK */
    float *cos, *sin;
    unsigned char *steps; /* [groups + 1] struct cuda_step and its pages; the last for the logits */
    struct cuda_root *roots[2]; /* of all ranks, by reduction */
    struct cuda_root *whole[2]; /* [n_whole] of spans: a sum of each rank that has some */
    uint32_t n_whole[2];
    struct cuda_embed *embed; /* [tp_size] */

    uint64_t stride, head_pad, page_bytes, group, groups, chunks_max, step_bytes, logit_stride;
    uint64_t wide_rows;                /* of q to act: CUDA_ROWS, or a span's in whole groups */
    uint64_t sum_slots;                /* ranks of the GPU that has most */
    uint64_t workspace_bytes, largest; /* largest: bytes of a matrix as cuBLASLt takes it */
    uint64_t edge_floats, inner_floats, inbox_floats;
    uint64_t tile; /* query heads that a CTA of attention takes; 0: none fit */
    cu_function residual_norm, rope, attention, hash;
    struct cuda_product_kernels product;
    struct cuda_prompt_kernels prompt;
    struct cuda_chooser chooser;                    /* of the first GPU */
    cu_function dots[STORED_COUNT][CUDA_ROW_KINDS]; /* NULL: not asked for yet */

    uint32_t slots[2]; /* of an inbox, of each GPU: roots of the one that has most */
    bool gathers;      /* GPUs do not reach each other's memory: NCCL carries roots and rows */

    /* of all GPUs, as this one reaches it */
    float *inboxes[CUDA_GPUS]; /* the own one first */
    float *all_logits;         /* the first GPU's */
    struct cuda_watch *watch;
    uint64_t deadline;       /* seconds */
    const uint64_t *n_steps; /* so far */

    /* [rows][logits of all rows][rows of one sequence each] */
    cu_graph_exec graphs[CUDA_ROW_KINDS][2][2];
    /* how its part of a step went */
    struct tp_error error;
    bool hangs;     /* and cannot even be closed */
    bool gathering; /* the error is NCCL's: of what another did not do */
    _Atomic bool came;
};

void cuda_time(struct device *device, const char *what, double seconds);

struct cuda_device {
    struct device device;
    struct device_setup setup;
    struct cuda_gpu *gpus; /* [n_gpus] */
    uint32_t n_gpus;
    struct cuda_rank *ranks; /* [tp_size] */
    struct team team;        /* a thread for each GPU, the first one's is the caller's */
    struct barrier together; /* of them */
    /* pinned memory of the host, for all GPUs */
    struct cuda_watch *watch;
    unsigned char *steps; /* as a GPU's */
    uint32_t *span;
    float *logits, *row, *rope;
    double *frequencies;
    uint64_t rope_filled;              /* pages */
    uint64_t steps_run;                /* so far */
    uint32_t turn;                     /* reductions so far */
    uint32_t rows_before;              /* of an inbox, in use by the step before */
    uint32_t slice_first, slice_count; /* of the step's logit_rows: what the GPU has logits of */
    bool fetched;                      /* so has the host */
    bool captured, failed, hangs;
    struct tp_error error; /* the first */
};

/* The GPUs' part of the ranks: [ranks] of them over `gpus` GPUs. */
static inline struct range cuda_ranks_of(uint64_t ranks, uint64_t gpus, uint64_t gpu)
{
    return (struct range){cut(ranks, gpu, gpus), cut(ranks, gpu + 1, gpus)};
}

/* Sizes, geometry and tables of a GPU's ranks; no memory yet. `ranks` has room for them. */
void cuda_set_sizes(struct cuda_gpu *gpu, struct cuda *cuda, const struct device_setup *setup,
                    uint32_t number, uint32_t n_gpus, bool gathers, struct cuda_rank *ranks);
/* The first slot of an inbox that is the rank's. */
uint32_t cuda_sum_slot(const struct cuda_gpu *gpu, uint64_t rank); /* where its whole sums are */
uint32_t cuda_slot_of(const struct cuda_gpu *gpu, enum cuda_reduction reduction, uint64_t rank);
/* Addresses and sizes; with gpu->memory, the pointers. */
bool cuda_place(struct cuda_gpu *gpu, struct tp_error *err);
/* Shared memory of attention over so many query heads (attention.cuh), RoPE done there. */
size_t cuda_attention_shared(const struct cuda_gpu *gpu, uint64_t tile);
/* The kernels of every step; tables to the device. embed: of all ranks. */
bool cuda_prepare(struct cuda_gpu *gpu, const struct cuda_embed *embed, struct tp_error *err);
/* The dots for 1 << kind rows: not while a graph is made. */
bool cuda_find_dots(struct cuda_gpu *gpu, int kind, struct tp_error *err);
/* The rank file's data to the device; then every chunk against its hash: TP_E_SHARD_HASH names
 * file, tensor and chunk. */
bool cuda_copy(struct cuda_rank *rank, struct tp_error *err);
bool cuda_check(struct cuda_rank *rank, struct tp_error *err);
/* Where a value of the host's copy of the data is on the device; NULL stays. */
const void *cuda_at(const struct cuda_rank *rank, const void *host);

/* ---- a layer (cuda_layer.c) ---- */

/* One group of rows, on its way through the layers of a GPU. */
struct cuda_group {
    struct cuda_gpu *gpu;
    uint32_t first, n_rows;       /* rows of the step */
    uint32_t number, count;       /* of the group, of groups */
    int kind;                     /* of kernels: for 1 << kind rows */
    bool fused;                   /* reductions and norms are done by who needs them */
    bool apart;                   /* rows are of one sequence each: RoPE is done in attention */
    const struct cuda_step *step; /* on the device */
    const uint32_t *tokens;       /* on the device, of these rows */
    bool span;                    /* of a fast prompt, not bounded by CUDA_ROWS */
    struct tp_error *err;
};

/* Can the kernels of a layer make their own x, for 1 << kind rows? */
bool cuda_can_fuse(const struct cuda_gpu *gpu, int kind);
/* From the embedding, then norm number `norm`; where GPUs gather, its rows are gathered first. The
 * residual stream alternates between two buffers:
 * behind a layer it is in the first. */
bool cuda_embedding(const struct cuda_group *group, uint32_t norm, struct cuda_residual *out);
/* Of a span: the whole sums of all ranks that have some, [rows][stride] each, in their order. */
bool cuda_reduce_span(const struct cuda_group *group, uint32_t layer, enum cuda_reduction reduction,
                      uint64_t rows);
bool cuda_run_residual(const struct cuda_group *group, struct cuda_residual *residual);
/* before: where the layer's x comes from. Behind it the next one's is *before, which has been run
 * unless the group is fused. */
bool cuda_run_layer(const struct cuda_group *group, uint32_t layer, struct cuda_residual *before);
/* A matrix as kernels take it; full: its dots are whole, with scale and bias. */
struct cuda_matrix cuda_matrix_at(const struct cuda_rank *rank, const struct matrix *matrix,
                                  float *out, uint64_t stride, bool full);
/* Attention of a group on its own: of a rank; of some in one launch. */
struct cuda_attention cuda_attention_of(const struct cuda_group *group,
                                        const struct cuda_rank *rank, uint32_t layer);
bool cuda_run_attention(const struct cuda_group *group, struct cuda_attentions *attentions);
/* The LM head over x [rows][stride]: every rank's part. */
bool cuda_run_logits(const struct cuda_group *group, const float *x);

/* ---- choosing tokens (cuda_sample.c) ---- */

void cuda_set_chooser(struct cuda_gpu *gpu); /* sizes */
bool cuda_open_chooser(struct cuda_chooser *chooser, const struct cuda_api *api,
                       struct tp_error *err);
void cuda_close_chooser(struct cuda_chooser *chooser, const struct cuda_api *api);
bool cuda_find_chooser(struct cuda_gpu *gpu, struct tp_error *err); /* its kernels */
/* What is asked of wanted rows [first, first + n), to the device: nothing without choices. */
bool cuda_put_choices(struct cuda_gpu *gpu, const struct step *step, uint32_t first, uint32_t n,
                      struct tp_error *err);
/* Behind the LM head of n_rows rows: nothing is chosen from rows of which nothing is asked. */
bool cuda_run_choices(const struct cuda_gpu *gpu, uint32_t n_rows, struct tp_error *err);
/* Their ids on their way to the host; and, when the stream has been waited for, to the step. */
bool cuda_fetch_chosen(const struct cuda_gpu *gpu, uint32_t n, struct tp_error *err);
void cuda_take_chosen(const struct cuda_gpu *gpu, const struct step *step, uint32_t first,
                      uint32_t n);

/* ---- prompts, fast (cuda_prompt.c) ---- */

/* cuBLASLt for spans, where it is there; after cuda_prepare. TP_E_MEMORY. */
bool cuda_open_blas(struct cuda_gpu *gpu, struct tp_error *err);
void cuda_close_blas(struct cuda_gpu *gpu);
/* NCCL, from each GPU's own thread (id: made once for all). TP_E_DEVICE. */
bool cuda_open_nccl(struct cuda_gpu *gpu, const void *id, struct tp_error *err);
void cuda_close_nccl(struct cuda_gpu *gpu);
/* all [n_gpus][count] floats, of which this GPU has its own. */
bool cuda_gather(struct cuda_gpu *gpu, float *all, uint64_t count, struct tp_error *err);

extern const uint32_t cuda_chunks[]; /* of a prompt, rising; 0 ends the list */

/* The kernels of spans, and what cuBLASLt needs for so many rows. */
bool cuda_prepare_span(struct cuda_gpu *gpu, uint32_t n_rows, struct tp_error *err);
/* A span on one GPU: its part, of all its ranks. Where it lies was set by cuda_set_span. */
bool cuda_run_span(struct cuda_device *device, struct cuda_gpu *gpu, const struct step *step,
                   struct step_span span, struct tp_error *err);
/* What a span's rows are, for the GPUs to fetch: not before they have done so with the last. */
void cuda_set_span(struct cuda_device *device, const struct step *step, struct step_span span);

/* ---- a step (cuda_step.c) ---- */

/* What the rows of all groups are, for the GPUs to fetch; to one of them. */
void cuda_set_rows(struct cuda_device *device, const struct step *step);
bool cuda_put_rows(struct cuda_device *device, const struct cuda_gpu *gpu, const struct step *step,
                   struct tp_error *err);

bool cuda_step_run(struct device *device, const struct step *step, struct tp_error *err);
const float *cuda_logits(struct device *device, const struct step *step, uint32_t first,
                         uint32_t *count, struct tp_error *err);
void cuda_free_graphs(struct cuda_gpu *gpu);

/* ---- waiting (cuda_wait.c) ---- */

/* What was put into the GPU's stream has ended. TP_E_RANK: it does not go on. */
bool cuda_wait(struct cuda_gpu *gpu, struct tp_error *err);
/* Every GPU's thread comes here, whatever came of its part; the process ends (exit status 9) if
 * one does not. */
void cuda_meet(struct cuda_device *device, struct cuda_gpu *gpu);
/* false: a part went wrong; of several errors the one that explains the others. */
bool cuda_all_well(struct cuda_device *device, struct tp_error *err);
