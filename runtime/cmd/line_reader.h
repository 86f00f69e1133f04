/* Lines of standard input, of any length, each as soon as it is there: scripts converse with a
 * command line by line. */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* {0}, then fd; line_reader_free. */
struct line_reader {
    int fd;
    char *data;
    size_t n, cap;      /* bytes read and not yet forgotten */
    size_t begin, seen; /* the next line begins here; no newline before seen */
    bool ended;
    uint64_t line; /* number of the line given out last, from 1 */
};

/* The next line without its newline, in *text, valid until the next call; the last one may lack the
 * newline. *more false: there is none. Errors TP_E_IO, TP_E_MEMORY */
bool line_reader_next(struct line_reader *reader, char **text, size_t *n, bool *more,
                      struct tp_error *err);
void line_reader_free(struct line_reader *reader);
bool line_is_blank(const char *line, size_t n);
/* Is the input something that answers are waited for in, not a regular file? */
bool line_reader_is_live(const struct line_reader *reader);
