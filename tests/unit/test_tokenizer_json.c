/* What tokenizer.json may not be: rows 61 to 65, 79 and 80 of the fault catalogue, and every part
 * that is not supported, refused by its name. */
#include "tokenizer_fixture.h"

#include "output_file.h"
#include <unistd.h>

/* The fixture with a member replaced: path "model.merges"; value as JSON, "-" removes it. */
static void assert_refused(const char *path, const char *value, enum tp_code code, const char *text)
{
    json_t *doc = fixture_doc(NULL), *object = doc;
    char key[64];
    snprintf(key, sizeof key, "%s", path);
    char *dot = strchr(key, '.');
    if (dot) {
        *dot = '\0';
        object = json_object_get(doc, key);
        memmove(key, dot + 1, strlen(dot + 1) + 1);
    }
    json_t *parsed = json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (strcmp(value, "-") == 0)
        json_object_del(object, key);
    else if (!parsed || json_object_set_new(object, key, parsed))
        fail_msg("test data: %s", value);
    unsigned char *data;
    uint64_t n;
    if (fixture_compile(doc, &data, &n))
        fail_msg("%s = %s is not refused", path, value);
    if (fixture_error.code != code || !strstr(fixture_error.text, text))
        fail_msg("%s = %s: %s \"%s\"", path, value, tp_code_text(fixture_error.code),
                 fixture_error.text);
}

static void refused(const char *path, const char *value, const char *text)
{
    assert_refused(path, value, TP_E_TK_INVALID, text);
}

static void unsupported(const char *path, const char *value, const char *text)
{
    assert_refused(path, value, TP_E_TK_UNSUPPORTED, text);
}

static void ids_are_checked(void **state)
{
    (void)state;
    refused("model.vocab", "{\"a\": -1}", "token \"a\": id 0 to 2^31 - 1");
    refused("model.vocab", "{\"a\": 2147483648}", "token \"a\": id");
    refused("model.vocab", "{\"a\": 1.5}", "token \"a\": id");
    refused("model.vocab", "{\"a\": \"1\"}", "token \"a\": id");
    refused("model.vocab", "{\"a\": 1, \"b\": 1}", "id 1 has two tokens: \"a\" and \"b\"");
    refused("model.vocab", "[]", "vocab");
    assert_refused("model.vocab", "{\"a\": 4194304}", TP_E_LIMIT, "id 4194304");
    refused("added_tokens", "[{\"id\": 97, \"content\": \"<s>\"}]",
            "id 97 has two tokens: \"a\" and \"<s>\"");
    refused("added_tokens", "[{\"id\": 300, \"content\": \"a\"}]", "\"a\" has two ids: 97 and 300");
    refused("added_tokens",
            "[{\"id\": 300, \"content\": \"<a>\"}, {\"id\": 301, \"content\": \"<a>\"}]",
            "\"<a>\" stands there twice, with ids 300 and 301");
    refused("added_tokens",
            "[{\"id\": 300, \"content\": \"<a>\"}, {\"id\": 300, \"content\": \"<b>\"}]",
            "id 300 has two tokens");
    refused("added_tokens", "[{\"id\": -300, \"content\": \"<a>\"}]", "token \"<a>\": id");
    refused("added_tokens", "[{\"content\": \"<a>\"}]", "token \"<a>\": id");
    refused("added_tokens", "[{\"id\": 300}]", "no content");
    refused("added_tokens", "[{\"id\": 300, \"content\": \"<a>\", \"lstrip\": 1}]", "lstrip");
    refused("added_tokens", "{}", "an array expected");
    unsupported("added_tokens", "[{\"id\": 300, \"content\": \"\\u0000\"}]", "NUL");
}

/* Fails to parse: a key that stands twice, a depth, a cut. */
static void malformed_json_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",    "{", "[]", "null", "{\"model\": {}, \"model\": {}}", "{\"model\": \"\\ud800\"}",
        "\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        unsigned char *data;
        uint64_t n;
        struct tp_error err = {0};
        assert_false(tokenizer_compile("tokenizer.json", texts[i], strlen(texts[i]), NULL, NULL,
                                       &data, &n, &err));
        assert_int_equal(err.code, TP_E_TK_INVALID);
        assert_memory_equal(err.text, "tokenizer.json: ", 16);
    }
    char deep[400];
    memset(deep, '[', sizeof deep);
    struct tp_error err = {0};
    unsigned char *data;
    uint64_t n;
    assert_false(
        tokenizer_compile("tokenizer.json", deep, sizeof deep, NULL, NULL, &data, &n, &err));
    assert_int_equal(err.code, TP_E_TK_INVALID);
    err = (struct tp_error){0};
    assert_false(
        tokenizer_compile("tokenizer.json", "", (256u << 20) + 1, NULL, NULL, &data, &n, &err));
    assert_int_equal(err.code, TP_E_LIMIT);
}

