/* The dot product of docs/numerics.md section 3, as the document says it: the specification of
 * every other dot. Sixteen rows side by side, because that is how a panel lies. */
#include "fma.h"
#include "tables.h"

#ifdef TP_TEST_REORDER /* one chain: shows that the bit tests can fail; never in a product */
#define ODD even
#else
#define ODD odd
#endif

/* Element (row r, column k) of a run of blocks, widened; code - zero for int4. */
static inline float element(enum stored_id stored, const void *w, size_t k, size_t r,
                            const float *zero)
{
    switch (stored) {
    case STORED_F32:
        return ((const float *)w)[k * 16 + r];
    case STORED_F16:
        return f16_to_f32(((const uint16_t *)w)[k / 2 * 32 + r * 2 + k % 2]);
    case STORED_BF16:
        return bf16_to_f32(((const uint16_t *)w)[k / 2 * 32 + r * 2 + k % 2]);
    case STORED_INT8:
        return (float)((const int8_t *)w)[k / 4 * 64 + r * 4 + k % 4];
    case STORED_FP8:
        return e4m3_to_f32(((const uint8_t *)w)[k / 4 * 64 + r * 4 + k % 4]);
    default:
        return (float)(((const uint32_t *)w)[k / 8 * 16 + r] >> (k % 2 * 16 + k % 8 / 2 * 4) & 15) -
               zero[r];
    }
}

/* acc: the sum of a piece, for 16 rows. */
static inline __attribute__((always_inline)) void piece(enum stored_id stored, const void *w,
                                                        size_t blocks, const float *x,
                                                        const float *zero, float acc[PANEL_ROWS])
{
    memset(acc, 0, PANEL_ROWS * sizeof *acc);
    for (size_t b = 0; b < blocks; b++) {
        float even[PANEL_ROWS] = {0}, odd[PANEL_ROWS] = {0};
        for (size_t k = b * BLOCK_COLS; k < (b + 1) * BLOCK_COLS; k += 2)
            for (size_t r = 0; r < PANEL_ROWS; r++) {
                even[r] = fma_f32(element(stored, w, k, r, zero), x[k], even[r]);
                ODD[r] = fma_f32(element(stored, w, k + 1, r, zero), x[k + 1], ODD[r]);
            }
        for (size_t r = 0; r < PANEL_ROWS; r++)
            acc[r] = acc[r] + (even[r] + odd[r]);
    }
}

#define DOT(name, stored)                                                                          \
    void dot_scalar_##name(DOT_ARGS)                                                               \
    {                                                                                              \
        (void)sums;                                                                                \
        EACH_LEAF(at)                                                                              \
        for (size_t m = 0; m < M; m++) {                                                           \
            float acc[PANEL_ROWS];                                                                 \
            piece(stored, at.w, at.leaf->pieces.blocks, x + m * x_stride + at.block * BLOCK_COLS,  \
                  NULL, acc);                                                                      \
            put_leaf(&at, m *out_stride, acc);                                                     \
        }                                                                                          \
    }
DOT(f32, STORED_F32)
DOT(f16, STORED_F16)
DOT(bf16, STORED_BF16)
DOT(i8, STORED_INT8)
DOT(e4m3, STORED_FP8)

static void piece_int4(enum stored_offset offset, const uint32_t *w, size_t blocks, const float *x,
                       size_t x_stride, const float *zero, size_t M, float *acc)
{
    (void)offset;
    for (size_t m = 0; m < M; m++)
        piece(STORED_INT4_G32, w, blocks, x + m * x_stride, zero, acc + m * PANEL_ROWS);
}

#include "groups.inc.h"
GROUPS(dot_scalar_int4_none, OFFSET_NONE, piece_int4)
GROUPS(dot_scalar_int4_zero, OFFSET_ZERO, piece_int4)
GROUPS(dot_scalar_int4_min, OFFSET_MINIMUM, piece_int4)
