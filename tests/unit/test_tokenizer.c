/* Byte-level BPE from a small tokenizer.json of our own: encoding, decoding, the pre-tokenizer,
 * hostile compiled files. Against published tokenizers: test_tokenizer_shared.c; refusals:
 * test_tokenizer_json.c. */
#include "tokenizer_fixture.h"

#include "onig_pattern.h"
#include "splitter.h"
#include <unistd.h>

static void merges_go_by_rank_and_decode_back(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, fixture_doc(NULL));
    assert_ids(&f, "", "");
    assert_ids(&f, "hello world", "259 264");
    assert_ids(&f, "help", "256 108 112");
    assert_ids(&f, "aaaaaaa", "266 265 97");
    assert_ids(&f, "baa", "98 265"); /* a a ranks before b a */
    assert_ids(&f, "xyz", "120 121 122");
    assert_ids(&f, "\xc3\xa9", "195 169");
    assert_ids(&f, "a\0b", "97 0 98");
    size_t n;
    fixture_encode(&f, "hello \xf0\x9f\x98\x80\nworld  ", 18, 0);
    char *text = fixture_decode(&f, &n);
    assert_int_equal(n, 18);
    assert_string_equal(text, "hello \xf0\x9f\x98\x80\nworld  ");
    mem_free(text);
    assert_int_equal(f.tokenizer.file.tokens, 302);
    assert_int_equal(f.tokenizer.file.token_bytes_max, 6);
    fixture_close(&f);
}

static void the_same_document_gives_the_same_bytes(void **state)
{
    (void)state;
    unsigned char *a, *b;
    uint64_t n, m;
    assert_true(fixture_compile(fixture_doc(NULL), &a, &n));
    assert_true(fixture_compile(fixture_doc(NULL), &b, &m));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    mem_free(a);
    mem_free(b);
}

static void ignore_merges_takes_a_word_of_the_vocabulary_whole(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL);
    json_object_set_new(json_object_get(doc, "model"), "ignore_merges", json_true());
    fixture_open(&f, doc);
    assert_ids(&f, "xyz", "268");
    assert_ids(&f, "xyzz", "120 121 122 122");
    fixture_close(&f);
}

static void pairs_as_arrays_are_merges_too(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL), *merges = json_array();
    for (int i = 0; i < FIXTURE_MERGES; i++)
        json_array_append_new(merges,
                              json_pack("[s, s]", fixture_merges[i][0], fixture_merges[i][1]));
    json_object_set_new(json_object_get(doc, "model"), "merges", merges);
    fixture_open(&f, doc);
    assert_ids(&f, "hello world", "259 264");
    fixture_close(&f);
}

/* Ids without a token decode to nothing and are no tokens; added ones are special or not. */
static void holes_and_special_tokens_are_known(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL);
    fixture_add(doc, "<tool>", 310, "");
    fixture_open(&f, doc);
    assert_int_equal(tokenizer_file_token(&f.tokenizer.file, 280).n, 0);
    assert_false(tokenizer_is_token(&f.tokenizer, 280));
    assert_false(tokenizer_is_token(&f.tokenizer, 5000));
    assert_true(tokenizer_is_token(&f.tokenizer, 310));
    fixture_close(&f);
}

static void added_tokens_are_found_in_text(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL);
    fixture_add(doc, "<left>", 302, "l");
    fixture_add(doc, "<right>", 303, "r");
    fixture_add(doc, "or", MERGE_0 + 5, "w");
    fixture_add(doc, "<s>x", 305, "");
    fixture_add(doc, "<n", 306, "n");
    fixture_add(doc, "\xc3\xb5\xc3\xb5", 307, "");
    fixture_open(&f, doc);
    assert_ids(&f, "a<s>b", "97 300 98");
    assert_ids(&f, "<s><s>x</s>", "300 305 301"); /* the longest */
    assert_ids(&f, "a  <left>  b", "97 302 32 32 98");
    assert_ids(&f, "a <right>\xe3\x80\x80 \nb", "97 32 303 98");
    assert_ids(&f, "or wor or", "261 262 32 261"); /* a single word, or what merges make */
    assert_ids(&f, "or\xc3\xa9", "261 195 169");
    assert_ids(&f, "<n<s>", "306 300");
    assert_ids(&f, "<s", "60 115");
    assert_ids(&f, "\xc3\xb5\xc3\xb5", "307");
    /* a token whose characters are byte letters decodes to those bytes */
    assert_int_equal(tokenizer_file_token(&f.tokenizer.file, 307).n, 2);
    assert_int_equal(tokenizer_file_token(&f.tokenizer.file, 307).data[0], 0xf5);
    fixture_close(&f);
}

