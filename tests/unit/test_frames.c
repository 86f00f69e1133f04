/* Chunks as zstd frames: there and back, and memory that zstd lacks is named as that. Frames that
 * lie: tests/e2e/test_forged.py. */
#include "shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { VALUES = 5000, BYTES = VALUES * 4 };

static unsigned char raw[BYTES], scratch[BYTES], out[BYTES], frame[2 * BYTES];
static struct chunk chunk;
static const struct tensor tensor = {.role = ROLE_FINAL_NORM,
                                     .layer = TENSOR_NO_LAYER,
                                     .layout = LAYOUT_VECTOR_F32,
                                     .bytes = BYTES,
                                     .chunk_bytes = BYTES,
                                     .n_chunks = 1};
static struct shard shard = {
    .path = "rank-file", .data = frame, .head = {.compress = COMPRESS_ZSTD, .chunks = &chunk}};

static int make_frame(void **state)
{
    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        raw[i] = (unsigned char)(i * i >> 3);
    chunk.file_bytes = shard_compress(raw, BYTES, 4, scratch, frame, sizeof frame, NULL);
    chunk.file_hash = hash_bytes(frame, chunk.file_bytes);
    return chunk.file_bytes == 0;
}

static void a_chunk_comes_back(void **state)
{
    struct tp_error err = {0};
    (void)state;
    assert_true(shard_read_chunk(&shard, &tensor, 0, out, scratch, &err));
    assert_memory_equal(out, raw, BYTES);
}

/* ---- no memory at all ---- */

struct held {
    struct held *next;
};

/* Everything that malloc can give under this limit is taken. */
static struct held *take_all(struct rlimit *before)
{
    struct held *all = NULL, *more;
    getrlimit(RLIMIT_AS, before);
    setrlimit(RLIMIT_AS, &(struct rlimit){0, before->rlim_max});
    for (size_t n = 1 << 20; n >= sizeof *more; n /= 2)
        while ((more = malloc(n))) {
            more->next = all;
            all = more;
        }
    return all;
}

static void give_back(struct held *all, const struct rlimit *before)
{
    setrlimit(RLIMIT_AS, before);
    for (struct held *next; all; all = next) {
        next = all->next;
        free(all);
    }
}

static void memory_that_zstd_lacks_is_no_damage(void **state)
{
    struct tp_error reading = {0}, writing = {0};
    static unsigned char again[2 * BYTES];
    struct rlimit before;
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("SKIP: a sanitizer's allocator knows no limit\n");
    skip();
#endif
    struct held *all = take_all(&before);
    bool read = shard_read_chunk(&shard, &tensor, 0, out, scratch, &reading);
    uint64_t n = shard_compress(raw, BYTES, 4, scratch, again, sizeof again, &writing);
    give_back(all, &before);
    assert_false(read);
    assert_int_equal(n, 0);
    assert_int_equal(tp_code_exit(reading.code), TP_EXIT_LIMIT);
    assert_non_null(strstr(reading.text, "rank-file: out of memory"));
    assert_int_equal(tp_code_exit(writing.code), TP_EXIT_LIMIT);
    a_chunk_comes_back(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_comes_back),
        cmocka_unit_test(memory_that_zstd_lacks_is_no_damage),
    };
    return cmocka_run_group_tests_name("frames", tests, make_frame, NULL);
}
