/* Quantization: what it promises of errors, rows of zeros, bits in every mode and from every piece.
 */
#include "quant.h"

#include "kernels_fixture.h"

#include <xmmintrin.h>

enum { MOST = 5000 };

static const enum dtype quantized[] = {DTYPE_I8, DTYPE_E4M3};

static void row_random(float *row, size_t n, float size)
{
    for (size_t i = 0; i < n; i++) /* bell-like, a few zeros and outliers */
        row[i] = (random_unit() + random_unit() + random_unit()) * size *
                 (random_below(100) ? 1.0f
                  : random_below(2) ? 0.0f
                                    : 4.0f);
}

static void int8_errors_are_at_most_half_a_step(void **state)
{
    (void)state;
    float row[777];
    uint8_t codes[777];
    for (int round = 0; round < 200; round++) {
        row_random(row, 777, random_scaled(-60, 60));
        float scale = quant_scale(DTYPE_I8, row, 777), top = 0;
        quant_codes(DTYPE_I8, row, 777, scale, codes);
        bool reaches = false;
        for (int i = 0; i < 777; i++) {
            float value = quant_value(DTYPE_I8, codes[i]);
            top = fabsf(row[i]) > top ? fabsf(row[i]) : top;
            reaches |= fabsf(value) == 127;
            assert_true(fabsf(value) <= 127);
            assert_true(fabs((double)row[i] - (double)value * (double)scale) <=
                        (double)scale * 0.500001);
        }
        assert_true(reaches && scale == top / 127.0f);
    }
}

static void e4m3_codes_are_the_nearest(void **state)
{
    (void)state;
    float row[777];
    uint8_t codes[777];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 777; i++)
            row[i] = round % 2 ? random_scaled(-20, 10)
                               : e4m3_to_f32((uint8_t)random_below(127)) +
                                     (float)random_below(3) * 0x1p-10f;
        float scale = round % 4 < 2 ? 1.0f : random_scaled(-3, 3);
        scale = fabsf(scale);
        quant_codes(DTYPE_E4M3, row, 777, scale, codes);
        for (int i = 0; i < 777; i++)
            assert_int_equal(codes[i], f32_to_e4m3(row[i] / scale));
    }
    for (uint32_t c = 0; c < 256; c++) {
        float value = e4m3_to_f32((uint8_t)c);
        if (!isnan(value)) {
            quant_codes(DTYPE_E4M3, &value, 1, 1.0f, codes);
            assert_int_equal(codes[0], c);
            assert_true(quant_value(DTYPE_E4M3, codes[0]) == value);
        }
    }
}

/* The search as the document says it, with no lanes wider than one. */
static float search(const float *row, size_t n)
{
    float top = 0, best = 1;
    double least = 0;
    for (size_t i = 0; i < n; i++)
        top = fabsf(row[i]) > top ? fabsf(row[i]) : top;
    for (int f = 0; f <= 8; f++) {
        float scale = top / 448.0f * ((float)(32 - f) / 32.0f);
        double lane[16] = {0};
        for (size_t i = 0; i < n; i++) {
            float q = row[i] / scale;
            double e = (double)(q - e4m3_to_f32(f32_to_e4m3(q)));
            lane[i % 16] += e * e;
        }
        for (size_t half = 8; half; half /= 2)
            for (size_t c = 0; c < half; c++)
                lane[c] += lane[c + half];
        double sum = lane[0] * ((double)scale * (double)scale);
        if (f == 0 || sum < least)
            least = sum, best = scale;
    }
    return best;
}

static void the_fp8_scale_is_the_best_of_nine(void **state)
{
    (void)state;
    float row[MOST];
    int not_first = 0;
    for (int round = 0; round < 300; round++) {
        size_t n = round < 100 ? (size_t)round + 1 : 100 + random_below(MOST - 100);
        row_random(row, n, random_scaled(-60, 60));
        row[0] = random_scaled(-10, 10);
        float want = search(row, n), got = quant_scale(DTYPE_E4M3, row, n);
        assert_int_equal(f32_bits(got), f32_bits(want));
        float top = 0;
        for (size_t i = 0; i < n; i++)
            top = fabsf(row[i]) > top ? fabsf(row[i]) : top;
        not_first += got != top / 448.0f;
    }
    assert_true(not_first > 20); /* otherwise the search would be untested */
}

