/* Linked into the runtime in front of every meeting of ranks: whoever comes waits a random time
 * before, so that they come in every order. DELAYS=SEED. At the end a line says how often each
 * thread was the first of all to come. */
#include "threads.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MICROSECONDS = 60, SHOWN = 16 };

bool __real_barrier_wait_for(struct barrier *barrier, int index, uint32_t seconds);
bool __wrap_barrier_wait_for(struct barrier *barrier, int index, uint32_t seconds);

static _Atomic unsigned n_threads, first[SHOWN];
static _Thread_local unsigned number, state;

__attribute__((destructor)) static void say(void)
{
    fprintf(stderr, "first to come:");
    for (unsigned i = 0; i < SHOWN && i < n_threads; i++)
        fprintf(stderr, " %u", first[i]);
    fprintf(stderr, "\n");
}

static bool is_first(const struct barrier *barrier, int index)
{
    bool first_of_all = true;
    for (int i = 0; i < barrier->count; i++)
        first_of_all &= barrier->lines[i].phase == barrier->lines[index].phase;
    return first_of_all;
}

bool __wrap_barrier_wait_for(struct barrier *barrier, int index, uint32_t seconds)
{
    const char *seed = getenv("DELAYS");
    if (!state) {
        number = n_threads++;
        state = ((unsigned)atoi(seed ? seed : "1") * 48u + number) * 2654435761u | 1;
    }
    state = state * 1664525u + 1013904223u;
    nanosleep(&(struct timespec){.tv_nsec = (state >> 16) % MICROSECONDS * 1000}, NULL);
    if (is_first(barrier, index) && number < SHOWN)
        first[number]++;
    return __real_barrier_wait_for(barrier, index, seconds);
}
