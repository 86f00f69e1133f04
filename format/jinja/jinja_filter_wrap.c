/* wordwrap: Python's textwrap, whose words end at spaces, hyphens and dashes. */
#include "jinja_filters.h"

#include <string.h>

/* A line by characters; chunks are its words and spaces, [begin, end) each. */
struct chunk {
    size_t begin, end;
};
struct wrapping {
    const struct jinja_string *line;
    const uint32_t *chars;
    const size_t *bytes; /* where each begins, and the end */
    size_t n;
    struct chunk *chunks;
    size_t count;
    size_t width;
    bool break_words, break_hyphens;
};

static bool is_blank(uint32_t c)
{
    return c == ' ' || (c >= 0x09 && c <= 0x0d);
}

static bool is_word(uint32_t c)
{
    return c == '_' || jinja_is_alpha(c) || jinja_is_numeric(c);
}

static bool is_letter(const struct wrapping *w, size_t i)
{
    return i < w->n && is_word(w->chars[i]) && !jinja_is_decimal(w->chars[i]);
}

/* A word's character or punctuation, before place i */
static bool word_before(const struct wrapping *w, size_t i)
{
    if (i == 0)
        return false;
    uint32_t c = w->chars[i - 1];
    return is_word(c) || (c < 128 && c && strchr("!\"'&.,?", (int)c));
}

/* Two or more dashes at i and a word after them: their number, or 0 */
static size_t dashes_at(const struct wrapping *w, size_t i)
{
    size_t n = 0;
    while (i + n < w->n && w->chars[i + n] == '-')
        n++;
    return n >= 2 && i + n < w->n && is_word(w->chars[i + n]) ? n : 0;
}

/* A hyphen at i that words may be broken after: ab-cd, a-b-cd */
static bool breaks_after(const struct wrapping *w, size_t i)
{
    if (i >= w->n || w->chars[i] != '-' || i < 2)
        return false;
    bool two = is_letter(w, i - 1) && is_letter(w, i - 2);
    bool three = i >= 3 && is_letter(w, i - 3) && w->chars[i - 2] == '-' && word_before(w, i);
    bool after =
        is_letter(w, i + 1) &&
        (is_letter(w, i + 2) || (i + 2 < w->n && w->chars[i + 2] == '-' && is_letter(w, i + 3)));
    return (two || three) && after;
}

/* The end of the word that begins at i */
static size_t word_end(const struct wrapping *w, size_t i)
{
    size_t n = w->break_hyphens && word_before(w, i) ? dashes_at(w, i) : 0;
    if (n)
        return i + n;
    for (size_t p = i + 1;; p++) {
        if (w->break_hyphens && breaks_after(w, p))
            return p + 1;
        if (p == w->n || is_blank(w->chars[p]))
            return p;
        if (w->break_hyphens && word_before(w, p) && dashes_at(w, p))
            return p;
    }
}

static bool split_chunks(struct jinja *j, struct wrapping *w)
{
    w->chunks = jinja_array(j, w->n, sizeof *w->chunks);
    if (!w->chunks || !jinja_spend(j, w->n))
        return false;
    for (size_t i = 0, end; i < w->n; i = end) {
        end = i + 1;
        if (is_blank(w->chars[i])) {
            while (end < w->n && is_blank(w->chars[end]))
                end++;
        } else {
            end = word_end(w, i);
        }
        w->chunks[w->count++] = (struct chunk){i, end};
    }
    return true;
}

static bool all_space(const struct wrapping *w, struct chunk c)
{
    for (size_t i = c.begin; i < c.end; i++)
        if (!jinja_is_space(w->chars[i]))
            return false;
    return true;
}

/* Where a word that is longer than a line is cut, if room characters are left */
static size_t cut_of(const struct wrapping *w, struct chunk c, size_t room)
{
    if (!w->break_hyphens || c.end - c.begin <= room)
        return room;
    for (size_t i = room; i-- > 1;) {
        if (w->chars[c.begin + i] != '-')
            continue;
        for (size_t k = 0; k < i; k++)
            if (w->chars[c.begin + k] != '-')
                return i + 1;
        break;
    }
    return room;
}

