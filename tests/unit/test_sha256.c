/* SHA-256 against the examples of the standard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mem.h"
#include "sha256.h"
#include <string.h>

static void assert_digest(const char *text, const char *expected)
{
    char hex[SHA256_HEX];
    sha256_hex(text, strlen(text), hex);
    assert_string_equal(hex, expected);
}

static void the_standard_s_examples_give_their_digests(void **state)
{
    (void)state;
    assert_digest("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_digest("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_digest(
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmn"
        "opqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void a_million_letters_give_their_digest(void **state)
{
    enum { N = 1000000 };
    struct tp_error err = {0};
    char hex[SHA256_HEX], *text = mem_alloc(N, &err);
    (void)state;
    assert_non_null(text);
    memset(text, 'a', N);
    sha256_hex(text, N, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standard_s_examples_give_their_digests),
        cmocka_unit_test(a_million_letters_give_their_digest),
    };
    return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
