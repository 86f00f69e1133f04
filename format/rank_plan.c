#include "rank_plan.h"

#include "checked.h"
#include "shard.h"
#include <stdio.h>

struct recipe recipe_of(enum dtype dtype, const struct stored *quant)
{
    struct recipe recipe = {.dtype = dtype};
    for (int role = ROLE_EMBED; role < ROLE_COUNT; role++)
        if (role_is_matrix((enum role)role))
            recipe.stored[role] =
                (uint8_t)(quant && role_is_quantized((enum role)role) ? quant->id
                                                                      : (unsigned)dtype);
    return recipe;
}

const char *recipe_quant_name(const struct recipe *recipe)
{
    unsigned id = recipe->stored[ROLE_Q];
    for (int role = ROLE_Q; role < ROLE_COUNT; role++)
        if (role_is_quantized((enum role)role) && recipe->stored[role] != id)
            return "mixed";
    return id == (unsigned)recipe->dtype ? "none" : stored_of(id)->name;
}

const char *rank_file_name(char buf[RANK_FILE_NAME_MAX], uint64_t rank, uint64_t tp_size)
{
    snprintf(buf, RANK_FILE_NAME_MAX, "rank-%03u-of-%03u.tps", (unsigned)rank, (unsigned)tp_size);
    return buf;
}

static struct range scaled(struct range heads, uint64_t head_dim)
{
    return (struct range){heads.begin * head_dim, heads.end * head_dim};
}

/* Rows and columns of a weight that a rank owns. */
static void own_ranges(const struct model_config *model, const struct partition *p,
                       struct tensor *t)
{
    t->own_rows = (struct range){0, t->rows};
    t->own_cols = (struct range){0, t->cols};
    t->leaves = leaves_whole(t->cols);
    t->own_leaves = (struct range){0, 1};
    switch (t->role) {
    case ROLE_EMBED:
    case ROLE_LM_HEAD:
        t->own_rows = p->vocab;
        break;
    case ROLE_Q:
        t->own_rows = scaled(p->heads, model->head_dim);
        break;
    case ROLE_K:
    case ROLE_V:
        t->own_rows = scaled(p->kv_heads, model->head_dim);
        break;
    case ROLE_GATE:
    case ROLE_UP:
        t->own_rows = p->ff;
        break;
    case ROLE_O:
        t->own_cols = scaled(p->heads, model->head_dim);
        t->leaf_cut = true;
        t->leaves = leaves_of_attention(model);
        t->own_leaves = p->attention_leaves;
        break;
    case ROLE_DOWN:
        t->own_cols = p->ff;
        t->leaf_cut = true;
        t->leaves = leaves_of_mlp(model);
        t->own_leaves = p->mlp_leaves;
        break;
    default:
        break;
    }
}

/* A bias or scale follows the rows of its weight and is a vector. */
static void make_vector(struct tensor *t, enum dtype dtype)
{
    t->cols = 1;
    t->own_cols = (struct range){0, 1};
    t->leaf_cut = false;
    t->leaves = (struct leaves){0};
    t->own_leaves = (struct range){0, 0};
    t->stored = stored_of(dtype);
    t->layout = LAYOUT_VECTOR_F32;
    t->bytes = range_count(t->own_rows) * 4;
    t->chunk_bytes = SHARD_CHUNK_BYTES;
}

uint64_t tensor_words(const struct tensor *tensor, struct range leaves)
{
    uint64_t words = 0;
    for (uint64_t i = leaves.begin; i < leaves.end; i++)
        words += stored_words(tensor->stored, leaf_columns(&tensor->leaves, i));
    return words;
}

