/* Independent jobs, by number, on a team of threads. They are begun in order, and of several errors
 * the one of the lowest number is kept: the first damage of a bundle is the same whatever the
 * threads do. */
#pragma once
#include "error.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct jobs {
    uint64_t count;
    /* thread: 0 to threads - 1, for space that is a thread's own */
    bool (*run)(void *arg, uint64_t job, int thread, struct tp_error *err);
    void *arg;
    uint64_t bytes_total; /* for the progress line */
    bool quiet;
    _Atomic uint64_t bytes_done; /* added to by run */
};
/* Where jobs are parts of things, n > 0 of them, and thing i begins with job first[i] (rising): the
 * last thing that begins at `job` or before. */
uint32_t jobs_owner(const uint64_t *first, uint32_t n, uint64_t job);
/* The jobs before the failed one are done, later ones may be. TP_E_INTERRUPTED by a signal. */
bool jobs_run(struct jobs *jobs, int threads, struct tp_error *err);
