#include "line_reader.h"

#include "mem.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 16 };

static bool read_more(struct line_reader *r, struct tp_error *err)
{
    if (r->begin) {
        r->n -= r->begin;
        r->seen -= r->begin;
        memmove(r->data, r->data + r->begin, r->n);
        r->begin = 0;
    }
    if (!mem_grow((void **)&r->data, &r->cap, r->n + READ_BYTES, 1, err))
        return false;
    ssize_t got;
    do {
        got = read(r->fd, r->data + r->n, r->cap - r->n);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return tp_fail_errno(err, "standard input: cannot be read");
    r->ended = got == 0;
    r->n += (size_t)got;
    return true;
}

bool line_reader_next(struct line_reader *r, char **text, size_t *n, bool *more,
                      struct tp_error *err)
{
    const char *end = NULL;
    for (;;) {
        if (r->seen < r->n)
            end = memchr(r->data + r->seen, '\n', r->n - r->seen);
        if (end || r->ended)
            break;
        r->seen = r->n;
        if (!read_more(r, err))
            return false;
    }
    *more = end || r->begin < r->n;
    if (!*more)
        return true;
    size_t stop = end ? (size_t)(end - r->data) : r->n;
    *text = r->data + r->begin;
    *n = stop - r->begin;
    r->begin = r->seen = stop + (end != NULL);
    r->line++;
    return true;
}

void line_reader_free(struct line_reader *reader)
{
    mem_free(reader->data);
    *reader = (struct line_reader){0};
}

bool line_reader_is_live(const struct line_reader *reader)
{
    struct stat st;
    return fstat(reader->fd, &st) != 0 || !S_ISREG(st.st_mode);
}

bool line_is_blank(const char *line, size_t n)
{
    size_t blank = 0;
    while (blank < n && (line[blank] == ' ' || line[blank] == '\t' || line[blank] == '\r'))
        blank++;
    return blank == n;
}
