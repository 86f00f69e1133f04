/* Token ids back to text, as `tokenizers.decode` does it: from the compiled tokenizer's decoder
 * data, id by id, so that an answer can be shown as it comes. All that is given out, put together,
 * is what decoding all ids at once gives, up to a stop string.
 *
 *     id -> bytes -> (run of byte tokens held until it ends) -> strip at both ends -> text_stream
 *
 * The answer of a conversation is decoded alone, as `tokenizer.decode(answer)` and transformers'
 * TextStreamer(skip_prompt=True) have it: a decoder that strips a leading space (Llama-2) shows it
 * without one. What continues a text is not its beginning (detokenizer_continue), so that prompt
 * and output together are the text, as the text-generation pipeline has it.
 */
#pragma once
#include "text_stream.h"
#include "tokenizer_file.h"

#define DETOKENIZER_STRIP_MAX 4096 /* a decoder that strips more from the end is refused */

/* {0} is safe to close. */
struct detokenizer {
    const struct tokenizer_file *file; /* borrowed */
    bool skip_special;
    size_t tokens_max;
    bool any;           /* an id was taken */
    unsigned char *run; /* [tokens_max] bytes of the current run of byte tokens */
    size_t run_n;
    bool run_bad;         /* they are not UTF-8: U+FFFD for each, nothing held */
    unsigned char cut[4]; /* the run's last character, as far as it came */
    size_t cut_n;
    char strip[4];            /* the character stripped, strip_n bytes; 0: none */
    size_t strip_n, strip_at; /* strip_at: bytes of one that have come */
    uint32_t strip_left;      /* how many more may go at the beginning */
    uint32_t strip_held;      /* how many stand at the end, held back */
    char *out;                /* what this call gives to the stream */
    size_t out_n, out_max;
    struct text_stream stream; /* .stopped, .stop_index: a stop string was hit */
};

/* skip_special: control tokens are left out. tokens_max: of one text. stops: see text_stream_init.
 *
 * Errors  TP_E_USAGE: a stop string; TP_E_TK_UNSUPPORTED; TP_E_LIMIT, TP_E_MEMORY */
bool detokenizer_open(struct detokenizer *detokenizer, const struct tokenizer_file *file,
                      bool skip_special, size_t tokens_max, const char *const *stops,
                      size_t stop_count, struct tp_error *err);
void detokenizer_close(struct detokenizer *detokenizer);
/* Ready for another text. */
void detokenizer_reset(struct detokenizer *detokenizer);
/* The same, for a text that goes on where ids [count] end: what only the beginning of a text loses
 * is kept. */
void detokenizer_continue(struct detokenizer *detokenizer, const uint32_t *ids, size_t count);

/* Take an id; one that is no token adds nothing. At most tokens_max of them (asserted). *text, *n
 * are what may be shown now, valid UTF-8, borrowed until the next call. Nothing is allocated. */
void detokenizer_push(struct detokenizer *detokenizer, uint32_t id, const char **text, size_t *n);
/* The end: what was held back. */
void detokenizer_end(struct detokenizer *detokenizer, const char **text, size_t *n);
