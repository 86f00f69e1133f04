/* Rows 6 to 16, 28 and 29 of the fault catalogue: the header as text, its entries, names, metadata.
 */
#include "st_fixture.h"

#include <pthread.h>

/* ---- rows 6 to 9: text and JSON ---- */

static void row_6_a_header_that_is_not_utf8_is_refused_with_the_offset(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",
                                      "\x80",
                                      "\xc0\xaf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xe2\x28\xa1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t at_byte = 0; at_byte < 12; at_byte++) { /* all positions in a word of 8 */
            char header[256], needle[64];
            snprintf(header, sizeof header, "{\"%.*s%s\":1}", (int)at_byte, "abcdefghijkl", bad[i]);
            snprintf(needle, sizeof needle, "at offset %zu", 8 + 2 + at_byte);
            REFUSE(put_st("f.safetensors", header, 0), TP_E_ST_UTF8, TP_EXIT_INPUT,
                   "f.safetensors: not UTF-8", needle);
        }
    /* cut at the end of the header */
    REFUSE(put_st("f.safetensors", "{\"a\xe2\x82", 0), TP_E_ST_UTF8, TP_EXIT_INPUT, "offset 11");
    /* and what is UTF-8 is a name */
    struct safetensors st;
    must_open(put_st("f.safetensors",
                     "{\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\":{\"dtype\":\"U8\","
                     "\"shape\":[],\"data_offsets\":[0,1]}}",
                     1),
              &st);
    need(&st, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    safetensors_close(&st);
}

static void row_7_what_is_not_json_is_refused_with_the_offset(void **state)
{
    (void)state;
    static const struct refused rows[] = {
        {"{", 1, TP_E_ST_JSON, "offset 9"},
        {"{\"w\":" ENTRY, 1, TP_E_ST_JSON, "ends at offset 60"},
        {"{\"w\":" ENTRY "} x", 1, TP_E_ST_JSON, "'x' at offset 62"},
        {"{\"w\":" ENTRY "}{}", 1, TP_E_ST_JSON, "'{' at offset 61"},
        {"{\"w\":" ENTRY ",}", 1, TP_E_ST_JSON, "'}' at offset 61"},
        {"{\"w\" " ENTRY "}", 1, TP_E_ST_JSON, "':' expected"},
        {"[1,2]", 1, TP_E_ST_JSON, "array at offset 8"},
        {"[" ENTRY "]", 1, TP_E_ST_JSON, "array at offset 8"},
        {"17", 1, TP_E_ST_JSON, "'1' at offset 8"},
        {"\"x\"", 1, TP_E_ST_JSON, "offset 8"},
        {"   ", 1, TP_E_ST_JSON, "ends at offset 11"},
        {"\xef\xbb\xbf{\"w\":" ENTRY "}", 1, TP_E_ST_JSON, "byte 0xef at offset 8"},
        {"{'w':" ENTRY "}", 1, TP_E_ST_JSON, "''' at offset 9"},
        {"{/*c*/\"w\":" ENTRY "}", 1, TP_E_ST_JSON, "'/' at offset 9"},
        {"{\"w\":" ENTRY "}//", 1, TP_E_ST_JSON, "'/' at offset 61"},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[NaN],\"data_offsets\":[0,1]}}", 1, TP_E_ST_JSON,
         "'N' at offset 36"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":+1}}", 1, TP_E_ST_JSON, "'+'"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":01}}", 1, TP_E_ST_JSON, "leading zero"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":1.}}", 1, TP_E_ST_JSON, "a digit expected"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":1e}}", 1, TP_E_ST_JSON, "a digit expected"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":truE}}", 1, TP_E_ST_JSON, "'t'"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":[1 2]}}", 1, TP_E_ST_JSON, "',' or ']'"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":[1}}", 1, TP_E_ST_JSON, "',' or ']'"},
        {"{\"w\":{\"dtype\":\"U8\",\"x\":{\"a\" 1}}}", 1, TP_E_ST_JSON, "':' expected"},
        {"{\"w\nx\":" ENTRY "}", 1, TP_E_ST_JSON, "byte 0x0a at offset 11"},
        {"{\"w\\x\":" ENTRY "}", 1, TP_E_ST_JSON, "escape"},
        {"{\"w\\u12g4\":" ENTRY "}", 1, TP_E_ST_JSON, "escape"},
        {"{\"\\ud83d\":" ENTRY "}", 1, TP_E_ST_JSON, "surrogate"},
        {"{\"\\ud83d\\u0041\":" ENTRY "}", 1, TP_E_ST_JSON, "surrogate"},
        {"{\"\\ude00\":" ENTRY "}", 1, TP_E_ST_JSON, "surrogate"},
    };
    REFUSE_ALL(rows);
}