static void the_post_processor_puts_ids_around_the_text(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc(NULL);
    json_object_set_new(
        doc, "post_processor",
        json_loads(
            "{\"type\": \"Sequence\", \"processors\": ["
            "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"a\"}},"
            "{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"b\"}}],"
            "\"special_tokens\": {\"a\": {\"ids\": [300, 1]}, \"b\": {\"ids\": [301]}}},"
            "{\"type\": \"ByteLevel\"},"
            "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"a\"}},"
            "{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"a\"}}],"
            "\"special_tokens\": {\"a\": {\"ids\": [2]}}}]}",
            0, NULL));
    fixture_open(&f, doc);
    assert_string_equal(fixture_encode(&f, "x", 1, TOKENIZER_ADD_SPECIAL), "2 300 1 120 301 2");
    assert_string_equal(fixture_encode(&f, "", 0, TOKENIZER_ADD_SPECIAL), "2 300 1 301 2");
    assert_string_equal(fixture_encode(&f, "x", 1, 0), "120");
    fixture_close(&f);
}

static void bytes_that_are_not_utf8_stand_for_themselves(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, fixture_doc(NULL));
    assert_ids(&f,
               "aa\xff"
               "aa",
               "265 255 265");
    assert_ids(&f, "\xed\xa0\x80", "237 160 128"); /* a surrogate */
    assert_ids(&f, "\xc0\xaf\xf4\x90\x80\x80", "192 175 244 144 128 128");
    assert_ids(&f, "\xe2\x82", "226 130");
    assert_ids(&f, "<s\x80>", "60 115 128 62");
    assert_int_equal(f.ids.dropped, 0);
    fixture_close(&f);
}

static void bytes_without_a_token_are_left_out_and_counted(void **state)
{
    (void)state;
    struct fixture f;
    json_t *doc = fixture_doc("{\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
                              " \"use_regex\": false}");
    json_object_del(json_object_get(json_object_get(doc, "model"), "vocab"), "!");
    fixture_open(&f, doc);
    assert_ids(&f, "a!a!", "265"); /* and their neighbours merge, as in the reference */
    assert_int_equal(f.ids.dropped, 2);
    assert_ids(&f, "!!", "");
    fixture_close(&f);
}

static void a_prefix_space_goes_before_every_text_between_tokens(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, fixture_doc("{\"type\": \"ByteLevel\", \"add_prefix_space\": true}"));
    assert_ids(&f, "world", "264");
    assert_ids(&f, " world", "264");
    assert_ids(&f, "world<s>world", "264 300 264");
    fixture_close(&f);
}

/* Parts of text between bars. */
static const char *parts(const char *regex, enum step_behaviour behaviour, bool invert,
                         const char *text)
{
    static char line[256];
    struct pattern pattern = {0};
    struct tp_text translated = {0};
    struct tp_error err = {0};
    struct tokenizer_step step = {.behaviour = behaviour, .invert = invert};
    assert_true(onig_translate("test", regex, strlen(regex), &translated, &err));
    assert_true(pattern_open(&pattern, translated.data, translated.n, "test", &err));
    struct splitter s = splitter_begin(&pattern, &step, text, strlen(text));
    size_t begin, end, at = 0;
    bool more;
    while (splitter_next(&s, &begin, &end, &more, &err) && more)
        at += (size_t)snprintf(line + at, sizeof line - at, "%s%.*s", at ? "|" : "",
                               (int)(end - begin), text + begin);
    assert_int_equal(err.code, TP_OK);
    pattern_close(&pattern);
    mem_free(translated.data);
    return line;
}

