/* Rows 1 to 5, 17 to 27 and 30 to 35 of the fault catalogue: lengths, sizes, layout, and files that
 * are none, change, or are huge. */
#include "st_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

/* ---- rows 1 to 5: the length ---- */

static void rows_1_2_a_file_below_8_bytes_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++) {
        char needle[64];
        snprintf(needle, sizeof needle, "%zu bytes, need 8 for the header length", n);
        REFUSE(put("f.safetensors", "\1\0\0\0\0\0\0\0", n), TP_E_ST_SHORT, TP_EXIT_INPUT,
               "f.safetensors: ", needle);
    }
}

static void row_3_an_empty_header_is_refused(void **state)
{
    (void)state;
    REFUSE(put_st("f.safetensors", "", 0), TP_E_ST_EMPTY, TP_EXIT_INPUT, "header is empty");
    REFUSE(put_st("f.safetensors", "", 16), TP_E_ST_EMPTY, TP_EXIT_INPUT, "header is empty");
}

static void row_4_a_length_beyond_the_file_allocates_nothing(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        const char *text;
    } rows[] = {{3, "length is 3, found 2"},
                {100000000, "length is 100000000"},
                {100000001, "length is 100000001"},
                {1ull << 63, "length is 9223372036854775808"},
                {UINT64_MAX - 7, "length is 18446744073709551608"},
                {UINT64_MAX, "length is 18446744073709551615"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *path = put_bytes("f.safetensors", "{}", 2, (int64_t)rows[i].length, 0);
        unsigned char head[8];
        le_put_u64(head, rows[i].length); /* all 64 bits: -1 means something else to the fixture */
        int fd = open(path, O_WRONLY);
        fixture_write(fd, head, 8, 0);
        close(fd);
        uint64_t allocations = mem_alloc_count();
        REFUSE(path, TP_E_ST_LENGTH, TP_EXIT_INPUT, "f.safetensors: ", rows[i].text,
               "found 2 bytes");
        assert_int_equal(mem_alloc_count(), allocations);
    }
}

static void row_5_a_header_at_the_cap_is_read_and_above_it_refused(void **state)
{
    (void)state;
    const char *path = put_bytes("f.safetensors", "{", 1, ST_HEADER_MAX, 0);
    assert_int_equal(truncate(path, 200 << 20), 0);
    REFUSE(path, TP_E_ST_JSON, TP_EXIT_INPUT, "f.safetensors: ", "byte 0x00 at offset 9");
    assert_true(peak_of(open_one, path, false) <= 64 * MIB + 2ull * ST_HEADER_MAX);

    path = put_bytes("f.safetensors", "{", 1, (int64_t)ST_HEADER_MAX + 1, 0);
    assert_int_equal(truncate(path, 200 << 20), 0);
    REFUSE(path, TP_E_ST_CAP, TP_EXIT_LIMIT, "f.safetensors: ", "100000001", "100000000");
}

/* ---- rows 17 to 27: sizes and layout ---- */

