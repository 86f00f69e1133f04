/* What ranks have on their GPU: sizes, places, tables, kernels. */
#include "cuda_blas.h"

#include "checked.h"
#include "kernels.h"
#include "mem.h"
#include <stdio.h>
#include <string.h>

_Static_assert((int)CUDA_STACK == (int)TREE_STACK_MAX, "the same folds");
_Static_assert((int)CUDA_ROWS == (int)STEP_ONE_SHOT_ROWS, "rows that decode are one group");
_Static_assert((int)CUDA_CHUNK == (int)ATTENTION_CHUNK, "the same chunks");
_Static_assert((int)CUDA_RANKS == (int)PARTITION_TP_MAX, "as many ranks");

/* ---- sizes ---- */

static const struct matrix *matrix_of(const struct rank_weights *w, enum cuda_kind kind)
{
    const struct layer_weights *layer = &w->layers[w->partition.layers.begin];
    const struct matrix *const matrices[CUDA_KINDS] = {
        [KIND_Q] = &layer->q,       [KIND_K] = &layer->k,       [KIND_V] = &layer->v,
        [KIND_O] = &layer->o,       [KIND_GATE] = &layer->gate, [KIND_UP] = &layer->up,
        [KIND_DOWN] = &layer->down, [KIND_LM] = &w->lm_head,
    };
    return matrices[kind];
}

/* Leaves of a kind, or one of a whole row. */
static struct leaf_run leaves_of(const struct rank_weights *w, enum cuda_kind kind,
                                 struct leaf *whole)
{
    static const uint8_t none;
    const struct matrix *m = matrix_of(w, kind);
    if (kind == KIND_O)
        return w->attention;
    if (kind == KIND_DOWN)
        return w->mlp;
    *whole = (struct leaf){m->pieces, (uint32_t)m->panel_bytes};
    return (struct leaf_run){.count = 1, .n_roots = 1, .leaves = whole, .merges = &none};
}

static bool needs_table(const struct cuda_rank *r, enum cuda_kind kind)
{
    return kind == KIND_O || kind == KIND_DOWN || matrix_of(r->weights, kind)->stored->group;
}

static uint32_t blocks_of(const struct leaf_run *leaves)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < leaves->count; i++)
        n += leaves->leaves[i].pieces.blocks;
    return n;
}

size_t cuda_attention_shared(const struct cuda_gpu *g, uint64_t tile)
{
    const uint64_t blocks = g->head_pad / BLOCK_COLS, chunk = CUDA_CHUNK / BLOCK_COLS;
    const uint64_t floats[] = {tile * blocks * CUDA_XPAD,
                               CUDA_CHUNK * (tile * blocks + 1),
                               tile * chunk * CUDA_XPAD,
                               blocks * 2 * tile * chunk * PANEL_ROWS,
                               2 * tile,
                               1,
                               (tile + 1) * g->setup->model->head_dim};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        bytes += align_up(floats[i] * 4, 16);
    return bytes;
}

/* The least tile that holds the query heads of a KV head, where it fits; else the largest that
 * does. */
static uint64_t choose_tile(const struct cuda_gpu *g)
{
    static const uint64_t tiles[] = {8, 4, 1};
    uint64_t best = 0;
    for (int i = 0; i < 3; i++)
        if (cuda_attention_shared(g, tiles[i]) <= (size_t)g->cuda->shared_max &&
            (!best || tiles[i] >= g->group))
            best = tiles[i];
    return best;
}

