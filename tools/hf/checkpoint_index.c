#include "checkpoint_index.h"
#include "file_kind.h"
#include "io.h"
#include "json_pull.h"
#include "safetensors.h"
#include "sort_index.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* An entry while reading: its file by name. */
struct pair {
    const char *name, *file;
    uint32_t name_len;
};

struct reader {
    struct json_pull in;
    struct checkpoint_index *index;
    struct pair *pairs;
    size_t count, cap;
    bool map_seen, metadata_seen;
};

/* ---- the text ---- */

static bool fail_kind(struct reader *r, const char *field, const char *expected)
{
    const char *kind = pull_kind(&r->in);
    return pull_skip(&r->in) && tp_fail(r->in.err, TP_E_IX_FIELD, "%s: %s: %s expected, %s found",
                                        r->in.file, field, expected, kind);
}

static bool read_pair(struct reader *r)
{
    struct json_pull *in = &r->in;
    char name[ST_NAME_MAX + 1], file[512], shown[TP_NAME_BUF], shown_file[TP_NAME_BUF];
    static const char suffix[] = ".safetensors";
    size_t len, file_len, suffix_len = sizeof suffix - 1;
    if (!pull_key(in, name, sizeof name, &len))
        return false;
    tp_name_cut(shown, name, len);
    if (len == 0 || len > ST_NAME_MAX || memchr(name, '\0', len))
        return tp_fail(in->err, TP_E_ST_NAME,
                       "%s: weight_map: \"%s\": a tensor name has 1 to %d "
                       "bytes and no NUL",
                       in->file, shown, ST_NAME_MAX);
    if (pull_peek(in) != '"')
        return fail_kind(r, shown, "a file name");
    if (!pull_string(in, file, sizeof file, &file_len))
        return false;
    bool plain = io_name_is_plain(file, file_len);
    if (!plain || file_len <= suffix_len || strcmp(file + file_len - suffix_len, suffix) != 0)
        return tp_fail(in->err, TP_E_IX_PATH,
                       "%s: weight_map: \"%s\": \"%s\" is not a plain%s "
                       "file name",
                       in->file, shown, tp_name_cut(shown_file, file, file_len),
                       plain ? " .safetensors" : "");
    if (r->count == ST_TENSORS_MAX)
        return tp_fail(in->err, TP_E_ST_COUNT, "%s: weight_map: more than %u tensors", in->file,
                       ST_TENSORS_MAX);
    if (!mem_grow((void **)&r->pairs, &r->cap, r->count + 1, sizeof *r->pairs, in->err))
        return false;
    /* Neighbours mostly share a file. */
    const char *last = r->count ? r->pairs[r->count - 1].file : NULL;
    struct pair *p = &r->pairs[r->count];
    p->name_len = (uint32_t)len;
    p->name = mem_arena_copy(&r->index->arena, name, len, in->err);
    p->file = last && strcmp(last, file) == 0
                  ? last
                  : mem_arena_copy(&r->index->arena, file, file_len, in->err);
    r->count++;
    return p->name && p->file;
}

/* Nothing rests on it: whatever it is, it is kept as it is written. */
static bool read_total_size(struct reader *r)
{
    struct json_pull *in = &r->in;
    if (*r->index->total_size)
        return tp_fail(in->err, TP_E_IX_FIELD, "%s: metadata.total_size stands twice", in->file);
    pull_peek(in);
    uint64_t begin = in->at;
    if (!pull_skip(in))
        return false;
    snprintf(r->index->total_size, sizeof r->index->total_size, "%.*s", (int)(in->at - begin),
             in->text + begin);
    return true;
}

/* One member of the top-level object, of metadata, or of weight_map. */
typedef bool (*member_fn)(struct reader *r);

static bool read_members(struct reader *r, member_fn member)
{
    bool more;
    if (!pull_open(&r->in, '{'))
        return false;
    for (bool first = true;; first = false) {
        if (!pull_next(&r->in, '}', first, &more))
            return false;
        if (!more)
            return true;
        if (!member(r))
            return false;
    }
}

static bool read_metadata_member(struct reader *r)
{
    char key[32];
    size_t len;
    if (!pull_key(&r->in, key, sizeof key, &len))
        return false;
    return strcmp(key, "total_size") == 0 ? read_total_size(r) : pull_skip(&r->in);
}

static bool read_top_member(struct reader *r)
{
    char key[32];
    size_t len;
    if (!pull_key(&r->in, key, sizeof key, &len))
        return false;
    bool map = strcmp(key, "weight_map") == 0, metadata = strcmp(key, "metadata") == 0;
    if (!map && !metadata)
        return pull_skip(&r->in);
    bool *seen = map ? &r->map_seen : &r->metadata_seen;
    if (*seen)
        return tp_fail(r->in.err, TP_E_IX_FIELD, "%s: %s stands twice", r->in.file, key);
    *seen = true;
    if (pull_peek(&r->in) == '{')
        return read_members(r, map ? read_pair : read_metadata_member);
    return metadata ? pull_skip(&r->in) : fail_kind(r, key, "an object");
}

/* ---- the tables ---- */

