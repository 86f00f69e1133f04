/* Files: every system call on files of either program is made here, so that one place loops over
 * short counts and EINTR, names the path in the error, and can be made to fail.
 *
 * Fault hook, for tests: TP_FAULT=ACTION:[KIND:]K in the environment makes the K-th call (counted from 1 over
 * the process, of all kinds or of one) do ACTION: kill (SIGKILL), stop (SIGSTOP), enospc, eio, short (transfers
 * one byte less; the loop goes on). TP_FAULT=count prints "io calls: N" and a line "io call: KIND N" for every
 * kind seen on stderr at exit.
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a file was when it was opened: two of these differ when it was changed in between. */
struct io_identity {
    uint64_t dev, ino, size, mtime_ns, ctime_ns;
};

/* Open for reading; anything but a regular file (FIFO, folder, device) is TP_E_NOT_REGULAR and never
 * blocks. Symbolic links are followed. Returns the descriptor, -1 on error. who may be NULL. */
int io_open_read(const char *path, struct io_identity *who, struct tp_error *err);
/* Create anew with O_EXCL|O_NOFOLLOW, mode 0644 less umask; read and write. */
int io_create(const char *path, struct tp_error *err);
/* Open an existing file of ours for read and write, O_NOFOLLOW. */
int io_open_write(const char *path, struct tp_error *err);
bool io_identify(int fd, const char *path, struct io_identity *who, struct tp_error *err);
bool io_identity_equal(const struct io_identity *a, const struct io_identity *b);

/* Exactly n bytes, or an error; end of file before that is TP_E_CHANGED. */
bool io_read_at(int fd, const char *path, void *buf, size_t n, uint64_t offset,
                struct tp_error *err);
bool io_write_at(int fd, const char *path, const void *buf, size_t n, uint64_t offset,
                 struct tp_error *err);
/* A second descriptor of a file open for writing that goes past the page cache, -1 where the file system
 * has none: no error. */
int io_open_direct(const char *path);
enum { IO_DIRECT_ALIGN = 4096 };
/* io_write_at, whole pages of it through `direct` (-1: none). Only where buf and offset are the same modulo
 * IO_DIRECT_ALIGN does that save a copy; pages at the ends are written through fd. */
bool io_write_direct(int direct, int fd, const char *path, const void *buf, size_t n, uint64_t offset,
                     struct tp_error *err);
/* Set the size and reserve the blocks (fallocate where the file system can, else ftruncate). */
bool io_reserve(int fd, const char *path, uint64_t size, struct tp_error *err);
/* Start writing dirty pages of a range back, without waiting. Best effort. */
void io_write_back(int fd, uint64_t offset, uint64_t n);
bool io_sync(int fd, const char *path, struct tp_error *err);
bool io_close(int *fd, const char *path, struct tp_error *err); /* *fd = -1; fd -1 is no error */

bool io_sync_dir(const char *path, struct tp_error *err);
bool io_rename(const char *from, const char *to, struct tp_error *err);
/* Exchange two names atomically (renameat2); TP_E_IO where the file system cannot. */
bool io_exchange(const char *a, const char *b, struct tp_error *err);
bool io_mkdir(const char *path, struct tp_error *err);
bool io_unlink(const char *path, struct tp_error *err);
bool io_rmdir(const char *path, struct tp_error *err);
bool io_exists(const char *path);
bool io_is_dir(const char *path);
/* Call fn for every name in a folder but "." and "..", in no particular order. */
bool io_list_dir(const char *path, void (*fn)(void *arg, const char *name), void *arg,
                 struct tp_error *err);

/* The whole file as a private copy, a NUL after its end. Caller frees with mem_free. limit: larger is
 * TP_E_LIMIT, nothing read. */
bool io_read_file(const char *path, uint64_t limit, char **data, size_t *size,
                  struct tp_error *err);
/* Write to PATH.tmp, sync, rename to path, sync the folder. */
bool io_write_file(const char *path, const void *data, size_t n, struct tp_error *err);

/* A read-only mapping of a whole file. {0} is safe to unmap. size 0 maps nothing and succeeds.
 * The bytes are the file's, not a copy: they may change under a careless writer, and reading beyond
 * a file cut meanwhile raises SIGBUS (io_guard_bus turns that into exit 7). */
struct io_map {
    const unsigned char *data;
    uint64_t size;
};
bool io_map(int fd, const char *path, uint64_t size, struct io_map *map, struct tp_error *err);
void io_unmap(struct io_map *map);
/* Ask for pages of 2 MiB for what is not in memory yet: a walk through the mapping is then a sixth
 * faster. A hint. */
void io_map_huge(const struct io_map *map);
/* Bring a mapped range in at once, instead of by faults. A hint. */
void io_populate(const unsigned char *data, uint64_t n);
/* From now on SIGBUS on a mapped file ends the program with one line and exit 7. */
void io_guard_bus(const char *program);

/* dir + "/" + name into a buffer; the only way paths are joined. TP_E_LIMIT when too long. */
#define IO_PATH_MAX 4096
bool io_join(char out[IO_PATH_MAX], const char *dir, const char *name, struct tp_error *err);
/* A plain file name from untrusted data: not empty, not "." or "..", no '/', '\\' or NUL or control
 * byte, at most 255 bytes. */
bool io_name_is_plain(const char *name, size_t len);
/* The part after the last '/'. */
const char *io_base_name(const char *path);
