#define XXH_STATIC_LINKING_ONLY /* the state's size */
#define HASH_SET hash_library
#define HASH_NAME "library"
#include "hash_set.inc.h"

const struct hash_set *const hash_sets[CPU_SETS] = {&hash_library, &hash_avx2, &hash_avx512};

static const struct hash_set *best(void)
{
    return hash_sets[cpu_best()];
}

struct hash128 hash_bytes(const void *data, size_t n)
{
    return best()->bytes(data, n);
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
    best()->start(stream);
}

void hash_add(struct hash_stream *stream, const void *data, size_t n)
{
    best()->add(stream, data, n);
}

struct hash128 hash_end(const struct hash_stream *stream)
{
    return best()->end(stream);
}
