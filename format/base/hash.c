#include "hash.h"

#define XXH_STATIC_LINKING_ONLY /* the state's size */
#include <string.h>
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(struct hash_stream), "state fits");

static struct hash128 canonical(XXH128_hash_t h)
{
    XXH128_canonical_t c;
    struct hash128 out;
    XXH128_canonicalFromHash(&c, h);
    memcpy(out.bytes, c.digest, sizeof out.bytes);
    return out;
}

struct hash128 hash_bytes(const void *data, size_t n)
{
    return canonical(XXH3_128bits(data, n));
}

bool hash_equal(struct hash128 a, struct hash128 b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

struct hash128 hash_of_hashes(const struct hash128 *hashes, size_t n)
{
    return hash_bytes(hashes, n * sizeof *hashes);
}

void hash_to_hex(struct hash128 hash, char hex[33])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = digits[hash.bytes[i] >> 4];
        hex[2 * i + 1] = digits[hash.bytes[i] & 15];
    }
    hex[32] = '\0';
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hash_from_hex(const char *hex, struct hash128 *hash)
{
    struct hash128 out;
    if (strlen(hex) != 32)
        return false;
    for (int i = 0; i < 16; i++) {
        int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *hash = out;
    return true;
}

void hash_start(struct hash_stream *stream)
{
    XXH3_128bits_reset((XXH3_state_t *)stream->state);
}

void hash_add(struct hash_stream *stream, const void *data, size_t n)
{
    XXH3_128bits_update((XXH3_state_t *)stream->state, data, n);
}

struct hash128 hash_end(const struct hash_stream *stream)
{
    return canonical(XXH3_128bits_digest((const XXH3_state_t *)stream->state));
}
