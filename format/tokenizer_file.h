/* The compiled tokenizer, `tokenizer.tpt` of a bundle: what tools/tokenizer_compile makes of
 * tokenizer.json, laid out so that a mapping is usable as it is. Little-endian. This file owns the
 * layout, its checks and the lookups in it; how text becomes pieces is runtime/tokenizer's affair.
 *
 *     OFFSET SIZE  header, 256 bytes
 *          0    8  magic "TPTOKEN\n"
 *          8    4  version, 1
 *         12    4  header bytes, 256
 *         16    8  file bytes
 *         24   16  XXH3-128 of everything from offset 40 on
 *         40    4  model: 1 byte-level BPE
 *         44    4  tokens: ids are 0 .. tokens - 1, holes included
 *         48    4  index probes: no entry of INDEX lies further from its home slot
 *         52    4  merge probes: the same for MERGES
 *         56    4  added tokens that are looked for before normalization; the rest after it
 *         60    4  entries of POST that go before the text; the rest after it
 *         64  192  12 sections: offset (u64, multiple of 64), bytes (u64). In this order, zeros
 *                  between, none elsewhere; a section that is not in use has offset and bytes 0.
 *
 *     SECTION          CONTENT
 *      0 TOKEN_ENDS    u32[tokens]: token i is TOKEN_BYTES[end(i-1), end(i))
 *      1 TOKEN_FLAGS   u8[tokens], enum token_flags
 *      2 TOKEN_BYTES   the bytes each token decodes to (not byte letters)
 *      3 BYTE_IDS      u32[256]: the token of each single byte, TOKEN_NONE where there is none
 *      4 INDEX         u32[]: id + 1 of a token of the vocabulary, 0 for an empty slot, by
 *                      tokenizer_hash_bytes; linear probing
 *      5 MERGES        {u32 left, right, rank, id}[], left TOKEN_NONE for an empty slot, by
 *                      tokenizer_hash_pair; linear probing
 *      6 ADDED         {u32 content end, u32 id, u32 flags, u32 0}[], each of the two groups
 *                      ascending by content, bytewise; contents follow each other in ADDED_BYTES
 *      7 ADDED_BYTES   contents as they stand in text
 *      8 STEPS         {u32 kind, u32 behaviour, u32 invert, u32 pattern end}[]: the pre-tokenizer
 *      9 STEP_BYTES    patterns, PCRE2 syntax
 *     10 POST          u32[]: ids put before and after the text
 *     11               not in use
 *
 * Home slot of hash h in a table of n: (h >> 32) * n >> 32.
 */
#pragma once
#include "error.h"
#include "le.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKENIZER_VERSION 1u
#define TOKENIZER_FILE_NAME "tokenizer.tpt"
#define TOKEN_NONE UINT32_MAX

/* Limits: beyond them a tokenizer.json is refused, and a compiled file is malformed. */
#define TOKENIZER_TOKENS_MAX (1u << 22)
#define TOKENIZER_MERGES_MAX (1u << 23)
#define TOKENIZER_TOKEN_BYTES_MAX 65536u
#define TOKENIZER_ADDED_BYTES_MAX 1024u /* content of an added token: searched for at every byte */
#define TOKENIZER_PROBES_MAX 1024u
#define TOKENIZER_STEPS_MAX 16u
#define TOKENIZER_POST_MAX 64u

enum { TOKENIZER_HEADER_BYTES = 256, TOKENIZER_ALIGN = 64 };

enum tokenizer_section {
    SECTION_TOKEN_ENDS = 0,
    SECTION_TOKEN_FLAGS = 1,
    SECTION_TOKEN_BYTES = 2,
    SECTION_BYTE_IDS = 3,
    SECTION_INDEX = 4,
    SECTION_MERGES = 5,
    SECTION_ADDED = 6,
    SECTION_ADDED_BYTES = 7,
    SECTION_STEPS = 8,
    SECTION_STEP_BYTES = 9,
    SECTION_POST = 10,
    SECTION_COUNT = 12, /* slots in the header */
};

enum token_flags {
    TOKEN_USED = 1,    /* not a hole */
    TOKEN_SPECIAL = 2, /* a control token: left out of decoded text on request */
    TOKEN_WHOLE = 4,   /* a piece with exactly these bytes is this token, whatever the merges */
};

enum added_flags { ADDED_LSTRIP = 1, ADDED_RSTRIP = 2, ADDED_SINGLE_WORD = 4 };

