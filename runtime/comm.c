#include "comm.h"

#include "checked.h"
#include "mem.h"
#include <stdio.h>
#include <string.h>

void comm_tree_init(struct comm_tree *tree, uint64_t n_leaves, uint64_t tp_size)
{
    uint8_t local[PARTITION_LEAVES_MAX];
    tree->first_root[0] = 0;
    for (uint64_t r = 0; r < tp_size; r++) {
        struct range owned = {cut(n_leaves, r, tp_size), cut(n_leaves, r + 1, tp_size)};
        tree->first_root[r + 1] = tree->first_root[r] + tree_local(n_leaves, owned, local);
    }
    tree->n_roots = tree_global(n_leaves, tp_size, tree->merges);
    tp_assert(tree->n_roots == tree->first_root[tp_size]);
}

/* ---- shared memory ---- */

static void meet(struct comm *comm, enum comm_what what)
{
    (void)what; /* in shared memory all are the same: what was written lies where it is read */
    barrier_wait(&comm->barrier);
}

/* Sizes, and with base the addresses, of the shared buffers. */
static bool place(struct comm *comm, unsigned char *base, uint64_t *bytes, struct tp_error *err)
{
    uint64_t at = 0, n;
    float **slots[PARTITION_TP_MAX + 2] = {&comm->rows, &comm->logits};
    uint64_t counts[PARTITION_TP_MAX + 2][3] = {{1, comm->rows_max, comm->row_stride},
                                                {1, comm->slice_max, comm->logit_stride}};
    for (uint64_t r = 0; r < comm->size; r++) {
        uint64_t a = comm->attention.first_root[r + 1] - comm->attention.first_root[r];
        uint64_t m = comm->mlp.first_root[r + 1] - comm->mlp.first_root[r];
        slots[r + 2] = &comm->roots[r];
        counts[r + 2][0] = a > m ? a : m;
        counts[r + 2][1] = comm->rows_max;
        counts[r + 2][2] = comm->root_stride;
    }
    for (uint64_t i = 0; i < comm->size + 2; i++) {
        if (base)
            *slots[i] = (float *)(void *)(base + at);
        if (!tp_mul(counts[i][0], counts[i][1], &n) ||
            !tp_mul(n, counts[i][2] * sizeof(float), &n) || !tp_align_up(n, 64, &n) ||
            !tp_add(at, n, &at))
            return tp_fail(err, TP_E_LIMIT, "exchange buffers of %llu rows do not fit in 64 bits",
                           (unsigned long long)comm->rows_max);
    }
    *bytes = at;
    return true;
}

static void shape(struct comm *comm, const struct model_config *model, uint64_t tp_size,
                  uint64_t rows_max, uint64_t slice_max)
{
    *comm = (struct comm){
        .name = "threads",
        .size = tp_size,
        .row_stride = align_up(model->hidden, 32),
        .logit_stride = align_up(model->vocab, 16),
        .root_stride = align_up(model->hidden, 16),
        .rows_max = rows_max,
        .slice_max = slice_max,
        .exchange = meet,
    };
    comm_tree_init(&comm->attention, leaves_of_attention(model).count, tp_size);
    comm_tree_init(&comm->mlp, leaves_of_mlp(model).count, tp_size);
}

bool comm_bytes(const struct model_config *model, uint64_t tp_size, uint64_t rows_max,
                uint64_t slice_max, uint64_t *bytes, struct tp_error *err)
{
    struct comm comm;
    shape(&comm, model, tp_size, rows_max, slice_max);
    return place(&comm, NULL, bytes, err);
}

bool comm_open_threads(struct comm *comm, const struct model_config *model, uint64_t tp_size,
                       uint64_t rows_max, uint64_t slice_max, int threads, struct tp_error *err)
{
    shape(comm, model, tp_size, rows_max, slice_max);
    if (!place(comm, NULL, &comm->memory_bytes, err))
        return false;
    comm->memory = mem_map_alloc(comm->memory_bytes, err);
    if (!comm->memory)
        return false;
    barrier_init(&comm->barrier, threads);
    return place(comm, comm->memory, &comm->memory_bytes, err);
}

void comm_close(struct comm *comm)
{
    if (comm->memory)
        mem_map_free(comm->memory, comm->memory_bytes);
    *comm = (struct comm){0};
}

/* ---- handshake ---- */

static bool differ(struct tp_error *err, const struct comm_hello *a, const struct comm_hello *b,
                   const char *what, const char *of_a, const char *of_b)
{
    return tp_fail(err, TP_E_HANDSHAKE, "ranks %u and %u do not belong together: %s %s and %s",
                   a->rank, b->rank, what, of_a, of_b);
}

static bool same_number(struct tp_error *err, const struct comm_hello *a,
                        const struct comm_hello *b, const char *what, uint32_t of_a, uint32_t of_b)
{
    char x[16], y[16];
    snprintf(x, sizeof x, "0x%x", of_a);
    snprintf(y, sizeof y, "0x%x", of_b);
    return of_a == of_b || differ(err, a, b, what, x, y);
}

static bool same_hash(struct tp_error *err, const struct comm_hello *a, const struct comm_hello *b,
                      const char *what, struct hash128 of_a, struct hash128 of_b)
{
    char x[33], y[33];
    hash_to_hex(of_a, x);
    hash_to_hex(of_b, y);
    return hash_equal(of_a, of_b) || differ(err, a, b, what, x, y);
}

bool comm_handshake(const struct comm_hello *hellos, uint64_t size, struct tp_error *err)
{
    const struct comm_hello *a = &hellos[0];
    for (uint64_t r = 0; r < size; r++) {
        const struct comm_hello *b = &hellos[r];
        if (b->rank != r)
            return tp_fail(err, TP_E_HANDSHAKE, "rank %u answered in place of rank %llu", b->rank,
                           (unsigned long long)r);
        if (!same_number(err, a, b, "format version", a->format_version, b->format_version) ||
            !same_hash(err, a, b, "bundle id", a->bundle_id, b->bundle_id) ||
            !same_number(err, a, b, "TP degree", a->tp_size, b->tp_size) ||
            !same_number(err, a, b, "TP degree", b->tp_size, (uint32_t)size) ||
            !same_hash(err, a, b, "rank map", a->rank_map, b->rank_map) ||
            !same_hash(err, a, b, "model and recipe", a->config, b->config) ||
            !same_number(err, a, b, "floating-point mode", a->mxcsr, b->mxcsr))
            return false;
        if (strncmp(a->kernels, b->kernels, sizeof a->kernels) != 0)
            return differ(err, a, b, "kernels", a->kernels, b->kernels);
    }
    return true;
}
