#include "threads.h"
#include "mem.h"
#include "processors.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

unsigned threads_set_fp_mode(void)
{
    unsigned mode = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    return mode;
}

void threads_restore_fp_mode(unsigned mode)
{
    _mm_setcsr(mode);
}

/* ---- the barrier ---- */

/* false: a second has passed, where that is the limit. */
static bool futex_wait(_Atomic uint32_t *word, uint32_t value, bool limited)
{
    const struct timespec second = {.tv_sec = 1};
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, limited ? &second : NULL, NULL, 0) ==
               0 ||
           errno != ETIMEDOUT;
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* 25 us or so: as long as threads that all have a processor differ within a phase. Processors of a
 * virtual machine may take turns on one of the host's; whoever spins then holds up the thread that
 * is waited for, and decoding falls to half its speed. */
enum { SPIN = 1000, SPIN_CROWDED = 50 };

bool barrier_init(struct barrier *barrier, int count, struct tp_error *err)
{
    tp_assert(count <= 1 << BARRIER_ROUNDS_MAX);
    *barrier = (struct barrier){.count = count};
    barrier->crowded = count > processors_available();
    barrier->lines = mem_map_alloc((uint64_t)count * sizeof *barrier->lines, err);
    return barrier->lines;
}

void barrier_free(struct barrier *barrier)
{
    if (barrier->lines)
        mem_map_free(barrier->lines, (uint64_t)barrier->count * sizeof *barrier->lines);
    *barrier = (struct barrier){0};
}

static bool is_told(_Atomic uint32_t *told, uint32_t phase)
{
    return (int32_t)(atomic_load_explicit(told, memory_order_acquire) - phase) >= 0;
}

/* Of the store here and the count of sleepers either is seen by the other side. */
static void tell(_Atomic uint32_t *told, uint32_t phase, const _Atomic uint32_t *sleepers)
{
    atomic_store(told, phase);
    if (atomic_load(sleepers))
        futex_wake(told);
}

static bool sleep_until(_Atomic uint32_t *told, uint32_t phase, uint32_t seconds)
{
    uint32_t waited = 0;
    while (!is_told(told, phase))
        if (!futex_wait(told, phase - 1, seconds > 0) && waited++ == seconds)
            return is_told(told, phase);
    return true;
}

static bool be_told(_Atomic uint32_t *told, uint32_t phase, _Atomic uint32_t *sleepers, int spin,
                    uint32_t seconds)
{
    for (int i = spin; i > 0; i--) {
        if (is_told(told, phase))
            return true;
        _mm_pause();
    }
    atomic_fetch_add(sleepers, 1);
    bool ok = sleep_until(told, phase, seconds);
    atomic_fetch_sub(sleepers, 1);
    return ok;
}

static bool be_counted(struct barrier *barrier, uint32_t phase, uint32_t seconds)
{
    if (atomic_fetch_add(&barrier->arrived, 1) + 1 < (uint32_t)barrier->count)
        return be_told(&barrier->all, phase, &barrier->sleepers, SPIN_CROWDED, seconds);
    atomic_store(&barrier->arrived, 0);
    tell(&barrier->all, phase, &barrier->sleepers);
    return true;
}

bool barrier_wait_for(struct barrier *barrier, int index, uint32_t seconds)
{
    struct barrier_line *mine = &barrier->lines[index];
    const uint32_t phase = atomic_load_explicit(&mine->phase, memory_order_relaxed) + 1;
    atomic_store_explicit(&mine->phase, phase, memory_order_relaxed);
    bool ok = !barrier->crowded || be_counted(barrier, phase, seconds);
    for (int k = 0; ok && !barrier->crowded && 1 << k < barrier->count; k++) {
        struct barrier_line *other = &barrier->lines[(index + (1 << k)) % barrier->count];
        tell(&other->told[k], phase, &other->sleeps);
        ok = be_told(&mine->told[k], phase, &mine->sleeps, SPIN, seconds);
    }
    return ok;
}

