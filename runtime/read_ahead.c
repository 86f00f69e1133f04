#include "read_ahead.h"

#include "checked.h"
#include "io.h"
#include "threads.h"

enum { PIECE_BYTES = 2 << 20 };

/* false: the file ends before it. */
static bool read_piece(const struct shard *shard, const struct rank_plan *plan, uint64_t at)
{
    const struct range unused = {plan->data_offset + plan->unused.bytes.begin,
                                 plan->data_offset + plan->unused.bytes.end};
    if (at >= shard->file_bytes)
        return false;
    const uint64_t last = min_u64(at + PIECE_BYTES, shard->file_bytes) - 1;
    const bool skipped = at >= unused.begin && at + PIECE_BYTES <= unused.end;
    if (!skipped && !io_is_cached(shard->fd, last))
        io_read_ahead(shard->fd, at, PIECE_BYTES);
    return true;
}

/* Ranks run together: a piece of each in turn. */
static void *run(void *arg)
{
    const struct read_ahead *ahead = arg;
    bool more = true;
    for (uint64_t at = 0; more && !atomic_load(&ahead->stop); at += PIECE_BYTES) {
        more = false;
        for (uint64_t r = 0; r < ahead->bundle->tp_size; r++)
            more |= read_piece(&ahead->shards[r], &ahead->bundle->plans[r], at);
    }
    return NULL;
}

void read_ahead_start(struct read_ahead *ahead, const struct bundle *bundle,
                      const struct shard *shards)
{
    ahead->bundle = bundle;
    ahead->shards = shards;
    atomic_store(&ahead->stop, false);
    if (!thread_beside(&ahead->thread, run, ahead))
        ahead->bundle = NULL;
}

void read_ahead_stop(struct read_ahead *ahead)
{
    atomic_store(&ahead->stop, true);
    if (ahead->bundle)
        pthread_join(ahead->thread, NULL);
    ahead->bundle = NULL;
}