enum tokenizer_model { MODEL_BPE_BYTES = 1 };

enum step_kind {
    STEP_SPLIT = 1, /* cut by a pattern */
    STEP_PREFIX_SPACE =
        2, /* put a space before a piece that begins with none; at most one such step */
};

/* What becomes of the matches of a pattern, as Hugging Face names it. */
enum step_behaviour {
    SPLIT_REMOVED = 0,
    SPLIT_ISOLATED = 1,
    SPLIT_MERGED_WITH_PREVIOUS = 2,
    SPLIT_MERGED_WITH_NEXT = 3,
    SPLIT_CONTIGUOUS = 4,
};

struct tokenizer_bytes {
    const unsigned char *data;
    size_t n;
};

struct tokenizer_added {
    struct tokenizer_bytes content;
    uint32_t id, flags;
};

struct tokenizer_step {
    enum step_kind kind;
    enum step_behaviour behaviour;
    bool invert;
    struct tokenizer_bytes pattern;
};

/* An opened file. Borrows the bytes, owns nothing. */
struct tokenizer_file {
    const unsigned char *section[SECTION_COUNT];
    uint32_t tokens, index_slots, index_probes, merge_slots, merge_probes;
    uint32_t added_count, added_raw, step_count, post_count, post_before;
    uint32_t token_bytes_max; /* of the longest token */
};

/* data: n bytes that outlive *out, any content is safe afterwards. name is used in errors.
 *
 * Errors  TP_E_TK_INVALID, TP_E_VERSION, TP_E_FILE_HASH */
bool tokenizer_file_open(const void *data, uint64_t n, const char *name, struct tokenizer_file *out,
                         struct tp_error *err);

/* Write the hash into the header of n >= 256 bytes. */
void tokenizer_file_seal(unsigned char *data, uint64_t n);

/* id < tokens */
static inline struct tokenizer_bytes tokenizer_file_token(const struct tokenizer_file *file,
                                                          uint32_t id)
{
    const unsigned char *ends = file->section[SECTION_TOKEN_ENDS];
    uint32_t begin = id ? le_u32(ends + 4 * (size_t)id - 4) : 0;
    return (struct tokenizer_bytes){file->section[SECTION_TOKEN_BYTES] + begin,
                                    le_u32(ends + 4 * (size_t)id) - begin};
}

static inline unsigned tokenizer_file_flags(const struct tokenizer_file *file, uint32_t id)
{
    return file->section[SECTION_TOKEN_FLAGS][id];
}

static inline uint32_t tokenizer_file_byte_id(const struct tokenizer_file *file, unsigned char byte)
{
    return le_u32(file->section[SECTION_BYTE_IDS] + 4 * (size_t)byte);
}

/* The token of the vocabulary with these bytes, TOKEN_NONE where there is none. */
uint32_t tokenizer_file_find(const struct tokenizer_file *file, const void *bytes, size_t n);

/* What left and right merge to. false: they do not. */
bool tokenizer_file_merge(const struct tokenizer_file *file, uint32_t left, uint32_t right,
                          uint32_t *rank, uint32_t *id);

struct tokenizer_added tokenizer_file_added(const struct tokenizer_file *file, uint32_t i);
struct tokenizer_step tokenizer_file_step(const struct tokenizer_file *file, uint32_t i);
static inline uint32_t tokenizer_file_post(const struct tokenizer_file *file, uint32_t i)
{
    return le_u32(file->section[SECTION_POST] + 4 * (size_t)i);
}

/* ---- the hashes of the two tables, part of the format ---- */

static inline uint64_t tokenizer_mix(uint64_t h)
{
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static inline uint64_t tokenizer_hash_pair(uint32_t left, uint32_t right)
{
    return tokenizer_mix(tokenizer_mix((uint64_t)left << 32 | right));
}

static inline uint64_t tokenizer_hash_bytes(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = n;
    for (; n >= 8; p += 8, n -= 8)
        h = tokenizer_mix(h ^ le_u64(p));
    uint64_t tail = 0;
    for (size_t i = 0; i < n; i++)
        tail |= (uint64_t)p[i] << 8 * i;
    return tokenizer_mix(tokenizer_mix(h ^ tail));
}

static inline uint32_t tokenizer_home(uint64_t hash, uint32_t slots)
{
    return (uint32_t)((hash >> 32) * slots >> 32);
}
