/* Hashes of a bundle made right after anything in it was changed, by docs/format.md: what fuzz
 * targets and tests/tools/forge_random.c do to get behind them. No field is trusted: what does not
 * lie in the file has no hash. */
#pragma once
#include "hash.h"
#include "le.h"
#include "mem.h"
#include "rank_plan.h"
#include "shard.h"
#include <stdio.h>
#include <string.h>

/* The digest at a manifest's end: the hash of all before it. n: with the end, `hex"\n}\n`. */
static inline void reseal_manifest(char *text, size_t n)
{
    enum { HEX = 32, END = 4 };
    char hex[HEX + 1];
    if (n < HEX + END)
        return;
    hash_to_hex(hash_bytes(text, n - HEX - END), hex);
    memcpy(text + n - HEX - END, hex, HEX);
}

/* The input as a text that ends as a sealed one does, with its digest; mem_free. *n: its length.
 * NULL: no memory. */
static inline char *reseal_input(const uint8_t *data, size_t size, size_t *n)
{
    static const char end[] = ",\n \"digest\": \"00000000000000000000000000000000\"\n}\n";
    *n = size + sizeof end - 1;
    char *text = mem_alloc(*n, NULL);
    if (!text)
        return NULL;
    if (size)
        memcpy(text, data, size);
    memcpy(text + size, end, sizeof end - 1);
    reseal_manifest(text, *n);
    return text;
}

/* Put the bundle id that an error of bundle_parse names as the contents' into the text. false: it
 * is no such error, or the text has no place for it. */
static inline bool reseal_id(char *text, size_t n, const char *error)
{
    static const char says[] = "that of the contents is ", key[] = "\"bundle_id\": \"";
    const char *id = strstr(error, says);
    char *at = id ? memmem(text, n, key, sizeof key - 1) : NULL;
    if (!at || (size_t)(text + n - at) < sizeof key - 1 + 32)
        return false;
    memcpy(at + sizeof key - 1, id + sizeof says - 1, 32);
    return true;
}

/* Which hashes of a rank file are made right. */
struct reseal {
    bool chunks, tensors, table, header;
};

static inline bool reseal_in(uint64_t at, uint64_t bytes, uint64_t n)
{
    return at <= n && bytes <= n - at;
}

static inline void reseal_chunks(unsigned char *file, uint64_t n, uint64_t at, uint32_t count)
{
    uint64_t data = le_u64(file + 80);
    for (uint32_t i = 0; i < count && reseal_in(at, SHARD_CHUNK_ENTRY, n);
         i++, at += SHARD_CHUNK_ENTRY) {
        uint64_t offset = le_u64(file + at + 32), bytes = le_u64(file + at + 40);
        if (data > n || !reseal_in(offset, bytes, n - data))
            continue;
        struct hash128 hash = hash_bytes(file + data + offset, bytes);
        memcpy(file + at + 16, hash.bytes, 16);
        if (le_u32(file + 112) == COMPRESS_NONE)
            memcpy(file + at, hash.bytes, 16);
    }
}

static inline void reseal_tensors(unsigned char *file, uint64_t n, uint32_t count, uint64_t chunks)
{
    for (uint64_t i = 0, at = SHARD_HEADER_BYTES; i < count && reseal_in(at, SHARD_TENSOR_ENTRY, n);
         i++, at += SHARD_TENSOR_ENTRY) {
        struct hash_stream stream;
        uint64_t first = le_u32(file + at + 88), many = le_u32(file + at + 92);
        hash_start(&stream);
        for (uint64_t c = first; c < first + many; c++) {
            uint64_t chunk = chunks + c * SHARD_CHUNK_ENTRY;
            if (!reseal_in(chunk, SHARD_CHUNK_ENTRY, n))
                break;
            hash_add(&stream, file + chunk, 16);
        }
        memcpy(file + at + 96, hash_end(&stream).bytes, 16);
    }
}

static inline void reseal_rank_file(unsigned char *file, uint64_t n, struct reseal what)
{
    if (n < SHARD_HEADER_BYTES)
        return;
    uint32_t tensors = le_u32(file + 40);
    uint64_t chunks = SHARD_HEADER_BYTES + (uint64_t)tensors * SHARD_TENSOR_ENTRY;
    uint64_t table = le_u64(file + 56);
    if (what.chunks)
        reseal_chunks(file, n, chunks, le_u32(file + 44));
    if (what.tensors)
        reseal_tensors(file, n, tensors, chunks);
    if (what.table && reseal_in(SHARD_HEADER_BYTES, table, n))
        memcpy(file + 64, hash_bytes(file + SHARD_HEADER_BYTES, table).bytes, 16);
    if (what.header)
        memcpy(file + SHARD_HEADER_BYTES - 16, hash_bytes(file, SHARD_HEADER_BYTES - 16).bytes, 16);
}
