/* Numbered jobs: each once, in order of beginning; the lowest error; a thread's own memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "jobs.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { JOBS = 500, SPACE = 8192 };

struct seen {
    _Atomic uint32_t times[JOBS];
    uint64_t fails[2]; /* UINT64_MAX: none */
    _Atomic uint64_t done;
    struct jobs jobs;
};

static bool count_one(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct seen *s = arg;
    s->times[job]++;
    if (job == s->fails[0]) /* the lower one ends later */
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    if (job == s->fails[0] || job == s->fails[1])
        return tp_fail(err, TP_E_IO, "job %llu", (unsigned long long)job);
    /* what an earlier job of the thread left is there, nobody else's */
    uint64_t mine;
    assert_int_equal((uintptr_t)space % 4096, 0);
    memcpy(&mine, space, sizeof mine);
    assert_true(mine <= job);
    for (size_t i = 0; i + sizeof mine <= SPACE; i += sizeof mine)
        assert_memory_equal(space + i, &mine, sizeof mine);
    for (size_t i = 0; i + sizeof job <= SPACE; i += sizeof job)
        memcpy(space + i, &job, sizeof job);
    s->jobs.bytes_done++;
    return true;
}

static void run(struct seen *s, uint64_t fails_a, uint64_t fails_b, int threads)
{
    struct tp_error err = {0};
    memset(s, 0, sizeof *s);
    s->fails[0] = fails_a;
    s->fails[1] = fails_b;
    s->jobs = (struct jobs){.count = JOBS, .space_bytes = SPACE, .run = count_one, .arg = s};
    bool ok = jobs_run(&s->jobs, threads, &err);
    assert_int_equal(ok, fails_a == UINT64_MAX);
    if (!ok) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "job %llu", (unsigned long long)fails_a);
        assert_string_equal(err.text, wanted);
    }
    for (uint64_t i = 0; i < JOBS; i++)
        if (fails_a == UINT64_MAX || i <= fails_a)
            assert_int_equal(s->times[i], 1);
        else
            assert_true(s->times[i] <= 1);
}

static void every_job_is_done_once_by_any_number_of_threads(void **state)
{
    (void)state;
    static struct seen s;
    for (int threads = 1; threads <= 9; threads += 2) {
        run(&s, UINT64_MAX, UINT64_MAX, threads);
        assert_int_equal(s.jobs.bytes_done, JOBS);
    }
}

static void the_lowest_error_is_kept_and_all_before_it_is_done(void **state)
{
    (void)state;
    static struct seen s;
    for (int threads = 1; threads <= 8; threads++) {
        run(&s, 100, 101, threads);
        run(&s, 0, JOBS - 1, threads);
    }
}

static bool in_turn(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct seen *s = arg;
    (void)space;
    if (job == s->fails[0])
        return tp_fail(err, TP_E_IO, "as asked");
    if (!jobs_await(&s->jobs, job, &s->done, job)) {
        assert_true(s->fails[0] < job);
        return true;
    }
    s->done++;
    return true;
}

static void jobs_wait_for_those_before_them_and_for_no_failed_one(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct tp_error err = {0};
        static struct seen s;
        memset(&s, 0, sizeof s);
        s.fails[0] = i ? 77 : UINT64_MAX;
        s.jobs = (struct jobs){.count = JOBS, .run = in_turn, .arg = &s};
        assert_int_equal(jobs_run(&s.jobs, 4, &err), !i);
        assert_int_equal(s.done, i ? 77 : JOBS);
    }
}

static void the_owner_of_a_job_is_the_last_thing_that_begins_before(void **state)
{
    (void)state;
    const uint64_t first[] = {0, 3, 3, 4, 10};
    const uint32_t owner[] = {0, 0, 0, 2, 3, 3, 3, 3, 3, 3, 4, 4};
    for (uint64_t job = 0; job < 12; job++)
        assert_int_equal(jobs_owner(first, 5, job), owner[job]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_done_once_by_any_number_of_threads),
        cmocka_unit_test(the_lowest_error_is_kept_and_all_before_it_is_done),
        cmocka_unit_test(jobs_wait_for_those_before_them_and_for_no_failed_one),
        cmocka_unit_test(the_owner_of_a_job_is_the_last_thing_that_begins_before),
    };
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
