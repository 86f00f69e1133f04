/* What a start costs.
 *
 * Warm: the first step of an engine that hashes weights as it reads them, beside that of one that
 * does not (--verify header), and beside hashing all before it. The files are in the page cache,
 * each engine maps them anew; interleaved.
 *
 * Cold: from opening an engine to its first logits, verified, none of the files in the page cache,
 * beside the fastest of some plain reads of the same files; in turns. The disk's share is the
 * read's time over the start's.
 *
 * Prints lines of JSON; checks nothing.
 *
 * bench_start BUNDLE [rounds [cold rounds]]: 9 and 0
 */
#include "engine.h"
#include "measure.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS_MAX = SAMPLES_MAX, THREADS_MAX = 2, PIECE_BYTES = 4 << 20 };
enum way { PLAIN, IN_STEP, AT_ONCE, WAYS };

struct start {
    double open, hash, step; /* seconds; hash: of the two others */
};

static bool run_start(const struct bundle *bundle, enum way way, int threads, struct start *start,
                      struct tp_error *err)
{
    const uint64_t positions = 1;
    const struct engine_setup setup = {
        .device = &device_cpu,
        .threads = threads,
        .kv_dtype = bundle->recipe.dtype,
        .rows_max = 1,
        .n_sequences = 1,
        .n_pages = (uint32_t)kv_cache_pages_of(positions),
        .positions_max = &positions,
        .verify = way != PLAIN,
        .hash_first = way == AT_ONCE,
    };
    struct engine e;
    const double begin = now();
    if (!engine_open(&e, bundle, &setup, err))
        return false;
    const double opened = now();
    *start = (struct start){opened - begin, e.hash_seconds, 0};
    engine_begin(&e);
    bool ok = engine_add(&e, (struct step_row){0, 0, 1}, true) && engine_step(&e, err);
    start->step = now() - opened;
    engine_close(&e);
    return ok;
}

/* In turns, seconds; a line of samples. */
static void print_ms(const char *what, int threads, double *seconds, int rounds)
{
    char text[80];
    for (int i = 0; i < rounds; i++)
        seconds[i] *= 1e3;
    snprintf(text, sizeof text, "first step %s, %d thread%s", what, threads,
             threads > 1 ? "s" : "");
    print_samples(text, "ms", seconds, rounds);
}

static bool run_warm(const struct bundle *bundle, int rounds, int threads, struct tp_error *err)
{
    static const char *const names[WAYS] = {"plain", "verified", "behind hashing"};
    double seconds[WAYS][ROUNDS_MAX];
    struct start start;
    for (int round = -1; round < rounds; round++) /* the first makes the cache warm */
        for (enum way way = 0; way < WAYS; way++) {
            if (!run_start(bundle, way, threads, &start, err))
                return false;
            seconds[way][round < 0 ? 0 : round] = start.step + (way == AT_ONCE ? start.hash : 0);
        }
    for (enum way way = 0; way < WAYS; way++)
        print_ms(names[way], threads, seconds[way], rounds);
    return true;
}

/* ---- cold ---- */

struct disk_way {
    const char *name;
    int threads, flags;
};
static const struct disk_way disk_ways[] = {
    {"past the page cache, 1 in flight", 1, O_DIRECT},
    {"past the page cache, 2 in flight", 2, O_DIRECT},
    {"past the page cache, 4 in flight", 4, O_DIRECT},
    {"buffered, 1 in flight", 1, 0},
    {"buffered, 2 in flight", 2, 0},
};
enum { DISK_WAYS = sizeof disk_ways / sizeof *disk_ways };

struct disk_read {
    char path[IO_PATH_MAX];
    uint64_t bytes;
    int flags;
    _Atomic uint64_t next;
    _Atomic bool failed;
};

static void read_pieces(void *arg, int index, int count)
{
    struct disk_read *read = arg;
    int fd = open(read->path, O_RDONLY | read->flags);
    void *piece = mem_map_alloc(PIECE_BYTES, NULL);
    (void)index, (void)count;
    for (uint64_t at; fd >= 0 && piece && (at = read->next++ * PIECE_BYTES) < read->bytes;)
        read->failed |= pread(fd, piece, PIECE_BYTES, (off_t)at) <= 0;
    read->failed |= fd < 0 || !piece;
    mem_map_free(piece, PIECE_BYTES);
    if (fd >= 0)
        close(fd);
}

static bool path_of_rank(const struct bundle *bundle, uint64_t rank, char path[IO_PATH_MAX],
                         struct tp_error *err)
{
    char name[RANK_FILE_NAME_MAX];
    return io_join(path, bundle->dir, rank_file_name(name, rank, bundle->tp_size), err);
}

/* Out of the page cache, where nobody has them mapped. */
static bool forget(const struct bundle *bundle, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        if (!path_of_rank(bundle, r, path, err))
            return false;
        int fd = open(path, O_RDONLY);
        if (fd < 0 || fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
            return tp_fail_errno(err, "%s", path);
        close(fd);
    }
    return true;
}

static bool timed_disk(const struct bundle *bundle, const struct disk_way *way, double *seconds,
                       struct tp_error *err)
{
    const double begin = now();
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        struct disk_read read = {.bytes = bundle->ranks[r].file_bytes, .flags = way->flags};
        if (!path_of_rank(bundle, r, read.path, err) ||
            !threads_run(way->threads, read_pieces, &read, err))
            return false;
        if (read.failed)
            return tp_fail(err, TP_E_IO, "%s: %s: cannot be read", read.path, way->name);
    }
    *seconds = now() - begin;
    return true;
}

static bool run_cold(const struct bundle *bundle, int rounds, int threads, struct tp_error *err)
{
    double ours[ROUNDS_MAX], disk[DISK_WAYS][ROUNDS_MAX];
    struct start start;
    int best = 0;
    for (int i = 0; i < rounds; i++) {
        for (int w = 0; w < DISK_WAYS; w++)
            if (!forget(bundle, err) || !timed_disk(bundle, &disk_ways[w], &disk[w][i], err))
                return false;
        if (!forget(bundle, err) || !run_start(bundle, IN_STEP, threads, &start, err))
            return false;
        ours[i] = start.open + start.step;
    }
    for (int w = 1; w < DISK_WAYS; w++)
        if (median(disk[w], rounds) < median(disk[best], rounds))
            best = w;
    print_samples("cold first logits", "s", ours, rounds);
    print_samples("cold plain read", "s", disk[best], rounds);
    return true;
}

static int count_of(const char *text, int least)
{
    int n = atoi(text);
    return n < least ? least : n > ROUNDS_MAX ? ROUNDS_MAX : n;
}

int main(int argc, char **argv)
{
    struct bundle bundle = {0};
    struct tp_error err = {0};
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: bench_start BUNDLE [rounds [cold rounds]]\n");
        return 2;
    }
    const int rounds = count_of(argc > 2 ? argv[2] : "9", 1);
    const int cold = count_of(argc > 3 ? argv[3] : "0", 0);
    bool ok = bundle_open(&bundle, argv[1], false, &err);
    for (int threads = 1; ok && threads <= THREADS_MAX; threads++)
        ok = run_warm(&bundle, rounds, threads, &err);
    ok = ok && (cold == 0 || run_cold(&bundle, cold, THREADS_MAX, &err));
    bundle_close(&bundle);
    return ok ? 0 : tp_error_print("bench_start", &err);
}
