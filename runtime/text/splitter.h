/* One step of the pre-tokenizer on one piece of text: the parts that a pattern cuts it into.
 *
 * A pattern divides text into matches and the gaps between; the behaviour says what becomes of
 * them. A splitter is a walk that gives one part at a time, so that no list of parts is ever held.
 */
#pragma once
#include "pattern.h"
#include "tokenizer_file.h"

/* A match or a gap. */
struct splitter_event {
    size_t begin, end;
    bool match; /* after inversion */
};

struct splitter {
    struct pattern *pattern; /* borrowed */
    enum step_behaviour behaviour;
    bool invert; /* matches count as gaps and gaps as matches */
    const char *text;
    size_t n;
    size_t at;                     /* end of the last event */
    size_t found_begin, found_end; /* the match to come, where is_found */
    size_t search, last_end;       /* where to look for one; the end of the one before */
    bool is_found, none_left, any;
    struct splitter_event peeked;
    bool is_peeked;
};

/* text: n bytes of valid UTF-8, borrowed while the walk lasts */
struct splitter splitter_begin(struct pattern *pattern, const struct tokenizer_step *step,
                               const char *text, size_t n);
/* The next part, [*begin, *end), never empty. *more false: there is none. */
bool splitter_next(struct splitter *splitter, size_t *begin, size_t *end, bool *more,
                   struct tp_error *err);