static void set_rank_sizes(struct cuda_gpu *g, struct cuda_rank *r, uint32_t number)
{
    const struct rank_plan *plan = &g->setup->plans[number];
    const struct partition *partition = &plan->partition;
    const uint32_t layer = (uint32_t)partition->layers.begin;
    const uint64_t d = g->setup->model->head_dim;
    *r = (struct cuda_rank){
        .gpu = g,
        .cuda = g->cuda,
        .setup = g->setup,
        .number = number,
        .plan = plan,
        .data_bytes = rank_plan_used_bytes(plan),
        .heads = range_count(partition->heads),
        .kv_heads = range_count(partition->kv_heads),
        .ff = range_count(partition->ff),
        .attn_stride = rank_plan_find(plan, ROLE_O, layer, PART_WEIGHT)->k,
        .act_stride = rank_plan_find(plan, ROLE_DOWN, layer, PART_WEIGHT)->k,
    };
    for (enum role role = ROLE_Q; role <= ROLE_DOWN; role++) {
        const struct tensor *t = rank_plan_find(plan, role, layer, PART_WEIGHT);
        if (t && role_is_matrix(role))
            g->largest = max_u64(g->largest, t->panels * PANEL_ROWS * t->k * 2);
    }
    r->q_stride = align_up(r->heads * d, PANEL_ROWS);
    r->kv_stride = align_up(r->kv_heads * d, PANEL_ROWS);
    /* blocks of all tables: every kind has one, at most */
    r->n_blocks = (6 * g->stride + r->attn_stride + r->act_stride) / BLOCK_COLS;
}

void cuda_set_sizes(struct cuda_gpu *g, struct cuda *cuda, const struct device_setup *setup,
                    uint32_t number, uint32_t n_gpus, bool gathers, struct cuda_rank *ranks)
{
    const struct model_config *model = setup->model;
    const struct comm *comm = setup->comm;
    const struct range mine = cuda_ranks_of(comm->size, n_gpus, number);
    *g = (struct cuda_gpu){
        .cuda = cuda,
        .setup = setup,
        .number = number,
        .n_gpus = n_gpus,
        .gathers = gathers,
        .ranks = ranks,
        .n_ranks = (uint32_t)range_count(mine),
        .stride = align_up(model->hidden, BLOCK_COLS),
        .head_pad = align_up(model->head_dim, BLOCK_COLS),
        .group = model->n_heads / model->n_kv_heads,
        .groups = div_ceil(setup->rows_max, CUDA_ROWS),
        .wide_rows = max_u64(CUDA_ROWS, setup->span_rows_max > CUDA_TOKENS
                                            ? align_up(setup->span_rows_max, CUDA_TOKENS)
                                            : align_up(setup->span_rows_max, CUDA_ROWS)),
        .sum_slots = div_ceil(comm->size, n_gpus),
        .chunks_max = div_ceil(setup->positions_max, CUDA_CHUNK),
        .logit_stride = align_up(model->vocab, PANEL_ROWS),
    };
    for (uint32_t i = 0; i < n_gpus; i++) {
        const struct range r = cuda_ranks_of(comm->size, n_gpus, i);
        const uint64_t *a = comm->attention.first_root, *m = comm->mlp.first_root;
        g->slots[REDUCE_ATTENTION] =
            (uint32_t)max_u64(g->slots[REDUCE_ATTENTION], a[r.end] - a[r.begin]);
        g->slots[REDUCE_MLP] = (uint32_t)max_u64(g->slots[REDUCE_MLP], m[r.end] - m[r.begin]);
    }
    const uint32_t slots = g->slots[0] > g->slots[1] ? g->slots[0] : g->slots[1];
    g->inbox_floats = (uint64_t)n_gpus * slots * CUDA_ROWS * g->stride + CUDA_GPUS;
    g->page_bytes = CUDA_CHUNK * g->head_pad * dtype_bytes(setup->kv_dtype);
    g->step_bytes = align_up(sizeof(struct cuda_step) + CUDA_ROWS * g->chunks_max * 4, 256);
    uint64_t widest = 2 * g->stride;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        set_rank_sizes(g, &ranks[i], (uint32_t)mine.begin + i);
        widest = max_u64(widest, max_u64(ranks[i].attn_stride, ranks[i].act_stride));
    }
    /* Values of panels that CTAs share, for the widest matrix: two CTAs a multiprocessor up to 4
     * rows, one beyond. Blocks as in a pair of matrices, and no fewer than leaves' padding
     * makes. */
    widest /= BLOCK_COLS;
    uint64_t ctas_rows = (uint64_t)cuda->multiprocessors * (CUDA_ROWS + 1); /* 1: constants */
    g->edge_floats = ctas_rows * widest * PANEL_ROWS;
    /* at most two whole panels, and what the warps of a CTA take at once (dot_slots) */
    g->inner_floats = ctas_rows * (2 * widest + 512) * PANEL_ROWS;
    if (setup->span_rows_max > CUDA_TOKENS && cuda_blas_there())
        g->workspace_bytes = cuda_blas_bytes(g->largest);
    g->tile = choose_tile(g);
    cuda_set_chooser(g);
}

