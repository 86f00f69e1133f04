/* Rank files are brought in ahead of whoever walks through their mapping: read where they are not
 * in the page cache, and mapped, in large pieces, in the order in which a step touches them. Two
 * threads do it, so that the disk is never idle; they wait most of the time.
 */
#pragma once
#include "bundle.h"
#include <pthread.h>

enum { READ_AHEAD_THREADS = 2 };

struct read_ahead {
    const struct bundle *bundle;
    const struct shard *shards; /* [tp_size] */
    _Atomic uint64_t next;      /* piece of each file */
    _Atomic bool stop;
    int threads; /* that there are */
    pthread_t thread[READ_AHEAD_THREADS];
};
/* Both are borrowed until stop. Where there is no thread to be had, nothing is read ahead. */
void read_ahead_start(struct read_ahead *ahead, const struct bundle *bundle,
                      const struct shard *shards);
void read_ahead_stop(struct read_ahead *ahead); /* {0} may be stopped */
