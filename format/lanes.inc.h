/* One text of a struct lanes, LANES_SET, compiled with each instruction set's flags. Loops that the
 * compiler makes wide: of sums there are 16 chains by definition, the largest of integers is the
 * same in any order. */
#include "lanes.h"

#include "dtype.h"
#include "le.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

/* ---- element types ---- */

static void set_widen_bf16(const unsigned char *bytes, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = bf16_to_f32(le_u16(bytes + 2 * i));
}

static void set_widen_f16(const unsigned char *bytes, size_t n, float *out)
{
    size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(bytes + 2 * i))));
#endif
    for (; i < n; i++)
        out[i] = f16_to_f32(le_u16(bytes + 2 * i));
}

static bool set_finite16(const unsigned char *bytes, size_t n, uint16_t exponent)
{
    uint16_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (uint16_t)((le_u16(bytes + 2 * i) & exponent) == exponent);
    return !bad;
}

static bool set_finite32(const unsigned char *bytes, size_t n, uint32_t exponent)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (le_u32(bytes + 4 * i) & exponent) == exponent;
    return !bad;
}

static bool set_narrow_bf16(const float *values, size_t n, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        le_put_u16(out + 2 * i, f32_to_bf16(values[i]));
    return set_finite16(out, n, 0x7f80);
}