/* Name by name the same tensor, offsets relative to the data. */
static void check_same_table(const struct safetensors *a, const struct safetensors *b)
{
    assert_int_equal(a->count, b->count);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct st_tensor *t = &a->tensors[i], *u = find(b, t->name, t->name_len);
        assert_non_null(u);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->rank, u->rank);
        assert_memory_equal(t->shape, u->shape, sizeof t->shape);
        assert_int_equal(t->begin - a->data_begin, u->begin - b->data_begin);
        assert_int_equal(t->end - t->begin, u->end - u->begin);
        assert_memory_equal(safetensors_data(a, t), safetensors_data(b, u), t->end - t->begin);
    }
}

static void row_8_space_escapes_and_order_change_nothing(void **state)
{
    (void)state;
    static const char canonical[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a.b/c\":{\"dtype\":\"F32\",\"shape\":[2,3],"
        "\"data_offsets\":[0,24]},\"\xc3\xa9\xf0\x9f\x98\x80\\n\":{\"dtype\":\"BF16\",\"shape\":[5]"
        ","
        "\"data_offsets\":[24,34]}}";
    static const char *const variants[] = {
        " \t\r\n{\"a.b/c\" : { \"shape\" : [ 2 , 3 ] ,\n\"data_offsets\":[0,24],\"dtype\":\"F32\"},"
        "\"\\u00e9\\ud83d\\uDE00\\u000a\":{\"data_offsets\":[24,34],\"dtype\":\"BF16\",\"shape\":["
        "5]"
        "},\"__metadata__\":{ }}  \n\n",
        "{\"\\u00E9\\uD83D\\ude00\\n\":{\"dtype\":\"\\u0042F16\",\"sha\\u0070e\":[5],\"data_"
        "offsets\""
        ":[24,34]},\"a\\u002eb\\/c\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}",
    };
    struct safetensors a, b;
    must_open(put_st("a.safetensors", canonical, 34), &a);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        must_open(put_st("b.safetensors", variants[i], 34), &b);
        check_same_table(&a, &b);
        assert_int_equal(findings.warnings, 0);
        safetensors_close(&b);
    }
    assert_null(find(&a, "a.b/", 4));
    safetensors_close(&a);
}

static void *open_deep_files(void *arg)
{
    /* what follows the brackets is missing: depth is found first */
    /* clang-format off */
    static const struct {
        const char *before, *bracket;
    } rows[] = {{"", "["}, {"", "[{\"a\":"}, {"{\"w\":", "["}, {"{\"w\":", "{\"w\":"},
                /* clang-format on */
                {"{\"__metadata__\":", "["},
                {"{\"__metadata__\":{\"a\":", "[1,"},
                {"{\"w\":{\"shape\":[", "["},
                {"{\"w\":{\"dtype\":", "{\"dtype\":"},
                {"{\"w\":{\"x\":", "[[],{},"}};
    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t depth = 100000; depth <= 1000000; depth *= 10) {
            struct text t = {0};
            add(&t, "%s", rows[i].before);
            repeat(&t, rows[i].bracket, depth);
            REFUSE(put_drop("f.safetensors", &t, 0), TP_E_ST_DEPTH, TP_EXIT_INPUT,
                   "f.safetensors: ", "nested deeper than 8 at offset");
        }
    return NULL;
}

