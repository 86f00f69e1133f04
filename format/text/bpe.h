/* Byte-pair merges of one piece of text: from bytes or characters to token ids.
 *
 * A piece is cut first wherever no merge can reach across (the table of cuts): what is left is
 * mostly a word, whose token is looked up or merged, whatever the length of the piece.
 * The pair of neighbours of the lowest rank merges first, the leftmost among equals, until no pair
 * is left (Sennrich et al. 2016, as Hugging Face tokenizers does it). Short pieces look for it by
 * a scan; long ones sort the pairs there are at first and keep those that arise in a heap, so that
 * a megabyte that cannot be cut takes n log n steps. Of longer ones a window at a time is merged:
 * as far as what follows it cannot matter its ids are final, so that memory does not grow with a
 * piece.
 */
#pragma once
#include "tokenizer_file.h"

#define BPE_WINDOW_MAX (1u << 20) /* symbols, of 40 bytes each while they merge */
#define TOKEN_IDS_TAKEN_AT 4096u

/* Ids that grow at the end. {0} is empty; the caller frees with token_ids_free. */
struct token_ids {
    uint32_t *ids;
    size_t count, cap;
    uint64_t dropped; /* bytes of text for which the vocabulary has no token */
    /* NULL: all are kept. Else called with TOKEN_IDS_TAKEN_AT of them, and makes count 0; the last
     * ones are left to the caller. */
    bool (*take)(struct token_ids *list, struct tp_error *err);
    void *to; /* for take */
};
bool token_ids_push(struct token_ids *list, uint32_t id, struct tp_error *err);
void token_ids_free(struct token_ids *list);

struct bpe_symbol {
    uint32_t id;
    uint32_t prev, next;   /* neighbours; BPE_END at either end */
    uint32_t rank, merged; /* of this symbol and the next; BPE_END: they do not merge */
};
#define BPE_END UINT32_MAX

struct bpe_right {
    uint32_t id, rank; /* a token on the right, and the rank of the merge */
};

/* Working memory, kept from piece to piece, of one tokenizer file. {0} is ready; one thread at a
 * time. */
struct bpe {
    uint32_t window; /* symbols merged at once; 0: 65536 */
    uint32_t *start; /* symbols before merging */
    size_t start_count, start_cap;
    uint32_t unk; /* an unknown token that may yet grow; TOKEN_NONE */
    struct bpe_symbol *symbols;
    size_t symbols_cap;
    uint64_t *first; /* pairs of the piece's bytes in order: rank << 32 | position */
    size_t first_count, first_at, first_cap;
    uint64_t *heap; /* pairs that arose by merging */
    size_t heap_count, heap_cap;
    uint32_t *left_ends;      /* [tokens + 1] rights of a token; NULL: no long piece came yet */
    struct bpe_right *rights; /* by token on the left */
    bool divides;             /* merges join contents: what follows a window can be told */
};
void bpe_free(struct bpe *bpe);

/* Append the ids of piece, n bytes, to list; in a characters model they are valid UTF-8. What is
 * unknown and has no unknown token is left out and counted in dropped, its neighbours may then
 * merge: the reference's behaviour.
 *
 * Errors  TP_E_MEMORY; TP_E_LIMIT: more than BPE_WINDOW_MAX symbols of which merges leave nothing
 *         certain */
bool bpe_encode(struct bpe *bpe, const struct tokenizer_file *file, const void *piece, size_t n,
                struct token_ids *list, struct tp_error *err);
/* The same without a look at whole pieces and words: by merging alone. */
bool bpe_merge(struct bpe *bpe, const struct tokenizer_file *file, const void *piece, size_t n,
               struct token_ids *list, struct tp_error *err);
