#include "checkpoint.h"
#include "checked.h"
#include "folder.h"
#include "checkpoint_index.h"
#include "sort_index.h"

#include <stdio.h>
#include <string.h>

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

typedef unsigned long long ull;

/* ---- what the folder holds ---- */

/* Names are file system names, at most 255 bytes. */
struct listing {
    bool single, index;
    uint32_t others;              /* further *.safetensors */
    char first[256], second[256]; /* of the others, the least two */
    char pickle[256];
};

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcmp(name + n - k, suffix) == 0;
}

static void list_name(void *arg, const char *name)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};
    struct listing *found = arg;
    if (name[0] == '.')
        return;
    found->single |= strcmp(name, SINGLE_NAME) == 0;
    found->index |= strcmp(name, INDEX_NAME) == 0;
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++)
        if (ends_in(name, pickles[i]))
            snprintf(found->pickle, sizeof found->pickle, "%s", name);
    if (!ends_in(name, ".safetensors") || strcmp(name, SINGLE_NAME) == 0)
        return;
    found->others++;
    if (!*found->first || strcmp(name, found->first) < 0) {
        memcpy(found->second, found->first, sizeof found->second);
        snprintf(found->first, sizeof found->first, "%s", name);
    } else if (!*found->second || strcmp(name, found->second) < 0) {
        snprintf(found->second, sizeof found->second, "%s", name);
    }
}

/* The file that holds the weights or their index, as ck->source. */
static bool choose_source(struct checkpoint *ck, const struct listing *found, struct tp_error *err)
{
    const char *name = found->index ? INDEX_NAME : found->single ? SINGLE_NAME : found->first;
    if (!found->index && !found->single && found->others > 1)
        return tp_fail(err, TP_E_IX_AMBIGUOUS,
                       "%.200s: ambiguous: %u .safetensors files and no "
                       "index: %.80s, %.80s%s",
                       ck->dir, found->others, found->first, found->second,
                       found->others > 2 ? ", ..." : "");
    if (!*name && *found->pickle)
        return tp_fail(err, TP_E_IX_PICKLE,
                       "%.200s: only pickle weights (%.80s): pickle is never "
                       "opened, convert them to safetensors",
                       ck->dir, found->pickle);
    if (!*name)
        return tp_fail(err, TP_E_IO, "%.300s: no " SINGLE_NAME ", no " INDEX_NAME, ck->dir);
    ck->source = mem_arena_copy(&ck->arena, name, strlen(name), err);
    return ck->source != NULL;
}

/* ---- files ---- */

/* All that are missing, in one line. */
static bool check_present(const struct checkpoint *ck, const char *const *names, uint32_t count,
                          struct tp_error *err)
{
    enum { ROOM = 300 };
    char list[ROOM + 2] = "", path[IO_PATH_MAX];
    size_t used = 0;
    uint32_t missing = 0, listed = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!io_join(path, ck->dir, names[i], err))
            return false;
        if (io_exists(path))
            continue;
        missing++;
        size_t need = strlen(names[i]) + 2;
        if (listed + 1 == missing && used + need < ROOM) {
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", listed ? ", " : "",
                                     names[i]);
            listed++;
        }
    }
    if (missing == 0)
        return true;
    return tp_fail(err, TP_E_IX_MISSING, "%s: %u of %u files missing: %s%s", ck->source, missing,
                   count, list, listed < missing ? ", ..." : "");
}

static bool open_files(struct checkpoint *ck, const char *const *names, uint32_t count,
                       struct tp_error *err)
{
    char path[IO_PATH_MAX];
    ck->files = mem_array(count, sizeof *ck->files, err);
    if (!ck->files)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct safetensors *st = &ck->files[i];
        if (!io_join(path, ck->dir, names[i], err) || !safetensors_open(st, path, err))
            return false;
        ck->file_count++;
        uint32_t kept = st->warnings.count < ST_WARNINGS_MAX ? st->warnings.count : ST_WARNINGS_MAX;
        for (uint32_t w = 0; w < kept; w++)
            st_warn(&ck->warnings, "%s", st->warnings.text[w]);
        ck->warnings.count += st->warnings.count - kept;
        ck->count += st->count; /* both at most 2^20 */
        if (ck->count > ST_TENSORS_MAX)
            return tp_fail(err, TP_E_ST_COUNT, "%s: more than %u tensors in all files", ck->source,
                           ST_TENSORS_MAX);
    }
    return true;
}

