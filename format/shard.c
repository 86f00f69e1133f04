/* Header and table: writing them from a plan, and checking them against one. */
#include "shard.h"

#include "checked.h"
#include "le.h"

static const unsigned char magic[8] = {0x89, 'T', 'P', 'S', '\r', '\n', 0x1a, '\n'};

enum { HEADER_HASH_AT = SHARD_HEADER_BYTES - 16 };

struct hash128 shard_tensor_hash(const struct tensor *tensor, const struct chunk *chunks)
{
    struct hash_stream stream;
    hash_start(&stream);
    for (uint32_t i = 0; i < tensor->n_chunks; i++)
        hash_add(&stream, chunks[tensor->first_chunk + i].raw_hash.bytes, sizeof(struct hash128));
    return hash_end(&stream);
}

/* ---- entries, as the plan says them ---- */

static void put_u64s(unsigned char *p, const uint64_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        le_put_u64(p + 8 * i, values[i]);
}

static void put_tensor(unsigned char *p, const struct tensor *t, struct hash128 hash)
{
    le_put_u16(p, (uint16_t)t->role);
    le_put_u16(p + 2, (uint16_t)t->part);
    le_put_u32(p + 4, t->layer);
    le_put_u16(p + 8, (uint16_t)t->stored->id);
    le_put_u16(p + 10, (uint16_t)t->layout);
    le_put_u16(p + 12, t->leaf_cut);
    const uint64_t numbers[9] = {
        t->rows,         t->cols, t->own_rows.begin, t->own_rows.end, t->own_cols.begin,
        t->own_cols.end, t->k,    t->offset,         t->bytes};
    put_u64s(p + 16, numbers, 9);
    le_put_u32(p + 88, t->first_chunk);
    le_put_u32(p + 92, t->n_chunks);
    memcpy(p + 96, hash.bytes, 16);
}

static void put_chunk(unsigned char *p, const struct chunk *chunk, uint64_t raw_bytes,
                      uint32_t tensor)
{
    memcpy(p, chunk->raw_hash.bytes, 16);
    memcpy(p + 16, chunk->file_hash.bytes, 16);
    le_put_u64(p + 32, chunk->file_offset);
    le_put_u64(p + 40, chunk->file_bytes);
    le_put_u64(p + 48, raw_bytes);
    le_put_u32(p + 56, tensor);
}

static bool put_rank(unsigned char *p, const struct model_config *model,
                     const struct rank_plan *plan, uint64_t rank, struct tp_error *err)
{
    uint64_t tp_size = plan->partition.tp_size, data_bytes;
    if (!rank_plan_data_bytes(model, plan->recipe, tp_size, rank, &data_bytes, err))
        return false;
    struct partition r = partition_of(model, tp_size, rank);
    const uint64_t numbers[7] = {
        r.attention_leaves.begin, r.attention_leaves.end, r.mlp_leaves.begin, r.mlp_leaves.end,
        r.panels.begin,           r.panels.end,           data_bytes};
    le_put_u32(p, (uint32_t)rank);
    put_u64s(p + 8, numbers, 7);
    return true;
}

static uint64_t file_bytes_of(const struct rank_plan *plan, const struct shard_head *head)
{
    return plan->data_offset + head->data_file_bytes;
}

unsigned char *shard_head_write(const struct model_config *model, const struct rank_plan *plan,
                                const struct shard_head *head, struct tp_error *err)
{
    unsigned char *bytes = mem_alloc(plan->data_offset, err);
    if (!bytes)
        return NULL;
    unsigned char *p = bytes + SHARD_HEADER_BYTES;
    for (uint32_t i = 0; i < plan->n_tensors; i++, p += SHARD_TENSOR_ENTRY)
        put_tensor(p, &plan->tensors[i], shard_tensor_hash(&plan->tensors[i], head->chunks));
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        for (uint32_t c = 0; c < t->n_chunks; c++, p += SHARD_CHUNK_ENTRY)
            put_chunk(p, &head->chunks[t->first_chunk + c], tensor_chunk_bytes(t, c), i);
    }
    for (uint64_t rank = 0; rank < plan->partition.tp_size; rank++, p += SHARD_RANK_ENTRY)
        if (!put_rank(p, model, plan, rank, err)) {
            mem_free(bytes);
            return NULL;
        }
    unsigned char *h = bytes;
    memcpy(h, magic, sizeof magic);
    le_put_u32(h + 8, SHARD_VERSION);
    le_put_u32(h + 12, SHARD_HEADER_BYTES);
    memcpy(h + 16, head->bundle_id.bytes, 16);
    le_put_u32(h + 32, (uint32_t)plan->partition.tp_size);
    le_put_u32(h + 36, (uint32_t)plan->partition.rank);
    le_put_u32(h + 40, plan->n_tensors);
    le_put_u32(h + 44, plan->n_chunks);
    le_put_u64(h + 48, SHARD_HEADER_BYTES);
    le_put_u64(h + 56, plan->table_bytes);
    memcpy(h + 64, hash_bytes(bytes + SHARD_HEADER_BYTES, plan->table_bytes).bytes, 16);
    le_put_u64(h + 80, plan->data_offset);
    le_put_u64(h + 88, head->data_file_bytes);
    le_put_u64(h + 96, plan->data_bytes);
    le_put_u64(h + 104, file_bytes_of(plan, head));
    le_put_u32(h + 112, (uint32_t)head->compress);
    le_put_u64(h + 120, plan->data_align);
    memcpy(h + HEADER_HASH_AT, hash_bytes(h, HEADER_HASH_AT).bytes, 16);
    return bytes;
}

