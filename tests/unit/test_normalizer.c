/* Normalization gives what the reference gives. Expected texts are written out by hand from the
 * Unicode data. */
#include "normalizer.h"

#include "mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct tp_text out;

static const char *apply(struct normalizer_step step, const char *text, size_t n)
{
    struct tp_error err = {0};
    if (!normalizer_apply(&step, text, n, &out, &err) || !tp_text_add(&out, "", 1, &err))
        fail_msg("%s", err.text);
    out.n--;
    return out.data;
}

#define assert_becomes(step, text, wanted)                                                         \
    do {                                                                                           \
        const char *got = apply(step, text, sizeof(text) - 1);                                     \
        assert_string_equal(got, wanted);                                                          \
        assert_int_equal(out.n, sizeof(wanted) - 1);                                               \
    } while (0)

#define KIND(k) ((struct normalizer_step){.kind = k})

static void texts_are_composed(void **state)
{
    (void)state;
    const struct normalizer_step nfc = KIND(NORMALIZER_NFC);
    assert_becomes(nfc, "", "");
    assert_becomes(nfc, "plain\0text", "plain\0text");
    assert_becomes(nfc, "e\u0301", "é");
    assert_becomes(nfc, "é\u0301", "é\u0301");
    assert_becomes(nfc, "a\u0323\u0302 a\u0302\u0323", "ậ ậ");
    assert_becomes(nfc, "\u212b\u2126", "ÅΩ");
    assert_becomes(nfc, "\u1112\u1161\u11ab\ud55c", "한한");
    assert_becomes(nfc, "\uac00\u11a8", "각");
    assert_becomes(nfc, "か\u3099", "が");
    assert_becomes(nfc, "\u0958", "\u0915\u093c"); /* excluded from composition */
    assert_becomes(nfc, "x\u0338\u0323", "x\u0338\u0323");
    assert_becomes(nfc, "x\u0323\u0338", "x\u0338\u0323");
    assert_becomes(nfc, "\u0301e\u0301", "\u0301é");
    assert_becomes(nfc, "ﬁ", "ﬁ");
}

static void texts_are_decomposed(void **state)
{
    (void)state;
    assert_becomes(KIND(NORMALIZER_NFD), "ậé", "a\u0323\u0302e\u0301");
    assert_becomes(KIND(NORMALIZER_NFD), "각", "\u1100\u1161\u11a8");
    assert_becomes(KIND(NORMALIZER_NFD), "ﬁ", "ﬁ");
    assert_becomes(KIND(NORMALIZER_NFKD), "ﬁé", "fie\u0301");
    assert_becomes(KIND(NORMALIZER_NFKC), "ﬁ①ｶﾞ", "fi1ガ");
    assert_becomes(KIND(NORMALIZER_NFKC), "\ufdfa", "صلى الله عليه وسلم");
}

/* Unicode 12.1, 14, 13: younger than the reference's tables. */
static void younger_characters_stay_and_part_what_is_around_them(void **state)
{
    (void)state;
    assert_becomes(KIND(NORMALIZER_NFKC), "\u32ff", "\u32ff");
    assert_becomes(KIND(NORMALIZER_NFKD), "\U00010781", "\U00010781");
    assert_becomes(KIND(NORMALIZER_NFC), "\U00011935\U00011930", "\U00011935\U00011930");
    assert_becomes(KIND(NORMALIZER_NFC), "a\u1ac5\u0301", "a\u1ac5\u0301");
    assert_becomes(KIND(NORMALIZER_NFC), "a\u0301\u1ac0\u0323", "á\u1ac0\u0323");
    assert_becomes(KIND(NORMALIZER_STRIP_ACCENTS), "a\u0301\u1ac5", "a\u1ac5");
}

static void letters_become_small_without_a_look_at_their_neighbours(void **state)
{
    (void)state;
    assert_becomes(KIND(NORMALIZER_LOWERCASE), "ÀÉ ΣΑΣ ǅ İ K \u1c89", "àé σασ ǆ i\u0307 k \u1c8a");
}

static void matches_are_replaced(void **state)
{
    (void)state;
    struct normalizer_step step = {.kind = NORMALIZER_REPLACE,
                                   .literal = "aa",
                                   .literal_n = 2,
                                   .content = "b",
                                   .content_n = 1};
    assert_becomes(step, "aaaaa", "bba");
    assert_becomes(step, "", "");
    step.literal_n = 0;
    assert_becomes(step, "xé", "bxbéb");
    assert_becomes(step, "", "");
    struct pattern pattern;
    assert_true(pattern_open(&pattern, "x*", 2, "test", NULL));
    step.pattern = &pattern;
    assert_becomes(step, "éyxxc", "bébybcb");
    assert_becomes(step, "xx", "b");
    assert_becomes(step, "", "");
    pattern_close(&pattern);
}