/* ---- the table ---- */

static int compare(const struct checkpoint_tensor *a, const char *name, size_t len)
{
    return st_name_compare(a->tensor->name, a->tensor->name_len, name, len);
}

static bool name_before(const void *items, uint32_t a, uint32_t b)
{
    const struct checkpoint_tensor *t = items;
    return compare(&t[a], t[b].tensor->name, t[b].tensor->name_len) < 0;
}

/* ck->tensors, sorted; within a name by file. */
static bool merge_files(struct checkpoint *ck, struct tp_error *err)
{
    struct checkpoint_tensor *all = mem_array(ck->count, sizeof *all, err);
    uint32_t *order = mem_array(ck->count, 2 * sizeof *order, err), n = 0;
    ck->tensors = mem_array(ck->count, sizeof *all, err);
    bool ok = all && order && ck->tensors;
    for (uint32_t f = 0; ok && f < ck->file_count; f++)
        for (uint32_t i = 0; i < ck->files[f].count; i++)
            all[n++] = (struct checkpoint_tensor){.tensor = &ck->files[f].tensors[i], .file = f};
    if (ok)
        sort_index(order, order + ck->count, ck->count, all, name_before);
    for (uint32_t i = 0; i < n; i++) {
        ck->tensors[i] = all[order[i]];
        if (i && !name_before(all, order[i - 1], order[i]))
            ck->tensors[i].twice = ck->tensors[i - 1].twice = true;
    }
    mem_free(all);
    mem_free(order);
    return ok;
}

