/* Finds added tokens in text: the segments between them and the tokens themselves, in order. */
#pragma once
#include "tokenizer.h"

/* Text that tokens are taken from, n bytes of valid UTF-8. */
struct token_source {
    const char *text;
    size_t n;
    const unsigned char *origin; /* NULL, or (n), 1 for data: no control token is found there */
    bool first;                  /* it is the beginning of all text */
};

struct added_segment {
    uint32_t id;       /* TOKEN_NONE: text between tokens */
    size_t begin, end; /* bytes of the text, strip included */
};

/* One walk over a text. Set it up with added_scan_begin. */
struct added_scan {
    struct tokenizer *tokenizer;
    const char *text;
    size_t n;
    const unsigned char *origin;
    int group;    /* 0: tokens looked for before normalization, 1: after */
    size_t scan;  /* where the next match may begin */
    size_t start; /* what lies before has been given out */
    struct added_segment pending;
    bool has_pending;
};

/* source is borrowed while the walk lasts. */
struct added_scan added_scan_begin(struct tokenizer *tokenizer, int group,
                                   const struct token_source *source);
/* *more false: the text is used up. The leftmost token counts, the longest among those; a control
 * token that touches data is as if it did not exist. */
bool added_scan_next(struct added_scan *scan, struct added_segment *segment, bool *more,
                     struct tp_error *err);
