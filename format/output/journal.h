/* A log of fixed records of 64 bytes, append only, each with its own checksum: what an unfinished
 * output is, and what of it is safe on disk. A batch of records is synced before the next one is
 * written.
 *
 * So a kill or a power cut damages the last batch alone: it is cut off, without an error. Damage
 * with whole batches behind it is TP_E_JOURNAL.
 *
 *   OFFSET SIZE
 *   0      8    sequence, from 0
 *   8      4    kind        12  4  a     16  4  b     20  4  c
 *   24     8    bytes
 *   32     16   hash
 *   48     8    batch, from 0
 *   56     8    checksum: the first 8 bytes of the hash of bytes 0..55
 */
#pragma once
#include "folder.h"
#include "hash.h"

enum journal_kind {
    /* hash: of everything that decides the bytes. In names: a is JOURNAL_NAMES, bytes the inputs
     * that follow */
    JOURNAL_RUN = 1,
    JOURNAL_FILE = 2,   /* a: input; hash: of its name, size and times */
    JOURNAL_DIGEST = 3, /* a: tensor, b: piece; hash: of that piece of the source's bytes */
    JOURNAL_CHUNK = 4,  /* a: rank, b: tensor, c: chunk; bytes; hash: of the raw bytes on disk */
    JOURNAL_NAME = 5,   /* a name that may be made, stage.h */
    JOURNAL_MADE = 6,   /* all is there; hash: of the manifest's bytes */
    JOURNAL_OLD =
        7, /* the folder is about to be exchanged; hash: of the old one's manifest's bytes. a:
                         * JOURNAL_NO_OLD, it is not, after all */
};

#define JOURNAL_NAMES UINT32_C(0x6e6a7074) /* "tpjn" */
enum { JOURNAL_NO_OLD = 1 };
enum { JOURNAL_RECORD = 64, JOURNAL_BYTES_MAX = 1 << 28 }; /* a larger file is no journal */

struct journal_record {
    enum journal_kind kind;
    uint32_t a, b, c;
    uint64_t bytes;
    struct hash128 hash;
};

struct journal {
    char path[IO_PATH_MAX];
    int fd;                         /* -1: closed */
    bool created;                   /* by journal_open */
    uint64_t count, batch;          /* records and batches on disk */
    struct journal_record *records; /* those found by journal_read */
    uint64_t n_found;
};

/* Open the file of that name, or make it. */
bool journal_open(struct journal *journal, const struct folder *folder, const char *name,
                  struct tp_error *err);
/* The kernel drops the lock with the process. TP_E_LOCKED names the holder's pid. */
bool journal_lock(struct journal *journal, struct tp_error *err);
/* Read what is there, but what is torn at its end. advice: what to do about damage, for the
 * message; NULL: damaged records are left out, without an error. */
bool journal_read(struct journal *journal, const char *advice, struct tp_error *err);
/* Cut off what is torn, before anything is appended. What is no record of ours at all is not ours
 * to cut. */
bool journal_trim(struct journal *journal, struct tp_error *err);
/* Append as one batch, and sync. */
bool journal_append(struct journal *journal, const struct journal_record *records, uint64_t n,
                    struct tp_error *err);
/* Forget everything: an empty journal, still locked. */
bool journal_reset(struct journal *journal, struct tp_error *err);
/* Bytes of a file that prove it a journal of some run: a record at its place; or, in a file that
 * has none, what a kill leaves of the first one (mark: its a). */
bool journal_is_journal(const unsigned char *bytes, uint64_t n, uint32_t mark);
void journal_close(struct journal *journal); /* {.fd = -1} may be closed */
