/* Which templates and variables a model's folder has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "chat_source.h"
#include "output_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static const char *const files[] = {"tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "chat_template.jinja",
                                    "chat_template.json",
                                    "additional_chat_templates/tool_use.jinja",
                                    "additional_chat_templates/b.jinja"};

static int make_folder(void **state)
{
    char path[IO_PATH_MAX];
    (void)state;
    strcpy(dir, "/tmp/tpshard-test-XXXXXX");
    return !mkdtemp(dir) || !io_join(path, dir, "additional_chat_templates", NULL) ||
           mkdir(path, 0755) != 0;
}

static int remove_folder(void **state)
{
    char path[IO_PATH_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (io_join(path, dir, files[i], NULL) && io_exists(path))
            unlink(path);
    io_join(path, dir, "additional_chat_templates", NULL);
    rmdir(path);
    rmdir(dir);
    return 0;
}

static void put(const char *name, const char *text)
{
    struct tp_error err = {0};
    char path[IO_PATH_MAX];
    assert_true(io_join(path, dir, name, &err) && output_file_put(path, text, strlen(text), &err));
}

static struct findings findings = {.quiet = true};

/* "kind name=value;" of every text */
static void assert_texts(const char *expected)
{
    struct tp_error err = {0};
    struct chat_source source;
    char found[2048] = "";
    if (!chat_source_read(&source, dir, &findings, &err))
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < source.count; i++) {
        size_t at = strlen(found);
        snprintf(found + at, sizeof found - at, "%d %s=%s;", (int)source.list[i].kind,
                 source.list[i].name, source.list[i].value);
    }
    assert_string_equal(found, expected);
    chat_source_free(&source);
}

/* The same, with so many warnings; strict findings refuse it and name the part. */
static void assert_warned(uint32_t warnings, const char *part, const char *expected)
{
    struct tp_error err = {0};
    struct chat_source source;
    struct findings strict = {.strict = true};
    findings.warnings = 0;
    assert_texts(expected);
    assert_int_equal(findings.warnings, warnings);
    assert_false(chat_source_read(&source, dir, &strict, &err));
    assert_int_equal(tp_code_exit(err.code), TP_EXIT_INPUT);
    if (!strstr(err.text, part))
        fail_msg("%s", err.text);
}

static void an_empty_folder_has_nothing(void **state)
{
    (void)state;
    assert_texts("");
}

static void variables_are_texts_or_added_tokens(void **state)
{
    (void)state;
    put("tokenizer_config.json",
        "{\"bos_token\": {\"content\": \"<b>\", \"__type\": \"AddedToken\"}, \"eos_token\": "
        "\"<e>\","
        " \"pad_token\": null, \"add_bos_token\": true, \"image_token\": \"<i>\","
        " \"extra_special_tokens\": {\"boi_token\": \"<j>\"}, \"added_tokens_decoder\": {},"
        " \"model_max_length\": 1000000000000000019884624838656}");
    put("special_tokens_map.json", "{\"unk_token\": \"<u>\"}"); /* not read: there is a decoder */
    assert_texts("2 bos_token=<b>;2 eos_token=<e>;2 image_token=<i>;2 boi_token=<j>;");
}

static void special_tokens_map_counts_without_a_decoder(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"bos_token\": \"<b>\", \"eos_token\": \"<e>\"}");
    put("special_tokens_map.json",
        "{\"unk_token\": {\"content\": \"<u>\"}, \"eos_token\": \"<other>\"}");
    assert_texts("2 bos_token=<b>;2 eos_token=<other>;2 unk_token=<u>;");
}

static void a_class_has_tokens_of_its_own_where_the_key_is_missing(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"eos_token\": "
                                 "\"<e>\", \"unk_token\": null}");
    assert_texts("2 bos_token=<s>;2 eos_token=<e>;");
}

static void a_list_of_templates_keeps_its_names(void **state)
{
    (void)state;
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"a\"},"
        " {\"name\": \"tool_use\", \"template\": \"b\"}, {\"name\": \"default\", \"template\": "
        "\"c\"}]}");
    assert_texts("1 default=c;1 tool_use=b;");
}

static void files_win_over_the_configuration(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"chat_template\": \"config\"}");
    put("chat_template.json", "{\"chat_template\": \"processor\"}");
    assert_texts("1 default=config;");
    put("additional_chat_templates/tool_use.jinja", "tools");
    put("additional_chat_templates/b.jinja", "b");
    assert_texts("1 b=b;1 tool_use=tools;");
    put("chat_template.jinja", "file");
    assert_texts("1 default=file;1 b=b;1 tool_use=tools;");
}

static void the_file_of_a_processor_comes_last(void **state)
{
    (void)state;
    put("tokenizer_config.json", "{\"chat_template\": null}");
    put("chat_template.json", "{\"chat_template\": \"processor\"}");
    assert_texts("1 default=processor;");
}

static void a_template_that_is_none_is_left_with_its_reason(void **state)
{
    (void)state;
    struct tp_error err = {0};
    struct chat_source source;
    put("chat_template.jinja", "ok\n{% if %}");
    assert_true(chat_source_read(&source, dir, &findings, &err));
    assert_int_equal(source.count, 1);
    assert_int_equal(source.list[0].kind, TEXT_REFUSED);
    assert_memory_equal(source.list[0].value, "chat_template.jinja:2:", 22);
    chat_source_free(&source);
    put("chat_template.jinja", "{{ messages.copy() }}");
    assert_texts("3 default=chat_template.jinja:1:12: list.copy is not supported;");
    put("chat_template.jinja", "\xff");
    assert_texts("3 default=chat_template.jinja: 1 to 1048576 bytes of UTF-8 expected;");
}

