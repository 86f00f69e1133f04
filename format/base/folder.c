#include "folder.h"

#include "checked.h"
#include "fault.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

const char *folder_path(char buf[IO_PATH_MAX], const struct folder *folder, const char *name)
{
    if (!io_join(buf, folder->path, name, NULL))
        snprintf(buf, IO_PATH_MAX, ".../%s", name);
    return buf;
}

/* "folder/name: what: reason of errno" */
static bool fail(const struct folder *folder, const char *name, const char *what,
                 struct tp_error *err)
{
    char path[IO_PATH_MAX];
    int why = errno;
    folder_path(path, folder, name);
    if (why == EEXIST)
        return tp_fail(err, TP_E_FOREIGN, "%s: is there already, and was not made by this command",
                       path);
    errno = why;
    return tp_fail_errno(err, "%s: %s", path, what);
}

/* ---- opening ---- */

static int open_dir(int at, const char *path, int flags)
{
    int fd;
    do
        fd = fault_hits(FAULT_OPEN, NULL)
                 ? -1
                 : openat(at, path, flags | O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

bool folder_open(struct folder *folder, const char *path, struct tp_error *err)
{
    folder->fd = -1;
    if ((size_t)snprintf(folder->path, IO_PATH_MAX, "%s", path) >= IO_PATH_MAX)
        return tp_fail(err, TP_E_LIMIT, "%.200s...: path longer than %d bytes", path, IO_PATH_MAX);
    folder->fd = open_dir(AT_FDCWD, path, 0);
    return folder->fd >= 0 || tp_fail_errno(err, "%s: open of the folder", path);
}

bool folder_enter(struct folder *folder, const struct folder *in, const char *name,
                  struct tp_error *err)
{
    folder->fd = -1;
    if (!io_join(folder->path, in->path, name, err))
        return false;
    folder->fd = open_dir(in->fd, name, O_NOFOLLOW);
    return folder->fd >= 0 || fail(in, name, "open of the folder", err);
}

void folder_close(struct folder *folder)
{
    if (folder->fd >= 0)
        close(folder->fd);
    folder->fd = -1;
}

/* ---- looking ---- */

bool folder_look(const struct folder *folder, const char *name, struct folder_entry *entry,
                 struct tp_error *err)
{
    struct stat st;
    *entry = (struct folder_entry){0};
    if (fstatat(folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || fail(folder, name, "stat", err);
    entry->kind = S_ISREG(st.st_mode)   ? FOLDER_FILE
                  : S_ISDIR(st.st_mode) ? FOLDER_FOLDER
                  : S_ISLNK(st.st_mode) ? FOLDER_LINK
                                        : FOLDER_OTHER;
    entry->who = io_identity_of(&st);
    entry->owner = st.st_uid;
    entry->reserved = (uint64_t)st.st_blocks * 512;
    return true;
}

bool folder_is_mount(const struct folder *folder, const char *name)
{
    struct statx x;
    struct folder_entry entry;
    struct io_identity in;
    if (statx(folder->fd, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &x) == 0 &&
        (x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT))
        return x.stx_attributes & STATX_ATTR_MOUNT_ROOT;
    return folder_look(folder, name, &entry, NULL) && entry.kind == FOLDER_FOLDER &&
           io_identify(folder->fd, folder->path, &in, NULL) && in.dev != entry.who.dev;
}

bool folder_leads_to(const struct folder *folder, const char *name, int fd)
{
    struct folder_entry entry;
    struct io_identity who;
    return folder_look(folder, name, &entry, NULL) && entry.kind != FOLDER_NOTHING &&
           io_identify(fd, name, &who, NULL) && entry.who.ino == who.ino &&
           entry.who.dev == who.dev;
}

/* Without opendir, which allocates: what is published is looked at once more, and nothing may fail
 * there for want of memory. */
bool folder_list(const struct folder *folder, void (*fn)(void *arg, const char *name), void *arg,
                 struct tp_error *err)
{
    _Alignas(struct dirent64) char entries[8192];
    ssize_t n;
    int fd = open_dir(folder->fd, ".", 0); /* it has a place of its own */
    if (fd < 0)
        return tp_fail_errno(err, "%s: open of the folder", folder->path);
    while ((n = getdents64(fd, entries, sizeof entries)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *entry = (const void *)(entries + at);
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                fn(arg, entry->d_name);
            at += entry->d_reclen;
        }
    if (n < 0)
        tp_fail_errno(err, "%s: reading the folder", folder->path);
    close(fd);
    return n == 0;
}

bool folder_list_path(const char *path, void (*fn)(void *arg, const char *name), void *arg,
                      struct tp_error *err)
{
    struct folder folder;
    bool ok = folder_open(&folder, path, err) && folder_list(&folder, fn, arg, err);
    folder_close(&folder);
    return ok;
}

struct gathering {
    struct mem_arena *arena;
    struct folder_names *names;
    struct tp_error *err;
    bool ok;
};

static void gather(void *arg, const char *name)
{
    struct gathering *g = arg;
    struct folder_names *to = g->names;
    const char *copy = g->ok ? mem_arena_copy(g->arena, name, strlen(name), g->err) : NULL;
    if (copy && to->count == to->cap) {
        size_t cap = to->cap ? 2 * to->cap : 64;
        const char **list = mem_arena_alloc(g->arena, cap * sizeof *list, g->err);
        if (list && to->count)
            memcpy(list, to->list, to->count * sizeof *list);
        to->list = list;
        to->cap = list ? cap : 0;
    }
    g->ok = copy && to->list;
    if (g->ok)
        to->list[to->count++] = copy;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool folder_read_names(const struct folder *folder, struct mem_arena *arena,
                       struct folder_names *names, struct tp_error *err)
{
    struct gathering g = {arena, names, err, true};
    *names = (struct folder_names){0};
    if (!folder_list(folder, gather, &g, err) || !g.ok)
        return false;
    if (names->count)
        qsort(names->list, names->count, sizeof *names->list, compare_names);
    return true;
}

bool folder_set_mode(const struct folder *folder, mode_t mode, struct tp_error *err)
{
    struct stat st;
    return (fstat(folder->fd, &st) == 0 && fchmod(folder->fd, mode | (st.st_mode & 07000)) == 0) ||
           tp_fail_errno(err, "%s: chmod", folder->path);
}

mode_t folder_umask(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return mask;
}

/* ---- files ---- */

int folder_create(const struct folder *folder, const char *name, mode_t mode, struct tp_error *err)
{
    int fd;
    mode_t mask = umask(0);
    do
        fd = fault_hits(FAULT_CREATE, NULL)
                 ? -1
                 : openat(folder->fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                          mode);
    while (fd < 0 && errno == EINTR);
    umask(mask);
    if (fd < 0)
        fail(folder, name, "create", err);
    return fd;
}

int folder_open_file(const struct folder *folder, const char *name, int flags,
                     struct io_identity *who, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    return io_open_regular(folder->fd, name, flags | O_NOFOLLOW, folder_path(path, folder, name),
                           who, err);
}

int folder_open_direct(const struct folder *folder, const char *name)
{
    return openat(folder->fd, name, O_RDWR | O_DIRECT | O_NOFOLLOW | O_CLOEXEC);
}

bool folder_unnamed(const struct folder *folder, int *fd, struct tp_error *err)
{
    *fd = -1;
    if (access("/proc/self/fd", X_OK) != 0) /* folder_link needs it */
        return true;
    do
        *fd = fault_hits(FAULT_CREATE, NULL)
                  ? -1
                  : openat(folder->fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    while (*fd < 0 && errno == EINTR);
    return *fd >= 0 || errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT ||
           errno == EINVAL || tp_fail_errno(err, "%s: making a file", folder->path);
}

static int link_fd(const struct folder *folder, int fd, const char *name)
{
    char from[32];
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, from, folder->fd, name, AT_SYMLINK_FOLLOW);
}

bool folder_link(const struct folder *folder, int fd, const char *name, struct tp_error *err)
{
    int failed;
    do
        failed = fault_hits(FAULT_RENAME, NULL) ? -1 : link_fd(folder, fd, name);
    while (failed && errno == EINTR);
    return !failed || fail(folder, name, "link", err);
}

/* For the fault hook one call: nothing comes in between but from outside, and that is looked at
 * last. */
bool folder_put(const struct folder *folder, int fd, const char *by, const char *name,
                struct tp_error *err)
{
    struct folder_entry now;
    int failed;
    do
        failed = fault_hits(FAULT_RENAME, NULL) || (fd >= 0 && link_fd(folder, fd, by));
    while (failed && errno == EINTR);
    if (failed)
        return fail(folder, by, "link", err);
    bool ok = folder_look(folder, name, &now, err);
    if (ok && now.kind != FOLDER_NOTHING && now.kind != FOLDER_FILE) {
        errno = EEXIST;
        ok = fail(folder, name, "", err);
    }
    ok = ok && (renameat(folder->fd, by, folder->fd, name) == 0 ||
                fail(folder, name, "rename to this name", err));
    if (!ok && fd >= 0)
        unlinkat(folder->fd, by, 0);
    return ok;
}

/* ---- names ---- */

bool folder_mkdir(const struct folder *folder, const char *name, struct tp_error *err)
{
    int failed;
    mode_t mask = umask(0);
    do
        failed = fault_hits(FAULT_MKDIR, NULL) ? -1 : mkdirat(folder->fd, name, 0700);
    while (failed && errno == EINTR);
    umask(mask);
    return !failed || fail(folder, name, "mkdir", err);
}

static bool remove_name(const struct folder *folder, const char *name, int flags, const char *what,
                        struct tp_error *err)
{
    int failed;
    do
        failed = fault_hits(FAULT_UNLINK, NULL) ? -1 : unlinkat(folder->fd, name, flags);
    while (failed && errno == EINTR);
    return !failed || fail(folder, name, what, err);
}

bool folder_unlink(const struct folder *folder, const char *name, struct tp_error *err)
{
    return remove_name(folder, name, 0, "unlink", err);
}

bool folder_rmdir(const struct folder *folder, const char *name, struct tp_error *err)
{
    return remove_name(folder, name, AT_REMOVEDIR, "rmdir", err);
}

static int rename_flags(const struct folder *from, const char *name, const struct folder *to,
                        const char *to_name, unsigned flags)
{
    int failed;
    do
        failed =
            fault_hits(FAULT_RENAME, NULL) ? -1 : renameat2(from->fd, name, to->fd, to_name, flags);
    while (failed && errno == EINTR);
    return failed;
}

bool folder_move(const struct folder *from, const char *name, const struct folder *to,
                 const char *to_name, struct tp_error *err)
{
    int failed = rename_flags(from, name, to, to_name, RENAME_NOREPLACE);
    if (failed && (errno == EINVAL || errno == ENOSYS)) { /* not on this file system */
        struct folder_entry entry;
        if (!folder_look(to, to_name, &entry, err))
            return false;
        errno = EEXIST;
        failed = entry.kind != FOLDER_NOTHING ? -1 : rename_flags(from, name, to, to_name, 0);
    }
    if (failed && errno != EEXIST)
        return fail(from, name, "rename", err);
    return !failed || fail(to, to_name, "rename", err);
}

bool folder_replace(const struct folder *folder, const char *name, const char *over,
                    struct tp_error *err)
{
    if (rename_flags(folder, name, folder, over, 0) == 0)
        return true;
    if (errno == ENOTEMPTY || errno == ENOTDIR || errno == EISDIR)
        errno = EEXIST;
    return fail(folder, over, "rename to this name", err);
}

bool folder_exchange(const struct folder *folder, const char *a, const char *b,
                     struct tp_error *err)
{
    return rename_flags(folder, a, folder, b, RENAME_EXCHANGE) == 0 ||
           fail(folder, b, "cannot be exchanged with the new folder; use a new output name", err);
}

bool folder_sync(const struct folder *folder, struct tp_error *err)
{
    int failed;
    do
        failed = fault_hits(FAULT_SYNC_DIR, NULL) ? -1 : fsync(folder->fd);
    while (failed && errno == EINTR);
    /* EINVAL: a file system that has no such thing for folders */
    return !failed || errno == EINVAL || tp_fail_errno(err, "%s: sync of the folder", folder->path);
}
