/* The loops of conversions: every instruction set gives the bits of plain C, and plain C those of
 * the plainest definition, in every floating-point mode, of random and extreme values, any length
 * and alignment; panels of rows of words. */
#include "lanes.h"

#include "kernels_fixture.h"
#include "le.h"
#include "pack.h"

enum { MOST = 700, ROUNDS = 400, GUARD = 64 };

static float values[MOST];
static unsigned char halves[2 * MOST + 1];
static uint64_t made[2][MOST + GUARD]; /* by two sets; what is behind the end must not change */

/* Numbers of one size, as weights are; hostile ones; the largest, the least, ties. */
static void make_values(int round)
{
    static const float extreme[] = {0.0f,      -0.0f,     0x1p-149f,        -0x1p-126f,
                                    0x1p-100f, -0x1p-99f, 0x1.fffffep+127f, -0x1.fffffep+127f,
                                    65504.0f,  65520.0f,  -65519.996f,      0x1.8p-25f};
    for (size_t i = 0; i < MOST; i++)
        values[i] = round % 4 == 0   ? random_unit() * 0.05f
                    : round % 4 == 1 ? random_hostile()
                    : round % 4 == 2 ? extreme[random_below(12)]
                                     : (float)((int)random_below(600) - 300) * 0.5f;
}

static void make_halves(void)
{
    for (size_t i = 0; i < sizeof halves; i++)
        halves[i] = (unsigned char)random_u32();
}

static void clear(void)
{
    memset(made, 0xa5, sizeof made);
}

static void same(const char *what, const struct lanes *set, size_t n)
{
    if (memcmp(made[0], made[1], sizeof made[0]) != 0)
        fail_msg("%s: %s of %zu values differs from plain C", set->name, what, n);
}

static void check_types(const struct lanes *set, const unsigned char *bytes, const float *f,
                        size_t n)
{
    const struct lanes *both[2] = {&lanes_plain, set};
    bool fits[4][2];
    clear();
    for (int i = 0; i < 2; i++)
        both[i]->widen_bf16(bytes, n, (float *)made[i]);
    same("widen_bf16", set, n);
    unsigned char finite[2 * MOST];
    for (size_t i = 0; i < n; i++) { /* of NaNs the payload is not promised */
        uint16_t half = le_u16(bytes + 2 * i);
        le_put_u16(finite + 2 * i, (half & 0x7c00) == 0x7c00 ? (uint16_t)(half & 0xbfff) : half);
    }
    for (int i = 0; i < 2; i++)
        both[i]->widen_f16(finite, n, (float *)made[i]);
    same("widen_f16", set, n);
    for (int i = 0; i < 2; i++)
        fits[0][i] = both[i]->narrow_bf16(f, n, (unsigned char *)made[i]);
    same("narrow_bf16", set, n);
    for (int i = 0; i < 2; i++)
        fits[1][i] = both[i]->narrow_f16(f, n, (unsigned char *)made[i]);
    same("narrow_f16", set, n);
    for (int i = 0; i < 2; i++) {
        fits[2][i] = both[i]->finite16(bytes, n, 0x7f80);
        fits[3][i] = both[i]->finite32((const unsigned char *)f, n, 0x7f800000);
    }
    for (int k = 0; k < 4; k++)
        assert_int_equal(fits[k][0], fits[k][1]);
    assert_true(fits[3][0]);
}

static void check_codes(const struct lanes *set, const float *f, size_t n)
{
    const struct lanes *both[2] = {&lanes_plain, set};
    float top = lanes_plain.absmax(f, n), least = INFINITY, most = -INFINITY, largest = 0;
    for (size_t i = 0; i < n; i++) {
        least = fminf(least, f[i]);
        most = fmaxf(most, f[i]);
        largest = fmaxf(largest, fabsf(f[i]));
    }
    struct bounds a = lanes_plain.bounds(f, n), b = set->bounds(f, n);
    assert_true(f32_bits(top) == f32_bits(set->absmax(f, n)) && top == largest);
    assert_true(f32_bits(a.lo) == f32_bits(b.lo) && f32_bits(a.hi) == f32_bits(b.hi));
    assert_true(a.lo == least && a.hi == most);
    float size = top > 0x1p-100f ? top : 1;
    const float scales[] = {size / 127.0f, size / 448.0f, size, size * 0.37f};
    for (size_t k = 0; k < 4; k++) {
        clear();
        for (int i = 0; i < 2; i++)
            both[i]->int8(f, n, scales[k], (unsigned char *)made[i]);
        same("int8", set, n);
        for (int i = 0; i < 2; i++)
            both[i]->fp8(f, n, scales[k], (unsigned char *)made[i]);
        same("fp8", set, n);
        double errors = lanes_plain.fp8_errors(f, n, scales[k]);
        double others = set->fp8_errors(f, n, scales[k]);
        assert_memory_equal(&errors, &others, sizeof errors);
    }
    float scale = (a.hi / 15.0f - a.lo / 15.0f), minimum = a.lo;
    const struct affine affines[] = {{size / -8.0f, 8, 0},
                                     {scale > 0x1p-90f ? scale : 1, 5, 0},
                                     {scale > 0x1p-90f ? scale : 1, 0, minimum},
                                     {INFINITY, 8, 0}};
    for (size_t k = 0; k < 4; k++) {
        clear();
        for (int i = 0; i < 2; i++)
            both[i]->int4(f, n, affines[k], (unsigned char *)made[i]);
        same("int4", set, n);
        for (size_t i = 0; i < n; i++) { /* one code after the other, as docs/numerics.md has it */
            float q = (f[i] * 0.5f - affines[k].minimum * 0.5f) / (affines[k].scale * 0.5f);
            float code = rintf(fminf(fmaxf(q, -affines[k].zero), 15 - affines[k].zero));
            uint32_t word = le_u32((unsigned char *)made[1] + i / 8 * 4);
            assert_int_equal(word >> (i % 2 * 16 + i % 8 / 2 * 4) & 15,
                             (int)code + (int)affines[k].zero);
        }
        for (size_t i = n; i % 8; i++) { /* padding */
            uint32_t word = le_u32((unsigned char *)made[1] + i / 8 * 4);
            assert_int_equal(word >> (i % 2 * 16 + i % 8 / 2 * 4) & 15, 0);
        }
    }
}

