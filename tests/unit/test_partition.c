/* The partition tiles every tensor exactly at every degree, and the tree is one tree at all of
 * them. */
#include "partition.h"

#include "checked.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model_config model_of(uint64_t heads, uint64_t kv, uint64_t head_dim, uint64_t ff,
                                    uint64_t vocab)
{
    struct model_config m = {0};
    m.n_heads = heads;
    m.n_kv_heads = kv;
    m.head_dim = head_dim;
    m.d_ff = ff;
    m.vocab = vocab;
    m.hidden = 64;
    m.n_layers = 1;
    return m;
}

static const struct {
    uint64_t heads, kv, head_dim, ff, vocab;
    /* clang-format off */
} shapes[] = {
    {1, 1, 8, 1, 1},       {5, 5, 32, 256, 512},     {7, 1, 16, 300, 512},
    {9, 3, 64, 1536, 49152}, {14, 2, 64, 4864, 151936}, {28, 4, 128, 18944, 152064},
    {32, 8, 128, 14336, 32000}, {64, 8, 128, 28672, 128256}, {65, 5, 80, 33, 17},
    {96, 8, 128, 49152, 256000}, {128, 128, 64, 53248, 515}, {1024, 1, 2, 1 << 20, 1 << 24},
};
/* clang-format on */

static void ranks_tile_everything_at_every_degree(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct model_config m = model_of(shapes[s].heads, shapes[s].kv, shapes[s].head_dim,
                                         shapes[s].ff, shapes[s].vocab);
        for (uint64_t tp = 1; tp <= PARTITION_TP_MAX; tp++) {
            uint64_t head = 0, ff = 0, vocab = 0;
            for (uint64_t r = 0; r < tp; r++) {
                struct partition p = partition_of(&m, tp, r);
                if (range_count(p.heads)) {
                    assert_int_equal(p.heads.begin, head);
                    head = p.heads.end;
                    uint64_t group = m.n_heads / m.n_kv_heads;
                    assert_true(p.kv_heads.begin * group <= p.heads.begin);
                    assert_true(p.kv_heads.end * group >= p.heads.end);
                    assert_true(range_count(p.kv_heads) <= range_count(p.heads));
                }
                if (range_count(p.ff)) {
                    assert_int_equal(p.ff.begin, ff);
                    ff = p.ff.end;
                }
                if (range_count(p.vocab)) {
                    assert_int_equal(p.vocab.begin, vocab);
                    vocab = p.vocab.end;
                }
            }
            assert_int_equal(head, m.n_heads);
            assert_int_equal(ff, m.d_ff);
            assert_int_equal(vocab, m.vocab);
        }
    }
}

static void leaves_tile_their_columns(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct model_config m = model_of(shapes[s].heads, shapes[s].kv, shapes[s].head_dim,
                                         shapes[s].ff, shapes[s].vocab);
        struct leaves kinds[2] = {leaves_of_attention(&m), leaves_of_mlp(&m)};
        for (int kind = 0; kind < 2; kind++) {
            uint64_t at = 0;
            for (uint64_t i = 0; i < kinds[kind].count; i++) {
                struct range c = leaf_columns(&kinds[kind], i);
                assert_int_equal(c.begin, at);
                assert_true(c.end > c.begin);
                at = c.end;
            }
            assert_int_equal(at, kinds[kind].columns);
        }
    }
}

/* The tree written as docs/numerics.md says it, as text: "(a+b)". */
static void tree_text(uint64_t n, uint64_t k, uint64_t i, char *out)
{
    uint64_t parts = UINT64_C(1) << k, begin = cut(n, i, parts), end = cut(n, i + 1, parts);
    if (end - begin == 1) {
        sprintf(out + strlen(out), "%llu", (unsigned long long)begin);
        return;
    }
    uint64_t middle = cut(n, 2 * i + 1, 2 * parts);
    if (middle == begin || middle == end) {
        tree_text(n, k + 1, 2 * i + (middle == begin), out);
        return;
    }
    strcat(out, "(");
    tree_text(n, k + 1, 2 * i, out);
    strcat(out, "+");
    tree_text(n, k + 1, 2 * i + 1, out);
    strcat(out, ")");
}

static void fold(char **stack, uint64_t *depth, uint8_t merges)
{
    for (; merges; merges--) {
        char *b = stack[--*depth], *a = stack[*depth - 1];
        char *sum = malloc(strlen(a) + strlen(b) + 4);
        sprintf(sum, "(%s+%s)", a, b);
        free(a);
        free(b);
        stack[*depth - 1] = sum;
    }
}

static void every_degree_folds_the_same_tree(void **state)
{
    (void)state;
    static char want[65536];
    for (uint64_t n = 1; n <= 200; n++) {
        want[0] = '\0';
        tree_text(n, 0, 0, want);
        for (uint64_t tp = 1; tp <= PARTITION_TP_MAX; tp++) {
            uint8_t local[1024], global[PARTITION_TP_MAX * TREE_ROOTS_MAX];
            char *roots[1024];
            uint64_t n_roots = 0;
            for (uint64_t r = 0; r < tp; r++) {
                struct range owned = {cut(n, r, tp), cut(n, r + 1, tp)};
                uint64_t depth = 0, count = tree_local(n, owned, local);
                assert_true(count <= TREE_ROOTS_MAX);
                for (uint64_t leaf = owned.begin; leaf < owned.end; leaf++) {
                    char name[24];
                    snprintf(name, sizeof name, "%llu", (unsigned long long)leaf);
                    roots[n_roots + depth++] = strdup(name);
                    assert_true(depth <= TREE_STACK_MAX);
                    fold(roots + n_roots, &depth, local[leaf - owned.begin]);
                }
                assert_int_equal(depth, count);
                n_roots += depth;
            }
            assert_int_equal(tree_global(n, tp, global), n_roots);
            char *stack[1024];
            uint64_t depth = 0;
            for (uint64_t j = 0; j < n_roots; j++) {
                stack[depth++] = roots[j];
                assert_true(depth <= TREE_STACK_MAX);
                fold(stack, &depth, global[j]);
            }
            assert_int_equal(depth, 1);
            assert_string_equal(stack[0], want);
            free(stack[0]);
        }
    }
}

static void powers_of_two_own_one_root_each(void **state)
{
    (void)state;
    uint8_t merges[1024];
    for (uint64_t n = 1; n <= 64; n++)
        for (uint64_t tp = 1; tp <= 32; tp *= 2)
            for (uint64_t r = 0; r < tp; r++) {
                struct range owned = {cut(n, r, tp), cut(n, r + 1, tp)};
                if (range_count(owned))
                    assert_int_equal(tree_local(n, owned, merges), 1);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_tile_everything_at_every_degree),
        cmocka_unit_test(leaves_tile_their_columns),
        cmocka_unit_test(every_degree_folds_the_same_tree),
        cmocka_unit_test(powers_of_two_own_one_root_each),
    };
    return cmocka_run_group_tests_name("partition", tests, NULL, NULL);
}
