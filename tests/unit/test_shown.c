/* What people are shown: escapes, and lines that are not too long. */
#include "error.h"
#include "shown.h"
#include "utf8.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void expect(const char *text, const char *wanted)
{
    char out[256];
    assert_int_equal(shown_escape(out, sizeof out, text, strlen(text)), strlen(wanted));
    assert_string_equal(out, wanted);
}

static void what_a_terminal_obeys_is_escaped(void **state)
{
    (void)state;
    expect("plain text, 100 %", "plain text, 100 %");
    expect("\x1b[31m\x07\n\t\x7f", "\\x1b[31m\\x07\\x0a\\x09\\x7f");
    expect("\xc2\x80\xc2\x85\xc2\x9b\xc2\x9f", "\\xc2\\x80\\xc2\\x85\\xc2\\x9b\\xc2\\x9f"); /* C1 */
    expect("\x9b\xff\xc3", "\\x9b\\xff\\xc3"); /* no UTF-8 */
    expect("\xd8\x9c", "\\xd8\\x9c");          /* U+061C */
    expect("\xe2\x80\x8b\xe2\x80\x8e\xe2\x80\x8f", "\\xe2\\x80\\x8b\\xe2\\x80\\x8e\\xe2\\x80\\x8f");
    expect("\xe2\x80\xa8\xe2\x80\xae", "\\xe2\\x80\\xa8\\xe2\\x80\\xae");
    expect("\xe2\x81\xa6\xe2\x81\xa9", "\\xe2\\x81\\xa6\\xe2\\x81\\xa9");
    expect("\xef\xbb\xbf", "\\xef\\xbb\\xbf");
    expect("\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81"); /* a tag */
    expect("\xed\xa0\x80\xc0\x80", "\\xed\\xa0\\x80\\xc0\\x80");
    expect("\xc2\xa0\xc2\xbf\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80",
           "\xc2\xa0\xc2\xbf\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80");
}

static void what_does_not_fit_is_left_out_whole(void **state)
{
    (void)state;
    char out[6];
    assert_int_equal(shown_escape(out, sizeof out, "a\x1b\x1b", 3), 5);
    assert_string_equal(out, "a\\x1b");
    assert_int_equal(shown_escape(out, 3, "\xe6\x97\xa5", 3), 0);
    assert_string_equal(out, "");
}

static void json_has_escapes_of_its_own(void **state)
{
    (void)state;
    char text[256] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    shown_put_json(f, "{\n \"\xc2\x9b\x7f\xe2\x80\xae\xf3\xa0\x81\x81\xc3\xa9\"\n}");
    fclose(f);
    assert_string_equal(text, "{\n \"\\u009b\\u007f\\u202e\\udb40\\udc41\xc3\xa9\"\n}");
}

static void a_line_has_file_and_reason_however_long_the_path(void **state)
{
    (void)state;
    static const char *const units[] = {"abcdefg/", "\xc3\xa9\xe6\x97\xa5/", "\x1b[1m/", "a b/",
                                        "x: /"};
    static const size_t lengths[] = {10, 300, 480, 505, 600, 2000, 4090};
    for (size_t u = 0; u < 5; u++)
        for (size_t l = 0; l < 7; l++) {
            char path[8192] = "", line[TP_ERROR_LINE_MAX + 1];
            struct tp_error err = {0}, errno_err = {0}, outer = {0};
            while (strlen(path) + 16 < lengths[l])
                strcat(path, units[u]);
            strcat(path, "config.json");
            tp_fail(&err, TP_E_JSON, "%s: line 1: this is the reason", path);
            errno = ENOENT;
            tp_fail_errno(&errno_err, "%s: open", path);
            tp_fail(&outer, TP_E_IO, "%s and %s: %s", path, path, errno_err.text);
            size_t n = tp_error_line(line, "tprun", &err);
            line[n] = '\0';
            assert_true(n <= TP_ERROR_LINE_MAX && line[n - 1] == '\n');
            assert_non_null(strstr(line, "tprun: error JS01: "));
            assert_non_null(strstr(line, "config.json: line 1: this is the reason\n"));
            line[tp_error_line(line, "tpshard", &errno_err)] = '\0';
            assert_non_null(strstr(line, "config.json: open: No such file or directory\n"));
            line[tp_error_line(line, "tpshard", &outer)] = '\0';
            assert_non_null(strstr(line, ": open: No such file or directory\n"));
        }
}

static void what_is_shortened_stays_utf8_and_within_its_room(void **state)
{
    (void)state;
    static const char *const parts[] = {"a", " ", "\xc3\xa9", "\xe6\x97\xa5", "\xf0\x9f\x98\x80",
                                        ": "};
    srand(1);
    for (int round = 0; round < 20000; round++) {
        char text[1200] = "", before[1200];
        size_t n = (size_t)rand() % 1100, room = 64 + (size_t)rand() % 500, k = 0;
        int odds = 1 + rand() % 6;
        while (strlen(text) < n)
            strcat(text, parts[rand() % 20 ? (size_t)(rand() % odds) : (size_t)rand() % 6]);
        memcpy(before, text, sizeof text);
        shown_shorten(text, room);
        assert_true(strlen(text) <= room);
        assert_true(strlen(before) > room || strcmp(text, before) == 0);
        for (size_t i = 0; i < strlen(text); i += k) {
            k = utf8_length((const unsigned char *)text + i, strlen(text) - i);
            assert_true(k > 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_terminal_obeys_is_escaped),
        cmocka_unit_test(what_does_not_fit_is_left_out_whole),
        cmocka_unit_test(json_has_escapes_of_its_own),
        cmocka_unit_test(a_line_has_file_and_reason_however_long_the_path),
        cmocka_unit_test(what_is_shortened_stays_utf8_and_within_its_room),
    };
    return cmocka_run_group_tests_name("shown", tests, NULL, NULL);
}