static void row_17_products_beyond_64_bits_are_refused(void **state)
{
    (void)state;
    static const char *const shapes[] = {"[4294967296,4294967296]", "[18446744073709551615,2]",
                                         "[65536,65536,65536,65536]", "[2305843009213693952]",
                                         "[9223372036854775808,2,0]"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        REFUSE(put_st("f.safetensors", one("\"U8\"", shapes[i], "[0,0]"), 0), TP_E_ST_OVERFLOW,
               TP_EXIT_INPUT, "f.safetensors: tensor \"w\": ", "2^64");
    /* each tensor is possible, their sum is not */
    REFUSE(put_st("f.safetensors",
                  "{\"a\":{\"dtype\":\"U8\",\"shape\":[2305843009213693951],"
                  "\"data_offsets\":[0,2305843009213693951]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
                  "\"data_offsets\":[18446744073709551614,18446744073709551615]}}",
                  0),
           TP_E_ST_OFFSETS, TP_EXIT_INPUT, "tensor \"b\": data_offsets");
}

static void row_18_scalars_and_empty_tensors_are_tensors(void **state)
{
    (void)state;
    struct safetensors st;
    must_open(put_st("f.safetensors",
                     "{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                     "\"z\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[4,4]},"
                     "\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},"
                     "\"y\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[6,6]}}",
                     6),
              &st);
    assert_int_equal(need(&st, "s")->rank, 0);
    assert_int_equal(need(&st, "z")->rank, 2);
    assert_int_equal(need(&st, "z")->shape[1], 0);
    assert_int_equal(need(&st, "z")->begin, need(&st, "z")->end);
    assert_int_equal(safetensors_data(&st, need(&st, "t"))[1], 5);
    safetensors_close(&st);
    must_open(put_st("f.safetensors", "{}", 0), &st);
    assert_int_equal(st.count, 0);
    assert_null(find(&st, "w", 1));
    safetensors_close(&st);
}

static void row_19_a_rank_above_8_is_refused(void **state)
{
    (void)state;
    static const size_t ranks[] = {9, 10, 1000000};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        struct text t = {0};
        add(&t, "{\"w\":{\"dtype\":\"U8\",\"shape\":[1");
        repeat(&t, ",1", ranks[i] - 1);
        add(&t, "],\"data_offsets\":[0,1]}}");
        REFUSE(put_drop("f.safetensors", &t, 1), TP_E_ST_RANK, TP_EXIT_INPUT,
               "f.safetensors: tensor \"w\": shape has more than 8");
    }
    struct safetensors st;
    must_open(put_st("f.safetensors", one("\"U8\"", "[1,1,1,1,2,1,1,3]", "[0,6]"), 6), &st);
    assert_int_equal(need(&st, "w")->rank, 8);
    assert_int_equal(need(&st, "w")->shape[7], 3);
    safetensors_close(&st);
}

static void row_20_offsets_are_two_integers_in_order_in_the_file(void **state)
{
    (void)state;
    static const char *const bad[] = {"[1,0]",
                                      "[0]",
                                      "[]",
                                      "[0,1,2]",
                                      "[-1,0]",
                                      "[0.0,1]",
                                      "[0,1.5]",
                                      "[0,\"1\"]",
                                      "[0,1e0]",
                                      "[0,18446744073709551616]",
                                      "{}",
                                      "null",
                                      "[0,18446744073709551615]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (strstr(bad[i], "551615")) /* the size disagrees first */
            REFUSE(put_st("f.safetensors", one("\"U8\"", "[1]", bad[i]), 1), TP_E_ST_SIZE,
                   TP_EXIT_INPUT, "f.safetensors: tensor \"w\": ");
        else
            REFUSE(put_st("f.safetensors", one("\"U8\"", "[1]", bad[i]), 1), TP_E_ST_OFFSETS,
                   TP_EXIT_INPUT, "f.safetensors: tensor \"w\": data_offsets");
    REFUSE(put_st("f.safetensors", one("\"U8\"", "[9]", "[0,9]"), 8), TP_E_ST_CUT, TP_EXIT_INPUT,
           "f.safetensors: tensor \"w\": expected ", "found ");
}

static void row_21_tensors_that_share_bytes_are_refused(void **state)
{
    (void)state;
    static const struct refused rows[] = {
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
         7, TP_E_ST_OVERLAP, "tensor \"b\": data_offsets 3 to 7 overlap \"a\""},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}",
         4, TP_E_ST_OVERLAP, "tensor \"a\": data_offsets 2 to 2 overlap \"b\""},
    };
    REFUSE_ALL(rows);
    struct text t = {0};
    for (int i = 0; i < 100000; i++)
        add(&t, "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]}",
            i ? ',' : '{', i);
    add(&t, "}");
    size_t n = t.n;
    const char *path = put_drop("f.safetensors", &t, 16);
    REFUSE(path, TP_E_ST_OVERLAP, TP_EXIT_INPUT, "f.safetensors: tensor \"t");
    assert_true(peak_of(open_one, path, false) <= 4 * n);
}

