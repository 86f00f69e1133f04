#include "journal.h"

#include "checked.h"
#include "le.h"
#include "mem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { RECORD = 64, CHECK_AT = 56, BATCH = 256 };

static void encode(unsigned char *p, uint64_t sequence, const struct journal_record *r)
{
    memset(p, 0, RECORD);
    le_put_u64(p, sequence);
    le_put_u32(p + 8, (uint32_t)r->kind);
    le_put_u32(p + 12, r->a);
    le_put_u32(p + 16, r->b);
    le_put_u32(p + 20, r->c);
    le_put_u64(p + 24, r->bytes);
    memcpy(p + 32, r->hash.bytes, 16);
    memcpy(p + CHECK_AT, hash_bytes(p, CHECK_AT).bytes, 8);
}

static bool decode(const unsigned char *p, uint64_t sequence, struct journal_record *r)
{
    if (memcmp(p + CHECK_AT, hash_bytes(p, CHECK_AT).bytes, 8) != 0 || le_u64(p) != sequence)
        return false;
    *r = (struct journal_record){.kind = (enum journal_kind)le_u32(p + 8),
                                 .a = le_u32(p + 12),
                                 .b = le_u32(p + 16),
                                 .c = le_u32(p + 20),
                                 .bytes = le_u64(p + 24)};
    memcpy(r->hash.bytes, p + 32, 16);
    return true;
}

/* A record lock: the kernel drops it with the process, and tells who holds it. */
static bool lock(struct journal *journal, struct tp_error *err)
{
    struct flock want = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(journal->fd, F_SETLK, &want) == 0)
        return true;
    if (errno != EACCES && errno != EAGAIN)
        return tp_fail_errno(err, "%s: lock", journal->path);
    fcntl(journal->fd, F_GETLK, &want);
    return tp_fail(err, TP_E_LOCKED, "%s: locked by pid %d: another conversion writes here",
                   journal->path, (int)want.l_pid);
}

static bool read_records(struct journal *journal, uint64_t size, struct tp_error *err)
{
    uint64_t whole = size / RECORD;
    unsigned char *bytes = mem_alloc(whole * RECORD, err);
    journal->records = mem_array(whole, sizeof *journal->records, err);
    bool ok = bytes && journal->records &&
              io_read_at(journal->fd, journal->path, bytes, whole * RECORD, 0, err);
    for (uint64_t i = 0; ok && i < whole; i++) {
        if (decode(bytes + i * RECORD, i, &journal->records[i]))
            journal->n_found = i + 1;
        else if (i + 1 < whole)
            ok = tp_fail(err, TP_E_JOURNAL,
                         "%s: record %llu is damaged; use --restart to begin anew", journal->path,
                         (unsigned long long)i);
    }
    mem_free(bytes);
    journal->count = journal->n_found;
    return ok;
}

bool journal_open(struct journal *journal, const char *path, struct tp_error *err)
{
    *journal = (struct journal){.fd = -1};
    if (!io_join(journal->path, path, "", err))
        return false;
    journal->path[strlen(path)] = '\0';
    struct io_identity who;
    journal->fd = io_exists(path) ? io_open_write(path, err) : io_create(path, err);
    if (journal->fd >= 0 && io_identify(journal->fd, path, &who, err) && lock(journal, err) &&
        read_records(journal, who.size, err))
        return true;
    journal_close(journal);
    return false;
}

bool journal_append(struct journal *journal, const struct journal_record *records, uint64_t n,
                    struct tp_error *err)
{
    unsigned char bytes[BATCH * RECORD];
    while (n) {
        uint64_t batch = n < BATCH ? n : BATCH;
        for (uint64_t i = 0; i < batch; i++)
            encode(bytes + i * RECORD, journal->count + i, &records[i]);
        if (!io_write_at(journal->fd, journal->path, bytes, batch * RECORD, journal->count * RECORD,
                         err))
            return false;
        journal->count += batch;
        records += batch;
        n -= batch;
    }
    return io_sync(journal->fd, journal->path, err);
}

bool journal_reset(struct journal *journal, struct tp_error *err)
{
    journal->count = journal->n_found = 0;
    return io_reserve(journal->fd, journal->path, 0, err);
}

void journal_close(struct journal *journal)
{
    if (journal->fd >= 0)
        io_close(&journal->fd, journal->path, NULL);
    mem_free(journal->records);
    *journal = (struct journal){.fd = -1};
}
