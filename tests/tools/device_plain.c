/* A second device, for tests: one thread, plain loops, written from docs/numerics.md, no kernels
 * table. Linked in place of the CPU (tprun_plain), it runs the same program of a step through the
 * same engine. Slow.
 */
#include "exp_of.h"
#include "checked.h"
#include "device.h"
#include "fma.h"
#include "forward.h"
#include "host.h"
#include "kernels.h"
#include "mem.h"
#include "rope.h"
#include "threads.h"
#include <math.h>
#include <string.h>

enum { POSITIONS = 256 };

struct rank {
    const struct rank_weights *w;
    float *residual, *normed, *q, *k, *v, *attn, *act; /* [rows][width] */
    float *roots[2]; /* of attention, MLP: [n_roots][rows][hidden] */
    float *kv;       /* [layer][page][k, v][256][KV heads here][head_dim] */
};

struct plain {
    struct device device;
    struct device_setup setup;
    struct rank ranks[PARTITION_TP_MAX];
    struct mem_arena arena;
    double frequencies[MODEL_HEAD_DIM_MAX];
    float *logits, *dots; /* [rows][vocab], [width] */
    uint64_t width;       /* of every buffer's rows: the widest there is, padded */
    const struct step *step;
};

static struct plain *self_of(struct device *device)
{
    return (struct plain *)(void *)device;
}

/* ---- arithmetic: sections 2 to 5 ---- */

static uint32_t word_of(const unsigned char *panel, uint64_t row, uint64_t word)
{
    uint32_t bits;
    memcpy(&bits, panel + 4 * (16 * word + row % 16), 4);
    return bits;
}

/* Column c of a run of words: the value, the code for scales of rows, the code less its zero for
 * groups. */
static float value_of(const struct stored *s, const unsigned char *panel, uint64_t row,
                      uint64_t word, uint64_t c, uint32_t constants)
{
    uint32_t per = 32 / s->bits, bits = word_of(panel, row, word + c / per);
    switch (s->bits) {
    case 32:
        return f32_from_bits(bits);
    case 16:
        bits >>= c % 2 * 16;
        return s->id == STORED_F16 ? f16_to_f32((uint16_t)bits) : bf16_to_f32((uint16_t)bits);
    case 8:
        bits >>= c % 4 * 8;
        return s->id == STORED_INT8 ? (float)(int8_t)bits : e4m3_to_f32((uint8_t)bits);
    default:
        bits = bits >> (c % 2 * 16 + c % 8 / 2 * 4) & 15;
        return (float)bits - (s->offset == OFFSET_NONE   ? 8
                              : s->offset == OFFSET_ZERO ? (float)(constants & 255)
                                                         : 0);
    }
}

static float rounded(enum dtype dtype, float f)
{
    return dtype == DTYPE_BF16  ? bf16_to_f32(f32_to_bf16(f))
           : dtype == DTYPE_F16 ? f16_to_f32(f32_to_f16_sat(f))
                                : f;
}

/* Where an activation enters a matrix. */
static float entering(const struct rank *r, float f)
{
    return r->w->arithmetic == DTYPE_BF16 ? rounded(DTYPE_BF16, f) : f;
}

/* sum of a(i) x(i) over n, a multiple of 32, as section 3 has it */
#define DOT(n, a, x)                                                                               \
    ({                                                                                             \
        float acc_ = 0;                                                                            \
        for (uint64_t b_ = 0; b_ < (n); b_ += 32) {                                                \
            float even_ = 0, odd_ = 0;                                                             \
            for (uint64_t i = b_; i < b_ + 32; i++)                                                \
                *(i % 2 ? &odd_ : &even_) = fma_f32(a, x, i % 2 ? odd_ : even_);                   \
            acc_ = acc_ + (even_ + odd_);                                                          \
        }                                                                                          \
        acc_ + 0.0f;                                                                               \
    })

