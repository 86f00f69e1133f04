/* tprun tokenize: JSON lines through the tokenizer, text to ids or ids to text. */
#include "cmd.h"

#include "detokenizer.h"
#include "json.h"
#include "line_reader.h"
#include "open_tokenizer.h"
#include "text.h"
#include "utf8.h"
#include <stdio.h>
#include <string.h>

struct tokenize {
    const struct run_options *options;
    struct tokenizer tokenizer;
    char *bytes; /* the compiled tokenizer, of a bundle; NULL: mapped */
    struct line_reader in;
    struct token_ids ids;
    struct detokenizer text;
    struct tp_text out;
};

static bool bad_line(const struct tokenize *t, const char *expected, struct tp_error *err)
{
    return tp_fail(err, TP_E_JSON, "standard input: line %llu: %s expected",
                   (unsigned long long)t->in.line, expected);
}

/* ---- text to ids ---- */

static bool add_number(struct tp_text *out, uint32_t number, struct tp_error *err)
{
    char digits[12], *p = digits + sizeof digits;
    size_t n = 0;
    do {
        *--p = (char)('0' + number % 10);
        n++;
    } while (number /= 10);
    return tp_text_add(out, p, n, err);
}

static bool encode_line(struct tokenize *t, const json_t *value, struct tp_error *err)
{
    if (!json_is_string(value))
        return bad_line(t, "a JSON string", err);
    t->ids.count = 0;
    if (!tokenizer_encode(&t->tokenizer, json_string_value(value), json_string_length(value), NULL,
                          t->options->no_special ? 0 : TOKENIZER_ADD_SPECIAL, &t->ids, err) ||
        !tp_text_add(&t->out, "[", 1, err))
        return false;
    for (size_t i = 0; i < t->ids.count; i++)
        if ((i && !tp_text_add(&t->out, ", ", 2, err)) || !add_number(&t->out, t->ids.ids[i], err))
            return false;
    return tp_text_add(&t->out, "]\n", 2, err);
}

/* ---- ids to text ---- */

/* A decoder for so many tokens. */
static bool reserve(struct tokenize *t, size_t tokens, struct tp_error *err)
{
    if (t->text.file && tokens <= t->text.tokens_max) {
        detokenizer_reset(&t->text);
        return true;
    }
    detokenizer_close(&t->text);
    return detokenizer_open(&t->text, &t->tokenizer.file, t->options->no_special,
                            tokens < 256 ? 256 : tokens, NULL, 0, err);
}

static bool decode_line(struct tokenize *t, const json_t *value, struct tp_error *err)
{
    size_t count = json_array_size(value), n;
    const char *text;
    if (!json_is_array(value))
        return bad_line(t, "a JSON array of token ids", err);
    if (!reserve(t, count, err) || !tp_text_add(&t->out, "\"", 1, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > UINT32_MAX)
            return bad_line(t, "token ids from 0 to 4294967295", err);
        detokenizer_push(&t->text, (uint32_t)id, &text, &n);
        if (!tp_text_add_escaped(&t->out, text, n, err))
            return false;
    }
    detokenizer_end(&t->text, &text, &n);
    return tp_text_add_escaped(&t->out, text, n, err) && tp_text_add(&t->out, "\"\n", 2, err);
}

/* ---- lines ---- */

static bool do_line(struct tokenize *t, const char *line, size_t n, struct tp_error *err)
{
    json_error_t why;
    if (n > 0 && line[n - 1] == '\r')
        n--;
    json_t *value = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!value)
        return tp_fail(err, TP_E_JSON, "standard input: line %llu, byte %d: %s",
                       (unsigned long long)t->in.line, why.position, why.text);
    t->out.n = 0;
    bool ok = t->options->decode ? decode_line(t, value, err) : encode_line(t, value, err);
    json_decref(value);
    if (ok && fwrite(t->out.data, 1, t->out.n, stdout) != t->out.n)
        ok = tp_fail_errno(err, "standard output: cannot be written");
    return ok;
}

static bool do_lines(struct tokenize *t, struct tp_error *err)
{
    bool live = line_reader_is_live(&t->in), more;
    char *line;
    size_t n;
    while (line_reader_next(&t->in, &line, &n, &more, err)) {
        if (!more)
            return true;
        size_t blank = 0;
        while (blank < n && strchr(" \t\r", line[blank]) && line[blank])
            blank++;
        if (blank < n && !do_line(t, line, n, err))
            return false;
        if (live && fflush(stdout) != 0)
            return tp_fail_errno(err, "standard output: cannot be written");
    }
    return false;
}

bool cmd_tokenize(const struct run_options *options, struct report *report, struct tp_error *err)
{
    (void)report;
    struct tokenize t = {.options = options, .in.fd = 0};
    bool ok =
        tokenizer_open_either(options->bundle, &t.tokenizer, &t.bytes, err) && do_lines(&t, err);
    if (ok && t.ids.dropped)
        tp_message("tprun", "note", "bytes that no token stands for were left out: %llu",
                   (unsigned long long)t.ids.dropped);
    detokenizer_close(&t.text);
    line_reader_free(&t.in);
    token_ids_free(&t.ids);
    mem_free(t.out.data);
    tokenizer_close(&t.tokenizer);
    mem_free(t.bytes);
    return ok;
}
