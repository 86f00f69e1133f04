#include "estimate.h"

#include "checked.h"

static bool overflow(const char *what, struct tp_error *err)
{
    return tp_fail(err, TP_E_LIMIT, "%s: more than 2^63 bytes", what);
}

static bool add_to(uint64_t *sum, uint64_t bytes, const char *what, struct tp_error *err)
{
    return (tp_add(*sum, bytes, sum) && *sum <= INT64_MAX) || overflow(what, err);
}

/* ---- bytes of a rank ---- */

/* The phase of a role; NULL for norms and a looked-up embedding, which cost no reading to speak
 * of. */
static uint64_t *phase_of(struct estimate_rank *rank, const struct model_config *model,
                          enum role role)
{
    switch (role) {
    case ROLE_Q:
    case ROLE_K:
    case ROLE_V:
    case ROLE_O:
        return &rank->attention;
    case ROLE_GATE:
    case ROLE_UP:
    case ROLE_DOWN:
        return &rank->mlp;
    case ROLE_EMBED:
        return model->tied_embeddings ? &rank->vocabulary : NULL;
    case ROLE_LM_HEAD:
        return &rank->vocabulary;
    default:
        return NULL;
    }
}

static uint64_t roots_of(const struct leaves *leaves, struct range owned)
{
    uint8_t merges[PARTITION_LEAVES_MAX];
    return tree_local(leaves->count, owned, merges);
}

/* held: [n_tensors] bytes over the ranks so far */
static bool add_weights(const struct estimate_request *q, uint64_t tp_size, uint64_t r,
                        struct estimate_rank *rank, uint64_t *held, struct tp_error *err)
{
    const struct model_config *model = q->model;
    struct leaves attention = leaves_of_attention(model), mlp = leaves_of_mlp(model);
    struct rank_plan plan;
    if (!rank_plan_build(model, q->recipe, tp_size, r, &plan, err))
        return false;
    *rank = (struct estimate_rank){.partition = plan.partition,
                                   .weights = plan.data_bytes,
                                   .file_bytes = plan.data_offset + plan.data_bytes};
    for (uint32_t i = 0; i < plan.n_tensors; i++) {
        const struct tensor *t = &plan.tensors[i];
        uint64_t *phase = phase_of(rank, model, t->role);
        if (phase)
            *phase += t->bytes; /* no more than data_bytes in all */
        *held += t->bytes;
        if (t->part == PART_WEIGHT && t->role == ROLE_O)
            rank->o_columns = t->k;
        if (t->part == PART_WEIGHT && t->role == ROLE_DOWN)
            rank->down_columns = t->k;
    }
    rank_plan_free(&plan);
    rank->page_bytes = model->n_layers * range_count(rank->partition.kv_heads) * 2 *
                       align_up(model->head_dim, 32) * dtype_bytes(q->recipe.dtype) * ESTIMATE_PAGE;
    rank->roots = max_u64(roots_of(&attention, rank->partition.attention_leaves),
                          roots_of(&mlp, rank->partition.mlp_leaves));
    return true;
}

/* Widths are at most 2^21, rows and batch at most 2^20: their products are far from 64 bits. */
static uint64_t activations_of(const struct model_config *model, const struct estimate_rank *rank,
                               uint64_t batch)
{
    const struct partition *p = &rank->partition;
    uint64_t rows = max_u64(ESTIMATE_CHUNK, batch), hidden = align_up(model->hidden, 32);
    uint64_t q = range_count(p->heads) * model->head_dim;
    uint64_t kv = range_count(p->kv_heads) * model->head_dim;
    uint64_t padded = range_count(p->heads) * align_up(model->head_dim, 32);
    uint64_t row =
        (2 + rank->roots) * hidden + q + 2 * kv + padded + rank->o_columns + rank->down_columns;
    return (rows * row + batch * align_up(model->vocab, 16)) * sizeof(float);
}

static bool size_rank(const struct estimate_request *q, struct estimate_rank *rank,
                      uint64_t context, uint64_t batch, struct tp_error *err)
{
    if (!tp_mul(rank->page_bytes, div_ceil(context, ESTIMATE_PAGE), &rank->kv) ||
        !tp_mul(rank->kv, batch, &rank->kv))
        return overflow("KV cache", err);
    rank->activations = activations_of(q->model, rank, batch);
    rank->total = rank->weights;
    return add_to(&rank->total, rank->kv, "KV cache", err) &&
           add_to(&rank->total, rank->activations, "activations", err);
}

/* ---- what fits ---- */

uint64_t estimate_reserved(uint64_t gpu_memory, double fraction)
{
    enum { CONTEXT = 512 << 20 }; /* of a large GPU, with cuBLASLt and NCCL */
    uint64_t rest = (uint64_t)((double)gpu_memory * (1 - fraction));
    return min_u64(max_u64(rest, CONTEXT), gpu_memory);
}

static bool all_fit(const struct estimate_request *q, const struct estimate *e, uint64_t context,
                    uint64_t batch)
{
    for (uint64_t r = 0; r < e->tp_size; r++) {
        struct estimate_rank rank = e->ranks[r];
        if (!size_rank(q, &rank, context, batch, NULL) || rank.total > q->gpu_memory - q->reserved)
            return false;
    }
    return true;
}