/* A leaf of a row: words from `word` of its panel on, x from its first column on. */
static float dot_leaf(const struct matrix *w, uint64_t row, uint64_t word, struct pieces pieces,
                      const float *x)
{
    const unsigned char *panel = w->w + row / 16 * w->panel_bytes;
    const struct stored *s = w->stored;
    if (!s->group)
        return DOT(pieces.blocks * 32, value_of(s, panel, row, word, i, 0), x[i]);
    float total = 0;
    uint32_t constants = 0;
    for (uint32_t b = 0, n, index = 0; b < pieces.blocks;
         b += n, x += n * 32, word += n * s->bits, index++) {
        bool second = s->constant_bits == 16 && index % 2;
        n = b ? pieces.group : pieces.lead;
        n = n < pieces.blocks - b ? n : pieces.blocks - b;
        constants = second ? constants & 0xffff0000 : word_of(panel, row, word++);
        float scale = f32_from_bits(s->constant_bits == 16 && !second ? constants << 16
                                                                      : constants & 0xffff0000);
        total =
            fma_f32(scale, DOT(n * 32, value_of(s, panel, row, word, i, constants), x[i]), total);
        if (s->offset == OFFSET_MINIMUM)
            total = fma_f32(f32_from_bits(constants << 16), DOT(n * 32, 1, x[i]), total);
    }
    return total + 0.0f;
}

static float scaled(const struct matrix *w, uint64_t row, float f)
{
    f = w->scale ? f * w->scale[row] : f;
    return w->bias ? f + w->bias[row] : f;
}

static float fold(float s[16])
{
    for (int half = 8; half; half /= 2)
        for (int c = 0; c < half; c++)
            s[c] = s[c] + s[c + half];
    return s[0];
}

static void norm(const float *x, const float *w, uint64_t n, float eps, float *y)
{
    float s[16] = {0};
    for (uint64_t i = 0; i < n; i++)
        s[i % 16] = fma_f32(x[i], x[i], s[i % 16]);
    float mean = fold(s) / (float)n, r = 1.0f / sqrtf(mean + eps);
    for (uint64_t i = 0; i < n; i++)
        y[i] = (x[i] * r) * w[i];
}

/* ---- phases of a rank, for row m of the step ---- */

static void full(const struct matrix *w, const float *x, float *out)
{
    for (uint64_t row = 0; row < w->rows; row++)
        out[row] = scaled(w, row, dot_leaf(w, row, 0, w->pieces, x));
}

/* Leaves of a matrix, folded to the rank's roots by its own program. */
static void leaf_dots(struct plain *d, const struct matrix *w, const struct leaf_run *leaves,
                      const float *x, float *roots, uint64_t m)
{
    uint64_t hidden = w->rows, rows = d->setup.rows_max;
    for (uint64_t row = 0; row < hidden; row++) {
        float stack[TREE_STACK_MAX];
        uint64_t depth = 0, col = 0, word = 0;
        for (uint32_t i = 0; i < leaves->count; i++) {
            const struct leaf *leaf = &leaves->leaves[i];
            stack[depth++] = dot_leaf(w, row, word, leaf->pieces, x + col);
            col += leaf->pieces.blocks * 32;
            word += leaf->panel_bytes / 64;
            for (uint8_t k = leaves->merges[i]; k; k--, depth--)
                stack[depth - 2] = stack[depth - 2] + stack[depth - 1];
        }
        for (uint64_t i = 0; i < depth; i++)
            roots[(i * rows + m) * hidden + row] = stack[i];
    }
}

/* The norm that comes next, of a row of the residual stream. */
static void next_norm(struct plain *d, struct rank *r, const struct op *op, uint64_t m)
{
    float *normed = r->normed + m * d->width;
    norm(r->residual + m * d->width, rank_norm(r->w, op->norm), d->setup.model->hidden,
         (float)d->setup.model->rms_eps, normed);
    for (uint64_t c = 0; c < d->setup.model->hidden; c++)
        normed[c] = entering(r, normed[c]);
}

static void reduce(struct plain *d, struct rank *r, int kind, const struct matrix *w,
                   const struct op *op, uint64_t m)
{
    const struct comm_tree *tree = kind ? &d->setup.comm->mlp : &d->setup.comm->attention;
    uint64_t hidden = d->setup.model->hidden, tp = d->setup.comm->size;
    float *residual = r->residual + m * d->width;
    for (uint64_t c = 0; c < hidden; c++) {
        float stack[TREE_STACK_MAX];
        const uint8_t *merges = tree->merges;
        uint64_t depth = 0;
        for (uint64_t rank = 0; rank < tp; rank++)
            for (uint64_t i = 0; i < tree->first_root[rank + 1] - tree->first_root[rank]; i++) {
                stack[depth++] =
                    d->ranks[rank].roots[kind][(i * d->setup.rows_max + m) * hidden + c];
                for (uint8_t k = *merges++; k; k--, depth--)
                    stack[depth - 2] = stack[depth - 2] + stack[depth - 1];
            }
        residual[c] = residual[c] + scaled(w, c, stack[0]);
    }
    next_norm(d, r, op, m);
}

