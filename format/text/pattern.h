/* One regular expression: PCRE2 with UTF, UCP and JIT, and limits, so that no pattern hangs.
 *
 * tools checks with it that a pattern it stores will compile; runtime cuts text with it. The syntax
 * stored in a bundle is PCRE2's: other dialects are translated before
 * (tools/tokenizer/onig_pattern.h).
 */
#pragma once
#include "error.h"
#include <stdbool.h>
#include <stddef.h>

#define PATTERN_BYTES_MAX 65536

struct pattern {
    void *code, *match, *context, *stack; /* PCRE2's; NULL: closed */
};

/* text: n bytes of UTF-8, any bytes are safe. what names the pattern in errors.
 *
 * Errors  TP_E_TK_INVALID: not a pattern; TP_E_TK_UNSUPPORTED: not one of PCRE2; TP_E_MEMORY */
bool pattern_open(struct pattern *pattern, const char *text, size_t n, const char *what,
                  struct tp_error *err);
void pattern_close(struct pattern *pattern); /* {0} is allowed */

/* The leftmost match that begins at or after `from`, in n bytes of valid UTF-8; *found says
 * whether there is one, [*begin, *end) where. Look-around sees the n bytes and nothing else.
 *
 * Errors  TP_E_LIMIT: more backtracking than 10 million steps and 16 a byte. */
bool pattern_find(struct pattern *pattern, const char *text, size_t n, size_t from, bool *found,
                  size_t *begin, size_t *end, struct tp_error *err);
