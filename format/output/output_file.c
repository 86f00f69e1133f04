#include "output_file.h"

#include "checked.h"
#include "hash.h"
#include "interrupt.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ---- what is written where it is: standard output, FIFOs, devices ---- */

/* A path that leads through a folder of descriptors (/dev/stdout, /dev/fd/N): *own is one of this
 * process, else -1. */
static bool is_descriptor(const char *path, int *own)
{
    char at[IO_PATH_MAX], folder[IO_PATH_MAX], real[IO_PATH_MAX], mine[64];
    struct statfs fs;
    uint64_t n;
    *own = -1;
    snprintf(mine, sizeof mine, "/proc/%d/fd", (int)getpid());
    snprintf(at, sizeof at, "%s", path);
    for (int i = 0; i < PLACE_LINKS_MAX; i++) {
        const char *name = io_base_name(at);
        snprintf(folder, sizeof folder, "%.*s", (int)(name - at), at);
        if (!realpath(*folder ? folder : ".", real) || statfs(real, &fs) != 0)
            return false;
        if (fs.f_type == PROC_SUPER_MAGIC) {
            if (strcmp(real, mine) == 0 && tp_parse_u64(name, strlen(name), &n) && n <= INT_MAX)
                *own = (int)n;
            return true;
        }
        if (!io_join(folder, real, name, NULL))
            return false;
        ssize_t length = readlink(folder, at, sizeof at - 1);
        if (length < 0)
            return false;
        at[length] = '\0';
        if (at[0] != '/' && (!io_join(folder, real, at, NULL) || !memcpy(at, folder, sizeof at)))
            return false;
    }
    return false;
}

static bool open_direct(struct output_file *file, const char *path, int descriptor,
                        struct tp_error *err)
{
    snprintf(file->place.path, sizeof file->place.path, "%s", path);
    do /* a FIFO waits here for a reader */
        file->fd = descriptor >= 0 ? fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
                                   : open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
    while (file->fd < 0 && errno == EINTR && !interrupt_pending());
    if (file->fd < 0 && errno == EINTR)
        return interrupt_fail(err);
    return file->fd >= 0 || tp_fail_errno(err, "%s: open", path);
}

static bool is_direct(const char *path, int *descriptor)
{
    struct stat st;
    if (strcmp(path, "-") == 0) {
        *descriptor = STDOUT_FILENO;
        return true;
    }
    return is_descriptor(path, descriptor) ||
           (stat(path, &st) == 0 &&
            (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) || S_ISFIFO(st.st_mode)));
}

/* ---- names to rename from: they prove whose they are ---- */

#define TEMP_PREFIX ".tpshard-"

/* PREFIX and 32 hex digits: 8 random bytes, and 8 of their hash with the name that the file is to
 * have. */
static void temp_name(const char *name, struct hash128 number, char temp[OUTPUT_TEMP_MAX])
{
    struct hash_stream stream;
    char hex[33];
    hash_start(&stream);
    hash_add(&stream, number.bytes, 8);
    hash_add(&stream, name, strlen(name));
    memcpy(number.bytes + 8, hash_end(&stream).bytes, 8);
    hash_to_hex(number, hex);
    snprintf(temp, OUTPUT_TEMP_MAX, TEMP_PREFIX "%s", hex);
}

bool output_temp_name(const char *name, char temp[OUTPUT_TEMP_MAX], struct tp_error *err)
{
    struct hash128 number;
    if (getrandom(number.bytes, 8, 0) != 8)
        return tp_fail_errno(err, "getrandom");
    temp_name(name, number, temp);
    return true;
}

/* The kernel drops it with the process: a name without a lock is nobody's any more. */
static bool lock(int fd)
{
    struct flock want = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_SETLK, &want) == 0;
}

/* What a run that was killed left for this very name. */
static void remove_stale(void *arg, const char *name)
{
    const struct place *place = arg;
    char again[OUTPUT_TEMP_MAX];
    struct hash128 number;
    if (strncmp(name, TEMP_PREFIX, sizeof TEMP_PREFIX - 1) != 0 ||
        !hash_from_hex(name + sizeof TEMP_PREFIX - 1, &number))
        return;
    temp_name(place->name, number, again);
    if (strcmp(name, again) != 0)
        return;
    int fd = folder_open_file(&place->parent, name, O_RDWR, NULL, NULL);
    if (fd >= 0 && lock(fd))
        folder_unlink(&place->parent, name, NULL);
    io_close(&fd, name, NULL);
}

static bool not_a_file(const struct output_file *file, struct tp_error *err)
{
    return tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: is there and is no file; name another",
                   file->place.path);
}

static bool can_be_replaced(const struct folder_entry *entry)
{
    return entry->kind == FOLDER_NOTHING || entry->kind == FOLDER_FILE;
}

