/* One text of a struct hash_set, HASH_SET, compiled with each instruction set's flags. */
#include "hash_set.h"

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

static struct hash128 set_bytes(const void *data, size_t n)
{
    return canonical(XXH3_128bits(data, n));
}

static void set_start(struct hash_stream *stream)
{
    XXH3_128bits_reset((XXH3_state_t *)stream->state);
}

static void set_add(struct hash_stream *stream, const void *data, size_t n)
{
    XXH3_128bits_update((XXH3_state_t *)stream->state, data, n);
}

static struct hash128 set_end(const struct hash_stream *stream)
{
    return canonical(XXH3_128bits_digest((const XXH3_state_t *)stream->state));
}

const struct hash_set HASH_SET = {HASH_NAME, set_bytes, set_start, set_add, set_end};
