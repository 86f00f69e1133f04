/* Progress on a terminal: one line on stderr, at most 6 times a second, gone when done. Work has
 * phases, one after the other, each with numbers of its own: how long is left is not said, since
 * what a phase is like says nothing of the next one. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_INTERVAL_NS = 166000000 };

struct progress {
    const char *program, *phase;
    uint64_t total;      /* bytes; 0: not known */
    uint64_t before;     /* bytes of parts that are done; callers may add to it */
    double start, shown; /* seconds */
    bool on;
};
/* The phase's name is shown at once; program NULL: nothing is, ever. */
void progress_start(struct progress *progress, const char *program, const char *phase,
                    uint64_t total);
/* done: bytes of the part in work; of an unknown total the seconds are shown */
void progress_show(struct progress *progress, uint64_t done);
void progress_end(struct progress *progress); /* may be called again; {0} is allowed */
