/* Inside the GPU as a device: what it holds, and what its files share. Addresses of the device's
 * memory are pointers here that the host never follows. */
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

/* The GPU, opened. */
struct cuda {
    struct cuda_api api;
    cu_device device;
    cu_context context;
    cu_module module;
    cu_stream stream;
    int multiprocessors, shared_max; /* bytes of shared memory for a CTA */
    int major, minor, driver;
    bool early; /* a kernel may begin before the one ahead has ended: it waits itself */
    char name[96];
};
/* TP_E_UNSUPPORTED in one line where there is none. A failed open leaves nothing to close. */
bool cuda_open(struct cuda *cuda, struct tp_error *err);
void cuda_close(struct cuda *cuda);
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

/* Everything of one rank: one allocation, and where what is in it. */
struct cuda_rank {
    struct cuda *cuda;
    const struct device_setup *setup;
    const struct rank_weights *weights; /* the host's: geometry, and where data is (cuda_at) */
    const unsigned char *host_data;
    uint64_t data_bytes;
    cu_address memory;
    uint64_t memory_bytes;
    struct device_bytes bytes;

    unsigned char *data, *kv;
    float *residual[2], *normed; /* [rows_max, to whole groups of 16][stride]; in turn */
    float *q, *k, *v, *queries, *attn, *act;
    float *roots[2]; /* attention, MLP: [n_roots][16][stride] */
    float *wanted;   /* [16][stride] rows whose logits are wanted */
    float *logits;   /* [16][logit_stride] */
    float *partial, *edge, *inner;
    uint32_t *attention_arrived, *edge_arrived;
    float *cos, *sin;
    unsigned char *steps; /* [groups + 1] struct cuda_step and its pages; the last for the logits */
    uint32_t *columns;
    uint8_t *merges[2];
    struct cuda_block *blocks;

    uint64_t stride, q_stride, kv_stride, attn_stride, act_stride, head_pad, page_bytes;
    uint64_t heads, kv_heads, group, groups, chunks_max, step_bytes, logit_stride;
    uint64_t n_blocks, edge_floats, inner_floats;
    struct cuda_geometry kinds[CUDA_KINDS];
    uint64_t tile; /* query heads that a CTA of attention takes; 0: none fit */
    cu_function residual_norm, rope, attention, hash;
    cu_function dots[STORED_COUNT][CUDA_ROW_KINDS]; /* NULL: not asked for yet */
};

void cuda_time(struct device *device, const char *what, double seconds);

struct cuda_device {
    struct device device;
    struct device_setup setup;
    struct cuda_rank rank;
    /* pinned memory of the host */
    unsigned char *steps;
    float *logits, *row, *rope;
    double *frequencies;
    uint64_t rope_filled; /* pages */
    /* [rows][logits of all rows][rows of one sequence each] */
    cu_graph_exec graphs[CUDA_ROW_KINDS][2][2];
    uint32_t slice_first, slice_count; /* of the step's logit_rows: what logits holds */
    bool captured, failed;
    struct tp_error error; /* the first */
};

/* Addresses and sizes; with rank->memory, the pointers. */
bool cuda_place(struct cuda_rank *rank, struct tp_error *err);
/* Sizes, geometry and tables of a rank; no memory yet. */
void cuda_set_sizes(struct cuda_rank *rank, struct cuda *cuda, const struct device_setup *setup);
/* Shared memory of attention over so many query heads (attention.cuh), RoPE done there. */
size_t cuda_attention_shared(const struct cuda_rank *rank, uint64_t tile);
/* The kernels of every step; tables to the device. */
bool cuda_prepare(struct cuda_rank *rank, struct tp_error *err);
/* The dots for 1 << kind rows: not while a graph is made. */
bool cuda_find_dots(struct cuda_rank *rank, int kind, struct tp_error *err);
/* The rank file's data to the device; then every chunk against its hash: TP_E_SHARD_HASH names
 * file, tensor and chunk. */
bool cuda_copy(struct cuda_rank *rank, struct tp_error *err);
bool cuda_check(struct cuda_rank *rank, struct tp_error *err);
/* Where a value of the host's copy of the data is on the device; NULL stays. */
const void *cuda_at(const struct cuda_rank *rank, const void *host);

/* ---- a layer (cuda_layer.c) ---- */

/* One group of rows, on its way through the layers. */
struct cuda_group {
    struct cuda_rank *rank;
    uint32_t first, n_rows;       /* rows of the step */
    int kind;                     /* of kernels: for 1 << kind rows */
    bool fused;                   /* reductions and norms are done by who needs them */
    bool apart;                   /* rows are of one sequence each: RoPE is done in attention */
    const struct cuda_step *step; /* on the device */
    struct tp_error *err;
};

/* Can a dot over `hidden` columns make its own x, for 1 << kind rows? */
bool cuda_has_room(const struct cuda_rank *rank, int kind);
/* From the embedding (w NULL), or the reduction of w's roots; then norm number `norm`. The residual
 * stream alternates between two buffers: behind a layer it is in the first. */
struct cuda_residual cuda_residual_of(const struct cuda_group *group, const struct matrix *w,
                                      int reduction, uint32_t norm);
bool cuda_run_residual(const struct cuda_group *group, struct cuda_residual *residual);
/* before: where the layer's x comes from. Behind it the next one's is *before, which has been run
 * unless the group is fused. */
bool cuda_run_layer(const struct cuda_group *group, uint32_t layer, struct cuda_residual *before);
/* The LM head over x [rows][stride]. */
bool cuda_run_logits(const struct cuda_group *group, const float *x);

/* ---- a step (cuda_step.c) ---- */

bool cuda_step_run(struct device *device, const struct step *step, struct tp_error *err);
const float *cuda_logits(struct device *device, const struct step *step, uint32_t first,
                         uint32_t *count, struct tp_error *err);
void cuda_free_graphs(struct cuda_device *device);
