#include "io.h"
#include "checked.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- the fault hook ---- */

enum fault_action { FAULT_UNREAD, FAULT_NONE, FAULT_COUNT, FAULT_KILL, FAULT_STOP, FAULT_ENOSPC, FAULT_EIO, FAULT_SHORT };

enum io_call {
    CALL_OPEN, CALL_CREATE, CALL_READ, CALL_WRITE, CALL_RESERVE, CALL_SYNC, CALL_CLOSE,
    CALL_SYNC_DIR, CALL_RENAME, CALL_MKDIR, CALL_UNLINK, CALL_MAP, CALL_KINDS
};
static const char *const call_names[CALL_KINDS] = {
    "open", "create", "read", "write", "reserve", "sync", "close",
    "sync_dir", "rename", "mkdir", "unlink", "map"};

static struct {
    _Atomic int action;
    int kind; /* CALL_KINDS: any */
    uint64_t at;
    _Atomic uint64_t count;
    _Atomic uint64_t kinds[CALL_KINDS];
} fault;

static void fault_print(void)
{
    fprintf(stderr, "io calls: %llu\n", (unsigned long long)fault.count);
    for (int i = 0; i < CALL_KINDS; i++)
        if (fault.kinds[i])
            fprintf(stderr, "io call: %s %llu\n", call_names[i], (unsigned long long)fault.kinds[i]);
}

/* "[KIND:]K" after the action's name */
static bool fault_place(const char *text)
{
    const char *colon = strchr(text, ':');
    fault.kind = CALL_KINDS;
    for (int i = 0; colon && i < CALL_KINDS; i++)
        if (strncmp(text, call_names[i], (size_t)(colon - text)) == 0 &&
            call_names[i][colon - text] == '\0')
            fault.kind = i;
    if (colon && fault.kind == CALL_KINDS)
        return false;
    text = colon ? colon + 1 : text;
    return tp_parse_u64(text, strlen(text), &fault.at);
}

static int fault_read(void)
{
    static const struct {
        const char *name;
        enum fault_action action;
    } actions[] = {{"kill:", FAULT_KILL}, {"stop:", FAULT_STOP}, {"enospc:", FAULT_ENOSPC},
                   {"eio:", FAULT_EIO}, {"short:", FAULT_SHORT}};
    const char *text = getenv("TP_FAULT");
    int action = FAULT_NONE;
    if (text && strcmp(text, "count") == 0) {
        action = FAULT_COUNT;
        atexit(fault_print);
    }
    for (size_t i = 0; text && i < sizeof actions / sizeof *actions; i++) {
        size_t n = strlen(actions[i].name);
        if (strncmp(text, actions[i].name, n) == 0 && fault_place(text + n))
            action = actions[i].action;
    }
    atomic_store(&fault.action, action);
    return action;
}

/* Count a call; true when it shall fail, errno set. *n is cut by one for a short transfer. */
static bool fault_hits(enum io_call call, size_t *n)
{
    int action = atomic_load_explicit(&fault.action, memory_order_relaxed);
    if (action == FAULT_UNREAD)
        action = fault_read();
    if (action == FAULT_NONE)
        return false;
    uint64_t of_kind = atomic_fetch_add(&fault.kinds[call], 1) + 1;
    uint64_t of_all = atomic_fetch_add(&fault.count, 1) + 1;
    bool of_any = fault.kind == CALL_KINDS;
    if (!of_any && (int)call != fault.kind)
        return false;
    if ((of_any ? of_all : of_kind) != fault.at)
        return false;
    switch (action) {
    case FAULT_KILL:
        raise(SIGKILL);
        break;
    case FAULT_STOP:
        raise(SIGSTOP);
        break;
    case FAULT_ENOSPC:
        errno = ENOSPC;
        return true;
    case FAULT_EIO:
        errno = EIO;
        return true;
    case FAULT_SHORT:
        if (n && *n > 1)
            --*n;
        break;
    }
    return false;
}

/* ---- opening ---- */

