/* What the residual stream was, as hashes: per sequence and layer the XXH3-128 of its f32 rows in
 * the order of positions, and one more of the final normed rows. Independent of ranks, chunks and
 * batches, so that two runs that should be equal can be compared layer by layer. Off unless asked
 * for: hashing takes time.
 */
#pragma once
#include "hash.h"
#include "mem.h"
#include "output_file.h"
#include <stdbool.h>

struct trace {
    uint64_t n_sequences, n_layers, hidden;
    struct hash_stream *streams; /* [n_sequences][n_layers + 1], the last of the normed rows */
    float *row;                  /* [hidden] */
};

/* A {0} trace may be freed. */
bool trace_init(struct trace *trace, uint64_t n_sequences, uint64_t n_layers, uint64_t hidden,
                struct tp_error *err);
void trace_free(struct trace *trace);
/* row [hidden]; a sequence's rows come in the order of positions. layer n_layers: the normed state.
 */
void trace_add(struct trace *trace, uint64_t sequence, uint64_t layer, const float *row);
struct hash128 trace_hash(const struct trace *trace, uint64_t sequence, uint64_t layer);
/* Lines "SEQUENCE LAYER HASH", LAYER "final" at the end of each sequence. */
bool trace_write(const struct trace *trace, struct output_file *file, struct tp_error *err);
