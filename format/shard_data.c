/* The data area: open, check, decode. */
#include "shard.h"

#include "checked.h"
#include "le.h"
#include <stdio.h>
#include <zstd.h>
#include <zstd_errors.h>

void shard_close(struct shard *shard)
{
    io_unmap(&shard->map);
    if (shard->path[0])
        io_close(&shard->fd, shard->path, NULL);
    mem_arena_free(&shard->arena);
    *shard = (struct shard){.fd = -1};
}

/* Another bundle's rank file is told apart before its sizes are: they may differ for that
 * reason. */
static bool same_bundle(const struct hash128 *wanted, const unsigned char *header, const char *path,
                        struct tp_error *err)
{
    struct hash128 found;
    char a[33], b[33];
    memcpy(found.bytes, header + 16, 16);
    if (hash_equal(found, *wanted) ||
        !hash_equal(*(const struct hash128 *)(const void *)(header + SHARD_HEADER_BYTES - 16),
                    hash_bytes(header, SHARD_HEADER_BYTES - 16)))
        return true; /* a damaged header is for shard_head_read to name */
    hash_to_hex(found, a);
    hash_to_hex(*wanted, b);
    return tp_fail(err, TP_E_SHARD_MIXED, "%s: header: file is of bundle %s, the manifest of %s",
                   path, a, b);
}

static bool read_head(struct shard *shard, const struct model_config *model,
                      const struct rank_plan *plan, const struct hash128 *bundle_id,
                      struct tp_error *err)
{
    if (shard->file_bytes < SHARD_HEADER_BYTES)
        return tp_fail(err, TP_E_SHARD_SIZE, "%s: %llu bytes, the header alone has %d", shard->path,
                       (unsigned long long)shard->file_bytes, SHARD_HEADER_BYTES);
    unsigned char *bytes = mem_alloc(plan->data_offset, err);
    if (!bytes)
        return false;
    bool ok = io_read_at(shard->fd, shard->path, bytes, SHARD_HEADER_BYTES, 0, err) &&
              same_bundle(bundle_id, bytes, shard->path, err);
    if (ok && shard->file_bytes < plan->data_offset) {
        /* name a damaged or foreign header first: it explains the size */
        struct mem_arena arena = {0};
        struct shard_head head;
        ok =
            shard_head_read(model, plan, bytes, shard->path, shard->file_bytes, &arena, &head, err);
        mem_arena_free(&arena);
        ok = ok && tp_fail(err, TP_E_SHARD_SIZE, "%s: %llu bytes, cut short", shard->path,
                           (unsigned long long)shard->file_bytes);
    }
    ok = ok &&
         io_read_at(shard->fd, shard->path, bytes + SHARD_HEADER_BYTES,
                    plan->data_offset - SHARD_HEADER_BYTES, SHARD_HEADER_BYTES, err) &&
         shard_head_read(model, plan, bytes, shard->path, shard->file_bytes, &shard->arena,
                         &shard->head, err);
    mem_free(bytes);
    return ok;
}

bool shard_open(struct shard *shard, const char *dir, const struct model_config *model,
                const struct rank_plan *plan, const struct hash128 *bundle_id, struct tp_error *err)
{
    char name[RANK_FILE_NAME_MAX];
    *shard = (struct shard){.fd = -1};
    rank_file_name(name, plan->partition.rank, plan->partition.tp_size);
    if (!io_join(shard->path, dir, name, err))
        return false;
    shard->fd = io_open_read(shard->path, &shard->identity, err);
    shard->file_bytes = shard->identity.size;
    if (shard->fd < 0 || !read_head(shard, model, plan, bundle_id, err) ||
        !io_map(shard->fd, shard->path, shard->file_bytes, &shard->map, err)) {
        shard_close(shard);
        return false;
    }
    io_map_huge(&shard->map);
    shard->data = shard->map.data + plan->data_offset;
    return true;
}

static bool chunk_fail(const struct shard *shard, const struct tensor *t, uint32_t i,
                       const char *what, struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    return tp_fail(err, TP_E_SHARD_HASH, "%s: tensor \"%s\": chunk %u of %u: %s", shard->path,
                   tensor_name(name, t->role, t->layer, t->part), i, t->n_chunks, what);
}

bool shard_compare_chunk(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                         struct hash128 hash, struct tp_error *err)
{
    return hash_equal(hash, shard->head.chunks[tensor->first_chunk + i].file_hash) ||
           chunk_fail(shard, tensor, i, "hash does not match, the file is damaged", err);
}

bool shard_check_chunk(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                       struct tp_error *err)
{
    const struct chunk *chunk = &shard->head.chunks[tensor->first_chunk + i];
    return shard_compare_chunk(
        shard, tensor, i, hash_bytes(shard->data + chunk->file_offset, chunk->file_bytes), err);
}