static void split_knows_every_behaviour(void **state)
{
    (void)state;
    const char *text = "-ab--c-";
    assert_string_equal(parts("-", SPLIT_REMOVED, false, text), "ab|c");
    assert_string_equal(parts("-", SPLIT_ISOLATED, false, text), "-|ab|-|-|c|-");
    assert_string_equal(parts("-", SPLIT_MERGED_WITH_PREVIOUS, false, text), "-|ab-|-|c-");
    assert_string_equal(parts("-", SPLIT_MERGED_WITH_NEXT, false, text), "-ab|-|-c|-");
    assert_string_equal(parts("-", SPLIT_CONTIGUOUS, false, text), "-|ab|--|c|-");
    assert_string_equal(parts("-", SPLIT_REMOVED, true, text), "-|-|-|-");
    assert_string_equal(parts("-", SPLIT_MERGED_WITH_PREVIOUS, true, text), "-ab|-|-c|-");
    assert_string_equal(parts("-", SPLIT_MERGED_WITH_NEXT, true, text), "-|ab-|-|c-");
    assert_string_equal(parts("-", SPLIT_CONTIGUOUS, true, text), "-|ab|--|c|-");
    assert_string_equal(parts("x*", SPLIT_ISOLATED, false, "axxb"), "a|xx|b");
    assert_string_equal(parts("$", SPLIT_ISOLATED, false, "a\nb"), "a|\nb");
    assert_string_equal(parts("\\s+(?!\\S)|\\s+", SPLIT_ISOLATED, false, "a   b  "), "a|  | |b|  ");
}

static void steps_cut_the_parts_of_the_step_before(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(
        &f,
        fixture_doc(
            "{\"type\": \"Sequence\", \"pretokenizers\": ["
            "{\"type\": \"Digits\", \"individual_digits\": false},"
            "{\"type\": \"Split\", \"pattern\": {\"String\": \".\"}, \"behavior\": \"Removed\","
            " \"invert\": false},"
            "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"aa\"}, \"behavior\": \"Isolated\","
            " \"invert\": false},"
            "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"use_regex\": true}]}"));
    assert_ids(&f, "aaaa.12", "32 265 32 265 32 49 50");
    fixture_close(&f);
}

static bool matches(const char *regex, const char *text)
{
    struct pattern pattern = {0};
    struct tp_text translated = {0};
    struct tp_error err = {0};
    bool found;
    size_t begin, end;
    assert_true(onig_translate("test", regex, strlen(regex), &translated, &err));
    assert_true(pattern_open(&pattern, translated.data, translated.n, "test", &err));
    assert_true(pattern_find(&pattern, text, strlen(text), 0, &found, &begin, &end, &err));
    pattern_close(&pattern);
    mem_free(translated.data);
    return found;
}

