#include "checkpoint.h"
#include "checked.h"
#include "folder.h"
#include "link.h"
#include "sort_index.h"
#include "text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

typedef unsigned long long ull;

/* ---- what the folder holds ---- */

/* Names are file system names, at most 255 bytes. */
struct listing {
    bool single, index;
    uint32_t others;              /* further *.safetensors */
    char first[256], second[256]; /* of the others, the least two */
    char aside[256]; /* by Mistral's own names; the weights only if there is nothing else */
    char pickle[256], gguf[256], foreign[256];
    bool adapter;
};

/* The first by name, whatever order the folder has. */
static void keep_first(char kept[256], const char *name)
{
    if (!*kept || strcmp(name, kept) < 0)
        snprintf(kept, 256, "%s", name);
}

static void list_name(void *arg, const char *name)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};
    static const char *const foreign[] = {".h5", ".msgpack", ".onnx", ".tflite", ".mlmodel"};
    struct listing *found = arg;
    if (name[0] == '.')
        return;
    found->single |= strcmp(name, SINGLE_NAME) == 0;
    found->index |= strcmp(name, INDEX_NAME) == 0;
    found->adapter |= strncmp(name, "adapter_", 8) == 0;
    if (tp_ends_in(name, ".gguf"))
        keep_first(found->gguf, name);
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++)
        if (tp_ends_in(name, pickles[i]))
            keep_first(found->pickle, name);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (tp_ends_in(name, foreign[i]))
            keep_first(found->foreign, name);
    if (!tp_ends_in(name, ".safetensors") || strcmp(name, SINGLE_NAME) == 0 ||
        strncmp(name, "adapter_", 8) == 0)
        return;
    if (strncmp(name, "consolidated", 12) == 0) {
        keep_first(found->aside, name);
        return;
    }
    found->others++;
    if (!*found->first || strcmp(name, found->first) < 0) {
        memcpy(found->second, found->first, sizeof found->second);
        snprintf(found->first, sizeof found->first, "%s", name);
    } else if (!*found->second || strcmp(name, found->second) < 0) {
        snprintf(found->second, sizeof found->second, "%s", name);
    }
}

static bool fail_no_weights(const struct checkpoint *ck, const struct listing *found,
                            struct tp_error *err)
{
    if (found->adapter)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%.200s: holds an adapter, no model: merge it into its model with peft's "
                       "merge_and_unload",
                       ck->dir);
    if (*found->gguf)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%.200s: only GGUF weights (%.80s): tpshard reads safetensors: get the "
                       "original model folder",
                       ck->dir, found->gguf);
    if (*found->pickle)
        return tp_fail(err, TP_E_IX_PICKLE,
                       "%.200s: only pickle weights (%.80s): pickle is never "
                       "opened, convert them to safetensors",
                       ck->dir, found->pickle);
    if (*found->foreign)
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%.200s: only weights of another framework (%.80s): get those in "
                       "safetensors",
                       ck->dir, found->foreign);
    return tp_fail(err, TP_E_IO, "%.300s: no " SINGLE_NAME ", no " INDEX_NAME, ck->dir);
}

/* The file that holds the weights or their index, as ck->source. */
static bool choose_source(struct checkpoint *ck, const struct listing *found, struct tp_error *err)
{
    const char *name = found->single   ? SINGLE_NAME
                       : found->index  ? INDEX_NAME
                       : *found->first ? found->first
                                       : found->aside;
    if (!found->index && !found->single && found->others > 1)
        return tp_fail(err, TP_E_IX_AMBIGUOUS,
                       "%.200s: ambiguous: %u .safetensors files and no index (" INDEX_NAME
                       "): %.80s, %.80s%s",
                       ck->dir, found->others, found->first, found->second,
                       found->others > 2 ? ", ..." : "");
    if (!*name)
        return fail_no_weights(ck, found, err);
    ck->index_beside = found->single && found->index;
    ck->source = mem_arena_copy(&ck->arena, name, strlen(name), err);
    return ck->source != NULL;
}

/* ---- files ---- */

enum { MISSING_TEXT = 400 };

/* "2 of 3 files missing: a, b"; returns buf. */
static const char *missing_text(const struct checkpoint *ck, char buf[MISSING_TEXT])
{
    enum { ROOM = 300 };
    const struct checkpoint_index *index = &ck->index;
    char list[ROOM + 2] = "";
    size_t used = 0;
    uint32_t listed = 0, missing = index->file_count - ck->file_count, seen = 0;
    for (uint32_t i = 0; i < index->file_count && listed == seen; i++) {
        if (ck->opened[i] != UINT32_MAX)
            continue;
        seen++;
        if (used + strlen(index->files[i]) + 2 < ROOM) {
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", listed ? ", " : "",
                                     index->files[i]);
            listed++;
        }
    }
    snprintf(buf, MISSING_TEXT, "%u of %u files missing: %s%s", missing, index->file_count, list,
             listed < missing ? ", ..." : "");
    return buf;
}