static void ends_are_stripped_and_beginnings_put_before(void **state)
{
    (void)state;
    struct normalizer_step strip = {.kind = NORMALIZER_STRIP,
                                    .flags = NORMALIZER_LEFT | NORMALIZER_RIGHT};
    assert_becomes(strip, " \t\u3000a \u200b b\u00a0\xc2\x85", "a \u200b b");
    assert_becomes(strip, " \n", "");
    strip.flags = NORMALIZER_LEFT;
    assert_becomes(strip, " a ", "a ");
    strip.flags = NORMALIZER_RIGHT;
    assert_becomes(strip, " a ", " a");
    const struct normalizer_step prepend = {
        .kind = NORMALIZER_PREPEND, .content = "▁", .content_n = 3};
    assert_becomes(prepend, "a", "▁a");
    assert_becomes(prepend, "", "");
}

static void bert_cleans_spaces_strips_and_lowers(void **state)
{
    (void)state;
    struct normalizer_step bert = {.kind = NORMALIZER_BERT, .flags = NORMALIZER_CLEAN};
    assert_becomes(bert, "a\0\xc2\x85\ufffd\u200b\tb\u3000É", "a b É");
    bert.flags = NORMALIZER_CHINESE;
    assert_becomes(bert, "a日本ひ", "a 日  本 ひ");
    bert.flags = NORMALIZER_ACCENTS;
    assert_becomes(bert, "Éx\u0301", "Ex");
    bert.flags = NORMALIZER_CLEAN | NORMALIZER_ACCENTS | NORMALIZER_LOWER | NORMALIZER_CHINESE;
    assert_becomes(bert, "\tÉ日", " e 日 ");
}

static void other_normalizers_map_characters(void **state)
{
    (void)state;
    assert_becomes(KIND(NORMALIZER_NMT), "a\001\u200b\nb\u2581", "a  b ");
    assert_becomes(KIND(NORMALIZER_BYTE_LEVEL), "a é\0", "aĠÃ©Ā");
}

/* Marks in falling order of class: the worst for a sort by neighbours. */
static void a_megabyte_of_marks_takes_no_longer_than_its_length(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *text = mem_alloc(N, NULL);
    for (size_t i = 0; i < N; i += 2)
        memcpy(text + i, i < N / 2 ? "\u0301" : "\u0323", 2);
    clock_t begin = clock();
    apply(KIND(NORMALIZER_NFC), text, N);
    assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 2); /* 0.03 here; squared, an hour */
    assert_int_equal(out.n, N);
    assert_memory_equal(out.data, "\u0323", 2);
    assert_memory_equal(out.data + N - 2, "\u0301", 2);
    mem_free(text);
}

/* Cut anywhere between characters of which the second stands alone, the parts give the whole. */
static void a_text_gives_the_same_in_any_company(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "a",      "é", "e\u0301", "ậ\u0302",       "각",    "\u1100\u1161", "が",
        "\u212b", "ﬁ", "\u32ff",  "x\u0338\u0323", "\u0958"};
    enum { PIECES = sizeof pieces / sizeof *pieces };
    for (int kind = NORMALIZER_NFC; kind <= NORMALIZER_NFKD; kind++)
        for (int trial = 0; trial < 2000; trial++) {
            char text[256] = "", sum[1024] = "";
            for (int i = 0; i < 8; i++) {
                const char *piece = pieces[rand() % PIECES];
                strcat(text, piece);
                strcat(sum, apply(KIND((enum normalizer_kind)kind), piece, strlen(piece)));
            }
            assert_string_equal(apply(KIND((enum normalizer_kind)kind), text, strlen(text)), sum);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_composed),
        cmocka_unit_test(texts_are_decomposed),
        cmocka_unit_test(younger_characters_stay_and_part_what_is_around_them),
        cmocka_unit_test(letters_become_small_without_a_look_at_their_neighbours),
        cmocka_unit_test(matches_are_replaced),
        cmocka_unit_test(ends_are_stripped_and_beginnings_put_before),
        cmocka_unit_test(bert_cleans_spaces_strips_and_lowers),
        cmocka_unit_test(other_normalizers_map_characters),
        cmocka_unit_test(a_megabyte_of_marks_takes_no_longer_than_its_length),
        cmocka_unit_test(a_text_gives_the_same_in_any_company),
    };
    int failed = cmocka_run_group_tests_name("normalizer", tests, NULL, NULL);
    mem_free(out.data);
    return failed;
}
