/* A single file of output: complete under its name, or not there. It is written without a name, or
 * under a random one where the file system has no such files, and replaces what has its name by
 * rename. Such a name that a kill left is removed by the next command for the same file: it holds a
 * hash of itself, and nobody's lock. "-", FIFOs and devices are written directly.
 */
#pragma once
#include "place.h"

enum { OUTPUT_TEMP_MAX = 48 };
/* A random name for a file that is going to be `name`; it proves itself. */
bool output_temp_name(const char *name, char temp[OUTPUT_TEMP_MAX], struct tp_error *err);

struct output_file {
    struct place place;         /* parent.fd -1: written directly */
    int fd;                     /* -1: closed */
    char temp[OUTPUT_TEMP_MAX]; /* the random name; "": none */
    int slot;                   /* of interrupt_add_temp */
    uint64_t bytes;             /* written so far */
};

/* Before any work. Errors TP_E_OUTPUT_EXISTS: the name is a folder's, a socket's, or the path goes
 * through a file; TP_E_IO. */
bool output_file_open(struct output_file *file, const char *path, struct tp_error *err);
/* For what a terminal cannot show; path as it was given with -o. TP_E_USAGE. */
bool output_file_no_terminal(const struct output_file *file, const char *path,
                             struct tp_error *err);
bool output_file_write(struct output_file *file, const void *data, size_t n, struct tp_error *err);
/* ok: all was written, the file gets its name, synced; else nothing is left of it. Returns ok,
 * unless that fails. A file that could not be opened may be closed. */
bool output_file_close(struct output_file *file, bool ok, struct tp_error *err);
/* Both would have one name, or be written into one pipe. */
bool output_file_same(const struct output_file *a, const struct output_file *b);
/* It would replace that file, which the command reads, there or not: TP_E_OUTPUT_EXISTS. */
bool output_file_spares(const struct output_file *file, const char *path, struct tp_error *err);
/* Opened, written and closed. */
bool output_file_put(const char *path, const void *data, size_t n, struct tp_error *err);
