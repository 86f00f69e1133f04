#include "io.h"

#include "fault.h"
#include "interrupt.h"
#include "mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening ---- */

struct io_identity io_identity_of(const struct stat *st)
{
    return (struct io_identity){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec,
        .ctime_ns = (uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec,
    };
}

bool io_identify(int fd, const char *path, struct io_identity *who, struct tp_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return tp_fail_errno(err, "%s: stat", path);
    *who = io_identity_of(&st);
    return true;
}

bool io_identity_equal(const struct io_identity *a, const struct io_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

bool io_name_is_lost(const char *path, const struct io_identity *who)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_dev != who->dev || st.st_ino != who->ino
                                : errno == ENOENT || errno == ENOTDIR;
}

int io_open_regular(int dir, const char *name, int flags, const char *path, struct io_identity *who,
                    struct tp_error *err)
{
    struct stat st;
    int fd;
    /* a device may do something when it is opened */
    int follow = flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    if (fstatat(dir, name, &st, follow) == 0 && !S_ISREG(st.st_mode)) {
        tp_fail(err, TP_E_NOT_REGULAR, "%s: not a regular file", path);
        return -1;
    }
    /* O_NONBLOCK: opening a FIFO without a writer must not hang. */
    do
        fd = fault_hits(FAULT_OPEN, NULL)
                 ? -1
                 : openat(dir, name, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        if (errno == ENXIO || ((flags & O_NOFOLLOW) && errno == ELOOP)) /* a socket; a link */
            tp_fail(err, TP_E_NOT_REGULAR, "%s: not a regular file", path);
        else
            tp_fail_errno(err, "%s: open", path);
        return -1;
    }
    if (fstat(fd, &st) != 0)
        tp_fail_errno(err, "%s: stat", path);
    else if (!S_ISREG(st.st_mode))
        tp_fail(err, TP_E_NOT_REGULAR, "%s: not a regular file", path);
    else {
        if (who)
            *who = io_identity_of(&st);
        return fd;
    }
    close(fd);
    return -1;
}

int io_open_read(const char *path, struct io_identity *who, struct tp_error *err)
{
    return io_open_regular(AT_FDCWD, path, O_RDONLY, path, who, err);
}

const char *io_kernel_text(const char *path, char *buf, size_t size)
{
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, buf, size - 1);
        close(fd);
    }
    buf[n > 0 ? n : 0] = '\0';
    return buf;
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

bool io_reachable(const char *path, struct tp_error *err)
{
    struct stat st;
    return stat(path, &st) == 0 || errno == ENOENT || errno == ENOTDIR ||
           tp_fail_errno(err, "%s", path);
}

/* ---- reading and writing ---- */