static void rows_of_zeros_have_scale_one_and_zero_codes(void **state)
{
    (void)state;
    float row[40] = {0};
    uint8_t codes[40];
    for (int round = 0; round < 3; round++)
        for (int d = 0; d < 2; d++) {
            for (int i = 0; i < 40;
                 i++) /* zeros, subnormals, numbers whose scale would be subnormal */
                row[i] = round == 0   ? 0.0f
                         : round == 1 ? f32_from_bits(random_u32() & 0x807fffff)
                                      : random_scaled(-126, -101);
            float scale = quant_scale(quantized[d], row, 40);
            assert_true(scale == 1);
            quant_codes(quantized[d], row, 40, scale, codes);
            for (int i = 0; i < 40; i++)
                assert_true(quant_value(quantized[d], codes[i]) == 0);
        }
    assert_true(quant_scale(DTYPE_I8, row, 0) == 1 && quant_scale(DTYPE_E4M3, row, 0) == 1);
}

static void pieces_and_modes_give_the_same_codes(void **state)
{
    (void)state;
    static float row[MOST];
    static uint8_t whole[MOST], pieces[MOST];
    for (int round = 0; round < 20; round++)
        for (int d = 0; d < 2; d++) {
            row_random(row, MOST, round % 2 ? 1.0f : 0x1p-98f); /* with elements below 2^-126 */
            for (int i = 0; i < MOST; i += 7)
                row[i] = random_hostile() * (round % 2 ? 1.0f : 0x1p-110f);
            unsigned mode = _mm_getcsr();
            float scale = quant_scale(quantized[d], row, MOST);
            quant_codes(quantized[d], row, MOST, scale, whole);
            threads_set_fp_mode();
            assert_true(quant_scale(quantized[d], row, MOST) == scale);
            for (size_t at = 0, n; at < MOST; at += n) {
                n = 1 + random_below(70);
                n = n > MOST - at ? MOST - at : n;
                quant_codes(quantized[d], row + at, n, scale, pieces + at);
            }
            _mm_setcsr(mode);
            assert_memory_equal(whole, pieces, MOST);
        }
}

/* Changing these hashes changes every quantized bundle: a new format version. */
static void codes_are_stable_over_versions(void **state)
{
    (void)state;
    static float row[MOST];
    static uint8_t codes[MOST];
    uint32_t seed = 1;
    for (int i = 0; i < MOST; i++) {
        seed = seed * 1664525 + 1013904223;
        int32_t a = (int32_t)seed >> 8;
        seed = seed * 1664525 + 1013904223;
        row[i] = (float)(a + ((int32_t)seed >> 8)) * 0x1p-28f;
    }
    static const uint32_t want_scale[2] = {0x39ff9ad6, 0x3910eb37};
    static const uint64_t want_codes[2] = {UINT64_C(0x7869b419c9350a9f),
                                           UINT64_C(0x5c7e9c3f5f08e21e)};
    for (int d = 0; d < 2; d++) {
        float scale = quant_scale(quantized[d], row, MOST);
        quant_codes(quantized[d], row, MOST, scale, codes);
        uint64_t hash = 0;
        for (int i = 0; i < MOST; i++)
            hash = (hash ^ codes[i]) * UINT64_C(0x100000001b3);
        assert_int_equal(f32_bits(scale), want_scale[d]);
        assert_true(hash == want_codes[d]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_errors_are_at_most_half_a_step),
        cmocka_unit_test(e4m3_codes_are_the_nearest),
        cmocka_unit_test(the_fp8_scale_is_the_best_of_nine),
        cmocka_unit_test(rows_of_zeros_have_scale_one_and_zero_codes),
        cmocka_unit_test(pieces_and_modes_give_the_same_codes),
        cmocka_unit_test(codes_are_stable_over_versions),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