static void patterns_mean_what_oniguruma_means(void **state)
{
    (void)state;
    assert_true(matches("\\s", "\xe3\x80\x80"));
    assert_false(matches("\\s", "\xe1\xa0\x8e")); /* U+180E, white space for PCRE2 */
    assert_true(matches("[^\\s]", "\xe1\xa0\x8e"));
    assert_true(matches("[\\S]", "\xe1\xa0\x8e"));
    assert_false(matches("[\\S]", " "));
    assert_true(matches("\\p{L}", "\xf0\xb1\x8d\x90")); /* U+31350, Unicode 15 */
    assert_false(matches("\\P{L}", "\xf0\xb1\x8d\x90"));
    assert_false(matches("[^\\p{L}]", "\xf0\xb1\x8d\x90"));
    assert_true(matches("\\d", "\xd9\xa3"));
    assert_true(matches("(?i:'S)", "'\xc5\xbf"));
    assert_false(matches("\\v", "\n")); /* vertical tab alone */
    assert_true(matches("^b$", "a\nb\nc"));
    assert_true(matches("\\u00e9\\x{e9}\\x41", "\xc3\xa9\xc3\xa9"
                                               "A"));
    assert_true(matches("^\\w$", "\xc2\xb2")); /* superscript two: a word, but not in a class */
    assert_false(matches("[\\w]", "\xc2\xb2"));
    assert_true(matches("[\\W]", "\xc2\xb2"));
    assert_true(matches("\\bab\\b \\b", "ab c"));
    assert_false(matches("a\\bb", "ab"));
    assert_true(matches("a\\Bb", "ab"));
    assert_true(matches("^\\h+$", "09afAF"));
    assert_true(matches("^\\R$", "\r\n"));
    assert_true(matches("^[a[b-d]]+$", "abcd"));
    assert_false(matches("[^a[b-d]]", "abcd"));
    assert_true(matches("^[a-z&&[^aeiou]]$", "b"));
    assert_false(matches("[a-z&&[^aeiou]]", "aeiou"));
    assert_true(matches("^[^a-c&&b]$", "a"));
    assert_true(matches("^[[:alpha:]_[:^alpha:]]+$", "a_1"));
    assert_true(matches("^[\\D]$", "a"));
    assert_true(matches("^[^\\D]$", "1"));
    assert_true(matches("\\p{Han}", "\xe4\xb8\x80"));
    assert_false(matches("\\p{Han}", "\xe3\x80\x81")); /* shared by scripts */
    assert_true(matches("^(?m:a.b)$", "a\nb"));
    assert_true(matches("^a{,2}$", "aa"));
    static const char *const refused[] = {"\\X",   "\\K",     "(a)\\1",   "a(?i)b",   "a{1,2}+",
                                          "a{2}?", "[]a]",    "(*FAIL)",  "(?<n>a)",  "[a-\\d]",
                                          "\\xe4", "[\\s-x]", "(?R)",     "\\p{Xyz}", "[a&&]",
                                          "[&&a]", "[]",      "[[:foo:]]"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct tp_text out = {0};
        struct tp_error err = {0};
        if (onig_translate("t", refused[i], strlen(refused[i]), &out, &err))
            fail_msg("%s is not refused", refused[i]);
        assert_int_equal(err.code, TP_E_TK_UNSUPPORTED);
        mem_free(out.data);
    }
    static const char *const none[] = {"\\", "[a", "((", "a)", "*a", "[b-a]", "+"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct tp_text out = {0};
        struct tp_error err = {0};
        struct pattern pattern = {0};
        if (onig_translate("t", none[i], strlen(none[i]), &out, &err) &&
            pattern_open(&pattern, out.data, out.n, "t", &err))
            fail_msg("%s is not refused", none[i]);
        if (err.code != TP_E_TK_INVALID)
            fail_msg("%s: %s", none[i], err.text);
        mem_free(out.data);
    }
}

/* The merge loop as its definition says it. */
static size_t slow_bpe(const struct tokenizer_file *file, const unsigned char *piece, size_t n,
                       uint32_t *ids)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = tokenizer_file_byte_id(file, piece[i]);
    for (;;) {
        uint32_t best = UINT32_MAX, merged = 0, rank, id;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (tokenizer_file_merge(file, ids[i], ids[i + 1], &rank, &id) && rank < best) {
                best = rank;
                merged = id;
                at = i;
            }
        if (best == UINT32_MAX)
            return n;
        ids[at] = merged;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void short_and_long_pieces_merge_by_the_same_rule(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, fixture_doc(NULL));
    struct bpe bpe = {0};
    srand(1);
    for (int round = 0; round < 4000; round++) {
        static const char letters[] = "hellobaaaa worldxyz";
        unsigned char piece[120];
        uint32_t wanted[120];
        size_t n = (size_t)rand() % sizeof piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = (unsigned char)letters[(size_t)rand() % (sizeof letters - 1)];
        size_t count = slow_bpe(&f.tokenizer.file, piece, n, wanted);
        f.ids.count = 0;
        assert_true(bpe_encode(&bpe, &f.tokenizer.file, piece, n, &f.ids, NULL));
        assert_int_equal(f.ids.count, count);
        if (count)
            assert_memory_equal(f.ids.ids, wanted, count * sizeof *wanted);
    }
    bpe_free(&bpe);
    fixture_close(&f);
}

/* ---- windows ---- */

