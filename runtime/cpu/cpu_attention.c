/* Attention of the CPU: QK norm, RoPE and the cache; then, per tile of rows of one sequence
 * and per KV head, the chunks in ascending order. All query heads of the KV head and all rows of
 * the tile share the reading of a page. Where there are too few of these to go round the threads of
 * a crew evenly, each has some of the chunks, and they are joined, in the same order, behind a
 * meeting. docs/numerics.md section 6. */
#include "cpu.h"

#include "checked.h"
#include "kv_cache.h"
#include <string.h>

_Static_assert((int)KV_PAGE_POSITIONS == (int)ATTENTION_CHUNK, "a page is a chunk");

struct range cpu_heads_of(const struct cpu_rank *r, uint64_t kv_head)
{
    const struct partition *p = &r->weights->partition;
    uint64_t begin = (p->kv_heads.begin + kv_head) * r->group, end = begin + r->group;
    begin = begin > p->heads.begin ? begin : p->heads.begin;
    end = end < p->heads.end ? end : p->heads.end;
    return (struct range){begin - p->heads.begin, end - p->heads.begin};
}

/* The query of local head `head` of row m: [head_pad], zero padded. */
static float *query_of(const struct cpu_rank *r, uint64_t m, uint64_t kv_head, uint64_t head)
{
    struct range heads = cpu_heads_of(r, kv_head);
    uint64_t at = heads.begin * r->rows_max + m * range_count(heads) + head - heads.begin;
    return r->queries + at * r->head_pad;
}

static unsigned char *page_of(const struct cpu_rank *r, uint32_t layer, uint32_t page,
                              uint64_t kv_head)
{
    uint64_t local = layer - r->weights->partition.layers.begin;
    uint64_t index = (local * r->n_pages + page) * r->n_kv_heads_local + kv_head;
    return r->kv + index * 2 * r->page_bytes;
}

static void rotate(const struct cpu_rank *r, float *x, uint64_t position)
{
    uint64_t d = r->model->head_dim, at = position * (d / 2);
    r->kernels->rope(x, r->device->cos + at, r->device->sin + at, d);
}

static void prepare_query(const struct cpu_rank *r, const struct layer_weights *w,
                          const struct step *step, uint64_t m, uint64_t head)
{
    uint64_t d = r->model->head_dim;
    uint64_t global = r->weights->partition.heads.begin + head;
    uint64_t kv_head = global / r->group - r->weights->partition.kv_heads.begin;
    const float *from = r->q + m * r->q_stride + head * d;
    float *q = query_of(r, m, kv_head, head);
    if (w->q_norm)
        r->kernels->rms_norm(from, w->q_norm, d, r->eps, false, q);
    else
        memcpy(q, from, d * sizeof *q);
    rotate(r, q, step->rows[m].position);
    if (r->bf16)
        r->kernels->round_bf16(q, d);
}

static void prepare_key_value(const struct cpu_rank *r, const struct layer_weights *w,
                              const struct step *step, uint32_t layer, uint64_t m, uint64_t kv_head)
{
    uint64_t d = r->model->head_dim;
    const struct step_row *row = &step->rows[m];
    float *k = r->k + m * r->kv_stride + kv_head * d;
    const float *v = r->v + m * r->kv_stride + kv_head * d;
    if (w->k_norm)
        r->kernels->rms_norm(k, w->k_norm, d, r->eps, false, k);
    rotate(r, k, row->position);
    uint32_t page = step->pages[row->sequence][row->position / ATTENTION_CHUNK];
    unsigned char *at = page_of(r, layer, page, kv_head);
    r->kernels->kv_append(at, at + r->page_bytes, r->kv_dtype, d, r->head_pad,
                          row->position % ATTENTION_CHUNK, k, v);
}

static uint64_t heads_of(const struct cpu_rank *r)
{
    return r->n_heads_local + r->n_kv_heads_local;
}