static bool all_zero(const unsigned char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

bool shard_check_padding(const struct shard *shard, const struct rank_plan *plan,
                         struct tp_error *err)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < plan->n_chunks; i++) {
        const struct chunk *chunk = &shard->head.chunks[i];
        if (!range_has(plan->unused.chunks, i) &&
            !all_zero(shard->data + at, chunk->file_offset - at))
            break;
        at = chunk->file_offset + chunk->file_bytes;
    }
    if (!all_zero(shard->data + at, shard->head.data_file_bytes - at))
        return tp_fail(err, TP_E_SHARD_HASH, "%s: padding at %llu is not zero, the file is damaged",
                       shard->path, (unsigned long long)(plan->data_offset + at));
    return true;
}

/* ---- compression ---- */

size_t tensor_plane_bytes(const struct tensor *tensor)
{
    return tensor->layout == LAYOUT_VECTOR_F32 ? 4 : stored_plane_bytes(tensor->stored);
}

uint64_t shard_compress_bound(uint64_t n)
{
    return ZSTD_compressBound(n);
}

uint64_t shard_compress(const unsigned char *raw, uint64_t n, size_t element,
                        unsigned char *scratch, unsigned char *out, uint64_t out_size,
                        struct tp_error *err)
{
    uint64_t count = n / element;
    for (size_t plane = 0; plane < element; plane++)
        for (uint64_t i = 0; i < count; i++)
            scratch[plane * count + i] = raw[i * element + plane];
    size_t size = ZSTD_compress(out, out_size, scratch, n, 1);
    if (!ZSTD_isError(size))
        return size;
    /* out has room for the worst case: zstd lacks memory of its own, or is not what it says */
    tp_assert(ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation);
    tp_fail(err, TP_E_MEMORY, "out of memory: zstd, to compress %llu bytes", (unsigned long long)n);
    return 0;
}

/* One frame as docs/format.md has it, of n bytes decoded; its blocks are not looked at. */
static bool frame_is_plain(const unsigned char *frame, uint64_t bytes, uint64_t n)
{
    enum { DESCRIPTOR = 4, WINDOW = 5, SINGLE_SEGMENT = 0x20, SIZE_OF_SIZE = 0xc0 };
    if (bytes <= WINDOW || le_u32(frame) != ZSTD_MAGICNUMBER ||
        (frame[DESCRIPTOR] & ~(SINGLE_SEGMENT | SIZE_OF_SIZE)))
        return false;
    uint64_t unit = UINT64_C(128) << (frame[WINDOW] >> 3), window = unit * (8 + frame[WINDOW] % 8);
    return ((frame[DESCRIPTOR] & SINGLE_SEGMENT) || window <= SHARD_WINDOW_MAX) &&
           ZSTD_getFrameContentSize(frame, bytes) == n &&
           ZSTD_findFrameCompressedSize(frame, bytes) == bytes;
}

/* Never more than n bytes are written, whatever a frame says. */
static bool decode_frame(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                         const unsigned char *frame, uint64_t bytes, unsigned char *out, uint64_t n,
                         struct tp_error *err)
{
    if (!frame_is_plain(frame, bytes, n))
        return chunk_fail(shard, tensor, i, "is not one plain zstd frame of the chunk's size", err);
    size_t size = ZSTD_decompress(out, n, frame, bytes);
    if (ZSTD_isError(size) && ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
        return tp_fail(err, TP_E_MEMORY, "%s: out of memory: zstd, to decode %llu bytes",
                       shard->path, (unsigned long long)n);
    return size == n || chunk_fail(shard, tensor, i, "zstd frame is malformed", err);
}

bool shard_read_chunk(const struct shard *shard, const struct tensor *tensor, uint32_t i,
                      unsigned char *out, unsigned char *scratch, struct tp_error *err)
{
    const struct chunk *chunk = &shard->head.chunks[tensor->first_chunk + i];
    const unsigned char *from = shard->data + chunk->file_offset;
    uint64_t n = tensor_chunk_bytes(tensor, i);
    if (!shard_check_chunk(shard, tensor, i, err))
        return false;
    if (shard->head.compress == COMPRESS_NONE) {
        memcpy(out, from, n);
        return true;
    }
    if (!decode_frame(shard, tensor, i, from, chunk->file_bytes, scratch, n, err))
        return false;
    size_t element = tensor_plane_bytes(tensor);
    uint64_t count = n / element;
    for (size_t plane = 0; plane < element; plane++)
        for (uint64_t j = 0; j < count; j++)
            out[j * element + plane] = scratch[plane * count + j];
    return true;
}
