/* Ids become the text that decoding them at once gives, whatever comes in one call. */
#include "detokenizer.h"

#include "mem.h"
#include "tokenizer_fixture.h"

/* A vocabulary of characters: "▁", "a", "b", "▁a", <0xC3>, <0xA9>, <0xE2>; decoder as given. */
enum { SPACE, A, B, SPACE_A, BYTE_C3, BYTE_A9, BYTE_E2, BOS };

static json_t *chars_doc(const char *decoder)
{
    static const char *const names[] = {"▁", "a", "b", "▁a", "<0xC3>", "<0xA9>", "<0xE2>", "<s>"};
    json_t *doc = fixture_doc(NULL), *model = json_object_get(doc, "model"), *vocab = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        json_object_set_new(vocab, names[i], json_integer((json_int_t)i));
    json_object_set_new(model, "vocab", vocab);
    json_object_set_new(model, "merges", json_loads("[\"▁ a\"]", 0, NULL));
    json_object_set_new(model, "byte_fallback", json_true());
    json_object_set_new(doc, "pre_tokenizer", json_null());
    json_object_set_new(doc, "decoder", json_loads(decoder, JSON_DECODE_ANY, NULL));
    json_array_clear(json_object_get(doc, "added_tokens"));
    fixture_add(doc, "<s>", BOS, "s");
    return doc;
}

#define REPLACE "{\"type\": \"Replace\", \"pattern\": {\"String\": \"▁\"}, \"content\": \" \"}"
#define FALLBACK "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}"
#define SEQUENCE(parts) "{\"type\": \"Sequence\", \"decoders\": [" parts "]}"
#define STRIP(begin, end)                                                                          \
    "{\"type\": \"Strip\", \"content\": \" \", \"start\": " #begin ", \"stop\": " #end "}"

/* All that is given out for ids, to a detokenizer that was just begun. */
static const char *gather(struct detokenizer *d, const uint32_t *ids, size_t count)
{
    static char all[4096];
    const char *text;
    size_t n, at = 0;
    uint64_t allocated = mem_alloc_count();
    for (size_t i = 0; i <= count; i++) {
        if (i < count)
            detokenizer_push(d, ids[i], &text, &n);
        else
            detokenizer_end(d, &text, &n);
        memcpy(all + at, text, n);
        at += n;
    }
    all[at] = '\0';
    assert_int_equal(mem_alloc_count(), allocated);
    return all;
}

static const char *decode(struct detokenizer *d, const uint32_t *ids, size_t count)
{
    detokenizer_reset(d);
    return gather(d, ids, count);
}

/* The same where they go on after others. */
static const char *decode_after(struct detokenizer *d, const uint32_t *before, size_t n_before,
                                const uint32_t *ids, size_t count)
{
    detokenizer_continue(d, before, n_before);
    return gather(d, ids, count);
}

#define IDS(...)                                                                                   \
    (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)

static void open(struct fixture *f, struct detokenizer *d, const char *decoder, bool skip)
{
    fixture_open(f, chars_doc(decoder));
    if (!detokenizer_open(d, &f->tokenizer.file, skip, 64, NULL, 0, &fixture_error))
        fail_msg("%s", fixture_error.text);
}

static void close(struct fixture *f, struct detokenizer *d)
{
    detokenizer_close(d);
    fixture_close(f);
}

static void a_run_of_byte_tokens_is_utf8_as_a_whole_or_not_at_all(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK), false);
    assert_string_equal(decode(&d, IDS(A, BYTE_C3, BYTE_A9, B)), "aéb");
    assert_string_equal(decode(&d, IDS(BYTE_C3, BYTE_A9, BYTE_C3, B)), "\ufffd\ufffd\ufffdb");
    assert_string_equal(decode(&d, IDS(BYTE_A9, BYTE_C3, BYTE_A9)), "\ufffd\ufffd\ufffd");
    assert_string_equal(decode(&d, IDS(BYTE_C3, A, BYTE_A9)), "\ufffda\ufffd");
    assert_string_equal(decode(&d, IDS(BYTE_C3, 999, BYTE_A9)), "é"); /* no token: not there */
    assert_string_equal(decode(&d, IDS(BYTE_C3)), "\ufffd");
    assert_string_equal(decode(&d, NULL, 0), "");
    close(&f, &d);
}