/* The fixture with other merges: of a, b and c, in any order, some making what another makes. */
static json_t *random_merges(void)
{
    enum { TOKENS = 40 };
    char tokens[TOKENS][16] = {"a", "b", "c"};
    json_t *doc = fixture_doc(NULL), *model = json_object_get(doc, "model");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_array();
    for (int i = 0; i < FIXTURE_MERGES; i++) {
        char text[32];
        snprintf(text, sizeof text, "%s%s", fixture_merges[i][0], fixture_merges[i][1]);
        json_object_del(vocab, text);
    }
    json_object_del(vocab, "xyz");
    for (int n = 3, tries = 0; n < TOKENS && tries < 60; tries++) {
        const char *left = tokens[rand() % n], *right = tokens[rand() % n];
        char made[32], pair[64];
        if (strlen(left) + strlen(right) > 12)
            continue;
        snprintf(made, sizeof made, "%s%s", left, right);
        snprintf(pair, sizeof pair, "%s %s", left, right);
        json_array_insert_new(merges, (size_t)rand() % (json_array_size(merges) + 1),
                              json_string(pair));
        if (json_object_get(vocab, made))
            continue;
        json_object_set_new(vocab, made, json_integer(MERGE_0 + n));
        memcpy(tokens[n++], made, strlen(made) + 1);
    }
    json_object_set_new(model, "merges", merges);
    return doc;
}

static void expect_the_same_in_windows(const struct tokenizer_file *file, const char *text,
                                       size_t n)
{
    static const uint32_t windows[] = {1, 2, 3, 7, 16, 50};
    struct bpe whole = {.window = BPE_WINDOW_MAX}, bpe = {0};
    struct token_ids wanted = {0}, ids = {0};
    assert_true(bpe_merge(&whole, file, text, n, &wanted, NULL));
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
        bpe.window = windows[w];
        ids.count = ids.dropped = 0;
        assert_true(bpe_merge(&bpe, file, text, n, &ids, NULL));
        if (ids.count != wanted.count || memcmp(ids.ids, wanted.ids, 4 * ids.count) != 0)
            fail_msg("window %u: %.*s", windows[w], (int)n, text);
        assert_int_equal(ids.dropped, wanted.dropped);
    }
    token_ids_free(&wanted);
    token_ids_free(&ids);
    bpe_free(&whole);
    bpe_free(&bpe);
}

static void windows_of_a_piece_merge_as_the_whole(void **state)
{
    (void)state;
    srand(3);
    for (int round = 0; round < 300; round++) {
        struct fixture f;
        fixture_open(&f, random_merges());
        for (int i = 0; i < 10; i++) {
            char text[300];
            size_t n = 1 + (size_t)rand() % sizeof text, period = 1 + (size_t)rand() % 9;
            for (size_t k = 0; k < n; k++) /* every other one repeats itself */
                text[k] = i % 2 && k >= period ? text[k - period] : "abcz"[rand() % (3 + i / 9)];
            expect_the_same_in_windows(&f.tokenizer.file, text, n);
        }
        fixture_close(&f);
    }
}

static void windows_of_characters_and_unknown_ones_merge_as_the_whole(void **state)
{
    (void)state;
    static const char *const names[] = {"llama2", "mistral", "bert", "metaspace", "qwen"};
    static const char *const parts[] = {
        "a",    "th", "e",       "\xc3\xa9", "\xe6\x97\xa5", "\xe2\x96\x81", "\xf0\x9f\x98\x80",
        "\x01", "in", "\xcc\x81"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128], *json;
        size_t json_n;
        struct fixture f = {0};
        snprintf(path, sizeof path, "tests/data/tokenizers/%s/tokenizer.json", names[i]);
        assert_true(io_read_file(path, 1 << 24, &json, &json_n, NULL));
        assert_true(tokenizer_compile(path, json, json_n, NULL, NULL, &f.data, &f.n, NULL));
        assert_true(tokenizer_open_bytes(f.data, f.n, path, &f.tokenizer, NULL));
        for (int round = 0; round < 100; round++) {
            char text[400] = "";
            while (strlen(text) + 5 < sizeof text)
                strcat(text, parts[(size_t)rand() % (sizeof parts / sizeof *parts)]);
            expect_the_same_in_windows(&f.tokenizer.file, text, strlen(text));
        }
        mem_free(json);
        fixture_close(&f);
    }
}

static bool add_up(struct token_ids *list, struct tp_error *err)
{
    (void)err;
    *(size_t *)list->to += list->count;
    list->count = 0;
    return true;
}

