/* The phases of the CPU between the matrices: rows of the residual stream. */
#include "cpu.h"

#include <string.h>

void cpu_embed(const struct cpu_crew *c, const struct step *step, const struct op *op,
               struct share share)
{
    (void)op;
    const struct range mine = share_of(step->n_rows, share);
    for (uint64_t m = mine.begin; m < mine.end; m++)
        for (uint64_t rank = c->ranks.begin; rank < c->ranks.end; rank++) {
            const struct cpu_rank *r = cpu_rank_of(c, rank);
            const struct matrix *w = &r->weights->embed;
            const struct range vocab = r->weights->partition.vocab;
            if (!range_has(vocab, step->rows[m].token))
                continue;
            const uint64_t row = step->rows[m].token - vocab.begin;
            r->kernels->panel_row[w->stored->id](w->w + row / PANEL_ROWS * w->panel_bytes,
                                                 w->k / BLOCK_COLS, row % PANEL_ROWS,
                                                 c->device->rows + m * c->device->row_stride);
        }
}

/* The rows whose residual stream this crew holds: all of them in a one-shot step. */
static struct range rows_of(const struct cpu_crew *c, const struct step *step, struct share share)
{
    struct range rows = {0, step->n_rows};
    if (!step_one_shot(step))
        rows = cpu_rows_of(c, step);
    struct range mine = share_of(range_count(rows), share);
    return (struct range){rows.begin + mine.begin, rows.begin + mine.end};
}

/* What all ranks have a copy of, norms and what comes behind a sum, is the first one's. */
static void norm_row(const struct cpu_crew *c, const struct step *step, uint64_t m, uint32_t norm)
{
    const struct cpu_rank *r = cpu_rank_of(c, c->ranks.begin);
    uint64_t at = m * c->device->row_stride;
    r->kernels->rms_norm(c->residual + at, rank_norm(r->weights, norm), r->model->hidden, r->eps,
                         r->bf16, cpu_normed(c, step) + at);
}

void cpu_enter(const struct cpu_crew *c, const struct step *step, const struct op *op,
               struct share share)
{
    struct range rows = rows_of(c, step, share);
    for (uint64_t m = rows.begin; m < rows.end; m++) {
        uint64_t at = m * c->device->row_stride;
        memcpy(c->residual + at, c->device->rows + at,
               c->device->setup.model->hidden * sizeof(float));
        norm_row(c, step, m, op->norm);
    }
}

/* The roots of all ranks for row m, folded with the global program.
 *   stack  [TREE_STACK_MAX][root_stride] */
static const float *fold_row(const struct cpu_device *d, const struct cpu_roots *roots, uint64_t m,
                             float *stack)
{
    const float *values[TREE_STACK_MAX];
    const uint8_t *merges = roots->tree->merges;
    const uint64_t *first = roots->tree->first_root, stride = d->root_stride;
    uint64_t depth = 0;
    for (uint64_t rank = 0; rank < d->setup.comm->size; rank++)
        for (uint64_t i = 0; i < first[rank + 1] - first[rank]; i++) {
            values[depth++] = cpu_root(d, roots, rank, i, m);
            for (uint8_t k = *merges++; k; k--) {
                float *sum = stack + (--depth - 1) * stride;
                d->kernels->add(values[depth - 1], values[depth], d->setup.model->hidden, sum);
                values[depth - 1] = sum;
            }
        }
    return values[0];
}

static void reduce(const struct cpu_crew *c, const struct step *step, const struct cpu_roots *roots,
                   const struct matrix *w, const struct op *op, struct share share)
{
    const struct cpu_device *d = c->device;
    const uint64_t hidden = d->setup.model->hidden;
    struct range rows = rows_of(c, step, share);
    float *stack = cpu_scratch(c, share);
    for (uint64_t m = rows.begin; m < rows.end; m++) {
        const float *value = fold_row(d, roots, m, stack);
        if (w->scale || w->bias) {
            d->kernels->scale_bias(value, w->scale, w->bias, hidden, stack);
            value = stack;
        }
        float *residual = c->residual + m * d->row_stride;
        d->kernels->add(residual, value, hidden, residual);
        norm_row(c, step, m, op->norm);
    }
}

static const struct layer_weights *layer_of(const struct cpu_crew *c, const struct op *op)
{
    return &cpu_rank_of(c, c->ranks.begin)->weights->layers[op->layer];
}

void cpu_reduce_attention(const struct cpu_crew *c, const struct step *step, const struct op *op,
                          struct share share)
{
    reduce(c, step, &c->device->attention, &layer_of(c, op)->o, op, share);
}

void cpu_reduce_mlp(const struct cpu_crew *c, const struct step *step, const struct op *op,
                    struct share share)
{
    reduce(c, step, &c->device->mlp, &layer_of(c, op)->down, op, share);
}
