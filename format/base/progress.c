#include "progress.h"

#include "clock.h"
#include <stdio.h>
#include <unistd.h>

void progress_start(struct progress *progress, const char *program, uint64_t total)
{
    *progress = (struct progress){.program = program, .total = total, .start = clock_seconds()};
    progress->on = program && isatty(STDERR_FILENO);
}

void progress_show(struct progress *progress, uint64_t done)
{
    double now = clock_seconds(), spent = now - progress->start;
    if (!progress->on || now - progress->shown < PROGRESS_INTERVAL_NS * 1e-9)
        return;
    progress->shown = now;
    double rate = clock_rate((double)done, spent);
    double left = clock_rate((double)(progress->total - done), rate);
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
