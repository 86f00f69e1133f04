#include "tokenizer_forms.h"

#include "json.h"
#include "text.h"
#include "utf8.h"
#include <ctype.h>
#include <string.h>

enum { LETTERS = 0x144 }; /* code points of GPT-2's byte letters are below */

static const char part[] = "decoder";

/* How far text has been put together when a step of the decoder sees it. */
enum phase { TOKENS, RUNS, WHOLE };

struct forming {
    const struct tokenizer_reading *in;
    struct tokenizer_forms *out;
    enum phase phase;
};

/* Bytes that print in Latin-1 are their own letters; the others follow from U+0100. */
static void make_letters(struct tokenizer_forms *forms)
{
    memset(forms->byte_of_letter, -1, sizeof forms->byte_of_letter);
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
        bool own = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        forms->byte_of_letter[own ? b : next++] = (int16_t)b;
    }
}

static bool add(struct forming *f, struct form_step step)
{
    if (f->out->count == TOKENIZER_FORM_STEPS_MAX)
        return reading_unsupported(f->in, part, "Sequence of more than 16 steps");
    f->out->steps[f->out->count++] = step;
    return true;
}

static bool read_replace(struct forming *f, const json_t *value)
{
    struct form_step step = {.kind = FORM_REPLACE};
    bool regex;
    if (!reading_pattern(f->in, part, value, &regex, &step.from, &step.from_n) ||
        !reading_string(f->in, part, value, "content", &step.to, &step.to_n))
        return false;
    if (regex || step.from_n == 0)
        return reading_unsupported(f->in, part, "Replace with a Regex");
    return add(f, step);
}

static bool read_metaspace(struct forming *f, const json_t *value)
{
    struct form_step step = {.kind = FORM_METASPACE, .to = " ", .to_n = 1, .drops_first = true};
    const json_t *scheme = json_find(value, "prepend_scheme");
    if (!reading_char(f->in, part, value, "replacement", &step.from, &step.from_n) ||
        (json_find(value, "add_prefix_space") &&
         !reading_bool(f->in, part, value, "add_prefix_space", &step.drops_first)))
        return false;
    if (json_is_string(scheme))
        step.drops_first = strcmp(json_string_value(scheme), "never") != 0;
    f->out->decoder.first_differs |= step.drops_first;
    return add(f, step);
}

static bool read_strip(struct forming *f, const json_t *value)
{
    struct tokenizer_decoder *d = &f->out->decoder;
    const char *content;
    size_t n;
    const json_t *start = json_object_get(value, "start"), *stop = json_object_get(value, "stop");
    if (!reading_char(f->in, part, value, "content", &content, &n))
        return false;
    if (!json_is_integer(start) || !json_is_integer(stop) || json_integer_value(start) < 0 ||
        json_integer_value(stop) < 0 || json_integer_value(start) > INT32_MAX ||
        json_integer_value(stop) > INT32_MAX)
        return reading_invalid(f->in, part, "Strip: start and stop: 0 to 2^31 - 1 expected");
    d->strip = utf8_decode((const unsigned char *)content, n);
    d->strip_begin = (uint32_t)json_integer_value(start);
    d->strip_end = (uint32_t)json_integer_value(stop);
    return true;
}

static bool read_step(void *self, const char *type, const json_t *value)
{
    struct forming *f = self;
    struct tokenizer_decoder *d = &f->out->decoder;
    enum phase phase = f->phase;
    if (strcmp(type, "Fuse") == 0) {
        f->phase = WHOLE;
        return true;
    }
    if (strcmp(type, "Strip") == 0 && phase == WHOLE && !d->strip)
        return read_strip(f, value);
    if (phase == TOKENS && strcmp(type, "Replace") == 0)
        return read_replace(f, value);
    if (phase == TOKENS && strcmp(type, "Metaspace") == 0)
        return read_metaspace(f, value);
    if (phase == TOKENS && strcmp(type, "ByteFallback") == 0) {
        f->phase = RUNS;
        f->out->byte_tokens = true;
        return true;
    }
    if (phase == TOKENS && strcmp(type, "ByteLevel") == 0) {
        f->phase = WHOLE;
        d->mode = DECODE_BYTES;
        return add(f, (struct form_step){.kind = FORM_LETTERS});
    }
    return reading_unsupported(f->in,
                               phase == TOKENS ? part : "decoder Sequence: at this place:", type);
}