static bool set_narrow_f16(const float *values, size_t n, unsigned char *out)
{
    size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((void *)(out + 2 * i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(values + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
    for (; i < n; i++)
        le_put_u16(out + 2 * i, f32_to_f16(values[i]));
    return set_finite16(out, n, 0x7c00);
}

/* ---- the largest, the least: as integers, which order as the numbers do ---- */

static float set_absmax(const float *values, size_t n)
{
    int32_t top = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t magnitude = (int32_t)(f32_bits(values[i]) & 0x7fffffff);
        top = magnitude > top ? magnitude : top;
    }
    return f32_from_bits((uint32_t)top);
}

/* Its own inverse. */
static inline int32_t ordered(uint32_t bits)
{
    int32_t i = (int32_t)bits;
    return i ^ (i >> 31 & 0x7fffffff);
}

static struct bounds set_bounds(const float *values, size_t n)
{
    int32_t lo = INT32_MAX, hi = INT32_MIN;
    for (size_t i = 0; i < n; i++) {
        int32_t v = ordered(f32_bits(values[i]));
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    return (struct bounds){f32_from_bits((uint32_t)ordered((uint32_t)lo)),
                           f32_from_bits((uint32_t)ordered((uint32_t)hi))};
}

/* ---- codes of 8 bits ---- */

enum { STRIP = 128 };

/* Rounded to integers, which lie in the low bits. In loops of their own: of one the compiler makes
 * branches for what is clamped. */
static inline __attribute__((always_inline)) void
round_strip(float q[STRIP], size_t n, float lowest, float highest, int32_t codes[STRIP])
{
    for (size_t i = 0; i < n; i++) {
        q[i] = q[i] < lowest ? lowest : q[i];
        q[i] = q[i] > highest ? highest : q[i];
    }
    for (size_t i = 0; i < n; i++)
        codes[i] = (int32_t)f32_bits(q[i] + 0x1.8p+23f);
}

static inline __attribute__((always_inline)) void int8_strip(const float *values, size_t n,
                                                             float scale, unsigned char *codes)
{
    float q[STRIP];
    int32_t rounded[STRIP];
    for (size_t i = 0; i < n; i++)
        q[i] = values[i] / scale;
    round_strip(q, n, -127, 127, rounded);
    for (size_t i = 0; i < n; i++)
        codes[i] = (unsigned char)rounded[i];
}

static void set_int8(const float *values, size_t n, float scale, unsigned char *codes)
{
    size_t at = 0;
    for (; at + STRIP <= n; at += STRIP)
        int8_strip(values + at, STRIP, scale, codes + at);
    int8_strip(values + at, n - at, scale, codes + at);
}

/* The E4M3 number nearest to q, ties to even, saturated at 448. */
static inline __attribute__((always_inline)) float e4m3_nearest(float q)
{
    const float magic = 0x1.8p+14f; /* its sum's last place is 2^-9, the subnormals' step */
    uint32_t u = f32_bits(q);
    float normal = f32_from_bits((u + 0x7ffff + (u >> 20 & 1)) & 0xfff00000);
    float small = (q + magic) - magic;
    float v = __builtin_fabsf(q) < 0x1p-6f ? small : normal;
    v = v > 448.0f ? 448.0f : v;
    return v < -448.0f ? -448.0f : v;
}

static void set_fp8(const float *values, size_t n, float scale, unsigned char *codes)
{
    for (size_t i = 0; i < n; i++) {
        float q = values[i] / scale, v = e4m3_nearest(q);
        uint32_t normal = (f32_bits(v) >> 20 & 0x7ff) - (120 << 3);
        uint32_t small = f32_bits(__builtin_fabsf(v) + 0x1p+14f) & 0x7f; /* counts steps of 2^-9 */
        uint32_t magnitude = __builtin_fabsf(v) < 0x1p-6f ? small : normal;
        codes[i] = (unsigned char)((f32_bits(q) >> 24 & 0x80) | magnitude);
    }
}

enum { CHAINS = 16 };

static inline __attribute__((always_inline)) double square_error(float x, float scale)
{
    float q = x / scale;
    double e = (double)(q - e4m3_nearest(q)); /* the difference is exact */
    return e * e;
}

static double set_fp8_errors(const float *values, size_t n, float scale)
{
    double chain[CHAINS] = {0};
    size_t i = 0;
    for (; i + CHAINS <= n; i += CHAINS)
        for (size_t c = 0; c < CHAINS; c++)
            chain[c] += square_error(values[i + c], scale);
    for (size_t c = 0; i < n; i++, c++)
        chain[c] += square_error(values[i], scale);
    for (size_t half = CHAINS / 2; half; half /= 2)
        for (size_t c = 0; c < half; c++)
            chain[c] += chain[c + half];
    return chain[0];
}

/* ---- codes of 4 bits ---- */

/* One code a byte. Clamping to integers first is the same, and the sum with the magic number
 * rounds. */
static inline __attribute__((always_inline)) void int4_codes(const float *values, size_t n,
                                                             struct affine a, unsigned char *codes)
{
    float q[STRIP];
    int32_t rounded[STRIP], zero = (int32_t)a.zero;
    for (size_t i = 0; i < n; i++)
        q[i] = (values[i] * 0.5f - a.minimum * 0.5f) /
               (a.scale * 0.5f); /* no difference is too large */
    round_strip(q, n, -a.zero, 15 - a.zero, rounded);
    for (size_t i = 0; i < n; i++)
        codes[i] = (unsigned char)((rounded[i] + zero) & 15);
}

/* Of eight neighbouring columns an even one has four bits in the low half of the word, an odd one
 * in the high half. */
static inline uint32_t nibbles(uint64_t codes)
{
    uint64_t even = codes & 0x00ff00ff00ff00ff, odd = codes >> 8 & 0x00ff00ff00ff00ff;
    even |= even >> 12;
    odd |= odd >> 12;
    return (uint32_t)((even & 0xff) | (even >> 24 & 0xff00) | (odd & 0xff) << 16 |
                      (odd >> 8 & 0xff000000));
}

/* Words of n codes, a multiple of 8. */
static inline void put_nibbles(const unsigned char *codes, size_t n, unsigned char *words)
{
    size_t i = 0;
#ifdef __AVX2__
    const __m256i even_odd =
        _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0f0d0b090e0c0a08, 0x0705030106040200));
    for (; i + 32 <= n; i += 32) {
        __m256i c = _mm256_loadu_si256((const void *)(codes + i)), halves;
        halves = _mm256_maddubs_epi16(_mm256_shuffle_epi8(c, even_odd), _mm256_set1_epi16(0x1001));
        halves = _mm256_packus_epi16(halves, halves);
        _mm_storeu_si128((void *)(words + i / 2),
                         _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 8)));
    }
#endif
    for (; i < n; i += 8)
        le_put_u32(words + i / 2, nibbles(le_u64(codes + i)));
}

static void set_int4(const float *values, size_t n, struct affine a, unsigned char *words)
{
    unsigned char codes[STRIP];
    for (size_t at = 0, strip; at < n; at += strip) {
        strip = n - at < STRIP ? n - at : STRIP;
        if (strip == STRIP)
            int4_codes(values + at, STRIP, a, codes);
        else {
            memset(codes, 0, STRIP);
            int4_codes(values + at, strip, a, codes);
        }
        put_nibbles(codes, (strip + 7) / 8 * 8, words + at / 2);
    }
}

const struct lanes LANES_SET = {
    .name = LANES_NAME,
    .widen_bf16 = set_widen_bf16,
    .widen_f16 = set_widen_f16,
    .narrow_bf16 = set_narrow_bf16,
    .narrow_f16 = set_narrow_f16,
    .finite16 = set_finite16,
    .finite32 = set_finite32,
    .absmax = set_absmax,
    .bounds = set_bounds,
    .int8 = set_int8,
    .fp8 = set_fp8,
    .fp8_errors = set_fp8_errors,
    .int4 = set_int4,
};
