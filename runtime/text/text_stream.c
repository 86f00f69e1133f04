#include "text_stream.h"

#include "mem.h"
#include "utf8.h"
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
enum { REPLACEMENT_BYTES = 3 };

static bool stop_ok(const char *stop, struct tp_error *err)
{
    size_t n = strlen(stop), i = 0, k = 1;
    while (i < n && (k = utf8_length((const unsigned char *)stop + i, n - i)))
        i += k;
    return (n && n <= TEXT_STREAM_STOP_BYTES_MAX && k) ||
           tp_fail(err, TP_E_USAGE, "stop string: 1 to %d bytes of UTF-8 expected",
                   TEXT_STREAM_STOP_BYTES_MAX);
}

bool text_stream_init(struct text_stream *stream, const char *const *stops, size_t stop_count,
                      size_t push_max, struct tp_error *err)
{
    struct text_stream s = {.stops = stops, .stop_count = stop_count, .push_max = push_max};
    if (stop_count > TEXT_STREAM_STOPS_MAX)
        return tp_fail(err, TP_E_USAGE, "%zu stop strings, at most %d allowed", stop_count,
                       TEXT_STREAM_STOPS_MAX);
    for (size_t i = 0; i < stop_count; i++) {
        if (!stop_ok(stops[i], err))
            return false;
        size_t n = strlen(stops[i]);
        s.stop_max = n > s.stop_max ? n : s.stop_max;
    }
    /* held back: less than a stop string; new: every byte may become U+FFFD */
    s.held = mem_alloc(s.stop_max + REPLACEMENT_BYTES * (push_max + sizeof s.cut), err);
    if (!s.held)
        return false;
    *stream = s;
    return true;
}

void text_stream_free(struct text_stream *stream)
{
    mem_free(stream->held);
    *stream = (struct text_stream){0};
}

void text_stream_reset(struct text_stream *s)
{
    s->held_n = s->released = s->cut_n = 0;
    s->stopped = false;
}

static void hold(struct text_stream *s, const void *text, size_t n)
{
    memcpy(s->held + s->held_n, text, n);
    s->held_n += n;
}

/* What stands at data[0..n), as far as it is decided; the bytes it took, 0 where more are
 * needed. */
static size_t hold_next(struct text_stream *s, const unsigned char *data, size_t n)
{
    size_t k;
    switch (utf8_scan(data, n, &k)) {
    case UTF8_CHAR:
        hold(s, data, k);
        return k;
    case UTF8_BAD:
        hold(s, replacement, REPLACEMENT_BYTES);
        return k;
    case UTF8_CUT:
        break;
    }
    return 0;
}

/* Bytes to whole characters in held; the beginning of one at the end goes to cut. */
static void decode(struct text_stream *s, const unsigned char *data, size_t n)
{
    size_t at = 0;
    while (s->cut_n && at < n) {
        s->cut[s->cut_n++] = data[at++];
        size_t k = hold_next(s, s->cut, s->cut_n);
        if (k == 0)
            continue;
        /* a bad beginning without the byte that showed it: that byte is read again */
        at -= s->cut_n - k;
        s->cut_n = 0;
    }
    for (size_t k; at < n && (k = hold_next(s, data + at, n - at)); at += k)
        ;
    while (at < n)
        s->cut[s->cut_n++] = data[at++];
}

/* Does a stop string end at held[end)? Its beginning, or end. The longest counts. */
static size_t stop_at(struct text_stream *s, size_t end)
{
    size_t begin = end;
    for (size_t i = 0; i < s->stop_count; i++) {
        size_t n = strlen(s->stops[i]);
        if (n <= end && end - n < begin && memcmp(s->held + end - n, s->stops[i], n) == 0) {
            begin = end - n;
            s->stop_index = i;
        }
    }
    return begin;
}

/* Bytes at the end of held that could become a stop string. */
static size_t undecided(const struct text_stream *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->stop_count; i++) {
        size_t n = strlen(s->stops[i]) - 1;
        for (n = n < s->held_n ? n : s->held_n; n > longest; n--)
            if (memcmp(s->held + s->held_n - n, s->stops[i], n) == 0)
                longest = n;
    }
    return longest;
}

/* Give out what is decided. old: bytes of held that were there before and end in no stop string. */
static void release(struct text_stream *s, size_t old, bool last, const char **text, size_t *bytes)
{
    for (size_t end = old + 1; end <= s->held_n && !s->stopped; end++) {
        size_t begin = stop_at(s, end);
        if (begin < end) {
            s->stopped = true;
            s->held_n = begin;
        }
    }
    s->released = s->held_n - (last || s->stopped ? 0 : undecided(s));
    *text = s->held;
    *bytes = s->released;
}

/* Forget what the last call gave out. */
static void drop_released(struct text_stream *s)
{
    s->held_n -= s->released;
    memmove(s->held, s->held + s->released, s->held_n);
    s->released = 0;
}

void text_stream_push(struct text_stream *s, const void *data, size_t n, const char **text,
                      size_t *bytes)
{
    tp_assert(n <= s->push_max);
    drop_released(s);
    size_t old = s->held_n;
    if (!s->stopped)
        decode(s, data, n);
    release(s, old, false, text, bytes);
}

void text_stream_end(struct text_stream *s, const void *data, size_t n, const char **text,
                     size_t *bytes)
{
    tp_assert(n <= s->push_max);
    drop_released(s);
    size_t old = s->held_n;
    if (!s->stopped) {
        decode(s, data, n);
        if (s->cut_n)
            hold(s, replacement, REPLACEMENT_BYTES);
    }
    s->cut_n = 0;
    release(s, old, true, text, bytes);
}
