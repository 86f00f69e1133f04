/* Which thread goes where, over many machines: no two share a processor, cores come before
 * siblings, a crew stays on its node while there is room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "comm.h"
#include "pin.h"
#include "processors.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct machine {
    uint32_t nodes, cores, siblings; /* cores of a node, siblings of a core */
    uint32_t n;
    struct processor processors[PLACEMENT_MAX];
    bool taken[PLACEMENT_MAX]; /* by somebody else */
    int asked[PLACEMENT_MAX];
};

static struct machine *machine_of(uint32_t nodes, uint32_t cores, uint32_t siblings)
{
    static struct machine m;
    memset(&m, 0, sizeof m);
    m.nodes = nodes, m.cores = cores, m.siblings = siblings;
    for (uint32_t core = 0; core < nodes * cores; core++)
        for (uint32_t s = 0; s < siblings; s++, m.n++)
            m.processors[m.n] = (struct processor){s * nodes * cores + core, core, core / cores};
    return &m;
}

static bool claim(void *arg, uint32_t index)
{
    struct machine *m = arg;
    m->asked[index]++;
    return !m->taken[index];
}

static bool place(struct machine *m, uint64_t tp_size, int threads, uint32_t *of)
{
    return placement_of_processors(m->processors, m->n, tp_size, threads, claim, m, of);
}

/* Busy processors of each core, and of the busiest. */
static uint32_t count_busy(const struct machine *m, int threads, const uint32_t *of, uint32_t *busy)
{
    uint32_t most = 0;
    memset(busy, 0, PLACEMENT_MAX * sizeof *busy);
    for (int t = 0; t < threads; t++) {
        uint32_t n = ++busy[m->processors[of[t]].core];
        most = n > most ? n : most;
    }
    return most;
}

static void check(uint32_t nodes, uint32_t cores, uint32_t siblings, uint64_t tp_size, int threads)
{
    static uint32_t of[PLACEMENT_MAX], busy[PLACEMENT_MAX];
    bool used[PLACEMENT_MAX] = {0};
    struct machine *m = machine_of(nodes, cores, siblings);
    bool fits = (uint32_t)threads <= m->n;
    assert_int_equal(place(m, tp_size, threads, of), fits);
    for (uint32_t i = 0; i < m->n; i++)
        assert_true(m->asked[i] <= 1);
    if (!fits)
        return;
    for (int t = 0; t < threads; t++) {
        assert_true(of[t] < m->n && !used[of[t]]);
        used[of[t]] = true;
    }
    uint32_t least = (uint32_t)threads / (nodes * cores), most = count_busy(m, threads, of, busy);
    assert_true(most <= least + ((uint32_t)threads % (nodes * cores) != 0));
    for (uint32_t c = 0; c < nodes * cores; c++) /* nobody is a sibling while a core is idle */
        assert_true(busy[c] + 1 >= most);
    /* where every crew has room on its node, none leaves it */
    const uint64_t crews = placement_crews(nodes, tp_size, threads);
    if (crews == nodes && (uint32_t)threads <= nodes * cores && (uint32_t)threads % nodes == 0)
        for (uint64_t t = 0; t < (uint64_t)threads; t++)
            assert_int_equal(m->processors[of[t]].node, crew_with((uint64_t)threads, t, crews));
}

/* Of ranks and nodes every crew has as many. */
static void crews_share_ranks_and_nodes_evenly(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 8; nodes++)
        for (uint64_t tp_size = 1; tp_size <= 12; tp_size++)
            for (int threads = 1; threads <= 16; threads++) {
                const uint64_t crews = placement_crews(nodes, tp_size, threads);
                assert_true(crews >= 1 && crews <= (uint64_t)threads);
                assert_int_equal(nodes % crews, 0);
                assert_int_equal(tp_size % crews, 0);
            }
    assert_int_equal(placement_crews(2, 8, 16), 2);
    assert_int_equal(placement_crews(4, 2, 16), 2);
    assert_int_equal(placement_crews(2, 3, 16), 1);
    assert_int_equal(placement_crews(4, 4, 2), 2);
}

static void threads_share_no_processor_and_cores_come_first(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 4; nodes++)
        for (uint32_t cores = 1; cores <= 5; cores++)
            for (uint32_t siblings = 1; siblings <= 3; siblings++)
                for (uint64_t tp_size = 1; tp_size <= 8; tp_size++)
                    for (int threads = 1; threads <= 24; threads++)
                        check(nodes, cores, siblings, tp_size, threads);
}

static void a_processor_of_somebody_else_keeps_its_core_for_last(void **state)
{
    (void)state;
    uint32_t of[4];
    struct machine *m =
        machine_of(1, 3, 2); /* cores 0, 1, 2: processors 0 and 1, 2 and 3, 4 and 5 */
    m->taken[0] = true;
    assert_true(place(m, 1, 3, of));
    assert_int_equal(of[0], 2);
    assert_int_equal(of[1], 4);
    assert_int_equal(of[2], 1);
    m = machine_of(1, 2, 1);
    m->taken[1] = true;
    assert_false(place(m, 1, 2, of));
    m = machine_of(1, 2, 1);
    m->taken[0] = true;
    assert_true(place(m, 1, 1, of));
    assert_int_equal(of[0], 1);
}

