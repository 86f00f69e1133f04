/* The input edits a rank file, whose hashes are made right afterwards, or nothing would get past
 * them:
 *
 *   byte 0   which file: stored format, compression, rank of how many
 *   byte 1   which hashes stay as they are: 1 chunks, 2 tensors, 4 table, 8 header; 16: a size of
 *            the file follows (2 bytes); 32: all that follows the first edit is the last chunk's
 *            frame
 *   ...      edits: 2 bytes where, 1 how many bytes (0: 256), the bytes
 *
 * A head that is accepted is what would be written; every chunk then is read to its size, or
 * refused. */
#include "le.h"
#include "mem.h"
#include "reseal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const struct model_config model = {
    .n_layers = 1,
    .hidden = 40,
    .n_heads = 2,
    .n_kv_heads = 1,
    .head_dim = 4,
    .d_ff = 70,
    .vocab = 20,
    .max_positions = 64,
    .rms_eps = 1e-5,
    .dtype = DTYPE_BF16,
    .tied_embeddings = true,
    .qkv_bias = true,
    .rope = {.theta = 1e4, .attention_factor = 1},
    .bos_id = -1,
    .pad_id = -1,
};

static const struct {
    const char *quant;
    enum compress compress;
    uint64_t tp_size, rank;
} kinds[] = {
    {NULL, COMPRESS_NONE, 1, 0},
    {NULL, COMPRESS_ZSTD, 1, 0},
    {"int8", COMPRESS_ZSTD, 2, 1},
    {"fp8", COMPRESS_NONE, 2, 0},
    {"int4-g32-zero", COMPRESS_ZSTD, 3, 1},
    {"int4-g64", COMPRESS_NONE, 3, 2},
};
enum { KINDS = sizeof kinds / sizeof *kinds, SPACE = 64 << 10 };

static struct base {
    struct rank_plan plan;
    unsigned char *bytes;
    uint64_t n;
} bases[KINDS];

/* Values of few kinds, so that frames have matches and literals. */
static void fill(unsigned char *p, uint64_t n)
{
    uint64_t state = n;
    for (uint64_t i = 0; i < n; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        p[i] = (unsigned char)(state >> 60);
    }
}

static uint64_t put_chunks(const struct rank_plan *plan, enum compress compress,
                           struct chunk *chunks, unsigned char *to)
{
    static unsigned char raw[SPACE], scratch[SPACE];
    uint64_t at = 0;
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        for (uint32_t c = 0; c < t->n_chunks; c++) {
            uint64_t n = tensor_chunk_bytes(t, c), bytes = n;
            struct chunk *chunk = &chunks[t->first_chunk + c];
            tp_assert(n <= sizeof raw);
            fill(raw, n);
            if (compress == COMPRESS_NONE)
                memcpy(to + (at = t->offset + c * t->chunk_bytes), raw, n);
            else
                bytes = shard_compress(raw, n, tensor_plane_bytes(t), scratch, to + at,
                                       shard_compress_bound(n), NULL);
            *chunk = (struct chunk){hash_bytes(raw, n), hash_bytes(to + at, bytes), at, bytes};
            at += bytes;
        }
    }
    return compress == COMPRESS_NONE
               ? plan->data_bytes
               : (at + SHARD_FILE_ALIGN - 1) / SHARD_FILE_ALIGN * SHARD_FILE_ALIGN;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    for (size_t i = 0; i < KINDS; i++) {
        struct tp_error err = {0};
        struct base *b = &bases[i];
        struct shard_head head = {.compress = kinds[i].compress};
        struct recipe recipe =
            recipe_of(DTYPE_BF16, stored_by_name(kinds[i].quant ? kinds[i].quant : "bf16"));
        tp_assert(rank_plan_build(&model, recipe, kinds[i].tp_size, kinds[i].rank, &b->plan, &err));
        head.chunks = mem_array(b->plan.n_chunks, sizeof *head.chunks, &err);
        unsigned char *chunks = mem_alloc(2 * b->plan.data_bytes, &err);
        head.data_file_bytes = put_chunks(&b->plan, head.compress, head.chunks, chunks);
        unsigned char *start = shard_head_write(&model, &b->plan, &head, &err);
        b->n = b->plan.data_offset + head.data_file_bytes;
        b->bytes = mem_alloc(b->n, &err);
        memcpy(b->bytes, start, b->plan.data_offset);
        memcpy(b->bytes + b->plan.data_offset, chunks, head.data_file_bytes);
        mem_free(start);
        mem_free(chunks);
        mem_free(head.chunks);
    }
    return 0;
}

/* ---- forging ---- */

struct input {
    const uint8_t *data;
    size_t n;
};

static size_t take(struct input *in, uint8_t *to, size_t n)
{
    n = n < in->n ? n : in->n;
    memcpy(to, in->data, n);
    in->data += n;
    in->n -= n;
    return n;
}

