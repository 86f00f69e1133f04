/* The compressed form of a finished rank file: every chunk a zstd frame, one after the other. */
#pragma once
#include "shard.h"

/* Read the raw rank file at raw_path (plan, head: raw hashes known), write the compressed one to path
 * with its own header and table, synced. *head is turned into the compressed file's; *file_bytes its size.
 * Frames do not depend on `threads`. */
bool squeeze_rank(const char *raw_path, const char *path, const struct model_config *model,
                  const struct rank_plan *plan, struct shard_head *head, int threads,
                  uint64_t *file_bytes, struct tp_error *err);
/* Memory of one thread */
uint64_t squeeze_worker_bytes(const struct rank_plan *plan);
