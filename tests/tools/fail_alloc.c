/* Preloaded into a program: its K-th allocation fails, FAIL_ALLOC=K, or every one from the K-th on, FAIL_ALLOC=K+. It is
 * whoever's in the process: ours, a library's, the C library's own; malloc and its kin, mmap, and threads that are started. Children
 * count anew. FAIL_ALLOC=count prints "allocations: N" at the end.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static _Atomic unsigned long calls;
static unsigned long first, last; /* that fail */
static int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

__attribute__((constructor)) static void start(void)
{
    const char *text = getenv("FAIL_ALLOC");
    real_create = (__typeof__(real_create))(uintptr_t)dlsym(RTLD_NEXT, "pthread_create");
    atomic_store(&calls, 0);
    if (text)
        first = strtoul(text, NULL, 10);
    last = text && strchr(text, '+') ? ~0ul : first;
}

__attribute__((destructor)) static void end(void)
{
    const char *text = getenv("FAIL_ALLOC");
    char line[64];
    if (text && strcmp(text, "count") == 0 &&
        write(2, line, (size_t)snprintf(line, sizeof line, "allocations: %lu\n", calls)) < 0)
        _exit(1);
}

static bool fails(void)
{
    unsigned long k = atomic_fetch_add(&calls, 1) + 1;
    if (!first || k < first || k > last)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t n)
{
    return fails() ? NULL : __libc_realloc(p, n);
}

void *reallocarray(void *p, size_t count, size_t size)
{
    size_t n;
    return __builtin_mul_overflow(count, size, &n) || fails() ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    if (fails())
        return ENOMEM;
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return fails() ? EAGAIN : real_create(thread, attr, fn, arg);
}