static void row_9_nesting_is_refused_on_a_small_stack(void **state)
{
    (void)state;
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * KIB);
    assert_int_equal(pthread_create(&thread, &attr, open_deep_files, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    struct safetensors st; /* 8 are allowed: the root, the entry, and six in a field */
    must_open(put_st("f.safetensors",
                     "{\"w\":{\"x\":[[[{\"a\":[[]]}]]],\"dtype\":\"U8\",\"shape\":[],"
                     "\"data_offsets\":[0,1]}}",
                     1),
              &st);
    safetensors_close(&st);
    REFUSE(put_st("f.safetensors", "{\"w\":{\"x\":[[[{\"a\":[[[]]]}]]]", 1), TP_E_ST_DEPTH,
           TP_EXIT_INPUT, "at offset 28");
}

/* ---- rows 10 to 16: entries and fields ---- */

static void rows_10_11_nothing_stands_twice(void **state)
{
    (void)state;
    static const struct refused rows[] = {
        {"{\"w\":" ENTRY ",\"w\":" ENTRY "}", 1, TP_E_ST_DUPLICATE, "tensor \"w\""},
        {"{\"w\":" ENTRY ",\"v\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},\"w\":"
         "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
         3, TP_E_ST_DUPLICATE, "tensor \"w\""},
        {"{\"a\":" ENTRY ",\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2,
         TP_E_ST_DUPLICATE, "tensor \"a\""},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         TP_E_ST_DUPLICATE, "tensor \"w\": field shape"},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"dtyp\\u0065\":\"U8\"}}",
         1, TP_E_ST_DUPLICATE, "tensor \"w\": field dtype"},
        {"{\"__metadata__\":{},\"w\":" ENTRY ",\"__metadata__\":{}}", 1, TP_E_ST_DUPLICATE,
         "__metadata__ stands twice"},
    };
    REFUSE_ALL(rows);
}

static void row_12_a_missing_field_is_named(void **state)
{
    (void)state;
    static const struct refused rows[] = {
        {"{\"w\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TP_E_ST_FIELD, "\"w\": field dtype"},
        {"{\"w\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, TP_E_ST_FIELD,
         "\"w\": field shape"},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, TP_E_ST_FIELD, "\"w\": field data_offsets"},
        {"{\"w\":{}}", 1, TP_E_ST_FIELD, "\"w\": field dtype"},
        {"{\"w\":7}", 1, TP_E_ST_FIELD, "\"w\": entry: an object expected, a number found"},
        {"{\"w\":null}", 1, TP_E_ST_FIELD, "\"w\": entry: an object expected, null found"},
    };
    REFUSE_ALL(rows);
}

static void row_13_an_unknown_field_is_a_warning(void **state)
{
    (void)state;
    struct safetensors st;
    struct text t = {0};
    add(&t, "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]");
    for (int i = 0; i < 20; i++)
        add(&t, ",\"extra%d\":{\"a\":[1,-2.5e3,true,\"\\u0041\"]}", i);
    add(&t, "}}");
    const char *path = put_drop("f.safetensors", &t, 1);
    findings.warnings = 0;
    must_open(path, &st);
    assert_int_equal(findings.warnings, 1); /* one for a file */
    need(&st, "w");
    safetensors_close(&st);
    findings.strict = true;
    REFUSE(path, TP_E_ST_FIELD, TP_EXIT_INPUT,
           "f.safetensors: tensor \"w\": unknown field \"extra0\": ignored, as others are");
    findings.strict = false;
}

