#include "splitter.h"

#include "utf8.h"

struct splitter splitter_begin(struct pattern *pattern, const struct tokenizer_step *step,
                               const char *text, size_t n)
{
    return (struct splitter){.pattern = pattern,
                             .behaviour = (enum step_behaviour)step->behaviour,
                             .invert = step->invert,
                             .text = text,
                             .n = n};
}

/* Find the match to come, as Oniguruma's iterator does: an empty one right behind the last is
 * passed over. */
static bool find_match(struct splitter *s, struct tp_error *err)
{
    while (!s->is_found && !s->none_left) {
        if (s->search > s->n) {
            s->none_left = true;
            break;
        }
        if (!pattern_find(s->pattern, s->text, s->n, s->search, &s->is_found, &s->found_begin,
                          &s->found_end, err))
            return false;
        s->none_left = !s->is_found;
        if (s->is_found && s->found_begin == s->found_end && s->any &&
            s->found_end == s->last_end) {
            size_t n = utf8_length((const unsigned char *)s->text + s->search, s->n - s->search);
            s->search += n ? n : 1;
            s->is_found = false;
        }
    }
    return true;
}

/* Gaps and matches in turn; a match may be empty, a gap is not. */
static bool read_event(struct splitter *s, struct splitter_event *event, bool *more,
                       struct tp_error *err)
{
    *more = true;
    if (s->is_peeked) {
        s->is_peeked = false;
        *event = s->peeked;
        return true;
    }
    if (!find_match(s, err))
        return false;
    size_t gap_end = s->is_found ? s->found_begin : s->n;
    if (s->at < gap_end) {
        *event = (struct splitter_event){s->at, gap_end, s->invert};
        s->at = gap_end;
        return true;
    }
    *more = s->is_found;
    if (s->is_found) {
        *event = (struct splitter_event){s->found_begin, s->found_end, !s->invert};
        s->at = s->search = s->last_end = s->found_end;
        s->any = true;
        s->is_found = false;
    }
    return true;
}

/* The event after this one joins it. (HF's MergedWithNext works from the end; the pairs are the
 * same.) */
static bool joins(enum step_behaviour behaviour, bool match, bool next_match)
{
    switch (behaviour) {
    case SPLIT_MERGED_WITH_PREVIOUS:
        return !match && next_match;
    case SPLIT_MERGED_WITH_NEXT:
        return match && !next_match;
    case SPLIT_CONTIGUOUS:
        return match == next_match;
    case SPLIT_REMOVED:
    case SPLIT_ISOLATED:
        break;
    }
    return false;
}

/* Append to the part that ends at *end the events that join it. */
static bool join_events(struct splitter *s, const struct splitter_event *event, size_t *end,
                        struct tp_error *err)
{
    struct splitter_event next;
    bool more, run = s->behaviour == SPLIT_CONTIGUOUS; /* the others join pairs */
    do {
        if (!read_event(s, &next, &more, err))
            return false;
        if (!more)
            return true;
        if (!joins(s->behaviour, event->match, next.match)) {
            s->peeked = next;
            s->is_peeked = true;
            return true;
        }
        *end = next.end;
    } while (run);
    return true;
}

bool splitter_next(struct splitter *s, size_t *begin, size_t *end, bool *more, struct tp_error *err)
{
    struct splitter_event event;
    do {
        if (!read_event(s, &event, more, err))
            return false;
        if (!*more)
            return true;
        *begin = event.begin;
        *end = event.end;
        if (s->behaviour >= SPLIT_MERGED_WITH_PREVIOUS && !join_events(s, &event, end, err))
            return false;
    } while (*begin == *end || (s->behaviour == SPLIT_REMOVED && event.match));
    return true;
}
