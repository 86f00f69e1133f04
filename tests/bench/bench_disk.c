/* What the disk of a folder gives to large direct requests (O_DIRECT), the limit of conversions:
 * writes to four preallocated files with several in flight, then fsync, all of it in the time;
 * reads of them; and a read and a write at once, as a conversion does them. Where the file system
 * has no direct descriptors it goes through the page cache. Prints medians in GB/s, and the best.
 *
 * bench_disk FOLDER [bytes [rounds [write|read|both [MiB in-flight]]]]
 */
#include "folder.h"
#include "measure.h"
#include "threads.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 4, BUFFER = 4 << 20, THREADS_MAX = 16, ROUNDS_MAX = 99, WAYS_MAX = 8 };

struct disk {
    struct folder folder;
    uint64_t file_bytes;
    size_t request;           /* bytes of one */
    uint64_t requests;        /* of all files */
    _Atomic uint64_t next[2]; /* to read, to write */
    int fd[2][FILES], direct[2][FILES];
    unsigned char *buffers;
};

static void check(bool ok, const struct tp_error *err)
{
    if (!ok) {
        fprintf(stderr, "bench_disk: %s\n", err->text);
        exit(tp_code_exit(err->code));
    }
}

static void name_of(char name[16], int set, int i)
{
    snprintf(name, 16, "disk-%c%d", "rw"[set], i);
}

static void make_files(struct disk *d, int set)
{
    struct tp_error err;
    char name[16];
    for (int i = 0; i < FILES; i++) {
        name_of(name, set, i);
        folder_unlink(&d->folder, name, &err); /* of a run that was interrupted */
        d->fd[set][i] = folder_create(&d->folder, name, 0600, &err);
        check(d->fd[set][i] >= 0 && io_reserve(d->fd[set][i], name, d->file_bytes, &err), &err);
        int direct = folder_open_direct(&d->folder, name);
        d->direct[set][i] = direct >= 0 ? direct : d->fd[set][i];
    }
}

static void sync_files(struct disk *d, int set)
{
    struct tp_error err;
    for (int i = 0; i < FILES; i++)
        check(io_sync(d->fd[set][i], "disk", &err), &err);
}

static void remove_files(struct disk *d, int set)
{
    struct tp_error err;
    char name[16];
    for (int i = 0; i < FILES; i++) {
        name_of(name, set, i);
        if (d->direct[set][i] != d->fd[set][i])
            io_close(&d->direct[set][i], name, NULL);
        io_close(&d->fd[set][i], name, NULL);
        check(folder_unlink(&d->folder, name, &err), &err);
    }
}

/* A quarter of the requests to each file, so that all of them grow side by side. */
static void take(struct disk *d, int set, unsigned char *buffer)
{
    struct tp_error err;
    for (;;) {
        uint64_t n = atomic_fetch_add(&d->next[set], 1);
        if (n >= d->requests)
            return;
        int fd = d->direct[set][n % FILES];
        uint64_t at = n / FILES * d->request;
        check(set ? io_write_at(fd, "disk", buffer, d->request, at, &err)
                  : io_read_at(fd, "disk", buffer, d->request, at, &err),
              &err);
    }
}

static void write_thread(void *arg, int index, int count)
{
    struct disk *d = arg;
    (void)count;
    take(d, 1, d->buffers + (size_t)index * BUFFER);
}

static void read_thread(void *arg, int index, int count)
{
    struct disk *d = arg;
    (void)count;
    take(d, 0, d->buffers + (size_t)index * BUFFER);
}

static void both_thread(void *arg, int index, int count)
{
    (index % 2 ? write_thread : read_thread)(arg, index, count);
}

