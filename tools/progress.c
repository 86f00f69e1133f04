#include "progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

double progress_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void progress_start(struct progress *progress, const char *program, uint64_t total, bool quiet)
{
    *progress = (struct progress){.program = program, .total = total, .start = progress_now()};
    progress->on = !quiet && isatty(STDERR_FILENO);
}

void progress_show(struct progress *progress, uint64_t done)
{
    double now = progress_now(), spent = now - progress->start;
    if (!progress->on || now - progress->shown < PROGRESS_INTERVAL_NS * 1e-9)
        return;
    progress->shown = now;
    double rate = spent > 0 ? (double)done / spent : 0;
    double left = rate > 0 ? (double)(progress->total - done) / rate : 0;
    fprintf(stderr, "\r%s: %3.0f%% %.2f of %.2f GB, %.2f GB/s, %.0f s left \x1b[K",
            progress->program,
            100.0 * (double)done / (double)(progress->total ? progress->total : 1),
            (double)done * 1e-9, (double)progress->total * 1e-9, rate * 1e-9, left);
}

void progress_end(struct progress *progress)
{
    if (progress->on)
        fputs("\r\x1b[K", stderr);
}