/* ---- places ---- */

struct taking {
    struct cuda_gpu *gpu;
    uint64_t at;
};

static bool take(struct taking *t, void *pointer, uint64_t count, uint64_t size,
                 struct tp_error *err)
{
    uint64_t n;
    if (t->gpu->memory) {
        void *address = (void *)(uintptr_t)(t->gpu->memory + t->at);
        memcpy(pointer, &address, sizeof address);
    }
    return (tp_mul(count, size, &n) && tp_align_up(n, 256, &n) && tp_add(t->at, n, &t->at)) ||
           tp_fail(err, TP_E_LIMIT, "buffers of %llu rows do not fit in 64 bits",
                   (unsigned long long)t->gpu->setup->rows_max);
}

/* What a rank has for itself, beside its data. */
static bool place_rank(struct taking *t, struct cuda_rank *r, struct tp_error *err)
{
    const struct cuda_gpu *g = t->gpu;
    const uint64_t begin = t->at;
    if (!take(t, &r->kv, g->setup->n_pages * range_count(r->plan->partition.layers),
              r->kv_heads * 2 * g->page_bytes, err))
        return false;
    const uint64_t kv_end = t->at;
    if (!take(t, &r->q, g->wide_rows * r->q_stride, 4, err) ||
        !take(t, &r->k, g->wide_rows * r->kv_stride, 4, err) ||
        !take(t, &r->v, g->wide_rows * r->kv_stride, 4, err) ||
        !take(t, &r->queries, g->wide_rows * r->heads * g->head_pad, 4, err) ||
        !take(t, &r->partial, CUDA_ROWS * r->heads * g->chunks_max * (g->head_pad + 2), 4, err) ||
        !take(t, &r->arrived, CUDA_ROWS * r->kv_heads * div_ceil(g->group, g->tile ? g->tile : 1),
              4, err) ||
        !take(t, &r->attn, g->wide_rows * r->attn_stride, 4, err) ||
        !take(t, &r->act, g->wide_rows * r->act_stride, 4, err) ||
        !take(t, &r->columns, r->heads * g->setup->model->head_dim, 4, err) ||
        !take(t, &r->blocks, r->n_blocks, sizeof(struct cuda_block), err))
        return false;
    r->bytes = (struct device_bytes){kv_end - begin, t->at - kv_end};
    return true;
}