static float *kv_of(const struct plain *d, const struct rank *r, uint32_t layer, uint32_t page,
                    int value, uint64_t position, uint64_t head)
{
    uint64_t heads = range_count(r->w->partition.kv_heads), dim = d->setup.model->head_dim;
    uint64_t at = (layer * d->setup.n_pages + page) * 2 + (uint64_t)value;
    return r->kv + ((at * POSITIONS + position) * heads + head) * dim;
}

static void rotate(const struct plain *d, float *x, uint64_t position)
{
    uint64_t half = d->setup.model->head_dim / 2;
    float cos[MODEL_HEAD_DIM_MAX], sin[MODEL_HEAD_DIM_MAX];
    rope_row(d->frequencies, half, position, d->setup.model->rope.attention_factor, cos, sin);
    for (uint64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = fma_f32(a, cos[i], -(b * sin[i]));
        x[i + half] = fma_f32(b, cos[i], a * sin[i]);
    }
}

static void rope_append(struct plain *d, struct rank *r, const struct op *op, uint64_t m)
{
    const struct layer_weights *w = &r->w->layers[op->layer];
    const struct step_row *row = &d->step->rows[m];
    uint64_t dim = d->setup.model->head_dim;
    float eps = (float)d->setup.model->rms_eps;
    for (uint64_t h = 0; h < range_count(r->w->partition.heads); h++) {
        float *q = r->q + m * d->width + h * dim;
        if (w->q_norm)
            norm(q, w->q_norm, dim, eps, q);
        rotate(d, q, row->position);
        for (uint64_t i = 0; i < dim; i++)
            q[i] = entering(r, q[i]);
    }
    for (uint64_t h = 0; h < range_count(r->w->partition.kv_heads); h++) {
        float *k = r->k + m * d->width + h * dim, *v = r->v + m * d->width + h * dim;
        uint32_t page = d->step->pages[row->sequence][row->position / POSITIONS];
        if (w->k_norm)
            norm(k, w->k_norm, dim, eps, k);
        rotate(d, k, row->position);
        for (uint64_t i = 0; i < dim; i++) {
            kv_of(d, r, op->layer, page, 0, row->position % POSITIONS, h)[i] =
                rounded(d->setup.kv_dtype, k[i]);
            kv_of(d, r, op->layer, page, 1, row->position % POSITIONS, h)[i] =
                rounded(d->setup.kv_dtype, v[i]);
        }
    }
}

/* One query over the chunks that it sees: section 6. */
static void attend(struct plain *d, struct rank *r, uint32_t layer, const struct step_row *row,
                   uint64_t kv_head, const float *q, float *out)
{
    uint64_t dim = d->setup.model->head_dim, pad = align_up(dim, 32), p = row->position;
    uint64_t window = d->setup.model->window[layer],
             lo = window && p + 1 > window ? p + 1 - window : 0;
    float scale = (float)(1.0 / sqrt((double)dim)), max = 0, sum = 0, o[MODEL_HEAD_DIM_MAX];
    for (uint64_t c = lo / POSITIONS; c <= p / POSITIONS; c++) {
        uint32_t page = d->step->pages[row->sequence][c];
        float e[POSITIONS], top = -INFINITY, s[16] = {0};
        for (uint64_t j = 0; j < POSITIONS; j++) {
            const float *k = kv_of(d, r, layer, page, 0, j, kv_head);
            bool seen = c * POSITIONS + j >= lo && c * POSITIONS + j <= p;
            e[j] = seen ? DOT(pad, i < dim ? q[i] : 0, i < dim ? k[i] : 0) * scale : -INFINITY;
            top = e[j] > top ? e[j] : top;
        }
        for (uint64_t j = 0; j < POSITIONS; j++) {
            e[j] = e[j] > -INFINITY ? exp_of(e[j] - top) : 0;
            s[j % 16] = e[j] + s[j % 16];
            e[j] = entering(r, e[j]);
        }
        bool first = c == lo / POSITIONS;
        float l = fold(s), m = first || top > max ? top : max;
        float a = first || m == max ? 1 : exp_of(max - m), b = m == top ? 1 : exp_of(top - m);
        sum = first ? l : fma_f32(sum, a, l * b);
        for (uint64_t n = 0; n < dim; n++) {
            float v = DOT(POSITIONS, e[i], kv_of(d, r, layer, page, 1, i, kv_head)[n]);
            o[n] = first ? v : fma_f32(o[n], a, v * b);
        }
        max = m;
    }
    for (uint64_t n = 0; n < dim; n++)
        out[n] = entering(r, o[n] / sum + 0.0f);
}

