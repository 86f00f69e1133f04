#include "tokenizer_normalizers.h"

#include "json.h"
#include "normalizer.h"
#include "onig_pattern.h"
#include <string.h>

struct normalizing {
    const struct tokenizer_reading *in;
    struct tokenizer_normalizers *out;
};

static bool add(struct normalizing *s, struct pack_normalizer step)
{
    if (s->out->count == TOKENIZER_NORMALIZERS_MAX)
        return reading_unsupported(s->in, "normalizer", "Sequence of more than 16 steps");
    s->out->list[s->out->count++] = step;
    return true;
}

static bool length_ok(struct normalizing *s, const char *part, size_t n)
{
    return n <= PATTERN_BYTES_MAX || tp_fail(s->in->err, TP_E_LIMIT, "%s: %s: more than %d bytes",
                                             s->in->file, part, PATTERN_BYTES_MAX);
}

static bool read_replace(struct normalizing *s, const json_t *value)
{
    static const char part[] = "normalizer Replace";
    struct pack_normalizer step = {.kind = NORMALIZER_REPLACE};
    size_t n, content_n;
    if (!reading_pattern(s->in, part, value, &step.regex, &step.pattern, &n) ||
        !reading_string(s->in, part, value, "content", &step.content, &content_n) ||
        !length_ok(s, part, n) || !length_ok(s, part, content_n))
        return false;
    if (step.regex) {
        struct tp_text text = {0};
        struct pattern compiled = {0};
        char where[TP_NAME_BUF];
        snprintf(where, sizeof where, "%s: %s", s->in->file, part);
        bool ok = onig_translate(where, step.pattern, n, &text, s->in->err) &&
                  pattern_open(&compiled, text.data, text.n, where, s->in->err);
        pattern_close(&compiled);
        step.pattern = ok ? mem_arena_copy(s->in->arena, text.data, text.n, s->in->err) : NULL;
        n = text.n;
        mem_free(text.data);
        if (!step.pattern)
            return false;
    }
    step.pattern_n = (uint32_t)n;
    step.content_n = (uint32_t)content_n;
    return add(s, step);
}

static bool read_prepend(struct normalizing *s, const json_t *value)
{
    struct pack_normalizer step = {.kind = NORMALIZER_PREPEND};
    size_t n;
    if (!reading_string(s->in, "normalizer Prepend", value, "prepend", &step.content, &n) ||
        !length_ok(s, "normalizer Prepend", n))
        return false;
    step.content_n = (uint32_t)n;
    return add(s, step);
}

static bool read_flags(struct normalizing *s, const char *part, const json_t *value,
                       const char *const keys[], const uint32_t bits[], uint32_t kind)
{
    struct pack_normalizer step = {.kind = kind};
    for (size_t i = 0; keys[i]; i++) {
        bool set = false;
        if (!reading_bool(s->in, part, value, keys[i], &set))
            return false;
        step.flags |= set ? bits[i] : 0;
    }
    return add(s, step);
}

static bool read_strip(struct normalizing *s, const json_t *value)
{
    static const char *const keys[] = {"strip_left", "strip_right", NULL};
    static const uint32_t bits[] = {NORMALIZER_LEFT, NORMALIZER_RIGHT};
    return read_flags(s, "normalizer Strip", value, keys, bits, NORMALIZER_STRIP);
}

/* strip_accents null: as lowercase is. */
static bool read_bert(struct normalizing *s, const json_t *value)
{
    static const char part[] = "normalizer BertNormalizer";
    static const char *const keys[] = {"clean_text", "handle_chinese_chars", "lowercase", NULL};
    static const uint32_t bits[] = {NORMALIZER_CLEAN, NORMALIZER_CHINESE, NORMALIZER_LOWER};
    bool accents = false;
    if (!read_flags(s, part, value, keys, bits, NORMALIZER_BERT))
        return false;
    struct pack_normalizer *step = &s->out->list[s->out->count - 1];
    if (!json_find(value, "strip_accents"))
        accents = step->flags & NORMALIZER_LOWER;
    else if (!reading_bool(s->in, part, value, "strip_accents", &accents))
        return false;
    step->flags |= accents ? NORMALIZER_ACCENTS : 0;
    return true;
}

static bool read_one(void *self, const char *type, const json_t *value)
{
    static const struct {
        const char *type;
        uint32_t kind;
    } plain[] = {
        {"NFC", NORMALIZER_NFC},
        {"NFD", NORMALIZER_NFD},
        {"NFKC", NORMALIZER_NFKC},
        {"NFKD", NORMALIZER_NFKD},
        {"Lowercase", NORMALIZER_LOWERCASE},
        {"StripAccents", NORMALIZER_STRIP_ACCENTS},
        {"Nmt", NORMALIZER_NMT},
        {"ByteLevel", NORMALIZER_BYTE_LEVEL},
    };
    struct normalizing *s = self;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(type, plain[i].type) == 0)
            return add(s, (struct pack_normalizer){.kind = plain[i].kind});
    return strcmp(type, "Replace") == 0          ? read_replace(s, value)
           : strcmp(type, "Prepend") == 0        ? read_prepend(s, value)
           : strcmp(type, "Strip") == 0          ? read_strip(s, value)
           : strcmp(type, "BertNormalizer") == 0 ? read_bert(s, value)
                                                 : reading_unsupported(s->in, "normalizer", type);
}

bool tokenizer_normalizers_read(const struct tokenizer_reading *in, const json_t *value,
                                struct tokenizer_normalizers *out)
{
    struct normalizing s = {in, out};
    out->count = 0;
    return !value || reading_each(in, "normalizer", "normalizers", value, read_one, &s);
}

static bool apply_one(const struct tokenizer_reading *in, const struct pack_normalizer *z,
                      const char *text, size_t n, struct tp_text *out)
{
    struct pattern pattern = {0};
    struct normalizer_step step = {.kind = (enum normalizer_kind)z->kind,
                                   .flags = z->flags,
                                   .literal = z->pattern,
                                   .literal_n = z->pattern_n,
                                   .content = z->content,
                                   .content_n = z->content_n};
    if (z->regex) {
        if (!pattern_open(&pattern, z->pattern, z->pattern_n, "normalizer", in->err))
            return false;
        step.pattern = &pattern;
    }
    bool ok = normalizer_apply(&step, text, n, out, in->err);
    pattern_close(&pattern);
    return ok;
}

bool tokenizer_normalizers_apply(const struct tokenizer_reading *in,
                                 const struct tokenizer_normalizers *normalizers, const char *text,
                                 size_t n, const char **out, size_t *out_n)
{
    struct tp_text made = {0};
    for (uint32_t i = 0; i < normalizers->count; i++) {
        bool ok = apply_one(in, &normalizers->list[i], text, n, &made);
        text = ok ? mem_arena_copy(in->arena, made.data, made.n, in->err) : NULL;
        n = made.n;
        if (!text)
            break;
    }
    mem_free(made.data);
    *out = text;
    *out_n = n;
    return text != NULL;
}
