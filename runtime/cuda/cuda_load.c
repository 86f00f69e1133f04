/* A rank file's data into its GPU's memory: the team's threads read pieces into pinned memory, and
 * copies run beside; the GPU hashes what has arrived, before any value is used. */
#include "cuda_device.h"

#include "checked.h"
#include "jobs.h"
#include <string.h>
#define XXH_INLINE_ALL /* for its secret, which the GPU needs, and its last step */
#include <xxhash.h>

enum {
    PIECE_BYTES = 8 << 20, /* read and copied at once */
    RING_BYTES = 256 << 20,
    GPU_HASH_MIN = 2048, /* shorter chunks are the host's */
    SECRET_BYTES = 192,
};

/* A thread's half of the ring: one piece is read while the one before is copied. */
struct lane {
    cu_stream stream;
    cu_event copied[2];
    unsigned char *piece[2]; /* [PIECE_BYTES], pinned */
    int turn;
    bool used[2];
};

struct load {
    struct cuda_rank *rank;
    const struct shard *shard;
    const unsigned char *decoded; /* of a compressed file; else NULL */
    struct lane *lanes;           /* [threads] */
    int n_lanes;
};

static bool open_lane(const struct cuda *c, struct lane *lane, struct tp_error *err)
{
    bool ok = CUDA(&c->api, err, cuStreamCreate, (&lane->stream, CU_NON_BLOCKING));
    for (int i = 0; ok && i < 2; i++)
        ok = CUDA(&c->api, err, cuMemHostAlloc, ((void **)&lane->piece[i], PIECE_BYTES, 0)) &&
             CUDA(&c->api, err, cuEventCreate, (&lane->copied[i], CU_NO_TIMING));
    return ok;
}

static void close_lane(const struct cuda *c, struct lane *lane)
{
    if (lane->stream) {
        c->api.cuStreamSynchronize(lane->stream);
        c->api.cuStreamDestroy_v2(lane->stream);
    }
    for (int i = 0; i < 2; i++) {
        if (lane->copied[i])
            c->api.cuEventDestroy_v2(lane->copied[i]);
        if (lane->piece[i])
            c->api.cuMemFreeHost(lane->piece[i]);
    }
}

/* [offset, offset + n) of the data area */
static bool read_data(const struct load *l, unsigned char *to, uint64_t offset, uint64_t n,
                      struct tp_error *err)
{
    if (!l->decoded)
        return io_read_at(l->shard->fd, l->shard->path, to, n,
                          (uint64_t)(l->shard->data - l->shard->map.data) + offset, err);
    memcpy(to, l->decoded + offset, n);
    return true;
}

/* [at, at + n) of what is used of it */
static bool read_piece(const struct load *l, unsigned char *to, uint64_t at, uint64_t n,
                       struct tp_error *err)
{
    const struct range unused = l->rank->plan->unused.bytes;
    uint64_t before = at < unused.begin ? min_u64(n, unused.begin - at) : 0;
    return read_data(l, to, at, before, err) &&
           (before == n ||
            read_data(l, to + before, at + before + range_count(unused), n - before, err));
}

/* Pieces one after the other, while there are any: a thread keeps its lane. */
static bool copy_pieces(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct load *l = arg;
    const struct cuda *c = l->rank->cuda;
    struct lane *lane = &l->lanes[job];
    (void)space;
    if (!cuda_use(c, err))
        return false;
    for (uint64_t at = job * PIECE_BYTES; at < l->rank->data_bytes;
         at += (uint64_t)l->n_lanes * PIECE_BYTES) {
        uint64_t n = min_u64(PIECE_BYTES, l->rank->data_bytes - at);
        int i = lane->turn;
        lane->turn = !i;
        if ((lane->used[i] && !CUDA(&c->api, err, cuEventSynchronize, (lane->copied[i]))) ||
            !read_piece(l, lane->piece[i], at, n, err) ||
            !CUDA(&c->api, err, cuMemcpyHtoDAsync_v2,
                  ((uintptr_t)l->rank->data + at, lane->piece[i], n, lane->stream)) ||
            !CUDA(&c->api, err, cuEventRecord, (lane->copied[i], lane->stream)))
            return false;
        lane->used[i] = true;
    }
    return CUDA(&c->api, err, cuStreamSynchronize, (lane->stream));
}

static bool copy_all(struct load *l, struct tp_error *err)
{
    struct cuda_rank *r = l->rank;
    uint64_t pieces = div_ceil(r->data_bytes, PIECE_BYTES), most = RING_BYTES / (2 * PIECE_BYTES);
    l->n_lanes = (int)min_u64(min_u64((uint64_t)r->setup->team->count, pieces), most);
    l->lanes = mem_array((uint64_t)l->n_lanes, sizeof *l->lanes, err);
    bool ok = l->lanes != NULL;
    for (int i = 0; ok && i < l->n_lanes; i++)
        ok = open_lane(r->cuda, &l->lanes[i], err);
    struct jobs jobs = {.count = (uint64_t)l->n_lanes, .run = copy_pieces, .arg = l};
    ok = ok && jobs_run_on(&jobs, r->setup->team, err);
    for (int i = 0; l->lanes && i < l->n_lanes; i++)
        close_lane(r->cuda, &l->lanes[i]);
    mem_free(l->lanes);
    return ok;
}

/* ---- checking ---- */

/* The last step of XXH3-128 over a chunk's eight accumulators. */
static struct hash128 hash_of(const uint64_t *acc, uint64_t bytes)
{
    const size_t low = XXH_SECRET_MERGEACCS_START;
    const XXH128_hash_t hash = {
        .low64 = XXH3_mergeAccs(acc, XXH3_kSecret + low, bytes * XXH_PRIME64_1),
        .high64 =
            XXH3_mergeAccs(acc, XXH3_kSecret + SECRET_BYTES - 64 - low, ~(bytes * XXH_PRIME64_2)),
    };
    XXH128_canonical_t canonical;
    struct hash128 out;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out.bytes, canonical.digest, sizeof out.bytes);
    return out;
}

