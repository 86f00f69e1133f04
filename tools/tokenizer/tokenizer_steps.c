#include "tokenizer_steps.h"

#include "json.h"
#include "onig_pattern.h"
#include "pattern.h"
#include <string.h>

/* What GPT-2 and its heirs cut text by: ByteLevel with use_regex. */
static const char byte_level_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct stepping {
    const struct tokenizer_reading *in;
    struct tokenizer_steps *out;
};

static bool add_step(struct stepping *s, struct pack_step step)
{
    if (s->out->count == TOKENIZER_STEPS_MAX)
        return reading_unsupported(s->in, "pre_tokenizer", "Sequence of more than 16 steps");
    s->out->list[s->out->count++] = step;
    return true;
}

/* A step of a finished pattern; frees it. */
static bool add_split(struct stepping *s, const char *part, enum step_behaviour behaviour,
                      bool invert, struct tp_text *pattern)
{
    struct tp_error *err = s->in->err;
    struct pattern compiled = {0};
    char where[TP_NAME_BUF];
    snprintf(where, sizeof where, "%s: %s", s->in->file, part);
    bool ok = (pattern->n || tp_text_add(pattern, "(?:)", 4, err)) &&
              pattern_open(&compiled, pattern->data, pattern->n, where, err);
    pattern_close(&compiled);
    char *kept = ok ? mem_arena_copy(s->in->arena, pattern->data, pattern->n, err) : NULL;
    uint32_t n = (uint32_t)pattern->n; /* PATTERN_BYTES_MAX at most, pattern_open saw to it */
    mem_free(pattern->data);
    return kept && add_step(s, (struct pack_step){STEP_SPLIT, behaviour, invert, kept, n});
}

static bool add_regex(struct stepping *s, enum step_behaviour behaviour, bool invert,
                      const char *regex, size_t n)
{
    struct tp_text pattern = {0};
    char where[TP_NAME_BUF];
    snprintf(where, sizeof where, "%s: pre_tokenizer", s->in->file);
    if (!onig_translate(where, regex, n, &pattern, s->in->err)) {
        mem_free(pattern.data);
        return false;
    }
    return add_split(s, "pre_tokenizer Split", behaviour, invert, &pattern);
}

static bool add_literal(struct stepping *s, const char *part, enum step_behaviour behaviour,
                        bool invert, const char *bytes, size_t n)
{
    struct tp_text text = {0};
    if (!onig_literal(bytes, n, &text, s->in->err)) {
        mem_free(text.data);
        return false;
    }
    return add_split(s, part, behaviour, invert, &text);
}

/* A class of characters, written by one of the functions of onig_pattern. */
static bool add_class(struct stepping *s, const char *part, enum step_behaviour behaviour,
                      bool (*write)(struct tp_text *out, struct tp_error *err), const char *suffix)
{
    struct tp_text text = {0};
    if (!write(&text, s->in->err) || !tp_text_add(&text, suffix, strlen(suffix), s->in->err)) {
        mem_free(text.data);
        return false;
    }
    return add_split(s, part, behaviour, false, &text);
}

static bool behaviour_of(struct stepping *s, const char *part, const json_t *value,
                         enum step_behaviour *out)
{
    static const char *const names[] = {
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const char *name = json_string_value(json_object_get(value, "behavior"));
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum step_behaviour)i;
            return true;
        }
    return reading_invalid(s->in, part, "unknown behavior");
}

static bool read_split(struct stepping *s, const json_t *value)
{
    static const char part[] = "pre_tokenizer Split";
    enum step_behaviour behaviour = SPLIT_ISOLATED;
    bool invert = false, regex;
    const char *pattern;
    size_t n;
    if (!behaviour_of(s, part, value, &behaviour) ||
        !reading_bool(s->in, part, value, "invert", &invert) ||
        !reading_pattern(s->in, part, value, &regex, &pattern, &n))
        return false;
    return regex ? add_regex(s, behaviour, invert, pattern, n)
                 : add_literal(s, part, behaviour, invert, pattern, n);
}

static bool read_digits(struct stepping *s, const json_t *value)
{
    static const char part[] = "pre_tokenizer Digits";
    bool individual;
    return reading_bool(s->in, part, value, "individual_digits", &individual) &&
           add_class(s, part, SPLIT_ISOLATED, onig_digit, individual ? "" : "+");
}

