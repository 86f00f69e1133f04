/* Attention of the CPU: QK norm, RoPE and the cache; then, per tile of rows of one sequence
 * and per KV head, the chunks in ascending order. All query heads of the KV head and all rows of
 * the tile share the reading of a page. docs/numerics.md section 6. */
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

void cpu_rope_append(struct cpu_rank *r, const struct step *step, const struct op *op,
                     struct share share)
{
    const struct layer_weights *w = &r->weights->layers[op->layer];
    uint64_t heads = r->n_heads_local + r->n_kv_heads_local;
    struct range mine = share_of(heads * step->n_rows, share);
    for (uint64_t i = mine.begin; i < mine.end; i++) {
        uint64_t head = i / step->n_rows, m = i % step->n_rows;
        if (head < r->n_heads_local)
            prepare_query(r, w, step, m, head);
        else
            prepare_key_value(r, w, step, op->layer, m, head - r->n_heads_local);
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

static void attend(const struct cpu_rank *r, const struct step *step, uint32_t layer,
                   struct range rows, uint64_t kv_head, float *scratch)
{
    const struct kernels *k = r->kernels;
    struct tile t = tile_of(r, scratch);
    struct range heads = cpu_heads_of(r, kv_head);
    uint64_t n_heads = range_count(heads), n = range_count(rows) * n_heads, pad = r->head_pad;
    const struct step_row *top = &step->rows[rows.begin], *bottom = &step->rows[rows.end - 1];
    for (uint64_t i = 0; i < n; i++)
        t.fresh[i] = true;
    uint64_t c = first_seen(r, layer, top->position) / ATTENTION_CHUNK;
    for (; c <= bottom->position / ATTENTION_CHUNK; c++) {
        set_visible(r, step, layer, rows, n_heads, c, &t);
        const unsigned char *page = page_of(r, layer, step->pages[top->sequence][c], kv_head);
        k->attention_chunk(k, page, page + r->page_bytes, r->kv_dtype, pad,
                           query_of(r, rows.begin, kv_head, heads.begin), pad, n,
                           r->attention_scale, t.first, t.last, r->bf16, t.fresh, t.max, t.sum, t.o,
                           pad, t.chunk);
    }
    for (uint64_t i = 0; i < n; i++) {
        k->attention_end(t.o + i * pad, t.sum[i], r->model->head_dim, r->bf16, t.o + i * pad);
        put_output(r, layer, rows.begin + i / n_heads, heads.begin + i % n_heads, t.o + i * pad);
    }
}

/* Items (tile of rows, KV head) go round the threads. */
void cpu_attention(struct cpu_rank *r, const struct step *step, const struct op *op,
                   struct share share)
{
    uint64_t tile_rows = r->group < CPU_QUERY_TILE ? CPU_QUERY_TILE / r->group : 1;
    uint64_t item = 0;
    struct range rows = {0, 0};
    for (uint64_t m = 0; m < step->n_rows; m = rows.end) {
        rows = (struct range){m, m + 1};
        while (rows.end < step->n_rows && range_count(rows) < tile_rows &&
               step->rows[rows.end].sequence == step->rows[m].sequence)
            rows.end++;
        for (uint64_t kv_head = 0; kv_head < r->n_kv_heads_local; kv_head++)
            if (item++ % share.parts == share.part)
                attend(r, step, op->layer, rows, kv_head, cpu_scratch(r, share));
    }
}