static void what_exhausts_the_limits_is_left_out(void **state)
{
    (void)state;
    put("chat_template.jinja", "{{ range(10**12) }}");
    assert_warned(1, "chat_template.jinja",
                  "3 default=chat_template.jinja:1:9: OverflowError: Range too big. The sandbox "
                  "blocks ranges larger than MAX_RANGE (100000).;");
    put("chat_template.jinja", "{{ raise_exception('fine') }}");
    assert_texts("1 default={{ raise_exception('fine') }};");
    static char large[(1 << 20) + 2];
    memset(large, 'x', sizeof large - 1);
    put("chat_template.jinja", large);
    assert_warned(1, "1048576",
                  "3 default=chat_template.jinja: 1 to 1048576 bytes of UTF-8 expected;");
}

static void what_is_malformed_is_left_out_and_the_rest_counts(void **state)
{
    (void)state;
    static const char *const templates[] = {"7",
                                            "true",
                                            "[{\"name\": \"x\"}]",
                                            "[7]",
                                            "[[]]",
                                            "[{\"template\": \"x\"}]",
                                            "{\"default\": 7}"};
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"bos_token\": \"<b>\", \"chat_template\": %s}",
                 templates[i]);
        put("tokenizer_config.json", text);
        assert_warned(1, "chat_template", "2 bos_token=<b>;");
    }
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"a\", \"template\": \"x\"}, {\"name\": \"b\"}]}");
    assert_warned(1, "chat_template", "1 a=x;");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"\", \"template\": \"x\"}]}");
    assert_warned(1, "template name", "");
}

static void a_file_that_is_no_json_is_ignored(void **state)
{
    (void)state;
    static const char *const none[] = {"{",
                                       "",
                                       "[]",
                                       "\xef\xbb\xbf{}",
                                       "<!DOCTYPE html>",
                                       "version https://git-lfs.github.com/spec/v1\n"};
    put("chat_template.jinja", "t");
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        put("tokenizer_config.json", none[i]);
        assert_warned(1, "tokenizer_config.json", "1 default=t;");
    }
    put("tokenizer_config.json", "{\"bos_token\": \"<b>\"}");
    put("special_tokens_map.json", "{\"bos_token\": \"<c>\",}");
    assert_warned(1, "special_tokens_map.json", "2 bos_token=<b>;1 default=t;");
    put("special_tokens_map.json", "{}");
    put("chat_template.json", "nonsense"); /* nobody asks */
    findings.warnings = 0;
    assert_texts("2 bos_token=<b>;1 default=t;");
    assert_int_equal(findings.warnings, 0);
}

static void the_file_of_a_processor_that_is_no_json_is_ignored(void **state)
{
    (void)state;
    put("chat_template.json", "nonsense");
    assert_warned(1, "chat_template.json", "");
    put("chat_template.json", "{\"chat_template\": 7}");
    assert_warned(1, "chat_template.json: chat_template", "");
}

static void the_folder_of_templates_is_kept_as_it_is(void **state)
{
    (void)state;
    struct tp_error err = {0};
    struct chat_source source;
    put("additional_chat_templates/tool_use.jinja", "\xef\xbb\xbf"
                                                    "a\r\n{% if %}");
    put("additional_chat_templates/b.jinja", "\xff");
    findings.warnings = 0;
    assert_true(chat_source_read(&source, dir, &findings, &err));
    assert_int_equal(findings.warnings, 3); /* two that are left out, and the mark */
    assert_int_equal(source.count, 2);
    assert_true(source.list[0].kind == TEXT_REFUSED && source.list[1].kind == TEXT_REFUSED);
    assert_int_equal(json_object_size(source.folder), 2);
    assert_string_equal(json_string_value(json_object_get(source.folder, "tool_use")),
                        "\xef\xbb\xbf"
                        "a\r\n{% if %}");
    assert_true(json_is_null(json_object_get(source.folder, "b")));
    chat_source_free(&source);
}

#define FOLDER_TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLDER_TEST(an_empty_folder_has_nothing),
        FOLDER_TEST(variables_are_texts_or_added_tokens),
        FOLDER_TEST(special_tokens_map_counts_without_a_decoder),
        FOLDER_TEST(a_class_has_tokens_of_its_own_where_the_key_is_missing),
        FOLDER_TEST(a_list_of_templates_keeps_its_names),
        FOLDER_TEST(files_win_over_the_configuration),
        FOLDER_TEST(the_file_of_a_processor_comes_last),
        FOLDER_TEST(a_template_that_is_none_is_left_with_its_reason),
        FOLDER_TEST(what_exhausts_the_limits_is_left_out),
        FOLDER_TEST(what_is_malformed_is_left_out_and_the_rest_counts),
        FOLDER_TEST(a_file_that_is_no_json_is_ignored),
        FOLDER_TEST(the_file_of_a_processor_that_is_no_json_is_ignored),
        FOLDER_TEST(the_folder_of_templates_is_kept_as_it_is),
    };
    return cmocka_run_group_tests_name("chat_source", tests, NULL, NULL);
}