static bool read_byte_level(struct stepping *s, const json_t *value)
{
    static const char part[] = "pre_tokenizer ByteLevel";
    bool prefix, regex = true;
    if (!reading_bool(s->in, part, value, "add_prefix_space", &prefix) ||
        (json_find(value, "use_regex") && !reading_bool(s->in, part, value, "use_regex", &regex)))
        return false;
    if (prefix && !add_step(s, (struct pack_step){.kind = STEP_PREFIX_SPACE}))
        return false;
    if (regex &&
        !add_regex(s, SPLIT_ISOLATED, false, byte_level_pattern, sizeof byte_level_pattern - 1))
        return false;
    return add_step(s, (struct pack_step){.kind = STEP_LETTERS});
}

static bool prepend_scheme(struct stepping *s, const char *part, const json_t *value,
                           uint32_t *scheme)
{
    static const char *const names[] = {
        [PREPEND_NEVER] = "never", [PREPEND_ALWAYS] = "always", [PREPEND_FIRST] = "first"};
    bool prefix = true;
    const json_t *name = json_find(value, "prepend_scheme");
    if (json_find(value, "add_prefix_space") &&
        !reading_bool(s->in, part, value, "add_prefix_space", &prefix))
        return false;
    *scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    for (uint32_t i = 0; name && i <= PREPEND_FIRST; i++)
        if (json_is_string(name) && strcmp(json_string_value(name), names[i]) == 0) {
            *scheme = i;
            return true;
        }
    return !name || reading_invalid(s->in, part, "unknown prepend_scheme");
}

static bool read_metaspace(struct stepping *s, const json_t *value)
{
    static const char part[] = "pre_tokenizer Metaspace";
    const char *replacement;
    size_t n;
    uint32_t scheme;
    bool split = true;
    if (!reading_char(s->in, part, value, "replacement", &replacement, &n) ||
        !prepend_scheme(s, part, value, &scheme) ||
        (json_find(value, "split") && !reading_bool(s->in, part, value, "split", &split)))
        return false;
    return add_step(s, (struct pack_step){.kind = STEP_METASPACE,
                                          .behaviour = scheme,
                                          .pattern = replacement,
                                          .n = (uint32_t)n}) &&
           (!split || add_literal(s, part, SPLIT_MERGED_WITH_NEXT, false, replacement, n));
}

static bool read_punctuation(struct stepping *s, const json_t *value)
{
    static const char part[] = "pre_tokenizer Punctuation";
    enum step_behaviour behaviour = SPLIT_ISOLATED;
    return (!json_find(value, "behavior") || behaviour_of(s, part, value, &behaviour)) &&
           add_class(s, part, behaviour, onig_punctuation, "");
}

static bool read_delimiter(struct stepping *s, const json_t *value)
{
    static const char part[] = "pre_tokenizer CharDelimiterSplit";
    const char *delimiter;
    size_t n;
    return reading_char(s->in, part, value, "delimiter", &delimiter, &n) &&
           add_literal(s, part, SPLIT_REMOVED, false, delimiter, n);
}

static bool write_space(struct tp_text *out, struct tp_error *err)
{
    return onig_translate("", "\\s", 2, out, err);
}

static bool read_white_space(struct stepping *s, const json_t *value)
{
    (void)value;
    return add_class(s, "pre_tokenizer WhitespaceSplit", SPLIT_REMOVED, write_space, "");
}

/* Words and what lies between them and white space. */
static bool read_words(struct stepping *s, const json_t *value)
{
    struct tp_text text = {0};
    struct tp_error *err = s->in->err;
    (void)value;
    if (!onig_words(&text, err)) {
        mem_free(text.data);
        return false;
    }
    return add_split(s, "pre_tokenizer Whitespace", SPLIT_REMOVED, true, &text);
}

static bool read_bert(struct stepping *s, const json_t *value)
{
    return read_white_space(s, value) &&
           add_class(s, "pre_tokenizer BertPreTokenizer", SPLIT_ISOLATED, onig_punctuation, "");
}

static bool read_step(void *self, const char *type, const json_t *value)
{
    static const struct {
        const char *type;
        bool (*read)(struct stepping *s, const json_t *value);
    } known[] = {
        {"ByteLevel", read_byte_level},
        {"Split", read_split},
        {"Digits", read_digits},
        {"Metaspace", read_metaspace},
        {"Punctuation", read_punctuation},
        {"CharDelimiterSplit", read_delimiter},
        {"WhitespaceSplit", read_white_space},
        {"Whitespace", read_words},
        {"BertPreTokenizer", read_bert},
    };
    struct stepping *s = self;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(type, known[i].type) == 0)
            return known[i].read(s, value);
    return reading_unsupported(s->in, "pre_tokenizer", type);
}

bool tokenizer_steps_read(const struct tokenizer_reading *in, const json_t *value,
                          struct tokenizer_steps *out)
{
    struct stepping s = {in, out};
    out->count = 0;
    return !value || reading_each(in, "pre_tokenizer", "pretokenizers", value, read_step, &s);
}
