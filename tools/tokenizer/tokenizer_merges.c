#include "tokenizer_merges.h"

#include "json.h"
#include <stdio.h>
#include <string.h>

struct merging {
    const struct tokenizer_reading *in;
    const json_t *vocab, *without;
    struct pack_merge *merges;
    uint32_t merge_count;
};

struct span {
    const char *s;
    size_t n;
};

static bool bad_merge(struct merging *c, size_t number, const char *what)
{
    return tp_fail(c->in->err, TP_E_TK_INVALID, "%s: merge %zu: %s", c->in->file, number, what);
}

/* The two parts of "left right" or ["left", "right"]. */
static bool merge_parts(struct merging *c, const json_t *merge, size_t number, struct span part[2])
{
    if (json_is_string(merge)) {
        const char *s = json_string_value(merge);
        size_t n = json_string_length(merge);
        const char *space = memchr(s, ' ', n);
        if (!space || memchr(space + 1, ' ', (size_t)(s + n - space - 1)))
            return bad_merge(c, number, "two parts expected");
        part[0] = (struct span){s, (size_t)(space - s)};
        part[1] = (struct span){space + 1, (size_t)(s + n - space - 1)};
        return true;
    }
    if (!json_is_array(merge) || json_array_size(merge) != 2)
        return bad_merge(c, number, "two parts expected");
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_array_get(merge, i);
        if (!json_is_string(value))
            return bad_merge(c, number, "strings expected");
        part[i] = (struct span){json_string_value(value), json_string_length(value)};
    }
    return true;
}

static bool merge_id(struct merging *c, size_t number, struct span name, uint32_t *id)
{
    char cut[TP_NAME_BUF], what[2 * TP_NAME_BUF];
    const json_t *value = json_object_getn(c->vocab, name.s, name.n);
    if (!value) {
        snprintf(what, sizeof what, "\"%s\" is not in the vocabulary",
                 tp_name_cut(cut, name.s, name.n));
        return bad_merge(c, number, what);
    }
    *id = (uint32_t)json_integer_value(value);
    return true;
}

static bool is_without(const struct merging *c, struct span name)
{
    return json_object_getn(c->without, name.s, name.n) != NULL;
}

static bool read_merge(struct merging *c, const json_t *merge, size_t number, char *joined)
{
    struct span part[2];
    struct pack_merge *out = &c->merges[c->merge_count];
    if (!merge_parts(c, merge, number, part))
        return false;
    if (is_without(c, part[0]) || is_without(c, part[1]))
        return true;
    if (!merge_id(c, number, part[0], &out->left) || !merge_id(c, number, part[1], &out->right))
        return false;
    /* both are in the vocabulary: neither is longer than a token may be */
    memcpy(joined, part[0].s, part[0].n);
    memcpy(joined + part[0].n, part[1].s, part[1].n);
    struct span whole = {joined, part[0].n + part[1].n};
    if (is_without(c, whole))
        return true;
    if (!merge_id(c, number, whole, &out->id))
        return false;
    c->merge_count++;
    return true;
}

bool tokenizer_merges_read(const struct tokenizer_reading *in, const json_t *model,
                           const json_t *vocab, const json_t *without, struct pack_merge **out,
                           uint32_t *out_count)
{
    const json_t *merges = json_object_get(model, "merges");
    struct merging c = {.in = in, .vocab = vocab, .without = without};
    if (!json_is_array(merges))
        return tp_fail(in->err, TP_E_TK_INVALID, "%s: model: merges: an array expected, %s found",
                       in->file, json_type_name(merges));
    size_t count = json_array_size(merges);
    if (count > TOKENIZER_MERGES_MAX)
        return tp_fail(in->err, TP_E_TK_INVALID, "%s: %zu merges, at most %u allowed", in->file,
                       count, TOKENIZER_MERGES_MAX);
    char *joined = mem_alloc(2 * TOKENIZER_TOKEN_BYTES_MAX, in->err);
    c.merges = mem_array(count, sizeof *c.merges, in->err);
    bool ok = joined && c.merges;
    for (size_t i = 0; ok && i < count; i++) {
        const json_t *merge = json_array_get(merges, i);
        /* a line of the merges.txt of old, which the reference leaves out as well */
        const char *s = json_string_value(merge);
        if (!s || strncmp(s, "#version", 8) != 0)
            ok = read_merge(&c, merge, i, joined);
    }
    mem_free(joined);
    *out = c.merges;
    *out_count = c.merge_count;
    return ok;
}
