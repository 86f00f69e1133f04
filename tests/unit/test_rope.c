/* The wanted values come from 40-digit arithmetic on the formulas of docs/numerics.md section 9,
 * not from this code; transformers gives the same to float32 precision. */
#include "rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct golden {
    int index;
    double frequency;
};

static void check(uint64_t head_dim, struct rope_config rope, const struct golden *want, size_t n)
{
    static double f[MODEL_HEAD_DIM_MAX / 2];
    struct model_config model = {.head_dim = head_dim, .rope = rope};
    rope_frequencies(&model, f);
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(f[want[i].index] - want[i].frequency) <= 4e-15 * want[i].frequency);
}
#define CHECK(head_dim, rope, ...)                                                                 \
    do {                                                                                           \
        static const struct golden want[] = {__VA_ARGS__};                                         \
        check(head_dim, rope, want, sizeof want / sizeof *want);                                   \
    } while (0)
#define ROPE(cut, ...) ((struct rope_config){.attention_factor = 1, .truncate = cut, __VA_ARGS__})

static void default_frequencies_are_powers_of_theta(void **state)
{
    (void)state;
    CHECK(64, ROPE(true, .theta = 10000), {0, 1}, {1, 0.74989420933245587}, {7, 0.1333521432163324},
          {16, 0.01}, {31, 0.0001333521432163324});
    CHECK(128, ROPE(true, .theta = 1e6), {0, 1}, {1, 0.80584218776148187},
          {31, 0.0012409377607517195}, {63, 1.2409377607517195e-06});
}

static void linear_divides_by_the_factor(void **state)
{
    (void)state;
    CHECK(128, ROPE(true, .type = ROPE_LINEAR, .theta = 500000, .factor = 8), {0, 0.125},
          {5, 0.044841277968911235}, {63, 3.0689259889145111e-07});
}

static void llama3_keeps_blends_and_divides_by_wavelength(void **state)
{
    (void)state;
    CHECK(128,
          ROPE(true, .type = ROPE_LLAMA3, .theta = 500000, .factor = 8, .low_freq_factor = 1,
               .high_freq_factor = 4, .original_positions = 8192),
          {0, 1}, {20, 0.016560440080994446}, {28, 0.0032114459947525909},
          {29, 0.0021665707635033587}, {31, 0.00085675141291963208}, {34, 0.00017850781276799641},
          {35, 9.5562123539646833e-05}, {40, 3.4281021959525912e-05}, {63, 3.0689259889145111e-07});
    CHECK(24,
          ROPE(true, .type = ROPE_LLAMA3, .theta = 10000, .factor = 8, .low_freq_factor = 1,
               .high_freq_factor = 4, .original_positions = 32),
          {0, 1}, {1, 0.24266985456120133}, {2, 0.033041057121966345}, {3, 0.0125},
          {4, 0.0058019860420159735}, {11, 2.6930433625398546e-05});
}

static void yarn_ramps_between_two_dimensions(void **state)
{
    (void)state;
    CHECK(32,
          ROPE(true, .type = ROPE_YARN, .theta = 10000, .factor = 4, .original_positions = 32,
               .beta_fast = 32, .beta_slow = 1),
          {0, 1}, {1, 0.4217559938927618}, {2, 0.15811388300841897}, {3, 0.044456985250973073},
          {8, 0.0025}, {15, 4.4456985250973067e-05});
    CHECK(128,
          ROPE(true, .type = ROPE_YARN, .theta = 1e6, .factor = 4, .original_positions = 32768,
               .beta_fast = 32, .beta_slow = 1),
          {0, 1}, {20, 0.013335214321633241}, {30, 0.0010643609812470017},
          {39, 6.4903943208370293e-05}, {40, 4.4456985250973067e-05}, {63, 3.1023444018792988e-07});
}

static void yarn_follows_beta_and_truncate(void **state)
{
    (void)state;
    CHECK(32,
          ROPE(true, .type = ROPE_YARN, .theta = 10000, .factor = 5, .original_positions = 32,
               .beta_fast = 16, .beta_slow = 2),
          {0, 1}, {1, 0.33740479511420945}, {2, 0.063245553203367583},
          {15, 3.5565588200778458e-05});
    CHECK(32,
          ROPE(false, .type = ROPE_YARN, .theta = 10000, .factor = 5, .original_positions = 32,
               .beta_fast = 16, .beta_slow = 2),
          {0, 1}, {1, 0.28528502777905224}, {2, 0.063245553203367583}, {4, 0.02});
}

static void attention_factor_of_yarn_follows_mscale(void **state)
{
    (void)state;
    assert_true(fabs(rope_yarn_attention_factor(4, 0, 0) - 1.138629436111989) < 1e-15);
    assert_true(fabs(rope_yarn_attention_factor(4, 1, 0) - 1.138629436111989) < 1e-15);
    assert_true(fabs(rope_yarn_attention_factor(40, 1, 0.707) - 1.0857263992561357) < 1e-15);
    assert_true(fabs(rope_yarn_attention_factor(32, 1, 0.5) - 1.1476934674947155) < 1e-15);
    assert_true(rope_yarn_attention_factor(1, 3, 2) == 1);
}

static void rows_hold_cos_and_sin_times_the_attention_factor(void **state)
{
    (void)state;
    const double f[2] = {0.1333521432163324, 1};
    float c[2], s[2];
    rope_row(f, 2, 1000, 1, c, s);
    assert_true(c[0] == (float)0.1647894718063187 && s[0] == (float)0.9863287636390792);
    rope_row(f, 2, 1000, 1.25, c, s);
    assert_true(c[0] == (float)(0.1647894718063187 * 1.25));
    rope_row(f, 2, UINT64_C(1) << 40, 1, c, s);
    assert_true(c[0] == (float)0.02065771518720874 && s[0] == (float)-0.9997866066332576);
    rope_row(f, 2, 0, 1, c, s);
    assert_true(c[0] == 1 && s[0] == 0 && c[1] == 1 && s[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_frequencies_are_powers_of_theta),
        cmocka_unit_test(linear_divides_by_the_factor),
        cmocka_unit_test(llama3_keeps_blends_and_divides_by_wavelength),
        cmocka_unit_test(yarn_ramps_between_two_dimensions),
        cmocka_unit_test(yarn_follows_beta_and_truncate),
        cmocka_unit_test(attention_factor_of_yarn_follows_mscale),
        cmocka_unit_test(rows_hold_cos_and_sin_times_the_attention_factor),
    };
    return cmocka_run_group_tests_name("rope", tests, NULL, NULL);
}
