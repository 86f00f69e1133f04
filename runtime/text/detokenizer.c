#include "detokenizer.h"

#include "mem.h"
#include "utf8.h"
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
enum { REPLACEMENT_BYTES = 3 };

bool detokenizer_open(struct detokenizer *detokenizer, const struct tokenizer_file *file,
                      bool skip_special, size_t tokens_max, const char *const *stops,
                      size_t stop_count, struct tp_error *err)
{
    const struct tokenizer_decoder *decoder = &file->decoder;
    struct detokenizer d = {.file = file, .skip_special = skip_special, .tokens_max = tokens_max};
    if (decoder->strip_end > DETOKENIZER_STRIP_MAX)
        return tp_fail(err, TP_E_TK_UNSUPPORTED,
                       "tokenizer: %u characters stripped from the end, at most %d are supported",
                       decoder->strip_end, DETOKENIZER_STRIP_MAX);
    if (decoder->strip)
        d.strip_n = utf8_encode(decoder->strip, (unsigned char *)d.strip);
    /* a run that ends, a token, a space, what was held at the end */
    size_t runs = decoder->mode == DECODE_RUNS ? tokens_max : 0;
    if (runs > SIZE_MAX / 16)
        return tp_fail(err, TP_E_LIMIT, "%zu tokens in one text", tokens_max);
    d.out_max =
        REPLACEMENT_BYTES * runs + file->token_bytes_max + 1 + d.strip_n * (decoder->strip_end + 1);
    d.run = mem_alloc(runs, err);
    d.out = d.run ? mem_alloc(d.out_max, err) : NULL;
    if (!d.out || !text_stream_init(&d.stream, stops, stop_count, d.out_max, err)) {
        mem_free(d.run);
        mem_free(d.out);
        return false;
    }
    detokenizer_reset(&d);
    *detokenizer = d;
    return true;
}

void detokenizer_close(struct detokenizer *detokenizer)
{
    mem_free(detokenizer->run);
    mem_free(detokenizer->out);
    text_stream_free(&detokenizer->stream);
    *detokenizer = (struct detokenizer){0};
}

void detokenizer_reset(struct detokenizer *d)
{
    d->any = d->run_bad = false;
    d->run_n = d->cut_n = d->strip_at = d->out_n = 0;
    d->strip_left = d->strip_n ? d->file->decoder.strip_begin : 0;
    d->strip_held = 0;
    text_stream_reset(&d->stream);
}

static void put(struct detokenizer *d, const void *bytes, size_t n)
{
    tp_assert(n <= d->out_max - d->out_n);
    if (n)
        memcpy(d->out + d->out_n, bytes, n);
    d->out_n += n;
}

/* ---- strip ---- */

/* What was held back is not at the end after all. */
static void release_stripped(struct detokenizer *d)
{
    for (; d->strip_held; d->strip_held--)
        put(d, d->strip, d->strip_n);
    put(d, d->strip, d->strip_at);
    d->strip_at = 0;
}

/* A whole strip character has come. */
static void take_stripped(struct detokenizer *d)
{
    d->strip_at = 0;
    if (d->strip_left)
        d->strip_left--;
    else if (d->strip_held < d->file->decoder.strip_end)
        d->strip_held++;
    else
        put(d, d->strip, d->strip_n);
}

static void add(struct detokenizer *d, const void *bytes, size_t n)
{
    const char *s = bytes;
    size_t i = 0;
    for (; i < n && (d->strip_left || d->file->decoder.strip_end) && d->strip_n; i++) {
        if (s[i] == d->strip[d->strip_at]) {
            if (++d->strip_at == d->strip_n)
                take_stripped(d);
            continue;
        }
        d->strip_left = 0;
        release_stripped(d);
        if (s[i] == d->strip[0])
            i--; /* begins anew */
        else
            put(d, s + i, 1);
    }
    put(d, s + i, n - i);
}

/* ---- runs of byte tokens ---- */

static void end_run(struct detokenizer *d)
{
    bool bad = d->cut_n != 0; /* bad so far: given out already */
    if (!d->run_bad)
        for (size_t i = 0; bad && i < d->run_n; i++)
            add(d, replacement, REPLACEMENT_BYTES);
    if (!d->run_bad && !bad)
        add(d, d->run, d->run_n);
    d->run_bad = false;
    d->run_n = d->cut_n = 0;
}

static void add_to_run(struct detokenizer *d, unsigned char byte)
{
    size_t k;
    if (d->run_bad) {
        add(d, replacement, REPLACEMENT_BYTES);
        return;
    }
    tp_assert(d->run_n < d->tokens_max);
    d->run[d->run_n++] = byte;
    d->cut[d->cut_n++] = byte;
    switch (utf8_scan(d->cut, d->cut_n, &k)) {
    case UTF8_CHAR:
        d->cut_n = 0;
        break;
    case UTF8_CUT:
        break;
    case UTF8_BAD:
        for (size_t i = 0; i < d->run_n; i++)
            add(d, replacement, REPLACEMENT_BYTES);
        d->run_bad = true;
        d->run_n = d->cut_n = 0;
        break;
    }
}

/* ---- ids ---- */

static bool is_shown(const struct detokenizer *d, uint32_t id)
{
    unsigned flags = id < d->file->tokens ? tokenizer_file_flags(d->file, id) : 0;
    return flags & TOKEN_USED && !(d->skip_special && flags & TOKEN_SPECIAL);
}

static struct tokenizer_bytes bytes_of(const struct detokenizer *d, uint32_t id)
{
    return d->any ? tokenizer_file_token(d->file, id) : tokenizer_file_first(d->file, id);
}

void detokenizer_continue(struct detokenizer *d, const uint32_t *ids, size_t count)
{
    detokenizer_reset(d);
    for (size_t i = 0; i < count && (!d->any || d->strip_left); i++) {
        if (!is_shown(d, ids[i]))
            continue;
        struct tokenizer_bytes bytes = bytes_of(d, ids[i]);
        d->out_n = 0;
        add(d, bytes.data, bytes.n);
        d->any = true;
    }
    d->out_n = d->strip_at = 0;
    d->strip_held = 0;
}

static void take(struct detokenizer *d, uint32_t id)
{
    const struct tokenizer_file *file = d->file;
    if (!is_shown(d, id))
        return;
    unsigned flags = tokenizer_file_flags(file, id);
    struct tokenizer_bytes bytes = bytes_of(d, id);
    if (file->decoder.mode == DECODE_RUNS && flags & TOKEN_BYTE && bytes.n == 1) {
        add_to_run(d, bytes.data[0]);
    } else {
        if (file->decoder.mode == DECODE_RUNS)
            end_run(d);
        if (d->any && file->decoder.mode == DECODE_WORDS)
            add(d, " ", 1);
        add(d, bytes.data, bytes.n);
    }
    d->any = true;
}

void detokenizer_push(struct detokenizer *d, uint32_t id, const char **text, size_t *n)
{
    d->out_n = 0;
    if (!d->stream.stopped)
        take(d, id);
    text_stream_push(&d->stream, d->out, d->out_n, text, n);
}

void detokenizer_end(struct detokenizer *d, const char **text, size_t *n)
{
    d->out_n = 0;
    if (!d->stream.stopped) {
        end_run(d);
        put(d, d->strip, d->strip_at); /* the beginning of one is none */
    }
    text_stream_end(&d->stream, d->out, d->out_n, text, n);
}