/* Of a rank's heads and the step's rows the i-th. */
static void prepare(const struct cpu_rank *r, const struct step *step, uint32_t layer, uint64_t i)
{
    const struct layer_weights *w = &r->weights->layers[layer];
    const uint64_t head = i / step->n_rows, m = i % step->n_rows;
    if (head < r->n_heads_local)
        prepare_query(r, w, step, m, head);
    else
        prepare_key_value(r, w, step, layer, m, head - r->n_heads_local);
}

void cpu_rope_append(const struct cpu_crew *c, const struct step *step, const struct op *op,
                     struct share share)
{
    uint64_t heads = 0, i = 0;
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++)
        heads += heads_of(cpu_rank_of(c, rank));
    const struct range mine = share_of(heads * step->n_rows, share);
    for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
        const struct cpu_rank *r = cpu_rank_of(c, rank);
        for (uint64_t own = 0; own < heads_of(r) * step->n_rows; own++, i++)
            if (range_has(mine, i))
                prepare(r, step, op->layer, own);
    }
}

/* Scratch of one tile of up to n queries. */
struct tile {
    float *o;         /* [n][head_pad] */
    float *max, *sum; /* [n] */
    int *first, *last;
    bool *fresh;
    float *chunk; /* attention_scratch(kernels, n, head_pad) */
};

static uint64_t queries_max(const struct cpu_rank *r)
{
    return r->group > CPU_QUERY_TILE ? r->group : CPU_QUERY_TILE;
}

uint64_t cpu_attention_scratch(const struct cpu_rank *r)
{
    uint64_t n = align_up(queries_max(r), 16);
    return attention_scratch(r->kernels, n, r->head_pad) + n * (r->head_pad + 5);
}

static struct tile tile_of(const struct cpu_rank *r, float *scratch)
{
    uint64_t n = align_up(queries_max(r), 16);
    struct tile t = {.chunk = scratch};
    t.o = t.chunk + attention_scratch(r->kernels, n, r->head_pad);
    t.max = t.o + n * r->head_pad;
    t.sum = t.max + n;
    t.first = (int *)(t.sum + n);
    t.last = t.first + n;
    t.fresh = (bool *)(t.last + n);
    return t;
}

/* The first position that a query at `position` sees. */
static uint64_t first_seen(const struct cpu_rank *r, uint32_t layer, uint64_t position)
{
    uint64_t window = r->model->window[layer];
    return window && position + 1 > window ? position + 1 - window : 0;
}

/* What each row sees of chunk c; heads queries a row. first > last: nothing. */
static void set_visible(const struct cpu_rank *r, const struct step *step, uint32_t layer,
                        struct range rows, uint64_t heads, uint64_t chunk, struct tile *t)
{
    uint64_t begin = chunk * ATTENTION_CHUNK, end = begin + ATTENTION_CHUNK - 1;
    for (uint64_t m = rows.begin, i = 0; m < rows.end; m++) {
        uint64_t last = step->rows[m].position, first = first_seen(r, layer, last);
        bool none = last < begin || first > end;
        for (uint64_t h = 0; h < heads; h++, i++) {
            t->first[i] = none ? 1 : first > begin ? (int)(first - begin) : 0;
            t->last[i] = none ? 0 : last < end ? (int)(last - begin) : ATTENTION_CHUNK - 1;
        }
    }
}

/* The output of a head, to where its columns enter o_proj. */
static void put_output(const struct cpu_rank *r, uint32_t layer, uint64_t m, uint64_t head,
                       const float *o)
{
    uint64_t d = r->model->head_dim;
    const uint32_t *columns = r->weights->o_columns + head * d;
    float *row = r->attn + m * r->weights->layers[layer].o.k;
    for (uint64_t i = 0; i < d; i++)
        row[columns[i]] = o[i];
}

/* ---- work for threads: items (tile of rows, KV head of a rank) ---- */

