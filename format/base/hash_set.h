/* XXH3-128 as it is compiled for each instruction set: the library's build is for the oldest. All
 * give the same hashes. */
#pragma once
#include "cpu_set.h"
#include "hash.h"

struct hash_set {
    const char *name;
    struct hash128 (*bytes)(const void *data, size_t n);
    void (*start)(struct hash_stream *stream);
    void (*add)(struct hash_stream *stream, const void *data, size_t n);
    struct hash128 (*end)(const struct hash_stream *stream);
};
extern const struct hash_set hash_library, hash_avx2, hash_avx512;

extern const struct hash_set *const hash_sets[CPU_SETS];