static bool file_before(const void *items, uint32_t a, uint32_t b)
{
    const struct pair *p = items;
    return strcmp(p[a].file, p[b].file) < 0;
}

static bool name_before(const void *items, uint32_t a, uint32_t b)
{
    const struct pair *p = items;
    return st_name_compare(p[a].name, p[a].name_len, p[b].name, p[b].name_len) < 0;
}

static bool folded_before(const void *items, uint32_t a, uint32_t b)
{
    const char *const *files = items;
    return strcasecmp(files[a], files[b]) < 0;
}

/* Number the files. order holds the pairs by file; numbers gets each pair's, by pair. */
static bool number_files(struct reader *r, const uint32_t *order, uint32_t *numbers)
{
    struct checkpoint_index *index = r->index;
    size_t cap = 0;
    for (size_t i = 0; i < r->count; i++) {
        const char *file = r->pairs[order[i]].file;
        if (i == 0 || strcmp(file, index->files[index->file_count - 1]) != 0) {
            if (!mem_grow((void **)&index->files, &cap, index->file_count + 1u,
                          sizeof *index->files, r->in.err))
                return false;
            index->files[index->file_count++] = file;
        }
        numbers[order[i]] = index->file_count - 1;
    }
    return true;
}

/* No two names that a file system may take for one: they would be each other's data. What Unicode
 * folds and composes is not ours to know: with several files all names are ASCII. */
static bool check_files(struct reader *r, uint32_t *order, uint32_t *scratch)
{
    const struct checkpoint_index *index = r->index;
    for (uint32_t i = 0; i < index->file_count && index->file_count > 1; i++)
        for (const char *s = index->files[i]; *s; s++)
            if ((unsigned char)*s >= 0x80)
                return tp_fail(r->in.err, TP_E_IX_CASE,
                               "%s: weight_map: file name \"%s\" is not "
                               "ASCII: it may equal another after Unicode normalisation",
                               r->in.file, index->files[i]);
    sort_index(order, scratch, index->file_count, index->files, folded_before);
    for (uint32_t i = 1; i < index->file_count; i++) {
        const char *a = index->files[order[i - 1]], *b = index->files[order[i]];
        if (strcasecmp(a, b) == 0)
            return tp_fail(r->in.err, TP_E_IX_CASE,
                           "%s: weight_map: file names \"%.120s\" and "
                           "\"%.120s\" differ in case only",
                           r->in.file, a, b);
    }
    return true;
}

/* The entries by name. order is scratch, numbers as above. */
static bool make_entries(struct reader *r, uint32_t *order, uint32_t *scratch,
                         const uint32_t *numbers)
{
    struct checkpoint_index *index = r->index;
    char shown[TP_NAME_BUF];
    index->entries = mem_array(r->count, sizeof *index->entries, r->in.err);
    if (!index->entries)
        return false;
    sort_index(order, scratch, r->count, r->pairs, name_before);
    for (size_t i = 0; i < r->count; i++) {
        const struct pair *p = &r->pairs[order[i]];
        if (i && !name_before(r->pairs, order[i - 1], order[i]))
            return tp_fail(r->in.err, TP_E_IX_FIELD, "%s: weight_map: \"%s\" stands twice",
                           r->in.file, tp_name_cut(shown, p->name, p->name_len));
        index->entries[i] = (struct index_entry){p->name, p->name_len, numbers[order[i]]};
    }
    index->count = (uint32_t)r->count;
    return true;
}

static bool make_tables(struct reader *r)
{
    if (!r->map_seen || r->count == 0)
        return tp_fail(r->in.err, TP_E_IX_FIELD, "%s: weight_map is %s", r->in.file,
                       r->map_seen ? "empty" : "missing");
    uint32_t *order = mem_array(r->count, 3 * sizeof *order, r->in.err);
    if (!order)
        return false;
    uint32_t *scratch = order + r->count, *numbers = scratch + r->count;
    sort_index(order, scratch, r->count, r->pairs, file_before);
    bool ok = number_files(r, order, numbers) && check_files(r, order, scratch) &&
              make_entries(r, order, scratch, numbers);
    mem_free(order);
    return ok;
}

bool checkpoint_index_parse(struct checkpoint_index *index, const char *name, const char *text,
                            uint64_t n, struct tp_error *err)
{
    *index = (struct checkpoint_index){0};
    /* clang-format off */
    struct reader r = {
        .in = {.file = name, .text = text, .size = n, .depth_max = PULL_DEPTH_MAX,
               .malformed = TP_E_JSON, .not_utf8 = TP_E_JSON, .too_deep = TP_E_JSON, .err = err},
        .index = index,
    };
    /* clang-format on */
    bool ok = file_kind_check(name, text, n, "JSON", TP_E_JSON, err) && pull_begin(&r.in) &&
              read_members(&r, read_top_member) && pull_end(&r.in) && make_tables(&r);
    mem_free(r.pairs);
    if (!ok)
        checkpoint_index_free(index);
    return ok;
}

void checkpoint_index_free(struct checkpoint_index *index)
{
    mem_free(index->entries);
    mem_free(index->files);
    mem_arena_free(&index->arena);
    *index = (struct checkpoint_index){0};
}
