/* Stored formats: pieces and words; what quantization promises of errors, rows of zeros, bits in
 * every mode and from every piece.
 */
#include "stored.h"

#include "kernels_fixture.h"

#include <xmmintrin.h>

enum { MOST = 5000 };

static const enum stored_id quantized[] = {STORED_INT8, STORED_FP8};

static float quant_scale(enum stored_id id, const float *row, size_t n)
{
    return f32_from_bits(stored_of(id)->constants(stored_of(id), row, n));
}

static void quant_codes(enum stored_id id, const float *row, size_t n, float scale, uint8_t *codes)
{
    assert_true(stored_of(id)->encode(stored_of(id), row, n, f32_bits(scale), codes));
}

static float quant_value(enum stored_id id, uint8_t code)
{
    float value;
    stored_of(id)->decode(stored_of(id), &code, 1, f32_bits(1), false, &value);
    return value;
}

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
    uint8_t codes[780];
    for (int round = 0; round < 200; round++) {
        row_random(row, 777, random_scaled(-60, 60));
        float scale = quant_scale(STORED_INT8, row, 777), top = 0;
        quant_codes(STORED_INT8, row, 777, scale, codes);
        bool reaches = false;
        for (int i = 0; i < 777; i++) {
            float value = quant_value(STORED_INT8, codes[i]);
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
    uint8_t codes[780];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 777; i++)
            row[i] = round % 2 ? random_scaled(-20, 10)
                               : e4m3_to_f32((uint8_t)random_below(127)) +
                                     (float)random_below(3) * 0x1p-10f;
        float scale = round % 4 < 2 ? 1.0f : random_scaled(-3, 3);
        scale = fabsf(scale);
        quant_codes(STORED_FP8, row, 777, scale, codes);
        for (int i = 0; i < 777; i++)
            assert_int_equal(codes[i], f32_to_e4m3(row[i] / scale));
    }
    for (uint32_t c = 0; c < 256; c++) {
        float value = e4m3_to_f32((uint8_t)c);
        if (!isnan(value)) {
            quant_codes(STORED_FP8, &value, 1, 1.0f, codes);
            assert_int_equal(codes[0], c);
            assert_true(quant_value(STORED_FP8, codes[0]) == value);
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
        float want = search(row, n), got = quant_scale(STORED_FP8, row, n);
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
    assert_true(quant_scale(STORED_INT8, row, 0) == 1 && quant_scale(STORED_FP8, row, 0) == 1);
}

static void pieces_and_modes_give_the_same_codes(void **state)
{
    (void)state;
    static float row[MOST];
    static uint8_t whole[MOST + 4], pieces[MOST + 4];
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

/* The same row for ever. */
static void row_fixed(float *row)
{
    uint32_t seed = 1;
    for (int i = 0; i < MOST; i++) {
        seed = seed * 1664525 + 1013904223;
        int32_t a = (int32_t)seed >> 8;
        seed = seed * 1664525 + 1013904223;
        row[i] = (float)(a + ((int32_t)seed >> 8)) * 0x1p-28f;
    }
}

/* Changing these hashes changes every quantized bundle: a new format version. */
static void codes_are_stable_over_versions(void **state)
{
    (void)state;
    static float row[MOST];
    static uint8_t codes[MOST];
    row_fixed(row);
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

/* ---- pieces and words ---- */

static void pieces_tile_every_leaf(void **state)
{
    (void)state;
    for (unsigned id = 1; id < STORED_COUNT; id++)
        for (int round = 0; round < 4000; round++) {
            const struct stored *s = stored_of(id);
            uint64_t begin = random_below(700), end = begin + 1 + random_below(700);
            struct range leaf = {begin, end};
            struct pieces cut = stored_pieces(s, leaf);
            struct piece piece = {.index = 0};
            uint64_t count = 0, at = begin, k = 0, word = 0;
            for (; stored_next_piece(s, leaf, &piece); count++) {
                uint64_t n = piece.cols.end - piece.cols.begin, blocks = (n + 31) / 32;
                assert_true(piece.index == count && piece.cols.begin == at &&
                            piece.cols.end <= end && n > 0);
                if (s->group) {
                    assert_true(at / s->group == (piece.cols.end - 1) / s->group);
                    assert_true(piece.cols.end == end || piece.cols.end % s->group == 0);
                    bool joins = s->constant_bits == 16 && count % 2;
                    if (!joins)
                        assert_int_equal(piece.constants, word++);
                } else {
                    assert_true(count == 0 && piece.cols.end == end);
                }
                assert_int_equal(piece.k, k);
                assert_int_equal(piece.word, word);
                assert_int_equal(count == 0              ? cut.lead
                                 : piece.cols.end == end ? blocks
                                                         : cut.group,
                                 blocks);
                at = piece.cols.end;
                k += blocks * 32;
                word += blocks * 32 * s->bits / 32;
            }
            assert_int_equal(at, end);
            assert_int_equal(cut.blocks * 32, k);
            assert_int_equal(stored_words(s, leaf), word);
        }
}

static void constants_come_back(void **state)
{
    (void)state;
    unsigned char row[4096];
    for (unsigned id = STORED_INT4_G32; id < STORED_COUNT; id++) {
        const struct stored *s = stored_of(id);
        struct range leaf = {40, 777};
        struct piece piece = {.index = 0};
        memset(row, 0xaa, sizeof row);
        while (stored_next_piece(s, leaf, &piece))
            stored_put_constants(s, row, &piece,
                                 (uint32_t)(piece.index + 1) << 16 |
                                     (s->constant_bits == 32 ? 7u : 0));
        piece = (struct piece){.index = 0};
        while (stored_next_piece(s, leaf, &piece))
            assert_int_equal(stored_get_constants(s, row, &piece),
                             (uint32_t)(piece.index + 1) << 16 | (s->constant_bits == 32 ? 7u : 0));
    }
}

static void formats_are_found(void **state)
{
    (void)state;
    assert_null(stored_of(0));
    assert_null(stored_of(STORED_COUNT));
    for (unsigned id = 1; id < STORED_COUNT; id++)
        assert_true(stored_of(id)->id == id &&
                    stored_by_name(stored_of(id)->name) == stored_of(id));
    assert_null(stored_by_name("int4"));
    assert_true(stored_by_options("int8", 0, "none") == stored_of(STORED_INT8));
    assert_true(stored_by_options("int4", 0, "none") == stored_of(STORED_INT4_G128));
    assert_true(stored_by_options("int4", 64, "zero") == stored_of(STORED_INT4_G64_ZERO));
    assert_true(stored_by_options("int4", 32, "min") == stored_of(STORED_INT4_G32_MIN));
    assert_null(stored_by_options("int4", 16, "none"));
    assert_null(stored_by_options("int", 0, "none"));
    assert_null(stored_by_options("int8", 0, "min"));
    assert_null(stored_by_options("bf16", 0, "none"));
}

/* ---- int4 ---- */

/* Constants and codes of the groups of a row, as one hash. */
static uint64_t hash_of_groups(const struct stored *s, const float *row, size_t n)
{
    uint64_t hash = 0;
    unsigned char words[64];
    for (size_t at = 0; at < n; at += s->group) {
        size_t size = n - at < s->group ? n - at : s->group;
        uint32_t constants = s->constants(s, row + at, size);
        assert_true(s->encode(s, row + at, size, constants, words));
        hash = (hash ^ constants) * UINT64_C(0x100000001b3);
        for (size_t i = 0; i < (size + 7) / 8 * 4; i++)
            hash = (hash ^ words[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static void int4_codes_are_stable_over_versions_and_modes(void **state)
{
    (void)state;
    static float row[MOST];
    row_fixed(row);
    for (int i = 0; i < MOST; i++) /* groups of subnormals, and of what counts as zero, too */
        row[i] *= i / 128 % 3 ? 1 : i / 128 % 2 ? 0x1p-96f : 0x1p-112f;
    static const uint64_t want[9] = {
        UINT64_C(0xb04db492f6e15b4a), UINT64_C(0xc9e2f24cc6e3981e), UINT64_C(0x98506b27e51b947f),
        UINT64_C(0x20164aa32ecb2877), UINT64_C(0x01b60f4b5c41034e), UINT64_C(0x9785e5ba46dad3bb),
        UINT64_C(0x84dfbbbb4fa1c830), UINT64_C(0xe2e8ec7dc346f33e), UINT64_C(0xbc170e1a8b7b6985)};
    for (unsigned i = 0; i < 9; i++) {
        const struct stored *s = stored_of(STORED_INT4_G32 + i);
        unsigned mode = _mm_getcsr();
        uint64_t hash = hash_of_groups(s, row, MOST);
        threads_set_fp_mode();
        uint64_t flushed = hash_of_groups(s, row, MOST);
        _mm_setcsr(mode);
        assert_true(hash == flushed);
        if (hash != want[i])
            fail_msg("%s: 0x%016llx", s->name, (unsigned long long)hash);
    }
}

static void int4_errors_are_at_most_half_a_step(void **state)
{
    (void)state;
    float row[128], value[128];
    unsigned char words[64];
    for (int round = 0; round < 30000; round++) {
        const struct stored *s = stored_of(STORED_INT4_G32 + random_below(9));
        size_t n = 1 + random_below(s->group);
        row_random(row, n, random_scaled(-60, 60));
        float shift = round % 3 ? 0 : random_scaled(-20, 20);
        double top = 0;
        for (size_t i = 0; i < n; i++) {
            row[i] += shift;
            top = fmax(top, fabs((double)row[i]));
        }
        uint32_t constants = s->constants(s, row, n);
        double scale = fabs((double)f32_from_bits(constants & 0xffff0000));
        assert_true(s->encode(s, row, n, constants, words));
        s->decode(s, words, n, constants, false, value);
        /* half a step, and what a scale or minimum of eight bits loses; codes that end at 7, or 15
         * less a rounded zero, another half */
        double bound = scale * (s->offset == OFFSET_MINIMUM ? 0.55 : 1.05) + top * 0x1p-8;
        for (size_t i = 0; i < n; i++)
            assert_true(fabs((double)value[i] - (double)row[i]) <= bound);
    }
}

static void groups_of_zeros_or_one_value(void **state)
{
    (void)state;
    for (unsigned id = STORED_INT4_G32; id < STORED_COUNT; id++)
        for (int round = 0; round < 4; round++) {
            const struct stored *s = stored_of(id);
            float row[40], value[40];
            unsigned char words[20];
            for (int i = 0; i < 40; i++)
                row[i] = round == 0   ? 0.0f
                         : round == 1 ? f32_from_bits(random_u32() & 0x807fffff)
                         : round == 2 ? random_scaled(-126, -101)
                                      : 3.0e38f;
            uint32_t constants = s->constants(s, row, 40);
            assert_true(s->encode(s, row, 40, constants, words));
            s->decode(s, words, 40, constants, false, value);
            for (int i = 0; i < 40; i++)
                assert_true(round < 3 ? value[i] == 0 : fabsf(value[i] / 3.0e38f - 1) < 0.005f);
        }
}

/* Rounded to odd and then to fewer bits is rounded once. */
static void inexact_values_are_rounded_once(void **state)
{
    (void)state;
    const struct stored *s = stored_of(STORED_INT4_G32_MIN);
    int inexact = 0;
    for (int round = 0; round < 200000; round++) {
        uint16_t scale = f32_to_bf16(fabsf(random_scaled(-30, 0))),
                 minimum = f32_to_bf16(random_scaled(-6, 6));
        unsigned char words[4] = {(unsigned char)random_below(16)};
        if (round % 2) { /* codes that mean the middle between two numbers of eight bits, but for a
                            minimum far below */
            scale = (uint16_t)(0x3d81 + 2 * random_below(63));
            minimum = f32_to_bf16(random_scaled(-80, -40));
            words[0] = (unsigned char)(3 + 2 * random_below(7));
        }
        uint32_t constants = (uint32_t)scale << 16 | minimum;
        float odd, nearest;
        double exact = (double)words[0] * (double)bf16_to_f32(scale) + (double)bf16_to_f32(minimum);
        s->decode(s, words, 1, constants, true, &odd);
        s->decode(s, words, 1, constants, false, &nearest);
        assert_true(nearest == (float)exact);
        inexact += (double)nearest != exact;
        double found = (double)bf16_to_f32(f32_to_bf16(odd)), off = fabs(found - exact);
        for (int step = -1; exact != 0 && step <= 1; step += 2) { /* no neighbour is nearer */
            double other = (double)bf16_to_f32((uint16_t)(f32_to_bf16(odd) + step));
            assert_true(off <= fabs(other - exact));
        }
    }
    assert_true(inexact > 1000);
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
        cmocka_unit_test(pieces_tile_every_leaf),
        cmocka_unit_test(constants_come_back),
        cmocka_unit_test(formats_are_found),
        cmocka_unit_test(int4_codes_are_stable_over_versions_and_modes),
        cmocka_unit_test(int4_errors_are_at_most_half_a_step),
        cmocka_unit_test(groups_of_zeros_or_one_value),
        cmocka_unit_test(inexact_values_are_rounded_once),
    };
    return cmocka_run_group_tests_name("stored", tests, NULL, NULL);
}
