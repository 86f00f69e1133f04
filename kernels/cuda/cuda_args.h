/* What the kernels of a GPU take: one struct each, passed by value, the same for the host (C) and
 * the device (C++). Addresses are the device's. Rows of activations are at most CUDA_ROWS; a kernel
 * made for M rows computes all M, and writes the first *n_rows.
 *
 * docs/numerics.md says what is computed, and in which order; nothing here changes a bit.
 */
#pragma once
#include <stdint.h>

enum {
    CUDA_ROWS = 16,     /* of a step, at most */
    CUDA_MATRICES = 3,  /* that one launch can run over */
    CUDA_THREADS = 256, /* of a CTA, but for the hash's */
    CUDA_WARPS = CUDA_THREADS / 32,
    CUDA_GROUPS = 8,  /* of four lanes in a warp: units that it takes at once */
    CUDA_XPAD = 36,   /* floats of a block of x in shared memory: no bank conflicts */
    CUDA_STACK = 24,  /* TREE_STACK_MAX */
    CUDA_CHUNK = 256, /* ATTENTION_CHUNK */
    CUDA_NO_SLOT = 0xffffffffu,
};

/* A step's rows, refreshed by the host before it begins. */
struct cuda_step {
    uint32_t n_rows, pad[3];
    uint32_t token[CUDA_ROWS], position[CUDA_ROWS];
    /* Then [CUDA_ROWS][chunks_max] page of the KV cache of every chunk of the row's sequence. */
};

/* A block of 32 columns of a packed row: where it lies; of the first block of a piece also what
 * the piece is, and what ends with it. */
struct cuda_block {
    uint32_t word;      /* its first, in the row */
    uint32_t constants; /* formats with groups: the word of its piece's */
    uint16_t run;       /* blocks of the piece that begins here; 0: none does */
    uint8_t high;       /* the high half of that word is the scale */
    uint8_t leaf_ends;
    uint8_t merges; /* of the tree, behind that leaf */
    uint8_t pad[3];
} __attribute__((aligned(16))); /* one load */

struct cuda_matrix {
    const void *w;             /* panels */
    float *out;                /* [M][out_stride] */
    const float *scale, *bias; /* [rows] or NULL: once, after a full dot */
    uint32_t panels, rows;
    uint32_t first; /* panel of the launch that is its panel 0 */
    uint32_t out_stride;
};

/* A row of the residual stream from the embedding, or from a reduction; then the next norm. */
struct cuda_residual {
    const struct cuda_step *step;
    const float *residual;        /* [M][stride] */
    float *residual_out;          /* [M][stride], another */
    float *normed;                /* [M][stride] */
    const float *norm;            /* [hidden] */
    const void *embed;            /* panels: the row of the token; NULL: a reduction */
    const float *roots;           /* [n_roots][root_stride] of [M][stride] */
    const uint8_t *merges;        /* [n_roots] fold program */
    const float *scale, *bias;    /* [hidden] or NULL: after the fold */
    uint32_t embed_dtype;         /* enum dtype: f32, f16, bf16 */
    uint32_t first_token, tokens; /* that this rank has */
    uint32_t panel_words, n_roots, root_stride, stride, hidden;
    float eps;
    uint32_t round;
};

/* Dots over panels, of one stored format.
 *
 * Panels of all matrices are counted in one row; every CTA has an equal range of units. A panel
 * that CTAs share leaves its block values in global memory, and who ends it last adds them up. */
struct cuda_dot {
    const struct cuda_step *step;
    struct cuda_matrix matrix[CUDA_MATRICES];
    const struct cuda_block *table; /* [blocks]; NULL: no groups, one leaf */
    const float *x;                 /* [M][x_stride]; NULL: what before makes, in every CTA */
    struct cuda_residual before;
    float *edge;            /* [grid][M][blocks of a panel][16] */
    uint32_t *edge_arrived; /* [grid], 0 between launches */
    float *inner;           /* [grid][slots] of them; NULL: in shared memory */
    uint32_t n_matrices;
    uint32_t pair; /* two matrices, panel by panel: silu(first) * second goes to the first's out */
    uint32_t blocks, panel_words; /* of one matrix's panel: words of a row */
    uint32_t panels;              /* of all; with pair, of one */
    uint32_t slots;
    uint32_t x_stride, root_stride; /* floats between the roots of leaves in out */
    uint32_t stage_x;               /* x is copied to shared memory first */
    uint32_t round;                 /* the result of a pair enters a matrix as bf16 */
    uint32_t minimum;               /* groups have one */
};

struct cuda_rope {
    const struct cuda_step *step;
    const float *q, *k, *v;       /* [M][q_stride], [M][kv_stride] */
    float *queries;               /* [M][heads][head_pad] */
    unsigned char *pages;         /* of this layer: [page][kv head][k, v][page_bytes] */
    const float *cos, *sin;       /* [position][head_dim / 2] */
    const float *q_norm, *k_norm; /* [head_dim] or NULL */
    uint32_t kv_dtype;            /* enum dtype */
    uint32_t heads, kv_heads, head_dim, head_pad, q_stride, kv_stride, chunks_max;
    uint64_t page_bytes;
    float eps;
    uint32_t round;
};

struct cuda_attention {
    const struct cuda_step *step;
    /* [M][heads][head_pad]; NULL: RoPE is done here, rows being of one sequence each */
    const float *queries;
    struct cuda_rope rope;
    unsigned char *pages;
    float *out;              /* [M][out_stride] */
    const uint32_t *columns; /* [heads * head_dim] where each goes in a row of out */
    float *partial;          /* [M][heads][chunks_max][head_pad + 2]: o, max, sum */
    uint32_t *arrived;       /* [M][kv_heads][tiles], 0 between launches */
    /* Query heads of local KV head h: [h * group - skip, (h + 1) * group - skip), as far as they
     * are in [0, heads). */
    uint32_t heads, kv_heads, group, skip;
    uint32_t head_dim, head_pad, chunks_max, window, out_stride;
    uint64_t page_bytes;
    float scale;
    uint32_t round;
    /* Weights that the next kernel reads first: into L2 meanwhile, before anything is waited
     * for. */
    const void *ahead;
    uint64_t ahead_bytes;
};

/* Panels as rows of 16-bit values, bf16 or f16 by the kernel: what cuBLASLt multiplies. Of formats
 * with a scale for each row the codes, without it; of those with groups the values. */
struct cuda_unpack {
    const void *w;                  /* panels */
    void *out;                      /* [panels * 16][blocks * 32] */
    const struct cuda_block *table; /* [blocks], formats with groups */
    uint32_t blocks, panel_words;   /* of one panel: words of a row */
    uint32_t parts;                 /* CTAs of a panel: grid / panels */
};

/* XXH3-128 of chunks, a warp each. */
struct cuda_hash {
    const unsigned char *data;
    const uint64_t *at, *bytes; /* [chunks] multiples of 64, bytes above 1 KiB */
    const uint64_t *secret;     /* XXH3's, 192 bytes */
    uint64_t *acc;              /* [chunks][8]: the host merges them */
    uint32_t chunks;
};
