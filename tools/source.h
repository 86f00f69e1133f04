/* Where the values of a bundle come from: a checkpoint (converted, quantized) or another bundle (as they
 * are). Convert and reshard write from one, export, verify --against and diff read from one.
 *
 * A source speaks of whole tensors, in the order and by the index of every rank plan of its model and
 * recipe: rows and columns are global, uncut, unpadded.
 */
#pragma once
#include "hash.h"
#include "rank_plan.h"

struct source {
    const struct model_config *model;
    struct recipe recipe;
    const struct rank_plan *whole; /* the plan at TP=1: tensors by index */
    bool whole_chunks;             /* read_rows is best asked for many rows at once */

    /* Values [row, row + n_rows) x [cols.begin, cols.end) of tensor `index` into out, row i at out + i *
     * stride bytes: elements of tensor->dtype for a matrix, f32 for a vector (columns ignored).
     * Any thread. Errors name file and tensor. */
    bool (*read_rows)(const struct source *self, uint32_t index, uint64_t row, uint64_t n_rows,
                      struct range cols, unsigned char *out, size_t stride, struct tp_error *err);

    /* Work that must come before rows of tensor `index` are read: `pieces` independent parts, each done once,
     * any thread. For a checkpoint: digest of the stored bytes, and scales of quantized rows. */
    uint32_t (*prepare_pieces)(const struct source *self, uint32_t index);
    bool (*prepare)(const struct source *self, uint32_t index, uint32_t piece, struct tp_error *err);

    /* The inputs are still the files that were opened (TP_E_CHANGED names the one that is not). */
    bool (*unchanged)(const struct source *self, struct tp_error *err);
    void *state;
};
