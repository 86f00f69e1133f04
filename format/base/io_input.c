/* What people give a command to read: files, and what has no size. */
#include "io.h"

#include "fault.h"
#include "interrupt.h"
#include "mem.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAM_BYTES = 1 << 16 };

/* One read, in a buffer that grows; a call of poll ends with a signal, one of read may not.
 * *got 0: the end. */
static bool read_some(int fd, const char *name, struct tp_text *text, size_t *got,
                      struct tp_error *err)
{
    ssize_t n = -1;
    if (!mem_grow((void **)&text->data, &text->cap, text->n + STREAM_BYTES, 1, err))
        return false;
    do {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        size_t want = text->cap - text->n - 1;
        if (interrupt_pending())
            return interrupt_fail(err);
        if (poll(&ready, 1, -1) < 0)
            continue;
        n = fault_hits(FAULT_READ, &want) ? -1 : read(fd, text->data + text->n, want);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0)
        return tp_fail_errno(err, "%s: read", name);
    *got = (size_t)n;
    text->n += *got;
    return true;
}

static bool read_stream(int fd, const char *name, uint64_t limit, struct tp_text *text,
                        struct tp_error *err)
{
    for (size_t got = 1; got;) {
        if (!read_some(fd, name, text, &got, err))
            return false;
        if (text->n > limit)
            return tp_fail(err, TP_E_LIMIT, "%s: more than the %llu bytes that are allowed", name,
                           (unsigned long long)limit);
    }
    text->data[text->n] = '\0';
    return true;
}

const char *io_input_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* O_NONBLOCK: who waits for a FIFO's writer can be interrupted, in poll. */
static int open_stream(const char *path)
{
    int fd;
    do
        fd = fault_hits(FAULT_OPEN, NULL)
                 ? -1
                 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    return fd;
}

bool io_read_input(const char *path, uint64_t limit, char **data, size_t *size,
                   struct tp_error *err)
{
    struct tp_text text = {0};
    struct stat st;
    bool standard = strcmp(path, "-") == 0;
    if (!standard && (stat(path, &st) != 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return io_read_file(path, limit, data, size, err);
    int fd = standard ? STDIN_FILENO : open_stream(path);
    if (fd < 0)
        return tp_fail_errno(err, "%s: open", path);
    bool ok = read_stream(fd, io_input_name(path), limit, &text, err);
    if (!standard)
        ok &= io_close(&fd, path, ok ? err : NULL);
    if (!ok) {
        mem_free(text.data);
        return false;
    }
    *data = text.data;
    *size = text.n;
    return true;
}
