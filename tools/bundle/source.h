/* Where the values of a bundle come from: a checkpoint (converted, quantized) or another bundle (as
 * they are). Convert and reshard write from one, export, verify --against and diff read from one.
 *
 * A source speaks of whole tensors, in the order and by the index of every rank plan of its model
 * and recipe: rows and leaves are global, uncut.
 */
#pragma once
#include "checked.h"
#include "hash.h"
#include "json.h"
#include "rank_plan.h"

struct source {
    const struct model_config *model;
    struct recipe recipe;
    const struct rank_plan *whole; /* the plan at TP=1: tensors by index */
    bool whole_chunks;             /* read_rows is best asked for many rows at once */
    uint64_t bytes;                /* of its values where they are, read once */
    uint64_t space_bytes;          /* of memory that read_rows needs, a multiple of 64 */

    /* Rows [row, row + n_rows) of tensor `index` into out, row i at out + i * stride bytes: of a
     * matrix the words of these leaves, as they are stored side by side (stored.h); of a vector
     * f32, leaves ignored. space: the calling thread's own. Errors name file and tensor. */
    bool (*read_rows)(const struct source *self, uint32_t index, uint64_t row, uint64_t n_rows,
                      struct range leaves, unsigned char *out, size_t stride, unsigned char *space,
                      struct tp_error *err);

    /* Rows of a matrix from `row` on where these leaves' words lie as they are stored, *stride
     * bytes from row to row, any alignment: read_rows would copy them. NULL where it would do more;
     * the function is NULL where it always does. */
    const unsigned char *(*rows_in_place)(const struct source *self, uint32_t index, uint64_t row,
                                          struct range leaves, size_t *stride);

    /* Work that must come before rows of tensor `index` are read, in independent parts of so many
     * rows (0: none), each done once, any thread. For a checkpoint: *digest of that part of the
     * stored bytes (known, from a journal: it must be that, TP_E_CHANGED), and the scales of
     * quantized rows (rows of a scale need the preparation of its weight, the tensor before it).
     * Another bundle needs none. */
    uint64_t (*piece_rows)(const struct source *self, uint32_t index);
    bool (*prepare)(const struct source *self, uint32_t index, uint32_t piece, bool known,
                    struct hash128 *digest, struct tp_error *err);

    /* The manifest's "source" object (a new reference): where the values come from. digests[index]
     * is the hash of the digests of tensor index's pieces; tensors without pieces have none. */
    json_t *(*describe)(const struct source *self, const struct hash128 *digests,
                        struct tp_error *err);

    /* The inputs are still the files that were opened (TP_E_CHANGED names the one that is not). */
    bool (*unchanged)(const struct source *self, struct tp_error *err);
    /* Every byte of the inputs is what it was (TP_E_CHANGED names the file). NULL where prepare
     * sees to it. */
    bool (*check)(const struct source *self, int threads, struct tp_error *err);
    void *state;
};

/* How many parts tensor `index` is prepared in. */
static inline uint32_t source_pieces(const struct source *source, uint32_t index)
{
    uint64_t rows = source->piece_rows(source, index);
    return rows ? (uint32_t)div_ceil(source->whole->tensors[index].rows, rows) : 0;
}
