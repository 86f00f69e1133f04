/* Write a bundle from a source: rank files chunk by chunk, a journal, then one publication
 * (output.h).
 *
 * A chunk is recorded in the journal after it is synced; a run that is killed at any instruction is
 * resumed by the same command to the same bytes. On resume nothing is taken on trust: what is on
 * record is compared with the files, and the source is hashed again.
 */
#pragma once
#include "bundle.h"
#include "output.h"
#include "source.h"

struct writer_request {
    const char *program;   /* for messages */
    struct output *output; /* decided */
    const struct source *source;
    uint64_t tp_size;
    enum compress compress;
    struct stage_run run;
    const struct named_bytes *files; /* that travel along */
    uint32_t n_files;
    uint64_t memory; /* bytes at most, of tables and buffers */
    uint64_t tables; /* of them the source's, which are there */
    int threads;
    bool quiet;   /* no progress */
    bool verbose; /* say what disk is needed */
    bool selftest;
};

/* Errors: those of output.h, TP_E_LIMIT (memory; what could be written but not be read),
 * TP_E_CHANGED, TP_E_INTERRUPTED, TP_E_CHILD (selftest), and those of the source. */
bool writer_run(const struct writer_request *request, struct tp_error *err);
/* Bytes of disk that it would take at most, at a time: of output nothing is asked. Errors
 * TP_E_LIMIT, and those of the source. */
bool writer_needs(const struct writer_request *request, uint64_t *bytes, struct tp_error *err);
/* Numbers of the last run, for its summary. */
struct writer_report {
    uint64_t bytes_read; /* of the source */
    uint64_t bytes_written, bytes_resumed;
    double seconds; /* of all; and of its phases */
    double convert_seconds, selftest_seconds, compress_seconds;
};
struct writer_report writer_last_report(void);
