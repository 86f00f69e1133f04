/* Files: every system call on files of either program is made here and in folder.h, so that one
 * place loops over short counts and EINTR, names the path in the error, and can be made to fail
 * (fault.h).
 */
#pragma once
#include "error.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a file was when it was opened: two of these differ when it was changed in between. */
struct io_identity {
    uint64_t dev, ino, size, mtime_ns, ctime_ns;
};
struct stat;
struct io_identity io_identity_of(const struct stat *st);

/* Open for reading; anything but a regular file (FIFO, folder, device) is TP_E_NOT_REGULAR and
 * never blocks. Symbolic links are followed. Returns the descriptor, -1 on error. who may be
 * NULL. */
int io_open_read(const char *path, struct io_identity *who, struct tp_error *err);
/* The same, relative to a folder's descriptor, with open's flags; path is for messages. */
int io_open_regular(int dir, const char *name, int flags, const char *path, struct io_identity *who,
                    struct tp_error *err);
bool io_identify(int fd, const char *path, struct io_identity *who, struct tp_error *err);
bool io_identity_equal(const struct io_identity *a, const struct io_identity *b);
/* The path leads to no file, or to another. */
bool io_name_is_lost(const char *path, const struct io_identity *who);

/* Exactly n bytes, or an error; end of file before that is TP_E_CHANGED. */
bool io_read_at(int fd, const char *path, void *buf, size_t n, uint64_t offset,
                struct tp_error *err);
bool io_write_at(int fd, const char *path, const void *buf, size_t n, uint64_t offset,
                 struct tp_error *err);
/* All n bytes where the descriptor stands: pipes, devices. */
bool io_write_on(int fd, const char *path, const void *buf, size_t n, struct tp_error *err);
enum { IO_DIRECT_ALIGN = 4096 };
/* A file that several threads write past the page cache, its size set. */
struct io_direct {
    int fd;     /* folder_open_direct; -1: none */
    int cached; /* the same file through the page cache */
    /* Held for pages that a write has a part of, for another may have the rest; and for all that
     * goes through the cache after all. */
    pthread_mutex_t *edges;
    const char *path; /* for messages */
};
/* io_write_at past the page cache where that can be: there is such a descriptor, the file system
 * does not refuse, buf and offset are the same modulo IO_DIRECT_ALIGN. */
bool io_write_direct(const struct io_direct *direct, const void *buf, size_t n, uint64_t offset,
                     struct tp_error *err);
/* Set the size and reserve the blocks (fallocate where the file system can, else ftruncate). */
bool io_reserve(int fd, const char *path, uint64_t size, struct tp_error *err);
bool io_truncate(int fd, const char *path, uint64_t size, struct tp_error *err);
/* Start writing dirty pages of a range back, without waiting. Best effort. */
void io_write_back(int fd, uint64_t offset, uint64_t n);
/* Start reading a range of a file into the page cache, without waiting; n 0: to its end. Best
 * effort. */
void io_read_ahead(int fd, uint64_t offset, uint64_t n);
/* Output that could not be written is an I/O error, however far it got, and whoever tried. */
bool io_flush_stdout(struct tp_error *err);
bool io_sync(int fd, const char *path, struct tp_error *err);
bool io_close(int *fd, const char *path, struct tp_error *err); /* *fd = -1; fd -1 is no error */

bool io_exists(const char *path); /* a link that leads nowhere exists */
bool io_is_dir(const char *path);
/* Whether it is there can be known; TP_E_IO: a folder may not be searched, links go round. */
bool io_reachable(const char *path, struct tp_error *err);

/* The whole file as a private copy, a NUL after its end. Caller frees with mem_free. limit: larger
 * is TP_E_LIMIT, nothing read. */
bool io_read_file(const char *path, uint64_t limit, char **data, size_t *size,
                  struct tp_error *err);

/* The same of what people give a command to read: a file, or what has no size and is read up to its
 * end, a pipe, a terminal, a device; "-" is standard input. Waiting for it can be interrupted:
 * TP_E_INTERRUPTED. */
bool io_read_input(const char *path, uint64_t limit, char **data, size_t *size,
                   struct tp_error *err);
/* What messages call it. */
const char *io_input_name(const char *path);

/* The text of a file of the kernel's (/proc, /sys), as much as fits, "" where it cannot be read.
 * These have no size to ask for. Returns buf. */
const char *io_kernel_text(const char *path, char *buf, size_t size);

/* A read-only mapping of a whole file. {0} is safe to unmap. size 0 maps nothing and succeeds.
 * The bytes are the file's, not a copy: they may change under a careless writer, and reading beyond
 * a file cut meanwhile raises SIGBUS (io_start turns that into exit 7). */
struct io_map {
    const unsigned char *data;
    uint64_t size;
};
bool io_map(int fd, const char *path, uint64_t size, struct io_map *map, struct tp_error *err);
void io_unmap(struct io_map *map);
/* Ask for pages of 2 MiB for what is not in memory yet: a walk through the mapping is then a sixth
 * faster. A hint. */
void io_map_huge(const struct io_map *map);
/* Bring a range of it in at once, instead of by faults; waits until it is there. Pages are as
 * large as asked for, at a tenth of what io_read_ahead and faults cost the processor. A hint. */
void io_populate(const struct io_map *map, uint64_t offset, uint64_t n);
/* First thing in main. SIGBUS on a mapped file ends the program with one line and exit 7; a file
 * that grows too large is EFBIG, a closed pipe EPIPE; a standard descriptor that is closed stays
 * taken, and fails. */
void io_start(void);

/* dir + "/" + name into a buffer; the only way paths are joined. TP_E_LIMIT when too long. */
#define IO_PATH_MAX 4096
bool io_join(char out[IO_PATH_MAX], const char *dir, const char *name, struct tp_error *err);
/* A plain file name from untrusted data: not empty, not "." or "..", no '/', '\\' or NUL or control
 * byte, at most 255 bytes. */
bool io_name_is_plain(const char *name, size_t len);
/* The part after the last '/'. */
const char *io_base_name(const char *path);