/* Those of the names that are there; number (NULL, or [count]) gets the place of each. */
static bool open_files(struct checkpoint *ck, const char *const *names, uint32_t count,
                       uint32_t *number, struct findings *findings, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    ck->files = mem_array(count, sizeof *ck->files, err);
    if (!ck->files)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct safetensors *st = &ck->files[ck->file_count];
        if (!io_join(path, ck->dir, names[i], err))
            return false;
        if (number && !io_exists(path)) {
            number[i] = UINT32_MAX;
            continue;
        }
        if (!link_check(ck->dir, names[i], NULL, err) || !safetensors_open(st, path, findings, err))
            return false;
        if (number)
            number[i] = ck->file_count;
        ck->file_count++;
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
    for (uint32_t i = 0; i < n; i++)
        ck->tensors[i] = all[order[i]];
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

/* Mark the tensors that are where the index says. */
static void apply_index(struct checkpoint *ck)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < ck->index.count; i++) {
        const struct index_entry *e = &ck->index.entries[i];
        while (at < ck->count && compare(&ck->tensors[at], e->name, e->name_len) < 0)
            at++;
        for (uint32_t t = at; t < ck->count && compare(&ck->tensors[t], e->name, e->name_len) == 0;
             t++)
            ck->tensors[t].indexed = ck->tensors[t].file == ck->opened[e->file];
    }
}

/* ---- opening ---- */

static bool open_single(struct checkpoint *ck, struct findings *findings, struct tp_error *err)
{
    if (!open_files(ck, &ck->source, 1, NULL, findings, err) || !merge_files(ck, err))
        return false;
    for (uint32_t i = 0; i < ck->count; i++)
        ck->tensors[i].indexed = true;
    return true;
}

static bool open_indexed(struct checkpoint *ck, struct findings *findings, struct tp_error *err)
{
    char path[IO_PATH_MAX], *text;
    size_t n;
    if (!io_join(path, ck->dir, INDEX_NAME, err) || !link_check(ck->dir, INDEX_NAME, NULL, err) ||
        !io_read_file(path, INDEX_TEXT_MAX, &text, &n, err))
        return false;
    bool ok = checkpoint_index_parse(&ck->index, INDEX_NAME, text, n, err);
    mem_free(text);
    if (!ok)
        return false;
    char missing[MISSING_TEXT];
    ck->opened = mem_array(ck->index.file_count, sizeof *ck->opened, err);
    if (!ck->opened ||
        !open_files(ck, ck->index.files, ck->index.file_count, ck->opened, findings, err))
        return false;
    if (ck->file_count == 0)
        return tp_fail(err, TP_E_IX_MISSING, "%s: %s", ck->source, missing_text(ck, missing));
    if (!merge_files(ck, err))
        return false;
    apply_index(ck);
    return true;
}

bool checkpoint_open(struct checkpoint *ck, const char *dir, struct findings *findings,
                     struct tp_error *err)
{
    struct listing found = {0};
    *ck = (struct checkpoint){0};
    ck->dir = mem_arena_copy(&ck->arena, dir, strlen(dir), err);
    bool ok = ck->dir && folder_list_path(dir, list_name, &found, err) &&
              choose_source(ck, &found, err) &&
              (strcmp(ck->source, INDEX_NAME) == 0 ? open_indexed : open_single)(ck, findings, err);
    if (!ok)
        checkpoint_close(ck);
    return ok;
}

bool checkpoint_turn_to_index(struct checkpoint *ck, struct findings *findings,
                              struct tp_error *err)
{
    struct checkpoint other = {.source = INDEX_NAME};
    other.dir = mem_arena_copy(&other.arena, ck->dir, strlen(ck->dir), err);
    bool ok = other.dir && open_indexed(&other, findings, err);
    checkpoint_close(ok ? ck : &other);
    if (ok)
        *ck = other;
    return ok;
}