/* The largest n in 0..most for which context (n pages) or batch (n) fits: what fits, fits when
 * smaller. */
static uint64_t largest_fit(const struct estimate_request *q, const struct estimate *e,
                            bool of_batch, uint64_t most)
{
    uint64_t low = 0;
    while (low < most) {
        uint64_t n = low + (most - low + 1) / 2;
        bool fits =
            of_batch ? all_fit(q, e, q->context, n) : all_fit(q, e, n * ESTIMATE_PAGE, q->batch);
        if (fits)
            low = n;
        else
            most = n - 1;
    }
    return low;
}

static void find_fit(const struct estimate_request *q, struct estimate *e)
{
    uint64_t positions = q->model->max_positions;
    e->fits = all_fit(q, e, q->context, q->batch);
    e->batch_max = largest_fit(q, e, true, ESTIMATE_BATCH_MAX);
    e->context_max = largest_fit(q, e, false, div_ceil(positions, ESTIMATE_PAGE)) * ESTIMATE_PAGE;
    e->context_max = min_u64(e->context_max, positions);
}

/* ---- a degree ---- */

static double slowest_sum(const struct estimate *e)
{
    uint64_t attention = 0, mlp = 0, vocabulary = 0;
    for (uint64_t r = 0; r < e->tp_size; r++) {
        attention = max_u64(attention, e->ranks[r].attention);
        mlp = max_u64(mlp, e->ranks[r].mlp);
        vocabulary = max_u64(vocabulary, e->ranks[r].vocabulary);
    }
    return (double)attention + (double)mlp + (double)vocabulary;
}

bool estimate_degree(const struct estimate_request *request, uint64_t tp_size, struct estimate *out,
                     struct tp_error *err)
{
    struct estimate_rank whole;
    uint64_t one = 0, held = 0, kv = 0, kv_heads = 0;
    *out = (struct estimate){.tp_size = tp_size};
    if (!add_weights(request, 1, 0, &whole, &one, err) ||
        !size_rank(request, &whole, request->context, request->batch, err))
        return false;
    for (uint64_t r = 0; r < tp_size; r++) {
        struct estimate_rank *rank = &out->ranks[r];
        if (!add_weights(request, tp_size, r, rank, &held, err) ||
            !size_rank(request, rank, request->context, request->batch, err) ||
            !add_to(&out->weights, rank->weights, "weights", err) ||
            !add_to(&out->disk, rank->file_bytes, "rank files", err) ||
            !add_to(&kv, rank->kv, "KV cache", err))
            return false;
        kv_heads += range_count(rank->partition.kv_heads);
        out->idle_attention += range_count(rank->partition.heads) == 0;
        out->idle_mlp += range_count(rank->partition.ff) == 0;
        if (rank->total > out->ranks[out->largest].total)
            out->largest = r;
    }
    out->replicated_weights = held - one;
    out->replicated_kv = kv - whole.kv;
    out->kv_heads_again = kv_heads - request->model->n_kv_heads;
    double ideal = (double)whole.attention + (double)whole.mlp + (double)whole.vocabulary;
    out->imbalance = slowest_sum(out) / (ideal / (double)tp_size);
    if (request->gpu_memory)
        find_fit(request, out);
    return true;
}

uint64_t estimate_parameters(const struct model_config *model)
{
    uint64_t sum = 0;
    for (int role = ROLE_EMBED; role < ROLE_COUNT; role++) {
        uint64_t rows, cols, n;
        if (!role_present(model, (enum role)role, PART_WEIGHT))
            continue;
        role_shape(model, (enum role)role, &rows, &cols);
        n = rows * cols;
        if (role_present(model, (enum role)role, PART_BIAS))
            n += rows;
        bool layered = role >= ROLE_ATTN_NORM && role <= ROLE_DOWN;
        sum += layered ? n * model->n_layers : n;
    }
    return sum;
}

/* ---- compression ---- */

/* Ratios were measured with tpshard on weights of scripts/synth_checkpoint, N(0, 0.02) at
 * TinyLlama's size: what compresses is the exponents. Decoding: frames, planes and hashes of one
 * core of a 2-core cloud machine. */
static double zstd_ratio(const struct tensor *t)
{
    return t->layout == LAYOUT_VECTOR_F32 ? 1 : t->stored->zstd_ratio;
}
static const double zstd_decoded_per_second = 1.0e9;

bool estimate_zstd(const struct estimate_request *request, int threads, struct estimate_zstd *out,
                   struct tp_error *err)
{
    struct rank_plan plan;
    double bytes = 0, left = 0;
    if (!rank_plan_build(request->model, request->recipe, 1, 0, &plan, err))
        return false;
    for (uint32_t i = 0; i < plan.n_tensors; i++) {
        bytes += (double)plan.tensors[i].bytes;
        left += (double)plan.tensors[i].bytes * zstd_ratio(&plan.tensors[i]);
    }
    rank_plan_free(&plan);
    out->ratio = left / bytes;
    out->bytes_per_second = (1 - out->ratio) * zstd_decoded_per_second * threads;
    return true;
}
