/* Pages of the KV cache: given in turn, cleared when they had another owner, never twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kv_cache.h"

static int cleared[8];

static void clear(void *arg, uint32_t page)
{
    assert_ptr_equal(arg, cleared);
    cleared[page]++;
}

static bool extend(struct kv_cache *cache, uint32_t sequence, uint64_t positions)
{
    return kv_cache_extend(cache, sequence, positions, clear, cleared);
}

static void pages_are_given_as_positions_grow(void **state)
{
    (void)state;
    struct kv_cache cache;
    struct tp_error err = {0};
    assert_true(kv_cache_init(&cache, 2, (const uint64_t[]){769, 256}, 5, &err));
    assert_true(extend(&cache, 0, 1));
    assert_int_equal(cache.counts[0], 1);
    assert_true(extend(&cache, 0, 256));
    assert_int_equal(cache.counts[0], 1);
    assert_true(extend(&cache, 1, 256));
    assert_true(extend(&cache, 0, 769));
    assert_int_equal(cache.counts[0], 4);
    assert_int_equal(cache.n_free, 0);
    uint32_t seen = 1u << cache.pages[1][0];
    for (int i = 0; i < 4; i++)
        seen |= 1u << cache.pages[0][i];
    assert_int_equal(seen, 31);
    kv_cache_free(&cache);
}

static void a_page_is_cleared_only_when_it_was_used_before(void **state)
{
    (void)state;
    struct kv_cache cache;
    struct tp_error err = {0};
    assert_true(kv_cache_init(&cache, 2, (const uint64_t[]){512, 512}, 3, &err));
    assert_true(extend(&cache, 0, 512));
    for (int i = 0; i < 3; i++)
        assert_int_equal(cleared[i], 0);
    uint32_t first = cache.pages[0][0];
    kv_cache_truncate(&cache, 0, 0);
    assert_int_equal(cache.n_free, 3);
    assert_true(extend(&cache, 1, 1));
    assert_int_equal(cache.pages[1][0], first);
    assert_int_equal(cleared[first], 1);
    kv_cache_free(&cache);
}

static void truncating_keeps_the_pages_that_still_hold_a_position(void **state)
{
    (void)state;
    struct kv_cache cache;
    struct tp_error err = {0};
    assert_true(kv_cache_init(&cache, 1, (const uint64_t[]){1024}, 4, &err));
    assert_true(extend(&cache, 0, 1024));
    uint32_t second = cache.pages[0][1];
    kv_cache_truncate(&cache, 0, 1024);
    assert_int_equal(cache.n_free, 0);
    kv_cache_truncate(&cache, 0, 257);
    assert_int_equal(cache.counts[0], 2);
    assert_int_equal(cache.pages[0][1], second);
    kv_cache_truncate(&cache, 0, 256);
    assert_int_equal(cache.counts[0], 1);
    kv_cache_truncate(&cache, 0, 700); /* never grows */
    assert_int_equal(cache.counts[0], 1);
    kv_cache_truncate(&cache, 0, 0);
    assert_int_equal(cache.n_free, 4);
    kv_cache_free(&cache);
}

static void too_few_pages_give_nothing(void **state)
{
    (void)state;
    struct kv_cache cache;
    struct tp_error err = {0};
    assert_true(kv_cache_init(&cache, 1, (const uint64_t[]){1024}, 2, &err));
    assert_true(extend(&cache, 0, 10));
    assert_false(extend(&cache, 0, 1000));
    assert_int_equal(cache.counts[0], 1);
    assert_int_equal(cache.n_free, 1);
    assert_true(extend(&cache, 0, 512));
    kv_cache_free(&cache);
    kv_cache_free(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_given_as_positions_grow),
        cmocka_unit_test(a_page_is_cleared_only_when_it_was_used_before),
        cmocka_unit_test(truncating_keeps_the_pages_that_still_hold_a_position),
        cmocka_unit_test(too_few_pages_give_nothing),
    };
    return cmocka_run_group_tests_name("kv_cache", tests, NULL, NULL);
}
