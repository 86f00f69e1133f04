#include "pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    STEPS_MIN = 10000000,
    STEPS_PER_BYTE = 16,
    STACK_MAX = 8 << 20,     /* bytes of JIT stack */
    HEAP_MAX_KIB = 64 << 10, /* of the interpreter, used where the JIT stack is too small */
    NESTING_MAX = 250,
};

/* Is it no pattern for Oniguruma either? */
static bool is_malformed(int why)
{
    return why == PCRE2_ERROR_END_BACKSLASH || why == PCRE2_ERROR_MISSING_SQUARE_BRACKET ||
           why == PCRE2_ERROR_CLASS_RANGE_ORDER || why == PCRE2_ERROR_QUANTIFIER_INVALID ||
           why == PCRE2_ERROR_MISSING_CLOSING_PARENTHESIS ||
           why == PCRE2_ERROR_UNMATCHED_CLOSING_PARENTHESIS;
}

static pcre2_code *compile(const char *text, size_t n, const char *what, struct tp_error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        tp_fail(err, TP_E_MEMORY, "out of memory: %s", what);
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    pcre2_set_max_pattern_length(context, PATTERN_BYTES_MAX);
    pcre2_set_parens_nest_limit(context, NESTING_MAX);
    int why = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *code = pcre2_compile(
        (PCRE2_SPTR)text, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &why, &at, context);
    pcre2_compile_context_free(context);
    if (!code) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(why, reason, sizeof reason);
        tp_fail(err,
                why == PCRE2_ERROR_HEAP_FAILED ? TP_E_MEMORY
                : is_malformed(why)            ? TP_E_TK_INVALID
                                               : TP_E_TK_UNSUPPORTED,
                "%s: offset %zu: %s", what, (size_t)at, (const char *)reason);
    }
    return code;
}

bool pattern_open(struct pattern *pattern, const char *text, size_t n, const char *what,
                  struct tp_error *err)
{
    struct pattern p = {.code = compile(text, n, what, err)};
    if (!p.code)
        return false;
    p.match = pcre2_match_data_create(1, NULL);
    p.context = pcre2_match_context_create(NULL);
    if (!p.match || !p.context) {
        pattern_close(&p);
        return tp_fail(err, TP_E_MEMORY, "out of memory: %s", what);
    }
    pcre2_set_heap_limit(p.context, HEAP_MAX_KIB);
    /* Without a JIT (or a stack for it) the interpreter gives the same matches. */
    if (pcre2_jit_compile(p.code, PCRE2_JIT_COMPLETE) == 0) {
        p.stack = pcre2_jit_stack_create(32 << 10, STACK_MAX, NULL);
        if (p.stack)
            pcre2_jit_stack_assign(p.context, NULL, p.stack);
    }
    *pattern = p;
    return true;
}

void pattern_close(struct pattern *pattern)
{
    pcre2_jit_stack_free(pattern->stack);
    pcre2_match_context_free(pattern->context);
    pcre2_match_data_free(pattern->match);
    pcre2_code_free(pattern->code);
    *pattern = (struct pattern){0};
}

bool pattern_find(struct pattern *pattern, const char *text, size_t n, size_t from, bool *found,
                  size_t *begin, size_t *end, struct tp_error *err)
{
    size_t steps = STEPS_MIN + STEPS_PER_BYTE * n;
    pcre2_set_match_limit(pattern->context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    int rc = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK,
                         pattern->match, pattern->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, pattern->match, pattern->context);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return true;
    if (rc < 0) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(rc, reason, sizeof reason);
        return tp_fail(err, rc == PCRE2_ERROR_NOMEMORY ? TP_E_MEMORY : TP_E_LIMIT,
                       "pre-tokenizer pattern on %zu bytes of text: %s", n, (const char *)reason);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(pattern->match);
    /* \K inside a called group can put the beginning anywhere */
    *begin = range[0] < from ? from : range[0];
    *end = range[1] < *begin ? *begin : range[1];
    return true;
}
