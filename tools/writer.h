/* Write a bundle from a source: rank files chunk by chunk, a journal, then one atomic commit.
 *
 *   OUTPUT.partial/        work in progress: rank files at their final size, journal, travelling files
 *   OUTPUT.partial/raw/    the same, uncompressed, where the bundle will be compressed
 *
 * A chunk is recorded in the journal after it is synced; a run that is killed at any instruction is resumed
 * by the same command to the same bytes. The manifest is renamed into place last but one, the folder
 * last: what has the output's name is complete. An earlier bundle of that name is exchanged with
 * the new one in one step, and only files that it names are removed.
 */
#pragma once
#include "bundle.h"
#include "source.h"

struct writer_file { /* a file that travels along */
    const char *name;
    const void *data;
    uint64_t size;
};

struct writer_request {
    const char *program;       /* for messages */
    const char *output;        /* folder that appears when all is done */
    const struct source *source;
    uint64_t tp_size;
    enum compress compress;
    struct hash128 run;        /* of everything that decides the bytes; binds a resume */
    const struct writer_file *inputs; /* name, and identity as data: bound by name, so that a changed one is named */
    uint32_t n_inputs;
    const struct writer_file *files;
    uint32_t n_files;
    uint64_t memory;           /* bytes of buffers at most */
    int threads;
    bool force, restart, quiet, selftest;
};

/* Errors: TP_E_OUTPUT_EXISTS, TP_E_LOCKED, TP_E_IO, TP_E_LIMIT (memory), TP_E_JOURNAL, TP_E_JOURNAL_OTHER,
 * TP_E_CHANGED, TP_E_INTERRUPTED, TP_E_CHILD (selftest), and those of the source. */
bool writer_run(const struct writer_request *request, struct tp_error *err);
/* SIGINT and SIGTERM stop a run after the chunks in hand; a second one ends the program at once. */
void writer_catch_signals(void);
/* The summary line's numbers of the last run. */
struct writer_report {
    uint64_t bytes_written, bytes_resumed;
    double seconds;
};
struct writer_report writer_last_report(void);
