/* A team of threads that all run one function: the converter's workers, the loader's hashers, the
 * runtime's ranks. Work is handed out by atomic counters or by (index, count), not by queues. */
#pragma once
#include "error.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What one thread of a barrier is told, in a line of its own: in phase n each word becomes n. Who
 * tells may be a phase ahead. */
enum { BARRIER_ROUNDS_MAX = 12 };
struct barrier_line {
    _Alignas(64) _Atomic uint32_t told[BARRIER_ROUNDS_MAX];
    _Atomic uint32_t phase;  /* its own */
    _Atomic uint32_t sleeps; /* who tells it must wake it */
};

/* A barrier for `count` threads, by dissemination: in round k a thread tells the one 2^k on that it
 * and all it has heard of have come, and waits to be told; after log2(count) rounds everyone knows
 * of everyone. Each word has one writer and one reader. Threads that outnumber the processors are
 * counted instead: each of their waits is a change of threads. A wait is a bounded spin, then
 * futex. {0} may be freed. */
struct barrier {
    int count;
    bool crowded;
    struct barrier_line *lines; /* [count] */
    /* crowded: so many have come; in which phase all did last; how many sleep */
    _Alignas(64) _Atomic uint32_t arrived;
    _Atomic uint32_t all, sleepers;
};
bool barrier_init(struct barrier *barrier, int count, struct tp_error *err);
void barrier_free(struct barrier *barrier);
/* Each index < count once. */
void barrier_wait(struct barrier *barrier, int index);
/* false: the others have not come in so many seconds of a round that this process could run in; 0:
 * forever. */
bool barrier_wait_for(struct barrier *barrier, int index, uint32_t seconds);

typedef void (*threads_fn)(void *arg, int index, int count);

/* Threads that stay, and wait for calls without a processor. */
struct team {
    int count;
    _Atomic uint32_t state;
    struct barrier begin, end;
    threads_fn fn; /* NULL: the last call */
    void *arg;
    struct team_thread *threads; /* [count], of which the caller's is the first */
};
enum { TEAM_STACK = 1 << 20 }; /* bytes, for what this project runs */
/* `count` threads, one of them the caller's, the others with a stack of so many bytes each.
 * Errors  TP_E_MEMORY when one cannot be started: there is nothing to stop then. */
bool team_start(struct team *team, int count, size_t stack_bytes, struct tp_error *err);
/* fn on all of them, index 0 being the caller's, which is always the same thread; each with the
 * floating-point mode of docs/numerics.md section 1. Returns when all have. Allocates nothing. */
void team_call(struct team *team, threads_fn fn, void *arg);
void team_stop(struct team *team); /* {0} may be stopped */

/* A team for one call. Errors  TP_E_MEMORY: fn has run nowhere. */
bool threads_run(int count, threads_fn fn, void *arg, struct tp_error *err);

/* fn(arg), with so many bytes of stack: on that of main, who calls it, where its limit is as large,
 * else on a thread of its own. Errors  TP_E_MEMORY: it has not run. */
bool thread_call(size_t stack_bytes, void (*fn)(void *arg), void *arg, struct tp_error *err);

/* A thread for what goes on beside, to be joined; it leaves the signals that end a command to
 * others. false: there is none to be had. */
bool thread_beside(pthread_t *thread, void *(*fn)(void *arg), void *arg);

/* MXCSR = 0x9fc0: round to nearest even, FTZ, DAZ, all exceptions masked. Returns what it was. */
unsigned threads_set_fp_mode(void);
void threads_restore_fp_mode(unsigned mode);
