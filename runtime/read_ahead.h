/* Rank files that are not in the page cache are read ahead of whoever walks through their mapping:
 * a thread asks for them in large pieces, in the order in which a step touches them, so that the
 * disk is never idle. What is in the cache costs a look for each piece.
 */
#pragma once
#include "bundle.h"
#include <pthread.h>

struct read_ahead {
    const struct bundle *bundle; /* NULL: there is no thread */
    const struct shard *shards;  /* [tp_size] */
    _Atomic bool stop;
    pthread_t thread;
};
/* Both are borrowed until stop. Where there is no thread to be had, nothing is read ahead. */
void read_ahead_start(struct read_ahead *ahead, const struct bundle *bundle,
                      const struct shard *shards);
void read_ahead_stop(struct read_ahead *ahead); /* {0} may be stopped */
