#include "squeeze.h"

#include "checked.h"
#include "jobs.h"

struct squeeze {
    const char *path; /* for messages */
    const struct rank_plan *plan;
    struct shard_head *head;
    int raw_fd, fd;
    uint64_t max_chunk, max_frame;
    struct jobs jobs;        /* a chunk each */
    _Atomic uint64_t placed; /* frames that have their place */
    uint64_t end;            /* of the last of them, in the data area */
};

/* A thread's memory: a chunk, its planes, its frame. */
static uint64_t space_bytes(const struct rank_plan *plan)
{
    uint64_t n = rank_plan_largest_chunk(plan);
    return 2 * n + shard_compress_bound(n);
}

uint64_t squeeze_worker_bytes(const struct rank_plan *plan)
{
    enum { ZSTD_CONTEXT = 4 << 20 }; /* level 1, a window of one chunk */
    return space_bytes(plan) + ZSTD_CONTEXT;
}

/* Frames lie one after the other, in the order of their chunks. false: one before failed. */
static bool take_place(struct squeeze *s, uint64_t at, uint64_t bytes)
{
    struct chunk *chunk = &s->head->chunks[at];
    if (!jobs_await(&s->jobs, at, &s->placed, at))
        return false;
    chunk->file_offset = s->end;
    chunk->file_bytes = bytes;
    s->end += bytes;
    atomic_store(&s->placed, at + 1);
    return true;
}

static bool squeeze_chunk(void *arg, uint64_t at, unsigned char *raw, struct tp_error *err)
{
    struct squeeze *s = arg;
    unsigned char *planes = raw + s->max_chunk, *frame = planes + s->max_chunk;
    const struct tensor *t = rank_plan_of_chunk(s->plan, at);
    struct chunk *chunk = &s->head->chunks[at];
    uint32_t c = (uint32_t)at - t->first_chunk;
    uint64_t n = tensor_chunk_bytes(t, c);
    if (!io_read_at(s->raw_fd, s->path, raw, n,
                    s->plan->data_offset + t->offset + c * t->chunk_bytes, err))
        return false;
    if (!hash_equal(hash_bytes(raw, n), chunk->raw_hash))
        return tp_fail(err, TP_E_CHANGED, "%s: changed while it was compressed", s->path);
    uint64_t bytes =
        shard_compress(raw, n, tensor_plane_bytes(t), planes, frame, s->max_frame, err);
    if (!bytes)
        return false;
    chunk->file_hash = hash_bytes(frame, bytes);
    atomic_fetch_add(&s->jobs.bytes_done, n);
    return !take_place(s, at, bytes) || io_write_at(s->fd, s->path, frame, bytes,
                                                    s->plan->data_offset + chunk->file_offset, err);
}

unsigned char *squeeze_rank(int raw_fd, int fd, const char *path, const struct model_config *model,
                            const struct rank_plan *plan, struct shard_head *head, int threads,
                            struct progress *progress, uint64_t *file_bytes, struct tp_error *err)
{
    struct squeeze s = {.path = path, .plan = plan, .head = head, .raw_fd = raw_fd, .fd = fd};
    s.max_chunk = rank_plan_largest_chunk(plan);
    s.max_frame = shard_compress_bound(s.max_chunk);
    s.jobs = (struct jobs){.count = plan->n_chunks,
                           .space_bytes = space_bytes(plan),
                           .run = squeeze_chunk,
                           .arg = &s,
                           .progress = progress};
    if (!jobs_run(&s.jobs, threads, err))
        return NULL;
    head->data_file_bytes = align_up(s.end, SHARD_FILE_ALIGN);
    head->compress = COMPRESS_ZSTD;
    *file_bytes = plan->data_offset + head->data_file_bytes;
    return io_reserve(fd, path, *file_bytes, err) ? shard_head_write(model, plan, head, err) : NULL;
}