static void what_is_decided_is_shown_and_nothing_else(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    const char *text;
    size_t n;
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK), false);
    static const struct {
        uint32_t id;
        const char *shown;
    } steps[] = {{A, "a"},
                 {BYTE_C3, ""},
                 {BYTE_A9, ""},
                 {BYTE_C3, ""},
                 {B, "\ufffd\ufffd\ufffdb"},
                 {BYTE_A9, "\ufffd"},
                 {BYTE_C3, "\ufffd"},
                 {SPACE, " "}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        detokenizer_push(&d, steps[i].id, &text, &n);
        assert_int_equal(n, strlen(steps[i].shown));
        assert_memory_equal(text, steps[i].shown, n);
    }
    close(&f, &d);
}

static void control_tokens_are_left_out_on_request(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK), false);
    assert_string_equal(decode(&d, IDS(BOS, BYTE_C3, BOS, BYTE_A9)), "<s>\ufffd<s>\ufffd");
    close(&f, &d);
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK), true);
    assert_string_equal(decode(&d, IDS(BOS, BYTE_C3, BOS, BYTE_A9)), "é");
    close(&f, &d);
}

static void ends_of_the_whole_text_are_stripped(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK ", " STRIP(1, 0)), true);
    assert_string_equal(decode(&d, IDS(BOS, SPACE_A, SPACE_A)), "a a");
    assert_string_equal(decode(&d, IDS(SPACE, SPACE_A)), " a");
    assert_string_equal(decode(&d, IDS(A, SPACE_A, SPACE)), "a a ");
    assert_string_equal(decode(&d, IDS(SPACE)), "");
    close(&f, &d);
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK ", " STRIP(2, 2)), true);
    assert_string_equal(decode(&d, IDS(SPACE, SPACE, SPACE, A, SPACE, SPACE, SPACE)), " a ");
    assert_string_equal(decode(&d, IDS(SPACE, A, SPACE, SPACE, B, SPACE)), "a  b");
    close(&f, &d);
}

static void what_continues_a_text_keeps_its_first_space(void **state)
{
    struct fixture f = {0};
    struct detokenizer d = {0};
    (void)state;
    open(&f, &d, SEQUENCE(REPLACE ", " FALLBACK ", " STRIP(1, 0)), true);
    assert_string_equal(decode(&d, IDS(SPACE_A, B)), "ab");
    assert_string_equal(decode_after(&d, IDS(SPACE_A), IDS(SPACE_A, B)), " ab");
    assert_string_equal(decode_after(&d, IDS(BOS), IDS(SPACE_A, B)), "ab");
    assert_string_equal(decode_after(&d, IDS(BOS, SPACE), IDS(SPACE_A)), " a");
    assert_string_equal(decode_after(&d, IDS(BYTE_C3), IDS(BYTE_A9)), "\xef\xbf\xbd");
    close(&f, &d);
    open(&f, &d, "null", true);
    assert_string_equal(decode_after(&d, IDS(A), IDS(B, A)), " b a");
    close(&f, &d);
}

static void without_a_decoder_a_space_stands_between_tokens(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    open(&f, &d, "null", false);
    assert_string_equal(decode(&d, IDS(A, B, 999, BYTE_C3)), "a b <0xC3>");
    close(&f, &d);
}

static void stop_strings_end_the_text(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    static const char *const stops[] = {"é a"};
    fixture_open(&f, chars_doc(SEQUENCE(REPLACE ", " FALLBACK)));
    assert_true(detokenizer_open(&d, &f.tokenizer.file, true, 64, stops, 1, NULL));
    assert_string_equal(decode(&d, IDS(B, BYTE_C3, BYTE_A9, SPACE_A, B)), "b");
    assert_true(d.stream.stopped);
    assert_string_equal(decode(&d, IDS(B, BYTE_C3, BYTE_A9, SPACE, B)), "bé b");
    assert_false(d.stream.stopped);
    close(&f, &d);
}

static void a_byte_level_text_is_read_over_its_tokens(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d = {0};
    fixture_open(&f, fixture_doc(NULL));
    assert_true(detokenizer_open(&d, &f.tokenizer.file, false, 8, NULL, 0, NULL));
    assert_string_equal(decode(&d, IDS(0xc3, 0xa9, 0xe2, 0x82, 'x', ADDED_0)), "é\ufffdx<s>");
    close(&f, &d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_of_byte_tokens_is_utf8_as_a_whole_or_not_at_all),
        cmocka_unit_test(what_is_decided_is_shown_and_nothing_else),
        cmocka_unit_test(control_tokens_are_left_out_on_request),
        cmocka_unit_test(ends_of_the_whole_text_are_stripped),
        cmocka_unit_test(what_continues_a_text_keeps_its_first_space),
        cmocka_unit_test(without_a_decoder_a_space_stands_between_tokens),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(a_byte_level_text_is_read_over_its_tokens),
    };
    return cmocka_run_group_tests_name("detokenizer", tests, NULL, NULL);
}