static void attention(struct plain *d, struct rank *r, const struct op *op, uint64_t m)
{
    const struct partition *p = &r->w->partition;
    uint64_t dim = d->setup.model->head_dim,
             group = d->setup.model->n_heads / d->setup.model->n_kv_heads;
    float *attn = r->attn + m * d->width, out[MODEL_HEAD_DIM_MAX];
    memset(attn, 0, d->width * sizeof(float));
    for (uint64_t h = 0; h < range_count(p->heads); h++) {
        attend(d, r, op->layer, &d->step->rows[m], (p->heads.begin + h) / group - p->kv_heads.begin,
               r->q + m * d->width + h * dim, out);
        for (uint64_t i = 0; i < dim; i++)
            attn[r->w->o_columns[h * dim + i]] = out[i];
    }
}

static void gate_up(struct plain *d, struct rank *r, const struct op *op, uint64_t m)
{
    const struct layer_weights *w = &r->w->layers[op->layer];
    const float *x = r->normed + m * d->width;
    float *act = r->act + m * d->width;
    memset(act, 0, d->width * sizeof *act);
    full(&w->gate, x, act);
    full(&w->up, x, d->dots);
    for (uint64_t i = 0; i < w->gate.rows; i++)
        act[i] = entering(r, act[i] / (1.0f + exp_of(-act[i])) * d->dots[i]);
}

/* To everyone: the residual stream begins with it. */
static void embed(struct plain *d, struct rank *r, uint64_t m)
{
    uint64_t token = d->step->rows[m].token, first = r->w->partition.vocab.begin;
    if (token < first || token >= r->w->partition.vocab.end)
        return;
    for (uint64_t rank = 0; rank < d->setup.comm->size; rank++)
        for (uint64_t c = 0; c < d->setup.model->hidden; c++)
            d->ranks[rank].residual[m * d->width + c] = value_of(
                r->w->embed.stored, r->w->embed.w + (token - first) / 16 * r->w->embed.panel_bytes,
                token - first, 0, c, 0);
}

static void run_row(struct plain *d, struct rank *r, const struct op *op, uint64_t m)
{
    const struct layer_weights *w = &r->w->layers[op->layer];
    const float *x = r->normed + m * d->width;
    switch (op->phase) {
    case PHASE_EMBED:
        return embed(d, r, m);
    case PHASE_ENTER:
        return next_norm(d, r, op, m);
    case PHASE_QKV:
        full(&w->q, x, r->q + m * d->width);
        full(&w->k, x, r->k + m * d->width);
        return full(&w->v, x, r->v + m * d->width);
    case PHASE_ROPE_APPEND:
        return rope_append(d, r, op, m);
    case PHASE_ATTENTION:
        return attention(d, r, op, m);
    case PHASE_O_PROJ:
        return leaf_dots(d, &w->o, &r->w->attention, r->attn + m * d->width, r->roots[0], m);
    case PHASE_REDUCE_ATTENTION:
        return reduce(d, r, 0, &w->o, op, m);
    case PHASE_GATE_UP:
        return gate_up(d, r, op, m);
    case PHASE_DOWN:
        return leaf_dots(d, &w->down, &r->w->mlp, r->act + m * d->width, r->roots[1], m);
    case PHASE_REDUCE_MLP:
        return reduce(d, r, 1, &w->down, op, m);
    default:
        return full(&r->w->lm_head, x,
                    d->logits + m * d->device.logit_stride + r->w->partition.vocab.begin);
    }
}

/* ---- the device ---- */

static void run(void *arg, const struct op *op)
{
    struct plain *d = arg;
    for (uint64_t rank = 0; rank < d->setup.comm->size; rank++)
        for (uint64_t m = 0; m < d->step->n_rows; m++)
            run_row(d, &d->ranks[rank], op, m);
}

static void meet(void *arg, enum comm_what what)
{
    ((struct plain *)arg)->setup.comm->meetings += what != COMM_CREW;
}