static bool edit(struct input *in, unsigned char *file, uint64_t n)
{
    uint8_t where[3], bytes[256];
    if (take(in, where, sizeof where) < sizeof where)
        return false;
    uint64_t at = le_u16(where);
    size_t count = take(in, bytes, where[2] ? where[2] : 256);
    for (size_t i = 0; i < count && at + i < n; i++)
        file[at + i] = bytes[i];
    return true;
}

/* The rest of the input in place of the last chunk's frame; the sizes follow. Returns the file's
 * size, at most SPACE. */
static uint64_t put_frame(const struct base *b, struct input *in, unsigned char *file)
{
    uint64_t chunk = SHARD_HEADER_BYTES + b->plan.n_tensors * (uint64_t)SHARD_TENSOR_ENTRY +
                     (b->plan.n_chunks - 1) * (uint64_t)SHARD_CHUNK_ENTRY;
    uint64_t at = b->plan.data_offset + le_u64(b->bytes + chunk + 32);
    if (at > SPACE - SHARD_FILE_ALIGN)
        return b->n;
    memset(file + at, 0, SPACE - at);
    size_t n = take(in, file + at, SPACE - SHARD_FILE_ALIGN - at);
    uint64_t end = (at + n + SHARD_FILE_ALIGN - 1) / SHARD_FILE_ALIGN * SHARD_FILE_ALIGN;
    le_put_u64(file + chunk + 40, n);
    le_put_u64(file + 88, end - b->plan.data_offset);
    le_put_u64(file + 104, end);
    return end;
}

static unsigned char *forge(const struct base *b, struct input *in, uint64_t *n)
{
    static unsigned char file[SPACE];
    uint8_t flags = 0, size[2];
    tp_assert(b->n <= SPACE);
    *n = b->n;
    memset(file, 0, sizeof file);
    memcpy(file, b->bytes, b->n);
    take(in, &flags, 1);
    if (flags & 16 && take(in, size, 2) == 2)
        *n = le_u16(size);
    if (flags & 32 && b->plan.n_chunks && edit(in, file, b->n))
        *n = put_frame(b, in, file);
    while (edit(in, file, *n))
        ;
    reseal_rank_file(file, *n,
                     (struct reseal){!(flags & 1), !(flags & 2), !(flags & 4), !(flags & 8)});
    /* exactly as long as the file, so that a byte beyond it is found out */
    unsigned char *exact = mem_alloc(*n, NULL);
    tp_assert(exact);
    if (*n)
        memcpy(exact, file, *n);
    return exact;
}

/* ---- reading ---- */

static void check_head(const struct base *b, const struct shard *shard, const unsigned char *file)
{
    struct tp_error err = {0};
    unsigned char *again = shard_head_write(&model, &b->plan, &shard->head, &err);
    tp_assert(again && memcmp(again, file, b->plan.data_offset) == 0);
    mem_free(again);
    tp_assert(b->plan.data_offset + shard->head.data_file_bytes == shard->file_bytes);
}

static void read_chunks(const struct base *b, const struct shard *shard)
{
    bool plain = shard->head.compress == COMPRESS_NONE;
    for (uint32_t i = 0; i < b->plan.n_tensors; i++) {
        const struct tensor *t = &b->plan.tensors[i];
        for (uint32_t c = 0; c < t->n_chunks; c++) {
            struct tp_error err = {0};
            uint64_t n = tensor_chunk_bytes(t, c);
            unsigned char *out = mem_alloc(n, &err), *scratch = mem_alloc(n, &err);
            tp_assert(out && scratch);
            bool whole = shard_check_chunk(shard, t, c, NULL);
            bool ok = shard_read_chunk(shard, t, c, out, scratch, &err);
            tp_assert(ok || err.code == TP_E_SHARD_HASH);
            tp_assert(whole || !ok);
            tp_assert(!plain || !ok ||
                      memcmp(out, shard->data + t->offset + c * t->chunk_bytes, n) == 0);
            mem_free(out);
            mem_free(scratch);
        }
    }
    struct tp_error err = {0};
    tp_assert(shard_check_padding(shard, &b->plan, &err) || err.code == TP_E_SHARD_HASH);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t kind = 0;
    take(&in, &kind, 1);
    const struct base *b = &bases[kind % KINDS];
    struct shard shard = {.path = "fuzz", .fd = -1};
    struct tp_error err = {0};
    unsigned char *file = forge(b, &in, &shard.file_bytes);
    if (shard.file_bytes >= b->plan.data_offset) {
        if (shard_head_read(&model, &b->plan, file, "fuzz", shard.file_bytes, &shard.arena,
                            &shard.head, &err)) {
            shard.data = file + b->plan.data_offset;
            check_head(b, &shard, file);
            read_chunks(b, &shard);
        } else {
            tp_assert(err.code != TP_OK && err.text[0]);
        }
    }
    mem_arena_free(&shard.arena);
    mem_free(file);
    return 0;
}
