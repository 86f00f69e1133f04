/* Plain C that the compiler vectorizes; 16 lanes by definition, so that any width gives the same
 * bits. Nothing here depends on the floating-point mode: subnormal f32 values cannot reach a code
 * or a choice. */
#pragma GCC optimize("O3")
#include "quant.h"

#include "error.h"

enum { LANES = 16, FACTORS = 9 };

/* Below this a row counts as zero: its scale is 1 and so all its codes are 0. Above, every scale is
 * far from subnormal, and a subnormal element is a zero code. */
static const float LEAST_ABSMAX = 0x1p-100f;

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

INLINE void codes_i8_body(const float *row, size_t n, float scale, uint8_t *codes)
{
    const float magic = 0x1.8p+23f;
    for (size_t i = 0; i < n; i++) {
        float q = row[i] / scale;
        q = q > 127.0f ? 127.0f : q;
        q = q < -127.0f ? -127.0f : q;
        codes[i] = (uint8_t)f32_bits(q + magic);
    }
}

INLINE void codes_e4m3_body(const float *row, size_t n, float scale, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) {
        float q = row[i] / scale, v = e4m3_nearest(q);
        uint32_t normal = (f32_bits(v) >> 20 & 0x7ff) - (120 << 3);
        uint32_t small = f32_bits(__builtin_fabsf(v) + 0x1p+14f) & 0x7f; /* counts steps of 2^-9 */
        uint32_t magnitude = __builtin_fabsf(v) < 0x1p-6f ? small : normal;
        codes[i] = (uint8_t)((f32_bits(q) >> 24 & 0x80) | magnitude);
    }
}

/* The same three with wider registers where there are any. */
#define AVX2 __attribute__((target("avx2")))
AVX2 static double errors_avx2(const float *row, size_t n, float scale)
{
    return errors_body(row, n, scale);
}

AVX2 static void codes_i8_avx2(const float *row, size_t n, float scale, uint8_t *codes)
{
    codes_i8_body(row, n, scale, codes);
}

AVX2 static void codes_e4m3_avx2(const float *row, size_t n, float scale, uint8_t *codes)
{
    codes_e4m3_body(row, n, scale, codes);
}

float quant_scale(enum dtype dtype, const float *row, size_t n)
{
    tp_assert(dtype == DTYPE_I8 || dtype == DTYPE_E4M3);
    bool avx2 = __builtin_cpu_supports("avx2");
    float top = absmax(row, n), best = 1;
    if (top < LEAST_ABSMAX)
        return 1;
    if (dtype == DTYPE_I8)
        return top / 127.0f;
    double least = 0;
    for (int i = 0; i < FACTORS; i++) {
        float scale = top / 448.0f * ((float)(32 - i) / 32.0f);
        double sum = avx2 ? errors_avx2(row, n, scale) : errors_body(row, n, scale);
        sum *= (double)scale * scale;
        if (i == 0 || sum < least) {
            least = sum;
            best = scale;
        }
    }
    return best;
}

void quant_codes(enum dtype dtype, const float *row, size_t n, float scale, uint8_t *codes)
{
    tp_assert(dtype == DTYPE_I8 || dtype == DTYPE_E4M3);
    bool avx2 = __builtin_cpu_supports("avx2");
    if (dtype == DTYPE_I8)
        (avx2 ? codes_i8_avx2 : codes_i8_body)(row, n, scale, codes);
    else
        (avx2 ? codes_e4m3_avx2 : codes_e4m3_body)(row, n, scale, codes);
}

float quant_value(enum dtype dtype, uint8_t code)
{
    tp_assert(dtype == DTYPE_I8 || dtype == DTYPE_E4M3);
    return dtype == DTYPE_I8 ? (float)(int8_t)code : e4m3_to_f32(code);
}
