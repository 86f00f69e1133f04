/* The plan of a rank file: every tensor with its range, dtype, layout, size and place, computed
 * from the model, the recipe and (tp_size, rank) alone. tpshard writes exactly it; tprun computes
 * it again and refuses a file that says anything else. Pure: no I/O.
 */
#pragma once
#include "error.h"
#include "mem.h"
#include "partition.h"
#include "stored.h"
#include "tensor.h"

enum compress { COMPRESS_NONE = 0, COMPRESS_ZSTD = 1 };

/* Options that change what is stored. */
struct recipe {
    enum dtype dtype;           /* the arithmetic, and the values of vectors */
    uint8_t stored[ROLE_COUNT]; /* enum stored_id of the role's matrix */
};
/* Matrices of the layers as quant, the others as dtype; quant NULL: all as dtype. */
struct recipe recipe_of(enum dtype dtype, const struct stored *quant);
/* For people: "none", the format of all matrices that may be quantized, or "mixed" */
const char *recipe_quant_name(const struct recipe *recipe);

enum {
    SHARD_TENSOR_ALIGN = 256,
    SHARD_CHUNK_BYTES = 4 << 20, /* a chunk is as many whole panels as fit, at least one */
    SHARD_CHUNK_BYTES_MAX = 16 << 20,
    SHARD_HEADER_BYTES = 4096,
    SHARD_FILE_ALIGN = 4096,    /* data area and end of file, below SHARD_HUGE_FROM */
    SHARD_HUGE_ALIGN = 2 << 20, /* data area of larger files */
    SHARD_HUGE_FROM = 64 << 20,
};

struct tensor {
    enum role role;
    enum part part;
    uint32_t layer;              /* TENSOR_NO_LAYER outside the layers */
    const struct stored *stored; /* vectors are stored as f32 but hold values of this type */
    enum layout layout;
    uint64_t rows, cols;   /* the whole tensor; a vector has cols 1 */
    struct range own_rows; /* what this rank holds, of the whole */
    struct range own_cols;
    bool leaf_cut;        /* columns are cut by leaves; else they are one leaf */
    struct leaves leaves; /* of the whole tensor; what follows is 0 for a vector */
    struct range own_leaves;
    uint64_t k;                     /* packed columns: of all pieces, each padded to BLOCK_COLS */
    uint64_t row_words;             /* of a packed row, constants included */
    uint64_t panels;                /* of PANEL_ROWS rows */
    uint64_t offset, bytes;         /* in the data area, before compression; bytes may be 0 */
    uint64_t chunk_bytes;           /* of every chunk but the last */
    uint32_t first_chunk, n_chunks; /* in the file's chunk table */
};

struct rank_plan {
    struct partition partition;
    struct recipe recipe;
    uint32_t n_tensors, n_chunks;
    struct tensor *tensors;           /* in the order the forward pass touches them */
    uint64_t data_bytes;              /* raw data area, a multiple of SHARD_FILE_ALIGN */
    uint64_t table_bytes;             /* of the file's table (shard.h) */
    uint64_t data_align, data_offset; /* of the data area in the file */
    struct {                          /* of layers that are left out; else empty */
        struct range tensors, chunks, bytes;
    } unused;
    struct mem_arena arena;
};

/* Errors: TP_E_LIMIT (a panel beyond SHARD_CHUNK_BYTES_MAX), TP_E_MEMORY; then nothing to free. */
bool rank_plan_build(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                     uint64_t rank, struct rank_plan *plan, struct tp_error *err);
void rank_plan_free(struct rank_plan *plan);
/* data_bytes of a plan, without building it. The same errors. */
bool rank_plan_data_bytes(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                          uint64_t rank, uint64_t *bytes, struct tp_error *err);
/* Leave out all layers but the first n, 1 to as many as there are: the file is the same, and what
 * lies between them and the last norm is not looked at. */
void rank_plan_cut(struct rank_plan *plan, uint64_t n_layers);
/* Bytes of the data area that are used. */
static inline uint64_t rank_plan_used_bytes(const struct rank_plan *plan)
{
    return plan->data_bytes - range_count(plan->unused.bytes);
}
/* Where an offset of the data area is, in what is used of it put together. */
static inline uint64_t rank_plan_used_offset(const struct rank_plan *plan, uint64_t offset)
{
    return offset < plan->unused.bytes.begin ? offset : offset - range_count(plan->unused.bytes);
}
/* NULL where absent */
const struct tensor *rank_plan_find(const struct rank_plan *plan, enum role role, uint32_t layer,
                                    enum part part);
/* The tensor that a chunk of the file belongs to, chunk < n_chunks. */
const struct tensor *rank_plan_of_chunk(const struct rank_plan *plan, uint64_t chunk);
/* Words of a packed row of these leaves of a matrix */
uint64_t tensor_words(const struct tensor *tensor, struct range leaves);
/* Bytes of the tensor's panel */
static inline uint64_t tensor_panel_bytes(const struct tensor *tensor)
{
    return tensor->row_words * PANEL_ROWS * 4;
}
/* Bytes of a row as it is stored: a matrix's words, a vector's f32 */
static inline uint64_t tensor_row_bytes(const struct tensor *tensor)
{
    return tensor->layout == LAYOUT_VECTOR_F32 ? 4 : tensor->row_words * 4;
}
/* Bytes of the raw chunk i of a tensor (0 <= i < n_chunks) */
uint64_t tensor_chunk_bytes(const struct tensor *tensor, uint32_t i);
uint64_t rank_plan_largest_chunk(const struct rank_plan *plan); /* bytes */
/* "rank-000-of-004.tps" */
#define RANK_FILE_NAME_MAX 32
const char *rank_file_name(char buf[RANK_FILE_NAME_MAX], uint64_t rank, uint64_t tp_size);