static void merges_are_checked(void **state)
{
    (void)state;
    refused("model.merges", "[\"a a\", \"a q\"]", "merge 1: \"aq\" is not in the vocabulary");
    refused("model.merges", "[\"\\u4e00 a\"]",
            "merge 0: \"\xe4\xb8\x80\" is not in the vocabulary");
    refused("model.merges", "[\"aa\"]", "merge 0: two parts");
    refused("model.merges", "[\"a a a\"]", "merge 0: two parts");
    refused("model.merges", "[[\"a\"]]", "merge 0: two parts");
    refused("model.merges", "[[\"a\", \"a\", \"a\"]]", "merge 0: two parts");
    refused("model.merges", "[[\"a\", 1]]", "merge 0: strings expected");
    refused("model.merges", "[7]", "merge 0: two parts");
    refused("model.merges", "-", "merges: an array expected, nothing found");
}

/* Lines of merges.txt that came along in files of old */
static void a_version_line_is_no_merge(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL);
    json_array_insert_new(json_object_get(json_object_get(doc, "model"), "merges"), 0,
                          json_string("#version: 0.2"));
    fixture_open(&f, doc);
    assert_ids(&f, "hello", "259");
    fixture_close(&f);
}

static void long_tokens_are_refused(void **state)
{
    (void)state;
    for (size_t n = 65536; n <= 65537; n++) {
        char *name = mem_alloc(n + 1, NULL);
        memset(name, 'q', n);
        json_t *doc = fixture_doc(NULL);
        json_object_set_new(json_object_get(json_object_get(doc, "model"), "vocab"), name,
                            json_integer(290));
        unsigned char *data = NULL;
        uint64_t bytes;
        assert_true(fixture_compile(doc, &data, &bytes) == (n == 65536));
        if (n == 65537)
            assert_int_equal(fixture_error.code, TP_E_TK_INVALID);
        mem_free(data);
        mem_free(name);
    }
}

static void the_post_processor_is_checked(void **state)
{
    (void)state;
    static const char head[] = "{\"type\": \"TemplateProcessing\", ";
    char text[512];
#define TEMPLATE(rest) (snprintf(text, sizeof text, "%s%s}", head, rest), text)
#define TOKEN_A "\"single\": [{\"SpecialToken\": {\"id\": \"a\"}}, {\"Sequence\": {\"id\": \"A\"}}]"
    refused("post_processor", TEMPLATE(TOKEN_A ", \"special_tokens\": {\"a\": {\"ids\": [302]}}"),
            "post_processor: id 302 is no token");
    refused("post_processor", TEMPLATE(TOKEN_A ", \"special_tokens\": {\"a\": {\"ids\": [280]}}"),
            "id 280 is no token");
    refused("post_processor", TEMPLATE(TOKEN_A ", \"special_tokens\": {\"a\": {\"ids\": [-1]}}"),
            "id out of range");
    refused("post_processor", TEMPLATE(TOKEN_A ", \"special_tokens\": {}"), "without ids");
    refused("post_processor", TEMPLATE("\"single\": []"), "no sequence A");
    refused("post_processor", TEMPLATE("\"single\": [{\"Sequence\": {\"id\": \"B\"}}]"),
            "Sequence A");
    refused("post_processor", TEMPLATE("\"single\": 1"), "single");
    refused("post_processor", "{}", "an object with a type expected");
    unsupported(
        "post_processor",
        TEMPLATE("\"single\": [{\"Sequence\": {\"id\": \"A\"}}, {\"Sequence\": {\"id\": \"A\"}}]"),
        "twice");
    refused("post_processor", "{\"type\": \"BertProcessing\"}", "cls and sep");
    unsupported("post_processor", "{\"type\": \"Other\"}", "post_processor Other");
    unsupported(
        "post_processor",
        "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"TemplateProcessing\", "
        "\"single\": [{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {}}, {\"type\": "
        "\"Sequence\", \"processors\": [{\"type\": \"BertProcessing\", \"cls\": [\"a\", 0], "
        "\"sep\": [\"b\", 1]}]}]}",
        "pair behind a template");
}

