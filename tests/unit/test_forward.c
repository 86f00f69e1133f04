/* A step as a program, and who works for which rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpu.h"

/* Crews have all of n things, in order, each at least one, and none two more than another. */
static void check_crews(uint64_t n, uint64_t crews)
{
    uint64_t next = 0;
    for (uint64_t crew = 0; crew < crews; crew++) {
        const struct range own = crew_range(n, crew, crews);
        assert_int_equal(own.begin, next);
        assert_true(range_count(own) == n / crews || range_count(own) == n / crews + 1);
        for (; next < own.end; next++)
            assert_int_equal(crew_with(n, next, crews), crew);
    }
    assert_int_equal(next, n);
}

static void ranks_and_threads_have_one_crew_each(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 100; n++)
        for (uint64_t crews = 1; crews <= n && crews <= PARTITION_TP_MAX; crews++)
            check_crews(n, crews);
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

/* ---- the program ---- */

struct seen {
    uint32_t meetings[COMM_LOGITS + 1], phases[PHASES], layers;
    uint32_t norms[64], n_norms;
};

static void see_run(void *arg, const struct op *op)
{
    struct seen *seen = arg;
    seen->phases[op->phase]++;
    if (op->phase == PHASE_ENTER || op->phase == PHASE_REDUCE_ATTENTION ||
        op->phase == PHASE_REDUCE_MLP)
        seen->norms[seen->n_norms++] = op->norm;
}

static void see_meeting(void *arg, enum comm_what what)
{
    ((struct seen *)arg)->meetings[what]++;
}

static void see_layer(void *arg, uint32_t layer)
{
    struct seen *seen = arg;
    assert_int_equal(layer, seen->layers++);
}

static void two_meetings_of_all_ranks_a_layer_in_a_one_shot_step(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= 40; rows++) {
        struct seen seen = {0};
        const struct walker walker = {see_run, see_meeting, see_layer, &seen};
        const struct step step = {.n_rows = rows, .n_logits = rows % 2};
        forward_walk(&step, (struct range){0, 5}, &walker);
        assert_int_equal(seen.layers, 5);
        assert_int_equal(seen.meetings[COMM_ROOTS], 2 * 5);
        assert_int_equal(seen.meetings[COMM_ROWS], rows <= 16 ? 1 : 2 + 2 * 5);
        assert_int_equal(seen.meetings[COMM_LOGITS], rows % 2);
        for (int phase = PHASE_QKV; phase <= PHASE_REDUCE_MLP; phase++)
            assert_int_equal(seen.phases[phase], 5);
        assert_int_equal(seen.n_norms, 2 * 5 + 1); /* every norm once, in order, and the last */
        for (uint32_t i = 0; i < seen.n_norms; i++)
            assert_int_equal(seen.norms[i], i);
    }
}

/* Layers [a, b) of a pipeline stage: its reductions apply the norm that the next stage begins with.
 */
static void a_stage_is_a_range_of_layers(void **state)
{
    (void)state;
    struct seen seen = {.layers = 2};
    forward_walk(&(struct step){.n_rows = 1}, (struct range){2, 4},
                 &(struct walker){see_run, see_meeting, see_layer, &seen});
    assert_int_equal(seen.n_norms, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(seen.norms[i], 4 + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_threads_have_one_crew_each),
        cmocka_unit_test(rows_of_a_step_belong_to_one_rank_each),
        cmocka_unit_test(two_meetings_of_all_ranks_a_layer_in_a_one_shot_step),
        cmocka_unit_test(a_stage_is_a_range_of_layers),
    };
    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
