#include "normalizer.h"

#include "mem.h"
#include "reference_chars.h"
#include "unicode_form.h"
#include "utf8.h"
#include <string.h>

struct walk {
    const unsigned char *s;
    size_t n, at;
};

/* The next character, [begin, at). */
static bool walk_next(struct walk *w, size_t *begin, uint32_t *c)
{
    if (w->at == w->n)
        return false;
    size_t k = utf8_length(w->s + w->at, w->n - w->at);
    tp_assert(k);
    *c = utf8_decode(w->s + w->at, k);
    *begin = w->at;
    w->at += k;
    return true;
}

static bool add_char(struct tp_text *out, uint32_t c, struct tp_error *err)
{
    unsigned char bytes[4];
    size_t n = utf8_encode(c, bytes);
    return tp_text_add(out, (char *)bytes, n, err);
}

static bool add_lowercase(const char *text, size_t n, struct tp_text *out, struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);) {
        if (!add_char(out, reference_lower(c), err))
            return false;
        if (c == 0x130 && !add_char(out, 0x307, err)) /* the one that becomes two: i, dot above */
            return false;
    }
    return true;
}

/* ---- Replace ---- */

static bool add_replaced_literal(const struct normalizer_step *step, const char *text, size_t n,
                                 struct tp_text *out, struct tp_error *err)
{
    size_t at = 0;
    for (const char *found; (found = memmem(text + at, n - at, step->literal, step->literal_n));) {
        size_t begin = (size_t)(found - text);
        if (!tp_text_add(out, text + at, begin - at, err) ||
            !tp_text_add(out, step->content, step->content_n, err))
            return false;
        at = begin + step->literal_n;
    }
    return tp_text_add(out, text + at, n - at, err);
}

/* An empty literal matches before every character and at the end. */
static bool add_between(const struct normalizer_step *step, const char *text, size_t n,
                        struct tp_text *out, struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);)
        if (!tp_text_add(out, step->content, step->content_n, err) ||
            !tp_text_add(out, text + begin, w.at - begin, err))
            return false;
    return tp_text_add(out, step->content, step->content_n, err);
}

/* An empty match right behind the last one is passed over, as Oniguruma's iterator does. */
static bool add_replaced(const struct normalizer_step *step, const char *text, size_t n,
                         struct tp_text *out, struct tp_error *err)
{
    const unsigned char *s = (const unsigned char *)text;
    bool found = true, any = false;
    size_t at = 0, search = 0, begin, end;
    while (search <= n) {
        if (!pattern_find(step->pattern, text, n, search, &found, &begin, &end, err))
            return false;
        if (!found)
            break;
        if (begin == end && any && end == at) {
            size_t k = utf8_length(s + search, n - search);
            search += k ? k : 1;
            continue;
        }
        if (!tp_text_add(out, text + at, begin - at, err) ||
            !tp_text_add(out, step->content, step->content_n, err))
            return false;
        at = search = end;
        any = true;
    }
    return tp_text_add(out, text + at, n - at, err);
}

static bool replace(const struct normalizer_step *step, const char *text, size_t n,
                    struct tp_text *out, struct tp_error *err)
{
    if (n == 0)
        return true; /* nothing matches in an empty text */
    if (step->pattern)
        return add_replaced(step, text, n, out, err);
    return step->literal_n ? add_replaced_literal(step, text, n, out, err)
                           : add_between(step, text, n, out, err);
}

/* ---- Strip ---- */

static bool add_stripped(unsigned flags, const char *text, size_t n, struct tp_text *out,
                         struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    size_t first = n, last = 0;
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);) {
        if (reference_is_space(c))
            continue;
        first = first < begin ? first : begin;
        last = w.at;
    }
    if (!(flags & NORMALIZER_LEFT))
        first = 0;
    if (!(flags & NORMALIZER_RIGHT))
        last = n;
    return first >= last || tp_text_add(out, text + first, last - first, err);
}

bool normalizer_apply(const struct normalizer_step *step, const char *text, size_t n,
                      struct tp_text *out, struct tp_error *err)
{
    out->n = 0;
    switch (step->kind) {
    case NORMALIZER_NFC:
        return unicode_form_add(UNICODE_NFC, text, n, out, err);
    case NORMALIZER_NFD:
        return unicode_form_add(UNICODE_NFD, text, n, out, err);
    case NORMALIZER_NFKC:
        return unicode_form_add(UNICODE_NFKC, text, n, out, err);
    case NORMALIZER_NFKD:
        return unicode_form_add(UNICODE_NFKD, text, n, out, err);
    case NORMALIZER_LOWERCASE:
        return add_lowercase(text, n, out, err);
    case NORMALIZER_REPLACE:
        return replace(step, text, n, out, err);
    case NORMALIZER_PREPEND:
        return (n == 0 || tp_text_add(out, step->content, step->content_n, err)) &&
               tp_text_add(out, text, n, err);
    case NORMALIZER_STRIP:
        return add_stripped(step->flags, text, n, out, err);
    case NORMALIZER_STRIP_ACCENTS:
    case NORMALIZER_BERT:
    case NORMALIZER_NMT:
    case NORMALIZER_BYTE_LEVEL:
        break;
    }
    return tp_fail(err, TP_E_TK_UNSUPPORTED, "normalizer of kind %d", (int)step->kind);
}