static bool place_shared(struct taking *t, struct tp_error *err)
{
    struct cuda_gpu *g = t->gpu;
    const struct device_setup *s = g->setup;
    const uint64_t rows = CUDA_ROWS, all = g->groups * CUDA_ROWS, half = s->model->head_dim / 2;
    const uint64_t wide = g->wide_rows, spans = s->span_rows_max ? wide : 0;
    uint64_t act_stride = 0, widest = g->stride;
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        const struct cuda_rank *r = &g->ranks[i];
        act_stride = max_u64(act_stride, r->act_stride);
        widest = max_u64(widest, max_u64(r->attn_stride, r->act_stride));
    }
    struct cuda_chooser *c = &g->chooser;
    const struct {
        void *pointer;
        uint64_t count;
    } floats[] = {
        {&g->residual[0], all * g->stride},
        {&g->residual[1], all * g->stride},
        {&g->normed, all * g->stride},
        {&g->span, spans ? g->chunks_max + spans : 0},
        {&g->operand, align_up(spans, CUDA_TOKENS) * widest / 2},
        {&g->second, g->workspace_bytes ? wide * act_stride : 0},
        {&g->workspace, g->workspace_bytes / 4},
        {&g->sums, g->n_gpus * g->sum_slots * spans * g->stride},
        {&g->inbox, CUDA_INBOXES * g->inbox_floats},
        {&g->wanted, rows * g->stride},
        {&g->logits, g->number == 0 || g->gathers ? rows * g->logit_stride : 0},
        {&g->edge, g->edge_floats},
        {&g->inner, g->inner_floats},
        {&g->mark, 1},
        {&g->edge_arrived, (uint64_t)g->cuda->multiprocessors * 2},
        {&g->cos, g->chunks_max * CUDA_CHUNK * half},
        {&g->sin, g->chunks_max * CUDA_CHUNK * half},
        {&g->steps, (g->groups + 1) * (g->step_bytes / 4)},
        {&g->roots[REDUCE_ATTENTION], s->comm->attention.n_roots},
        {&g->roots[REDUCE_MLP], s->comm->mlp.n_roots},
        {&g->whole[REDUCE_ATTENTION], s->comm->size},
        {&g->whole[REDUCE_MLP], s->comm->size},
        {&g->embed, s->comm->size * (sizeof(struct cuda_embed) / 4)},
        {&c->choices, c->chunks ? sizeof *c->choices / 4 : 0},
        {&c->banned, c->chunks ? div_ceil(s->model->vocab, 4) : 0},
        {&c->best, rows * c->chunks},
        {&c->first, rows * c->chunks},
        {&c->sums, rows * c->chunks * 2},
        {&c->bins, c->chunks ? rows * CUDA_BINS * 2 : 0},
        {&c->chosen, rows},
    };
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (!take(t, floats[i].pointer, floats[i].count, 4, err))
            return false;
    return true;
}

bool cuda_place(struct cuda_gpu *g, struct tp_error *err)
{
    struct taking t = {.gpu = g};
    for (uint32_t i = 0; i < g->n_ranks; i++)
        if (!take(&t, &g->ranks[i].data, 1, g->ranks[i].data_bytes, err))
            return false;
    for (uint32_t i = 0; i < g->n_ranks; i++)
        if (!place_rank(&t, &g->ranks[i], err))
            return false;
    const uint64_t begin = t.at;
    if (!place_shared(&t, err))
        return false;
    g->ranks[0].bytes.activations += t.at - begin;
    g->memory_bytes = t.at;
    return true;
}

const void *cuda_at(const struct cuda_rank *r, const void *host)
{
    if (!host)
        return NULL;
    const uint64_t offset = (uint64_t)((const unsigned char *)host - r->host_data);
    return r->data + rank_plan_used_offset(r->plan, offset);
}

/* ---- tables and kernels ---- */

/* The blocks of a kind's row. */
static void fill_table(const struct stored *s, const struct leaf_run *leaves,
                       struct cuda_block *out)
{
    const uint32_t block_words = BLOCK_COLS * s->bits / 32;
    uint32_t word = 0;
    for (uint32_t i = 0; i < leaves->count; i++) {
        const struct pieces p = leaves->leaves[i].pieces;
        const uint32_t end = word + leaves->leaves[i].panel_bytes / (PANEL_ROWS * 4);
        uint32_t constants = 0, index = 0;
        for (uint32_t b = 0, n; b < p.blocks; b += n, index++) {
            bool second = s->constant_bits == 16 && index % 2;
            n = !s->group ? p.blocks : b ? p.group : p.lead;
            n = n < p.blocks - b ? n : p.blocks - b;
            if (s->group && !second)
                constants = word++;
            for (uint32_t j = 0; j < n; j++, word += block_words)
                *out++ = (struct cuda_block){
                    .word = word,
                    .constants = constants,
                    .run = j ? 0 : (uint16_t)n,
                    .high = s->constant_bits == 32 || second,
                    .leaf_ends = b + n == p.blocks,
                    .merges = b + n == p.blocks ? leaves->merges[i] : 0,
                };
        }
        tp_assert(word == end);
    }
}

