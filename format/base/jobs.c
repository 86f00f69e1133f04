#include "jobs.h"

#include "interrupt.h"
#include "mem.h"
#include <time.h>

void jobs_begin(struct jobs *jobs)
{
    atomic_store(&jobs->next, 0);
    atomic_store(&jobs->failed, UINT64_MAX);
    pthread_mutex_init(&jobs->mutex, NULL);
}

void jobs_fail(struct jobs *jobs, uint64_t job, const struct tp_error *error)
{
    pthread_mutex_lock(&jobs->mutex);
    if (job < atomic_load(&jobs->failed)) {
        jobs->error = *error;
        atomic_store(&jobs->failed, job);
    }
    pthread_mutex_unlock(&jobs->mutex);
}

static bool run_one(struct jobs *jobs, uint64_t job, unsigned char **space, struct tp_error *err)
{
    if (interrupt_pending())
        return interrupt_fail(err);
    if (!*space && jobs->space_bytes && !(*space = mem_map_alloc(jobs->space_bytes, err)))
        return false;
    return jobs->run(jobs->arg, job, *space, err);
}

/* shows: this thread is the one that shows progress */
static void work(struct jobs *jobs, bool shows)
{
    unsigned char *space = NULL;
    for (;;) {
        uint64_t job = atomic_fetch_add(&jobs->next, 1);
        if (job >= jobs->count || job > atomic_load(&jobs->failed))
            break;
        struct tp_error err = {0};
        if (!run_one(jobs, job, &space, &err))
            jobs_fail(jobs, job, &err);
        if (shows && jobs->progress)
            progress_show(jobs->progress, atomic_load(&jobs->bytes_done));
    }
    mem_map_free(space, jobs->space_bytes);
}

void jobs_work(struct jobs *jobs)
{
    work(jobs, false);
}

bool jobs_end(struct jobs *jobs, struct tp_error *err)
{
    pthread_mutex_destroy(&jobs->mutex);
    if (atomic_load(&jobs->failed) == UINT64_MAX)
        return true;
    *err = jobs->error;
    return false;
}

/* ---- on a team ---- */

static void crew_thread(void *arg, int index, int count)
{
    (void)count;
    work(arg, index == 0);
}

bool jobs_run_on(struct jobs *jobs, struct team *team, struct tp_error *err)
{
    jobs_begin(jobs);
    team_call(team, crew_thread, jobs);
    return jobs_end(jobs, err);
}

bool jobs_run(struct jobs *jobs, int threads, struct tp_error *err)
{
    struct team team;
    if ((uint64_t)threads > jobs->count)
        threads = jobs->count ? (int)jobs->count : 1;
    if (!team_start(&team, threads, TEAM_STACK, err))
        return false;
    bool ok = jobs_run_on(jobs, &team, err);
    team_stop(&team);
    return ok;
}

bool jobs_await(const struct jobs *jobs, uint64_t job, const _Atomic uint64_t *value,
                uint64_t wanted)
{
    while (atomic_load(value) != wanted) {
        if (atomic_load(&jobs->failed) < job)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
    return true;
}

uint32_t jobs_owner(const uint64_t *first, uint32_t n, uint64_t job)
{
    uint32_t low = 0, high = n;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (first[middle] <= job)
            low = middle;
        else
            high = middle;
    }
    return low;
}