struct item {
    const struct cpu_rank *rank;
    struct range rows, heads, chunks;
    uint64_t kv_head;
    uint64_t queries; /* rows x heads */
    uint64_t unit;    /* chunks of the items before: a unit is a chunk of an item */
    uint64_t partial; /* queries x chunks of the items before */
    uint64_t query;   /* queries of the items before */
};

/* The first rank from this one on that has KV heads; NULL: there is none. */
static const struct cpu_rank *rank_with_heads(const struct cpu_crew *c, uint64_t rank)
{
    while (rank < c->ranks.end && cpu_rank_of(c, rank)->n_kv_heads_local == 0)
        rank++;
    return rank < c->ranks.end ? cpu_rank_of(c, rank) : NULL;
}

/* item begins as {0}. false: there are no more. */
static bool next_item(const struct cpu_crew *c, const struct step *step, uint32_t layer,
                      struct item *item)
{
    const struct cpu_rank *r = item->rank;
    item->unit += range_count(item->chunks);
    item->partial += item->queries * range_count(item->chunks);
    item->query += item->queries;
    if (r && ++item->kv_head == r->n_kv_heads_local) {
        item->kv_head = 0;
        r = rank_with_heads(c, r->rank + 1);
    }
    if (!r) {
        r = rank_with_heads(c, c->ranks.begin);
        if (!r)
            return false;
        const uint64_t tile_rows = r->group < CPU_QUERY_TILE ? CPU_QUERY_TILE / r->group : 1;
        struct range *rows = &item->rows;
        *rows = (struct range){rows->end, rows->end};
        while (rows->end < step->n_rows && range_count(*rows) < tile_rows &&
               step->rows[rows->end].sequence == step->rows[rows->begin].sequence)
            rows->end++;
    }
    item->rank = r;
    if (range_count(item->rows) == 0)
        return false;
    const uint64_t top = step->rows[item->rows.begin].position,
                   bottom = step->rows[item->rows.end - 1].position;
    item->chunks =
        (struct range){first_seen(r, layer, top) / ATTENTION_CHUNK, bottom / ATTENTION_CHUNK + 1};
    item->heads = cpu_heads_of(r, item->kv_head);
    item->queries = range_count(item->rows) * range_count(item->heads);
    return true;
}

static void attend_chunk(const struct step *step, uint32_t layer, const struct item *item,
                         uint64_t chunk, struct tile *t)
{
    const struct cpu_rank *r = item->rank;
    const uint64_t pad = r->head_pad;
    const uint32_t page = step->pages[step->rows[item->rows.begin].sequence][chunk];
    const unsigned char *at = page_of(r, layer, page, item->kv_head);
    set_visible(r, step, layer, item->rows, range_count(item->heads), chunk, t);
    r->kernels->attention_chunk(r->kernels, at, at + r->page_bytes, r->kv_dtype, pad,
                                query_of(r, item->rows.begin, item->kv_head, item->heads.begin),
                                pad, item->queries, r->attention_scale, t->first, t->last, r->bf16,
                                t->fresh, t->max, t->sum, t->o, pad, t->chunk);
}

static void end_query(uint32_t layer, const struct item *item, uint64_t i, float *o, float sum)
{
    const struct cpu_rank *r = item->rank;
    const uint64_t n_heads = range_count(item->heads);
    r->kernels->attention_end(o, sum, r->model->head_dim, r->bf16, o);
    put_output(r, layer, item->rows.begin + i / n_heads, item->heads.begin + i % n_heads, o);
}

/* All of an item by one thread. */
static void attend(const struct step *step, uint32_t layer, const struct item *item, float *scratch)
{
    const struct cpu_rank *r = item->rank;
    struct tile t = tile_of(r, scratch);
    for (uint64_t i = 0; i < item->queries; i++)
        t.fresh[i] = true;
    for (uint64_t c = item->chunks.begin; c < item->chunks.end; c++)
        attend_chunk(step, layer, item, c, &t);
    for (uint64_t i = 0; i < item->queries; i++)
        end_query(layer, item, i, t.o + i * r->head_pad, t.sum[i]);
}

