/* Ranks together: the reduction has the tree's bits at every degree, and a mixed set is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "comm.h"
#include "dtype.h"
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the tree ---- */

static float leaf_value(uint64_t i)
{
    uint32_t x = (uint32_t)(i * 2654435761u + 12345);
    return ((float)(x >> 8) - 8388608.0f) * 0x1p-20f;
}

/* value(node) = value(left) + value(right), as docs/numerics.md writes it */
static float node_value(uint64_t n, uint64_t k, uint64_t i)
{
    uint64_t begin = cut(n, i, UINT64_C(1) << k), end = cut(n, i + 1, UINT64_C(1) << k);
    if (end - begin == 1)
        return leaf_value(begin);
    uint64_t middle = cut(n, 2 * i + 1, UINT64_C(2) << k);
    if (middle == begin)
        return node_value(n, k + 1, 2 * i + 1);
    if (middle == end)
        return node_value(n, k + 1, 2 * i);
    return node_value(n, k + 1, 2 * i) + node_value(n, k + 1, 2 * i + 1);
}

static uint64_t fold(float *stack, uint64_t depth, float value, uint8_t merges)
{
    stack[depth++] = value;
    for (; merges; merges--, depth--)
        stack[depth - 2] += stack[depth - 1];
    return depth;
}

/* What the ranks of a degree make of the leaves. */
static float reduced(uint64_t n, uint64_t tp_size)
{
    struct comm_tree tree;
    uint8_t local[PARTITION_LEAVES_MAX];
    float roots[PARTITION_TP_MAX * TREE_ROOTS_MAX], stack[TREE_STACK_MAX];
    comm_tree_init(&tree, n, tp_size);
    for (uint64_t r = 0; r < tp_size; r++) {
        struct range owned = {cut(n, r, tp_size), cut(n, r + 1, tp_size)};
        uint64_t depth = 0, count = tree_local(n, owned, local);
        for (uint64_t i = owned.begin; i < owned.end; i++)
            depth = fold(stack, depth, leaf_value(i), local[i - owned.begin]);
        assert_int_equal(depth, count);
        assert_int_equal(tree.first_root[r + 1] - tree.first_root[r], count);
        for (uint64_t i = 0; i < depth; i++)
            roots[tree.first_root[r] + i] = stack[i];
    }
    uint64_t depth = 0;
    for (uint64_t i = 0; i < tree.n_roots; i++)
        depth = fold(stack, depth, roots[i], tree.merges[i]);
    assert_int_equal(depth, 1);
    return stack[0];
}

static void reduction_has_the_bits_of_the_tree_at_every_degree(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 130; n++) {
        uint32_t wanted = f32_bits(node_value(n, 0, 0));
        for (uint64_t tp_size = 1; tp_size <= PARTITION_TP_MAX; tp_size++)
            assert_int_equal(f32_bits(reduced(n, tp_size)), wanted);
    }
}

/* ---- meetings ---- */

static struct model_config small_model(void)
{
    return (struct model_config){.n_layers = 1,
                                 .hidden = 40,
                                 .n_heads = 5,
                                 .n_kv_heads = 5,
                                 .head_dim = 8,
                                 .d_ff = 100,
                                 .vocab = 50};
}

/* Three crews of two threads: a crew's meeting waits for its two, another for all. */
struct meeting {
    struct comm comm;
    _Atomic uint32_t of_crew[3], of_all;
};

static void meet_often(void *arg, int index, int count)
{
    struct meeting *m = arg;
    uint64_t crew = (uint64_t)index / 2;
    (void)count;
    for (uint32_t i = 1; i <= 200; i++) {
        m->of_crew[crew]++;
        m->comm.meet(&m->comm, index, COMM_CREW);
        assert_true(m->of_crew[crew] >= 2 * i);
        m->of_all++;
        m->comm.meet(&m->comm, index, i % 2 ? COMM_ROOTS : COMM_ROWS);
        assert_true(m->of_all >= 6 * i);
        m->comm.meet(&m->comm, index, COMM_CREW);
    }
}

static void a_crew_meets_alone_and_all_meet_together(void **state)
{
    (void)state;
    static struct meeting m;
    const struct model_config model = small_model();
    struct tp_error err = {0};
    assert_true(comm_open_threads(&m.comm, &model, 3, 6, 3, 0, &err));
    assert_true(threads_run(6, meet_often, &m, &err));
    assert_int_equal(m.of_all, 1200);
    comm_close(&m.comm);
}

static void whoever_waits_in_vain_ends_the_process(void **state)
{
    (void)state;
    static struct comm comm;
    const struct model_config model = small_model();
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct tp_error err = {0};
        comm_open_threads(&comm, &model, 2, 2, 2, 0, &err);
        comm.deadline = 1;
        fclose(stderr);
        comm.meet(&comm, 0, COMM_ROOTS);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == TP_EXIT_COMM);
}

/* ---- handshake ---- */

static void set_up(struct comm_hello hellos[3])
{
    for (uint32_t r = 0; r < 3; r++)
        hellos[r] = (struct comm_hello){.format_version = 1,
                                        .tp_size = 3,
                                        .rank = r,
                                        .fp_mode = 0x9fc0,
                                        .kernels = "scalar",
                                        .bundle_id = {{1}},
                                        .rank_map = {{2}},
                                        .config = {{3}}};
}

static void refused(const struct comm_hello hellos[3], const char *what)
{
    struct tp_error err = {0};
    assert_false(comm_handshake(hellos, 3, &err));
    assert_int_equal(err.code, TP_E_HANDSHAKE);
    assert_non_null(strstr(err.text, what));
}

static void handshake_accepts_ranks_of_one_bundle(void **state)
{
    (void)state;
    struct comm_hello hellos[3];
    struct tp_error err = {0};
    set_up(hellos);
    assert_true(comm_handshake(hellos, 3, &err));
}

static void handshake_refuses_every_difference_by_name(void **state)
{
    (void)state;
    struct comm_hello h[3];
    set_up(h), h[2].rank = 1, refused(h, "in place of rank 2");
    set_up(h), h[1].format_version = 2, refused(h, "ranks 0 and 1 do not belong together: format");
    set_up(h), h[2].bundle_id.bytes[15] = 9,
               refused(h, "ranks 0 and 2 do not belong together: bundle id");
    set_up(h), h[1].tp_size = 4, refused(h, "TP degree 0x3 and 0x4");
    set_up(h), h[2].rank_map.bytes[0] = 0, refused(h, "rank map");
    set_up(h), h[2].config.bytes[0] = 0, refused(h, "model and recipe");
    set_up(h), h[2].fp_mode = 0x1f80, refused(h, "floating-point mode 0x9fc0 and 0x1f80");
    set_up(h), strcpy(h[1].kernels, "avx2"), refused(h, "kernels scalar and avx2");
    set_up(h), h[0].tp_size = h[1].tp_size = h[2].tp_size = 4, refused(h, "TP degree 0x4 and 0x3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reduction_has_the_bits_of_the_tree_at_every_degree),
        cmocka_unit_test(a_crew_meets_alone_and_all_meet_together),
        cmocka_unit_test(whoever_waits_in_vain_ends_the_process),
        cmocka_unit_test(handshake_accepts_ranks_of_one_bundle),
        cmocka_unit_test(handshake_refuses_every_difference_by_name),
    };
    return cmocka_run_group_tests_name("comm", tests, NULL, NULL);
}
