/* Text comes out in whole characters, without the beginning of a stop string, and the same however
 * its bytes were cut. */
#include "text_stream.h"

#include "mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const no_stops[] = {""};

/* All that comes out when data goes in, step bytes at a time (0: of random length). */
static const char *run(const char *const *stops, size_t stop_count, const char *data, size_t n,
                       size_t step, bool *stopped)
{
    static char out[1024];
    struct text_stream s = {0};
    struct tp_error err = {0};
    const char *text;
    size_t bytes, at = 0;
    assert_true(text_stream_init(&s, stops, stop_count, 64, &err));
    uint64_t allocated = mem_alloc_count();
    for (size_t i = 0, k; i < n; i += k) {
        k = step ? step : 1 + (size_t)rand() % 7;
        k = k < n - i ? k : n - i;
        text_stream_push(&s, data + i, k, &text, &bytes);
        memcpy(out + at, text, bytes);
        at += bytes;
    }
    text_stream_end(&s, NULL, 0, &text, &bytes);
    memcpy(out + at, text, bytes);
    out[at + bytes] = '\0';
    assert_int_equal(mem_alloc_count(), allocated);
    if (stopped)
        *stopped = s.stopped;
    text_stream_free(&s);
    return out;
}

static void assert_text(const char *const *stops, size_t count, const char *data,
                        const char *wanted, bool wanted_stop)
{
    for (size_t step = 0; step < 20; step++) {
        bool stopped;
        assert_string_equal(run(stops, count, data, strlen(data), step, &stopped), wanted);
        assert_int_equal(stopped, wanted_stop);
    }
}

static void characters_come_out_whole(void **state)
{
    (void)state;
    struct text_stream s = {0};
    const char *text;
    size_t bytes;
    assert_true(text_stream_init(&s, no_stops, 0, 8, NULL));
    text_stream_push(&s, "a\xf0\x9f", 3, &text, &bytes);
    assert_int_equal(bytes, 1);
    text_stream_push(&s, "\x98", 1, &text, &bytes);
    assert_int_equal(bytes, 0);
    text_stream_push(&s,
                     "\x80"
                     "b",
                     2, &text, &bytes);
    assert_int_equal(bytes, 5);
    assert_memory_equal(text,
                        "\xf0\x9f\x98\x80"
                        "b",
                        5);
    text_stream_push(&s, "", 0, &text, &bytes);
    assert_int_equal(bytes, 0);
    text_stream_push(&s, "\xe2\x82", 2, &text, &bytes);
    assert_int_equal(bytes, 0);
    text_stream_end(&s, NULL, 0, &text, &bytes);
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    text_stream_reset(&s);
    text_stream_push(&s, "z", 1, &text, &bytes);
    assert_int_equal(bytes, 1);
    text_stream_free(&s);
}

