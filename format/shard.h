/* The rank file. All numbers little-endian; docs/format.md is normative.
 *
 *   0            header, 4096 bytes
 *   4096         table: n_tensors entries, n_chunks entries, tp_size rank-map entries
 *   ...          zeros up to data_offset
 *   data_offset  the data area: tensors at their planned offsets with zeros between (compression
 * none),                or the chunks' zstd frames one after the other; zeros up to file_bytes
 *
 * header   OFFSET SIZE
 *          0      8    magic 89 54 50 53 0d 0a 1a 0a
 *          8      4    version, 2
 *          12     4    header bytes, 4096
 *          16     16   bundle id
 *          32     4    tp_size
 *          36     4    rank
 *          40     4    n_tensors
 *          44     4    n_chunks
 *          48     8    table offset, 4096
 *          56     8    table bytes
 *          64     16   hash of the table
 *          80     8    data offset
 *          88     8    data area: bytes in the file
 *          96     8    data area: raw bytes (equal without compression)
 *          104    8    file bytes
 *          112    4    compression: 0 none, 1 zstd
 *          116    4    reserved: zero, checked
 *          120    8    data alignment: 4096 or 2097152
 *          128    3952 reserved: zero, checked
 *          4080   16   hash of bytes 0..4079
 * tensor   0      2    role            2  2  part         4  4  layer (0xffffffff: none)
 *          8      2    stored format  10  2  layout      12  2  leaf_cut  14 2 reserved, zero
 *          16     8 x 6  rows, cols, own rows begin, end, own columns begin, end
 *          64     8    k              72  8  offset      80  8  bytes
 *          88     4    first chunk    92  4  n_chunks
 *          96     16   hash: of the hashes of its chunks' raw bytes
 *          112    16   reserved, zero
 * chunk    0      16   hash of the raw bytes
 *          16     16   hash of the bytes in the file (the same without compression)
 *          32     8    offset in the data area as it is in the file
 *          40     8    bytes in the file
 *          48     8    raw bytes
 *          56     4    tensor index   60  4  reserved, zero
 * rank map 0      4    rank            4  4  reserved, zero
 *          8      8 x 6  attention leaves begin, end, MLP leaves begin, end, vocabulary panels
 * begin, end          56     8    raw bytes of the rank's data area
 */
#pragma once
#include "hash.h"
#include "io.h"
#include "rank_plan.h"
#include "version.h"

enum {
    SHARD_TENSOR_ENTRY = 128,
    SHARD_CHUNK_ENTRY = 64,
    SHARD_RANK_ENTRY = 64,
    SHARD_WINDOW_MAX = 8 << 20, /* of a zstd frame that is not a single segment */
};

struct chunk {
    struct hash128 raw_hash, file_hash;
    uint64_t file_offset; /* in the data area as it is in the file */
    uint64_t file_bytes;
};

/* What the plan does not say: identity, compression, hashes. */
struct shard_head {
    struct hash128 bundle_id;
    enum compress compress;
    struct chunk *chunks;     /* [plan->n_chunks] */
    uint64_t data_file_bytes; /* data area in the file */
};

/* Header and table as bytes [0, plan->data_offset), zeros included. Caller frees with mem_free. */
unsigned char *shard_head_write(const struct model_config *model, const struct rank_plan *plan,
                                const struct shard_head *head, struct tp_error *err);
/* Parse and check them: hashes, every field against the plan, chunks within the file, reserved
 * zero. bytes: a private copy of [0, plan->data_offset). file names the file in errors.
 * head->chunks is allocated in `arena`. Errors TP_E_SHARD_HASH, TP_E_SHARD_SIZE, TP_E_SHARD_MIXED
 * (another rank, degree), TP_E_VERSION, TP_E_SHARD. */
bool shard_head_read(const struct model_config *model, const struct rank_plan *plan,
                     const unsigned char *bytes, const char *file, uint64_t file_bytes,
                     struct mem_arena *arena, struct shard_head *head, struct tp_error *err);
/* A tensor's hash from its chunks' raw hashes */
struct hash128 shard_tensor_hash(const struct tensor *tensor, const struct chunk *chunks);

/* An open rank file: header and table checked, data mapped, nothing of the data checked yet. */
struct shard {
    char path[IO_PATH_MAX];
    int fd; /* -1 when closed */
    struct io_identity identity;
    struct io_map map;
    const unsigned char *data; /* the data area as it is in the file */
    uint64_t file_bytes;
    struct shard_head head;
    struct mem_arena arena;
};
/* bundle_id must be the file's (TP_E_SHARD_MIXED naming both). A {0} shard may be closed. */
bool shard_open(struct shard *shard, const char *dir, const struct model_config *model,
                const struct rank_plan *plan, const struct hash128 *bundle_id,
                struct tp_error *err);
void shard_close(struct shard *shard);

/* Check the file bytes of chunk c of tensor t against its hash; TP_E_SHARD_HASH names file, tensor
 * and chunk. Any thread. */
bool shard_check_chunk(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                       struct tp_error *err);
/* The same for who has hashed the file bytes. */
bool shard_compare_chunk(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                         struct hash128 hash, struct tp_error *err);
/* Check that all bytes of the data area outside chunks are zero, but for those before an unused
 * one. */
bool shard_check_padding(const struct shard *shard, const struct rank_plan *plan,
                         struct tp_error *err);
/* Raw bytes of chunk i of a tensor into out (tensor_chunk_bytes): a copy, or the decoded frame.
 * Checks the file hash first, then that a frame is one as docs/format.md has it: TP_E_SHARD_HASH
 * names file, tensor and chunk. scratch: SHARD_CHUNK_BYTES_MAX bytes, used with compression only
 * (else may be NULL); beside it zstd takes a fixed 160 KiB or so, TP_E_MEMORY where it gets
 * none. */
bool shard_read_chunk(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                      unsigned char *out, unsigned char *scratch, struct tp_error *err);

/* One zstd frame of the byte planes of raw (element: tensor_plane_bytes).
 * out has room for shard_compress_bound(n). Returns bytes written, 0 on error: TP_E_MEMORY. */
uint64_t shard_compress_bound(uint64_t n);
uint64_t shard_compress(const unsigned char *raw, uint64_t n, size_t element,
                        unsigned char *scratch, unsigned char *out, uint64_t out_size,
                        struct tp_error *err);
/* How many byte planes its chunks have: bytes of an element. */
size_t tensor_plane_bytes(const struct tensor *tensor);
