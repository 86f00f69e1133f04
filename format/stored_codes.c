/* Codes and constants of every stored format. The loops over values are in lanes.inc.h. */
#include "stored_codes.h"

#include "lanes.h"
#include "le.h"
#include "values.h"

enum { FACTORS = 9 };

/* Below this a row counts as zero: its scale is 1 and so all its codes are 0. Above, every scale is
 * far from subnormal, and a subnormal element is a zero code. */
static const float LEAST = 0x1p-100f;

STORED_CONSTANTS(int8)
{
    (void)self;
    float top = lanes_best()->absmax(values, n);
    return f32_bits(top < LEAST ? 1 : top / 127.0f);
}

STORED_CONSTANTS(fp8)
{
    (void)self;
    const struct lanes *lanes = lanes_best();
    float top = lanes->absmax(values, n), best = 1;
    double least = 0;
    for (int i = 0; top >= LEAST && i < FACTORS; i++) {
        float scale = top / 448.0f * ((float)(32 - i) / 32.0f);
        double sum = lanes->fp8_errors(values, n, scale);
        sum *= (double)scale * scale;
        if (i == 0 || sum < least) {
            least = sum;
            best = scale;
        }
    }
    return f32_bits(best);
}

STORED_ENCODE(int8)
{
    (void)self;
    lanes_best()->int8(values, n, f32_from_bits(constants), words);
    memset(words + n, 0, -n % 4);
    return true;
}

STORED_ENCODE(fp8)
{
    (void)self;
    lanes_best()->fp8(values, n, f32_from_bits(constants), words);
    memset(words + n, 0, -n % 4);
    return true;
}

STORED_DECODE(int8)
{
    (void)self, (void)to_odd;
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(int8_t)words[i] * f32_from_bits(constants);
}

STORED_DECODE(fp8)
{
    (void)self, (void)to_odd;
    for (size_t i = 0; i < n; i++)
        values[i] = e4m3_to_f32(words[i]) * f32_from_bits(constants);
}

/* ---- as they are ---- */

STORED_ENCODE(dense)
{
    (void)constants;
    memset(words + n * self->bits / 8, 0, -(n * self->bits / 8) % 4);
    return values_narrow((enum dtype)self->id, values, n, words);
}

STORED_DECODE(dense)
{
    (void)constants, (void)to_odd;
    values_widen((enum dtype)self->id, words, n, values);
}

/* ---- int4 ---- */

static struct affine affine_of(const struct stored *s, uint32_t constants)
{
    struct affine a = {.scale = f32_from_bits(constants & 0xffff0000)};
    a.zero = s->offset == OFFSET_NONE   ? 8
             : s->offset == OFFSET_ZERO ? (float)(constants & 0xff)
                                        : 0;
    a.minimum = s->offset == OFFSET_MINIMUM ? f32_from_bits(constants << 16) : 0;
    return a;
}

/* f32 to bf16, the largest finite number at most, as f32. */
static float bf16_value(float f)
{
    uint16_t b = f32_to_bf16(f);
    return bf16_to_f32((b & 0x7fff) == 0x7f80 ? (uint16_t)(b - 1) : b);
}

/* What is below LEAST is zero. */
static float or_zero(float f)
{
    return __builtin_fabsf(f) < LEAST ? 0 : f;
}

STORED_CONSTANTS(int4)
{
    struct bounds b = lanes_best()->bounds(values, n);
    b = (struct bounds){or_zero(b.lo), or_zero(b.hi)};
    float lo = b.lo < 0 ? b.lo : 0, hi = b.hi > 0 ? b.hi : 0, scale, zero;
    switch (self->offset) {
    case OFFSET_NONE:
        return f32_bits(bf16_value((-b.lo >= b.hi ? b.lo : b.hi) / -8.0f));
    case OFFSET_ZERO:
        scale = bf16_value(hi / 15.0f - lo / 15.0f);
        zero = scale > 0 ? (-lo / scale + 0x1.8p+23f) - 0x1.8p+23f : 0; /* to nearest */
        return f32_bits(scale) | (uint32_t)(zero < 15 ? zero : 15);
    default: /* OFFSET_MINIMUM */
        lo = bf16_value(b.lo);
        scale = bf16_value(b.hi / 15.0f - lo / 15.0f);
        return (scale > LEAST ? f32_bits(scale) : 0) | f32_bits(lo) >> 16;
    }
}

/* Of eight neighbouring columns an even one has four bits in the low half of the word, an odd one
 * in the high half. */
static unsigned code_shift(size_t i)
{
    return (unsigned)(i % 2 * 16 + i % 8 / 2 * 4);
}

STORED_ENCODE(int4)
{
    struct affine a = affine_of(self, constants);
    if (a.scale == 0) /* any: all codes are zero's */
        a = (struct affine){__builtin_inff(), a.zero, 0};
    lanes_best()->int4(values, n, a, words);
    return true;
}

/* a + b, where that is inexact rounded to odd: rounding it to f32 or less is then rounding once. */
static double sum_to_odd(double a, double b)
{
    double sum = a + b, from_b = sum - a, error = (a - (sum - from_b)) + (b - from_b);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    bits += error != 0 && bits % 2 == 0 ? (error > 0) == (sum > 0) ? 1 : UINT64_MAX : 0;
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

STORED_DECODE(int4)
{
    struct affine a = affine_of(self, constants);
    for (size_t i = 0; i < n; i++) {
        float code = (float)(le_u32(words + i / 8 * 4) >> code_shift(i) & 15);
        double exact = sum_to_odd((double)(code - a.zero) * (double)a.scale, (double)a.minimum);
        float f = (float)exact;
        if (to_odd && (double)f != exact && f32_bits(f) % 2 == 0)
            f = f32_from_bits(f32_bits(f) + ((exact > (double)f) == (exact > 0) ? 1 : -1u));
        values[i] = f;
    }
}