static void row_14_a_dtype_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\"F31\"",
                                      "\"bf16\"",
                                      "\"F32 \"",
                                      "\"\"",
                                      "16",
                                      "null",
                                      "[\"F32\"]",
                                      "\"F32\\u0000\"",
                                      ("\"F8_E4M3FNUZ_AND_VERY_LONG_"
                                       "INDEED_AND_LONGER\"")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSE(put_st("f.safetensors", one(bad[i], "[1]", "[0,4]"), 4), TP_E_ST_DTYPE,
               TP_EXIT_INPUT, "f.safetensors: tensor \"w\": dtype");
}

static void row_15_a_dtype_not_ours_is_refused_only_where_needed(void **state)
{
    (void)state;
    for (int d = 0; d < ST_DTYPE_COUNT; d++) {
        struct safetensors st;
        struct tp_error err = {0};
        char dtype[32], offsets[32];
        enum dtype ours = DTYPE_NONE;
        uint64_t bytes = st_dtype_bits((enum st_dtype)d); /* of 8 elements */
        snprintf(dtype, sizeof dtype, "\"%s\"", st_dtype_name((enum st_dtype)d));
        snprintf(offsets, sizeof offsets, "[0,%llu]", (unsigned long long)bytes);
        must_open(put_st("f.safetensors", one(dtype, "[8]", offsets), bytes), &st);
        assert_int_equal(need(&st, "w")->dtype, d);
        bool is_float = d == ST_F32 || d == ST_F16 || d == ST_BF16;
        assert_int_equal(safetensors_float_dtype(&st, need(&st, "w"), &ours, &err), is_float);
        if (is_float)
            assert_int_equal(dtype_bytes(ours) * 8, bytes);
        else
            check_error(&err, TP_E_ST_DTYPE_OTHER, TP_EXIT_UNSUPPORTED,
                        (const char *const[]){"f.safetensors: tensor \"w\"",
                                              st_dtype_name((enum st_dtype)d), NULL});
        safetensors_close(&st);
    }
}

static void row_16_a_shape_holds_integers_of_64_bits(void **state)
{
    (void)state;
    char huge[410] = "1";
    memset(huge + 1, '0', 400);
    const char *const bad[] = {"-1", "2.0",  "2e3", "\"2\"", "true", "18446744073709551616",
                               huge, "null", "[2]", "-0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char shape[512];
        snprintf(shape, sizeof shape, "[1,%s]", bad[i]);
        REFUSE(put_st("f.safetensors", one("\"U8\"", shape, "[0,2]"), 2), TP_E_ST_SHAPE,
               TP_EXIT_INPUT, "f.safetensors: tensor \"w\": shape", "offset 38");
    }
    REFUSE(put_st("f.safetensors", one("\"U8\"", "2", "[0,2]"), 2), TP_E_ST_SHAPE, TP_EXIT_INPUT,
           "tensor \"w\": shape: an array expected, a number found at offset 35: 2");
}

/* ---- rows 28 and 29: names and metadata ---- */