static void a_megabyte_takes_the_memory_of_a_window(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct fixture f;
    size_t taken = 0;
    fixture_open(&f, fixture_doc(NULL));
    char *text = mem_alloc(N, NULL);
    memset(text, 'a', N);
    struct bpe bpe = {0};
    struct token_ids ids = {.take = add_up, .to = &taken};
    assert_true(bpe_encode(&bpe, &f.tokenizer.file, text, N, &ids, NULL));
    assert_int_equal(taken + ids.count, N / 4);
    assert_true(bpe.symbols_cap <= 1 << 18 && bpe.start_cap <= 1 << 18 && ids.cap <= 8192);
    mem_free(text);
    token_ids_free(&ids);
    bpe_free(&bpe);
    fixture_close(&f);
}

/* Each merge depends on the next one's: nothing is certain before the end is seen. */
static void a_piece_of_which_nothing_is_certain_has_a_limit(void **state)
{
    (void)state;
    enum { N = BPE_WINDOW_MAX + (1 << 18) };
    struct fixture f;
    struct bpe bpe = {0};
    struct tp_error err = {0};
    json_t *doc = fixture_doc(NULL), *model = json_object_get(doc, "model");
    json_object_set_new(json_object_get(model, "vocab"), "aaa", json_integer(ID_XYZ + 1));
    json_object_set_new(model, "merges", json_pack("[s,s]", "a aa", "a a"));
    fixture_open(&f, doc);
    char *text = mem_alloc(N, NULL);
    memset(text, 'a', N);
    assert_true(bpe_encode(&bpe, &f.tokenizer.file, text, BPE_WINDOW_MAX / 2, &f.ids, &err));
    assert_false(bpe_encode(&bpe, &f.tokenizer.file, text, N, &f.ids, &err));
    assert_int_equal(err.code, TP_E_LIMIT);
    assert_non_null(strstr(err.text, "at most 1048576 allowed"));
    mem_free(text);
    bpe_free(&bpe);
    fixture_close(&f);
}

static void a_megabyte_without_a_space_is_soon_done(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct fixture f;
    fixture_open(&f, fixture_doc(NULL));
    char *text = mem_alloc(N, NULL);
    static const char *const units[] = {"a", " ", "hell", "\xf0\x9f\x98\x80", "'", "1", "ab", "\n"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t i = 0; i < N; i++)
            text[i] = units[u][i % strlen(units[u])];
        fixture_encode(&f, text, N, 0);
        size_t n;
        char *back = fixture_decode(&f, &n);
        assert_int_equal(n, N);
        assert_memory_equal(back, text, N);
        mem_free(back);
    }
    assert_int_equal(f.ids.count, N); /* line ends do not merge */
    mem_free(text);
    fixture_close(&f);
}

static void a_pattern_that_backtracks_without_end_is_stopped(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f,
                 fixture_doc("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\","
                             "\"pattern\": {\"Regex\": \"(a|a|b?)+$\"}, \"behavior\": \"Isolated\","
                             "\"invert\": false}, {\"type\": \"ByteLevel\","
                             "\"add_prefix_space\": false, \"use_regex\": false}]}"));
    struct tp_error err = {0};
    char text[64];
    memset(text, 'a', sizeof text);
    text[63] = 'x';
    assert_false(tokenizer_encode(&f.tokenizer, text, sizeof text, NULL, 0, &f.ids, &err));
    assert_int_equal(err.code, TP_E_LIMIT);
    fixture_close(&f);
}

/* ---- the compiled file, damaged ---- */

static const char probe[] = "hello world aaaa <s> 12 \xff xyz";

/* Opening is refused, or encoding and decoding end well or with an error: the sanitizers watch. */
static bool try_open(const unsigned char *data, uint64_t n)
{
    struct tokenizer t = {0};
    struct token_ids ids = {0};
    struct tp_error err = {0};
    bool ok = tokenizer_open_bytes(data, n, "damaged", &t, &err);
    assert_true(ok || (err.code != TP_OK && err.text[0]));
    if (ok) {
        (void)tokenizer_encode(&t, probe, sizeof probe - 1, NULL, TOKENIZER_ADD_SPECIAL, &ids,
                               &err);
        for (size_t i = 0; i < ids.count; i++)
            assert_true(tokenizer_file_token(&t.file, ids.ids[i]).n <= t.file.token_bytes_max);
    }
    token_ids_free(&ids);
    tokenizer_close(&t);
    return ok;
}