void checkpoint_close(struct checkpoint *ck)
{
    for (uint32_t i = 0; i < ck->file_count; i++)
        safetensors_close(&ck->files[i]);
    mem_free(ck->files);
    mem_free(ck->tensors);
    mem_free(ck->opened);
    checkpoint_index_free(&ck->index);
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

/* The index's entry of a name, NULL where it has none. */
static const struct index_entry *find_entry(const struct checkpoint_index *index, const char *name,
                                            size_t len)
{
    uint32_t low = 0, high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct index_entry *e = &index->entries[middle];
        int order = st_name_compare(e->name, e->name_len, name, len);
        if (order == 0)
            return e;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

struct checkpoint_tensor *checkpoint_find(const struct checkpoint *ck, const char *name)
{
    size_t len = strlen(name);
    uint32_t first = lower_bound(ck, name, len), end = first;
    for (; end < ck->count && compare(&ck->tensors[end], name, len) == 0; end++)
        if (ck->tensors[end].indexed)
            return &ck->tensors[end];
    bool once = end == first + 1 && !find_entry(&ck->index, name, len);
    return once ? &ck->tensors[first] : NULL;
}

struct checkpoint_tensor *checkpoint_use(struct checkpoint *ck, const char *name,
                                         struct tp_error *err)
{
    char shown[TP_NAME_BUF], missing[MISSING_TEXT];
    size_t len = strlen(name);
    uint32_t first = lower_bound(ck, name, len);
    struct checkpoint_tensor *found = checkpoint_find(ck, name);
    const struct index_entry *e = find_entry(&ck->index, name, len);
    tp_name_cut(shown, name, len);
    if (found) {
        found->used = true;
        return found;
    }
    bool there = first < ck->count && compare(&ck->tensors[first], name, len) == 0;
    const char *file = there ? ck->files[ck->tensors[first].file].name : "";
    if (e && ck->opened[e->file] == UINT32_MAX)
        tp_fail(err, TP_E_IX_MISSING, "%s: %s: tensor \"%s\" is needed", ck->source,
                missing_text(ck, missing), shown);
    else if (e)
        tp_fail(err, TP_E_IX_WRONG,
                "%s: weight_map: tensor \"%s\" is needed and not in %.120s%s%.120s", ck->source,
                shown, ck->index.files[e->file], there ? " but in " : "", file);
    else if (there)
        tp_fail(err, TP_E_ST_TENSOR, "%.200s: tensor \"%s\" is in %.80s again", file, shown,
                ck->files[ck->tensors[first + 1].file].name);
    else
        tp_fail(err, TP_E_ST_TENSOR, "%s: tensor \"%s\" is needed and missing", ck->source, shown);
    return NULL;
}

const struct st_tensor *checkpoint_find_ending(const struct checkpoint *ck, const char *ending)
{
    size_t n = strlen(ending);
    for (uint32_t i = 0; i < ck->count; i++) {
        const struct st_tensor *t = ck->tensors[i].tensor;
        const char *end = t->name + t->name_len;
        if (t->name_len >= n && strncasecmp(end - n, ending, n) == 0 &&
            (t->name_len == n || end[-(ptrdiff_t)n - 1] == '.'))
            return t;
    }
    return NULL;
}

/* ---- what the index says ---- */

/* Tensors of the files that it does not name. */
static bool warn_of_others(const struct checkpoint *ck, struct findings *findings,
                           struct tp_error *err)
{
    char shown[TP_NAME_BUF];
    const struct st_tensor *first = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < ck->count; i++)
        if (!ck->tensors[i].indexed && n++ == 0)
            first = ck->tensors[i].tensor;
    return n == 0 ||
           finding_warn(findings, TP_E_IX_WRONG, err,
                        "%s: %u tensors of the files are not in the index: \"%s\"%s", ck->source, n,
                        tp_name_cut(shown, first->name, first->name_len), n > 1 ? ", ..." : "");
}

/* Names that nothing needed and that are not where it says, and a size of all that is another. */
static void note_contents(const struct checkpoint *ck, const struct findings *findings)
{
    char shown[TP_NAME_BUF];
    const struct checkpoint_index *index = &ck->index;
    const struct index_entry *first = NULL;
    uint32_t absent = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0, at = 0; i < index->count; i++) {
        const struct index_entry *e = &index->entries[i];
        bool found = false;
        while (at < ck->count && compare(&ck->tensors[at], e->name, e->name_len) < 0)
            at++;
        for (; at < ck->count && compare(&ck->tensors[at], e->name, e->name_len) == 0; at++) {
            const struct st_tensor *t = ck->tensors[at].tensor;
            found |= ck->tensors[at].indexed;
            bytes += ck->tensors[at].indexed ? t->end - t->begin : 0;
        }
        if (!found && ck->opened[e->file] != UINT32_MAX && absent++ == 0)
            first = e;
    }
    if (first)
        finding_note(
            findings,
            "%s: weight_map: %u tensors that nothing needs are not where it says: \"%s\"%s",
            ck->source, absent, tp_name_cut(shown, first->name, first->name_len),
            absent > 1 ? ", ..." : "");
    double total;
    if (!first && ck->file_count == index->file_count && *index->total_size &&
        !(tp_parse_double(index->total_size, &total) && total == (double)bytes))
        finding_note(findings, "%s: metadata.total_size is %s, the tensors have %llu bytes",
                     ck->source, index->total_size, (ull)bytes);
}

bool checkpoint_check_index(const struct checkpoint *ck, struct findings *findings,
                            struct tp_error *err)
{
    char missing[MISSING_TEXT];
    if (ck->index.count == 0)
        return true;
    if (ck->file_count < ck->index.file_count &&
        !finding_warn(findings, TP_E_IX_MISSING, err, "%s: %s: nothing that is needed is there",
                      ck->source, missing_text(ck, missing)))
        return false;
    note_contents(ck, findings);
    return warn_of_others(ck, findings, err);
}