/* ---- checking ---- */

static bool stored_hash_ok(const unsigned char *stored, const void *data, uint64_t n)
{
    struct hash128 want;
    memcpy(want.bytes, stored, 16);
    return hash_equal(want, hash_bytes(data, n));
}

/* Magic, version and header hash: what must hold before any other field means something. */
static bool check_identity(const unsigned char *h, const char *file, struct tp_error *err)
{
    if (memcmp(h, magic, sizeof magic) != 0)
        return tp_fail(err, TP_E_SHARD, "%s: header: magic is wrong, not a rank file", file);
    if (!stored_hash_ok(h + HEADER_HASH_AT, h, HEADER_HASH_AT))
        return tp_fail(err, TP_E_SHARD_HASH, "%s: header: hash does not match, the file is damaged",
                       file);
    if (le_u32(h + 8) == __builtin_bswap32(SHARD_VERSION))
        return tp_fail(err, TP_E_SHARD, "%s: header: numbers are big-endian", file);
    if (le_u32(h + 8) != SHARD_VERSION)
        return tp_fail(err, TP_E_VERSION, "%s: header: format version %u, this build reads %d",
                       file, le_u32(h + 8), SHARD_VERSION);
    return true;
}

static bool check_rank(const struct rank_plan *plan, const unsigned char *h, const char *file,
                       struct tp_error *err)
{
    uint32_t tp_size = le_u32(h + 32), rank = le_u32(h + 36);
    if (rank >= tp_size || tp_size > PARTITION_TP_MAX)
        return tp_fail(err, TP_E_SHARD, "%s: header: rank %u of %u cannot be", file, rank, tp_size);
    if (tp_size != plan->partition.tp_size)
        return tp_fail(err, TP_E_SHARD_MIXED,
                       "%s: header: file is of TP=%u, the bundle is of TP=%llu", file, tp_size,
                       (unsigned long long)plan->partition.tp_size);
    if (rank != plan->partition.rank)
        return tp_fail(err, TP_E_SHARD_MIXED, "%s: header: file holds rank %u, rank %llu expected",
                       file, rank, (unsigned long long)plan->partition.rank);
    return true;
}

/* Every header field that the plan fixes. */
static bool check_header(const struct rank_plan *plan, const struct shard_head *head,
                         const unsigned char *h, const char *file, uint64_t file_bytes,
                         struct tp_error *err)
{
    const struct {
        const char *name;
        uint64_t found, wanted;
    } fields[] = {
        {"header bytes", le_u32(h + 12), SHARD_HEADER_BYTES},
        {"tensors", le_u32(h + 40), plan->n_tensors},
        {"chunks", le_u32(h + 44), plan->n_chunks},
        {"table offset", le_u64(h + 48), SHARD_HEADER_BYTES},
        {"table bytes", le_u64(h + 56), plan->table_bytes},
        {"data offset", le_u64(h + 80), plan->data_offset},
        {"raw data bytes", le_u64(h + 96), plan->data_bytes},
        {"file bytes", le_u64(h + 104), file_bytes},
        {"reserved", le_u32(h + 116), 0},
        {"data alignment", le_u64(h + 120), plan->data_align},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].found != fields[i].wanted)
            return tp_fail(err, i == 7 ? TP_E_SHARD_SIZE : TP_E_SHARD,
                           "%s: header: %s is %llu, %llu expected", file, fields[i].name,
                           (unsigned long long)fields[i].found,
                           (unsigned long long)fields[i].wanted);
    if (head->compress != COMPRESS_NONE && head->compress != COMPRESS_ZSTD)
        return tp_fail(err, TP_E_SHARD, "%s: header: unknown compression %d", file,
                       (int)head->compress);
    if (head->data_file_bytes > file_bytes ||
        plan->data_offset != file_bytes - head->data_file_bytes ||
        (head->compress == COMPRESS_NONE && head->data_file_bytes != plan->data_bytes))
        return tp_fail(err, TP_E_SHARD, "%s: header: data area of %llu bytes does not fit", file,
                       (unsigned long long)head->data_file_bytes);
    for (int i = 128; i < HEADER_HASH_AT; i++)
        if (h[i])
            return tp_fail(err, TP_E_SHARD, "%s: header: reserved byte %d is not zero", file, i);
    return true;
}