bool tokenizer_forms_read(const struct tokenizer_reading *in, const json_t *value,
                          struct tokenizer_forms *out)
{
    struct forming f = {in, out, TOKENS};
    *out = (struct tokenizer_forms){.decoder.mode = value ? DECODE_RUNS : DECODE_WORDS};
    make_letters(out);
    return !value || reading_each(in, part, "decoders", value, read_step, &f);
}

bool tokenizer_forms_letters(const struct tokenizer_forms *forms, const char *name, size_t n,
                             char *out, size_t *count)
{
    *count = 0;
    for (size_t i = 0, k; i < n; i += k) {
        k = utf8_length((const unsigned char *)name + i, n - i);
        uint32_t letter = k ? utf8_decode((const unsigned char *)name + i, k) : LETTERS;
        if (letter >= LETTERS || forms->byte_of_letter[letter] < 0)
            return false;
        out[(*count)++] = (char)forms->byte_of_letter[letter];
    }
    return true;
}

static bool replace(const struct form_step *step, bool first, const char *s, size_t n,
                    struct tp_text *out, struct tp_error *err)
{
    size_t to_n = first && step->drops_first ? 0 : step->to_n;
    out->n = 0;
    while (n) {
        const char *at = memmem(s, n, step->from, step->from_n);
        size_t before = at ? (size_t)(at - s) : n;
        if (!tp_text_add(out, s, before, err) || (at && !tp_text_add(out, step->to, to_n, err)))
            return false;
        size_t used = at ? before + step->from_n : n;
        s += used;
        n -= used;
    }
    return true;
}

/* name after the steps, in the arena. */
static bool form(const struct tokenizer_reading *in, const struct tokenizer_forms *forms,
                 bool first, const char *name, size_t n, const char **bytes, uint32_t *bytes_n)
{
    struct tp_text made = {0};
    char *kept = NULL;
    for (uint32_t i = 0; i < forms->count; i++) {
        const struct form_step *step = &forms->steps[i];
        if (step->kind == FORM_LETTERS) {
            kept = mem_arena_alloc(in->arena, n, in->err);
            if (!kept)
                break;
            if (tokenizer_forms_letters(forms, name, n, kept, &made.n))
                n = made.n;
            else
                memcpy(kept, name, n);
        } else {
            bool ok = replace(step, first, name, n, &made, in->err);
            kept = ok ? mem_arena_copy(in->arena, made.data, made.n, in->err) : NULL;
            if (!kept)
                break;
            n = made.n;
        }
        name = kept;
    }
    mem_free(made.data);
    *bytes = name;
    *bytes_n = (uint32_t)n;
    if (forms->count && !kept)
        return false;
    return n <= TOKENIZER_TOKEN_BYTES_MAX ||
           tp_fail(in->err, TP_E_LIMIT, "%s: decoder: a token of %zu bytes", in->file, n);
}

/* <0x0A>, as Rust reads the number: a sign counts as a digit. */
static bool byte_token(const char *s, uint32_t n, unsigned char *byte)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return false;
    unsigned value = 0;
    for (int i = 3 + (s[3] == '+'); i < 5; i++) {
        int c = tolower((unsigned char)s[i]);
        if (!isxdigit(c))
            return false;
        value = value << 4 | (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *byte = (unsigned char)value;
    return true;
}

bool tokenizer_forms_apply(const struct tokenizer_reading *in, const struct tokenizer_forms *forms,
                           const char *name, size_t n, struct pack_token *token)
{
    unsigned char byte;
    if (!form(in, forms, false, name, n, &token->bytes, &token->n) ||
        (forms->decoder.first_differs &&
         !form(in, forms, true, name, n, &token->first, &token->first_n)))
        return false;
    if (!forms->byte_tokens || !byte_token(token->bytes, token->n, &byte))
        return true;
    token->byte = true;
    token->bytes = mem_arena_copy(in->arena, &byte, 1, in->err);
    token->n = 1;
    token->first = token->bytes;
    token->first_n = forms->decoder.first_differs;
    return token->bytes != NULL;
}
