/* What a model needs at a degree: bytes of every rank and the time against an ideal cut. Arithmetic
 * over the plan (rank_plan.h), no I/O.
 *
 * weights      the rank's data area, as it lies in memory
 * KV cache     layers * local KV heads * 2 * (head_dim padded to 32) * positions (pages of 256)
 *              * batch; a sliding window saves nothing, since tprun keeps all pages of a sequence
 * activations  f32 rows of a prefill step (256 tokens, or the batch if that is more): residual,
 *              norm, q, k, v, attention, MLP, the partial sums sent; and the logits of the batch.
 *              An estimate: the kernels' scratch, some MB per thread, is not in it
 * reserved     of a GPU's memory, what is not planned: the driver's context, libraries, gaps
 * disk         the rank files; the bundle's other files are a few MB
 * imbalance    sum over the phases (attention: q, k, v, o; MLP: gate, up, down; vocabulary: LM
 *              head) of the bytes that the slowest rank reads in a decode step, layers counted,
 *              over the same sum for one rank divided by the degree. 1 is ideal: every rank waits
 *              for the slowest of each phase
 */
#pragma once
#include "rank_plan.h"

enum { ESTIMATE_PAGE = 256, ESTIMATE_CHUNK = 256, ESTIMATE_BATCH_MAX = 1 << 20 };

struct estimate_request {
    const struct model_config *model;
    struct recipe recipe;
    uint64_t context, batch; /* 1 or more; batch <= ESTIMATE_BATCH_MAX */
    uint64_t gpu_memory;     /* of a rank, bytes; 0: not asked */
    uint64_t reserved;       /* of it, for others: estimate_reserved */
};

struct estimate_rank {
    struct partition partition;
    uint64_t attention, mlp, vocabulary; /* bytes of weights by phase */
    uint64_t weights, kv, activations, total;
    uint64_t file_bytes;
    uint64_t page_bytes;              /* KV cache of 256 positions of one sequence */
    uint64_t roots;                   /* partial sums it sends, of the phase that has more */
    uint64_t o_columns, down_columns; /* of the packed rows of o_proj and down_proj */
};

struct estimate {
    uint64_t tp_size;
    struct estimate_rank ranks[PARTITION_TP_MAX];
    uint64_t largest; /* rank of the largest total */
    uint64_t weights; /* of all ranks */
    uint64_t disk;    /* of all rank files */
    /* held beyond one copy: norms, shared KV heads, padding of cut panels */
    uint64_t replicated_weights;
    uint64_t replicated_kv;            /* KV cache held beyond one copy */
    uint64_t kv_heads_again;           /* KV heads of a layer held beyond one copy */
    uint64_t idle_attention, idle_mlp; /* ranks that own nothing there */
    double imbalance;
    /* with gpu_memory */
    bool fits;
    /* with this batch; at most the model's positions; 0: not even one page */
    uint64_t context_max;
    uint64_t batch_max; /* with this context; 0: not even one sequence */
};

/* Errors: those of rank_plan_build, TP_E_LIMIT where a sum leaves 63 bits. */
bool estimate_degree(const struct estimate_request *request, uint64_t tp_size, struct estimate *out,
                     struct tp_error *err);

/* What is left of a GPU's memory where the fraction is planned; at least what a context takes. */
uint64_t estimate_reserved(uint64_t gpu_memory, double fraction);

/* Values of all weights, biases and norms */
uint64_t estimate_parameters(const struct model_config *model);

/* Loading with --compress zstd: what remains of the bytes, and below which speed of the storage
 * (bytes per second) reading less outweighs the decoding: r B / S + B / (D threads) < B / S, that
 * is S < (1 - r) D threads, with reading and decoding taken one after the other. r is of normally
 * distributed weights under byte planes and zstd level 1, D of one core; both measured, see
 * estimate.c. */
struct estimate_zstd {
    double ratio, bytes_per_second;
};
bool estimate_zstd(const struct estimate_request *request, int threads, struct estimate_zstd *out,
                   struct tp_error *err);
