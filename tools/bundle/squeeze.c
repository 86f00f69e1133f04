#include "squeeze.h"

#include "checked.h"
#include "interrupt.h"
#include "threads.h"
#include <stdlib.h>

struct lane { /* one thread's chunk of a round */
    unsigned char *raw, *planes, *frame;
    uint64_t frame_bytes;
    struct tp_error err;
};

struct squeeze {
    const char *path; /* for messages */
    const struct rank_plan *plan;
    struct shard_head *head;
    int raw_fd;
    uint32_t first; /* chunk of lane 0 in this round */
    uint64_t max_chunk, max_frame;
    struct lane *lanes;
    const struct tensor **tensor_of; /* [n_chunks] */
};

uint64_t squeeze_worker_bytes(const struct rank_plan *plan)
{
    enum { ZSTD_CONTEXT = 4 << 20 }; /* level 1, a window of one chunk */
    uint64_t n = rank_plan_largest_chunk(plan);
    return 2 * n + shard_compress_bound(n) + ZSTD_CONTEXT;
}

static void squeeze_lane(void *arg, int index, int count)
{
    struct squeeze *s = arg;
    struct lane *lane = &s->lanes[index];
    uint32_t at = s->first + (uint32_t)index;
    (void)count;
    if (at >= s->plan->n_chunks)
        return;
    const struct tensor *t = s->tensor_of[at];
    uint32_t c = at - t->first_chunk;
    uint64_t n = tensor_chunk_bytes(t, c);
    if (!io_read_at(s->raw_fd, s->path, lane->raw, n,
                    s->plan->data_offset + t->offset + c * t->chunk_bytes, &lane->err))
        return;
    if (!hash_equal(hash_bytes(lane->raw, n), s->head->chunks[at].raw_hash)) {
        tp_fail(&lane->err, TP_E_CHANGED, "%s: changed while it was compressed", s->path);
        return;
    }
    lane->frame_bytes = shard_compress(lane->raw, n, tensor_plane_bytes(t), lane->planes,
                                       lane->frame, s->max_frame, &lane->err);
    s->head->chunks[at].file_hash = hash_bytes(lane->frame, lane->frame_bytes);
}

/* Rounds of one chunk a thread; frames are written in order, at the places their sizes give. */
static bool write_frames(struct squeeze *s, int fd, int threads, struct tp_error *err)
{
    uint64_t at = 0;
    for (s->first = 0; s->first < s->plan->n_chunks; s->first += (uint32_t)threads) {
        if (interrupt_pending())
            return interrupt_fail(err);
        if (!threads_run(threads, squeeze_lane, s, err))
            return false;
        for (int i = 0; i < threads && s->first + (uint32_t)i < s->plan->n_chunks; i++) {
            struct lane *lane = &s->lanes[i];
            struct chunk *chunk = &s->head->chunks[s->first + (uint32_t)i];
            if (lane->err.code != TP_OK) {
                *err = lane->err;
                return false;
            }
            chunk->file_offset = at;
            chunk->file_bytes = lane->frame_bytes;
            if (!io_write_at(fd, s->path, lane->frame, lane->frame_bytes, s->plan->data_offset + at,
                             err))
                return false;
            at += lane->frame_bytes;
        }
    }
    s->head->data_file_bytes = align_up(at, SHARD_FILE_ALIGN);
    return true;
}

static bool alloc_lanes(struct squeeze *s, int threads, struct mem_arena *arena,
                        struct tp_error *err)
{
    s->max_chunk = rank_plan_largest_chunk(s->plan);
    s->max_frame = shard_compress_bound(s->max_chunk);
    s->lanes = mem_arena_alloc(arena, (uint64_t)threads * sizeof *s->lanes, err);
    s->tensor_of = mem_arena_alloc(arena, s->plan->n_chunks * sizeof *s->tensor_of, err);
    if (!s->lanes || !s->tensor_of)
        return false;
    for (int i = 0; i < threads; i++) {
        struct lane *lane = &s->lanes[i];
        lane->raw = mem_arena_alloc(arena, s->max_chunk, err);
        lane->planes = mem_arena_alloc(arena, s->max_chunk, err);
        lane->frame = mem_arena_alloc(arena, s->max_frame, err);
        if (!lane->raw || !lane->planes || !lane->frame)
            return false;
    }
    for (uint32_t i = 0; i < s->plan->n_tensors; i++)
        for (uint32_t c = 0; c < s->plan->tensors[i].n_chunks; c++)
            s->tensor_of[s->plan->tensors[i].first_chunk + c] = &s->plan->tensors[i];
    return true;
}

unsigned char *squeeze_rank(int raw_fd, int fd, const char *path, const struct model_config *model,
                            const struct rank_plan *plan, struct shard_head *head, int threads,
                            uint64_t *file_bytes, struct tp_error *err)
{
    struct squeeze s = {.path = path, .plan = plan, .head = head, .raw_fd = raw_fd};
    struct mem_arena arena = {0};
    unsigned char *bytes = NULL;
    if (alloc_lanes(&s, threads, &arena, err) && write_frames(&s, fd, threads, err)) {
        head->compress = COMPRESS_ZSTD;
        *file_bytes = plan->data_offset + head->data_file_bytes;
        if (io_reserve(fd, path, *file_bytes, err))
            bytes = shard_head_write(model, plan, head, err);
    }
    mem_arena_free(&arena);
    return bytes;
}
