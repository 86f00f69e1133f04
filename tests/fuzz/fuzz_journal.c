/* The input is the log of an unfinished output, after a byte: 1: records have the sequence of their
 * place; 2: damaged records are left out. A record's checksum is made right, unless it begins with
 * 0xff. What is read is what the bytes say; cut to what is whole, it is read again and goes on. */
#include "journal.h"
#include "le.h"
#include "mem.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEQUENCES = 1, NO_ADVICE = 2, CHECK_AT = 56 };

static void make_right(unsigned char *bytes, size_t n, uint8_t flags)
{
    for (size_t i = 0; i < n / JOURNAL_RECORD; i++) {
        unsigned char *p = bytes + i * JOURNAL_RECORD;
        if (flags & SEQUENCES)
            le_put_u64(p, i);
        if (p[CHECK_AT] != 0xff)
            memcpy(p + CHECK_AT, hash_bytes(p, CHECK_AT).bytes, 8);
    }
}

static void check_found(const struct journal *j, const unsigned char *bytes, size_t n)
{
    tp_assert(j->count <= j->n_found && j->n_found <= n / JOURNAL_RECORD);
    for (uint64_t i = 0; i < j->count; i++) {
        const unsigned char *p = bytes + i * JOURNAL_RECORD;
        const struct journal_record *r = &j->records[i];
        tp_assert(le_u64(p) == i && (uint32_t)r->kind == le_u32(p + 8) && r->a == le_u32(p + 12));
        tp_assert(r->b == le_u32(p + 16) && r->c == le_u32(p + 20) && r->bytes == le_u64(p + 24));
        tp_assert(memcmp(r->hash.bytes, p + 32, 16) == 0);
    }
}

/* What was read is cut off behind, appended to, and read again. */
static void go_on(struct journal *j)
{
    struct tp_error err = {0};
    uint64_t count = j->count, batch = j->batch;
    const struct journal_record more[2] = {{.kind = JOURNAL_CHUNK, .a = 7}, {.kind = JOURNAL_MADE}};
    if (count == 0)
        tp_assert(journal_reset(j, &err));
    tp_assert(journal_trim(j, &err) && journal_append(j, more, 2, &err));
    tp_assert(journal_read(j, "advice", &err));
    tp_assert(j->count == count + 2 && j->n_found == count + 2);
    tp_assert(j->batch == (count ? batch : 0) + 1 && j->records[count].a == 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal j = {.path = "fuzz", .fd = -1};
    struct tp_error err = {0};
    if (size < 1)
        return 0;
    size_t n = size - 1;
    unsigned char *bytes = mem_alloc(n, &err);
    if (!bytes)
        return 0;
    if (n)
        memcpy(bytes, data + 1, n);
    make_right(bytes, n, data[0]);
    j.fd = memfd_create("journal", 0);
    tp_assert(j.fd >= 0 && io_write_at(j.fd, "fuzz", bytes, n, 0, &err));
    bool known = journal_is_journal(bytes, n, JOURNAL_NAMES);
    if (journal_read(&j, data[0] & NO_ADVICE ? NULL : "advice", &err)) {
        check_found(&j, bytes, n);
        tp_assert(j.n_found == 0 || known);
        go_on(&j);
    } else {
        tp_assert(err.code == TP_E_JOURNAL && !(data[0] & NO_ADVICE));
    }
    journal_close(&j);
    mem_free(bytes);
    return 0;
}
