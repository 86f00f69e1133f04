/* Who computes which panels: each once, whoever is late; in the first pass each thread its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpu.h"
#include "first_pass.h"
#include "threads.h"
#include <string.h>
#include <time.h>

enum { PARTS = 4, TURNS = 50, PANELS = 200 };

struct bench {
    struct cpu_crew crew;
    struct cpu_rank rank;
    struct rank_weights weights;
    struct matrix matrices[2];
    struct cpu_job jobs[2]; /* of so many panels together */
    struct cpu_part parts[PARTS];
    uint64_t n, unit;
    int late; /* thread that is; -1: nobody */
    _Atomic uint32_t times[TURNS][PANELS], of_others;
};

static void set_up(struct bench *b, uint64_t n, uint64_t unit)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < 2; i++) {
        b->matrices[i] = (struct matrix){.panels = i ? n - n / 3 : n / 3, .chunk_panels = 7};
        b->jobs[i] = (struct cpu_job){.rank = &b->rank, .w = &b->matrices[i]};
    }
    b->rank.weights = &b->weights;
    b->crew.taken = b->parts;
    b->n = n;
    b->unit = unit;
    b->late = -1;
}

static struct taking begin(struct bench *b, uint64_t part, uint64_t parts)
{
    return cpu_taking(&b->crew, b->jobs, 2, (struct share){part, parts}, b->unit);
}

/* Turn after turn, without a meeting between them. */
static void take_all(void *arg, int index, int count)
{
    struct bench *b = arg;
    const struct share share = {(uint64_t)index, (uint64_t)count};
    const struct range own = share_of(b->n, share);
    for (int turn = 0; turn < TURNS; turn++) {
        struct taking taking = begin(b, share.part, share.parts);
        for (struct range panels; cpu_take(&taking, &panels);) {
            assert_true(panels.begin < panels.end && panels.end <= b->n);
            for (uint64_t p = panels.begin; p < panels.end; p++)
                b->times[turn][p]++;
            b->of_others += !range_has(own, panels.begin);
            if (index == b->late)
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
    }
}

static void check_once(struct bench *b)
{
    for (int turn = 0; turn < TURNS; turn++)
        for (uint64_t p = 0; p < PANELS; p++)
            assert_int_equal(b->times[turn][p], p < b->n);
}

static void every_panel_is_taken_once(void **state)
{
    (void)state;
    static struct bench b;
    struct tp_error err = {0};
    static const uint64_t panels[] = {0, 1, 7, 32, 33, 127, PANELS}, units[] = {1, 2, 8};
    for (int threads = 1; threads <= PARTS; threads++)
        for (size_t i = 0; i < sizeof panels / sizeof *panels; i++)
            for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
                set_up(&b, panels[i], units[u]);
                assert_true(threads_run(threads, take_all, &b, &err));
                check_once(&b);
            }
}

/* It is not waited for: the others do what is its. */
static void a_late_thread_is_helped(void **state)
{
    (void)state;
    static struct bench b;
    struct tp_error err = {0};
    for (int late = 0; late < 2; late++) {
        set_up(&b, PANELS, 1);
        b.late = late;
        assert_true(threads_run(2, take_all, &b, &err));
        check_once(&b);
        assert_true(b.of_others > 0);
    }
}

static uint64_t count_taken(struct taking *taking)
{
    uint64_t n = 0;
    for (struct range panels; cpu_take(taking, &panels);)
        n += range_count(panels);
    return n;
}

static void a_turn_ends_for_all(void **state)
{
    (void)state;
    static struct bench b;
    set_up(&b, PANELS, 2);
    for (int i = 0; i < 2; i++)
        b.parts[i].turn = UINT32_MAX - 1; /* turns go round */
    for (int i = 0; i < 2; i++)
        b.parts[i].taken = (uint64_t)b.parts[i].turn << 32 | PANELS / 2;
    for (int turn = 0; turn < 4; turn++) {
        struct taking first = begin(&b, 0, 2), second = begin(&b, 1, 2), next;
        struct range panels;
        assert_true(cpu_take(&second, &panels)); /* half of its own, in whole units */
        assert_int_equal(panels.begin, PANELS / 2);
        assert_int_equal(panels.end, PANELS / 2 + PANELS / 4);
        assert_int_equal(count_taken(&first), PANELS - PANELS / 4); /* who was not there too */
        next = begin(&b, 0, 2);
        assert_int_equal(count_taken(&next), PANELS);
        assert_false(cpu_take(&second, &panels)); /* the first is a turn ahead */
        second = begin(&b, 1, 2);
        assert_false(cpu_take(&second, &panels));
    }
}

static void check_range(struct taking *taking, uint64_t first, uint64_t end)
{
    struct range panels;
    assert_true(cpu_take(taking, &panels));
    assert_int_equal(panels.begin, first);
    assert_int_equal(panels.end, end);
}

/* From a chunk on; what is of the chunk before comes last, and nobody else's. The first job has 66
 * panels. */
static void the_first_pass_has_shares_of_its_own(void **state)
{
    (void)state;
    static struct bench b;
    static struct pass_chunk chunks[1];
    struct range none;
    set_up(&b, PANELS, 1);
    b.weights.pass = chunks;
    struct taking thirds[3], whole = begin(&b, 0, 1);
    for (uint64_t i = 0; i < 3; i++)
        thirds[i] = begin(&b, i, 3);
    check_range(&thirds[0], 0, 66);
    check_range(&thirds[1], 66, 133);
    check_range(&thirds[2], 66 + 70, 200);
    check_range(&thirds[2], 133, 66 + 70);
    for (int i = 0; i < 3; i++)
        assert_false(cpu_take(&thirds[i], &none));
    check_range(&whole, 0, 200);
    struct taking quarter = begin(&b, 1, 4); /* from 50 on: the next chunk of the first job */
    check_range(&quarter, 56, 100);
    check_range(&quarter, 50, 56);
    b.jobs[0].w = b.jobs[1].w; /* a job begins with a chunk */
    quarter = begin(&b, 1, 2);
    check_range(&quarter, 134, 268);
    assert_false(cpu_take(&quarter, &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_panel_is_taken_once),
        cmocka_unit_test(a_late_thread_is_helped),
        cmocka_unit_test(a_turn_ends_for_all),
        cmocka_unit_test(the_first_pass_has_shares_of_its_own),
    };
    return cmocka_run_group_tests_name("panels", tests, NULL, NULL);
}