/* The first tensor whose name is not before name; count where there is none. */
static uint32_t lower_bound(const struct checkpoint *ck, const char *name, size_t len)
{
    uint32_t low = 0, high = ck->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare(&ck->tensors[middle], name, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void mark_indexed(struct checkpoint *ck, struct checkpoint_tensor *t)
{
    t->indexed = true;
    ck->total_bytes += t->tensor->end - t->tensor->begin;
}

/* Every entry of the index is a tensor of its file; those are marked. */
static bool apply_index(struct checkpoint *ck, const struct checkpoint_index *index,
                        struct tp_error *err)
{
    char shown[TP_NAME_BUF];
    uint32_t at = 0;
    for (uint32_t i = 0; i < index->count; i++) {
        const struct index_entry *e = &index->entries[i];
        while (at < ck->count && compare(&ck->tensors[at], e->name, e->name_len) < 0)
            at++;
        uint32_t match = at;
        while (match < ck->count && compare(&ck->tensors[match], e->name, e->name_len) == 0 &&
               ck->tensors[match].file != e->file)
            match++;
        if (match == ck->count || compare(&ck->tensors[match], e->name, e->name_len) != 0) {
            const char *other = match > at ? ck->files[ck->tensors[at].file].name : NULL;
            return tp_fail(err, TP_E_IX_WRONG,
                           "%s: weight_map: tensor \"%s\" is not in %.120s%s%.120s", ck->source,
                           tp_name_cut(shown, e->name, e->name_len), index->files[e->file],
                           other ? " but in " : "", other ? other : "");
        }
        mark_indexed(ck, &ck->tensors[match]);
    }
    return true;
}

/* Warn of what the index says about the whole and of what it leaves out. */
static void check_totals(struct checkpoint *ck, const struct checkpoint_index *index)
{
    char shown[TP_NAME_BUF];
    double total;
    if (*index->total_size &&
        !(tp_parse_double(index->total_size, &total) && total == (double)ck->total_bytes))
        st_warn(&ck->warnings, "%s: metadata.total_size is %s, the tensors have %llu bytes",
                ck->source, index->total_size, (ull)ck->total_bytes);
    const struct st_tensor *first = NULL;
    uint32_t left_out = 0;
    for (uint32_t i = 0; i < ck->count; i++)
        if (!ck->tensors[i].indexed) {
            first = first ? first : ck->tensors[i].tensor;
            left_out++;
        }
    if (first)
        st_warn(&ck->warnings, "%s: %u tensors of the files are not in the index: \"%s\"%s",
                ck->source, left_out, tp_name_cut(shown, first->name, first->name_len),
                left_out > 1 ? ", ..." : "");
}

/* ---- opening ---- */

static bool open_single(struct checkpoint *ck, struct tp_error *err)
{
    if (!open_files(ck, &ck->source, 1, err) || !merge_files(ck, err))
        return false;
    for (uint32_t i = 0; i < ck->count; i++)
        mark_indexed(ck, &ck->tensors[i]);
    return true;
}

static bool open_indexed(struct checkpoint *ck, const struct listing *found, struct tp_error *err)
{
    struct checkpoint_index index;
    char path[IO_PATH_MAX], *text;
    size_t n;
    if (!io_join(path, ck->dir, INDEX_NAME, err) ||
        !io_read_file(path, INDEX_TEXT_MAX, &text, &n, err))
        return false;
    bool ok = checkpoint_index_parse(&index, INDEX_NAME, text, n, err);
    mem_free(text);
    if (!ok)
        return false;
    /* With one file the index says no more than the file does; else there are two models. */
    if (found->single && (index.file_count > 1 || strcmp(index.files[0], SINGLE_NAME) != 0))
        ok = tp_fail(err, TP_E_IX_AMBIGUOUS,
                     "%.200s: ambiguous: " SINGLE_NAME " and " INDEX_NAME " that names \"%.100s\"",
                     ck->dir, index.files[0]);
    ok = ok && check_present(ck, index.files, index.file_count, err) &&
         open_files(ck, index.files, index.file_count, err) && merge_files(ck, err) &&
         apply_index(ck, &index, err);
    if (ok)
        check_totals(ck, &index);
    checkpoint_index_free(&index);
    return ok;
}

bool checkpoint_open(struct checkpoint *ck, const char *dir, struct tp_error *err)
{
    struct listing found = {0};
    *ck = (struct checkpoint){0};
    ck->dir = mem_arena_copy(&ck->arena, dir, strlen(dir), err);
    bool ok = ck->dir && folder_list_path(dir, list_name, &found, err) &&
              choose_source(ck, &found, err) &&
              (found.index ? open_indexed(ck, &found, err) : open_single(ck, err));
    if (!ok)
        checkpoint_close(ck);
    return ok;
}

void checkpoint_close(struct checkpoint *ck)
{
    for (uint32_t i = 0; i < ck->file_count; i++)
        safetensors_close(&ck->files[i]);
    mem_free(ck->files);
    mem_free(ck->tensors);
    mem_arena_free(&ck->arena);
    *ck = (struct checkpoint){0};
}

bool checkpoint_unchanged(const struct checkpoint *ck, struct tp_error *err)
{
    for (uint32_t i = 0; i < ck->file_count; i++)
        if (!safetensors_unchanged(&ck->files[i], err))
            return false;
    return true;
}

/* ---- lookups ---- */

struct checkpoint_tensor *checkpoint_find(const struct checkpoint *ck, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = lower_bound(ck, name, len);
         i < ck->count && compare(&ck->tensors[i], name, len) == 0; i++)
        if (ck->tensors[i].indexed)
            return &ck->tensors[i];
    return NULL;
}

struct checkpoint_tensor *checkpoint_use(struct checkpoint *ck, const char *name,
                                         struct tp_error *err)
{
    char shown[TP_NAME_BUF];
    size_t len = strlen(name);
    uint32_t first = lower_bound(ck, name, len);
    struct checkpoint_tensor *found = checkpoint_find(ck, name);
    tp_name_cut(shown, name, len);
    if (found && !found->twice) {
        found->used = true;
        return found;
    }
    if (found)
        tp_fail(err, TP_E_ST_TENSOR, "%.200s: tensor \"%s\" is in %.80s again",
                ck->files[ck->tensors[first].file].name, shown,
                ck->files[ck->tensors[first + 1].file].name);
    else if (first < ck->count && compare(&ck->tensors[first], name, len) == 0)
        tp_fail(err, TP_E_ST_TENSOR, "%s: tensor \"%s\" is needed, in %.200s, but not in the index",
                ck->source, shown, ck->files[ck->tensors[first].file].name);
    else
        tp_fail(err, TP_E_ST_TENSOR, "%s: tensor \"%s\" is needed and missing", ck->source, shown);
    return NULL;
}
