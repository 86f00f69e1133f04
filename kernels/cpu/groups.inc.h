/* Dots over groups of 4-bit codes, compiled for each instruction set. What includes it has the
 * function of a piece: acc[m][r] = the sum of x row m over a piece's blocks, each code less
 * zero[r]; docs/numerics.md section 3.
 */

enum { GROUP_ROWS = 96 }; /* rows of x at once */

typedef void piece_fn(enum stored_offset offset, const uint32_t *w, size_t blocks, const float *x,
                      size_t x_stride, const float *zero, size_t M, float *acc);

/* One leaf. */
static inline __attribute__((always_inline)) void
rows_over_groups(enum stored_offset offset, piece_fn *sum_piece, const struct leaf_at *at,
                 const float *x, size_t x_stride, const float *sums, size_t M, size_t out_stride,
                 struct follower *follower)
{
    _Alignas(64) float acc[GROUP_ROWS * PANEL_ROWS], scale[PANEL_ROWS], zero[PANEL_ROWS],
        minimum[PANEL_ROWS];
    for (size_t m = 0; m < M; m++)
        memset(at->top + m * out_stride, 0, PANEL_ROWS * sizeof *at->top);
    for (struct piece_at p = before_pieces(at->w); next_piece(offset, at->leaf->pieces, &p);) {
        const size_t block = at->block + p.block;
        constants_of(offset, p.word, p.second, scale, zero, minimum);
        sum_piece(offset, p.codes, p.blocks, x + block * BLOCK_COLS, x_stride, zero, M, acc);
        fold_piece(offset, scale, minimum, acc, M, offset == OFFSET_MINIMUM ? sums + block : NULL,
                   x_stride / BLOCK_COLS, at->top, out_stride);
        follow(follower, p.codes + p.blocks * (BLOCK_COLS / 8 * PANEL_ROWS));
    }
    for (size_t m = 0; m < M; m++)
        put_leaf(at, m * out_stride, at->top + m * out_stride);
}

#define GROUPS(name, offset, piece)                                                                \
    void name(DOT_ARGS)                                                                            \
    {                                                                                              \
        struct follower *follower = M == 1 ? leaves->follower : NULL;                              \
        for (size_t n; M; M -= n) {                                                                \
            n = M < GROUP_ROWS ? M : GROUP_ROWS;                                                   \
            EACH_LEAF(at)                                                                          \
            rows_over_groups(offset, piece, &at, x, x_stride, sums, n, out_stride, follower);      \
            x += n * x_stride;                                                                     \
            sums += (offset) == OFFSET_MINIMUM ? n * (x_stride / BLOCK_COLS) : 0;                  \
            out += n * out_stride;                                                                 \
        }                                                                                          \
    }
