/* Mappings, and SIGBUS in them. */
#include "io.h"

#include "fault.h"
#include "interrupt.h"
#include "shown.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Open mappings by address, so that a fault in one can name its file: written under the lock, read
 * by the signal handler without it. Mappings beyond the table's size work, and are not named. */
enum { NAMED_MAPS = 256 };
static struct {
    const unsigned char *data; /* NULL: free */
    uint64_t size;
    char name[128];
} named_maps[NAMED_MAPS];
static pthread_mutex_t named_maps_lock = PTHREAD_MUTEX_INITIALIZER;

static void name_map(const struct io_map *map, const char *path)
{
    pthread_mutex_lock(&named_maps_lock);
    for (int i = 0; i < NAMED_MAPS; i++)
        if (!named_maps[i].data) {
            snprintf(named_maps[i].name, sizeof named_maps[i].name, "%s", io_base_name(path));
            named_maps[i].size = map->size;
            named_maps[i].data = map->data;
            break;
        }
    pthread_mutex_unlock(&named_maps_lock);
}

static void forget_map(const struct io_map *map)
{
    pthread_mutex_lock(&named_maps_lock);
    for (int i = 0; i < NAMED_MAPS; i++)
        if (named_maps[i].data == map->data)
            named_maps[i].data = NULL;
    pthread_mutex_unlock(&named_maps_lock);
}

bool io_map(int fd, const char *path, uint64_t size, struct io_map *map, struct tp_error *err)
{
    *map = (struct io_map){0};
    if (size == 0)
        return true;
    void *p;
    do
        p = fault_hits(FAULT_MAP, NULL) ? MAP_FAILED
                                        : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    while (p == MAP_FAILED && errno == EINTR);
    if (p == MAP_FAILED)
        return tp_fail_errno(err, "%s: mapping %llu bytes", path, (unsigned long long)size);
    map->data = p;
    map->size = size;
    name_map(map, path);
    return true;
}

void io_unmap(struct io_map *map)
{
    if (map->data) {
        forget_map(map);
        munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct io_map){0};
}

void io_map_huge(const struct io_map *map)
{
    if (map->data)
        madvise((void *)(uintptr_t)map->data, map->size, MADV_HUGEPAGE);
}

void io_populate(const struct io_map *map, uint64_t offset, uint64_t n)
{
    enum { POPULATE_READ = 22 }; /* MADV_POPULATE_READ, Linux 5.14 */
    tp_assert(n <= map->size && offset <= map->size - n);
    const uintptr_t at = (uintptr_t)(map->data + offset), page = at & ~(uintptr_t)4095;
    if (madvise((void *)page, at + n - page, POPULATE_READ) != 0 && errno == EINVAL)
        madvise((void *)page, at + n - page, MADV_WILLNEED);
}

static const char *map_name(uintptr_t at)
{
    for (int i = 0; i < NAMED_MAPS; i++) {
        uintptr_t begin = (uintptr_t)named_maps[i].data;
        if (begin && at >= begin && at - begin < named_maps[i].size)
            return named_maps[i].name;
    }
    return "a mapped file";
}

/* Only what may be called in a handler; one line, whichever threads fault. */
static void on_bus(int sig, siginfo_t *info, void *context)
{
    static _Atomic int said;
    (void)sig;
    (void)context;
    while (atomic_exchange(&said, 1))
        pause();
    static const char says[] = ": error IO04: ", what[] = ": cut or unreadable while in use\n";
    const char *program = tp_program(), *name = map_name((uintptr_t)info->si_addr);
    char line[384];
    size_t n = shown_escape(line, 64, program, strlen(program));
    memcpy(line + n, says, sizeof says - 1);
    n += sizeof says - 1;
    n += shown_escape(line + n, sizeof line - n - sizeof what, name, strlen(name));
    memcpy(line + n, what, sizeof what - 1);
    n += sizeof what - 1;
    interrupt_restore_terminal();
    ssize_t ignored = write(2, line, n);
    (void)ignored;
    _exit(TP_EXIT_INTEGRITY);
}

void io_start(void)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", fd ? O_RDONLY : O_WRONLY); /* takes the lowest: this one */
}
