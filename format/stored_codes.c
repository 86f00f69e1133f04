/* Codes and constants of every stored format. Plain C that the compiler vectorizes; 16 lanes by
 * definition, so that any width gives the same bits. */
#include "stored_codes.h"

#include "le.h"
#include "values.h"

enum { LANES = 16, FACTORS = 9, STRIP = 128 };

/* Below this a row counts as zero: its scale is 1 and so all its codes are 0. Above, every scale is
 * far from subnormal, and a subnormal element is a zero code. */
static const float LEAST = 0x1p-100f;

#define INLINE static inline __attribute__((always_inline))

static float absmax(const float *row, size_t n)
{
    float lane[LANES] = {0}, top = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t c = 0; c < LANES; c++) {
            float a = __builtin_fabsf(row[i + c]);
            lane[c] = a > lane[c] ? a : lane[c];
        }
    for (size_t c = 0; i < n; i++, c++)
        lane[c] = __builtin_fabsf(row[i]) > lane[c] ? __builtin_fabsf(row[i]) : lane[c];
    for (size_t c = 0; c < LANES; c++)
        top = lane[c] > top ? lane[c] : top;
    return top;
}

/* The E4M3 number nearest to q, ties to even, saturated at 448. */
INLINE float e4m3_nearest(float q)
{
    const float magic = 0x1.8p+14f; /* its sum's last place is 2^-9, the subnormals' step */
    uint32_t u = f32_bits(q);
    float normal = f32_from_bits((u + 0x7ffff + (u >> 20 & 1)) & 0xfff00000);
    float small = (q + magic) - magic;
    float v = __builtin_fabsf(q) < 0x1p-6f ? small : normal;
    v = v > 448.0f ? 448.0f : v;
    return v < -448.0f ? -448.0f : v;
}

INLINE double square_error(float x, float scale)
{
    float q = x / scale;
    double e = (double)(q - e4m3_nearest(q)); /* the difference is exact */
    return e * e;
}

/* Sum over the row of (x / scale - its E4M3 value)^2. */
INLINE double errors_body(const float *row, size_t n, float scale)
{
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t c = 0; c < LANES; c++)
            lane[c] += square_error(row[i + c], scale);
    for (size_t c = 0; i < n; i++, c++)
        lane[c] += square_error(row[i], scale);
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t c = 0; c < half; c++)
            lane[c] += lane[c + half];
    return lane[0];
}

/* Rows of bytes; each of them compiled once more with wider registers. */
#define AVX2 __attribute__((target("avx2")))
#define BYTES(name, body)                                                                          \
    static void bytes_##name(const float *values, size_t n, float scale, unsigned char *codes)     \
    {                                                                                              \
        body(values, n, scale, codes);                                                             \
    }                                                                                              \
    AVX2 static void bytes_##name##_avx2(const float *values, size_t n, float scale,               \
                                         unsigned char *codes)                                     \
    {                                                                                              \
        body(values, n, scale, codes);                                                             \
    }                                                                                              \
    STORED_ENCODE(name)                                                                            \
    {                                                                                              \
        (void)self;                                                                                \
        (__builtin_cpu_supports("avx2") ? bytes_##name##_avx2 : bytes_##name)(                     \
            values, n, f32_from_bits(constants), words);                                           \
        memset(words + n, 0, -n % 4);                                                              \
        return true;                                                                               \
    }

INLINE void int8_body(const float *values, size_t n, float scale, unsigned char *codes)
{
    const float magic = 0x1.8p+23f;
    for (size_t i = 0; i < n; i++) {
        float q = values[i] / scale;
        q = q > 127.0f ? 127.0f : q;
        q = q < -127.0f ? -127.0f : q;
        codes[i] = (unsigned char)f32_bits(q + magic);
    }
}
BYTES(int8, int8_body)

INLINE void fp8_body(const float *values, size_t n, float scale, unsigned char *codes)
{
    for (size_t i = 0; i < n; i++) {
        float q = values[i] / scale, v = e4m3_nearest(q);
        uint32_t normal = (f32_bits(v) >> 20 & 0x7ff) - (120 << 3);
        uint32_t small = f32_bits(__builtin_fabsf(v) + 0x1p+14f) & 0x7f; /* counts steps of 2^-9 */
        uint32_t magnitude = __builtin_fabsf(v) < 0x1p-6f ? small : normal;
        codes[i] = (unsigned char)((f32_bits(q) >> 24 & 0x80) | magnitude);
    }
}
BYTES(fp8, fp8_body)

