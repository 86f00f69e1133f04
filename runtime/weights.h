/* The weights of all ranks of a bundle in this process: rank files mapped, bound by role, every
 * byte checked before anything that comes of it is seen. Compressed ones are decoded into memory of
 * our own.
 *
 * A mapping is the file: who writes to it changes the weights. So the files are looked at while
 * they are used, and before anything that was computed from them counts.
 */
#pragma once
#include "bundle.h"
#include "model.h"
#include "pin.h"
#include "threads.h"

struct weights {
    uint64_t tp_size;
    struct shard *shards;       /* [tp_size] */
    unsigned char **decoded;    /* [tp_size] raw data area, NULL where the mapping is it */
    uint64_t *decoded_bytes;    /* [tp_size] */
    struct rank_weights *ranks; /* [tp_size] */
    uint64_t mapped_bytes;      /* of all rank files */
    uint64_t hashed_bytes;
    /* Of all ranks, before the first step of deferred weights; else NULL. */
    struct pass_chunk *pass;
    uint64_t pass_bytes;
    bool touched; /* an inode was, and not a byte was checked since */
    bool *lost;   /* [tp_size] the name leads to no file, or to another: said once */
    struct mem_arena arena;
};

/* Open and map every rank file, headers and tables checked. bundle is borrowed until close.
 * A {0} weights may be closed; a failed open leaves nothing to close. */
bool weights_open(struct weights *weights, const struct bundle *bundle, struct tp_error *err);
void weights_close(struct weights *weights);
/* Check every byte against its hash (verify; else headers only) and decode what is compressed, by
 * the team; then bind. The error is the one of the first bad chunk in file order. */
bool weights_load(struct weights *weights, const struct bundle *bundle, struct team *team,
                  const struct pin *pin, bool verify, struct tp_error *err);
/* Of weights that were loaded without verify: they will be hashed by the first step, as it reads
 * them. weights_finish is due after it, before anything of it is used. TP_E_MEMORY. */
bool weights_defer(struct weights *weights, const struct bundle *bundle, struct tp_error *err);
/* Check what the first step has hashed, and hash what it has not; where nothing was deferred there
 * is nothing to do. The error of weights_load. */
bool weights_finish(struct weights *weights, const struct bundle *bundle, struct team *team,
                    struct tp_error *err);
/* The files are as long as they were, and were not written to: TP_E_CHANGED. A call for each. */
bool weights_look(struct weights *weights, struct tp_error *err);
/* The same, for good. An inode that was touched otherwise (a link, another name or mode, a time set
 * back) may hide a write: then every byte is checked again, where verify says so. */
bool weights_settle(struct weights *weights, const struct bundle *bundle, struct team *team,
                    bool verify, struct tp_error *err);
/* Bytes of memory that a rank's weights take: of its mapped file, or decoded. Those of layers that
 * were left out are mapped, or allocated, and never touched. */
uint64_t weights_bytes(const struct bundle *bundle, uint64_t rank);
