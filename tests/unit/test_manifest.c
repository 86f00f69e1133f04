/* A manifest that is missing, cut, damaged, too large, or hostile with a digest that is right: rows
 * 93 and 94 of the fault catalogue, and names that a bundle may not list. */
#include "commands.h"
#include "output_file.h"
#include "bundle.h"
#include "sealed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/tpshard-manifest-XXXXXX";
static char dir[128], path[192], *text;
static char reason[TP_ERROR_LINE_MAX]; /* of the last refusal */
static size_t n;

static int make_bundle(void **state)
{
    struct tp_error err = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(dir, sizeof dir, "%s/bundle", folder);
    snprintf(path, sizeof path, "%s/%s", dir, BUNDLE_MANIFEST);
    const char *const argv[] = {
        "convert", "tests/data/checkpoints/yarn", "-o", dir, "--no-selftest", "-q", NULL};
    struct options options;
    assert_true(options_parse(&options, COMMAND_CONVERT, 6, (char **)(uintptr_t)argv, &err));
    if (!command_convert.run(&options, &err))
        fail_msg("%s", err.text);
    assert_true(io_read_file(path, 1 << 20, &text, &n, &err));
    return 0;
}

static int remove_folder(void **state)
{
    char command[256];
    (void)state;
    mem_free(text);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static enum tp_exit status_of(const char *data, size_t size)
{
    struct bundle bundle;
    struct tp_error err = {0};
    if (bundle_parse(&bundle, dir, path, data, size, &err)) {
        bundle_close(&bundle);
        return TP_EXIT_OK;
    }
    assert_true(err.code != TP_OK && *err.text);
    snprintf(reason, sizeof reason, "%s", err.text);
    return tp_code_exit(err.code);
}

/* The text with `from` replaced once by `to`, sealed anew. */
static enum tp_exit status_with(const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    size_t size = n - strlen(from) + strlen(to), before = (size_t)(at - text);
    char *copy = mem_alloc(size + 1, NULL), hex[33];
    memcpy(copy, text, before);
    memcpy(copy + before, to, strlen(to));
    strcpy(copy + before + strlen(to), at + strlen(from));
    hash_to_hex(hash_bytes(copy, size - 36), hex);
    memcpy(copy + size - 36, hex, 32);
    enum tp_exit status = status_of(copy, size);
    mem_free(copy);
    return status;
}

static void a_whole_one_is_read(void **state)
{
    (void)state;
    assert_int_equal(status_of(text, n), TP_EXIT_OK);
    assert_int_equal(status_with("\"format\"", "\"format\""), TP_EXIT_OK);
}

static void cut_at_every_byte_is_malformed(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(status_of(text, cut), TP_EXIT_INPUT);
}

static void every_changed_bit_is_damage(void **state)
{
    (void)state;
    for (size_t i = 0; i < n; i++) {
        text[i] = (char)(text[i] ^ 1 << i % 8);
        assert_int_equal(status_of(text, n), TP_EXIT_INTEGRITY);
        text[i] = (char)(text[i] ^ 1 << i % 8);
    }
}

static void hostile_ones_with_a_digest_that_is_right_are_malformed(void **state)
{
    static char deep[4096];
    (void)state;
    const char model[] = "\"model\": {";
    snprintf(deep, sizeof deep, "\"bomb\": ");
    memset(deep + 8, '[', 1500);
    memset(deep + 1508, ']', 1500);
    strcpy(deep + 3008, ", \"model\": {");
    assert_int_equal(status_with(model, deep), TP_EXIT_INPUT);
    assert_int_equal(status_with(model, "\"tp_size\": 1, \"model\": {"), TP_EXIT_INPUT);
    assert_int_equal(status_with("\"tp_size\": 1", "\"tp_size\": 18446744073709551616"),
                     TP_EXIT_INPUT);
    assert_int_equal(status_with("\"tp_size\": 1", "\"tp_size\": 1e400"), TP_EXIT_INPUT);
    assert_int_equal(status_with("\"tp_size\": 1", "\"tp_size\": 0"), TP_EXIT_INPUT);
    assert_int_equal(status_with("\"version\": 2", "\"version\": 3"), TP_EXIT_MISMATCH);
    assert_int_equal(status_with("tpshard bundle", "tpshard bubble"), TP_EXIT_INPUT);
    assert_int_equal(status_with("\"digest\"", "\"digestion\": 1, \"digest\""), TP_EXIT_OK);
}

static void a_bundle_id_of_other_contents_is_refused_and_both_named(void **state)
{
    (void)state;
    char id[33], other[33], from[64], to[64];
    const char *at = strstr(text, "\"bundle_id\": \"");
    assert_non_null(at);
    snprintf(id, sizeof id, "%s", at + 14);
    snprintf(other, sizeof other, "%s", id);
    other[0] = other[0] == '0' ? '1' : '0';
    snprintf(from, sizeof from, "\"bundle_id\": \"%s", id);
    snprintf(to, sizeof to, "\"bundle_id\": \"%s", other);
    assert_int_equal(status_with(from, to), TP_EXIT_INPUT);
    assert_non_null(strstr(reason, id));
    assert_non_null(strstr(reason, other));
}

static void names_that_the_format_reserves_are_refused(void **state)
{
    /* clang-format off */
    static const char *const names[] = {
        "manifest.json", "manifest.open.json", "journal", "names", "raw", "tpshard-export.json",
        "rank-000-of-001.tps", "rank-000-of-002.tps", "model.safetensors",
        "model.safetensors.index.json", "a/b", "..", "/etc/passwd", "", "tokenizer.json"};
    char to[64];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(to, sizeof to, "\"name\": \"%s\"", names[i]);
        assert_int_equal(status_with("\"name\": \"tokenizer.tpt\"", to), TP_EXIT_INPUT);
    }
    /* clang-format on */
    assert_false(bundle_name_is_reserved("tokenizer.json"));
}

static void one_that_is_missing_or_too_large_is_malformed(void **state)
{
    struct bundle bundle;
    struct tp_error err = {0};
    (void)state;
    assert_int_equal(truncate(path, (off_t)BUNDLE_MANIFEST_MAX + 1), 0);
    assert_false(bundle_open(&bundle, dir, false, &err));
    assert_int_equal(tp_code_exit(err.code), TP_EXIT_INPUT);
    err = (struct tp_error){0};
    unlink(path);
    assert_false(bundle_open(&bundle, dir, false, &err));
    assert_int_equal(err.code, TP_E_BUNDLE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_one_is_read),
        cmocka_unit_test(cut_at_every_byte_is_malformed),
        cmocka_unit_test(every_changed_bit_is_damage),
        cmocka_unit_test(hostile_ones_with_a_digest_that_is_right_are_malformed),
        cmocka_unit_test(a_bundle_id_of_other_contents_is_refused_and_both_named),
        cmocka_unit_test(names_that_the_format_reserves_are_refused),
        cmocka_unit_test(one_that_is_missing_or_too_large_is_malformed),
    };
    return cmocka_run_group_tests_name("manifest", tests, make_bundle, remove_folder);
}
