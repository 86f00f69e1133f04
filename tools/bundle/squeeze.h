/* The compressed form of a finished rank file: every chunk a zstd frame, one after the other. */
#pragma once
#include "progress.h"
#include "shard.h"

/* Read the raw rank file raw_fd (plan, head: raw hashes known), write the frames to fd, whose size
 * is set. *head is turned into the compressed file's; *file_bytes its size. Returns its header and
 * table, which are not written yet: mem_free; NULL on error. path is for messages. Raw bytes go to
 * progress. Frames do not
 * depend on `threads`. TP_E_INTERRUPTED by a signal. */
unsigned char *squeeze_rank(int raw_fd, int fd, const char *path, const struct model_config *model,
                            const struct rank_plan *plan, struct shard_head *head, int threads,
                            struct progress *progress, uint64_t *file_bytes, struct tp_error *err);
/* Memory of one thread */
uint64_t squeeze_worker_bytes(const struct rank_plan *plan);