static bool add_lines(struct jinja *j, struct wrapping *w, const struct jinja_string *between,
                      struct jinja_builder *out)
{
    bool any = false;
    for (size_t at = 0; at < w->count;) {
        if (!jinja_spend(j, 1))
            return false;
        if (any && all_space(w, w->chunks[at]) && ++at == w->count)
            break;
        size_t begin = w->chunks[at].begin, end = begin, used = 0, last = at;
        struct chunk tail = {begin, begin}; /* what came last */
        for (; at < w->count; at++) {
            size_t n = w->chunks[at].end - w->chunks[at].begin;
            if (used + n > w->width)
                break;
            used += n;
            tail = w->chunks[at];
            end = tail.end;
        }
        if (at < w->count && w->chunks[at].end - w->chunks[at].begin > w->width) {
            struct chunk *c = &w->chunks[at];
            if (w->break_words) {
                tail = (struct chunk){c->begin, c->begin + cut_of(w, *c, w->width - used)};
                c->begin = end = tail.end;
            } else if (last == at) {
                tail = *c;
                end = c->end;
                at++;
            }
        }
        if (all_space(w, tail))
            end = tail.begin;
        if (end == begin && all_space(w, tail) && tail.begin == begin)
            continue;
        if ((any && !jinja_add_string(j, out, between)) ||
            !jinja_add_part(j, out, w->line, w->bytes[begin], w->bytes[end]))
            return false;
        any = true;
    }
    return true;
}

static bool wrap_line(struct jinja *j, struct wrapping *w, const struct jinja_string *line,
                      const struct jinja_string *between, struct jinja_builder *out)
{
    uint32_t *chars = jinja_array(j, line->n_chars + 1, sizeof *chars);
    size_t *bytes = chars ? jinja_array(j, line->n_chars + 1, sizeof *bytes) : NULL;
    if (!bytes || !jinja_spend_bytes(j, line->n))
        return false;
    size_t i = 0, at = 0;
    for (size_t n; at < line->n; at += n, i++) {
        chars[i] = jinja_char_at(line, at, &n);
        bytes[i] = at;
    }
    bytes[i] = line->n;
    w->line = line;
    w->chars = chars;
    w->bytes = bytes;
    w->n = i;
    w->count = 0;
    return split_chunks(j, w) && add_lines(j, w, between, out);
}

bool jinja_filter_wordwrap(struct jinja *j, struct jinja_value value, const struct jinja_args *args,
                           struct jinja_value *out)
{
    static const struct jinja_signature signature = {
        "do_wordwrap", "width break_long_words wrapstring break_on_hyphens", 0, 2};
    struct jinja_value v[4] = {jinja_int(79), jinja_bool(true), jinja_none(), jinja_bool(true)};
    struct jinja_items lines = {0};
    struct jinja_builder text = {0};
    int64_t width;
    if (!jinja_bind(j, &signature, args, v))
        return false;
    if (v[2].kind == JINJA_NONE && !jinja_text_value(j, "\n", &v[2]))
        return false;
    bool joins = v[2].kind == JINJA_STRING;
    struct jinja_value *wrong = !joins ? &v[2] : value.kind != JINJA_STRING ? &value : NULL, bad;
    if (wrong && wrong->kind == JINJA_UNDEFINED)
        return jinja_raise_undefined(j, *wrong);
    if (wrong)
        return jinja_raise(j, "AttributeError", "'%s' object has no attribute '%s'",
                           jinja_type_name(*wrong), joins ? "splitlines" : "join");
    if (!jinja_split_lines(j, value.string, false, &lines))
        return false;
    if (lines.count == 0)
        return jinja_build(j, &text, out);
    if (!jinja_operate(j, JINJA_LE, v[0], jinja_int(0), &bad) || !jinja_index(j, v[0], &width))
        return false;
    if (width <= 0)
        return jinja_raise(j, "ValueError", "invalid width %lld (must be > 0)", (long long)width);
    struct wrapping w = {.width = (size_t)width,
                         .break_words = jinja_truth(v[1]),
                         .break_hyphens = jinja_truth(v[3])};
    for (size_t i = 0; i < lines.count; i++)
        if ((i && !jinja_add_string(j, &text, v[2].string)) ||
            !wrap_line(j, &w, lines.items[i].string, v[2].string, &text))
            return false;
    return jinja_build(j, &text, out);
}
