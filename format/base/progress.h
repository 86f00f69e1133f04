/* Progress on a terminal: one line on stderr, at most 6 times a second, gone when done. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_INTERVAL_NS = 166000000 };

struct progress {
    const char *program;
    uint64_t total;
    double start, shown; /* seconds */
    bool on;
};
/* program NULL: nothing is shown */
void progress_start(struct progress *progress, const char *program, uint64_t total);
void progress_show(struct progress *progress, uint64_t done);
void progress_end(struct progress *progress);