bool io_read_at(int fd, const char *path, void *buf, size_t n, uint64_t offset,
                struct tp_error *err)
{
    unsigned char *p = buf;
    while (n) {
        size_t want = n < (1u << 30) ? n : 1u << 30;
        ssize_t got = fault_hits(FAULT_READ, &want) ? -1 : pread(fd, p, want, (off_t)offset);
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
        ssize_t put = fault_hits(FAULT_WRITE, &want) ? -1 : pwrite(fd, p, want, (off_t)offset);
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

bool io_write_on(int fd, const char *path, const void *buf, size_t n, struct tp_error *err)
{
    const unsigned char *p = buf;
    while (n) {
        size_t want = n < (1u << 30) ? n : 1u << 30;
        ssize_t put = fault_hits(FAULT_WRITE, &want) ? -1 : write(fd, p, want);
        if (put < 0 && errno == EINTR && interrupt_pending()) /* whoever reads may never go on */
            return interrupt_fail(err);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return tp_fail_errno(err, "%s: write of %zu bytes", path, n);
        p += put;
        n -= (size_t)put;
    }
    return true;
}

/* Not that way here: EINVAL, or a count that is no whole number of pages. */
static bool refused(ssize_t put)
{
    return put < 0 ? errno == EINVAL : put == 0 || put % IO_DIRECT_ALIGN;
}

/* Whole pages, how many of them is in *done: fewer where it is refused. */
static bool write_pages(int direct, const char *path, const unsigned char *p, size_t n,
                        uint64_t offset, size_t *done, struct tp_error *err)
{
    for (*done = 0; *done < n;) {
        size_t want = n - *done;
        ssize_t put = fault_hits(FAULT_DIRECT, &want)
                          ? -1
                          : pwrite(direct, p + *done, want, (off_t)(offset + *done));
        if (put < 0 && errno == EINTR)
            continue;
        if (refused(put))
            return true;
        if (put < 0)
            return tp_fail_errno(err, "%s: write of %zu bytes at %llu", path, n,
                                 (unsigned long long)offset);
        *done += (size_t)put;
    }
    return true;
}

/* A part of a page: the page is read, and written again. */
static bool write_edge(const struct io_direct *d, const unsigned char *p, size_t n, uint64_t offset,
                       size_t *done, struct tp_error *err)
{
    _Alignas(IO_DIRECT_ALIGN) unsigned char page[IO_DIRECT_ALIGN];
    uint64_t begin = offset & ~(uint64_t)(IO_DIRECT_ALIGN - 1);
    ssize_t got;
    *done = 0;
    do
        got = fault_hits(FAULT_DIRECT, NULL) ? -1 : pread(d->fd, page, sizeof page, (off_t)begin);
    while (got < 0 && errno == EINTR);
    if (refused(got))
        return true;
    if (got < 0)
        return tp_fail_errno(err, "%s: read of %zu bytes at %llu", d->path, sizeof page,
                             (unsigned long long)begin);
    memcpy(page + (offset - begin), p, n);
    if (!write_pages(d->fd, d->path, page, sizeof page, begin, done, err))
        return false;
    *done = *done ? n : 0;
    return true;
}

bool io_write_direct(const struct io_direct *d, const void *buf, size_t n, uint64_t offset,
                     struct tp_error *err)
{
    const unsigned char *p = buf;
    bool ok = true, direct = d->fd >= 0 && ((uintptr_t)p - offset) % IO_DIRECT_ALIGN == 0;
    while (ok && n && direct) {
        size_t into = offset % IO_DIRECT_ALIGN, whole = n & ~(size_t)(IO_DIRECT_ALIGN - 1), done;
        size_t part = IO_DIRECT_ALIGN - into < n ? IO_DIRECT_ALIGN - into : n;
        if (into == 0 && whole) {
            ok = write_pages(d->fd, d->path, p, part = whole, offset, &done, err);
        } else {
            pthread_mutex_lock(d->edges);
            ok = write_edge(d, p, part, offset, &done, err);
            pthread_mutex_unlock(d->edges);
        }
        p += done, n -= done, offset += done;
        direct = done == part; /* else the rest through the cache */
    }
    if (!ok || n == 0)
        return ok;
    if (d->fd < 0)
        return io_write_at(d->cached, d->path, p, n, offset, err);
    pthread_mutex_lock(d->edges);
    ok = io_write_at(d->cached, d->path, p, n, offset, err);
    pthread_mutex_unlock(d->edges);
    return ok;
}

static int reserve(int fd, uint64_t size)
{
    if (fault_hits(FAULT_RESERVE, NULL))
        return -1;
    if (size && fallocate(fd, 0, 0, (off_t)size) == 0)
        return 0;
    if (size && errno != EOPNOTSUPP && errno != ENOSYS)
        return -1;
    return ftruncate(fd, (off_t)size);
}

bool io_reserve(int fd, const char *path, uint64_t size, struct tp_error *err)
{
    int failed;
    do
        failed = reserve(fd, size);
    while (failed && errno == EINTR);
    return !failed || tp_fail_errno(err, "%s: needs %llu bytes", path, (unsigned long long)size);
}

bool io_truncate(int fd, const char *path, uint64_t size, struct tp_error *err)
{
    int failed;
    do
        failed = fault_hits(FAULT_RESERVE, NULL) ? -1 : ftruncate(fd, (off_t)size);
    while (failed && errno == EINTR);
    return !failed ||
           tp_fail_errno(err, "%s: setting the size to %llu", path, (unsigned long long)size);
}

void io_write_back(int fd, uint64_t offset, uint64_t n)
{
    sync_file_range(fd, (off_t)offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
}

void io_read_ahead(int fd, uint64_t offset, uint64_t n)
{
    posix_fadvise(fd, (off_t)offset, (off_t)n, POSIX_FADV_WILLNEED);
}

bool io_flush_stdout(struct tp_error *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    errno = errno ? errno : EIO; /* who tried before kept no reason */
    return tp_fail_errno(err, "standard output: cannot be written");
}

bool io_sync(int fd, const char *path, struct tp_error *err)
{
    int failed;
    do
        failed = fault_hits(FAULT_SYNC, NULL) ? -1 : fsync(fd);
    while (failed && errno == EINTR);
    return !failed || tp_fail_errno(err, "%s: sync", path);
}

bool io_close(int *fd, const char *path, struct tp_error *err)
{
    int old = *fd;
    if (old < 0)
        return true;
    *fd = -1;
    bool hit = fault_hits(FAULT_CLOSE, NULL);
    int why = hit ? errno : 0;
    if (close(old) != 0 && !why)
        why = errno;
    errno = why;
    /* after EINTR the descriptor is gone too: not to be closed again */
    return why == 0 || why == EINTR || tp_fail_errno(err, "%s: close", path);
}

/* ---- whole files ---- */

bool io_read_file(const char *path, uint64_t limit, char **data, size_t *size, struct tp_error *err)
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
