/* BPE over characters, byte fallback, unknown tokens, Metaspace, and control tokens that data may
 * not hold: from small tokenizers of our own. */
#include "tokenizer_fixture.h"

/* Ids of the document below. */
enum {
    UNK = 0,
    MARK = 1,
    A = 2,
    B = 3,
    C = 4,
    AB = 5,
    MARK_A = 6,
    MARK_AB = 7,
    BYTE_C3 = 8,
    BYTE_89 = 9,
    S = 10
};

#define MARKED "\xe2\x96\x81"

/* model: more members of the model; rest: members of the document */
static json_t *chars_doc(const char *model, const char *rest)
{
    static const char base[] =
        "{\"added_tokens\": [{\"id\": 10, \"content\": \"<s>\", \"special\": true,"
        "\"normalized\": false, \"lstrip\": false, \"rstrip\": false, \"single_word\": false}],"
        "\"model\": {\"type\": \"BPE\", \"vocab\": {\"<unk>\": 0, \"" MARKED "\": 1, \"a\": 2,"
        "\"b\": 3, \"c\": 4, \"ab\": 5, \"" MARKED "a\": 6, \"" MARKED "ab\": 7,"
        "\"<0xC3>\": 8, \"<0x89>\": 9, \"<s>\": 10},"
        "\"merges\": [\"a b\", \"" MARKED " a\", [\"" MARKED "\", \"ab\"]]}}";
    json_error_t why;
    json_t *doc = json_loads(base, 0, &why), *more = json_loads(model, 0, &why);
    assert_non_null(doc);
    assert_non_null(more);
    json_object_update(json_object_get(doc, "model"), more);
    json_decref(more);
    more = json_loads(rest, 0, &why);
    assert_non_null(more);
    json_object_update(doc, more);
    json_decref(more);
    return doc;
}

#define LLAMA                                                                                      \
    "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\","          \
    "\"prepend\": \"" MARKED "\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"},"      \
    "\"content\": \"" MARKED "\"}]}}"

static void characters_merge_and_unknown_ones_fall_back(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, chars_doc("{\"byte_fallback\": true, \"unk_token\": \"<unk>\"}", LLAMA));
    assert_ids(&f, "", "");
    assert_ids(&f, "ab", "7");
    assert_ids(&f, "ab ab", "7 7");
    assert_ids(&f, "<s>ab", "10 7"); /* every text between tokens is normalized by itself */
    assert_ids(&f, "abc", "7 4");
    assert_ids(&f, "a\xc3\x89", "6 8 9");
    assert_ids(&f,
               "a\xc3\xa9"
               "b",
               "6 0 3"); /* not all bytes are there */
    assert_ids(&f,
               "\xc3\xa9\xc3\x89"
               "a",
               "1 8 9 0 2");        /* the unknown waits for a known one */
    assert_ids(&f, "a\xc3", "6 8"); /* a byte that is no UTF-8 is itself */
    fixture_close(&f);
}

static void unknown_characters_fuse_on_request(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, chars_doc("{\"unk_token\": \"<unk>\"}", "{}"));
    assert_ids(&f, "xyabz", "0 0 5 0");
    fixture_close(&f);
    fixture_open(&f, chars_doc("{\"unk_token\": \"<unk>\", \"fuse_unk\": true}", "{}"));
    assert_ids(&f, "xyabz\xc3\x89\n", "0 5 0");
    fixture_close(&f);
    fixture_open(&f, chars_doc("{}", "{}"));
    assert_ids(&f, "xaybz", "5"); /* left out, and neighbours merge across */
    assert_int_equal(f.ids.dropped, 3);
    fixture_close(&f);
}

/* Text without a place for the pre-tokenizer to cut takes no more memory than its words. */
static void a_text_is_cut_where_no_merge_reaches(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, chars_doc("{\"byte_fallback\": true, \"unk_token\": \"<unk>\"}", LLAMA));
    size_t n = 3000;
    char *text = mem_alloc(n, NULL);
    for (size_t i = 0; i < n; i++)
        text[i] = "ab "[i % 3];
    f.ids.count = 0;
    assert_true(tokenizer_encode(&f.tokenizer, text, n, NULL, 0, &f.ids, NULL));
    assert_int_equal(f.ids.count, n / 3 + 1);
    assert_int_equal(f.ids.ids[500], MARK_AB);
    assert_int_equal(f.tokenizer.bpe.symbols_cap, 0); /* no part was long */
    mem_free(text);
    fixture_close(&f);
}

