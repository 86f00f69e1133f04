/* A pull parser for JSON of known form and any size: safetensors headers and their index.
 *
 * The caller asks for what it expects, value by value, and keeps what it wants: nothing is built,
 * so memory is the caller's table and the stack is constant whatever the nesting. Strict: RFC 8259,
 * valid UTF-8, nothing after the document. Everything else we read goes through json.h; a tree of a
 * 100 MB header takes ten times its size.
 *
 *     struct json_pull in = {.file = "x", .text = text, .size = n, .depth_max = 8, ...};
 *     bool more;
 *     if (!pull_begin(&in) || !pull_open(&in, '{'))
 *         return false;
 *     for (bool first = true;; first = false) {
 *         if (!pull_next(&in, '}', first, &more))
 *             return false;
 *         if (!more)
 *             break;
 *         ... pull_key, then exactly one value ...
 *     }
 *     return pull_end(&in);
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PULL_DEPTH_MAX 64

struct json_pull {
    const char *file; /* named in errors */
    const char *text; /* borrowed, size bytes, not changed while parsing */
    uint64_t size;
    uint64_t base;      /* offset of text in the file: errors give file offsets */
    uint32_t depth_max; /* at most PULL_DEPTH_MAX */
    enum tp_code malformed, not_utf8, too_deep;
    struct tp_error *err;
    uint64_t at; /* the next byte; the parser's own from here */
    uint32_t depth;
};

/* The whole text is valid UTF-8, or not_utf8 with the offset of the first byte that is not. */
bool pull_begin(struct json_pull *in);
/* Only white space is left. */
bool pull_end(struct json_pull *in);
/* The first byte of the next value, not consumed; -1 at the end of the text. */
int pull_peek(struct json_pull *in);

/* bracket is '{' or '['. */
bool pull_open(struct json_pull *in, char bracket);
/* After pull_open and after every value: *more says whether an element follows or the closing
 * bracket was consumed. */
bool pull_next(struct json_pull *in, char closing, bool first, bool *more);
/* A string, escapes decoded. buf gets at most cap - 1 bytes and a NUL; *len is the full length. */
bool pull_string(struct json_pull *in, char *buf, size_t cap, size_t *len);
/* The same and the colon after it. */
bool pull_key(struct json_pull *in, char *buf, size_t cap, size_t *len);
/* An integer in decimal digits that fits in 64 bits. false: nothing consumed, no error set. */
bool pull_u64(struct json_pull *in, uint64_t *out);
/* Any value, checked and dropped. */
bool pull_skip(struct json_pull *in);
/* What the next value is, for errors: "a string", "a number", ... */
const char *pull_kind(struct json_pull *in);