enum what { WRITE, READ, BOTH };
static double rate(struct disk *d, enum what what, size_t request, int threads)
{
    static const threads_fn fns[] = {write_thread, read_thread, both_thread};
    struct tp_error err;
    d->request = request;
    d->requests = FILES * (d->file_bytes / request);
    d->next[0] = d->next[1] = 0;
    double begin = now();
    if (what != READ)
        make_files(d, 1);
    check(threads_run(threads, fns[what], d, &err), &err);
    if (what != READ)
        sync_files(d, 1);
    double took = now() - begin;
    if (what != READ)
        remove_files(d, 1);
    return (double)(FILES * d->file_bytes) / took * 1e-9;
}

struct way {
    size_t mib; /* of a request */
    int threads;
};

static void measure(struct disk *d, enum what what, const struct way *ways, int n_ways, int rounds)
{
    static const char *const names[] = {"write", "read", "read and write at once, each"};
    static double rates[WAYS_MAX][ROUNDS_MAX];
    double best = 0;
    int best_way = 0;
    for (int r = 0; r < rounds; r++)
        for (int w = 0; w < n_ways; w++)
            rates[w][r] = rate(d, what, ways[w].mib << 20, ways[w].threads);
    for (int w = 0; w < n_ways; w++) {
        double m = median(rates[w], rounds);
        printf("disk %s: %zu MiB, %d in flight: %.2f GB/s\n", names[what], ways[w].mib,
               ways[w].threads, m);
        if (m > best)
            best = m, best_way = w;
    }
    printf("disk best %s: %.2f GB/s (%zu MiB, %d in flight)\n", names[what], best,
           ways[best_way].mib, ways[best_way].threads);
    fflush(stdout);
}

/* Files to read, their blocks written: what is only reserved is not read. */
static void make_source(struct disk *d)
{
    struct tp_error err;
    make_files(d, 0);
    d->request = BUFFER;
    d->requests = FILES * (d->file_bytes / BUFFER);
    for (uint64_t i = 0; i < d->requests; i++)
        check(io_write_at(d->direct[0][i % FILES], "disk", d->buffers, BUFFER, i / FILES * BUFFER,
                          &err),
              &err);
    sync_files(d, 0);
}

int main(int argc, char **argv)
{
    static const struct way all[WAYS_MAX] = {{1, 2}, {1, 4}, {1, 8}, {2, 4},
                                             {4, 2}, {4, 4}, {4, 8}, {4, 16}};
    static struct disk d;
    struct tp_error err;
    struct way way = {0};
    const char *only = argc > 4 ? argv[4] : NULL;
    uint64_t bytes = argc > 2 ? strtoull(argv[2], NULL, 0) : 1u << 30;
    int rounds = argc > 3 ? atoi(argv[3]) : 3;
    if (argc == 7)
        way = (struct way){(size_t)atoi(argv[5]), atoi(argv[6])};
    const struct way *ways = argc == 7 ? &way : all;
    int n_ways = argc == 7 ? 1 : WAYS_MAX;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || way.mib << 20 > BUFFER ||
        way.threads > THREADS_MAX || (argc == 7 && (way.mib < 1 || way.threads < 1)))
        return fprintf(stderr, "bench_disk FOLDER [bytes [rounds [write|read|both "
                               "[MiB in-flight]]]]\n"),
               2;
    d.file_bytes = bytes / FILES / BUFFER * BUFFER;
    d.buffers = mem_map_alloc((size_t)THREADS_MAX * BUFFER, &err);
    check(d.buffers != NULL && folder_open(&d.folder, argv[1], &err), &err);
    memset(d.buffers, 0x5a, (size_t)THREADS_MAX * BUFFER);
    if (!only || strcmp(only, "write") == 0)
        measure(&d, WRITE, ways, n_ways, rounds);
    if (only && strcmp(only, "write") == 0)
        return 0;
    make_source(&d);
    if (!only || strcmp(only, "read") == 0)
        measure(&d, READ, ways, n_ways, rounds);
    if (only && strcmp(only, "both") == 0)
        measure(&d, BOTH, ways, n_ways, rounds);
    remove_files(&d, 0);
    return 0;
}