static void after_layer(void *arg, uint32_t layer)
{
    const struct plain *d = arg;
    d->step->after_layer(d->step->after_layer_arg, layer);
    if (layer + 1 == d->setup.model->n_layers)
        d->step->after_layer(d->step->after_layer_arg, layer + 1);
}

static bool step(struct device *device, const struct step *step, struct tp_error *err)
{
    (void)err;
    struct plain *d = self_of(device);
    unsigned mode = threads_set_fp_mode();
    d->step = step;
    forward_walk(step, (struct range){0, d->setup.model->n_layers},
                 &(struct walker){run, meet, step->after_layer ? after_layer : NULL, d});
    threads_restore_fp_mode(mode);
    return true;
}

/* A row at a time: every row of the step has its logits by now. */
static const float *logits(struct device *device, const struct step *step, uint32_t first,
                           uint32_t *count, struct tp_error *err)
{
    (void)err;
    *count = 1;
    return self_of(device)->logits + step->logit_rows[first] * device->logit_stride;
}

static void read_row(const struct device *device, const struct step *step, uint32_t row,
                     bool normed, float *out)
{
    const struct plain *d = (const struct plain *)(const void *)device;
    (void)step;
    memcpy(out, (normed ? d->ranks[0].normed : d->ranks[0].residual) + row * d->width,
           d->setup.model->hidden * sizeof *out);
}

static void clear_page(struct device *device, uint32_t page)
{
    (void)device, (void)page; /* nothing is read that was not written */
}

static bool check_isa(const char *isa, struct tp_error *err)
{
    return !isa || tp_fail(err, TP_E_ISA, "--isa %s: plain loops are all there is", isa);
}

static bool plan(const struct device_setup *setup, struct device_plan *plan, struct tp_error *err)
{
    (void)setup, (void)err;
    *plan = (struct device_plan){
        .n_memories = 1, .available = {host_memory_available()}, .allowed = host_memory_limit()};
    return true;
}

static void close_device(struct device *device)
{
    mem_arena_free(&self_of(device)->arena);
    mem_free(device);
}

static uint64_t widest(const struct model_config *m)
{
    uint64_t width = m->hidden > m->d_ff ? m->hidden : m->d_ff,
             heads =
                 m->n_heads * (align_up(m->head_dim, 32) + 32); /* a group cuts a leaf once more */
    return (width > heads ? width : heads) + 64;
}

static float *floats(struct plain *d, uint64_t n)
{
    struct tp_error err = {0};
    float *p = mem_arena_alloc(&d->arena, n * sizeof *p, &err);
    tp_assert(p);
    return p;
}

static struct device *open_device(const struct device_setup *setup, struct tp_error *err)
{
    struct plain *d = mem_alloc(sizeof *d, err);
    const struct model_config *m = setup->model;
    uint64_t rows = setup->rows_max, n = widest(m);
    *d = (struct plain){
        .device = {.type = &device_cpu, .kernels = "plain", .logit_stride = m->vocab},
        .setup = *setup,
        .width = n};
    d->dots = floats(d, n);
    d->logits = floats(d, rows * m->vocab);
    rope_frequencies(m, d->frequencies);
    for (uint64_t rank = 0; rank < setup->comm->size; rank++) {
        struct rank *r = &d->ranks[rank];
        float **own[] = {&r->residual, &r->normed, &r->q, &r->k, &r->v, &r->attn, &r->act};
        r->w = &setup->weights->ranks[rank];
        for (int i = 0; i < 7; i++)
            *own[i] = floats(d, rows * n);
        for (int i = 0; i < 2; i++)
            r->roots[i] = floats(d, TREE_ROOTS_MAX * rows * m->hidden);
        r->kv = floats(d, m->n_layers * setup->n_pages * 2 * POSITIONS *
                              range_count(r->w->partition.kv_heads) * m->head_dim);
    }
    return &d->device;
}

static void introduce(struct device *device, struct comm_hello *hellos)
{
    (void)device;
    for (uint64_t r = 0; r < self_of(device)->setup.comm->size; r++)
        strcpy(hellos[r].kernels, "plain");
}

const struct device_type device_cpu = {.name = "plain",
                                       .check_isa = check_isa,
                                       .plan = plan,
                                       .open = open_device,
                                       .close = close_device,
                                       .introduce = introduce,
                                       .step = step,
                                       .logits = logits,
                                       .read_row = read_row,
                                       .clear_page = clear_page};
