/* Decoded bytes to text that may be shown: never half a character, never the beginning of a stop
 * string.
 *
 * Bytes that are not UTF-8 become U+FFFD, one for each maximal part, as the reference's decoder
 * does it; all output together is the whole decoded at once, however the bytes came. Text ends
 * before the stop string that is complete first (the longest of those that end there).
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>

#define TEXT_STREAM_STOPS_MAX 64
#define TEXT_STREAM_STOP_BYTES_MAX 4096

/* {0} is safe to free. */
struct text_stream {
    const char *const *stops;    /* borrowed */
    size_t stop_count, stop_max; /* bytes of the longest */
    size_t push_max;
    char *held;              /* text not yet given out, then room */
    size_t held_n, released; /* released: bytes at the front that the last call gave out */
    unsigned char cut[4];    /* the beginning of a character */
    size_t cut_n;
    bool stopped;      /* a stop string was hit: no more text will come */
    size_t stop_index; /* which */
};

/* stops: stop_count strings of UTF-8, not empty, borrowed until free. push_max: the most bytes of
 * one push.
 * Errors  TP_E_USAGE: an empty or invalid stop string, or too many; TP_E_MEMORY */
bool text_stream_init(struct text_stream *stream, const char *const *stops, size_t stop_count,
                      size_t push_max, struct tp_error *err);
void text_stream_free(struct text_stream *stream);
/* Ready for another text. */
void text_stream_reset(struct text_stream *stream);

/* Add n <= push_max bytes (asserted); *text, *bytes are what may be shown now, valid until the
 * next call. Nothing is allocated. After a stop string there is nothing any more. */
void text_stream_push(struct text_stream *stream, const void *data, size_t n, const char **text,
                      size_t *bytes);
/* The end, after n more bytes: what was held back, U+FFFD for an incomplete character. */
void text_stream_end(struct text_stream *stream, const void *data, size_t n, const char **text,
                     size_t *bytes);
