#include "tokenizer_pipeline.h"

#include "json.h"
#include "onig_pattern.h"
#include "pattern.h"
#include <string.h>

/* What GPT-2 and its heirs cut text by: ByteLevel with use_regex. */
static const char byte_level_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct reading {
    const char *file;
    struct mem_arena *arena;
    struct tokenizer_pipeline *out;
    struct tp_error *err;
};

static bool invalid(const struct reading *in, const char *part, const char *what)
{
    return tp_fail(in->err, TP_E_TK_INVALID, "%s: %s: %s", in->file, part, what);
}

static bool unsupported(const struct reading *in, const char *part, const char *what)
{
    char name[TP_NAME_BUF];
    return tp_fail(in->err, TP_E_TK_UNSUPPORTED, "%s: %s %s", in->file, part,
                   tp_name_cut(name, what, strlen(what)));
}

/* The "type" of a part. */
static bool type_of(const struct reading *in, const char *part, const json_t *value,
                    const char **type)
{
    *type = json_string_value(json_object_get(value, "type"));
    return *type || invalid(in, part, "an object with a type expected");
}

static bool get_bool(const struct reading *in, const char *part, const json_t *value,
                     const char *key, bool *out)
{
    const json_t *v = json_object_get(value, key);
    if (!json_is_boolean(v))
        return tp_fail(in->err, TP_E_TK_INVALID, "%s: %s: %s: true or false expected, %s found",
                       in->file, part, key, json_type_name(v));
    *out = json_is_true(v);
    return true;
}

/* ---- pre_tokenizer ---- */

static bool add_step(struct reading *in, struct pack_step step)
{
    if (in->out->step_count == TOKENIZER_STEPS_MAX)
        return unsupported(in, "pre_tokenizer", "Sequence of more than 16 steps");
    in->out->steps[in->out->step_count++] = step;
    return true;
}

/* A step of a finished pattern; frees it. */
static bool add_split(struct reading *in, enum step_behaviour behaviour, bool invert,
                      struct tp_text *pattern)
{
    static const char part[] = "pre_tokenizer Split";
    struct pattern compiled = {0};
    bool ok = (pattern->n || tp_text_add(pattern, "(?:)", 4, in->err)) &&
              pattern_open(&compiled, pattern->data, pattern->n, part, in->err);
    pattern_close(&compiled);
    char *kept = ok ? mem_arena_copy(in->arena, pattern->data, pattern->n, in->err) : NULL;
    uint32_t n = (uint32_t)pattern->n; /* PATTERN_BYTES_MAX at most, pattern_open saw to it */
    mem_free(pattern->data);
    return kept && add_step(in, (struct pack_step){STEP_SPLIT, behaviour, invert, kept, n});
}

static bool add_regex(struct reading *in, enum step_behaviour behaviour, bool invert,
                      const char *regex, size_t n)
{
    struct tp_text pattern = {0};
    char where[TP_NAME_BUF];
    snprintf(where, sizeof where, "%s: pre_tokenizer", in->file);
    if (!onig_translate(where, regex, n, &pattern, in->err)) {
        mem_free(pattern.data);
        return false;
    }
    return add_split(in, behaviour, invert, &pattern);
}

static bool behaviour_of(const struct reading *in, const json_t *value, enum step_behaviour *out)
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
    return invalid(in, "pre_tokenizer Split", "unknown behavior");
}

static bool read_split(struct reading *in, const json_t *value)
{
    static const char part[] = "pre_tokenizer Split";
    enum step_behaviour behaviour = SPLIT_ISOLATED;
    bool invert = false;
    if (!behaviour_of(in, value, &behaviour) || !get_bool(in, part, value, "invert", &invert))
        return false;
    const json_t *pattern = json_object_get(value, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *literal = json_object_get(pattern, "String");
    if (json_is_string(regex) && json_object_size(pattern) == 1)
        return add_regex(in, behaviour, invert, json_string_value(regex),
                         json_string_length(regex));
    if (!json_is_string(literal) || json_object_size(pattern) != 1)
        return invalid(in, part, "pattern: Regex or String expected");
    struct tp_text text = {0};
    if (!onig_literal(json_string_value(literal), json_string_length(literal), &text, in->err)) {
        mem_free(text.data);
        return false;
    }
    return add_split(in, behaviour, invert, &text);
}

static bool read_digits(struct reading *in, const json_t *value)
{
    bool individual;
    struct tp_text text = {0};
    if (!get_bool(in, "pre_tokenizer Digits", value, "individual_digits", &individual))
        return false;
    if (!onig_digit(&text, in->err) || (!individual && !tp_text_add(&text, "+", 1, in->err))) {
        mem_free(text.data);
        return false;
    }
    return add_split(in, SPLIT_ISOLATED, false, &text);
}

static bool read_byte_level(struct reading *in, const json_t *value)
{
    static const char part[] = "pre_tokenizer ByteLevel";
    bool prefix, regex = true;
    if (!get_bool(in, part, value, "add_prefix_space", &prefix) ||
        (json_find(value, "use_regex") && !get_bool(in, part, value, "use_regex", &regex)))
        return false;
    if (prefix && !add_step(in, (struct pack_step){.kind = STEP_PREFIX_SPACE}))
        return false;
    return !regex ||
           add_regex(in, SPLIT_ISOLATED, false, byte_level_pattern, sizeof byte_level_pattern - 1);
}

static bool read_pre_tokenizer(struct reading *in, const json_t *value)
{
    static const char part[] = "pre_tokenizer";
    const char *type;
    if (!value)
        return unsupported(in, part, "null (only byte-level BPE is supported)");
    if (!type_of(in, part, value, &type))
        return false;
    const json_t *list = NULL;
    if (strcmp(type, "Sequence") == 0) {
        list = json_object_get(value, "pretokenizers");
        if (!json_is_array(list))
            return invalid(in, part, "Sequence: pretokenizers: an array expected");
    }
    size_t count = list ? json_array_size(list) : 1;
    bool byte_level = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *step = list ? json_array_get(list, i) : value;
        if (!type_of(in, part, step, &type))
            return false;
        if (byte_level)
            return unsupported(in, "pre_tokenizer Sequence: after ByteLevel:", type);
        byte_level = strcmp(type, "ByteLevel") == 0;
        bool ok = byte_level                    ? read_byte_level(in, step)
                  : strcmp(type, "Split") == 0  ? read_split(in, step)
                  : strcmp(type, "Digits") == 0 ? read_digits(in, step)
                                                : unsupported(in, part, type);
        if (!ok)
            return false;
    }
    return byte_level || unsupported(in, part, "without ByteLevel");
}