static void metaspace_marks_pieces_by_its_scheme(void **state)
{
    (void)state;
    static const struct {
        const char *scheme, *split, *ids;
    } cases[] = {
        {"always", "false", "7 3 10 7"},
        {"first", "false", "7 3 10 5"},
        {"never", "false", "5 3 10 5"},
        {"first", "true", "7 3 10 5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        char rest[256];
        snprintf(rest, sizeof rest,
                 "{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" MARKED
                 "\", \"prepend_scheme\": \"%s\", \"split\": %s}}",
                 cases[i].scheme, cases[i].split);
        fixture_open(&f, chars_doc("{\"unk_token\": \"<unk>\"}", rest));
        assert_ids(&f, "abb<s>ab", cases[i].ids);
        assert_ids(&f, " ab ab", "7 7");
        fixture_close(&f);
    }
}

static void byte_tokens_must_be_bytes(void **state)
{
    (void)state;
    static const char *const bad[] = {"<0x-1>", "<0x+F>", "<0xZZ>", "<0x1>", "<0xc3>"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int fallback = 0; fallback < 2; fallback++) {
            unsigned char *data = NULL;
            uint64_t n;
            json_t *doc = chars_doc(fallback ? "{\"byte_fallback\": true}" : "{}", "{}");
            json_object_set_new(json_object_get(json_object_get(doc, "model"), "vocab"), bad[i],
                                json_integer(11));
            assert_int_equal(fixture_compile(doc, &data, &n), !fallback);
            if (fallback && !strstr(fixture_error.text, bad[i]))
                fail_msg("%s: %s", bad[i], fixture_error.text);
            mem_free(data);
        }
}

/* "<s>" in a text is its token where no byte of it is data. */
static void control_tokens_are_not_taken_from_data(void **state)
{
    (void)state;
    struct fixture f;
    unsigned char origin[16] = {0};
    json_t *doc = fixture_doc(NULL);
    fixture_add(doc, "<s>a", 302, "");
    fixture_add(doc, "s>", 303, "");
    fixture_add(doc, "<n>", 304, "sn");
    fixture_open(&f, doc);
    static const char text[] = "<s>b<s>a<n>";
    struct {
        size_t from, to;
        unsigned flags;
        const char *ids;
    } cases[] = {
        {0, 0, 0, "300 98 302 304"},
        {0, 3, 0, "60 303 98 302 304"}, /* a token inside that is not special is found */
        {2, 3, 0, "60 303 98 302 304"}, /* one byte of data is enough */
        {3, 4, 0, "300 98 302 304"},    /* beside it is not in it */
        {4, 11, 0, "300 98 302 60 110 62"},
        {0, 11, TOKENIZER_PARSE_SPECIAL, "300 98 302 304"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[256] = "";
        memset(origin, 0, sizeof origin);
        memset(origin + cases[i].from, 1, cases[i].to - cases[i].from);
        f.ids.count = 0;
        assert_true(tokenizer_encode(&f.tokenizer, text, sizeof text - 1, origin, cases[i].flags,
                                     &f.ids, NULL));
        for (size_t k = 0; k < f.ids.count; k++)
            snprintf(line + strlen(line), sizeof line - strlen(line), "%s%u", k ? " " : "",
                     f.ids.ids[k]);
        assert_string_equal(line, cases[i].ids);
    }
    fixture_close(&f);
}

/* A control token that is looked for in normalized text: origins go through normalization. */
static void origins_survive_normalization(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL);
    json_object_set_new(doc, "normalizer", json_loads("{\"type\": \"Lowercase\"}", 0, NULL));
    fixture_add(doc, "<n>", 304, "sn");
    fixture_open(&f, doc);
    unsigned char origin[6] = {0, 0, 0, 1, 1, 1};
    f.ids.count = 0;
    assert_true(tokenizer_encode(&f.tokenizer, "<N><N>", 6, origin, 0, &f.ids, NULL));
    assert_int_equal(f.ids.count, 4);
    assert_int_equal(f.ids.ids[0], 304);
    assert_int_equal(f.ids.ids[1], '<');
    fixture_close(&f);
}

static void texts_go_along_by_kind_and_name(void **state)
{
    (void)state;
    const struct pack_text list[] = {
        {TEXT_TEMPLATE, "default", "{{ x }}", 7, 7},
        {TEXT_VARIABLE, "bos_token", "<s>", 9, 3},
        {TEXT_TEMPLATE, "tool_use", "", 8, 0},
    };
    const struct tokenizer_texts texts = {list, 3};
    json_t *doc = chars_doc("{}", "{}");
    char *json = json_dumps(doc, 0);
    json_decref(doc);
    unsigned char *data;
    uint64_t n;
    struct tokenizer_file file;
    struct tokenizer_bytes value;
    assert_true(tokenizer_compile("t", json, strlen(json), &texts, NULL, &data, &n, NULL));
    assert_true(tokenizer_file_open(data, n, "t", &file, NULL));
    assert_int_equal(file.text_count, 3);
    assert_true(tokenizer_file_find_text(&file, TEXT_VARIABLE, "bos_token", &value));
    assert_int_equal(value.n, 3);
    assert_memory_equal(value.data, "<s>", 3);
    assert_true(tokenizer_file_find_text(&file, TEXT_TEMPLATE, "tool_use", &value));
    assert_int_equal(value.n, 0);
    assert_false(tokenizer_file_find_text(&file, TEXT_TEMPLATE, "bos_token", &value));
    free(json);
    mem_free(data);
}

static void decoders_are_worked_out_ahead(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(
        &f,
        chars_doc("{\"byte_fallback\": true}",
                  "{\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\","
                  "\"pattern\": {\"String\": \"" MARKED "\"}, \"content\": \" \"},"
                  "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
                  "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}}"));
    const struct tokenizer_file *file = &f.tokenizer.file;
    assert_int_equal(file->decoder.mode, DECODE_RUNS);
    assert_int_equal(file->decoder.strip, ' ');
    assert_int_equal(file->decoder.strip_begin, 1);
    assert_memory_equal(tokenizer_file_token(file, MARK_AB).data, " ab", 3);
    assert_true(tokenizer_file_flags(file, BYTE_C3) & TOKEN_BYTE);
    assert_int_equal(tokenizer_file_token(file, BYTE_89).data[0], 0x89);
    fixture_close(&f);
    fixture_open(&f, chars_doc("{}", "{\"decoder\": {\"type\": \"Metaspace\","
                                     "\"replacement\": \"" MARKED
                                     "\", \"prepend_scheme\": \"always\"}}"));
    assert_true(f.tokenizer.file.decoder.first_differs);
    assert_int_equal(tokenizer_file_token(&f.tokenizer.file, MARK_A).n, 2);
    assert_int_equal(tokenizer_file_first(&f.tokenizer.file, MARK_A).n, 1);
    fixture_close(&f);
    fixture_open(&f, chars_doc("{}", "{}"));
    assert_int_equal(f.tokenizer.file.decoder.mode, DECODE_WORDS);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_merge_and_unknown_ones_fall_back),
        cmocka_unit_test(unknown_characters_fuse_on_request),
        cmocka_unit_test(a_text_is_cut_where_no_merge_reaches),
        cmocka_unit_test(metaspace_marks_pieces_by_its_scheme),
        cmocka_unit_test(byte_tokens_must_be_bytes),
        cmocka_unit_test(control_tokens_are_not_taken_from_data),
        cmocka_unit_test(origins_survive_normalization),
        cmocka_unit_test(texts_go_along_by_kind_and_name),
        cmocka_unit_test(decoders_are_worked_out_ahead),
    };
    return cmocka_run_group_tests_name("tokenizer: characters", tests, NULL, NULL);
}