static void rows_22_23_every_byte_belongs_to_a_tensor(void **state)
{
    (void)state;
    static const struct refused rows[] = {
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, TP_E_ST_HOLE,
         "tensor \"a\": data_offsets 0 to 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}",
         9, TP_E_ST_HOLE, "tensor \"b\": data_offsets 4 to 5"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 5, TP_E_ST_TRAILING,
         " 1 trailing bytes after the last tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4004, TP_E_ST_TRAILING,
         " 4000 trailing bytes after the last tensor"},
        {"{}", 3, TP_E_ST_TRAILING, " 3 trailing bytes"},
    };
    REFUSE_ALL(rows);
}

static void rows_24_26_sizes_agree_and_are_whole_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *dtype, *shape, *offsets;
        enum tp_code code;
        const char *needle;
    } rows[] = {
        {"\"F4\"", "[3]", "[0,1]", TP_E_ST_SUBBYTE, "12 bits of F4"},
        {"\"F4\"", "[3]", "[0,2]", TP_E_ST_SUBBYTE, "12 bits of F4"},
        {"\"F6_E2M3\"", "[2]", "[0,2]", TP_E_ST_SUBBYTE, "12 bits of F6_E2M3"},
        {"\"F32\"", "[2,2]", "[0,15]", TP_E_ST_SIZE, "is 16 bytes, data_offsets hold 15"},
        {"\"F32\"", "[2,2]", "[0,17]", TP_E_ST_SIZE, "is 16 bytes, data_offsets hold 17"},
        {"\"F32\"", "[]", "[0,0]", TP_E_ST_SIZE, "is 4 bytes, data_offsets hold 0"},
        {"\"F32\"", "[0]", "[0,4]", TP_E_ST_SIZE, "is 0 bytes, data_offsets hold 4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        REFUSE(put_st("f.safetensors", one(rows[i].dtype, rows[i].shape, rows[i].offsets), 17),
               rows[i].code, TP_EXIT_INPUT, "f.safetensors: tensor \"w\": ", rows[i].needle);
}

static void row_25_a_cut_file_is_refused_wherever_it_is_cut(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],"
        "\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[24,34]}"
        "}";
    const uint64_t begin = 8 + sizeof header - 1, full = begin + 34;
    struct safetensors st;
    must_open(put_st("f.safetensors", header, 34), &st);
    safetensors_close(&st);
    for (uint64_t size = full; size-- > 0;) {
        char expected[64], found[64];
        assert_int_equal(truncate(at("f.safetensors"), (off_t)size), 0);
        snprintf(expected, sizeof expected, "expected %llu bytes", (unsigned long long)full);
        snprintf(found, sizeof found, "found %llu bytes",
                 (unsigned long long)(size < begin ? size - 8 : size));
        if (size < 8)
            REFUSE(at("f.safetensors"), TP_E_ST_SHORT, TP_EXIT_INPUT, "f.safetensors: ");
        else if (size < begin)
            REFUSE(at("f.safetensors"), TP_E_ST_LENGTH, TP_EXIT_INPUT, "f.safetensors: ", found,
                   "incomplete download?");
        else
            REFUSE(at("f.safetensors"), TP_E_ST_CUT, TP_EXIT_INPUT, "f.safetensors: ", expected,
                   size == full ? expected : "found ", "incomplete download?");
    }
}

static void row_27_tensors_at_odd_addresses_read_right(void **state)
{
    (void)state;
    char header[256], pad[8] = "";
    for (size_t shift = 0; shift < 8; shift++) {
        struct safetensors st;
        pad[shift] = '\0';
        memset(pad, ' ', shift);
        snprintf(header, sizeof header,
                 "{\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                 "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}%s",
                 pad);
        must_open(put_st("f.safetensors", header, 9), &st);
        const unsigned char *data = safetensors_data(&st, need(&st, "w"));
        assert_int_equal(le_u32(data), 0x04030201);
        assert_int_equal(le_u32(data + 4), 0x08070605);
        safetensors_close(&st);
    }
}

/* ---- rows 30 and 31: counts, other files ---- */