static bool check_chunk(const struct shard_head *head, const struct tensor *t, uint32_t c,
                        uint64_t *frames, const char *file, struct tp_error *err)
{
    const struct chunk *chunk = &head->chunks[t->first_chunk + c];
    uint64_t raw = tensor_chunk_bytes(t, c);
    bool plain = head->compress == COMPRESS_NONE;
    uint64_t offset = plain ? t->offset + c * t->chunk_bytes : *frames;
    bool ok = chunk->file_offset == offset && chunk->file_bytes > 0 &&
              tp_range_in(offset, chunk->file_bytes, head->data_file_bytes) &&
              (plain ? chunk->file_bytes == raw && hash_equal(chunk->raw_hash, chunk->file_hash)
                     : chunk->file_bytes <= shard_compress_bound(raw));
    *frames += chunk->file_bytes;
    char name[TENSOR_NAME_MAX];
    return ok ||
           tp_fail(err, TP_E_SHARD, "%s: table: tensor \"%s\": chunk %u lies at %llu + %llu", file,
                   tensor_name(name, t->role, t->layer, t->part), c,
                   (unsigned long long)chunk->file_offset, (unsigned long long)chunk->file_bytes);
}

static void get_chunks(const struct rank_plan *plan, const unsigned char *p,
                       struct shard_head *head)
{
    for (uint32_t i = 0; i < plan->n_chunks; i++, p += SHARD_CHUNK_ENTRY) {
        struct chunk *chunk = &head->chunks[i];
        memcpy(chunk->raw_hash.bytes, p, 16);
        memcpy(chunk->file_hash.bytes, p + 16, 16);
        chunk->file_offset = le_u64(p + 32);
        chunk->file_bytes = le_u64(p + 40);
    }
}

/* The table says what the plan says: write it again from the parsed chunks and compare. */
static bool check_table(const struct model_config *model, const struct rank_plan *plan,
                        const unsigned char *bytes, const char *file, struct shard_head *head,
                        struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    uint64_t frames = 0;
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        for (uint32_t c = 0; c < plan->tensors[i].n_chunks; c++)
            if (!check_chunk(head, &plan->tensors[i], c, &frames, file, err))
                return false;
    unsigned char *want = shard_head_write(model, plan, head, err);
    if (!want)
        return false;
    bool ok = true;
    uint64_t at = SHARD_HEADER_BYTES;
    for (uint32_t i = 0; ok && i < plan->n_tensors; i++, at += SHARD_TENSOR_ENTRY)
        if (memcmp(want + at, bytes + at, SHARD_TENSOR_ENTRY) != 0)
            ok = tp_fail(err, TP_E_SHARD, "%s: table: tensor \"%s\" is not as planned", file,
                         tensor_name(name, plan->tensors[i].role, plan->tensors[i].layer,
                                     plan->tensors[i].part));
    if (ok && memcmp(want + at, bytes + at, plan->data_offset - at) != 0)
        ok = tp_fail(err, TP_E_SHARD, "%s: table: chunks or rank map are not as planned", file);
    mem_free(want);
    return ok;
}

bool shard_head_read(const struct model_config *model, const struct rank_plan *plan,
                     const unsigned char *bytes, const char *file, uint64_t file_bytes,
                     struct mem_arena *arena, struct shard_head *head, struct tp_error *err)
{
    const unsigned char *h = bytes;
    *head = (struct shard_head){.compress = (enum compress)le_u32(h + 112),
                                .data_file_bytes = le_u64(h + 88)};
    memcpy(head->bundle_id.bytes, h + 16, 16);
    if (!check_identity(h, file, err) || !check_rank(plan, h, file, err) ||
        !check_header(plan, head, h, file, file_bytes, err))
        return false;
    if (!stored_hash_ok(h + 64, bytes + SHARD_HEADER_BYTES, plan->table_bytes))
        return tp_fail(err, TP_E_SHARD_HASH, "%s: table: hash does not match, the file is damaged",
                       file);
    for (uint64_t i = SHARD_HEADER_BYTES + plan->table_bytes; i < plan->data_offset; i++)
        if (bytes[i])
            return tp_fail(err, TP_E_SHARD_HASH,
                           "%s: table: padding behind it is not zero at byte %llu", file,
                           (unsigned long long)i);
    head->chunks = mem_arena_alloc(arena, plan->n_chunks * sizeof *head->chunks, err);
    if (!head->chunks)
        return false;
    get_chunks(plan, bytes + SHARD_HEADER_BYTES + plan->n_tensors * (uint64_t)SHARD_TENSOR_ENTRY,
               head);
    return check_table(model, plan, bytes, file, head, err);
}
