#include "journal.h"

#include "checked.h"
#include "le.h"
#include "mem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { RECORD = JOURNAL_RECORD, BATCH_AT = 48, CHECK_AT = 56, BUFFER = 256 };

static void encode(unsigned char *p, uint64_t sequence, uint64_t batch,
                   const struct journal_record *r)
{
    memset(p, 0, RECORD);
    le_put_u64(p, sequence);
    le_put_u32(p + 8, (uint32_t)r->kind);
    le_put_u32(p + 12, r->a);
    le_put_u32(p + 16, r->b);
    le_put_u32(p + 20, r->c);
    le_put_u64(p + 24, r->bytes);
    memcpy(p + 32, r->hash.bytes, 16);
    le_put_u64(p + BATCH_AT, batch);
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

bool journal_open(struct journal *journal, const struct folder *folder, const char *name,
                  struct tp_error *err)
{
    struct folder_entry entry;
    *journal = (struct journal){.fd = -1};
    folder_path(journal->path, folder, name);
    if (!folder_look(folder, name, &entry, err))
        return false;
    if (entry.kind != FOLDER_NOTHING && entry.kind != FOLDER_FILE)
        return tp_fail(err, TP_E_FOREIGN, "%s: was not made by this command; move it away",
                       journal->path);
    journal->created = entry.kind == FOLDER_NOTHING;
    journal->fd = journal->created ? folder_create(folder, name, 0600, err)
                                   : folder_open_file(folder, name, O_RDWR, NULL, err);
    return journal->fd >= 0;
}

bool journal_lock(struct journal *journal, struct tp_error *err)
{
    struct flock want = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(journal->fd, F_SETLK, &want) == 0)
        return true;
    if (errno != EACCES && errno != EAGAIN)
        return tp_fail_errno(err, "%s: lock", journal->path);
    fcntl(journal->fd, F_GETLK, &want);
    return want.l_pid > 0
               ? tp_fail(err, TP_E_LOCKED, "%s: locked by pid %d: another command writes here",
                         journal->path, (int)want.l_pid)
               : tp_fail(err, TP_E_LOCKED, "%s: locked by a process elsewhere: it writes here",
                         journal->path);
}

/* A batch is written only when the one before it is synced: damage two batches before the end is no
 * kill's. */
static bool is_torn(const unsigned char *bytes, uint64_t bad, uint64_t n)
{
    struct journal_record record;
    uint64_t before = bad ? le_u64(bytes + (bad - 1) * RECORD + BATCH_AT) + 1 : 0;
    for (uint64_t i = bad + 1; i < n; i++)
        if (decode(bytes + i * RECORD, i, &record) &&
            le_u64(bytes + i * RECORD + BATCH_AT) > before)
            return false;
    return true;
}

static bool read_records(struct journal *journal, uint64_t size, const char *advice,
                         struct tp_error *err)
{
    uint64_t whole = size / RECORD, n = 0;
    unsigned char *bytes = mem_alloc(whole * RECORD, err);
    mem_free(journal->records);
    journal->records = mem_array(whole, sizeof *journal->records, err);
    bool ok = bytes && journal->records &&
              io_read_at(journal->fd, journal->path, bytes, whole * RECORD, 0, err);
    while (ok && n < whole && decode(bytes + n * RECORD, n, &journal->records[n]))
        n++;
    journal->count = journal->n_found = n;
    journal->batch = n ? le_u64(bytes + (n - 1) * RECORD + BATCH_AT) + 1 : 0;
    if (ok && n < whole && advice && !is_torn(bytes, n, whole))
        ok = tp_fail(err, TP_E_JOURNAL, "%s: record %llu is damaged; %s", journal->path,
                     (unsigned long long)n, advice);
    for (uint64_t i = n; ok && !advice && i < whole; i++)
        journal->n_found += decode(bytes + i * RECORD, i, &journal->records[journal->n_found]);
    mem_free(bytes);
    return ok;
}

bool journal_read(struct journal *journal, const char *advice, struct tp_error *err)
{
    struct io_identity who;
    if (!io_identify(journal->fd, journal->path, &who, err))
        return false;
    return who.size > JOURNAL_BYTES_MAX || read_records(journal, who.size, advice, err);
}

bool journal_trim(struct journal *journal, struct tp_error *err)
{
    return journal->count == 0 ||
           io_truncate(journal->fd, journal->path, journal->count * RECORD, err);
}

bool journal_is_journal(const unsigned char *bytes, uint64_t n, uint32_t mark)
{
    enum { KNOWN = 16 };
    unsigned char run[RECORD];
    struct journal_record record;
    bool zero = true, cut = true;
    for (uint64_t i = 0; n <= JOURNAL_BYTES_MAX && i < n / RECORD; i++)
        if (decode(bytes + i * RECORD, i, &record))
            return true;
    encode(run, 0, 0, &(struct journal_record){.kind = JOURNAL_RUN, .a = mark});
    for (uint64_t i = 0; i < n && i < RECORD; i++) {
        zero &= bytes[i] == 0;
        cut &= i >= KNOWN || bytes[i] == run[i];
    }
    return n <= RECORD && (zero || cut);
}

bool journal_append(struct journal *journal, const struct journal_record *records, uint64_t n,
                    struct tp_error *err)
{
    unsigned char bytes[BUFFER * RECORD];
    while (n) {
        uint64_t some = n < BUFFER ? n : BUFFER;
        for (uint64_t i = 0; i < some; i++)
            encode(bytes + i * RECORD, journal->count + i, journal->batch, &records[i]);
        if (!io_write_at(journal->fd, journal->path, bytes, some * RECORD, journal->count * RECORD,
                         err))
            return false;
        journal->count += some;
        records += some;
        n -= some;
    }
    journal->batch++;
    return io_sync(journal->fd, journal->path, err);
}

bool journal_reset(struct journal *journal, struct tp_error *err)
{
    journal->count = journal->n_found = journal->batch = 0;
    return io_truncate(journal->fd, journal->path, 0, err);
}

void journal_close(struct journal *journal)
{
    if (journal->fd >= 0)
        io_close(&journal->fd, journal->path, NULL);
    mem_free(journal->records);
    *journal = (struct journal){.fd = -1};
}