static void row_30_a_million_tensors_take_linear_time_and_one_more_is_refused(void **state)
{
    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        struct text t = {0};
        uint32_t count = ST_TENSORS_MAX + (uint32_t)extra;
        for (uint32_t i = 0; i < count; i++) /* in no order, one beginning */
            add(&t,
                "%c\"a_common_beginning.%u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]"
                "}",
                i ? ',' : '{', i * 2654435761u % (1u << 20) + (i >> 20 << 20));
        add(&t, "}");
        size_t n = t.n;
        const char *path = put_drop("f.safetensors", &t, 0);
        if (extra) {
            REFUSE(path, TP_E_ST_COUNT, TP_EXIT_LIMIT, "f.safetensors: ", "1048576");
            continue;
        }
        struct safetensors st;
        double start = cpu_seconds();
        must_open(path, &st);
        double taken = cpu_seconds() - start;
        print_message("2^20 tensors: %.2f s\n", taken);
        assert_true(taken < 300); /* a square of the count would take hours */
        assert_int_equal(st.count, ST_TENSORS_MAX);
        need(&st, "a_common_beginning.0");
        need(&st, "a_common_beginning.1048575");
        assert_null(find(&st, "a_common_beginning.1048576", 26));
        safetensors_close(&st);
        uint64_t peak = peak_of(open_one, path, true);
        print_message("2^20 tensors: %llu MiB for a header of %zu MiB\n",
                      (unsigned long long)(peak / MIB), (size_t)(n / MIB));
        assert_true(peak <= 64 * MIB + 4 * n);
    }
}

static void row_31_other_files_are_named_for_what_they_are(void **state)
{
    (void)state;
    static char tar[1024] = "model.safetensors";
    memcpy(tar + 257, "ustar", 5);
    static const char lfs[] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 9\n";
    static const struct {
        const char *bytes;
        size_t n;
        const char *needle;
    } rows[] = {
        {lfs, sizeof lfs - 1, "is a Git LFS pointer, not the file: run git lfs pull"},
        {"<!DOCTYPE html><html>", 21,
         "is an HTML page, not safetensors: the download failed; fetch it again"},
        {"<?xml version=\"1.0\"?>", 21, "XML page"},
        {"Entry not found", 15, "an error of the Hub"},
        {"\n\n  <HTML><body>", 16, "HTML"},
        {"\x1f\x8b\x08\0\0\0\0\0\0\x03zzzzzzzz", 18, "gzip"},
        {"PK\x03\x04\x14\0\0\0\x08\0abcdef", 16, "zip"},
        {"\x80\x02}q\0(X\x01\0\0\0a", 12, "pickle"},
        {"GGUF\x03\0\0\0{\0\0\0\0\0\0\0", 16, "GGUF"},
        {tar, sizeof tar, "tar archive"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        REFUSE(put("f.safetensors", rows[i].bytes, rows[i].n), TP_E_ST_KIND, TP_EXIT_INPUT,
               "f.safetensors: is ", rows[i].needle);
    /* 640 and 35615 are a pickle's and gzip's first bytes, and header lengths all the same */
    struct safetensors st;
    static const size_t lengths[] = {640, 35615};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct text t = {0};
        add(&t, "{\"w\":" ENTRY "}");
        repeat(&t, " ", lengths[i] - t.n);
        must_open(put_drop("f.safetensors", &t, 1), &st);
        safetensors_close(&st);
    }
}

/* ---- rows 32 to 35: files that change, are huge, or are none ---- */

static void row_32_a_file_that_changes_is_noticed(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct safetensors st;
        struct tp_error err = {0};
        const char *path = put_st("f.safetensors", "{\"w\":" ENTRY "}", 1);
        must_open(path, &st);
        assert_true(safetensors_unchanged(&st, &err));
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL); /* times are kept by the tick */
        int fd = open(path, O_WRONLY);
        if (way == 0)
            fixture_write(fd, "x", 1, st.who.size - 1);
        else if (way == 1)
            fixture_write(fd, "x", 1, st.who.size);
        else if (way == 2)
            put_st("f.safetensors", "{\"w\":" ENTRY "}", 1); /* another file of that name */
        else
            unlink(path);
        close(fd);
        assert_false(safetensors_unchanged(&st, &err));
        if (way < 3)
            check_error(&err, TP_E_CHANGED, TP_EXIT_INTEGRITY,
                        (const char *const[]){"f.safetensors: changed while reading", NULL});
        else
            check_error(&err, TP_E_IO, TP_EXIT_IO,
                        (const char *const[]){"f.safetensors: open: No such file", NULL});
        safetensors_close(&st);
    }
}