static const char *format_name(const struct stored *s)
{
    return !s->group ? s->name : s->offset == OFFSET_NONE ? "int4" : "int4_zero";
}

bool cuda_find_dots(struct cuda_gpu *g, int kind, struct tp_error *err)
{
    bool ok = true;
    for (int k = 0; ok && k < CUDA_KINDS; k++) {
        const struct stored *s = g->ranks[0].kinds[k].stored;
        cu_function *dot = &g->dots[s->id][kind];
        char name[48];
        snprintf(name, sizeof name, "dot_%s_%d", format_name(s), 1 << kind);
        ok = *dot || cuda_kernel(g->cuda, name, dot, err);
    }
    return ok;
}

static bool find_kernels(struct cuda_gpu *g, struct tp_error *err)
{
    struct cuda *c = g->cuda;
    int ptx = 0;
    bool ok =
        cuda_kernel(c, "residual_norm_rows", &g->residual_norm, err) &&
        CUDA(&c->api, err, cuFuncGetAttribute, (&ptx, CU_FUNCTION_PTX_VERSION, g->residual_norm)) &&
        cuda_kernel(c, "rope_append_rows", &g->rope, err) &&
        cuda_kernel(c, "hash_all_chunks", &g->hash, err) && cuda_find_chooser(g, err);
    c->early = c->major >= 9 && ptx >= 90; /* code for less does not wait */
    char name[48];
    snprintf(name, sizeof name, "attention_%s_%d", dtype_name(g->setup->kv_dtype), (int)g->tile);
    return ok && cuda_kernel(c, name, &g->attention, err);
}

/* Host bytes that must live until the stream has been waited for. */
static bool upload(const struct cuda *c, const void *to, const void *from, uint64_t bytes,
                   struct tp_error *err)
{
    return bytes == 0 ||
           CUDA(&c->api, err, cuMemcpyHtoDAsync_v2, ((uintptr_t)to, from, bytes, c->stream));
}

static bool upload_tables(struct cuda_rank *r, struct cuda_block *blocks, struct tp_error *err)
{
    uint64_t n = 0;
    for (int k = 0; k < CUDA_KINDS; k++) {
        const struct matrix *m = matrix_of(r->weights, (enum cuda_kind)k);
        struct leaf whole;
        struct leaf_run leaves = leaves_of(r->weights, (enum cuda_kind)k, &whole);
        struct cuda_geometry *g = &r->kinds[k];
        *g = (struct cuda_geometry){.stored = m->stored,
                                    .blocks = blocks_of(&leaves),
                                    .panel_words = (uint32_t)(m->panel_bytes / (PANEL_ROWS * 4))};
        if (!needs_table(r, (enum cuda_kind)k))
            continue;
        tp_assert(n + g->blocks <= r->n_blocks);
        fill_table(m->stored, &leaves, blocks + n);
        g->table = r->blocks + n;
        n += g->blocks;
    }
    return upload(r->cuda, r->blocks, blocks, n * sizeof *blocks, err) &&
           upload(r->cuda, r->columns, r->weights->o_columns,
                  r->heads * r->setup->model->head_dim * sizeof *r->columns, err);
}

static bool prepare_rank(struct cuda_rank *r, struct tp_error *err)
{
    struct cuda_block *blocks = mem_array(r->n_blocks, sizeof *blocks, err);
    bool ok = blocks && upload_tables(r, blocks, err);
    ok = cuda_wait(r->gpu, ok ? err : NULL) && ok;
    mem_free(blocks);
    return ok;
}

/* Which GPU has the rank, and which of its ranks is the first. */
static uint32_t gpu_of(const struct cuda_gpu *g, uint64_t rank, uint64_t *first)
{
    uint32_t gpu = 0;
    while (cuda_ranks_of(g->setup->comm->size, g->n_gpus, gpu).end <= rank)
        gpu++;
    *first = cuda_ranks_of(g->setup->comm->size, g->n_gpus, gpu).begin;
    return gpu;
}

