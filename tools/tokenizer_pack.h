/* Writes the compiled tokenizer (format/tokenizer_file.h) from its parts: lays sections out,
 * builds the two hash tables, finds out which tokens their own bytes encode to. Knows no JSON.
 * Deterministic. */
#pragma once
#include "tokenizer_file.h"

struct pack_token {
    const char *bytes; /* what it decodes to; NULL with n 0: a hole */
    uint32_t n;
    bool used, special;
    bool vocabulary;   /* of the BPE vocabulary: merges may produce it */
};

struct pack_merge {
    uint32_t left, right, id;
};

struct pack_added {
    const char *content;
    uint32_t n, id, flags; /* enum added_flags */
    bool normalized;       /* looked for after normalization */
};

struct pack_step {
    enum step_kind kind;
    enum step_behaviour behaviour;
    bool invert;
    const char *pattern;
    uint32_t n;
};

/* Borrowed. Ids are in range and tables within the limits of the format: the caller has checked. */
struct tokenizer_parts {
    const struct pack_token *tokens;
    uint32_t token_count;
    uint32_t byte_ids[256];
    const struct pack_merge *merges; /* by rank; of two for one pair the later counts */
    uint32_t merge_count;
    struct pack_added *added;        /* put into the order of the format */
    uint32_t added_count;
    const struct pack_step *steps;
    uint32_t step_count;
    uint32_t post[TOKENIZER_POST_MAX];
    uint32_t post_count, post_before;
    bool ignore_merges; /* a piece that is a token is that token, whatever the merges */
};

/* The caller frees *data with mem_free.
 *
 * Errors  TP_E_MEMORY; TP_E_LIMIT: a hash table with too long a run (not seen to happen) */
bool tokenizer_pack(struct tokenizer_parts *parts, unsigned char **data, uint64_t *n,
                    struct tp_error *err);