/* ---- chunks of an item by several threads ---- */

/* Of a query that sees nothing of a chunk the sum is 0; else it is 1 at least, or NaN, which is
 * joined too. */
static void attend_unit(const struct step *step, uint32_t layer, const struct item *item,
                        uint64_t chunk, float *scratch)
{
    const struct cpu_rank *r = item->rank;
    const struct cpu_crew *c = r->crew;
    struct tile t = tile_of(r, scratch);
    const uint64_t at = item->partial + (chunk - item->chunks.begin) * item->queries;
    t.o = c->partial + at * r->head_pad;
    t.max = c->partial + c->partials_max * r->head_pad + at;
    t.sum = t.max + c->partials_max;
    for (uint64_t i = 0; i < item->queries; i++) {
        t.fresh[i] = true;
        t.sum[i] = 0;
    }
    attend_chunk(step, layer, item, chunk, &t);
}

static void join_query(uint32_t layer, const struct item *item, uint64_t i, float *scratch)
{
    const struct cpu_rank *r = item->rank;
    const struct cpu_crew *c = r->crew;
    struct tile t = tile_of(r, scratch);
    const float *max = c->partial + c->partials_max * r->head_pad, *sum = max + c->partials_max;
    t.fresh[0] = true;
    for (uint64_t n = 0; n < range_count(item->chunks); n++) {
        const uint64_t at = item->partial + n * item->queries + i;
        if (sum[at] != 0)
            r->kernels->attention_join(t.fresh, t.max, t.sum, t.o, max[at], sum[at],
                                       c->partial + at * r->head_pad, r->head_pad);
    }
    end_query(layer, item, i, t.o, *t.sum);
}

static void attend_shared(const struct cpu_crew *c, const struct step *step, uint32_t layer,
                          const struct item *end, struct share share)
{
    const struct range units = share_of(end->unit, share), queries = share_of(end->query, share);
    float *scratch = cpu_scratch(c, share);
    for (struct item item = {0}; next_item(c, step, layer, &item);)
        for (uint64_t n = item.chunks.begin, u = item.unit; n < item.chunks.end; n++, u++)
            if (range_has(units, u))
                attend_unit(step, layer, &item, n, scratch);
    struct comm *comm = c->device->setup.comm;
    comm->meet(comm, (int)(c->first_thread + share.part), COMM_CREW);
    for (struct item item = {0}; next_item(c, step, layer, &item);)
        for (uint64_t i = 0; i < item.queries; i++)
            if (range_has(queries, item.query + i))
                join_query(layer, &item, i, scratch);
}

/* Is it worth a meeting? With many items a thread there is little to even out. */
enum { ITEMS_ENOUGH = 4 };

static bool is_shared(const struct cpu_crew *c, const struct item *end, uint64_t items,
                      bool one_tile)
{
    return c->parts > 1 && items < ITEMS_ENOUGH * c->parts && end->unit > items &&
           end->partial <= c->partials_max && !(one_tile && items % c->parts == 0);
}

void cpu_attention(const struct cpu_crew *c, const struct step *step, const struct op *op,
                   struct share share)
{
    uint64_t items = 0, of_a_tile = 0;
    struct item item = {0};
    for (; next_item(c, step, op->layer, &item); items++)
        of_a_tile += item.rows.begin == 0;
    if (is_shared(c, &item, items, items == of_a_tile)) {
        attend_shared(c, step, op->layer, &item, share);
        return;
    }
    item = (struct item){0};
    for (uint64_t i = 0; next_item(c, step, op->layer, &item); i++)
        if (i % share.parts == share.part)
            attend(step, op->layer, &item, cpu_scratch(c, share));
}