void barrier_wait(struct barrier *barrier, int index)
{
    barrier_wait_for(barrier, index, 0);
}

/* ---- the team ---- */

enum { STARTING, RUNNING, GIVEN_UP };

struct team_thread {
    struct team *team;
    int index;
    pthread_t thread;
};

static void *thread_main(void *p)
{
    struct team_thread *t = p;
    struct team *team = t->team;
    while (atomic_load(&team->state) == STARTING)
        futex_wait(&team->state, STARTING, false);
    if (atomic_load(&team->state) == GIVEN_UP)
        return NULL;
    threads_set_fp_mode();
    for (;;) {
        barrier_wait(&team->begin, t->index);
        if (!team->fn)
            return NULL;
        team->fn(team->arg, t->index, team->count);
        barrier_wait(&team->end, t->index);
    }
}

static void join(struct team *team, int started)
{
    for (int i = 1; i < started; i++)
        pthread_join(team->threads[i].thread, NULL);
    mem_free(team->threads);
    team->threads = NULL;
    barrier_free(&team->begin);
    barrier_free(&team->end);
}

/* Signals that end a command are for the thread that drives it: another one leaves them. */
static bool create(pthread_t *thread, size_t stack_bytes, void *(*fn)(void *arg), void *arg)
{
    sigset_t ending, before;
    pthread_attr_t attr;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &ending, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, stack_bytes);
    bool ok = pthread_create(thread, &attr, fn, arg) == 0;
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

bool team_start(struct team *team, int count, size_t stack_bytes, struct tp_error *err)
{
    tp_assert(count >= 1);
    int started = 1;
    *team = (struct team){.count = count};
    team->threads = mem_array((uint64_t)count, sizeof *team->threads, err);
    if (!team->threads || !barrier_init(&team->begin, count, err) ||
        !barrier_init(&team->end, count, err)) {
        join(team, 0);
        return false;
    }
    for (; started < count; started++) {
        struct team_thread *t = &team->threads[started];
        *t = (struct team_thread){team, started, 0};
        if (!create(&t->thread, stack_bytes, thread_main, t))
            break;
    }
    bool ok = started == count;
    atomic_store(&team->state, ok ? RUNNING : GIVEN_UP);
    futex_wake(&team->state);
    if (!ok) {
        join(team, started);
        return tp_fail(err, TP_E_MEMORY, "thread %d of %d cannot be started", started, count);
    }
    return true;
}

void team_call(struct team *team, threads_fn fn, void *arg)
{
    unsigned mode = threads_set_fp_mode();
    team->fn = fn;
    team->arg = arg;
    barrier_wait(&team->begin, 0);
    fn(arg, 0, team->count);
    barrier_wait(&team->end, 0);
    threads_restore_fp_mode(mode);
}

void team_stop(struct team *team)
{
    if (!team->threads)
        return;
    team->fn = NULL;
    barrier_wait(&team->begin, 0);
    join(team, team->count);
}

bool threads_run(int count, threads_fn fn, void *arg, struct tp_error *err)
{
    struct team team;
    if (!team_start(&team, count, TEAM_STACK, err))
        return false;
    team_call(&team, fn, arg);
    team_stop(&team);
    return true;
}

/* ---- one call ---- */

struct one_call {
    void (*fn)(void *arg);
    void *arg;
};

static void *run_call(void *p)
{
    const struct one_call *call = p;
    call->fn(call->arg);
    return NULL;
}

bool thread_call(size_t stack_bytes, void (*fn)(void *arg), void *arg, struct tp_error *err)
{
    struct one_call call = {fn, arg};
    pthread_t thread;
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur >= stack_bytes) {
        fn(arg);
        return true;
    }
    bool ok = create(&thread, stack_bytes, run_call, &call);
    if (ok)
        pthread_join(thread, NULL);
    else
        mem_note_lack();
    return ok || tp_fail(err, TP_E_MEMORY, "a thread cannot be started");
}

bool thread_beside(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
    return create(thread, TEAM_STACK, fn, arg);
}
