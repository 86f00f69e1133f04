#include "jobs.h"

#include "commands.h"
#include "interrupt.h"
#include "progress.h"
#include "threads.h"
#include <pthread.h>

struct crew {
    struct jobs *jobs;
    struct progress progress; /* thread 0's */
    _Atomic uint64_t next;
    _Atomic uint64_t failed; /* lowest number of a failed job */
    pthread_mutex_t mutex;   /* guards error */
    struct tp_error error;
};

static void work(void *arg, int index, int count)
{
    struct crew *team = arg;
    (void)count;
    for (;;) {
        uint64_t job = atomic_fetch_add(&team->next, 1);
        if (job >= team->jobs->count || job > atomic_load(&team->failed))
            return;
        struct tp_error err = {0};
        if (interrupt_pending() ? !interrupt_fail(&err)
                                : !team->jobs->run(team->jobs->arg, job, index, &err)) {
            pthread_mutex_lock(&team->mutex);
            if (job < atomic_load(&team->failed)) {
                team->error = err;
                atomic_store(&team->failed, job);
            }
            pthread_mutex_unlock(&team->mutex);
        }
        if (index == 0)
            progress_show(&team->progress, atomic_load(&team->jobs->bytes_done));
    }
}

bool jobs_run(struct jobs *jobs, int threads, struct tp_error *err)
{
    struct crew team = {.jobs = jobs};
    if ((uint64_t)threads > jobs->count)
        threads = jobs->count ? (int)jobs->count : 1;
    atomic_init(&team.failed, UINT64_MAX);
    pthread_mutex_init(&team.mutex, NULL);
    progress_start(&team.progress, TPSHARD, jobs->bytes_total, jobs->quiet);
    bool ok = threads_run(threads, work, &team, err);
    progress_end(&team.progress);
    pthread_mutex_destroy(&team.mutex);
    if (!ok || atomic_load(&team.failed) == UINT64_MAX)
        return ok;
    *err = team.error;
    return false;
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
