/* The phases of the CPU between the matrices: rows of the residual stream. */
#include "cpu.h"

#include <string.h>

void cpu_embed(struct cpu_rank *r, const struct step *step, const struct op *op, struct share share)
{
    (void)op;
    const struct matrix *w = &r->weights->embed;
    struct range vocab = r->weights->partition.vocab, mine = share_of(step->n_rows, share);
    for (uint64_t m = mine.begin; m < mine.end; m++) {
        uint64_t token = step->rows[m].token;
        if (token < vocab.begin || token >= vocab.end)
            continue;
        uint64_t row = token - vocab.begin;
        r->kernels->panel_row[w->stored->id](w->w + row / PANEL_ROWS * w->panel_bytes,
                                             w->k / BLOCK_COLS, row % PANEL_ROWS,
                                             r->device->rows + m * r->device->row_stride);
    }
}

/* The rows whose residual stream this rank holds: all of them in a one-shot step. */
static struct range rows_of(const struct cpu_rank *r, const struct step *step, struct share share)
{
    struct range rows = {0, step->n_rows};
    if (!step_one_shot(step))
        rows = step_rows_of(step, r->rank, r->device->setup.comm->size);
    struct range mine = share_of(range_count(rows), share);
    return (struct range){rows.begin + mine.begin, rows.begin + mine.end};
}

static void norm_row(const struct cpu_rank *r, const struct step *step, uint64_t m, uint32_t norm)
{
    uint64_t at = m * r->device->row_stride;
    r->kernels->rms_norm(r->residual + at, rank_norm(r->weights, norm), r->model->hidden, r->eps,
                         r->bf16, cpu_normed(r, step) + at);
}

void cpu_enter(struct cpu_rank *r, const struct step *step, const struct op *op, struct share share)
{
    struct range rows = rows_of(r, step, share);
    for (uint64_t m = rows.begin; m < rows.end; m++) {
        uint64_t at = m * r->device->row_stride;
        memcpy(r->residual + at, r->device->rows + at, r->model->hidden * sizeof(float));
        norm_row(r, step, m, op->norm);
    }
}

/* The roots of all ranks for row m, folded with the global program.
 *   stack  [TREE_STACK_MAX][root_stride] */
static const float *fold_row(const struct cpu_rank *r, const struct cpu_roots *roots, uint64_t m,
                             float *stack)
{
    const float *values[TREE_STACK_MAX];
    const uint8_t *merges = roots->tree->merges;
    const uint64_t *first = roots->tree->first_root, stride = r->device->root_stride;
    uint64_t depth = 0;
    for (uint64_t rank = 0; rank < r->device->setup.comm->size; rank++)
        for (uint64_t i = 0; i < first[rank + 1] - first[rank]; i++) {
            values[depth++] = cpu_root(r->device, roots, rank, i, m);
            for (uint8_t k = *merges++; k; k--) {
                float *sum = stack + (--depth - 1) * stride;
                r->kernels->add(values[depth - 1], values[depth], r->model->hidden, sum);
                values[depth - 1] = sum;
            }
        }
    return values[0];
}

static void reduce(struct cpu_rank *r, const struct step *step, const struct cpu_roots *roots,
                   const struct matrix *w, const struct op *op, struct share share)
{
    struct range rows = rows_of(r, step, share);
    float *stack = cpu_scratch(r, share);
    for (uint64_t m = rows.begin; m < rows.end; m++) {
        const float *value = fold_row(r, roots, m, stack);
        if (w->scale || w->bias) {
            r->kernels->scale_bias(value, w->scale, w->bias, r->model->hidden, stack);
            value = stack;
        }
        float *residual = r->residual + m * r->device->row_stride;
        r->kernels->add(residual, value, r->model->hidden, residual);
        norm_row(r, step, m, op->norm);
    }
}

void cpu_reduce_attention(struct cpu_rank *r, const struct step *step, const struct op *op,
                          struct share share)
{
    reduce(r, step, &r->device->attention, &r->weights->layers[op->layer].o, op, share);
}

void cpu_reduce_mlp(struct cpu_rank *r, const struct step *step, const struct op *op,
                    struct share share)
{
    reduce(r, step, &r->device->mlp, &r->weights->layers[op->layer].down, op, share);
}