/* Chunks that the GPU hashes; the others are the host's. */
struct check {
    struct cuda_rank *rank;
    const struct shard *shard;
    const struct rank_plan *plan;
    uint64_t n, *numbers; /* [n] host: at, bytes, then 8 accumulators of each, then the secret */
    uint32_t *chunks;     /* [n] of the file */
    struct tp_error bad;  /* the host's first bad one: it lies behind the n that are listed */
};

static bool is_for_gpu(uint64_t bytes)
{
    return bytes >= GPU_HASH_MIN && bytes % 64 == 0;
}

/* Every chunk in file order, to one side or the other, until one of the host's is bad. */
static bool list_chunks(struct check *k, struct tp_error *err)
{
    const uint32_t most = k->plan->n_chunks;
    k->numbers = mem_array((uint64_t)most * 10 + SECRET_BYTES / 8, sizeof *k->numbers, err);
    k->chunks = mem_array(most, sizeof *k->chunks, err);
    if (!k->numbers || !k->chunks)
        return false;
    memcpy(k->numbers + (uint64_t)most * 10, XXH3_kSecret, SECRET_BYTES);
    for (uint32_t i = 0; i < most && k->bad.code == TP_OK; i++) {
        const struct tensor *t = rank_plan_of_chunk(k->plan, i);
        if (range_has(k->plan->unused.chunks, i))
            continue;
        uint32_t c = i - t->first_chunk;
        if (!is_for_gpu(tensor_chunk_bytes(t, c))) {
            shard_check_chunk(k->shard, t, c, &k->bad);
            continue;
        }
        k->numbers[k->n] = rank_plan_used_offset(k->plan, t->offset + c * t->chunk_bytes);
        k->numbers[most + k->n] = tensor_chunk_bytes(t, c);
        k->chunks[k->n++] = i;
    }
    return true;
}

static bool run_hash(const struct check *k, cu_address memory, struct tp_error *err)
{
    const struct cuda *c = k->rank->cuda;
    const uint64_t most = k->plan->n_chunks;
    const uint64_t *device = (const uint64_t *)(uintptr_t)memory;
    struct cuda_hash args = {
        .data = k->rank->data,
        .at = device,
        .bytes = device + most,
        .acc = (uint64_t *)(uintptr_t)(device + 2 * most),
        .secret = device + 10 * most,
        .chunks = (uint32_t)k->n,
    };
    unsigned grid = (unsigned)min_u64(k->n, (uint64_t)c->multiprocessors * 16);
    return CUDA(&c->api, err, cuMemcpyHtoDAsync_v2,
                (memory, k->numbers, (most * 10 + SECRET_BYTES / 8) * 8, c->stream)) &&
           cuda_launch(c, k->rank->gpu->hash, grid, 32, 0, &args, err) &&
           CUDA(&c->api, err, cuMemcpyDtoHAsync_v2,
                (k->numbers + 2 * most, memory + 16 * most, k->n * 64, c->stream));
}

static bool compare(const struct check *k, struct tp_error *err)
{
    const uint64_t most = k->plan->n_chunks;
    for (uint64_t i = 0; i < k->n; i++) {
        struct hash128 found = hash_of(k->numbers + 2 * most + 8 * i, k->numbers[most + i]);
        if (hash_equal(found, k->shard->head.chunks[k->chunks[i]].raw_hash))
            continue;
        const struct tensor *t = rank_plan_of_chunk(k->plan, k->chunks[i]);
        char name[TENSOR_NAME_MAX];
        return tp_fail(
            err, TP_E_SHARD_HASH,
            "%s: tensor \"%s\": chunk %u of %u: hash does not match, the file is damaged",
            k->shard->path, tensor_name(name, t->role, t->layer, t->part),
            k->chunks[i] - t->first_chunk, t->n_chunks);
    }
    if (k->bad.code != TP_OK)
        *err = k->bad;
    return k->bad.code == TP_OK;
}

static bool check_chunks(struct cuda_rank *r, const struct shard *shard, struct tp_error *err)
{
    struct check k = {.rank = r, .shard = shard, .plan = r->plan};
    const struct cuda *c = r->cuda;
    cu_address memory = 0;
    bool ok = list_chunks(&k, err) &&
              CUDA(&c->api, err, cuMemAlloc_v2,
                   (&memory, ((uint64_t)k.plan->n_chunks * 10 + SECRET_BYTES / 8) * 8)) &&
              (!k.n || run_hash(&k, memory, err));
    ok = cuda_wait(r->gpu, ok ? err : NULL) && ok && compare(&k, err);
    if (memory && !r->gpu->hangs)
        c->api.cuMemFree_v2(memory);
    mem_free(k.numbers);
    mem_free(k.chunks);
    return ok && shard_check_padding(shard, k.plan, err);
}

bool cuda_copy(struct cuda_rank *r, struct tp_error *err)
{
    const struct weights *w = r->setup->weights;
    struct load load = {
        .rank = r, .shard = &w->shards[r->number], .decoded = w->decoded[r->number]};
    return copy_all(&load, err);
}

/* A compressed file was checked when it was decoded. */
bool cuda_check(struct cuda_rank *r, struct tp_error *err)
{
    const struct weights *w = r->setup->weights;
    return !r->setup->verify || w->decoded[r->number] ||
           check_chunks(r, &w->shards[r->number], err);
}
