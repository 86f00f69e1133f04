/* Preloaded into a program: what it does to files below RECORD_ROOT, a line each in RECORD_LOG, in
 * the order of the calls. tests/e2e/test_power_cut.py makes of it the disks that a power cut could
 * leave.
 *
 *   mkdir DIR NAME INODE           create DIR NAME INODE       unnamed INODE
 *   link INODE DIR NAME
 *   write INODE OFFSET HEX         size INODE BYTES (at least, fallocate)          cut INODE BYTES
 *   sync INODE                     rename DIR NAME DIR NAME FLAGS                  unlink DIR NAME
 *
 * DIR and INODE are inode numbers.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER; /* calls and their lines, in one order */
static FILE *recorded;
static char root[4096];

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("RECORD_LOG"), *below = getenv("RECORD_ROOT");
    if (path && below && realpath(below, root))
        recorded = fopen(path, "ae");
    unsetenv("LD_PRELOAD"); /* not for children */
}

/* The inode of a descriptor below the root; 0: another. AT_FDCWD is never used for what is written
 * there. */
static unsigned long inode(int fd)
{
    char link[64], path[4096];
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = recorded ? readlink(link, path, sizeof path - 1) : -1;
    if (n < 0 || fstat(fd, &st) != 0)
        return 0;
    path[n] = '\0';
    return strncmp(path, root, strlen(root)) == 0 ? st.st_ino : 0;
}

static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(recorded, format, args);
    va_end(args);
    fflush(recorded);
}

int openat(int dir, const char *name, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    pthread_mutex_lock(&order);
    int fd = REAL(openat)(dir, name, flags, mode);
    if (fd >= 0 && (flags & O_CREAT) && inode(fd))
        say("create %lu %s %lu\n", inode(dir), name, inode(fd));
    else if (fd >= 0 && (flags & __O_TMPFILE) == __O_TMPFILE && inode(fd))
        say("unnamed %lu\n", inode(fd));
    pthread_mutex_unlock(&order);
    return fd;
}

int mkdirat(int dir, const char *name, mode_t mode)
{
    struct stat st;
    pthread_mutex_lock(&order);
    int failed = REAL(mkdirat)(dir, name, mode);
    if (!failed && inode(dir) && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        say("mkdir %lu %s %lu\n", inode(dir), name, (unsigned long)st.st_ino);
    pthread_mutex_unlock(&order);
    return failed;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    pthread_mutex_lock(&order);
    ssize_t put = REAL(pwrite)(fd, data, n, offset);
    if (put > 0 && inode(fd)) {
        say("write %lu %ld ", inode(fd), (long)offset);
        for (ssize_t i = 0; i < put; i++)
            fprintf(recorded, "%02x", ((const unsigned char *)data)[i]);
        say("\n");
    }
    pthread_mutex_unlock(&order);
    return put;
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    pthread_mutex_lock(&order);
    int failed = REAL(fallocate)(fd, mode, offset, n);
    if (!failed && inode(fd))
        say("size %lu %ld\n", inode(fd), (long)(offset + n));
    pthread_mutex_unlock(&order);
    return failed;
}

int ftruncate(int fd, off_t n)
{
    pthread_mutex_lock(&order);
    int failed = REAL(ftruncate)(fd, n);
    if (!failed && inode(fd))
        say("cut %lu %ld\n", inode(fd), (long)n);
    pthread_mutex_unlock(&order);
    return failed;
}

int fsync(int fd)
{
    pthread_mutex_lock(&order);
    int failed = REAL(fsync)(fd);
    if (!failed && inode(fd))
        say("sync %lu\n", inode(fd));
    pthread_mutex_unlock(&order);
    return failed;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    pthread_mutex_lock(&order);
    int failed = REAL(renameat2)(from_dir, from, to_dir, to, flags);
    if (!failed && inode(from_dir))
        say("rename %lu %s %lu %s %u\n", inode(from_dir), from, inode(to_dir), to, flags);
    pthread_mutex_unlock(&order);
    return failed;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameat2(from_dir, from, to_dir, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    struct stat st;
    pthread_mutex_lock(&order);
    int failed = REAL(linkat)(from_dir, from, to_dir, to, flags);
    if (!failed && inode(to_dir) && fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        say("link %lu %lu %s\n", (unsigned long)st.st_ino, inode(to_dir), to);
    pthread_mutex_unlock(&order);
    return failed;
}

int unlinkat(int dir, const char *name, int flags)
{
    pthread_mutex_lock(&order);
    int failed = REAL(unlinkat)(dir, name, flags);
    if (!failed && inode(dir))
        say("unlink %lu %s\n", inode(dir), name);
    pthread_mutex_unlock(&order);
    return failed;
}
