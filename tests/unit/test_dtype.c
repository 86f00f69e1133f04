/* Conversions: every code, both ways, and rounding against a search for the nearest number. */
#include "dtype.h"
#include "kernels.h"
#include "stored.h"

#include <immintrin.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint64_t random_state = 88172645463325252;

static uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

/* value of a small format by its definition */
static double value_of(uint32_t code, int exponent_bits, int mantissa_bits)
{
    uint32_t exponent = code >> mantissa_bits & ((1u << exponent_bits) - 1);
    uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
    int bias = (1 << (exponent_bits - 1)) - 1;
    double m = mantissa + (exponent ? 1u << mantissa_bits : 0);
    int power = (exponent ? (int)exponent : 1) - bias - mantissa_bits;
    double scale = power < 0 ? 1.0 / (double)(1 << -power) : (double)(1 << power);
    return code >> (exponent_bits + mantissa_bits) ? -m * scale : m * scale;
}

static void every_half_widens_exactly_and_comes_back(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        float f = f16_to_f32((uint16_t)code);
        if ((code & 0x7c00) == 0x7c00) {
            assert_true(code & 0x3ff ? isnan(f) : isinf(f));
            continue;
        }
        assert_true((double)f == value_of(code, 5, 10));
        assert_true(!signbit(f) == !(code >> 15));
        assert_int_equal(f32_to_f16(f), code);
        assert_int_equal(f32_to_f16_sat(f), code);
    }
}

static void every_e4m3_widens_exactly(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 256; code++) {
        float f = e4m3_to_f32((uint8_t)code);
        if ((code & 0x7f) == 0x7f) {
            assert_true(isnan(f));
            continue;
        }
        assert_true((double)f == value_of(code, 4, 3));
        assert_true(!signbit(f) == !(code >> 7));
    }
    assert_true(e4m3_to_f32(0x7e) == 448);
    assert_true(e4m3_to_f32(1) == 0x1p-9f);
}

static void every_bf16_widens_and_comes_back(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        float f = bf16_to_f32((uint16_t)code);
        assert_int_equal(f32_bits(f), code << 16);
        uint16_t back = f32_to_bf16(f);
        if (isnan(f))
            assert_true(isnan(bf16_to_f32(back)));
        else
            assert_int_equal(back, code);
    }
    assert_true(isnan(bf16_to_f32(f32_to_bf16(f32_from_bits(0x7fffffff)))));
    assert_true(isnan(bf16_to_f32(f32_to_bf16(f32_from_bits(0xff800001)))));
}

/* The code of least distance to |f| among 0..top, of two the even one: codes ascend with values. */
static uint32_t nearest(double f, uint32_t top, double (*value)(uint32_t))
{
    uint32_t low = 0, high = top;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (value(middle) <= f)
            low = middle;
        else
            high = middle;
    }
    double below = f - value(low), above = value(high) - f;
    return below < above || (below == above && low % 2 == 0) ? low : high;
}

static double half_value(uint32_t code)
{
    return value_of(code, 5, 10); /* 0x7c00 counts as 65536 here */
}

static double bf16_value(uint32_t code)
{
    return code == 0x7f80 ? 0x1p128 : (double)bf16_to_f32((uint16_t)code);
}

/* Random bits, and values at and beside the middle between two numbers of the format. */
static float sample(int i, double (*value)(uint32_t), uint32_t top)
{
    if (i % 2)
        return f32_from_bits(random_u32());
    uint32_t code = random_u32() % top;
    float middle = (float)((value(code) + value(code + 1)) / 2);
    return f32_from_bits(f32_bits(middle) + random_u32() % 3 - (f32_bits(middle) ? 1 : 0));
}

static void rounding_is_to_nearest_even(void **state)
{
    (void)state;
    for (int i = 0; i < 2000000; i++) {
        float f = sample(i, half_value, 0x7c00);
        if (!isnan(f)) {
            uint32_t sign = f32_bits(f) >> 16 & 0x8000;
            double size = fabs((double)f);
            uint32_t want = size >= 65536 ? 0x7c00 : nearest(size, 0x7c00, half_value);
            assert_int_equal(f32_to_f16(f), sign | want);
            assert_int_equal(f32_to_f16_sat(f), sign | (want == 0x7c00 ? 0x7bff : want));
        }
        f = sample(i, bf16_value, 0x7f80);
        if (isfinite(f))
            assert_int_equal(f32_to_bf16(f), (f32_bits(f) >> 16 & 0x8000) |
                                                 nearest(fabs((double)f), 0x7f80, bf16_value));
    }
}

__attribute__((target("f16c"))) static void check_f16c(void)
{
    for (uint32_t code = 0; code < 65536; code++)
        if ((code & 0x7c00) != 0x7c00)
            assert_int_equal(f32_bits(_cvtsh_ss((uint16_t)code)),
                             f32_bits(f16_to_f32((uint16_t)code)));
    for (int i = 0; i < 2000000; i++) {
        float f = sample(i, half_value, 0x7c00);
        if (!isnan(f))
            assert_int_equal(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT), f32_to_f16(f));
    }
}

static void halves_agree_with_the_hardware_in_every_mode(void **state)
{
    (void)state;
    if (!kernels_get(ISA_AVX2)) {
        print_message("SKIP: this CPU has no F16C\n");
        skip();
    }
    unsigned mode = _mm_getcsr();
    check_f16c();
    _mm_setcsr(0x9fc0);
    check_f16c();
    _mm_setcsr(mode);
}

static void names_and_sizes(void **state)
{
    (void)state;
    enum dtype dtype;
    for (int i = DTYPE_F32; i < DTYPE_COUNT; i++) {
        assert_true(dtype_from_name(dtype_name((enum dtype)i), &dtype));
        assert_int_equal(dtype, i);
        assert_int_equal(dtype_bytes(dtype) * 8, stored_of(dtype)->bits);
    }
    assert_false(dtype_from_name("int8", &dtype));
    assert_false(dtype_from_name("none", &dtype));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_widens_exactly_and_comes_back),
        cmocka_unit_test(every_e4m3_widens_exactly),
        cmocka_unit_test(every_bf16_widens_and_comes_back),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(halves_agree_with_the_hardware_in_every_mode),
        cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
