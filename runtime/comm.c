#include "comm.h"

#include "program.h"
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

/* ---- threads ---- */

static void meet(struct comm *comm, int thread, enum comm_what what)
{
    const uint64_t threads = (uint64_t)comm->all.count,
                   crew = crew_with(threads, (uint64_t)thread, comm->crews);
    struct barrier *barrier = &comm->all;
    int index = thread;
    if (what == COMM_CREW) {
        barrier = &comm->of_crew[crew];
        index -= (int)crew_range(threads, crew, comm->crews).begin;
    }
    if (barrier->count == 1 || barrier_wait_for(barrier, index, comm->deadline))
        return;
    struct tp_error err = {0};
    tp_fail(&err, TP_E_RANK, "rank %llu: the others did not come to a meeting within %u seconds",
            (unsigned long long)crew_range(comm->size, crew, comm->crews).begin, comm->deadline);
    program_give_up(&err);
}

static bool allgather(struct comm *comm, const void *mine, void *all, size_t bytes,
                      struct tp_error *err)
{
    (void)err;
    memcpy(all, mine, comm->size * bytes);
    return true;
}

bool comm_open_threads(struct comm *comm, const struct model_config *model, uint64_t tp_size,
                       int threads, uint64_t crews, uint32_t deadline, struct tp_error *err)
{
    *comm = (struct comm){.size = tp_size,
                          .crews = crews,
                          .meet = meet,
                          .allgather = allgather,
                          .deadline = deadline ? deadline : COMM_DEADLINE_SECONDS};
    comm_tree_init(&comm->attention, leaves_of_attention(model).count, tp_size);
    comm_tree_init(&comm->mlp, leaves_of_mlp(model).count, tp_size);
    bool ok = barrier_init(&comm->all, threads, err);
    for (uint64_t c = 0; ok && c < crews; c++) {
        ok = barrier_init(&comm->of_crew[c],
                          (int)range_count(crew_range((uint64_t)threads, c, crews)), err);
        comm->of_crew[c].crowded = comm->all.crowded;
    }
    if (!ok)
        comm_close(comm);
    return ok;
}

void comm_close(struct comm *comm)
{
    barrier_free(&comm->all);
    for (uint64_t c = 0; c < comm->crews; c++)
        barrier_free(&comm->of_crew[c]);
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
            !same_number(err, a, b, "floating-point mode", a->fp_mode, b->fp_mode))
            return false;
        if (strncmp(a->kernels, b->kernels, sizeof a->kernels) != 0)
            return differ(err, a, b, "kernels", a->kernels, b->kernels);
    }
    return true;
}
