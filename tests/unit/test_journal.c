/* The log of an unfinished output: what a kill or a power cut leaves of its end is cut off, damage
 * before that is refused, and what is no log is left alone. */
#include "journal.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCHES = 4, RECORDS = 10 }; /* of 1, 2, 3, 4 records */

static char path[] = "/tmp/tpshard-journal-XXXXXX";
static struct folder folder;
static unsigned char whole[RECORDS * JOURNAL_RECORD];

static void open_log(struct journal *j)
{
    struct tp_error err = {0};
    assert_true(journal_open(j, &folder, "log", &err));
}

/* Read what `bytes` say as a log; how many records, or -1: refused as damaged. *size: of the file
 * afterwards. */
static int read_bytes(const unsigned char *bytes, size_t n, uint64_t *size)
{
    struct journal j;
    struct tp_error err = {0};
    struct io_identity who;
    open_log(&j);
    assert_true(io_truncate(j.fd, "log", 0, &err) && io_write_at(j.fd, "log", bytes, n, 0, &err));
    bool ok = journal_read(&j, "advice", &err) && journal_trim(&j, &err);
    int found = ok ? (int)j.n_found : -1;
    assert_true(ok || (err.code == TP_E_JOURNAL && strstr(err.text, "advice")));
    assert_true(io_identify(j.fd, "log", &who, &err));
    *size = who.size;
    journal_close(&j);
    return found;
}

static int make_log(void **state)
{
    struct journal j;
    struct tp_error err = {0};
    (void)state;
    assert_non_null(mkdtemp(path));
    assert_true(folder_open(&folder, path, &err));
    open_log(&j);
    assert_true(j.created && journal_lock(&j, &err) && journal_read(&j, "", &err));
    assert_int_equal(j.n_found, 0);
    for (uint32_t b = 1; b <= BATCHES; b++) {
        struct journal_record r[BATCHES] = {0};
        for (uint32_t i = 0; i < b; i++)
            r[i] = (struct journal_record){.kind = b == 1 ? JOURNAL_RUN : JOURNAL_CHUNK,
                                           .a = b == 1 ? JOURNAL_NAMES : b,
                                           .b = i};
        assert_true(journal_append(&j, r, b, &err));
    }
    assert_int_equal(j.count, RECORDS);
    assert_true(io_read_at(j.fd, "log", whole, sizeof whole, 0, &err));
    journal_close(&j);
    return 0;
}

static int remove_log(void **state)
{
    (void)state;
    folder_unlink(&folder, "log", NULL);
    folder_close(&folder);
    return rmdir(path);
}

static void a_cut_end_is_cut_off(void **state)
{
    uint64_t size;
    (void)state;
    for (size_t n = 0; n <= sizeof whole; n++) {
        assert_int_equal(read_bytes(whole, n, &size), n / JOURNAL_RECORD);
        assert_int_equal(size, n < JOURNAL_RECORD ? n : n / JOURNAL_RECORD * JOURNAL_RECORD);
    }
}

static void a_torn_batch_is_cut_off_and_damage_before_it_refused(void **state)
{
    uint64_t size;
    (void)state;
    for (size_t i = 0; i < sizeof whole; i++) {
        unsigned char bytes[sizeof whole];
        size_t record = i / JOURNAL_RECORD;
        memcpy(bytes, whole, sizeof whole);
        bytes[i] ^= 0x10;
        /* batches are records 0, 1-2, 3-5, 6-9: from record 4 on the damage may be of the last
         * batch */
        assert_int_equal(read_bytes(bytes, sizeof bytes, &size), record <= 3 ? -1 : (int)record);
    }
}

static void what_follows_the_end_is_no_record(void **state)
{
    unsigned char bytes[2 * sizeof whole];
    uint64_t size;
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        memset(bytes, kind == 1 ? 0xa5 : 0, sizeof bytes);
        memcpy(bytes, whole, sizeof whole);
        if (kind == 2) /* records of a log, but not at their place */
            memcpy(bytes + sizeof whole, whole, sizeof whole);
        assert_int_equal(read_bytes(bytes, sizeof bytes, &size), RECORDS);
        assert_int_equal(size, sizeof whole);
    }
}

static void what_is_no_log_is_not_cut(void **state)
{
    static unsigned char bytes[4096];
    uint64_t size;
    (void)state;
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(read_bytes(bytes, sizeof bytes, &size), 0);
    assert_int_equal(size, sizeof bytes);
}

static void a_log_proves_itself(void **state)
{
    unsigned char bytes[sizeof whole] = {0};
    (void)state;
    assert_true(journal_is_journal(whole, sizeof whole, JOURNAL_NAMES));
    for (size_t n = 0; n < JOURNAL_RECORD; n++)
        assert_true(journal_is_journal(whole, n, JOURNAL_NAMES)); /* its beginning, cut */
    assert_true(
        journal_is_journal(bytes, JOURNAL_RECORD, JOURNAL_NAMES)); /* zeros of a power cut */
    assert_false(journal_is_journal(bytes, sizeof bytes, JOURNAL_NAMES));
    memset(bytes, 'x', sizeof bytes);
    assert_false(journal_is_journal(bytes, 1, JOURNAL_NAMES));
    assert_false(journal_is_journal(bytes, sizeof bytes, JOURNAL_NAMES));
    memcpy(bytes + 128, whole + 128, JOURNAL_RECORD); /* one record at its place is enough */
    assert_true(journal_is_journal(bytes, sizeof bytes, JOURNAL_NAMES));
    assert_false(journal_is_journal(whole, 40, 0)); /* of another kind */
}

static void a_log_goes_on_after_what_was_cut(void **state)
{
    struct journal j;
    struct tp_error err = {0};
    struct journal_record record = {.kind = JOURNAL_CHUNK, .a = 77};
    uint64_t size;
    (void)state;
    read_bytes(whole, 5 * JOURNAL_RECORD + 9, &size);
    open_log(&j);
    assert_true(!j.created && journal_read(&j, "", &err) && journal_append(&j, &record, 1, &err));
    journal_close(&j);
    open_log(&j);
    assert_true(journal_read(&j, "", &err));
    assert_int_equal(j.n_found, 6);
    assert_int_equal(j.records[5].a, 77);
    assert_true(journal_reset(&j, &err) && journal_read(&j, "", &err));
    assert_int_equal(j.n_found, 0);
    journal_close(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_end_is_cut_off),
        cmocka_unit_test(a_torn_batch_is_cut_off_and_damage_before_it_refused),
        cmocka_unit_test(what_follows_the_end_is_no_record),
        cmocka_unit_test(what_is_no_log_is_not_cut),
        cmocka_unit_test(a_log_proves_itself),
        cmocka_unit_test(a_log_goes_on_after_what_was_cut),
    };
    return cmocka_run_group_tests_name("journal", tests, make_log, remove_log);
}