static bool make_matrix(struct tensor *t, const struct stored *stored, struct tp_error *err)
{
    t->layout = LAYOUT_PANEL16;
    t->stored = stored;
    t->panels = div_ceil(range_count(t->own_rows), PANEL_ROWS);
    t->row_words = tensor_words(t, t->own_leaves);
    for (uint64_t i = t->own_leaves.begin; i < t->own_leaves.end; i++)
        t->k += (uint64_t)stored_pieces(stored, leaf_columns(&t->leaves, i)).blocks * BLOCK_COLS;
    uint64_t panel_bytes = tensor_panel_bytes(t);
    if (panel_bytes > SHARD_CHUNK_BYTES_MAX) {
        char name[TENSOR_NAME_MAX];
        return tp_fail(err, TP_E_LIMIT, "%s: 16 rows are %llu bytes, at most %d are supported",
                       tensor_name(name, t->role, t->layer, t->part),
                       (unsigned long long)panel_bytes, SHARD_CHUNK_BYTES_MAX);
    }
    t->bytes = t->panels * panel_bytes;
    uint64_t per_chunk = panel_bytes ? SHARD_CHUNK_BYTES / panel_bytes : 0;
    t->chunk_bytes = panel_bytes * (per_chunk ? per_chunk : 1);
    return true;
}

/* Append one tensor; offsets follow from the order. */
static bool add(const struct model_config *model, struct rank_plan *plan, enum role role,
                uint32_t layer, enum part part, struct tp_error *err)
{
    struct tensor *t = &plan->tensors[plan->n_tensors];
    *t = (struct tensor){.role = role, .layer = layer, .part = part};
    role_shape(model, role, &t->rows, &t->cols);
    own_ranges(model, &plan->partition, t);
    if (part == PART_SCALE) {
        make_vector(t, DTYPE_F32);
    } else if (part == PART_BIAS || !role_is_matrix(role)) {
        make_vector(t, plan->recipe.dtype);
    } else {
        if (!make_matrix(t, stored_of(plan->recipe.stored[role]), err))
            return false;
    }
    t->offset = align_up(plan->data_bytes, SHARD_TENSOR_ALIGN);
    plan->data_bytes = t->offset + t->bytes;
    t->first_chunk = plan->n_chunks;
    t->n_chunks = t->bytes ? (uint32_t)div_ceil(t->bytes, t->chunk_bytes) : 0;
    plan->n_chunks += t->n_chunks;
    plan->n_tensors++;
    return true;
}

static bool add_role(const struct model_config *model, struct rank_plan *plan, enum role role,
                     uint32_t layer, struct tp_error *err)
{
    if (!role_present(model, role, PART_WEIGHT))
        return true;
    bool row_scale = role_is_matrix(role) && stored_of(plan->recipe.stored[role])->row_scale;
    return add(model, plan, role, layer, PART_WEIGHT, err) &&
           (!row_scale || add(model, plan, role, layer, PART_SCALE, err)) &&
           (!role_present(model, role, PART_BIAS) || add(model, plan, role, layer, PART_BIAS, err));
}

enum { LAYER_ROLES = ROLE_DOWN - ROLE_ATTN_NORM + 1, PARTS = 3 };

static bool add_layer(const struct model_config *model, struct rank_plan *plan, uint32_t layer,
                      struct tp_error *err)
{
    bool ok = true;
    for (int role = ROLE_ATTN_NORM; ok && role <= ROLE_DOWN; role++)
        ok = add_role(model, plan, (enum role)role, layer, err);
    return ok;
}

bool rank_plan_build(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                     uint64_t rank, struct rank_plan *plan, struct tp_error *err)
{
    *plan = (struct rank_plan){.partition = partition_of(model, tp_size, rank), .recipe = recipe};
    const struct range layers = plan->partition.layers;
    uint64_t most = (range_count(layers) * LAYER_ROLES + 3) * PARTS;
    plan->tensors = mem_arena_alloc(&plan->arena, most * sizeof *plan->tensors, err);
    if (!plan->tensors)
        return false;
    bool ok = add_role(model, plan, ROLE_EMBED, TENSOR_NO_LAYER, err);
    for (uint64_t layer = layers.begin; ok && layer < layers.end; layer++)
        ok = add_layer(model, plan, (uint32_t)layer, err);
    ok = ok && add_role(model, plan, ROLE_FINAL_NORM, TENSOR_NO_LAYER, err) &&
         add_role(model, plan, ROLE_LM_HEAD, TENSOR_NO_LAYER, err);
    if (!ok) {
        rank_plan_free(plan);
        return false;
    }
    plan->data_bytes = align_up(plan->data_bytes, SHARD_FILE_ALIGN);
    plan->table_bytes = plan->n_tensors * (uint64_t)SHARD_TENSOR_ENTRY +
                        plan->n_chunks * (uint64_t)SHARD_CHUNK_ENTRY + tp_size * SHARD_RANK_ENTRY;
    plan->data_align = plan->data_bytes >= SHARD_HUGE_FROM ? SHARD_HUGE_ALIGN : SHARD_FILE_ALIGN;
    plan->data_offset = align_up(SHARD_HEADER_BYTES + plan->table_bytes, plan->data_align);
    return true;
}