static void damaged_files_are_refused_or_safe(void **state)
{
    (void)state;
    unsigned char *data;
    uint64_t n;
    json_t *doc = fixture_doc("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\","
                              "\"pattern\": {\"Regex\": \" ?[a-z]+\"}, \"behavior\": \"Isolated\","
                              "\"invert\": false}, {\"type\": \"ByteLevel\","
                              "\"add_prefix_space\": false, \"use_regex\": false}]}");
    assert_true(fixture_compile(doc, &data, &n));
    assert_true(try_open(data, n));
    for (uint64_t cut = 0; cut < n; cut++) {
        unsigned char *part = (unsigned char *)mem_copy(data, cut, NULL); /* ends where it is cut */
        assert_false(try_open(part, cut));
        if (cut >= 256) {
            tokenizer_file_seal(part, cut);
            assert_false(try_open(part, cut));
            le_put_u64(part + 16, cut);
            tokenizer_file_seal(part, cut);
            assert_false(try_open(part, cut));
        }
        mem_free(part);
    }
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    for (uint64_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof flips; k++) {
            data[i] ^= flips[k];
            if (i < 16 || i >= 24) /* the size is checked before the hash */
                assert_false(try_open(data, n));
            if (i >= 40) {
                tokenizer_file_seal(data, n);
                (void)try_open(data, n);
            }
            data[i] ^= flips[k];
            tokenizer_file_seal(data, n);
        }
    assert_true(try_open(data, n));
    mem_free(data);
}

static void a_file_is_read_and_its_version_checked(void **state)
{
    (void)state;
    unsigned char *data;
    uint64_t n;
    char path[] = "/tmp/test_tokenizer.XXXXXX";
    struct tokenizer t = {0};
    struct tp_error err = {0};
    assert_true(fixture_compile(fixture_doc(NULL), &data, &n));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(io_write_at(fd, path, data, n, 0, NULL));
    assert_true(tokenizer_open(path, &t, &err));
    assert_int_equal(t.file.tokens, 302);
    uint32_t id = tokenizer_file_find(&t.file, "a", 1);
    assert_int_not_equal(id, TOKEN_NONE);
    assert_true(io_truncate(fd, path, 0, NULL)); /* what was read stays */
    assert_int_equal(tokenizer_file_find(&t.file, "a", 1), id);
    tokenizer_close(&t);
    tokenizer_close(&t);
    data[8] = 3;
    tokenizer_file_seal(data, n);
    assert_true(io_write_at(fd, path, data, n, 0, NULL));
    assert_false(tokenizer_open(path, &t, &err));
    assert_int_equal(err.code, TP_E_VERSION);
    io_close(&fd, path, NULL);
    unlink(path);
    mem_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_go_by_rank_and_decode_back),
        cmocka_unit_test(the_same_document_gives_the_same_bytes),
        cmocka_unit_test(ignore_merges_takes_a_word_of_the_vocabulary_whole),
        cmocka_unit_test(pairs_as_arrays_are_merges_too),
        cmocka_unit_test(holes_and_special_tokens_are_known),
        cmocka_unit_test(added_tokens_are_found_in_text),
        cmocka_unit_test(the_post_processor_puts_ids_around_the_text),
        cmocka_unit_test(bytes_that_are_not_utf8_stand_for_themselves),
        cmocka_unit_test(bytes_without_a_token_are_left_out_and_counted),
        cmocka_unit_test(a_prefix_space_goes_before_every_text_between_tokens),
        cmocka_unit_test(split_knows_every_behaviour),
        cmocka_unit_test(steps_cut_the_parts_of_the_step_before),
        cmocka_unit_test(patterns_mean_what_oniguruma_means),
        cmocka_unit_test(short_and_long_pieces_merge_by_the_same_rule),
        cmocka_unit_test(a_megabyte_without_a_space_is_soon_done),
        cmocka_unit_test(windows_of_a_piece_merge_as_the_whole),
        cmocka_unit_test(windows_of_characters_and_unknown_ones_merge_as_the_whole),
        cmocka_unit_test(a_megabyte_takes_the_memory_of_a_window),
        cmocka_unit_test(a_piece_of_which_nothing_is_certain_has_a_limit),
        cmocka_unit_test(a_pattern_that_backtracks_without_end_is_stopped),
        cmocka_unit_test(damaged_files_are_refused_or_safe),
        cmocka_unit_test(a_file_is_read_and_its_version_checked),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
