/* What a rank has on its device: sizes, places, tables, kernels. */
#include "cuda_device.h"

#include "checked.h"
#include "kernels.h"
#include "mem.h"
#include <stdio.h>
#include <string.h>

_Static_assert((int)CUDA_STACK == (int)TREE_STACK_MAX, "the same folds");
_Static_assert((int)CUDA_ROWS == (int)STEP_ONE_SHOT_ROWS, "rows that decode are one group");
_Static_assert((int)CUDA_CHUNK == (int)ATTENTION_CHUNK, "the same chunks");

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
    return (struct leaf_run){1, 1, whole, &none};
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

size_t cuda_attention_shared(const struct cuda_rank *r, uint64_t tile)
{
    const uint64_t blocks = r->head_pad / BLOCK_COLS, chunk = CUDA_CHUNK / BLOCK_COLS;
    const uint64_t floats[] = {tile * blocks * CUDA_XPAD,
                               CUDA_CHUNK * (tile * blocks + 1),
                               tile * chunk * CUDA_XPAD,
                               blocks * 2 * tile * chunk * PANEL_ROWS,
                               2 * tile,
                               1,
                               (tile + 1) * r->setup->model->head_dim};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        bytes += align_up(floats[i] * 4, 16);
    return bytes;
}

/* The least tile that holds the query heads of a KV head, where it fits; else the largest that
 * does. */
static uint64_t choose_tile(const struct cuda_rank *r)
{
    static const uint64_t tiles[] = {8, 4, 1};
    uint64_t best = 0;
    for (int i = 0; i < 3; i++)
        if (cuda_attention_shared(r, tiles[i]) <= (size_t)r->cuda->shared_max &&
            (!best || tiles[i] >= r->group))
            best = tiles[i];
    return best;
}

void cuda_set_sizes(struct cuda_rank *r, struct cuda *cuda, const struct device_setup *setup)
{
    const struct model_config *model = setup->model;
    const struct partition *partition = &setup->plans[0].partition;
    const struct rank_plan *plan = &setup->plans[0];
    const uint32_t layer = (uint32_t)partition->layers.begin;
    uint64_t d = model->head_dim;
    *r = (struct cuda_rank){.cuda = cuda, .setup = setup, .data_bytes = plan->data_bytes};
    r->heads = range_count(partition->heads);
    r->kv_heads = range_count(partition->kv_heads);
    r->group = model->n_heads / model->n_kv_heads;
    r->head_pad = align_up(d, BLOCK_COLS);
    r->stride = align_up(model->hidden, BLOCK_COLS);
    r->q_stride = align_up(r->heads * d, PANEL_ROWS);
    r->kv_stride = align_up(r->kv_heads * d, PANEL_ROWS);
    r->attn_stride = rank_plan_find(plan, ROLE_O, layer, PART_WEIGHT)->k;
    r->act_stride = rank_plan_find(plan, ROLE_DOWN, layer, PART_WEIGHT)->k;
    r->logit_stride = align_up(model->vocab, PANEL_ROWS);
    r->page_bytes = CUDA_CHUNK * r->head_pad * dtype_bytes(setup->kv_dtype);
    r->groups = div_ceil(setup->rows_max, CUDA_ROWS);
    r->chunks_max = div_ceil(setup->positions_max, CUDA_CHUNK);
    r->step_bytes = align_up(sizeof(struct cuda_step) + CUDA_ROWS * r->chunks_max * 4, 256);
    /* Values of panels that CTAs share, for the widest matrix: two CTAs a multiprocessor up to 4
     * rows, one beyond. Blocks as in a pair of matrices, and no fewer than leaves' padding
     * makes. */
    uint64_t widest = max_u64(2 * r->stride, max_u64(r->attn_stride, r->act_stride)) / BLOCK_COLS;
    uint64_t ctas_rows = (uint64_t)cuda->multiprocessors * (CUDA_ROWS + 1); /* 1: constants */
    r->edge_floats = ctas_rows * widest * PANEL_ROWS;
    /* at most two whole panels, and what the warps of a CTA take at once (dot_slots) */
    r->inner_floats = ctas_rows * (2 * widest + 512) * PANEL_ROWS;
    r->tile = choose_tile(r);
    cuda_set_chooser(r);
    /* blocks of all tables: every kind has one, at most */
    r->n_blocks = (6 * r->stride + r->attn_stride + r->act_stride) / BLOCK_COLS;
}

/* ---- places ---- */

static bool take(struct cuda_rank *r, uint64_t *at, void *pointer, uint64_t count, uint64_t size,
                 struct tp_error *err)
{
    uint64_t n;
    if (r->memory) {
        void *address = (void *)(uintptr_t)(r->memory + *at);
        memcpy(pointer, &address, sizeof address);
    }
    return (tp_mul(count, size, &n) && tp_align_up(n, 256, &n) && tp_add(*at, n, at)) ||
           tp_fail(err, TP_E_LIMIT, "buffers of %llu rows do not fit in 64 bits",
                   (unsigned long long)r->setup->rows_max);
}

