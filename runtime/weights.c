#include "weights.h"

#include "first_pass.h"
#include "jobs.h"
#include "kernels.h"

static void end_pass(struct weights *weights)
{
    for (uint64_t r = 0; weights->pass && r < weights->tp_size; r++)
        weights->ranks[r].pass = NULL;
    mem_map_free(weights->pass, weights->pass_bytes);
    weights->pass = NULL;
}

void weights_close(struct weights *weights)
{
    end_pass(weights);
    for (uint64_t r = 0; weights->shards && r < weights->tp_size; r++) {
        if (weights->decoded[r])
            mem_map_free(weights->decoded[r], weights->decoded_bytes[r]);
        shard_close(&weights->shards[r]);
    }
    mem_arena_free(&weights->arena);
    *weights = (struct weights){0};
}

bool weights_open(struct weights *weights, const struct bundle *bundle, struct tp_error *err)
{
    uint64_t n = bundle->tp_size;
    *weights = (struct weights){.tp_size = n};
    struct mem_arena *arena = &weights->arena;
    bool ok = (weights->decoded = mem_arena_alloc(arena, n * sizeof *weights->decoded, err)) &&
              (weights->decoded_bytes =
                   mem_arena_alloc(arena, n * sizeof *weights->decoded_bytes, err)) &&
              (weights->ranks = mem_arena_alloc(arena, n * sizeof *weights->ranks, err)) &&
              (weights->lost = mem_arena_alloc(arena, n * sizeof *weights->lost, err)) &&
              (weights->shards = mem_arena_alloc(arena, n * sizeof *weights->shards, err));
    if (ok)
        for (uint64_t r = 0; r < n; r++)
            weights->shards[r].fd = -1;
    for (uint64_t r = 0; ok && r < n; r++) {
        ok = bundle_open_rank(bundle, r, &weights->shards[r], err);
        weights->mapped_bytes += weights->shards[r].file_bytes;
    }
    if (!ok)
        weights_close(weights);
    return ok;
}

uint64_t weights_bytes(const struct bundle *bundle, uint64_t rank)
{
    const struct rank_plan *plan = &bundle->plans[rank];
    return bundle->compress == COMPRESS_NONE
               ? bundle->ranks[rank].file_bytes - range_count(plan->unused.bytes)
               : rank_plan_used_bytes(plan);
}

/* ---- checking and decoding ---- */

struct load {
    struct weights *weights;
    const struct bundle *bundle;
    uint64_t first_job[PARTITION_TP_MAX + 1]; /* of a rank: its chunks, then its padding */
    _Atomic uint64_t hashed_bytes;
};

/* What the first pass has left of a chunk. */
static bool finish_chunk(struct pass_chunk *pass, const struct shard *shard, const struct tensor *t,
                         uint32_t c, struct tp_error *err)
{
    const struct chunk *chunk = &shard->head.chunks[t->first_chunk + c];
    const uint64_t done = atomic_load(&pass->bytes);
    if (done == 0)
        return shard_check_chunk(shard, t, c, err);
    hash_add(&pass->stream, shard->data + chunk->file_offset + done, chunk->file_bytes - done);
    return shard_compare_chunk(shard, t, c, hash_end(&pass->stream), err);
}

static bool load_job(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct load *load = arg;
    const struct bundle *bundle = load->bundle;
    uint32_t rank = jobs_owner(load->first_job, (uint32_t)bundle->tp_size, job);
    const struct shard *shard = &load->weights->shards[rank];
    const struct rank_plan *plan = &bundle->plans[rank];
    uint64_t chunk = job - load->first_job[rank];
    if (chunk == plan->n_chunks)
        return shard_check_padding(shard, plan, err);
    if (range_has(plan->unused.chunks, chunk))
        return true;
    const struct tensor *t = rank_plan_of_chunk(plan, chunk);
    uint32_t c = (uint32_t)chunk - t->first_chunk;
    struct pass_chunk *pass = load->weights->ranks[rank].pass;
    unsigned char *decoded = load->weights->decoded[rank];
    load->hashed_bytes += shard->head.chunks[chunk].file_bytes;
    if (decoded)
        return shard_read_chunk(shard, t, c, decoded + t->offset + c * t->chunk_bytes, space, err);
    return pass ? finish_chunk(&pass[chunk], shard, t, c, err)
                : shard_check_chunk(shard, t, c, err);
}

static bool check_and_decode(struct weights *weights, const struct bundle *bundle,
                             struct team *team, struct tp_error *err)
{
    struct load load = {.weights = weights, .bundle = bundle};
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        load.first_job[r + 1] = load.first_job[r] + bundle->plans[r].n_chunks + 1;
    struct jobs jobs = {
        .count = load.first_job[bundle->tp_size],
        .space_bytes = bundle->compress == COMPRESS_NONE ? 0 : SHARD_CHUNK_BYTES_MAX,
        .run = load_job,
        .arg = &load,
    };
    bool ok = jobs_run_on(&jobs, team, err);
    weights->hashed_bytes = load.hashed_bytes;
    return ok;
}

