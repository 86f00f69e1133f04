#include "threads.h"
#include "mem.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

void threads_set_fp_mode(void)
{
    _mm_setcsr(0x9fc0);
}

int threads_available(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set);
}

struct start {
    threads_fn fn;
    void *arg;
    int index, count;
    _Atomic int *go; /* 0 wait, 1 run, 2 give up */
    pthread_t thread;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *thread_main(void *p)
{
    struct start *s = p;
    while (atomic_load(s->go) == 0)
        futex_wait((_Atomic uint32_t *)s->go, 0);
    if (atomic_load(s->go) == 1) {
        threads_set_fp_mode();
        s->fn(s->arg, s->index, s->count);
    }
    return NULL;
}

bool threads_run(int count, threads_fn fn, void *arg, struct tp_error *err)
{
    tp_assert(count >= 1);
    unsigned mode = _mm_getcsr();
    _Atomic int go = 0;
    struct start *starts = mem_array((uint64_t)count, sizeof *starts, err);
    if (!starts)
        return false;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 1 << 20);
    int started = 1;
    for (; started < count; started++) {
        starts[started] = (struct start){fn, arg, started, count, &go, 0};
        if (pthread_create(&starts[started].thread, &attr, thread_main, &starts[started]) != 0)
            break;
    }
    pthread_attr_destroy(&attr);
    bool ok = started == count ||
              tp_fail(err, TP_E_MEMORY, "thread %d of %d cannot be started", started, count);
    atomic_store(&go, ok ? 1 : 2);
    futex_wake((_Atomic uint32_t *)&go);
    if (ok) {
        threads_set_fp_mode();
        fn(arg, 0, count);
        _mm_setcsr(mode);
    }
    for (int i = 1; i < started; i++)
        pthread_join(starts[i].thread, NULL);
    mem_free(starts);
    return ok;
}

/* 25 us or so: as long as threads that all have a processor differ within a phase. Processors of a
 * virtual machine may take turns on one of the host's; whoever spins then holds up the thread that
 * is waited for, and decoding falls to half its speed. */
enum { SPIN = 1000, SPIN_CROWDED = 50 };

void barrier_init(struct barrier *barrier, int count)
{
    *barrier = (struct barrier){.count = (uint32_t)count};
    barrier->spin = count <= threads_available() ? SPIN : SPIN_CROWDED;
}

void barrier_wait(struct barrier *barrier)
{
    uint32_t phase = atomic_load_explicit(&barrier->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 ==
        barrier->count) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->phase, phase + 1, memory_order_release);
        if (barrier->count > 1)
            futex_wake(&barrier->phase);
        return;
    }
    for (int i = 0; i < barrier->spin; i++) {
        if (atomic_load_explicit(&barrier->phase, memory_order_acquire) != phase)
            return;
        _mm_pause();
    }
    while (atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase)
        futex_wait(&barrier->phase, phase);
}