uint32_t cuda_slot_of(const struct cuda_gpu *g, enum cuda_reduction reduction, uint64_t rank)
{
    const struct comm *comm = g->setup->comm;
    const uint64_t *first_root = (reduction ? &comm->mlp : &comm->attention)->first_root;
    uint64_t first;
    const uint32_t gpu = gpu_of(g, rank, &first);
    return gpu * g->slots[reduction] + (uint32_t)(first_root[rank] - first_root[first]);
}

uint32_t cuda_sum_slot(const struct cuda_gpu *g, uint64_t rank)
{
    uint64_t first;
    const uint32_t gpu = gpu_of(g, rank, &first);
    return (uint32_t)(gpu * g->sum_slots + rank - first);
}

static void list_roots(const struct cuda_gpu *g, enum cuda_reduction reduction,
                       struct cuda_root *roots)
{
    const struct comm *comm = g->setup->comm;
    const struct comm_tree *tree = reduction ? &comm->mlp : &comm->attention;
    for (uint64_t r = 0; r < comm->size; r++)
        for (uint64_t n = tree->first_root[r]; n < tree->first_root[r + 1]; n++)
            roots[n] = (struct cuda_root){
                .slot = (uint16_t)(cuda_slot_of(g, reduction, r) + n - tree->first_root[r]),
                .merges = tree->merges[n]};
}

/* Whole sums of the ranks that have some are added one after the other. */
static void list_whole(struct cuda_gpu *g, enum cuda_reduction reduction, struct cuda_root *whole)
{
    uint32_t n = 0;
    for (uint64_t r = 0; r < g->setup->comm->size; r++) {
        const struct partition *own = &g->setup->plans[r].partition;
        if (range_count(reduction ? own->ff : own->heads)) {
            whole[n] = (struct cuda_root){.slot = (uint16_t)cuda_sum_slot(g, r), .merges = n > 0};
            n++;
        }
    }
    g->n_whole[reduction] = n;
}

bool cuda_prepare(struct cuda_gpu *g, const struct cuda_embed *embed, struct tp_error *err)
{
    const struct cuda *c = g->cuda;
    const struct comm *comm = g->setup->comm;
    struct cuda_root roots[2][PARTITION_TP_MAX * TREE_ROOTS_MAX];
    list_roots(g, REDUCE_ATTENTION, roots[REDUCE_ATTENTION]);
    list_roots(g, REDUCE_MLP, roots[REDUCE_MLP]);
    struct cuda_root whole[2][PARTITION_TP_MAX];
    list_whole(g, REDUCE_ATTENTION, whole[REDUCE_ATTENTION]);
    list_whole(g, REDUCE_MLP, whole[REDUCE_MLP]);
    const cu_address end = (uintptr_t)g->ranks[g->n_ranks - 1].data;
    const uint64_t begin = end + g->ranks[g->n_ranks - 1].data_bytes - g->memory;
    const uint64_t inbox = CUDA_INBOXES * g->inbox_floats * 4;
    bool ok = CUDA(&c->api, err, cuMemsetD8Async,
                   (g->memory + begin, 0, g->memory_bytes - begin, c->stream)) &&
              CUDA(&c->api, err, cuMemsetD8Async,
                   ((uintptr_t)g->inbox, CUDA_EMPTY & 255, inbox, c->stream)) &&
              upload(c, g->embed, embed, comm->size * sizeof *embed, err) && find_kernels(g, err);
    for (int i = REDUCE_ATTENTION; ok && i <= REDUCE_MLP; i++)
        ok = upload(c, g->roots[i], roots[i],
                    (i ? &comm->mlp : &comm->attention)->n_roots * sizeof **roots, err) &&
             upload(c, g->whole[i], whole[i], g->n_whole[i] * sizeof **whole, err);
    for (uint32_t i = 0; ok && i < g->n_ranks; i++)
        ok = prepare_rank(&g->ranks[i], err);
    return cuda_wait(g, ok ? err : NULL) && ok;
}
