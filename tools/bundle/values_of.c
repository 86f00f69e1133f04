#include "values_of.h"

void values_of_row(const struct tensor *tensor, const unsigned char *row, const uint32_t *scale,
                   bool to_odd, float *out)
{
    const struct stored *stored = tensor->stored;
    if (tensor->layout == LAYOUT_VECTOR_F32) {
        memcpy(out, row, sizeof *out);
        return;
    }
    for (uint64_t i = tensor->own_leaves.begin; i < tensor->own_leaves.end; i++) {
        struct range leaf = leaf_columns(&tensor->leaves, i);
        struct piece piece = {.index = 0};
        while (stored_next_piece(stored, leaf, &piece)) {
            uint32_t constants = stored->group ? stored_get_constants(stored, row, &piece)
                                 : scale       ? *scale
                                               : f32_bits(1);
            stored->decode(stored, row + 4 * piece.word, range_count(piece.cols), constants, to_odd,
                           out + piece.cols.begin - tensor->own_cols.begin);
        }
        row += 4 * stored_words(stored, leaf);
    }
}
