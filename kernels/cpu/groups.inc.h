/* Dots over groups of 4-bit codes, compiled for each instruction set. What includes it has the
 * function of a piece: acc[m][r] = the sum of x row m over a piece's blocks, each code less
 * zero[r]; docs/numerics.md section 3.
 */

enum { GROUP_ROWS = 96 }; /* rows of x at once */

typedef void piece_fn(enum stored_offset offset, const uint32_t *w, size_t blocks, const float *x,
                      size_t x_stride, const float *zero, size_t M, float *acc);

static inline __attribute__((always_inline)) void rows_over_groups(enum stored_offset offset,
                                                                   piece_fn *sum_piece, DOT_ARGS)
{
    _Alignas(64) float acc[GROUP_ROWS * PANEL_ROWS], scale[PANEL_ROWS], zero[PANEL_ROWS],
        minimum[PANEL_ROWS];
    const uint32_t *at = w, *word = w;
    for (size_t m = 0; m < M; m++)
        memset(out + m * out_stride, 0, PANEL_ROWS * sizeof *out);
    for (size_t b = 0, index = 0, n; b < pieces.blocks; b += n, index++) {
        bool second = offset == OFFSET_NONE && index % 2;
        word = second ? word : at;
        at += second ? 0 : PANEL_ROWS;
        n = piece_blocks(pieces, b);
        constants_of(offset, word, second, scale, zero, minimum);
        sum_piece(offset, at, n, x + b * BLOCK_COLS, x_stride, zero, M, acc);
        at += n * BLOCK_COLS / 8 * PANEL_ROWS;
        fold_piece(offset, scale, minimum, acc, M, offset == OFFSET_MINIMUM ? sums + b : NULL,
                   x_stride / BLOCK_COLS, out, out_stride);
    }
    for (size_t m = 0; m < M; m++)
        for (size_t r = 0; r < PANEL_ROWS; r++)
            out[m * out_stride + r] = out[m * out_stride + r] + 0.0f;
}

#define GROUPS(name, offset, piece)                                                                \
    void name(DOT_ARGS)                                                                            \
    {                                                                                              \
        for (size_t m = 0, n; m < M; m += n) {                                                     \
            n = M - m < GROUP_ROWS ? M - m : GROUP_ROWS;                                           \
            rows_over_groups(offset, piece, w, pieces, x + m * x_stride, x_stride,                 \
                             sums + m * (x_stride / BLOCK_COLS), n, out + m * out_stride,          \
                             out_stride);                                                          \
        }                                                                                          \
    }