static void every_instruction_set_gives_the_bits_of_plain_c(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++)
        for (int round = 0; round < ROUNDS; round++) {
            size_t from = random_below(8), n = 1 + random_below(MOST - 8);
            unsigned old = mode ? threads_set_fp_mode() : 0;
            make_values(round);
            make_halves();
            for (enum cpu_set i = CPU_PLAIN; i <= cpu_best(); i++) {
                check_types(lanes_sets[i], halves + from % 2, values + from, n);
                check_codes(lanes_sets[i], values + from, n);
            }
            if (mode)
                threads_restore_fp_mode(old);
        }
    assert_ptr_equal(lanes_sets[cpu_best()], lanes_best());
}

static void what_is_not_finite_is_seen_wherever_it_is(void **state)
{
    (void)state;
    unsigned char out[4 * MOST];
    for (enum cpu_set s = CPU_PLAIN; s <= cpu_best(); s++)
        for (size_t i = 0; i < MOST; i++) {
            memset(values, 0, sizeof values);
            assert_true(lanes_sets[s]->finite32((const unsigned char *)values, MOST, 0x7f800000));
            assert_true(lanes_sets[s]->narrow_f16(values, MOST, out));
            values[i] = 65520.0f;
            assert_false(lanes_sets[s]->narrow_f16(values, MOST, out));
            assert_true(lanes_sets[s]->narrow_bf16(values, MOST, out));
            values[i] = -0x1.fffffep+127f;
            assert_false(lanes_sets[s]->narrow_bf16(values, MOST, out));
            assert_false(lanes_sets[s]->finite16(out, MOST, 0x7f80));
            values[i] = i % 2 ? NAN : -INFINITY;
            assert_false(lanes_sets[s]->finite32((const unsigned char *)values, MOST, 0x7f800000));
        }
}

static void panels_hold_words_of_rows_side_by_side(void **state)
{
    (void)state;
    enum { WORDS = 90, STRIDE = 4 * WORDS + 5 };
    static unsigned char rows[PANEL_ROWS * STRIDE + 1], back[PANEL_ROWS * STRIDE],
        panel[WORDS * 64 + GUARD];
    for (size_t i = 0; i < sizeof rows; i++)
        rows[i] = (unsigned char)random_u32();
    for (size_t words = 0; words <= WORDS; words++)
        for (size_t odd = 0; odd < 2; odd++) {
            memset(panel, 0xa5, sizeof panel);
            memset(back, 0, sizeof back);
            pack_interleave(rows + odd, STRIDE, words, panel);
            pack_deinterleave(panel, words, back, STRIDE);
            for (size_t k = 0; k < words; k++)
                for (size_t r = 0; r < PANEL_ROWS; r++) {
                    uint32_t word = le_u32(rows + odd + r * STRIDE + 4 * k);
                    assert_int_equal(le_u32(panel + 64 * k + 4 * r), word);
                    assert_int_equal(le_u32(back + r * STRIDE + 4 * k), word);
                }
            for (size_t i = 0; i < GUARD; i++)
                assert_int_equal(panel[64 * words + i], 0xa5);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_set_gives_the_bits_of_plain_c),
        cmocka_unit_test(what_is_not_finite_is_seen_wherever_it_is),
        cmocka_unit_test(panels_hold_words_of_rows_side_by_side),
    };
    return cmocka_run_group_tests_name("lanes", tests, NULL, NULL);
}