/* ---- post_processor ---- */

/* Put an id before everything so far, or after it. */
static bool post_put(struct reading *in, uint32_t at, uint32_t id)
{
    struct tokenizer_pipeline *out = in->out;
    if (out->post_count == TOKENIZER_POST_MAX)
        return unsupported(in, "post_processor", "of more than 64 tokens");
    memmove(out->post + at + 1, out->post + at, (out->post_count - at) * sizeof *out->post);
    out->post[at] = id;
    out->post_count++;
    return true;
}

/* The ids of a special token of a template, put at *at. */
static bool template_token(struct reading *in, const json_t *specials, const json_t *piece,
                           uint32_t *at)
{
    static const char part[] = "post_processor TemplateProcessing";
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
    if (!json_is_array(ids))
        return invalid(in, part, "special token without ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return invalid(in, part, "id out of range");
        if (!post_put(in, (*at)++, (uint32_t)json_integer_value(id)))
            return false;
    }
    return true;
}

/* What a template puts around its text goes outside of what earlier processors put there. */
static bool read_template(struct reading *in, const json_t *value)
{
    static const char part[] = "post_processor TemplateProcessing";
    const json_t *single = json_object_get(value, "single");
    const json_t *specials = json_object_get(value, "special_tokens");
    if (!json_is_array(single))
        return invalid(in, part, "single: an array expected");
    uint32_t at = 0, sequences = 0, before = in->out->post_before;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *token = json_object_get(piece, "SpecialToken");
        const json_t *sequence = json_object_get(piece, "Sequence");
        if (token) {
            if (!template_token(in, specials, token, &at))
                return false;
        } else {
            const char *id = json_string_value(json_object_get(sequence, "id"));
            if (!id || strcmp(id, "A") != 0)
                return invalid(in, part, "single: SpecialToken or Sequence A expected");
            if (sequences++)
                return unsupported(in, part, "with sequence A twice");
            in->out->post_before = before + at;
            at = in->out->post_count;
        }
    }
    return sequences || invalid(in, part, "single: no sequence A");
}

static bool read_post_processor(struct reading *in, const json_t *value)
{
    static const char part[] = "post_processor";
    const char *type;
    if (!value)
        return true;
    if (!type_of(in, part, value, &type))
        return false;
    const json_t *list = NULL;
    if (strcmp(type, "Sequence") == 0) {
        list = json_object_get(value, "processors");
        if (!json_is_array(list))
            return invalid(in, part, "Sequence: processors: an array expected");
    }
    size_t count = list ? json_array_size(list) : 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *step = list ? json_array_get(list, i) : value;
        if (!type_of(in, part, step, &type))
            return false;
        /* ByteLevel trims offsets only: ids stay as they are */
        bool ok = strcmp(type, "ByteLevel") == 0 ||
                  (strcmp(type, "TemplateProcessing") == 0 ? read_template(in, step)
                                                           : unsupported(in, part, type));
        if (!ok)
            return false;
    }
    return true;
}

/* ---- the rest ---- */

static bool read_normalizer(const struct reading *in, const json_t *value)
{
    const char *type;
    if (!value)
        return true;
    if (!type_of(in, "normalizer", value, &type))
        return false;
    const json_t *list = json_object_get(value, "normalizers");
    if (strcmp(type, "Sequence") == 0) {
        if (!json_is_array(list))
            return invalid(in, "normalizer", "Sequence: normalizers: an array expected");
        if (json_array_size(list) == 0)
            return true;
        if (!type_of(in, "normalizer", json_array_get(list, 0), &type))
            return false;
    }
    return unsupported(in, "normalizer", type);
}

static bool read_decoder(const struct reading *in, const json_t *value)
{
    const char *type;
    if (!value)
        return unsupported(in, "decoder", "null");
    if (!type_of(in, "decoder", value, &type))
        return false;
    return strcmp(type, "ByteLevel") == 0 || unsupported(in, "decoder", type);
}

bool tokenizer_pipeline_read(const char *file, const json_t *root, struct mem_arena *arena,
                             struct tokenizer_pipeline *out, struct tp_error *err)
{
    struct reading in = {.file = file, .arena = arena, .out = out, .err = err};
    *out = (struct tokenizer_pipeline){0};
    return read_normalizer(&in, json_find(root, "normalizer")) &&
           read_pre_tokenizer(&in, json_find(root, "pre_tokenizer")) &&
           read_post_processor(&in, json_find(root, "post_processor")) &&
           read_decoder(&in, json_find(root, "decoder"));
}
