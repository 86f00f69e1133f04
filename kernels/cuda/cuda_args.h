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
    CUDA_TOGETHER = 8,  /* ranks that one launch of attention serves */
    CUDA_MATRICES = 12, /* that one launch can run over */
    CUDA_THREADS = 256, /* of a CTA, but for the hash's */
    CUDA_WARPS = CUDA_THREADS / 32,
    CUDA_GROUPS = 8,      /* of four lanes in a warp: units that it takes at once */
    CUDA_XPAD = 36,       /* floats of a block of x in shared memory: no bank conflicts */
    CUDA_STACK = 24,      /* TREE_STACK_MAX */
    CUDA_CHUNK = 256,     /* ATTENTION_CHUNK */
    CUDA_TOKENS = 128,    /* of a prompt that one launch multiplies */
    CUDA_RANKS = 48,      /* PARTITION_TP_MAX */
    CUDA_QUERY_WARPS = 4, /* of a CTA of a prompt's attention, 16 query rows each */
    CUDA_NO_SLOT = 0xffffffffu,
    CUDA_GPUS = 16,           /* of one process, at most */
    CUDA_INBOXES = 3,         /* in turn */
    CUDA_EMPTY = 0xffffffffu, /* a word of an inbox that has not come: no sum is this NaN */
    /* choosing tokens */
    CUDA_SUM_CHUNK = 1024,  /* SAMPLE_CHUNK */
    CUDA_BINS = 2048,       /* of falling logits */
    CUDA_CANDIDATES = 2048, /* that are sorted, at most */
    CUDA_TOP_K_MAX = 1024,
    CUDA_CHOOSE_THREADS = 512,
    CUDA_CHOOSE_WARPS = CUDA_CHOOSE_THREADS / 32,
    CUDA_VOCAB_MAX = 1 << 20, /* ids are fewer: a bin counts them in 20 bits */
    CUDA_NO_CHOICE = 0xffffffffu,
};

/* A step's rows, refreshed by the host before it begins. */
struct cuda_step {
    uint32_t n_rows;
    uint32_t turn;       /* reductions before this step: the first one's inbox is turn % 3 */
    uint32_t empty_rows; /* of an inbox that have been in use */
    uint32_t pad;
    uint32_t token[CUDA_ROWS], position[CUDA_ROWS];
    /* Then [CUDA_ROWS][chunks_max] page of the KV cache of every chunk of the row's sequence. */
};

/* What host and kernels say to each other while a step runs: pinned memory of the host, one for
 * all GPUs. Words are written whole, by whoever has something to say. */
struct cuda_watch {
    uint32_t stop; /* nobody waits for anything any more */
    /* 1 + 2 * the root that a GPU has waited for in vain (behind them: a GPU without) + the
     * reduction (attention, MLP) */
    uint32_t missing[CUDA_GPUS];
    uint32_t mark[CUDA_GPUS]; /* of each, fetched by the host when it waits long */
};

/* Its highest bit: that is done, and the GPU is where it gathers. */
#define CUDA_MARK(layer, kind, rank) (1 + (((uint32_t)(layer)*8 + (kind)) * 64 + (rank)))

/* Where the ranks' partial sums meet. Every GPU has inboxes: [3][slots][CUDA_ROWS][stride]; a
 * kernel that ends leaves puts its roots into all of them. A word that is not CUDA_EMPTY has come:
 * there is no other flag. With one GPU the stream's order is enough. A GPU without roots in a
 * reduction says that it is there in a word of its own, the last CUDA_GPUS of an inbox. */
