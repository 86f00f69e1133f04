/* The journal of an unfinished conversion: what is already safe on disk.
 *
 * Fixed records of 64 bytes, append only, each with its own checksum. A record is written only after
 * the bytes it speaks of are synced. A torn last record (the run was killed while writing it) is dropped;
 * any other damage is TP_E_JOURNAL.
 *
 *   OFFSET SIZE
 *   0      8    sequence, from 0
 *   8      4    kind        12  4  a     16  4  b     20  4  c
 *   24     8    bytes
 *   32     16   hash
 *   48     8    reserved, zero
 *   56     8    checksum: the first 8 bytes of the hash of bytes 0..55
 */
#pragma once
#include "hash.h"
#include "io.h"

enum journal_kind {
    JOURNAL_RUN = 1,    /* hash: of everything that decides the bytes (options, versions, model) */
    JOURNAL_FILE = 2,   /* a: source file index; bytes: its size; hash: of its name, size and times */
    JOURNAL_DIGEST = 3, /* a: tensor, b: piece; hash: of that piece of the source's bytes */
    JOURNAL_CHUNK = 4,  /* a: rank, b: tensor, c: chunk; bytes; hash: of the raw bytes on disk */
};

struct journal_record {
    enum journal_kind kind;
    uint32_t a, b, c;
    uint64_t bytes;
    struct hash128 hash;
};

struct journal {
    char path[IO_PATH_MAX];
    int fd;
    uint64_t count;                  /* records on disk */
    struct journal_record *records;  /* those found at open, for resuming */
    uint64_t n_found;
};

/* Open or create, lock (TP_E_LOCKED names the holder's pid), read what is there. */
bool journal_open(struct journal *journal, const char *path, struct tp_error *err);
/* Append and sync. */
bool journal_append(struct journal *journal, const struct journal_record *records, uint64_t n,
                    struct tp_error *err);
/* Forget everything: an empty journal, still locked. */
bool journal_reset(struct journal *journal, struct tp_error *err);
void journal_close(struct journal *journal); /* {.fd = -1} may be closed */