#define FFFD "\xef\xbf\xbd"
/* As String::from_utf8_lossy of Rust gives them. */
static void bad_bytes_become_replacement_characters(void **state)
{
    (void)state;
    assert_text(no_stops, 0,
                "a\xff"
                "b",
                "a" FFFD "b", false);
    assert_text(no_stops, 0,
                "\xf0\x9f\x98"
                "x",
                FFFD "x", false);
    assert_text(no_stops, 0, "\xf0\x9f\xf0\x9f\x98\x80", FFFD "\xf0\x9f\x98\x80", false);
    assert_text(no_stops, 0, "\xed\xa0\x80", FFFD FFFD FFFD, false);
    assert_text(no_stops, 0, "\xc0\xaf\x80", FFFD FFFD FFFD, false);
    assert_text(no_stops, 0, "\xe2\x82\xe2\x82\xac\xe2", FFFD "\xe2\x82\xac" FFFD, false);
    assert_text(no_stops, 0, "\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD, false);
    assert_text(no_stops, 0, "\xc3\xc3\xa9", FFFD "\xc3\xa9", false);
}

static void text_ends_before_a_stop_string(void **state)
{
    (void)state;
    static const char *const stops[] = {"\n\n", "</s>", "STOP", "OPT"};
    assert_text(stops, 4, "one\ntwo\n\nthree", "one\ntwo", true);
    assert_text(stops, 4, "a </ s> </s", "a </ s> </s", false);
    assert_text(stops, 4, "a </s></s>", "a ", true);
    assert_text(stops, 4, "xSTOPT", "x", true); /* complete first */
    assert_text(stops, 4, "xSTOOPTx", "xSTO", true);
    assert_text(stops, 4, "SSTOP", "S", true);
    assert_text(stops, 4, "\n", "\n", false);
    assert_text(stops, 4, "", "", false);
    static const char *const nested[] = {"abcd", "c", "bc"};
    assert_text(nested, 3, "xabcd", "xa", true); /* the longest of those that end there */
    static const char *const utf8[] = {"\xc3\xa9", FFFD "!"};
    assert_text(utf8, 2, "caf\xc3\xa9s", "caf", true);
    assert_text(utf8, 2, "a\xff!b", "a", true);
    assert_text(utf8, 2, "a\xc3", "a" FFFD, false);
    static const char *const runs[] = {"aaab"};
    assert_text(runs, 1, "aaaaaaab", "aaaa", true);
}

static void what_could_become_a_stop_string_is_held_back(void **state)
{
    (void)state;
    static const char *const stops[] = {"<|im_end|>"};
    struct text_stream s = {0};
    const char *text;
    size_t bytes;
    assert_true(text_stream_init(&s, stops, 1, 16, NULL));
    text_stream_push(&s, "hi<|im_", 7, &text, &bytes);
    assert_int_equal(bytes, 2);
    text_stream_push(&s, "start<", 6, &text, &bytes);
    assert_int_equal(bytes, 10);
    assert_memory_equal(text, "<|im_start", 10);
    text_stream_push(&s, "|im_end|>more", 13, &text, &bytes);
    assert_int_equal(bytes, 0);
    assert_true(s.stopped);
    assert_int_equal(s.stop_index, 0);
    text_stream_push(&s, "more", 4, &text, &bytes);
    assert_int_equal(bytes, 0);
    text_stream_end(&s, NULL, 0, &text, &bytes);
    assert_int_equal(bytes, 0);
    text_stream_free(&s);
}

static void pieces_of_any_length_give_one_text(void **state)
{
    (void)state;
    static const char *const stops[] = {"ab", "\xe2\x82\xac\x62", "bbba"};
    srand(2);
    for (int round = 0; round < 3000; round++) {
        static const char *const units[] = {
            "a", "b", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff", "\xe2\x82", "c", "\xc3"};
        char data[128];
        size_t n = 0;
        for (int i = rand() % 24; i > 0; i--) {
            const char *u = units[(size_t)rand() % (sizeof units / sizeof *units)];
            memcpy(data + n, u, strlen(u));
            n += strlen(u);
        }
        size_t count = round % 2 ? 3 : 0;
        char whole[1024];
        strcpy(whole, run(stops, count, data, n, 1, NULL));
        assert_string_equal(run(stops, count, data, n, 0, NULL), whole);
    }
}

static void stop_strings_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "\xff", "a\xe2\x82"};
    for (size_t i = 0; i < 3; i++) {
        struct text_stream s = {0};
        struct tp_error err = {0};
        assert_false(text_stream_init(&s, bad + i, 1, 8, &err));
        assert_int_equal(err.code, TP_E_USAGE);
        text_stream_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_come_out_whole),
        cmocka_unit_test(bad_bytes_become_replacement_characters),
        cmocka_unit_test(text_ends_before_a_stop_string),
        cmocka_unit_test(what_could_become_a_stop_string_is_held_back),
        cmocka_unit_test(pieces_of_any_length_give_one_text),
        cmocka_unit_test(stop_strings_are_checked),
    };
    return cmocka_run_group_tests_name("text_stream", tests, NULL, NULL);
}