bool output_file_open(struct output_file *file, const char *path, struct tp_error *err)
{
    int descriptor;
    *file = (struct output_file){.place.parent.fd = -1, .fd = -1, .slot = -1};
    if (is_direct(path, &descriptor))
        return open_direct(file, path, descriptor, err);
    if (!place_open(&file->place, path, err))
        return false;
    const struct folder *parent = &file->place.parent;
    if (!can_be_replaced(&file->place.entry) || !*io_base_name(path))
        return not_a_file(file, err);
    if (!folder_list(parent, remove_stale, &file->place, err) ||
        !folder_unnamed(parent, &file->fd, err))
        return false;
    if (file->fd < 0 && output_temp_name(file->place.name, file->temp, err)) {
        file->fd = folder_create(parent, file->temp, 0666 & ~folder_umask(), err);
        if (file->fd < 0)
            file->temp[0] = '\0';
        else
            file->slot = interrupt_add_temp(parent->fd, file->temp);
    }
    if (file->fd >= 0)
        lock(file->fd); /* where there are no locks, nothing is taken for stale either */
    return file->fd >= 0;
}

bool output_file_no_terminal(const struct output_file *file, const char *path, struct tp_error *err)
{
    return !isatty(file->fd) ||
           tp_fail(err, TP_E_USAGE,
                   "-o %s: a terminal, which shows no bytes; a file or a pipe expected", path);
}

bool output_file_write(struct output_file *file, const void *data, size_t n, struct tp_error *err)
{
    file->bytes += n;
    return file->place.parent.fd < 0
               ? io_write_on(file->fd, file->place.path, data, n, err)
               : io_write_at(file->fd, file->place.path, data, n, file->bytes - n, err);
}

/* The name is given to what is synced: a free one at once, another by rename. */
static bool take_name(struct output_file *file, struct tp_error *err)
{
    const struct folder *parent = &file->place.parent;
    const char *name = file->place.name;
    struct tp_error why = {0};
    struct folder_entry now;
    bool named = *file->temp, ok = false;
    if (!mem_held(err) || !io_sync(file->fd, file->place.path, err) ||
        !folder_look(parent, name, &now, err))
        return false;
    if (!can_be_replaced(&now))
        return not_a_file(file, err);
    if (!named && now.kind == FOLDER_NOTHING)
        ok = folder_link(parent, file->fd, name, &why);
    if (!ok && (why.code == TP_OK || why.code == TP_E_FOREIGN)) { /* something is there, by now */
        why = (struct tp_error){0};
        ok = (named || output_temp_name(name, file->temp, &why)) &&
             folder_put(parent, named ? -1 : file->fd, file->temp, name, &why);
        if (ok || !named)
            file->temp[0] = '\0';
    }
    if (!ok)
        return why.code == TP_E_FOREIGN ? not_a_file(file, err)
                                        : tp_fail(err, why.code, "%s", why.text);
    return folder_sync(parent, err);
}

bool output_file_close(struct output_file *file, bool ok, struct tp_error *err)
{
    bool direct = file->place.parent.fd < 0;
    if (ok && !direct)
        ok = take_name(file, err);
    if (*file->temp)
        folder_unlink(&file->place.parent, file->temp, NULL);
    interrupt_drop_temp(file->slot);
    ok = io_close(&file->fd, file->place.path, ok ? err : NULL) && ok;
    place_close(&file->place);
    return ok;
}

/* Written directly, to one file, pipe or terminal. */
static bool same_direct(int a, int b)
{
    struct stat of_a, of_b;
    return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino &&
           !(S_ISCHR(of_a.st_mode) && of_a.st_rdev == makedev(1, 3)); /* /dev/null takes all */
}

bool output_file_same(const struct output_file *a, const struct output_file *b)
{
    struct io_identity of_a, of_b;
    if (a->place.parent.fd < 0 && b->place.parent.fd < 0)
        return same_direct(a->fd, b->fd);
    return a->place.parent.fd >= 0 && b->place.parent.fd >= 0 &&
           strcmp(a->place.name, b->place.name) == 0 &&
           io_identify(a->place.parent.fd, "", &of_a, NULL) &&
           io_identify(b->place.parent.fd, "", &of_b, NULL) && of_a.ino == of_b.ino &&
           of_a.dev == of_b.dev;
}

bool output_file_spares(const struct output_file *file, const char *path, struct tp_error *err)
{
    char own[IO_PATH_MAX], real[IO_PATH_MAX];
    return file->place.parent.fd < 0 || !realpath(path, real) ||
           !io_join(own, file->place.parent.path, file->place.name, NULL) ||
           strcmp(own, real) != 0 ||
           tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: is a file that is read; name another",
                   file->place.path);
}

bool output_file_put(const char *path, const void *data, size_t n, struct tp_error *err)
{
    struct output_file file;
    bool ok = output_file_open(&file, path, err) && output_file_write(&file, data, n, err);
    return output_file_close(&file, ok, err);
}
