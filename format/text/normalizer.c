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
        if (utf8_is_space(c))
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

/* ---- characters one by one: removed, or another in their place ---- */

typedef bool (*drops_fn)(uint32_t c);

static bool add_without(drops_fn drops, const char *text, size_t n, struct tp_text *out,
                        struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);)
        if (!drops(c) && !tp_text_add(out, text + begin, w.at - begin, err))
            return false;
    return true;
}

static bool nmt_drops(uint32_t c)
{
    return (c >= 0x01 && c <= 0x08) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f ||
           c == 0x8f || c == 0x9f;
}

static bool nmt_spaces(uint32_t c)
{
    return c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
           (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xfeff || c == 0xfffd;
}

static bool add_nmt(const char *text, size_t n, struct tp_text *out, struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);)
        if (!nmt_drops(c) && !add_char(out, nmt_spaces(c) ? ' ' : c, err))
            return false;
    return true;
}

/* The letter that stands for a byte: itself where it is printable, else the next from U+0100 on. */
static bool add_byte_letters(const char *text, size_t n, struct tp_text *out, struct tp_error *err)
{
    uint32_t letters[256], next = 0x100;
    for (uint32_t b = 0; b < 256; b++) {
        bool printable = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
        letters[b] = printable ? b : next++;
    }
    for (size_t i = 0; i < n; i++)
        if (!add_char(out, letters[(unsigned char)text[i]], err))
            return false;
    return true;
}

/* ---- BERT ---- */

static bool add_clean(const char *text, size_t n, struct tp_text *out, struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);)
        if (!reference_is_control(c) && !add_char(out, utf8_is_space(c) ? ' ' : c, err))
            return false;
    return true;
}

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool add_spaced(const char *text, size_t n, struct tp_text *out, struct tp_error *err)
{
    struct walk w = {(const unsigned char *)text, n, 0};
    uint32_t c;
    for (size_t begin; walk_next(&w, &begin, &c);) {
        const char *space = is_chinese(c) ? " " : "";
        if (!tp_text_add(out, space, *space != 0, err) ||
            !tp_text_add(out, text + begin, w.at - begin, err) ||
            !tp_text_add(out, space, *space != 0, err))
            return false;
    }
    return true;
}

/* One of BERT's parts on *out, through *spare. */
static bool bert_part(unsigned part, struct tp_text *out, struct tp_text *spare,
                      struct tp_error *err)
{
    struct tp_text from = *out;
    *out = *spare;
    *spare = from;
    out->n = 0;
    switch (part) {
    case NORMALIZER_CLEAN:
        return add_clean(from.data, from.n, out, err);
    case NORMALIZER_CHINESE:
        return add_spaced(from.data, from.n, out, err);
    case NORMALIZER_LOWER:
        return add_lowercase(from.data, from.n, out, err);
    default:
        break;
    }
    if (!unicode_form_add(UNICODE_NFD, from.data, from.n, out, err))
        return false;
    spare->n = 0;
    if (!add_without(reference_is_nonspacing, out->data, out->n, spare, err))
        return false;
    from = *spare;
    *spare = *out;
    *out = from;
    return true;
}

static bool add_bert(unsigned flags, const char *text, size_t n, struct tp_text *out,
                     struct tp_error *err)
{
    static const unsigned parts[] = {NORMALIZER_CLEAN, NORMALIZER_CHINESE, NORMALIZER_ACCENTS,
                                     NORMALIZER_LOWER};
    struct tp_text spare = {0};
    bool ok = tp_text_add(out, text, n, err);
    for (size_t i = 0; ok && i < sizeof parts / sizeof *parts; i++)
        ok = !(flags & parts[i]) || bert_part(parts[i], out, &spare, err);
    mem_free(spare.data);
    return ok;
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
        return add_without(reference_is_mark, text, n, out, err);
    case NORMALIZER_BERT:
        return add_bert(step->flags, text, n, out, err);
    case NORMALIZER_NMT:
        return add_nmt(text, n, out, err);
    case NORMALIZER_BYTE_LEVEL:
        return add_byte_letters(text, n, out, err);
    }
    return tp_fail(err, TP_E_TK_INVALID, "normalizer of kind %d", (int)step->kind);
}