bool weights_defer(struct weights *weights, const struct bundle *bundle, struct tp_error *err)
{
    uint64_t n = 0;
    for (uint64_t r = 0; r < weights->tp_size; r++)
        n += bundle->plans[r].n_chunks;
    weights->pass_bytes = n * sizeof *weights->pass;
    weights->pass = mem_map_alloc(weights->pass_bytes, err);
    struct pass_chunk *next = weights->pass;
    for (uint64_t r = 0; next && r < weights->tp_size; next += bundle->plans[r++].n_chunks)
        weights->ranks[r].pass = next;
    return next;
}

bool weights_finish(struct weights *weights, const struct bundle *bundle, struct team *team,
                    struct tp_error *err)
{
    bool ok = !weights->pass || check_and_decode(weights, bundle, team, err);
    end_pass(weights);
    return ok;
}

/* ---- files in use ---- */

bool weights_look(struct weights *weights, struct tp_error *err)
{
    for (uint64_t r = 0; r < weights->tp_size; r++) {
        struct shard *shard = &weights->shards[r];
        struct io_identity now, *was = &shard->identity;
        if (!io_identify(shard->fd, shard->path, &now, err))
            return false;
        if (now.size != was->size || now.mtime_ns != was->mtime_ns)
            return tp_fail(err, TP_E_CHANGED, "%s: changed while in use", shard->path);
        if (now.ctime_ns == was->ctime_ns)
            continue;
        *was = now;
        weights->touched = true;
        if (!weights->lost[r] && io_name_is_lost(shard->path, was)) {
            weights->lost[r] = true;
            tp_note("%s: was replaced or removed; the old contents are used", shard->path);
        }
    }
    return true;
}

/* Who is touched while it is checked is checked once more. */
bool weights_settle(struct weights *weights, const struct bundle *bundle, struct team *team,
                    bool verify, struct tp_error *err)
{
    bool ok = weights_look(weights, err);
    if (weights->pass) /* all is still to be checked */
        weights->touched = false;
    while (ok && verify && weights->touched) {
        weights->touched = false;
        ok = check_and_decode(weights, bundle, team, err) && weights_look(weights, err);
    }
    return ok;
}

/* ---- binding ---- */

#define IN_LAYER(role, member) [role] = {true, offsetof(struct layer_weights, member)}
#define IN_RANK(role, member) [role] = {false, offsetof(struct rank_weights, member)}

/* Where the matrix or the vector of a role is kept. */
static void *place_of(struct rank_weights *w, const struct tensor *t)
{
    static const struct {
        bool in_layer;
        size_t at;
    } places[] = {
        IN_RANK(ROLE_EMBED, embed),
        IN_LAYER(ROLE_ATTN_NORM, attn_norm),
        IN_LAYER(ROLE_Q, q),
        IN_LAYER(ROLE_K, k),
        IN_LAYER(ROLE_V, v),
        IN_LAYER(ROLE_Q_NORM, q_norm),
        IN_LAYER(ROLE_K_NORM, k_norm),
        IN_LAYER(ROLE_O, o),
        IN_LAYER(ROLE_MLP_NORM, mlp_norm),
        IN_LAYER(ROLE_GATE, gate),
        IN_LAYER(ROLE_UP, up),
        IN_LAYER(ROLE_DOWN, down),
        IN_RANK(ROLE_FINAL_NORM, final_norm),
        IN_RANK(ROLE_LM_HEAD, lm_head),
    };
    char *base = places[t->role].in_layer ? (char *)&w->layers[t->layer] : (char *)w;
    return base + places[t->role].at;
}

static const float **vector_of(struct rank_weights *w, const struct tensor *t)
{
    struct matrix *matrix = place_of(w, t);
    return !role_is_matrix(t->role) ? place_of(w, t)
           : t->part == PART_BIAS   ? &matrix->bias
                                    : &matrix->scale;
}

/* The file holds exactly the plan's tensors (checked when it was opened), so each finds its place.
 */
static void bind_tensor(struct rank_weights *w, const struct tensor *t, const unsigned char *data)
{
    const unsigned char *at = data + t->offset;
    if (t->layout == LAYOUT_VECTOR_F32) {
        *vector_of(w, t) = (const float *)(const void *)at;
        return;
    }
    *(struct matrix *)place_of(w, t) = (struct matrix){
        .w = at,
        .stored = t->stored,
        .rows = range_count(t->own_rows),
        .k = t->k,
        .panels = t->panels,
        .panel_bytes = tensor_panel_bytes(t),
        .first_chunk = t->first_chunk,
        .chunk_panels = t->n_chunks ? t->chunk_bytes / tensor_panel_bytes(t) : 0,
        .pieces = stored_pieces(t->stored, t->own_cols),
    };
}