static void what_is_not_supported_is_named(void **state)
{
    (void)state;
    unsupported("model.type", "\"Unigram\"", "model Unigram");
    unsupported("model.type", "\"WordPiece\"", "model WordPiece");
    unsupported("model.dropout", "0.1", "dropout");
    unsupported("model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix");
    unsupported("model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix");
    unsupported("version", "\"2.0\"", "version");
    unsupported("normalizer", "{\"type\": \"Precompiled\"}", "normalizer Precompiled");
    refused("normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\"}]}",
            "normalizer Strip: strip_left");
    refused("normalizer", "{\"type\": \"Replace\", \"content\": \"\"}", "Regex or String");
    refused("normalizer", "{\"type\": \"Prepend\"}", "prepend: a string expected");
    unsupported("decoder", "{\"type\": \"WordPiece\"}", "decoder WordPiece");
    unsupported("decoder",
                "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"},"
                "{\"type\": \"Replace\"}]}",
                "at this place: Replace");
    refused("decoder", "{\"type\": \"Metaspace\", \"replacement\": \"__\"}", "one character");
    refused("pre_tokenizer", "{\"type\": \"Metaspace\"}", "replacement: a string expected");
    refused("pre_tokenizer", "{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"\"}",
            "one character");
    unsupported("pre_tokenizer", "{\"type\": \"UnicodeScripts\"}", "pre_tokenizer UnicodeScripts");
    unsupported(
        "pre_tokenizer",
        "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\X+\"}, \"behavior\": \"Isolated\","
        "\"invert\": false}",
        "pattern construct \\X at offset 0");
    refused("pre_tokenizer",
            "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a)\"}, \"behavior\": \"Isolated\","
            "\"invert\": false}",
            "tokenizer.json: pre_tokenizer Split: offset 1: unmatched");
    refused("pre_tokenizer",
            "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Isolate\","
            "\"invert\": false}",
            "unknown behavior");
    refused("pre_tokenizer", "{\"type\": \"ByteLevel\"}", "add_prefix_space");
    refused("pre_tokenizer", "{\"type\": \"Sequence\"}", "pretokenizers");
    refused("pre_tokenizer", "{\"type\": \"Split\", \"behavior\": \"Isolated\", \"invert\": true}",
            "pattern");
}

/* ---- a folder ---- */

static char folder[] = "/tmp/test_tokenizer_json.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[IO_PATH_MAX];
    assert_true(io_join(path, folder, name, NULL));
    assert_true(output_file_put(path, text, strlen(text), NULL));
}

/* What a folder with this tokenizer_config.json costs: so many warnings, and with strict findings
 * an error that says so. */
static void assert_folder(const char *config, const struct model_config *model, uint32_t warnings,
                          const char *says)
{
    unsigned char *data = NULL;
    uint64_t n;
    struct tp_error err = {0};
    struct findings findings = {.quiet = true}, strict = {.strict = true};
    put("tokenizer_config.json", config);
    if (!tokenizer_compile_dir(folder, model, NULL, &findings, &data, &n, &err))
        fail_msg("%s", err.text);
    mem_free(data);
    if (findings.warnings != warnings)
        fail_msg("%s: %u warnings", config, findings.warnings);
    bool taken = tokenizer_compile_dir(folder, model, NULL, &strict, &data, &n, &err);
    assert_int_equal(taken, warnings == 0);
    if (taken)
        mem_free(data);
    else if (err.code != TP_E_TK_INVALID || !strstr(err.text, says))
        fail_msg("%s: %s", config, err.text);
}

static void what_files_say_otherwise_is_a_warning(void **state)
{
    (void)state;
    static struct model_config model = {.vocab = 302, .bos_id = 300, .eos_id = {301}, .n_eos = 1};
    assert_non_null(mkdtemp(folder));
    json_t *doc = fixture_doc(NULL);
    char *text = json_dumps(doc, 0);
    put("tokenizer.json", text);
    json_decref(doc);
    free(text);
    assert_folder("{}", NULL, 0, NULL);
    assert_folder("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"added_tokens_decoder\":"
                  "{\"300\": {\"content\": \"<s>\"}, \"301\": {\"content\": \"</s>\"}}}",
                  &model, 0, NULL);
    assert_folder("{\"bos_token\": {\"content\": \"</s>\"}}", &model, 1,
                  "\"</s>\" has id 301, config.json: 300");
    assert_folder("{\"eos_token\": \"<s>\"}", &model, 1, "\"<s>\" has id 300, config.json: 301");
    assert_folder("{\"bos_token\": \"<bos>\"}", NULL, 1, "no such token");
    assert_folder("{\"pad_token\": \"<pad>\", \"mask_token\": null}", NULL, 1, "no such token");
    assert_folder("{\"eos_token\": [\"</s>\"], \"bos_token\": 5}", NULL, 2, "bos_token: a text");
    assert_folder("{\"added_tokens_decoder\": {\"5\": {\"content\": \"<s>\"}}}", NULL, 1,
                  "\"<s>\" has id 5, tokenizer.json has it with 300");
    assert_folder("{\"added_tokens_decoder\": {\"x\": {\"content\": \"<s>\"}}}", NULL, 1,
                  "malformed");
    assert_folder("{\"added_tokens_decoder\": [1]}", NULL, 1, "an array found");
    assert_folder(
        "{\"added_tokens_decoder\": {\"400\": {\"content\": \"<t>\"}, \"401\": {\"content\":"
        " \"<u>\"}}}",
        NULL, 1, "no such token (and 1 more)");
    assert_folder("nonsense", NULL, 0, NULL); /* chat_source says it */
    model.vocab = 301;                        /* </s> has no row */
    assert_folder("{\"eos_token\": \"</s>\", \"added_tokens_decoder\": {\"301\": {\"content\":"
                  " \"</s>\"}}}",
                  &model, 1, "1 token, \"</s>\" (301), but vocab_size of config.json is 301");
    char path[IO_PATH_MAX];
    io_join(path, folder, "tokenizer.json", NULL);
    unlink(path);
    unsigned char *data;
    uint64_t n;
    struct tp_error err = {0};
    struct findings findings = {0};
    assert_false(tokenizer_compile_dir(folder, NULL, NULL, &findings, &data, &n, &err));
    assert_int_equal(err.code, TP_E_IO);
    io_join(path, folder, "tokenizer_config.json", NULL);
    unlink(path);
    rmdir(folder);
}

