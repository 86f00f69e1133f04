#include "tokenizer_post.h"

#include <string.h>

struct posting {
    const struct tokenizer_reading *in;
    struct tokenizer_post *out;
    bool templated; /* a template has been */
};

/* Put an id before everything so far, or after it. */
static bool post_put(struct posting *p, uint32_t at, uint32_t id)
{
    struct tokenizer_post *out = p->out;
    if (out->count == TOKENIZER_POST_MAX)
        return reading_unsupported(p->in, "post_processor", "of more than 64 tokens");
    memmove(out->ids + at + 1, out->ids + at, (out->count - at) * sizeof *out->ids);
    out->ids[at] = id;
    out->count++;
    return true;
}

/* The ids of a special token of a template, put at *at. */
static bool template_token(struct posting *p, const json_t *specials, const json_t *piece,
                           uint32_t *at)
{
    static const char part[] = "post_processor TemplateProcessing";
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
    if (!json_is_array(ids))
        return reading_invalid(p->in, part, "special token without ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return reading_invalid(p->in, part, "id out of range");
        if (!post_put(p, (*at)++, (uint32_t)json_integer_value(id)))
            return false;
    }
    return true;
}

/* What a template puts around its text goes outside of what earlier processors put there. */
static bool read_template(struct posting *p, const json_t *value)
{
    static const char part[] = "post_processor TemplateProcessing";
    const json_t *single = json_object_get(value, "single");
    const json_t *specials = json_object_get(value, "special_tokens");
    if (!json_is_array(single))
        return reading_invalid(p->in, part, "single: an array expected");
    uint32_t at = 0, sequences = 0, before = p->out->before;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *token = json_object_get(piece, "SpecialToken");
        const json_t *sequence = json_object_get(piece, "Sequence");
        if (token) {
            if (!template_token(p, specials, token, &at))
                return false;
        } else {
            const char *id = json_string_value(json_object_get(sequence, "id"));
            if (!id || strcmp(id, "A") != 0)
                return reading_invalid(p->in, part, "single: SpecialToken or Sequence A expected");
            if (sequences++)
                return reading_unsupported(p->in, part, "with sequence A twice");
            p->out->before = before + at;
            at = p->out->count;
        }
    }
    return sequences || reading_invalid(p->in, part, "single: no sequence A");
}

/* [CLS] text [SEP]: Bert and Roberta, as {"sep": ["</s>", 2], "cls": ["<s>", 0]} */
static bool read_pair(struct posting *p, const json_t *value)
{
    static const char *const keys[] = {"cls", "sep"};
    for (uint32_t i = 0; i < 2; i++) {
        const json_t *id = json_array_get(json_object_get(value, keys[i]), 1);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return reading_invalid(p->in, "post_processor", "cls and sep expected");
        if (!post_put(p, i ? p->out->count : 0, (uint32_t)json_integer_value(id)))
            return false;
        p->out->before += !i;
    }
    return true;
}

static bool read_processor(void *self, const char *type, const json_t *value)
{
    struct posting *p = self;
    if (strcmp(type, "ByteLevel") == 0)
        return true; /* trims offsets only: ids stay as they are */
    if (strcmp(type, "TemplateProcessing") == 0) {
        p->templated = true;
        return read_template(p, value);
    }
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return p->templated /* the reference puts a pair around every piece of it */
                   ? reading_unsupported(p->in, "post_processor", "with a pair behind a template")
                   : read_pair(p, value);
    return reading_unsupported(p->in, "post_processor", type);
}

bool tokenizer_post_read(const struct tokenizer_reading *in, const json_t *value,
                         struct tokenizer_post *out)
{
    struct posting p = {in, out, false};
    *out = (struct tokenizer_post){0};
    return !value || reading_each(in, "post_processor", "processors", value, read_processor, &p);
}
