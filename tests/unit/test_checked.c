/* Numbers and sizes as people type them. */
#include "checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

static void letters_are_powers_of_1024_and_kb_of_1000(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {
        {"0", 0},
        {"1", 1},
        {"17b", 17},
        {"1K", 1 << 10},
        {"1k", 1 << 10},
        {"1KiB", 1 << 10},
        {"1kB", 1000},
        {"3M", 3 << 20},
        {"3 MiB", 3 << 20},
        {"3 mb", 3000000},
        {"16G", UINT64_C(16) << 30},
        {"16gib", UINT64_C(16) << 30},
        {"80 GB", UINT64_C(80000000000)},
        {"2T", UINT64_C(2) << 40},
        {"2TB", UINT64_C(2000000000000)},
        {"1.5G", UINT64_C(3) << 29},
        {"0.25KiB", 256},
        {"1.000001MB", 1000001},
        {"2.5", 2}, /* of a byte there is no half */
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", UINT64_C(16777215) << 40},
    };
    uint64_t bytes;
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!tp_parse_size(sizes[i].text, &bytes))
            fail_msg("%s is refused", sizes[i].text);
        assert_int_equal(bytes, sizes[i].bytes);
    }
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "G",
        "KB",
        " 1G",
        "-1",
        "+1",
        "1.",
        ".5G",
        "1.5.5G",
        "1,5G",
        "1e9",
        "0x10",
        "1GG",
        "1Gi",
        "1GiBs",
        "1bb",
        "1bib",
        "1 G B",
        "1\tG",
        "1P",
        "1.\x80",
        "1\xc7",
        "16777216T",
        "18446744073709551616",
        "1 000",
        "1K 1",
        "1.1234567",
        "99999999999999999999G",
    };
    uint64_t bytes;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (tp_parse_size(texts[i], &bytes))
            fail_msg("\"%s\" is taken for %llu", texts[i], (unsigned long long)bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_are_powers_of_1024_and_kb_of_1000),
        cmocka_unit_test(what_is_no_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
