#include "normal_text.h"

#include "normalizer.h"
#include "utf8.h"
#include <string.h>

/* Which ends of the text a part holds. */
enum part_ends { PART_BEGIN = 1, PART_END = 2 };

/* text, n bytes, through all steps: *out is text itself, or in t->normal. */
static bool normalize(struct tokenizer *t, const char *text, size_t n, unsigned ends,
                      const char **out, size_t *out_n, struct tp_error *err)
{
    int next = 0;
    for (uint32_t i = 0; i < t->file.normalizer_count; i++) {
        struct tokenizer_normalizer z = tokenizer_file_normalizer(&t->file, i);
        struct normalizer_step step = {
            .kind = (enum normalizer_kind)z.kind,
            .flags = z.flags,
            .pattern = z.regex ? &t->normalizers[i] : NULL,
            .literal = (const char *)z.pattern.data,
            .literal_n = z.pattern.n,
            .content = (const char *)z.content.data,
            .content_n = z.content.n,
        };
        if (z.kind == NORMALIZER_PREPEND && !(ends & PART_BEGIN))
            continue;
        if (z.kind == NORMALIZER_STRIP)
            step.flags &= (ends & PART_BEGIN ? NORMALIZER_LEFT : 0u) |
                          (ends & PART_END ? NORMALIZER_RIGHT : 0u);
        if (!normalizer_apply(&step, text, n, &t->normal[next], err))
            return false;
        text = t->normal[next].data;
        n = t->normal[next].n;
        next = !next;
    }
    *out = text;
    *out_n = n;
    return true;
}

/* Normalize the parts of one origin one by one into t->parts, their origins into t->origin. */
static bool make_parts(struct tokenizer *t, const struct token_source *source, struct tp_error *err)
{
    t->parts.n = t->origin.n = 0;
    for (size_t at = 0, end; at < source->n; at = end) {
        const char *part;
        size_t n;
        for (end = at + 1; end < source->n && source->origin[end] == source->origin[at];)
            end++;
        unsigned ends = (at == 0 ? PART_BEGIN : 0u) | (end == source->n ? PART_END : 0u);
        if (!normalize(t, source->text + at, end - at, ends, &part, &n, err) ||
            !tp_text_add(&t->parts, part, n, err) || !tp_text_add(&t->origin, part, n, err))
            return false;
        if (n)
            memset(t->origin.data + t->origin.n - n, source->origin[at], n);
    }
    return true;
}

/* Does normal text begin where the text begins, or was the first character taken away? */
static bool keeps_first(struct tokenizer *t, const struct token_source *source, bool *keeps,
                        struct tp_error *err)
{
    const char *made;
    size_t length = utf8_length((const unsigned char *)source->text, source->n), n = 0;
    bool ok = normalize(t, source->text, length, PART_BEGIN | PART_END, &made, &n, err);
    *keeps = n > 0;
    return ok;
}

bool normal_text_make(struct tokenizer *t, const struct token_source *source,
                      struct token_source *normal, struct tp_error *err)
{
    bool origins =
        t->special_normalized && source->origin && memchr(source->origin, 1, source->n) != NULL;
    if (origins && !make_parts(t, source, err))
        return false;
    *normal = (struct token_source){.first = source->first};
    if (source->first && t->first_matters && !keeps_first(t, source, &normal->first, err))
        return false;
    if (!normalize(t, source->text, source->n, PART_BEGIN | PART_END, &normal->text, &normal->n,
                   err))
        return false;
    if (!origins || normal->n == 0)
        return true;
    if (normal->n != t->parts.n || memcmp(normal->text, t->parts.data, normal->n) != 0) {
        t->origin.n = 0;
        if (!tp_text_add(&t->origin, normal->text, normal->n, err))
            return false;
        memset(t->origin.data, 1, normal->n);
    }
    normal->origin = (const unsigned char *)t->origin.data;
    return true;
}
