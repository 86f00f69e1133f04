/* A bundle as a source: its stored values as they are, put together from all its rank files. */
#pragma once
#include "bundle.h"
#include "source.h"

struct source_bundle {
    struct source source; /* .state points back here */
    struct bundle bundle;
    struct shard *shards; /* [tp_size] */
    struct rank_plan whole;
    uint64_t chunk_bytes; /* of the largest chunk */
    struct mem_arena arena;
};

/* Open the bundle and all rank files; every chunk is checked against its hash when it is read. */
bool source_bundle_open(struct source_bundle *s, const char *dir, struct tp_error *err);
void source_bundle_close(struct source_bundle *s); /* {0} is allowed */
/* One rank's copy: of rows x cols what it holds goes to its place in out, as for source.read_rows;
 * the rest of out is left alone. */
bool source_bundle_read_rank(const struct source_bundle *s, uint64_t rank, uint32_t index,
                             struct range rows, struct range leaves, unsigned char *out,
                             size_t stride, unsigned char *space, struct tp_error *err);
