#include "progress.h"

#include "clock.h"
#include <stdio.h>
#include <unistd.h>

void progress_start(struct progress *progress, const char *program, const char *phase,
                    uint64_t total)
{
    *progress = (struct progress){
        .program = program, .phase = phase, .total = total, .start = clock_seconds()};
    progress->on = program && isatty(STDERR_FILENO);
    if (progress->on)
        fprintf(stderr, "\r%s: %s\x1b[K", program, phase);
}

void progress_show(struct progress *progress, uint64_t done)
{
    double now = clock_seconds(), gb = (double)(progress->before + done) * 1e-9;
    double total = (double)progress->total * 1e-9, spent = now - progress->start;
    if (!progress->on || now - progress->shown < PROGRESS_INTERVAL_NS * 1e-9)
        return;
    progress->shown = now;
    if (!progress->total)
        fprintf(stderr, "\r%s: %s, %.0f s\x1b[K", progress->program, progress->phase, spent);
    else
        fprintf(stderr, "\r%s: %s: %.0f%%, %.2f of %.2f GB, %.2f GB/s\x1b[K", progress->program,
                progress->phase, 100 * gb / total, gb, total, clock_rate(gb, spent));
}

void progress_end(struct progress *progress)
{
    if (progress->on)
        fputs("\r\x1b[K", stderr);
    progress->on = false;
}