/* Tokens without a row, merges that need them, and what the post-processor puts of them. */
static void what_has_no_row_is_taken_out(void **state)
{
    (void)state;
    static const char json[] =
        "{\"added_tokens\": [{\"id\": 6, \"content\": \"<p>\"}, {\"id\": 3, \"content\": \"<q>\"}],"
        " \"post_processor\": {\"type\": \"BertProcessing\", \"cls\": [\"<p>\", 6], \"sep\": "
        "[\"<q>\", 3]}, \"model\": {\"unk_token\": \"abc\", \"vocab\": {\"a\": 0, \"b\": 1, "
        "\"ab\": "
        "2, \"c\": 4, \"abc\": 5, \"abcc\": 7}, \"merges\": [\"a b\", \"ab c\", \"abc c\"]}}";
    static const struct {
        uint32_t rows, dropped, tokens, merges, post, before;
        const char *names;
    } cases[] = {
        {8, 0, 8, 3, 2, 1, ""},
        {7, 1, 7, 2, 2, 1, "\"abcc\" (7)"},
        {6, 2, 6, 2, 1, 0, "\"abcc\" (7), \"<p>\" (6)"},
        {5, 3, 5, 1, 1, 0, "\"abc\" (5), \"abcc\" (7), \"<p>\" (6)"},
        {2, 6, 2, 0, 0, 0, "\"ab\" (2), \"c\" (4), \"abc\" (5)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer_rows rows = {.count = cases[i].rows};
        struct tokenizer_file file;
        struct tp_error err = {0};
        struct tokenizer_pair pair;
        unsigned char *data;
        uint64_t n;
        uint32_t merges = 0;
        if (!tokenizer_compile("t", json, sizeof json - 1, NULL, &rows, &data, &n, &err))
            fail_msg("%s", err.text);
        assert_true(tokenizer_file_open(data, n, "t", &file, &err));
        for (uint32_t k = 0; k < file.merge_slots; k++)
            merges += tokenizer_file_pair(&file, k, &pair);
        assert_int_equal(rows.dropped, cases[i].dropped);
        assert_string_equal(rows.names, cases[i].names);
        assert_int_equal(file.tokens, cases[i].tokens);
        assert_int_equal(merges, cases[i].merges);
        assert_int_equal(file.post_count, cases[i].post);
        assert_int_equal(file.post_before, cases[i].before);
        assert_int_equal(file.unk, cases[i].rows > 5 ? 5 : TOKEN_NONE);
        tokenizer_rows_free(&rows);
        mem_free(data);
    }
    struct tokenizer_rows rows = {.count = 1};
    struct tp_error err = {0};
    unsigned char *data;
    uint64_t n;
    static const char negative[] =
        "{\"model\": {\"vocab\": {\"a\": 0, \"b\": -1}, \"merges\": []}}";
    assert_false(
        tokenizer_compile("t", negative, sizeof negative - 1, NULL, &rows, &data, &n, &err));
    assert_non_null(strstr(err.text, "\"b\": id 0 to 2^31 - 1"));
    tokenizer_rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_checked),
        cmocka_unit_test(malformed_json_is_refused),
        cmocka_unit_test(merges_are_checked),
        cmocka_unit_test(a_version_line_is_no_merge),
        cmocka_unit_test(long_tokens_are_refused),
        cmocka_unit_test(the_post_processor_is_checked),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(what_files_say_otherwise_is_a_warning),
        cmocka_unit_test(what_has_no_row_is_taken_out),
    };
    return cmocka_run_group_tests_name("tokenizer.json", tests, NULL, NULL);
}
