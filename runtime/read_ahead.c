#include "read_ahead.h"

#include "checked.h"
#include "io.h"
#include "threads.h"

enum { PIECE_BYTES = 2 << 20 };

/* false: the file ends before it. */
static bool bring_piece(const struct shard *shard, const struct rank_plan *plan, uint64_t at)
{
    const struct range unused = {plan->data_offset + plan->unused.bytes.begin,
                                 plan->data_offset + plan->unused.bytes.end};
    if (at >= shard->file_bytes)
        return false;
    const uint64_t end = min_u64(at + PIECE_BYTES, shard->file_bytes);
    if (at < unused.begin || end > unused.end)
        io_populate(&shard->map, at, end - at);
    return true;
}

/* Ranks run together: a piece of each in turn. */
static void *run(void *arg)
{
    struct read_ahead *ahead = arg;
    const uint64_t ranks = ahead->bundle->tp_size;
    bool more = true;
    while (more) {
        const uint64_t at = atomic_fetch_add(&ahead->next, 1) * PIECE_BYTES;
        more = false;
        for (uint64_t r = 0; r < ranks && !atomic_load(&ahead->stop); r++)
            more |= bring_piece(&ahead->shards[r], &ahead->bundle->plans[r], at);
    }
    return NULL;
}

void read_ahead_start(struct read_ahead *ahead, const struct bundle *bundle,
                      const struct shard *shards)
{
    ahead->bundle = bundle;
    ahead->shards = shards;
    atomic_store(&ahead->next, 0);
    atomic_store(&ahead->stop, false);
    ahead->threads = 0;
    while (ahead->threads < READ_AHEAD_THREADS &&
           thread_beside(&ahead->thread[ahead->threads], run, ahead))
        ahead->threads++;
}

void read_ahead_stop(struct read_ahead *ahead)
{
    atomic_store(&ahead->stop, true);
    while (ahead->threads)
        pthread_join(ahead->thread[--ahead->threads], NULL);
}