struct cuda_inbox {
    float *at[CUDA_GPUS]; /* of each GPU, the own one first */
    uint32_t n;           /* GPUs */
    uint32_t index;       /* of the reduction in its step: inbox (turn + index) % 3 */
    uint32_t root_stride; /* floats between the roots of one inbox */
    uint32_t floats;      /* of an inbox */
    uint32_t absent;      /* GPUs that have no roots in this reduction: 1 << number */
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

/* A rank's part of the embedding: panels, the tokens that it has, its GPU. */
struct cuda_embed {
    const void *panels; /* NULL: this GPU does not reach them */
    uint32_t first, count, gpu, pad;
};

/* A root of all ranks': where it is in an inbox, and what its arrival completes (tree_global). */
struct cuda_root {
    uint16_t slot;
    uint8_t merges, pad;
};

/* A row of the residual stream from the embedding, or from a reduction; then the next norm. */
struct cuda_residual {
    const struct cuda_step *step;
    const uint32_t *tokens;         /* [M] */
    const float *residual;          /* [M][stride] */
    float *residual_out;            /* [M][stride], another */
    float *normed;                  /* [M][stride] */
    const float *norm;              /* [hidden] */
    const struct cuda_embed *embed; /* [n_embed] by rank: the row of the token; NULL: a reduction */
    const float *gathered;          /* [GPUs][M][stride] such rows, where panels are not reached */
    struct cuda_inbox inbox;        /* all ranks' roots: [M][stride] each */
    const struct cuda_root *roots;  /* [n_roots] */
    const float *scale, *bias;      /* [hidden] or NULL: after the fold */
    uint32_t embed_dtype;           /* enum dtype: f32, f16, bf16 */
    uint32_t n_embed, gathered_rows; /* M of gathered */
    uint32_t panel_words, n_roots, stride, hidden;
    float eps;
    uint32_t round;
    uint32_t keeps; /* the inboxes in order: one kernel of a reduction does */
    uint32_t gpu;
    struct cuda_watch *watch;
    uint64_t deadline; /* nanoseconds that a root may be waited for */
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
    struct cuda_inbox
        inbox; /* n > 0: where a row's roots go, from first_slot on, in place of out */
    uint32_t first_slot;
    uint32_t *mark_at, mark; /* CUDA_MARK, left there when it begins: on the device */
    float *edge;             /* [grid][M][blocks of a panel][16] */
    uint32_t *edge_arrived;  /* [grid], 0 between launches */
    float *inner;            /* [grid][slots] of them; NULL: in shared memory */
    uint32_t n_matrices;
    /* Matrices by twos, panel by panel: silu(first) * second goes to the first's out. */
    uint32_t pair;
    uint32_t blocks, panel_words; /* of one matrix's panel: words of a row */
    uint32_t panels;              /* of all; with pair, of the first ones */
    uint32_t slots;
    uint32_t x_stride;
    uint32_t stage_x; /* x is copied to shared memory first */
    uint32_t round;   /* the result of a pair enters a matrix as bf16 */
    uint32_t minimum; /* groups have one */
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

/* Of ranks that take their turn together. */
struct cuda_attentions {
    struct cuda_attention rank[CUDA_TOGETHER];
    uint32_t n;
};

/* ---- prompts, fast: a span of rows of one sequence, at ascending positions ---- */

/* Rows of x to pairs of 16 bits, as a product takes them (product.cuh), or row by row. */
struct cuda_operand {
    const float *from; /* [n_rows][stride] */
    uint32_t *to;      /* fragments; or [n_rows][blocks * 16] */
    uint32_t n_rows, stride, blocks;
    uint32_t n_out;          /* row by row: of to, those beyond n_rows are zero */
    uint32_t per_word;       /* columns in a word of the matrix: 2, 4, 8; 0: row by row */
    uint32_t half;           /* f16, saturated; else bf16 */
    uint32_t *mark_at, mark; /* as in cuda_dot */
};

/* Whole dots of at most CUDA_TOKENS rows with panels, on tensor cores. A CTA has two panels. */
struct cuda_product {
    struct cuda_matrix matrix[CUDA_MATRICES]; /* [n_rows][out_stride] come out */
    const struct cuda_block *table;           /* of formats with groups */
    const void *x;                            /* fragments of these rows */
    uint32_t n_matrices, n_rows;
    uint32_t pair; /* two matrices, panel by panel: silu(first) * second goes to the first's out */
    uint32_t blocks, panel_words; /* of one matrix's panel: words of a row */
    uint32_t panels;              /* of all; with pair, of one */
    uint32_t round;               /* the result of a pair enters a matrix as bf16 */
    uint32_t zeros, minimum;      /* what groups have beside a scale */
};

/* What a product of cuBLASLt lacks, in place: scale and bias of every column; of a pair also
 * silu(first) * second, to the first's out. */
struct cuda_finish {
    struct cuda_matrix matrix[2]; /* as they came out */
    uint32_t n_rows, pair;
    uint32_t round; /* the result of a pair enters a matrix as bf16 */
};

struct cuda_prompt_rope {
    struct cuda_rope rope; /* its step is not looked at */
    const uint32_t *pages; /* [chunks] of the sequence */
    uint32_t n_rows, position;
};

struct cuda_prompt_attention {
    const float *queries;    /* [n_rows][heads][head_pad] */
    const unsigned char *kv; /* of this layer: [page][kv head][k, v][page_bytes] */
    const uint32_t *pages;   /* [chunks] of the sequence */
    float *out;              /* [n_rows][out_stride] */
    const uint32_t *columns; /* [heads * head_dim] where each goes in a row of out */
    uint64_t page_bytes;
    uint32_t heads, kv_heads, group, skip; /* as in cuda_attention */
    uint32_t head_dim, head_pad, out_stride;
    uint32_t n_rows, position, window;
    float scale;
    uint32_t round;
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

/* How the token of a row is chosen (numerics.md section 10); refreshed with the step's rows. */
struct cuda_choice {
    uint32_t asked;     /* 0: not here */
    uint32_t banned;    /* ids may be */
    uint32_t top_k;     /* 0: all */
    float temperature;  /* 0: the highest */
    float least_weight; /* of min-p */
    uint32_t pad;
    double top_p, u;
};
struct cuda_choices {
    uint32_t n_rows, pad[3];
    struct cuda_choice row[CUDA_ROWS];
};

/* Tokens from rows of logits. */
struct cuda_sample {
    const struct cuda_choices *choices;
    const float *logits;   /* [M][logit_stride] */
    const uint8_t *banned; /* [vocab] not 0: never chosen */
    float *best;           /* [M][chunks] the highest of a chunk; NaN: one is NaN or +inf */
    uint32_t *first;       /* [M][chunks] the lowest id that has it */
    double *sums;          /* [M][chunks] of weights */
    uint64_t *bins;        /* [M][CUDA_BINS] how many ids, and their weights (sample.cuh) */
    uint32_t *chosen;      /* [M] CUDA_NO_CHOICE: the host chooses */
    uint32_t logit_stride, vocab, chunks;
};
