/* Time that only goes forward. */
#pragma once
#include <time.h>

static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
/* count / seconds; 0 where no time has passed. */
static inline double clock_rate(double count, double seconds)
{
    return seconds > 0 ? count / seconds : 0;
}