static void crews_have_nodes_where_all_have_room(void **state)
{
    (void)state;
    uint32_t of[PLACEMENT_MAX];
    struct machine *m = machine_of(2, 4, 2);
    assert_true(placement_of_nodes(m->processors, m->n, 2, 16, of));
    for (int t = 0; t < 16; t++)
        assert_int_equal(of[t], t / 8);
    assert_true(placement_of_nodes(m->processors, m->n, 4, 8, of));
    for (int t = 0; t < 8; t++)
        assert_int_equal(of[t], t / 4);
    assert_true(placement_of_nodes(m->processors, m->n, 4, 2, of)); /* two ranks, one thread each */
    assert_int_equal(of[0], 0);
    assert_int_equal(of[1], 1);
    assert_false(placement_of_nodes(m->processors, m->n, 1, 16, of)); /* one rank */
    assert_false(placement_of_nodes(m->processors, m->n, 2, 17, of)); /* too many threads */
    assert_false(placement_of_nodes(m->processors, m->n, 3, 16, of)); /* one crew of three ranks */
    m = machine_of(1, 8, 1);
    assert_false(placement_of_nodes(m->processors, m->n, 2, 8, of));
}

/* What hwloc makes of a machine that is described to it. */
static void a_described_machine_is_read(void **state)
{
    (void)state;
    static struct pin_machine m;
    static const struct {
        const char *machine;
        uint32_t n, cores, nodes;
    } cases[] = {{"numa:2 core:2 pu:1", 4, 4, 2},
                 {"package:2 numa:2 core:3 pu:2", 24, 12, 4},
                 {"numa:1 core:4 pu:4", 16, 4, 1},
                 {"core:1 pu:1", 1, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("HWLOC_SYNTHETIC", cases[i].machine, 1);
        assert_true(pin_machine_open(&m));
        assert_int_equal(m.n, cases[i].n);
        assert_int_equal(m.n_cores, cases[i].cores);
        assert_int_equal(m.n_nodes, cases[i].nodes);
        for (uint32_t p = 0; p < m.n; p++) {
            assert_int_equal(m.processors[p].core, p / (m.n / m.n_cores));
            assert_int_equal(m.processors[p].node, p / (m.n / m.n_nodes));
        }
        pin_machine_close(&m);
    }
    unsetenv("HWLOC_SYNTHETIC");
}

static void lists_of_the_kernel_are_counted(void **state)
{
    (void)state;
    assert_int_equal(processors_of_list("0\n"), 1);
    assert_int_equal(processors_of_list("0-3,8,10-11\n"), 7);
    assert_int_equal(processors_of_list(""), 0);
    assert_int_equal(processors_of_list("x"), 0);
    assert_int_equal(processors_of_list("2-"), 0);
}

/* Nobody holds one of them; other programs may. */
static bool one_is_free(const struct pin_machine *m)
{
    bool found = false;
    char path[64];
    for (uint32_t i = 0; i < m->n && !found; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u", m->processors[i].number);
        int fd = open(path, O_RDONLY | O_DIRECTORY);
        found = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0;
        close(fd);
    }
    return found;
}

static void two_processes_have_processors_of_their_own(void **state)
{
    (void)state;
    static struct pin first, second, third;
    struct team team;
    struct tp_error err = {0};
    assert_true(pin_machine_open(&first.machine));
    const bool any = one_is_free(&first.machine);
    pin_machine_close(&first.machine);
    if (!any) {
        print_message("SKIP: no processor is free to be pinned to\n");
        skip();
    }
    assert_true(team_start(&team, 1, TEAM_STACK, &err));
    pin_open(&first, PIN_YES, 1, &team);
    assert_int_equal(first.how, PINNED_PROCESSORS);
    const uint32_t n = first.machine.n, place_of_first = pin_place(&first, 0);
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(CPU_COUNT(&set), 1);
    assert_true(CPU_ISSET(place_of_first, &set));
    pin_close(&first);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(CPU_COUNT(&set), n);

    /* what is held here is another process's for whoever opens the folder again */
    pin_open(&first, PIN_YES, 1, &team);
    assert_int_equal(first.how, PINNED_PROCESSORS);
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < n; i++)
        CPU_SET(first.machine.processors[i].number, &set);
    sched_setaffinity(0, sizeof set, &set);
    const bool another = one_is_free(&first.machine);
    pin_open(&second, PIN_YES, 1, &team);
    assert_int_equal(second.how, another ? PINNED_PROCESSORS : PINNED_NOT);
    if (another)
        assert_int_not_equal(pin_place(&second, 0), pin_place(&first, 0));
    pin_close(&second);
    pin_close(&first);
    pin_open(&third, PIN_NO, 1, &team);
    assert_int_equal(third.how, PINNED_NOT);
    pin_close(&third);
    team_stop(&team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crews_share_ranks_and_nodes_evenly),
        cmocka_unit_test(threads_share_no_processor_and_cores_come_first),
        cmocka_unit_test(a_processor_of_somebody_else_keeps_its_core_for_last),
        cmocka_unit_test(crews_have_nodes_where_all_have_room),
        cmocka_unit_test(a_described_machine_is_read),
        cmocka_unit_test(lists_of_the_kernel_are_counted),
        cmocka_unit_test(two_processes_have_processors_of_their_own),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
