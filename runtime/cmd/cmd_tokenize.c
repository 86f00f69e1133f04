/* tprun tokenize: lines through the tokenizer, text to ids or ids to text. A text is a JSON string
 * or, with --text, the line itself; ids are a JSON array. */
#include "cmd.h"

#include "detokenizer.h"
#include "line_json.h"
#include "line_reader.h"
#include "open_tokenizer.h"
#include <stdio.h>
#include <string.h>

static char output_buffer[1 << 16]; /* stdout's */

struct tokenize {
    const struct run_options *options;
    struct tokenizer tokenizer;
    char *bytes; /* the compiled tokenizer, of a bundle; NULL: mapped */
    struct line_reader in;
    struct token_ids ids;
    bool begun; /* ids of this line were printed */
    struct detokenizer text;
    struct tp_text escaped;
};

static bool put(const char *bytes, size_t n, struct tp_error *err)
{
    return n == 0 || fwrite(bytes, 1, n, stdout) == n ||
           tp_fail_errno(err, "standard output: cannot be written");
}

/* ---- text to ids ---- */

/* Ids are printed as they come: a line of them is longer than its text. */
static bool print_ids(struct token_ids *ids, struct tp_error *err)
{
    struct tokenize *t = ids->to;
    for (size_t i = 0; i < ids->count; i++) {
        char digits[16], *end = digits + sizeof digits, *p = end;
        uint32_t id = ids->ids[i];
        do
            *--p = (char)('0' + id % 10);
        while (id /= 10);
        if (t->begun)
            *--p = ' ';
        *--p = t->begun ? ',' : '[';
        t->begun = true;
        if (!put(p, (size_t)(end - p), err))
            return false;
    }
    ids->count = 0;
    return true;
}

static bool encode_text(struct tokenize *t, const char *text, size_t n, struct tp_error *err)
{
    t->begun = false;
    t->ids.count = 0;
    if (!tokenizer_encode(&t->tokenizer, text, n, NULL,
                          t->options->no_special ? 0 : TOKENIZER_ADD_SPECIAL, &t->ids, err) ||
        !print_ids(&t->ids, err))
        return false;
    return t->begun ? put("]\n", 2, err) : put("[]\n", 3, err);
}

static bool encode_line(struct tokenize *t, char *line, size_t n, struct tp_error *err)
{
    char *text = line;
    return (t->options->plain || line_json_string(line, n, t->in.line, &text, &n, err)) &&
           encode_text(t, text, n, err);
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

static bool print_text(struct tokenize *t, const char *text, size_t n, struct tp_error *err)
{
    if (t->options->plain)
        return put(text, n, err);
    t->escaped.n = 0;
    return tp_text_add_escaped(&t->escaped, text, n, err) &&
           put(t->escaped.data, t->escaped.n, err);
}

static bool decode_line(struct tokenize *t, const char *line, size_t n, struct tp_error *err)
{
    size_t count, quote = !t->options->plain;
    const char *text;
    if (!line_json_ids(line, n, t->in.line, &count, err) || !reserve(t, count, err) ||
        !put("\"", quote, err))
        return false;
    while (count--) {
        detokenizer_push(&t->text, line_json_id(&line), &text, &n);
        if (!print_text(t, text, n, err))
            return false;
    }
    detokenizer_end(&t->text, &text, &n);
    return print_text(t, text, n, err) && put(quote ? "\"\n" : "\n", 1 + quote, err);
}

/* ---- lines ---- */

/* An empty line is no JSON, but it is a text. */
static bool do_line(struct tokenize *t, char *line, size_t n, struct tp_error *err)
{
    if (t->options->decode)
        return line_is_blank(line, n) || decode_line(t, line, n, err);
    return (!t->options->plain && line_is_blank(line, n)) || encode_line(t, line, n, err);
}

static bool do_lines(struct tokenize *t, struct tp_error *err)
{
    bool live = line_reader_is_live(&t->in), more;
    char *line;
    size_t n;
    while (line_reader_next(&t->in, &line, &n, &more, err)) {
        if (!more)
            return true;
        if (!do_line(t, line, n, err))
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
    t.ids.take = print_ids;
    t.ids.to = &t;
    setvbuf(stdout, output_buffer, _IOFBF, sizeof output_buffer);
    const char *text = options->prompts.text;
    bool ok = tokenizer_open_either(options->bundle, &t.tokenizer, &t.bytes, err) &&
              (text ? encode_text(&t, text, strlen(text), err) : do_lines(&t, err));
    if (ok && t.ids.dropped)
        tp_note("bytes that no token stands for were left out: %llu",
                (unsigned long long)t.ids.dropped);
    detokenizer_close(&t.text);
    line_reader_free(&t.in);
    token_ids_free(&t.ids);
    mem_free(t.escaped.data);
    tokenizer_close(&t.tokenizer);
    mem_free(t.bytes);
    return ok;
}