/* The leaves of a matrix, the same in every layer. */
static bool bind_leaves(const struct tensor *t, struct leaf_run *run, struct mem_arena *arena,
                        struct tp_error *err)
{
    struct range owned = t->own_leaves;
    uint64_t n = range_count(owned);
    struct leaf *leaves = mem_arena_alloc(arena, n * sizeof *leaves, err);
    uint8_t *merges = mem_arena_alloc(arena, n, err);
    if (!leaves || !merges)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        struct range leaf = leaf_columns(&t->leaves, owned.begin + i);
        leaves[i].pieces = stored_pieces(t->stored, leaf);
        leaves[i].panel_bytes = (uint32_t)stored_words(t->stored, leaf) * PANEL_ROWS * 4;
    }
    *run = (struct leaf_run){.count = (uint32_t)n, .leaves = leaves, .merges = merges};
    run->n_roots = (uint32_t)tree_local(t->leaves.count, owned, merges);
    return true;
}

static const uint32_t *bind_columns(const struct tensor *t, struct mem_arena *arena,
                                    struct tp_error *err)
{
    uint32_t *columns = mem_arena_alloc(arena, range_count(t->own_cols) * sizeof *columns, err);
    uint32_t *next = columns, at = 0;
    for (uint64_t i = t->own_leaves.begin; columns && i < t->own_leaves.end; i++) {
        struct range leaf = leaf_columns(&t->leaves, i);
        struct piece piece = {.index = 0};
        while (stored_next_piece(t->stored, leaf, &piece))
            for (uint64_t c = 0; c < range_count(piece.cols); c++)
                *next++ = at + (uint32_t)(piece.k + c);
        at += stored_pieces(t->stored, leaf).blocks * BLOCK_COLS;
    }
    return columns;
}

static bool bind_rank(struct weights *weights, const struct bundle *bundle, uint64_t rank,
                      struct tp_error *err)
{
    const struct rank_plan *plan = &bundle->plans[rank];
    const struct shard *shard = &weights->shards[rank];
    const unsigned char *data = weights->decoded[rank] ? weights->decoded[rank] : shard->data;
    struct rank_weights *w = &weights->ranks[rank];
    const uint32_t layer = (uint32_t)plan->partition.layers.begin;
    const struct tensor *o = rank_plan_find(plan, ROLE_O, layer, PART_WEIGHT);
    const struct tensor *down = rank_plan_find(plan, ROLE_DOWN, layer, PART_WEIGHT);
    *w = (struct rank_weights){
        .model = &bundle->model,
        .partition = plan->partition,
        .arithmetic = bundle->recipe.dtype,
    };
    w->layers = mem_arena_alloc(&weights->arena, bundle->model.n_layers * sizeof *w->layers, err);
    w->o_columns = bind_columns(o, &weights->arena, err);
    if (!w->layers || !w->o_columns || !bind_leaves(o, &w->attention, &weights->arena, err) ||
        !bind_leaves(down, &w->mlp, &weights->arena, err))
        return false;
    for (int vectors = 0; vectors < 2; vectors++) /* a matrix first: its bias and scale join it */
        for (uint32_t i = 0; i < plan->n_tensors; i++)
            if ((plan->tensors[i].layout == LAYOUT_VECTOR_F32) == vectors &&
                !range_has(plan->unused.tensors, i))
                bind_tensor(w, &plan->tensors[i], data);
    w->decode_bytes = rank_plan_used_bytes(plan);
    if (bundle->model.tied_embeddings)
        w->lm_head = w->embed;
    else /* one token reads a row of the embedding */
        w->decode_bytes -= w->embed.panels * w->embed.panel_bytes;
    return true;
}

bool weights_load(struct weights *weights, const struct bundle *bundle, struct team *team,
                  const struct pin *pin, bool verify, struct tp_error *err)
{
    bool ok = true;
    for (uint64_t r = 0; ok && r < weights->tp_size; r++) {
        if (bundle->compress == COMPRESS_NONE)
            continue;
        weights->decoded_bytes[r] = bundle->plans[r].data_bytes;
        ok = (weights->decoded[r] = mem_map_alloc(weights->decoded_bytes[r], err)) != NULL;
        if (ok)
            pin_memory(pin, r, weights->decoded[r], weights->decoded_bytes[r]);
    }
    if (ok && (verify || bundle->compress != COMPRESS_NONE))
        ok = check_and_decode(weights, bundle, team, err);
    for (uint64_t r = 0; ok && r < weights->tp_size; r++)
        ok = bind_rank(weights, bundle, r, err);
    return ok;
}
