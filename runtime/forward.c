#include "forward.h"

#include "rope.h"

struct crew crew_of(uint64_t tp_size, int thread, int threads)
{
    uint64_t t = (uint64_t)thread, n = (uint64_t)threads;
    if (n < tp_size)
        return (struct crew){{cut(tp_size, t, n), cut(tp_size, t + 1, n)}, {0, 1}};
    uint64_t r = 0;
    while (cut(n, r + 1, tp_size) <= t)
        r++;
    uint64_t first = cut(n, r, tp_size);
    return (struct crew){{r, r + 1}, {t - first, cut(n, r + 1, tp_size) - first}};
}

static void each_rank(struct forward *f, const struct crew *crew, backend_phase *phase,
                      uint32_t layer)
{
    for (uint64_t r = crew->ranks.begin; r < crew->ranks.end; r++)
        phase(f->ranks[r], &f->step, layer, crew->share);
}

/* cos and sin of the rows' positions: the same for all ranks. */
static void rope_rows(struct forward *f, int thread)
{
    struct step *s = &f->step;
    uint64_t half = f->model->head_dim / 2;
    uint64_t end = cut(s->n_rows, (uint64_t)thread + 1, (uint64_t)f->threads);
    for (uint64_t m = cut(s->n_rows, (uint64_t)thread, (uint64_t)f->threads); m < end; m++)
        rope_row(f->rope, half, s->rows[m].position, f->model->rope.attention_factor,
                 s->cos + m * half, s->sin + m * half);
}

/* Hash the residual rows as their owners have them; nobody changes them before this thread's next
 * meeting. */
static void trace_rows(struct forward *f, int thread, uint32_t layer)
{
    if (!f->trace || thread != 0)
        return;
    for (uint64_t r = 0; r < f->comm->size; r++) {
        struct range rows = step_rows_of(&f->step, r, f->comm->size);
        for (uint64_t m = rows.begin; m < rows.end; m++) {
            if (layer < f->model->n_layers)
                f->backend->read_residual(f->ranks[r], &f->step, (uint32_t)m, f->trace->row);
            else
                f->backend->read_normed(f->ranks[r], &f->step, (uint32_t)m, f->trace->row);
            trace_add(f->trace, f->step.rows[m].sequence, layer, f->trace->row);
        }
    }
}

void forward_step(struct forward *f, int thread)
{
    const struct backend *be = f->backend;
    struct comm *comm = f->comm;
    const struct crew crew = crew_of(comm->size, thread, f->threads);

    rope_rows(f, thread);
    each_rank(f, &crew, be->embed, 0);
    comm->exchange(comm, COMM_ROWS); /* embedded rows, each from the owner of its token */
    each_rank(f, &crew, be->enter, 0);
    comm->exchange(comm, COMM_ROWS); /* normed rows */

    for (uint32_t layer = 0; layer < f->model->n_layers; layer++) {
        each_rank(f, &crew, be->qkv, layer);
        comm->exchange(comm, COMM_SYNC);
        each_rank(f, &crew, be->rope_append, layer);
        comm->exchange(comm, COMM_SYNC);
        each_rank(f, &crew, be->attention, layer);
        comm->exchange(comm, COMM_SYNC);
        each_rank(f, &crew, be->o_proj, layer);
        comm->exchange(comm, COMM_ROOTS); /* all-reduce: roots out, ... */
        each_rank(f, &crew, be->reduce_attention, layer);
        comm->exchange(comm, COMM_ROWS); /* ... normed rows back */

        each_rank(f, &crew, be->gate_up, layer);
        comm->exchange(comm, COMM_SYNC);
        each_rank(f, &crew, be->down, layer);
        comm->exchange(comm, COMM_ROOTS); /* all-reduce */
        each_rank(f, &crew, be->reduce_mlp, layer);
        comm->exchange(comm, COMM_ROWS);
        trace_rows(f, thread, layer);
    }
    /* the last reduction applied the final norm */
    trace_rows(f, thread, (uint32_t)f->model->n_layers);
}

void forward_logits(struct forward *f, int thread)
{
    const struct crew crew = crew_of(f->comm->size, thread, f->threads);
    each_rank(f, &crew, f->backend->logits, 0);
    f->comm->exchange(f->comm, COMM_LOGITS); /* gather: every rank's part of the vocabulary */
}
