/* One chunk of a rank file from a source: rows of words, interleaved into panels. */
#pragma once
#include "source.h"

/* Bytes of memory that a thread needs to pack any chunk of the plan. */
uint64_t pack_space_bytes(const struct source *source, const struct rank_plan *plan);

/* Raw bytes of chunk c of tensor `index` of the plan into out (tensor_chunk_bytes of them), and
 * their hash. */
bool pack_chunk(const struct source *source, const struct rank_plan *plan, uint32_t index,
                uint32_t c, unsigned char *space, unsigned char *out, struct hash128 *hash,
                struct tp_error *err);

/* 16 rows of words, row r at rows + r * stride, to a panel; and back. */
void pack_interleave(const unsigned char *rows, size_t stride, uint64_t words,
                     unsigned char *panel);
void pack_deinterleave(const unsigned char *panel, uint64_t words, unsigned char *rows,
                       size_t stride);
