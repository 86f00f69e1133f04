/* Independent jobs, by number, on a team of threads, each with memory of its own. They are begun in
 * order, and of several errors the one of the lowest number is kept: the first damage of a bundle
 * is the same whatever the threads do. */
#pragma once
#include "progress.h"
#include "threads.h"
#include <pthread.h>

struct jobs {
    uint64_t count;
    uint64_t space_bytes; /* of a thread's own memory; 0: none */
    /* space: page aligned, zero at first, kept from job to job */
    bool (*run)(void *arg, uint64_t job, unsigned char *space, struct tp_error *err);
    void *arg;
    struct progress *progress;   /* the caller's, begun; NULL: none is shown */
    _Atomic uint64_t bytes_done; /* for it: added to by run */
    /* jobs.c: */
    _Atomic uint64_t next, failed; /* lowest number of a failed job */
    pthread_mutex_t mutex;         /* guards error */
    struct tp_error error;
};
/* The jobs before the failed one are done, later ones may be. TP_E_INTERRUPTED by a signal. */
bool jobs_run(struct jobs *jobs, int threads, struct tp_error *err);
bool jobs_run_on(struct jobs *jobs, struct team *team, struct tp_error *err);

/* The parts of jobs_run, for threads that do other things, too: jobs_begin, then jobs_work from any
 * number of threads at once, then jobs_end. */
void jobs_begin(struct jobs *jobs);
void jobs_work(struct jobs *jobs);
bool jobs_end(struct jobs *jobs, struct tp_error *err);
/* As if job `job` had failed. */
void jobs_fail(struct jobs *jobs, uint64_t job, const struct tp_error *error);
/* Called by job `job`: wait until *value is `wanted`, which jobs before this one see to. false: one
 * of them has failed. */
bool jobs_await(const struct jobs *jobs, uint64_t job, const _Atomic uint64_t *value,
                uint64_t wanted);

/* Where jobs are parts of things, n > 0 of them, and thing i begins with job first[i] (rising): the
 * last thing that begins at `job` or before. */
uint32_t jobs_owner(const uint64_t *first, uint32_t n, uint64_t job);