static void row_28_any_name_is_only_a_name(void **state)
{
    (void)state;
    struct safetensors st;
    struct text t = {0};
    REFUSE(put_st("f.safetensors", "{\"\":" ENTRY "}", 1), TP_E_ST_NAME, TP_EXIT_INPUT,
           "f.safetensors: tensor \"\": name has 0 bytes");
    REFUSE(put_st("f.safetensors", "{\"a\\u0000b\":" ENTRY "}", 1), TP_E_ST_NAME, TP_EXIT_INPUT,
           "NUL");
    static const size_t lengths[] = {ST_NAME_MAX + 1, 1 << 20};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char needle[64];
        add(&t, "{\"");
        repeat(&t, "n", lengths[i]);
        add(&t, "\":" ENTRY "}");
        snprintf(needle, sizeof needle, "... (%zu bytes)", lengths[i]);
        REFUSE(put_drop("f.safetensors", &t, 1), TP_E_ST_NAME, TP_EXIT_INPUT,
               "f.safetensors: ", "tensor \"nnnn", needle, "1 to 1024 expected");
    }
    add(&t, "{\"");
    repeat(&t, "\\u006e", ST_NAME_MAX);
    add(&t, "\":" ENTRY "}");
    must_open(put_drop("f.safetensors", &t, 1), &st);
    assert_int_equal(st.tensors[0].name_len, ST_NAME_MAX);
    safetensors_close(&st);

    static const char odd[] = "\\n\\u001b[31m../\\u200f/etc/passwd\\u007f\\\"\\\\";
    char header[256];
    snprintf(header, sizeof header, "{\"%s\":" ENTRY "}", odd);
    must_open(put_st("f.safetensors", header, 1), &st);
    need(&st, "\n\x1b[31m../\xe2\x80\x8f/etc/passwd\x7f\"\\");
    safetensors_close(&st);
    REFUSE(put_st("f.safetensors", header, 0), TP_E_ST_CUT, TP_EXIT_INPUT,
           "\\x0a\\x1b[31m../\\xe2\\x80\\x8f/etc/passwd\\x7f");
}

static void row_29_metadata_is_strings_and_may_be_large(void **state)
{
    (void)state;
    static const struct refused rows[] = {
        {"{\"__metadata__\":{\"k\":1}}", 0, TP_E_ST_METADATA,
         "__metadata__: \"k\": a string expected"},
        {"{\"__metadata__\":{\"k\":null}}", 0, TP_E_ST_METADATA, "\"k\": a string expected, null"},
        {"{\"__metadata__\":{\"k\":{\"a\":\"b\"}}}", 0, TP_E_ST_METADATA, "an object found"},
        {"{\"__metadata__\":null}", 0, TP_E_ST_METADATA, "__metadata__: an object expected, null"},
        {"{\"__metadata__\":7}", 0, TP_E_ST_METADATA, "__metadata__: an object expected, a number"},
        {"{\"__metadata__\":[\"a\"]}", 0, TP_E_ST_METADATA, "an array found"},
    };
    REFUSE_ALL(rows);
    struct text t = {0};
    add(&t, "{\"__metadata__\":{\"k\":\"");
    repeat(&t, "0123456789012345678901234567890123456789012345678901234567890123456789012345678\\t",
           SANITIZED ? 20000 : 1111111); /* 90 MB */
    add(&t, "\"},\"w\":" ENTRY "}");
    size_t n = t.n;
    const char *path = put_drop("f.safetensors", &t, 1);
    struct safetensors st;
    double start = cpu_seconds();
    must_open(path, &st);
    assert_true(cpu_seconds() - start < 60);
    assert_int_equal(st.count, 1);
    safetensors_close(&st);
    assert_true(peak_of(open_one, path, true) <= n + 8 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_6_a_header_that_is_not_utf8_is_refused_with_the_offset),
        cmocka_unit_test(row_7_what_is_not_json_is_refused_with_the_offset),
        cmocka_unit_test(row_8_space_escapes_and_order_change_nothing),
        cmocka_unit_test(row_9_nesting_is_refused_on_a_small_stack),
        cmocka_unit_test(rows_10_11_nothing_stands_twice),
        cmocka_unit_test(row_12_a_missing_field_is_named),
        cmocka_unit_test(row_13_an_unknown_field_is_a_warning),
        cmocka_unit_test(row_14_a_dtype_that_is_none_is_refused),
        cmocka_unit_test(row_15_a_dtype_not_ours_is_refused_only_where_needed),
        cmocka_unit_test(row_16_a_shape_holds_integers_of_64_bits),
        cmocka_unit_test(row_28_any_name_is_only_a_name),
        cmocka_unit_test(row_29_metadata_is_strings_and_may_be_large),
    };
    return cmocka_run_group_tests_name("safetensors header", tests, fixture_setup,
                                       fixture_teardown);
}
