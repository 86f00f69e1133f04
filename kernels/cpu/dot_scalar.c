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
static inline float element(enum stored_id stored, const void *w, size_t k, size_t r, const float *zero)
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
        return (float)(((const uint32_t *)w)[k / 8 * 16 + r] >> (k % 2 * 16 + k % 8 / 2 * 4) & 15) - zero[r];
    }
}

/* acc: the sum of a piece, for 16 rows. */
static inline __attribute__((always_inline)) void piece(enum stored_id stored, const void *w, size_t blocks,
                                                        const float *x, const float *zero, float acc[PANEL_ROWS])
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
        for (size_t m = 0; m < M; m++) {                                                           \
            float acc[PANEL_ROWS];                                                                 \
            piece(stored, w, pieces.blocks, x + m * x_stride, NULL, acc);                          \
            for (size_t r = 0; r < PANEL_ROWS; r++)                                                \
                out[m * out_stride + r] = acc[r] + 0.0f;                                           \
        }                                                                                          \
    }
DOT(f32, STORED_F32)
DOT(f16, STORED_F16)
DOT(bf16, STORED_BF16)
DOT(i8, STORED_INT8)
DOT(e4m3, STORED_FP8)

/* The constants of a leaf's piece, the index-th, and what follows them. A word has two scales where there is no offset. */
static const uint32_t *constants(enum stored_offset offset, const uint32_t *w, size_t index, uint32_t word[PANEL_ROWS],
                                 float scale[PANEL_ROWS], float zero[PANEL_ROWS], float minimum[PANEL_ROWS])
{
    bool first = offset != OFFSET_NONE || index % 2 == 0;
    for (size_t r = 0; r < PANEL_ROWS; r++) {
        word[r] = first ? w[r] : word[r];
        scale[r] = f32_from_bits(offset == OFFSET_NONE && first ? word[r] << 16 : word[r] & 0xffff0000);
        zero[r] = offset == OFFSET_NONE ? 8 : offset == OFFSET_ZERO ? (float)(word[r] & 0xff) : 0;
        minimum[r] = f32_from_bits(word[r] << 16);
    }
    return first ? w + PANEL_ROWS : w;
}

static void groups(enum stored_offset offset, DOT_ARGS)
{
    for (size_t m = 0; m < M; m++) {
        const uint32_t *at = w;
        uint32_t word[PANEL_ROWS];
        float total[PANEL_ROWS] = {0}, acc[PANEL_ROWS], scale[PANEL_ROWS], zero[PANEL_ROWS], minimum[PANEL_ROWS];
        for (size_t b = 0, index = 0, n; b < pieces.blocks; b += n, index++) {
            n = piece_blocks(pieces, b);
            at = constants(offset, at, index, word, scale, zero, minimum);
            piece(STORED_INT4_G32, at, n, x + m * x_stride + b * BLOCK_COLS, zero, acc);
            at += n * BLOCK_COLS / 8 * PANEL_ROWS;
            for (size_t r = 0; r < PANEL_ROWS; r++) {
                total[r] = fma_f32(scale[r], acc[r], total[r]);
                if (offset == OFFSET_MINIMUM)
                    total[r] = fma_f32(minimum[r], sums[m * (x_stride / BLOCK_COLS) + b], total[r]);
            }
        }
        for (size_t r = 0; r < PANEL_ROWS; r++)
            out[m * out_stride + r] = total[r] + 0.0f;
    }
}

#define GROUPS(name, offset)                                                                       \
    void dot_scalar_int4_##name(DOT_ARGS)                                                          \
    {                                                                                              \
        groups(offset, w, pieces, x, x_stride, sums, M, out, out_stride);                          \
    }
GROUPS(none, OFFSET_NONE)
GROUPS(zero, OFFSET_ZERO)
GROUPS(min, OFFSET_MINIMUM)
