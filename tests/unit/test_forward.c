/* Who works for which rank: every part of every rank's work is done by exactly one thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "forward.h"

static void check_crews(uint64_t tp_size, int threads)
{
    uint64_t parts[PARTITION_TP_MAX] = {0}, done[PARTITION_TP_MAX] = {0};
    for (int t = 0; t < threads; t++) {
        struct crew crew = crew_of(tp_size, t, threads);
        assert_true(crew.ranks.begin < crew.ranks.end && crew.ranks.end <= tp_size);
        assert_true(crew.share.part < crew.share.parts);
        for (uint64_t r = crew.ranks.begin; r < crew.ranks.end; r++) {
            if (done[r]++ == 0)
                parts[r] = crew.share.parts;
            assert_int_equal(parts[r], crew.share.parts);
            assert_int_equal(done[r], crew.share.part + 1);
        }
    }
    for (uint64_t r = 0; r < tp_size; r++)
        assert_int_equal(done[r], parts[r]);
}

static void every_part_of_a_rank_is_one_threads(void **state)
{
    (void)state;
    for (uint64_t tp_size = 1; tp_size <= PARTITION_TP_MAX; tp_size++)
        for (int threads = 1; threads <= 100; threads++)
            check_crews(tp_size, threads);
}

static void rows_of_a_step_belong_to_one_rank_each(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 70; n++)
        for (uint64_t tp_size = 1; tp_size <= PARTITION_TP_MAX; tp_size++) {
            struct step step = {.n_rows = n};
            uint64_t next = 0;
            for (uint64_t r = 0; r < tp_size; r++) {
                struct range rows = step_rows_of(&step, r, tp_size);
                assert_int_equal(rows.begin, next);
                next = rows.end;
            }
            assert_int_equal(next, n);
            assert_int_equal(step_one_shot(&step), n <= 16);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_a_rank_is_one_threads),
        cmocka_unit_test(rows_of_a_step_belong_to_one_rank_each),
    };
    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
