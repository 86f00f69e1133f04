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

static void assert_refused(enum tp_code code, const char *part)
{
    struct tp_error err = {0};
    struct chat_source source;
    assert_false(chat_source_read(&source, dir, &findings, &err));
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, part));
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
    assert_texts("3 default=chat_template.jinja: UTF-8 expected;");
}

static void what_exhausts_the_limits_or_has_another_type_is_an_error(void **state)
{
    (void)state;
    put("chat_template.jinja", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
                               "{% endfor %}");
    assert_refused(TP_E_TEMPLATE, "chat_template.jinja");
    put("chat_template.jinja", "{{ range(10**12) }}");
    assert_refused(TP_E_TEMPLATE, "chat_template.jinja");
    put("chat_template.jinja", "{{ raise_exception('fine') }}");
    assert_texts("1 default={{ raise_exception('fine') }};");
    remove_folder(state);
    assert_int_equal(make_folder(state), 0);
    put("tokenizer_config.json", "{\"chat_template\": 7}");
    assert_refused(TP_E_TK_INVALID, "chat_template");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"x\"}]}");
    assert_refused(TP_E_TK_INVALID, "chat_template");
    put("tokenizer_config.json", "{");
    assert_refused(TP_E_TK_INVALID, "tokenizer_config.json");
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
        FOLDER_TEST(what_exhausts_the_limits_or_has_another_type_is_an_error),
    };
    return cmocka_run_group_tests_name("chat_source", tests, NULL, NULL);
}
