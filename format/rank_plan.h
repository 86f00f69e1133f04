/* The plan of a rank file: every tensor with its range, dtype, layout, size and place, computed from the
 * model, the recipe and (tp_size, rank) alone. tpshard writes exactly it; tprun computes it again and
 * refuses a file that says anything else. Pure: no I/O.
 */
#pragma once
#include "error.h"
#include "mem.h"
#include "partition.h"
#include "tensor.h"

enum quant { QUANT_NONE = 0, QUANT_INT8 = 1, QUANT_FP8 = 2 };
enum target { TARGET_CPU = 1 };
enum compress { COMPRESS_NONE = 0, COMPRESS_ZSTD = 1 };

/* Options that change what is stored. */
struct recipe {
    enum dtype dtype; /* f32, f16, bf16: storage of unquantized matrices, and the arithmetic */
    enum quant quant;
    enum target target;
};
const char *quant_name(enum quant quant);                       /* "none", "int8", "fp8" */
bool quant_from_name(const char *name, enum quant *out);

enum {
    SHARD_TENSOR_ALIGN = 256,
    SHARD_CHUNK_BYTES = 4 << 20,        /* a chunk is as many whole panels as fit, at least one */
    SHARD_CHUNK_BYTES_MAX = 16 << 20,
    SHARD_HEADER_BYTES = 4096,
    SHARD_FILE_ALIGN = 4096,            /* data area and end of file, below SHARD_HUGE_FROM */
    SHARD_HUGE_ALIGN = 2 << 20,         /* data area of larger files */
    SHARD_HUGE_FROM = 64 << 20,
};

struct tensor {
    enum role role;
    enum part part;
    uint32_t layer;           /* TENSOR_NO_LAYER outside the layers */
    enum dtype dtype;         /* of the values: vectors are stored as f32 but hold values of this type */
    enum layout layout;
    uint64_t rows, cols;      /* the whole tensor; a vector has cols 1 */
    struct range own_rows;    /* what this rank holds, of the whole */
    struct range own_cols;
    bool leaf_cut;            /* columns are cut by leaves, each padded to 32 inside the packed row */
    uint64_t k;               /* packed columns (multiple of 32); 0 for a vector */
    uint64_t panels;          /* of 16 rows; 0 for a vector */
    uint64_t offset, bytes;   /* in the data area, before compression; bytes may be 0 */
    uint64_t chunk_bytes;     /* of every chunk but the last */
    uint32_t first_chunk, n_chunks; /* in the file's chunk table */
};

struct rank_plan {
    struct partition partition;
    struct recipe recipe;
    uint32_t n_tensors, n_chunks;
    struct tensor *tensors;   /* in the order the forward pass touches them */
    uint64_t data_bytes;      /* raw data area, a multiple of SHARD_FILE_ALIGN */
    uint64_t table_bytes;     /* of the file's table (shard.h) */
    uint64_t data_align, data_offset; /* of the data area in the file */
    struct mem_arena arena;
};

/* Errors: TP_E_LIMIT (a panel beyond SHARD_CHUNK_BYTES_MAX), TP_E_MEMORY; then nothing to free. */
bool rank_plan_build(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                     uint64_t rank, struct rank_plan *plan, struct tp_error *err);
void rank_plan_free(struct rank_plan *plan);
/* data_bytes of a plan, without building it. The same errors. */
bool rank_plan_data_bytes(const struct model_config *model, struct recipe recipe, uint64_t tp_size,
                          uint64_t rank, uint64_t *bytes, struct tp_error *err);
/* NULL where absent */
const struct tensor *rank_plan_find(const struct rank_plan *plan, enum role role, uint32_t layer,
                                    enum part part);
/* Bytes of the raw chunk i of a tensor (0 <= i < n_chunks) */
uint64_t tensor_chunk_bytes(const struct tensor *tensor, uint32_t i);
uint64_t rank_plan_largest_chunk(const struct rank_plan *plan); /* bytes */
/* "rank-000-of-004.tps" */
#define RANK_FILE_NAME_MAX 32
const char *rank_file_name(char buf[RANK_FILE_NAME_MAX], uint64_t rank, uint64_t tp_size);
