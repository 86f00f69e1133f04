/* Writes the compiled tokenizer (format/text/tokenizer_file.h) from its parts: lays sections out,
 * builds the two hash tables, finds out which tokens their own bytes encode to. Knows no JSON.
 * Deterministic. */
#pragma once
#include "tokenizer_file.h"

struct pack_token {
    const char *bytes;   /* what it decodes to; NULL with n 0: a hole */
    const char *content; /* what text it is */
    const char *first;   /* what it decodes to as the first of all */
    uint32_t n, content_n, first_n;
    bool used, special;
    bool byte;       /* it stands for a byte where text is decoded */
    bool vocabulary; /* of the BPE vocabulary: merges may produce it */
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
    uint32_t behaviour; /* enum step_behaviour, enum prepend_scheme */
    bool invert;
    const char *pattern;
    uint32_t n;
};

/* kind and flags: those of format/text/normalizer.h */
struct pack_normalizer {
    uint32_t kind, flags;
    bool regex;
    const char *pattern, *content;
    uint32_t pattern_n, content_n;
};

/* A text that goes along. */
struct pack_text {
    enum tokenizer_text_kind kind;
    const char *name, *value;
    uint32_t name_n, value_n;
};

/* Borrowed. Ids are in range and tables within the limits of the format: the caller has checked. */
struct tokenizer_parts {
    const struct pack_token *tokens;
    uint32_t token_count;
    uint32_t byte_ids[256];
    const struct pack_merge *merges; /* by rank; of two for one pair the later counts */
    uint32_t merge_count;
    struct pack_added *added; /* put into the order of the format */
    uint32_t added_count;
    const struct pack_step *steps;
    uint32_t step_count;
    const char *word; /* pattern for a character of a word; NULL: not needed */
    uint32_t word_n;
    uint32_t post[TOKENIZER_POST_MAX];
    uint32_t post_count, post_before;
    const struct pack_normalizer *normalizers;
    uint32_t normalizer_count;
    const struct pack_text *texts;
    uint32_t text_count;
    enum tokenizer_model model;
    uint32_t model_flags, unk; /* enum tokenizer_model_flags; TOKEN_NONE */
    struct tokenizer_decoder decoder;
};

/* The caller frees *data with mem_free.
 *
 * Errors  TP_E_MEMORY; TP_E_LIMIT: a hash table with too long a run (not seen to happen) */
bool tokenizer_pack(struct tokenizer_parts *parts, unsigned char **data, uint64_t *n,
                    struct tp_error *err);
