/* The dot product of docs/numerics.md section 3, as the document says it: the specification of
 * every other dot. Sixteen rows side by side, because that is how a panel lies. */
#include "fma.h"
#include "tables.h"

#ifdef TP_TEST_REORDER /* one chain: shows that the bit tests can fail; never in a product */
#define ODD even
#else
#define ODD odd
#endif

/* Element (row r, column k) of a panel, widened. */
static inline float element(enum dtype dtype, const void *w, size_t k, size_t r)
{
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)w)[k * 16 + r];
    case DTYPE_F16:
        return f16_to_f32(((const uint16_t *)w)[k / 2 * 32 + r * 2 + k % 2]);
    case DTYPE_BF16:
        return bf16_to_f32(((const uint16_t *)w)[k / 2 * 32 + r * 2 + k % 2]);
    case DTYPE_I8:
        return (float)((const int8_t *)w)[k / 4 * 64 + r * 4 + k % 4];
    default: /* DTYPE_E4M3 */
        return e4m3_to_f32(((const uint8_t *)w)[k / 4 * 64 + r * 4 + k % 4]);
    }
}

static inline __attribute__((always_inline)) void dot(enum dtype dtype, DOT_ARGS)
{
    for (size_t m = 0; m < M; m++) {
        float acc[PANEL_ROWS] = {0};
        for (size_t b = 0; b < blocks; b++) {
            float even[PANEL_ROWS] = {0}, odd[PANEL_ROWS] = {0};
            for (size_t k = b * BLOCK_COLS; k < (b + 1) * BLOCK_COLS; k += 2)
                for (size_t r = 0; r < PANEL_ROWS; r++) {
                    even[r] = fma_f32(element(dtype, w, k, r), x[m * x_stride + k], even[r]);
                    ODD[r] = fma_f32(element(dtype, w, k + 1, r), x[m * x_stride + k + 1], ODD[r]);
                }
            for (size_t r = 0; r < PANEL_ROWS; r++)
                acc[r] = acc[r] + (even[r] + odd[r]);
        }
        for (size_t r = 0; r < PANEL_ROWS; r++)
            out[m * out_stride + r] = acc[r] + 0.0f;
    }
}

#define DOT(name, dtype)                                                                           \
    void dot_scalar_##name(DOT_ARGS)                                                               \
    {                                                                                              \
        dot(dtype, w, blocks, x, x_stride, M, out, out_stride);                                    \
    }
DOT(f32, DTYPE_F32)
DOT(f16, DTYPE_F16)
DOT(bf16, DTYPE_BF16)
DOT(i8, DTYPE_I8)
DOT(e4m3, DTYPE_E4M3)
