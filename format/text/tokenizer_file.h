/* The compiled tokenizer, `tokenizer.tpt` of a bundle: what tools/tokenizer/tokenizer_compile makes
 * of tokenizer.json, laid out so that a mapping is usable as it is. This file owns the layout, its
 * checks and the lookups in it; how text becomes pieces is runtime/text/tokenizer's affair.
 *
 * docs/format.md, sections 9 to 13, is normative: header, sections, hashes, what each number means,
 * and how text becomes ids and ids text.
 */
#pragma once
#include "error.h"
#include "le.h"
#include "version.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKENIZER_FILE_NAME "tokenizer.tpt"
#define TOKEN_NONE UINT32_MAX

/* Limits: beyond them a tokenizer.json is refused, and a compiled file is malformed. */
#define TOKENIZER_TOKENS_MAX (1u << 22)
#define TOKENIZER_MERGES_MAX (1u << 23)
#define TOKENIZER_TOKEN_BYTES_MAX 65536u
#define TOKENIZER_ADDED_BYTES_MAX                                                                  \
    1024u /* content of an added token: searched for at every byte                                 \
           */
#define TOKENIZER_PROBES_MAX 1024u
#define TOKENIZER_STEPS_MAX 16u
#define TOKENIZER_POST_MAX 64u
#define TOKENIZER_NORMALIZERS_MAX 16u
#define TOKENIZER_TEXTS_MAX 256u

enum { TOKENIZER_HEADER_BYTES = 512, TOKENIZER_ALIGN = 64, TOKENIZER_CUTS_BYTES = 8192 };

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
    SECTION_CONTENT_ENDS = 11,
    SECTION_CONTENT_BYTES = 12,
    SECTION_NORMALIZERS = 13,
    SECTION_NORMALIZER_BYTES = 14,
    SECTION_FIRST_ENDS = 15,
    SECTION_FIRST_BYTES = 16,
    SECTION_TEXTS = 17,
    SECTION_TEXT_BYTES = 18,
    SECTION_CUTS = 19,
    SECTION_WORD = 20,
    SECTION_USED = 21,
    SECTION_COUNT = 24, /* slots in the header */
};

enum token_flags {
    TOKEN_USED = 1,    /* not a hole */
    TOKEN_SPECIAL = 2, /* a control token: left out of decoded text on request */
    TOKEN_WHOLE = 4,   /* merges make this token alone of its content */
    TOKEN_BYTE = 8,    /* stands for a byte: its decoded form, in DECODE_RUNS */
};

enum added_flags {
    ADDED_LSTRIP = 1,
    ADDED_RSTRIP = 2,
    ADDED_SINGLE_WORD = 4,
    ADDED_SPECIAL = 8, /* a control token: not taken from text that may not hold any */
};

enum tokenizer_model {
    MODEL_BPE_BYTES = 1, /* the symbols that merge are bytes */
    MODEL_BPE_CHARS = 2, /* characters */
};

enum tokenizer_model_flags {
    MODEL_BYTE_FALLBACK = 1, /* an unknown character is its bytes' tokens, where all are there */
    MODEL_FUSE_UNK = 2,      /* neighbouring unknown characters are one unknown token */
    MODEL_IGNORE_MERGES = 4, /* a piece that is a token's content is that token */
};

enum decoder_mode { DECODE_BYTES = 1, DECODE_RUNS = 2, DECODE_WORDS = 3 };

enum step_kind {
    STEP_SPLIT = 1,        /* cut by a pattern */
    STEP_PREFIX_SPACE = 2, /* put a space before a piece that begins with none */
    STEP_METASPACE = 3,    /* spaces become the pattern's bytes, which are put before a piece that
                              does not begin with them, by behaviour: enum prepend_scheme */
    STEP_LETTERS = 4,      /* every byte becomes its letter */
};

enum prepend_scheme { PREPEND_NEVER = 0, PREPEND_ALWAYS = 1, PREPEND_FIRST = 2 };

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
    uint32_t behaviour; /* enum step_behaviour, enum prepend_scheme */
    bool invert;
    struct tokenizer_bytes pattern;
};

/* kind and flags: those of format/text/normalizer.h. */
struct tokenizer_normalizer {
    uint32_t kind, flags;
    bool regex; /* pattern is PCRE2 syntax; else it is a literal, or there is none */
    struct tokenizer_bytes pattern, content;
};

/* Numbers of the format. */
enum tokenizer_text_kind {
    TEXT_TEMPLATE = 1, /* a chat template: "default", "tool_use" ... */
    TEXT_VARIABLE = 2, /* a variable of templates: "bos_token" ... */
    TEXT_REFUSED = 3,  /* a template's name; why it is not here */
};

