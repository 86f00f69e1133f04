/* Lines of JSON read in place, against jansson. */
#include "line_json.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const parts[] = {
    "a",        "\"",           "\\\"",
    "\\\\",     "\\/",          "\\b\\f\\n\\r\\t",
    "\\u00e9",  "\\u65E5",      "\\ud83d\\ude00",
    "\\ud83d",  "\\ude00",      "\\u12",
    "\\x",      "\\u0000",      "\x01",
    "\xc3\xa9", "\xc3",         "\xf0\x9f\x98\x80",
    " ",        "\t",           "\r",
    "\x7f",     "\xed\xa0\x80", "1",
    "[",        "\\",           "\\uffff",
};
enum { PARTS = sizeof parts / sizeof *parts };

static void strings_are_those_of_jansson(void **state)
{
    (void)state;
    int read = 0;
    srand(1);
    for (int round = 0; round < 200000; round++) {
        char line[256] = "", copy[256], *text;
        size_t n;
        struct tp_error err = {0};
        if (rand() % 20)
            strcat(line, "\"");
        for (int k = rand() % 5; k > 0; k--)
            strcat(line, parts[(size_t)rand() % (rand() % 3 ? PARTS : 9)]);
        if (rand() % 20)
            strcat(line, "\"");
        strcat(line, rand() % 8 ? "" : rand() % 2 ? " \t" : "x");
        memcpy(copy, line, sizeof copy);
        json_t *wanted = json_loadb(line, strlen(line), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        bool ok = line_json_string(copy, strlen(line), 7, &text, &n, &err);
        if (ok != json_is_string(wanted))
            fail_msg("%s: %s", line, ok ? "taken" : err.text);
        if (ok) {
            assert_int_equal(n, json_string_length(wanted));
            assert_memory_equal(text, json_string_value(wanted), n);
            read++;
        } else {
            assert_int_equal(err.code, TP_E_JSON);
            assert_non_null(strstr(err.text, "line 7, byte "));
        }
        json_decref(wanted);
    }
    assert_true(read > 50000);
}

static bool are_ids(const json_t *value)
{
    bool all = json_is_array(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t id = json_integer_value(item);
        all = all && json_is_integer(item) && id >= 0 && id <= UINT32_MAX;
    }
    return all;
}

static void arrays_are_those_of_jansson(void **state)
{
    (void)state;
    static const char *const items[] = {
        "0",   "17", "4294967295", "4294967296", "99999999999999999999999",
        "01",  "-1", "1.0",        "1e2",        "\"1\"",
        "[1]", "",   " 5 ",        "\t6"};
    int read = 0;
    srand(2);
    for (int round = 0; round < 100000; round++) {
        char line[256] = "";
        struct tp_error err = {0};
        size_t count;
        strcat(line, rand() % 30 ? "[" : " [ ");
        for (int k = rand() % 5; k > 0; k--) {
            strcat(line, items[(size_t)rand() % (rand() % 4 ? 3 : sizeof items / sizeof *items)]);
            if (k > 1 || rand() % 30 == 0)
                strcat(line, rand() % 9 ? "," : " , ");
        }
        strcat(line, rand() % 30 ? "]" : rand() % 2 ? " ]  " : "]]");
        json_t *wanted = json_loadb(line, strlen(line), JSON_DECODE_ANY, NULL);
        bool ok = line_json_ids(line, strlen(line), 3, &count, &err);
        if (ok != are_ids(wanted))
            fail_msg("%s: %s", line, ok ? "taken" : err.text);
        const char *at = line;
        for (size_t i = 0; ok && i < count; i++)
            assert_int_equal(line_json_id(&at), json_integer_value(json_array_get(wanted, i)));
        assert_true(!ok || count == json_array_size(wanted));
        read += ok;
        json_decref(wanted);
    }
    assert_true(read > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_those_of_jansson),
        cmocka_unit_test(arrays_are_those_of_jansson),
    };
    return cmocka_run_group_tests_name("line_json", tests, NULL, NULL);
}
