/* A team of threads that all run one function: the converter's workers, the loader's hashers, the
 * runtime's ranks. Work is handed out by atomic counters or by (index, count), not by queues. */
#pragma once
#include "error.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef void (*threads_fn)(void *arg, int index, int count);

/* Run fn on `count` threads, index 0 being the caller's, and return when all have. Every thread has
 * the floating-point mode of docs/numerics.md section 1 set and, for index > 0, a 1 MiB stack.
 * Errors  TP_E_MEMORY when a thread cannot be started: fn has then run nowhere. */
bool threads_run(int count, threads_fn fn, void *arg, struct tp_error *err);

/* MXCSR = 0x9fc0: round to nearest even, FTZ, DAZ, all exceptions masked. */
void threads_set_fp_mode(void);

/* Processors this process may use. */
int threads_available(void);

/* A barrier for `count` threads: a bounded spin, then futex. One cache line per field that is
 * written. {0} + barrier_init. */
struct barrier {
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t phase;
    _Alignas(64) uint32_t count;
    int spin; /* iterations before sleeping; few where threads outnumber processors */
};
void barrier_init(struct barrier *barrier, int count);
void barrier_wait(struct barrier *barrier);