AVX2 static double errors_avx2(const float *row, size_t n, float scale)
{
    return errors_body(row, n, scale);
}

STORED_CONSTANTS(int8)
{
    (void)self;
    float top = absmax(values, n);
    return f32_bits(top < LEAST ? 1 : top / 127.0f);
}

STORED_CONSTANTS(fp8)
{
    (void)self;
    bool avx2 = __builtin_cpu_supports("avx2");
    float top = absmax(values, n), best = 1;
    double least = 0;
    for (int i = 0; top >= LEAST && i < FACTORS; i++) {
        float scale = top / 448.0f * ((float)(32 - i) / 32.0f);
        double sum = avx2 ? errors_avx2(values, n, scale) : errors_body(values, n, scale);
        sum *= (double)scale * scale;
        if (i == 0 || sum < least) {
            least = sum;
            best = scale;
        }
    }
    return f32_bits(best);
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

/* Constants as numbers: value = (code - zero) * scale + minimum. */
struct affine {
    float scale, zero, minimum;
};

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

struct bounds {
    float lo, hi;
};

INLINE struct bounds bounds_body(const float *values, size_t n)
{
    float lo[LANES], hi[LANES];
    size_t i = 0;
    for (size_t c = 0; c < LANES; c++)
        lo[c] = hi[c] = values[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t c = 0; c < LANES; c++) {
            lo[c] = values[i + c] < lo[c] ? values[i + c] : lo[c];
            hi[c] = values[i + c] > hi[c] ? values[i + c] : hi[c];
        }
    for (size_t c = 0; i < n; i++, c++) {
        lo[c] = values[i] < lo[c] ? values[i] : lo[c];
        hi[c] = values[i] > hi[c] ? values[i] : hi[c];
    }
    for (size_t c = 1; c < LANES; c++) {
        lo[0] = lo[c] < lo[0] ? lo[c] : lo[0];
        hi[0] = hi[c] > hi[0] ? hi[c] : hi[0];
    }
    return (struct bounds){__builtin_fabsf(lo[0]) < LEAST ? 0 : lo[0],
                           __builtin_fabsf(hi[0]) < LEAST ? 0 : hi[0]};
}

/* One code a byte. Clamping to integers first is the same, and the sum with the magic number
 * rounds. */
INLINE void int4_body(const float *values, size_t n, struct affine a, unsigned char *codes)
{
    float lowest = -a.zero, highest = 15 - a.zero;
    uint32_t zero = (uint32_t)a.zero;
    for (size_t i = 0; i < n; i++) {
        float q = (values[i] * 0.5f - a.minimum * 0.5f) /
                  (a.scale * 0.5f); /* no difference is too large */
        q = q < lowest ? lowest : q;
        q = q > highest ? highest : q;
        codes[i] = (unsigned char)((f32_bits(q + 0x1.8p+23f) + zero) & 15);
    }
}

AVX2 static struct bounds bounds_avx2(const float *values, size_t n)
{
    return bounds_body(values, n);
}

AVX2 static void int4_avx2(const float *values, size_t n, struct affine a, unsigned char *codes)
{
    int4_body(values, n, a, codes);
}

STORED_CONSTANTS(int4)
{
    struct bounds b =
        __builtin_cpu_supports("avx2") ? bounds_avx2(values, n) : bounds_body(values, n);
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
    unsigned char codes[STRIP];
    for (size_t at = 0, strip; at < n; at += strip) {
        strip = n - at < STRIP ? n - at : STRIP;
        memset(codes, 0, STRIP);
        if (a.scale == 0)
            memset(codes, (int)a.zero, strip);
        else
            (__builtin_cpu_supports("avx2") ? int4_avx2 : int4_body)(values + at, strip, a, codes);
        for (size_t i = 0; i < strip; i += 8) {
            uint32_t word = 0;
            for (size_t j = 0; j < 8; j++)
                word |= (uint32_t)codes[i + j] << code_shift(j);
            le_put_u32(words + (at + i) / 2, word);
        }
    }
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