struct tokenizer_text {
    uint32_t kind;
    struct tokenizer_bytes name, value; /* UTF-8 */
};

struct tokenizer_decoder {
    enum decoder_mode mode;
    bool first_differs; /* tokenizer_file_first gives the first token's bytes */
    uint32_t strip;     /* a code point, 0: none */
    uint32_t strip_begin, strip_end;
};

/* An opened file. Borrows the bytes, owns nothing. */
struct tokenizer_file {
    const unsigned char *section[SECTION_COUNT];
    enum tokenizer_model model;
    uint32_t model_flags, unk;
    struct tokenizer_decoder decoder;
    bool has_cuts, content_differs;
    uint32_t word_bytes; /* of the pattern in WORD */
    uint32_t normalizer_count, text_count, content_bytes_max;
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

/* Entry id of a table of ends and bytes. */
static inline struct tokenizer_bytes tokenizer_file_bytes(const struct tokenizer_file *file,
                                                          int ends_section, uint32_t id)
{
    const unsigned char *ends = file->section[ends_section];
    uint32_t begin = id ? le_u32(ends + 4 * (size_t)id - 4) : 0;
    int bytes = ends_section == SECTION_TOKEN_ENDS ? SECTION_TOKEN_BYTES : ends_section + 1;
    return (struct tokenizer_bytes){file->section[bytes] + begin,
                                    le_u32(ends + 4 * (size_t)id) - begin};
}

/* What a token decodes to; id < tokens. */
static inline struct tokenizer_bytes tokenizer_file_token(const struct tokenizer_file *file,
                                                          uint32_t id)
{
    return tokenizer_file_bytes(file, SECTION_TOKEN_ENDS, id);
}

/* What text it is: what tokenizer_file_find looks up. */
static inline struct tokenizer_bytes tokenizer_file_content(const struct tokenizer_file *file,
                                                            uint32_t id)
{
    return tokenizer_file_bytes(
        file, file->content_differs ? SECTION_CONTENT_ENDS : SECTION_TOKEN_ENDS, id);
}

/* What it decodes to as the first of all. */
static inline struct tokenizer_bytes tokenizer_file_first(const struct tokenizer_file *file,
                                                          uint32_t id)
{
    return tokenizer_file_bytes(
        file, file->decoder.first_differs ? SECTION_FIRST_ENDS : SECTION_TOKEN_ENDS, id);
}

static inline unsigned tokenizer_file_flags(const struct tokenizer_file *file, uint32_t id)
{
    return file->section[SECTION_TOKEN_FLAGS][id];
}

static inline uint32_t tokenizer_file_byte_id(const struct tokenizer_file *file, unsigned char byte)
{
    return le_u32(file->section[SECTION_BYTE_IDS] + 4 * (size_t)byte);
}

/* The token of the vocabulary with this content, TOKEN_NONE where there is none. */
uint32_t tokenizer_file_find(const struct tokenizer_file *file, const void *bytes, size_t n);

/* The token that is this text: an added one, else one of the vocabulary; TOKEN_NONE. */
uint32_t tokenizer_file_named(const struct tokenizer_file *file, const void *bytes, size_t n);

/* What left and right merge to. false: they do not. */
bool tokenizer_file_merge(const struct tokenizer_file *file, uint32_t left, uint32_t right,
                          uint32_t *rank, uint32_t *id);

/* A pair that merges, of the table's slots [0, merge_slots). false: none there. */
struct tokenizer_pair {
    uint32_t left, right, rank, id;
};
bool tokenizer_file_pair(const struct tokenizer_file *file, uint32_t slot,
                         struct tokenizer_pair *pair);

struct tokenizer_added tokenizer_file_added(const struct tokenizer_file *file, uint32_t i);
struct tokenizer_step tokenizer_file_step(const struct tokenizer_file *file, uint32_t i);
static inline uint32_t tokenizer_file_post(const struct tokenizer_file *file, uint32_t i)
{
    return le_u32(file->section[SECTION_POST] + 4 * (size_t)i);
}

struct tokenizer_normalizer tokenizer_file_normalizer(const struct tokenizer_file *file,
                                                      uint32_t i);
struct tokenizer_text tokenizer_file_text(const struct tokenizer_file *file, uint32_t i);
/* The text of that kind and name, a C string. false: there is none. */
bool tokenizer_file_find_text(const struct tokenizer_file *file, enum tokenizer_text_kind kind,
                              const char *name, struct tokenizer_bytes *value);

/* May a piece be cut between bytes a and b? */
static inline bool tokenizer_file_cuts(const struct tokenizer_file *file, unsigned char a,
                                       unsigned char b)
{
    return !(file->section[SECTION_CUTS][(size_t)a << 5 | b >> 3] >> (b & 7) & 1);
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
