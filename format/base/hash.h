/* XXH3-128 everywhere: it finds accidents, not attackers. Stored as 16 bytes, the canonical
 * (big-endian) form of xxHash, printed as 32 hex digits in the same order. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash128 {
    uint8_t bytes[16];
};

struct hash128 hash_bytes(const void *data, size_t n);
bool hash_equal(struct hash128 a, struct hash128 b);
/* The hash of n hashes, one after the other: how a tensor's hash is made of its chunks'. */
struct hash128 hash_of_hashes(const struct hash128 *hashes, size_t n);
void hash_to_hex(struct hash128 hash, char hex[33]);
bool hash_from_hex(const char *hex, struct hash128 *hash); /* exactly 32 lower-case digits */

/* Streaming; the state is plain memory of the caller. */
struct hash_stream {
    _Alignas(64) unsigned char state[640];
};
void hash_start(struct hash_stream *stream);
void hash_add(struct hash_stream *stream, const void *data, size_t n);
struct hash128 hash_end(const struct hash_stream *stream);
