#include "added_scan.h"

#include "utf8.h"
#include <string.h>

struct added_scan added_scan_begin(struct tokenizer *tokenizer, int group,
                                   const struct token_source *source)
{
    return (struct added_scan){.tokenizer = tokenizer,
                               .group = group,
                               .text = source->text,
                               .n = source->n,
                               .origin = source->origin};
}

/* First entry of [low, high) that is longer than depth and whose byte there is c or more. All of
 * them agree in the bytes before depth. */
static uint32_t lower_bound(const struct tokenizer_file *file, uint32_t low, uint32_t high,
                            size_t depth, unsigned c)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct tokenizer_bytes content = tokenizer_file_added(file, middle).content;
        if (content.n <= depth || content.data[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool allowed(const struct added_scan *scan, const struct tokenizer_added *token, size_t at)
{
    return !(token->flags & ADDED_SPECIAL) || !scan->origin ||
           !memchr(scan->origin + at, 1, token->content.n);
}

/* The longest added token at text[at]: its number, TOKEN_NONE if there is none. */
static uint32_t longest_at(const struct added_scan *scan, size_t at)
{
    const struct tokenizer_file *file = &scan->tokenizer->file;
    uint32_t low = scan->group ? file->added_raw : 0;
    uint32_t high = scan->group ? file->added_count : file->added_raw;
    uint32_t found = TOKEN_NONE;
    for (size_t depth = 0; low < high && at + depth < scan->n; depth++) {
        unsigned char c = (unsigned char)scan->text[at + depth];
        low = lower_bound(file, low, high, depth, c);
        high = lower_bound(file, low, high, depth, c + 1u);
        /* the shortest of those that agree so far comes first */
        if (low >= high)
            break;
        struct tokenizer_added token = tokenizer_file_added(file, low);
        if (token.content.n == depth + 1 && allowed(scan, &token, at))
            found = low;
    }
    return found;
}

/* Bytes of the character that ends at `end`, > 0. */
static size_t length_before(const char *text, size_t end)
{
    size_t n = 1;
    while (n < end && ((unsigned char)text[end - n] & 0xc0) == 0x80)
        n++;
    return n;
}

static size_t strip_left(const struct added_scan *scan, size_t begin)
{
    while (begin) {
        size_t n = length_before(scan->text, begin);
        if (!utf8_is_space(utf8_decode((const unsigned char *)scan->text + begin - n, n)))
            break;
        begin -= n;
    }
    return begin;
}

static size_t strip_right(const struct added_scan *scan, size_t end)
{
    while (end < scan->n) {
        const unsigned char *s = (const unsigned char *)scan->text + end;
        size_t n = utf8_length(s, scan->n - end);
        if (!utf8_is_space(utf8_decode(s, n)))
            break;
        end += n;
    }
    return end;
}

static bool is_word(const struct added_scan *scan, size_t at, size_t n, bool *word,
                    struct tp_error *err)
{
    size_t begin, end;
    return pattern_find(&scan->tokenizer->word, scan->text + at, n, 0, word, &begin, &end, err);
}

/* Is [begin, end) apart from word characters on both sides? */
static bool stands_alone(const struct added_scan *scan, size_t begin, size_t end, bool *alone,
                         struct tp_error *err)
{
    bool before = false, after = false;
    if (begin) {
        size_t n = length_before(scan->text, begin);
        if (!is_word(scan, begin - n, n, &before, err))
            return false;
    }
    if (end < scan->n) {
        size_t n = utf8_length((const unsigned char *)scan->text + end, scan->n - end);
        if (!is_word(scan, end, n, &after, err))
            return false;
    }
    *alone = !before && !after;
    return true;
}

/* The next match as it stands in the text; scan->scan moves behind it. */
static uint32_t next_match(struct added_scan *scan, size_t *begin)
{
    const bool *begins = scan->tokenizer->added_begins[scan->group];
    for (; scan->scan < scan->n; scan->scan++) {
        if (!begins[(unsigned char)scan->text[scan->scan]])
            continue;
        uint32_t number = longest_at(scan, scan->scan);
        if (number != TOKEN_NONE) {
            *begin = scan->scan;
            scan->scan += tokenizer_file_added(&scan->tokenizer->file, number).content.n;
            return number;
        }
    }
    return TOKEN_NONE;
}

bool added_scan_next(struct added_scan *scan, struct added_segment *segment, bool *more,
                     struct tp_error *err)
{
    *more = true;
    if (scan->has_pending) {
        scan->has_pending = false;
        *segment = scan->pending;
        return true;
    }
    size_t begin = 0;
    for (uint32_t number; (number = next_match(scan, &begin)) != TOKEN_NONE;) {
        struct tokenizer_added token = tokenizer_file_added(&scan->tokenizer->file, number);
        size_t end = scan->scan;
        bool alone = true;
        if (token.flags & ADDED_SINGLE_WORD && !stands_alone(scan, begin, end, &alone, err))
            return false;
        if (!alone)
            continue;
        if (token.flags & ADDED_LSTRIP) {
            begin = strip_left(scan, begin);
            begin = begin < scan->start ? scan->start : begin;
        }
        if (token.flags & ADDED_RSTRIP)
            end = strip_right(scan, end);
        /* The space that one token stripped may belong to the next: as in the reference, that one
         * is found all the same, and the text goes on behind it. */
        size_t start = scan->start;
        if (begin >= end)
            continue; /* all of it was stripped by the one before: nothing is left */
        scan->start = end;
        *segment = (struct added_segment){token.id, begin, end};
        if (start < begin) {
            scan->pending = *segment;
            scan->has_pending = true;
            *segment = (struct added_segment){TOKEN_NONE, start, begin};
        }
        return true;
    }
    *more = scan->start < scan->n;
    *segment = (struct added_segment){TOKEN_NONE, scan->start, scan->n};
    scan->start = scan->n;
    return true;
}