bool cuda_place(struct cuda_rank *r, struct tp_error *err)
{
    const struct device_setup *s = r->setup;
    const uint64_t rows = CUDA_ROWS, all = r->groups * CUDA_ROWS, half = s->model->head_dim / 2;
    const uint64_t *attention = s->comm->attention.first_root, *mlp = s->comm->mlp.first_root;
    struct cuda_chooser *c = &r->chooser;
    uint64_t at = 0, kv = 0, kv_end;
    bool ok = take(r, &at, &r->data, 1, r->data_bytes, err);
    kv = at;
    ok = ok && take(r, &at, &r->kv, s->n_pages * range_count(s->plans[0].partition.layers),
                    r->kv_heads * 2 * r->page_bytes, err);
    kv_end = at;
    const struct {
        void *pointer;
        uint64_t count;
    } floats[] = {
        {&r->residual[0], all * r->stride},
        {&r->residual[1], all * r->stride},
        {&r->normed, all * r->stride},
        {&r->q, rows * r->q_stride},
        {&r->k, rows * r->kv_stride},
        {&r->v, rows * r->kv_stride},
        {&r->queries, rows * r->heads * r->head_pad},
        {&r->attn, rows * r->attn_stride},
        {&r->act, rows * r->act_stride},
        {&r->roots[0], attention[1] * rows * r->stride},
        {&r->roots[1], mlp[1] * rows * r->stride},
        {&r->wanted, rows * r->stride},
        {&r->logits, rows * r->logit_stride},
        {&r->partial, rows * r->heads * r->chunks_max * (r->head_pad + 2)},
        {&r->edge, r->edge_floats},
        {&r->inner, r->inner_floats},
        {&r->attention_arrived, rows * r->heads},
        {&r->edge_arrived, (uint64_t)r->cuda->multiprocessors * 2},
        {&r->cos, r->chunks_max * CUDA_CHUNK * half},
        {&r->sin, r->chunks_max * CUDA_CHUNK * half},
        {&r->columns, r->heads * s->model->head_dim},
        {&r->steps, (r->groups + 1) * (r->step_bytes / 4)},
        {&r->merges[0], attention[1]},
        {&r->merges[1], mlp[1]},
        {&r->blocks, r->n_blocks * (sizeof(struct cuda_block) / 4)},
        {&c->choices, sizeof *c->choices / 4},
        {&c->banned, div_ceil(s->model->vocab, 4)},
        {&c->best, rows * c->chunks},
        {&c->first, rows * c->chunks},
        {&c->sums, rows * c->chunks * 2},
        {&c->bins, c->chunks ? rows * CUDA_BINS * 2 : 0},
        {&c->chosen, rows},
    };
    for (size_t i = 0; ok && i < sizeof floats / sizeof *floats; i++)
        ok = take(r, &at, floats[i].pointer, floats[i].count, 4, err);
    r->memory_bytes = at;
    r->bytes = (struct device_bytes){kv_end - kv, at - kv_end};
    return ok;
}

const void *cuda_at(const struct cuda_rank *r, const void *host)
{
    return host ? r->data + ((const unsigned char *)host - r->host_data) : NULL;
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

bool cuda_find_dots(struct cuda_rank *r, int kind, struct tp_error *err)
{
    bool ok = true;
    for (int k = 0; ok && k < CUDA_KINDS; k++) {
        const struct stored *s = r->kinds[k].stored;
        cu_function *dot = &r->dots[s->id][kind];
        char name[48];
        snprintf(name, sizeof name, "dot_%s_%d", format_name(s), 1 << kind);
        ok = *dot || cuda_kernel(r->cuda, name, dot, err);
    }
    return ok;
}

static bool find_kernels(struct cuda_rank *r, struct tp_error *err)
{
    struct cuda *c = r->cuda;
    int ptx = 0;
    bool ok =
        cuda_kernel(r->cuda, "residual_norm_rows", &r->residual_norm, err) &&
        CUDA(&c->api, err, cuFuncGetAttribute, (&ptx, CU_FUNCTION_PTX_VERSION, r->residual_norm)) &&
        cuda_kernel(r->cuda, "rope_append_rows", &r->rope, err) &&
        cuda_kernel(r->cuda, "hash_all_chunks", &r->hash, err) && cuda_find_chooser(r, err);
    c->early = c->major >= 9 && ptx >= 90; /* code for less does not wait */
    char name[48];
    snprintf(name, sizeof name, "attention_%s_%d", dtype_name(r->setup->kv_dtype), (int)r->tile);
    return ok && cuda_kernel(r->cuda, name, &r->attention, err);
}

/* Host bytes that must live until the stream has been waited for. */
static bool upload(struct cuda_rank *r, const void *to, const void *from, uint64_t bytes,
                   struct tp_error *err)
{
    return bytes == 0 || CUDA(&r->cuda->api, err, cuMemcpyHtoDAsync_v2,
                              ((uintptr_t)to, from, bytes, r->cuda->stream));
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
    const struct comm *comm = r->setup->comm;
    return upload(r, r->blocks, blocks, n * sizeof *blocks, err) &&
           upload(r, r->columns, r->weights->o_columns,
                  r->heads * r->setup->model->head_dim * sizeof *r->columns, err) &&
           upload(r, r->merges[0], comm->attention.merges, comm->attention.first_root[1], err) &&
           upload(r, r->merges[1], comm->mlp.merges, comm->mlp.first_root[1], err);
}

bool cuda_prepare(struct cuda_rank *r, struct tp_error *err)
{
    struct cuda_block *blocks = mem_array(r->n_blocks, sizeof *blocks, err);
    bool ok =
        blocks &&
        CUDA(&r->cuda->api, err, cuMemsetD8Async,
             (r->memory + r->data_bytes, 0, r->memory_bytes - r->data_bytes, r->cuda->stream)) &&
        upload_tables(r, blocks, err) && find_kernels(r, err);
    ok = CUDA(&r->cuda->api, ok ? err : NULL, cuStreamSynchronize, (r->cuda->stream)) && ok;
    mem_free(blocks);
    return ok;
}