static void row_33_a_file_of_3_tib_is_read_where_needed(void **state)
{
    (void)state;
    /* a: 2^41 bytes; b: 4 bytes; c: the rest to 3 TiB */
    const uint64_t a = 1ull << 41, c = (3ull << 40) - a - 4;
    char header[512];
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[0,%llu]},"
             "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[%llu,%llu]},"
             "\"c\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]}}",
             (unsigned long long)a, (unsigned long long)a, (unsigned long long)a,
             (unsigned long long)a + 4, (unsigned long long)c, (unsigned long long)a + 4,
             (unsigned long long)(a + 4 + c));
    if (THREAD_SANITIZED) {
        print_message("SKIP: row 33: the thread sanitizer leaves no room to map 3 TiB\n");
        skip();
    }
    const char *path = put_st("f.safetensors", header, a + 4 + c);
    if (!path) {
        print_message("SKIP: row 33: no files of 3 TiB here\n");
        skip();
    }
    struct safetensors st;
    double start = cpu_seconds();
    int fd = open(path, O_WRONLY);
    fixture_write(fd, "\x80\x3f\x00\xc0", 4, 8 + strlen(header) + a);
    close(fd);
    must_open(path, &st);
    const struct st_tensor *b = need(&st, "b");
    assert_int_equal(b->begin, 8 + strlen(header) + a);
    assert_int_equal(le_u32(safetensors_data(&st, b)), 0xc0003f80);
    assert_int_equal(need(&st, "c")->end, st.who.size);
    assert_int_equal(safetensors_data(&st, need(&st, "c"))[c - 1], 0);
    safetensors_close(&st);
    assert_true(cpu_seconds() - start < 60);
    assert_true(peak_of(open_one, path, true) < 8 * MIB);
}

static void row_35_what_is_no_regular_file_is_refused_at_once(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(at("fifo.safetensors"), 0600), 0);
    assert_int_equal(mkdir(at("folder.safetensors"), 0700), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/socket.safetensors", fixture_dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    const char *const paths[] = {at("fifo.safetensors"), at("folder.safetensors"),
                                 at("socket.safetensors"), "/dev/zero", "/dev/random"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        REFUSE(paths[i], TP_E_NOT_REGULAR, TP_EXIT_INPUT, paths[i], "not a regular file");
    close(fd);
    REFUSE(at("none.safetensors"), TP_E_IO, TP_EXIT_IO, "none.safetensors: open: No such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_1_2_a_file_below_8_bytes_is_refused),
        cmocka_unit_test(row_3_an_empty_header_is_refused),
        cmocka_unit_test(row_4_a_length_beyond_the_file_allocates_nothing),
        cmocka_unit_test(row_5_a_header_at_the_cap_is_read_and_above_it_refused),
        cmocka_unit_test(row_17_products_beyond_64_bits_are_refused),
        cmocka_unit_test(row_18_scalars_and_empty_tensors_are_tensors),
        cmocka_unit_test(row_19_a_rank_above_8_is_refused),
        cmocka_unit_test(row_20_offsets_are_two_integers_in_order_in_the_file),
        cmocka_unit_test(row_21_tensors_that_share_bytes_are_refused),
        cmocka_unit_test(rows_22_23_every_byte_belongs_to_a_tensor),
        cmocka_unit_test(rows_24_26_sizes_agree_and_are_whole_bytes),
        cmocka_unit_test(row_25_a_cut_file_is_refused_wherever_it_is_cut),
        cmocka_unit_test(row_27_tensors_at_odd_addresses_read_right),
        cmocka_unit_test(row_30_a_million_tensors_take_linear_time_and_one_more_is_refused),
        cmocka_unit_test(row_31_other_files_are_named_for_what_they_are),
        cmocka_unit_test(row_32_a_file_that_changes_is_noticed),
        cmocka_unit_test(row_33_a_file_of_3_tib_is_read_where_needed),
        cmocka_unit_test(row_35_what_is_no_regular_file_is_refused_at_once),
    };
    return cmocka_run_group_tests_name("safetensors", tests, fixture_setup, fixture_teardown);
}
