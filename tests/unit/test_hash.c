/* XXH3-128 as each instruction set has it: the same hashes of any bytes, at once or in parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hash_set.h"

#include <stdlib.h>

enum { BYTES = 70000 };

static unsigned char *bytes_new(void)
{
    unsigned char *bytes = malloc(BYTES);
    uint32_t x = 1;
    for (size_t i = 0; bytes && i < BYTES; i++, x = x * 1664525 + 1013904223)
        bytes[i] = (unsigned char)(x >> 24);
    return bytes;
}

/* From a place of any alignment, in parts of this size. */
static struct hash128 in_parts(const struct hash_set *set, const unsigned char *at, size_t n,
                               size_t part)
{
    struct hash_stream stream;
    set->start(&stream);
    for (size_t i = 0; i < n; i += part)
        set->add(&stream, at + i, n - i < part ? n - i : part);
    return set->end(&stream);
}

static void all_sets_have_the_same_hashes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,   1,   3,    4,    8,    9,    16,   17,    128,   129,  240,
                                   241, 256, 1023, 1024, 1025, 2048, 4096, 65536, 65537, 69000};
    static const size_t parts[] = {1, 63, 64, 256, 1000, 1024, 65536};
    unsigned char *bytes = bytes_new();
    assert_non_null(bytes);
    for (enum cpu_set s = CPU_PLAIN; s <= cpu_best(); s++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const unsigned char *at = bytes + i % 5;
            struct hash128 want = hash_library.bytes(at, sizes[i]);
            assert_true(hash_equal(want, hash_sets[s]->bytes(at, sizes[i])));
            assert_true(hash_equal(want, hash_bytes(at, sizes[i])));
            for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
                assert_true(hash_equal(want, in_parts(hash_sets[s], at, sizes[i], parts[p])));
        }
    free(bytes);
}

static void the_hash_of_nothing_is_the_published_one(void **state)
{
    (void)state;
    char hex[33];
    hash_to_hex(hash_bytes("", 0), hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_sets_have_the_same_hashes),
        cmocka_unit_test(the_hash_of_nothing_is_the_published_one),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
