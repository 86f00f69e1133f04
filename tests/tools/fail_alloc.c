/* Preloaded into a program: its K-th allocation fails, FAIL_ALLOC=K, or every one from the K-th on,
 * FAIL_ALLOC=K+. It is whoever's in the process: ours, a library's, the C library's own; malloc and
 * its kin, mmap, and threads that are started. Children count anew. The end prints "allocations: N
 * left: M": how many there were, and blocks that were never freed. FAIL_ALLOC=count: none fails.
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
void __libc_free(void *p);

static _Atomic unsigned long calls;
static _Atomic long left;
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
    char line[64];
    int n = snprintf(line, sizeof line, "allocations: %lu left: %ld\n", calls, left);
    if (getenv("FAIL_ALLOC") && write(2, line, (size_t)n) < 0)
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

static void *counted(void *p)
{
    left += p != NULL;
    return p;
}

void *malloc(size_t n)
{
    return fails() ? NULL : counted(__libc_malloc(n));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *p, size_t n)
{
    if (fails())
        return NULL;
    return p ? __libc_realloc(p, n) : counted(__libc_malloc(n));
}

void *reallocarray(void *p, size_t count, size_t size)
{
    size_t n;
    return __builtin_mul_overflow(count, size, &n) ? NULL : realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : counted(__libc_memalign(align, n));
}

void free(void *p)
{
    left -= p != NULL;
    __libc_free(p);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    if (fails())
        return ENOMEM;
    *p = counted(__libc_memalign(align, n));
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