bool rank_plan_data_bytes(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                          uint64_t rank, uint64_t *bytes, struct tp_error *err)
{
    struct tensor tensors[(LAYER_ROLES + 3) * PARTS];
    struct rank_plan plan = {
        .partition = partition_of(model, tp_size, rank), .recipe = recipe, .tensors = tensors};
    if (!add_layer(model, &plan, 0, err))
        return false;
    /* every tensor begins aligned, so that all layers take the same */
    plan.data_bytes =
        align_up(plan.data_bytes, SHARD_TENSOR_ALIGN) * range_count(plan.partition.layers);
    if (!add_role(model, &plan, ROLE_EMBED, TENSOR_NO_LAYER, err) ||
        !add_role(model, &plan, ROLE_FINAL_NORM, TENSOR_NO_LAYER, err) ||
        !add_role(model, &plan, ROLE_LM_HEAD, TENSOR_NO_LAYER, err))
        return false;
    *bytes = align_up(plan.data_bytes, SHARD_FILE_ALIGN);
    return true;
}

void rank_plan_cut(struct rank_plan *plan, uint64_t n_layers)
{
    const struct range layers = plan->partition.layers;
    tp_assert(n_layers >= 1 && n_layers <= range_count(layers));
    plan->partition.layers.end = layers.begin + n_layers;
    if (plan->partition.layers.end == layers.end)
        return;
    const struct tensor *first = plan->tensors, *end;
    while (first->layer == TENSOR_NO_LAYER || first->layer < plan->partition.layers.end)
        first++;
    for (end = first; end->layer != TENSOR_NO_LAYER;)
        end++; /* the last norm */
    plan->unused.tensors =
        (struct range){(uint64_t)(first - plan->tensors), (uint64_t)(end - plan->tensors)};
    plan->unused.chunks = (struct range){first->first_chunk, end->first_chunk};
    plan->unused.bytes = (struct range){first->offset, end->offset};
}

void rank_plan_free(struct rank_plan *plan)
{
    mem_arena_free(&plan->arena);
    *plan = (struct rank_plan){0};
}

const struct tensor *rank_plan_find(const struct rank_plan *plan, enum role role, uint32_t layer,
                                    enum part part)
{
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        if (t->role == role && t->layer == layer && t->part == part)
            return t;
    }
    return NULL;
}

const struct tensor *rank_plan_of_chunk(const struct rank_plan *plan, uint64_t chunk)
{
    uint32_t low = 0, high = plan->n_tensors; /* the last that begins at the chunk or before */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (plan->tensors[middle].first_chunk <= chunk)
            low = middle;
        else
            high = middle;
    }
    return &plan->tensors[low];
}

uint64_t tensor_chunk_bytes(const struct tensor *tensor, uint32_t i)
{
    tp_assert(i < tensor->n_chunks);
    uint64_t begin = i * tensor->chunk_bytes, left = tensor->bytes - begin;
    return left < tensor->chunk_bytes ? left : tensor->chunk_bytes;
}

uint64_t rank_plan_largest_chunk(const struct rank_plan *plan)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        if (plan->tensors[i].n_chunks) {
            uint64_t n = tensor_chunk_bytes(&plan->tensors[i], 0);
            most = max_u64(most, n);
        }
    return most;
}