static bool identity_of(const struct stat *st, struct io_identity *who)
{
    who->dev = st->st_dev;
    who->ino = st->st_ino;
    who->size = (uint64_t)st->st_size;
    who->mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    who->ctime_ns = (uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec;
    return true;
}

bool io_identify(int fd, const char *path, struct io_identity *who, struct tp_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return tp_fail_errno(err, "%s: stat", path);
    return identity_of(&st, who);
}

bool io_identity_equal(const struct io_identity *a, const struct io_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

int io_open_read(const char *path, struct io_identity *who, struct tp_error *err)
{
    struct stat st;
    /* O_NONBLOCK: opening a FIFO without a writer must not hang. */
    int fd = fault_hits(CALL_OPEN, NULL) ? -1
                                         : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        if (errno == ENXIO) /* a socket */
            tp_fail(err, TP_E_NOT_REGULAR, "%s: not a regular file", path);
        else
            tp_fail_errno(err, "%s: open", path);
        return -1;
    }
    if (fstat(fd, &st) != 0) {
        tp_fail_errno(err, "%s: stat", path);
        close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        tp_fail(err, TP_E_NOT_REGULAR, "%s: not a regular file", path);
        close(fd);
        return -1;
    }
    if (who)
        identity_of(&st, who);
    return fd;
}

int io_create(const char *path, struct tp_error *err)
{
    int fd = fault_hits(CALL_CREATE, NULL)
                 ? -1
                 : open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        tp_fail_errno(err, "%s: create", path);
    return fd;
}

int io_open_write(const char *path, struct tp_error *err)
{
    int fd = fault_hits(CALL_OPEN, NULL) ? -1 : open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        tp_fail_errno(err, "%s: open for writing", path);
    return fd;
}

/* ---- reading and writing ---- */

bool io_read_at(int fd, const char *path, void *buf, size_t n, uint64_t offset,
                struct tp_error *err)
{
    unsigned char *p = buf;
    while (n) {
        size_t want = n < (1u << 30) ? n : 1u << 30;
        ssize_t got = fault_hits(CALL_READ, &want) ? -1 : pread(fd, p, want, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tp_fail_errno(err, "%s: read of %zu bytes at %llu", path, n,
                                 (unsigned long long)offset);
        if (got == 0)
            return tp_fail(err, TP_E_CHANGED, "%s: file ended at byte %llu, %zu more expected",
                           path, (unsigned long long)offset, n);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return true;
}

bool io_write_at(int fd, const char *path, const void *buf, size_t n, uint64_t offset,
                 struct tp_error *err)
{
    const unsigned char *p = buf;
    while (n) {
        size_t want = n < (1u << 30) ? n : 1u << 30;
        ssize_t put = fault_hits(CALL_WRITE, &want) ? -1 : pwrite(fd, p, want, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return tp_fail_errno(err, "%s: write of %zu bytes at %llu", path, n,
                                 (unsigned long long)offset);
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return true;
}

int io_open_direct(const char *path)
{
    return open(path, O_WRONLY | O_DIRECT | O_NOFOLLOW | O_CLOEXEC);
}

bool io_write_direct(int direct, int fd, const char *path, const void *buf, size_t n, uint64_t offset,
                     struct tp_error *err)
{
    const unsigned char *p = buf;
    size_t head = (size_t)(-offset & (IO_DIRECT_ALIGN - 1));
    if (direct < 0 || ((uintptr_t)p - offset) % IO_DIRECT_ALIGN || n < head + IO_DIRECT_ALIGN)
        return io_write_at(fd, path, buf, n, offset, err);
    size_t middle = (n - head) & ~(size_t)(IO_DIRECT_ALIGN - 1), tail = n - head - middle;
    size_t done = 0;
    while (done < middle) {
        ssize_t put = fault_hits(CALL_WRITE, NULL)
                          ? -1
                          : pwrite(direct, p + head + done, middle - done,
                                   (off_t)(offset + head + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno != EINVAL)
            return tp_fail_errno(err, "%s: write of %zu bytes at %llu", path, middle,
                                 (unsigned long long)(offset + head));
        if (put <= 0 || put % IO_DIRECT_ALIGN) { /* not that way here: the rest through the cache */
            tail += middle - done;
            break;
        }
        done += (size_t)put;
    }
    return (head == 0 || io_write_at(fd, path, p, head, offset, err)) &&
           (tail == 0 || io_write_at(fd, path, p + n - tail, tail, offset + n - tail, err));
}

bool io_reserve(int fd, const char *path, uint64_t size, struct tp_error *err)
{
    if (fault_hits(CALL_RESERVE, NULL))
        return tp_fail_errno(err, "%s: reserving %llu bytes", path, (unsigned long long)size);
    if (size && fallocate(fd, 0, 0, (off_t)size) == 0)
        return true;
    if (size && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR)
        return tp_fail_errno(err, "%s: needs %llu bytes", path, (unsigned long long)size);
    if (ftruncate(fd, (off_t)size) != 0)
        return tp_fail_errno(err, "%s: setting the size to %llu", path, (unsigned long long)size);
    return true;
}

void io_write_back(int fd, uint64_t offset, uint64_t n)
{
    sync_file_range(fd, (off_t)offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
}

bool io_sync(int fd, const char *path, struct tp_error *err)
{
    if (fault_hits(CALL_SYNC, NULL) || fsync(fd) != 0)
        return tp_fail_errno(err, "%s: sync", path);
    return true;
}

bool io_close(int *fd, const char *path, struct tp_error *err)
{
    int old = *fd;
    if (old < 0)
        return true;
    *fd = -1;
    bool hit = fault_hits(CALL_CLOSE, NULL);
    int hit_errno = errno;
    if (close(old) != 0 && errno != EINTR)
        return tp_fail_errno(err, "%s: close", path);
    errno = hit_errno;
    return !hit || tp_fail_errno(err, "%s: close", path);
}

/* ---- names ---- */

bool io_sync_dir(const char *path, struct tp_error *err)
{
    int fd = fault_hits(CALL_SYNC_DIR, NULL) ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return tp_fail_errno(err, "%s: open of the folder", path);
    bool ok = fsync(fd) == 0 || tp_fail_errno(err, "%s: sync of the folder", path);
    close(fd);
    return ok;
}

bool io_rename(const char *from, const char *to, struct tp_error *err)
{
    if (fault_hits(CALL_RENAME, NULL) || rename(from, to) != 0)
        return tp_fail_errno(err, "%s: rename to %s", from, to);
    return true;
}

bool io_exchange(const char *a, const char *b, struct tp_error *err)
{
    enum { EXCHANGE = 2 }; /* RENAME_EXCHANGE of linux/fs.h */
    if (fault_hits(CALL_RENAME, NULL) ||
        syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, EXCHANGE) != 0)
        return tp_fail_errno(err, "%s: exchange with %s (use a new output name)", a, b);
    return true;
}

bool io_mkdir(const char *path, struct tp_error *err)
{
    if (fault_hits(CALL_MKDIR, NULL) || mkdir(path, 0755) != 0)
        return tp_fail_errno(err, "%s: mkdir", path);
    return true;
}

bool io_unlink(const char *path, struct tp_error *err)
{
    if (fault_hits(CALL_UNLINK, NULL) || unlink(path) != 0)
        return tp_fail_errno(err, "%s: unlink", path);
    return true;
}

bool io_rmdir(const char *path, struct tp_error *err)
{
    if (fault_hits(CALL_UNLINK, NULL) || rmdir(path) != 0)
        return tp_fail_errno(err, "%s: rmdir", path);
    return true;
}

bool io_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool io_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool io_list_dir(const char *path, void (*fn)(void *arg, const char *name), void *arg,
                 struct tp_error *err)
{
    DIR *dir = fault_hits(CALL_OPEN, NULL) ? NULL : opendir(path);
    if (!dir)
        return tp_fail_errno(err, "%s: open of the folder", path);
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(arg, entry->d_name);
    bool ok = errno == 0 || tp_fail_errno(err, "%s: reading the folder", path);
    closedir(dir);
    return ok;
}

/* ---- whole files ---- */

bool io_read_file(const char *path, uint64_t limit, char **data, size_t *size,
                  struct tp_error *err)
{
    struct io_identity before, after;
    int fd = io_open_read(path, &before, err);
    if (fd < 0)
        return false;
    char *buf = NULL;
    bool ok = true;
    if (before.size > limit)
        ok = tp_fail(err, TP_E_LIMIT, "%s: %llu bytes, at most %llu are allowed", path,
                     (unsigned long long)before.size, (unsigned long long)limit);
    ok = ok && (buf = mem_alloc(before.size + 1, err)) != NULL;
    ok = ok && io_read_at(fd, path, buf, before.size, 0, err);
    ok = ok && io_identify(fd, path, &after, err);
    if (ok && !io_identity_equal(&before, &after))
        ok = tp_fail(err, TP_E_CHANGED, "%s: changed while reading", path);
    ok &= io_close(&fd, path, err);
    if (!ok) {
        mem_free(buf);
        return false;
    }
    buf[before.size] = '\0';
    *data = buf;
    *size = before.size;
    return true;
}

bool io_write_file(const char *path, const void *data, size_t n, struct tp_error *err)
{
    char tmp[IO_PATH_MAX], dir[IO_PATH_MAX];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
        return tp_fail(err, TP_E_LIMIT, "%s: path too long", path);
    snprintf(dir, sizeof dir, "%.*s", (int)(io_base_name(path) - path), path);
    if (io_exists(tmp) && !io_unlink(tmp, err)) /* left by a run that was killed */
        return false;
    int fd = io_create(tmp, err);
    if (fd < 0)
        return false;
    bool ok = io_write_at(fd, tmp, data, n, 0, err) && io_sync(fd, tmp, err);
    ok &= io_close(&fd, tmp, err);
    ok = ok && io_rename(tmp, path, err) && io_sync_dir(*dir ? dir : ".", err);
    if (!ok)
        unlink(tmp);
    return ok;
}

/* ---- mappings ---- */

/* Open mappings by address, so that a fault in one can name its file: written under the lock, read by the
 * signal handler without it. Mappings beyond the table's size work, and are not named. */
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
    void *p = fault_hits(CALL_MAP, NULL) ? MAP_FAILED
                                         : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
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

void io_populate(const unsigned char *data, uint64_t n)
{
    uintptr_t at = (uintptr_t)data & ~(uintptr_t)4095;
    enum { POPULATE_READ = 22 }; /* MADV_POPULATE_READ, Linux 5.14 */
    madvise((void *)at, (uintptr_t)data + n - at, POPULATE_READ);
}

static const char *bus_program = "tpshard";

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
    char line[384];
    const char *parts[] = {bus_program, ": error IO04: ", map_name((uintptr_t)info->si_addr),
                           ": cut or unreadable while in use\n"};
    size_t n = 0;
    for (size_t i = 0; i < 4; i++)
        for (const char *s = parts[i]; *s && n < sizeof line; s++)
            line[n++] = (unsigned char)*s < 0x20 && i == 2 ? '?' : *s;
    ssize_t ignored = write(2, line, n);
    (void)ignored;
    _exit(TP_EXIT_INTEGRITY);
}

void io_guard_bus(const char *program)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    bus_program = program;
    sigaction(SIGBUS, &action, NULL);
}

/* ---- paths ---- */

bool io_join(char out[IO_PATH_MAX], const char *dir, const char *name, struct tp_error *err)
{
    size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(out, IO_PATH_MAX, "%s%s%s", dir, slash, name) >= IO_PATH_MAX)
        return tp_fail(err, TP_E_LIMIT, "%.200s...: path longer than %d bytes", dir, IO_PATH_MAX);
    return true;
}

bool io_name_is_plain(const char *name, size_t len)
{
    if (len == 0 || len > 255 || (len == 1 && name[0] == '.') ||
        (len == 2 && name[0] == '.' && name[1] == '.'))
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] == '/' || name[i] == '\\' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

const char *io_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
