#include "export_plan.h"

#include "checked.h"
#include "le.h"
#include <stdio.h>
#include <stdlib.h>

static const char *name_of(char name[TENSOR_NAME_MAX], const struct source_bundle *source,
                           const struct export_tensor *e)
{
    const struct tensor *t = &source->whole.tensors[e->index];
    return tensor_name(name, t->role, t->layer, t->part);
}

/* What the checkpoint stored; DTYPE_NONE where the manifest does not say. The list has the plan's
 * order, without scales: entry `at` is the tensor's, or the manifest was made otherwise. */
static enum dtype dtype_in_checkpoint(const struct bundle *bundle, size_t at, const char *name)
{
    const json_t *entry = json_array_get(json_object_get(bundle->source, "tensors"), at);
    const char *entry_name = json_string_value(json_object_get(entry, "name"));
    const char *dtype_text = json_string_value(json_object_get(entry, "dtype"));
    enum dtype dtype;
    bool known = entry_name && dtype_text && strcmp(entry_name, name) == 0 &&
                 dtype_from_name(dtype_text, &dtype);
    return known ? dtype : DTYPE_NONE;
}

static enum dtype dtype_of(const struct source_bundle *source, const struct tensor *t, size_t at,
                           const char *name)
{
    const struct bundle *bundle = &source->bundle;
    enum dtype own = bundle->recipe.dtype, stored = dtype_in_checkpoint(bundle, at, name);
    bool kept = bundle->model.dtype == DTYPE_NONE || bundle->model.dtype == own;
    return kept && !stored_quantized(t->stored) && own == DTYPE_F32 && stored != DTYPE_NONE ? stored
                                                                                            : own;
}

static bool place(struct export_plan *plan, const struct source_bundle *source, uint64_t file_bytes,
                  struct tp_error *err)
{
    const struct rank_plan *whole = &source->whole;
    plan->tensors = mem_arena_alloc(&plan->arena, whole->n_tensors * sizeof *plan->tensors, err);
    plan->files = mem_arena_alloc(&plan->arena, whole->n_tensors * sizeof *plan->files, err);
    if (!plan->tensors || !plan->files)
        return false;
    for (uint32_t i = 0; i < whole->n_tensors; i++) {
        const struct tensor *t = &whole->tensors[i];
        char name[TENSOR_NAME_MAX];
        if (t->part == PART_SCALE)
            continue;
        struct export_tensor *e = &plan->tensors[plan->n_tensors];
        e->index = i;
        tensor_name(name, t->role, t->layer, t->part);
        e->dtype = dtype_of(source, t, plan->n_tensors, name);
        e->bytes = t->rows * t->cols * dtype_bytes(e->dtype);
        struct export_file *file = plan->n_files ? &plan->files[plan->n_files - 1] : NULL;
        bool fits = file && e->bytes <= file_bytes && file->data_bytes <= file_bytes - e->bytes;
        if (!fits)
            file = &plan->files[plan->n_files++];
        e->file = plan->n_files - 1;
        e->begin = file->data_bytes;
        file->data_bytes += e->bytes;
        plan->bytes += e->bytes;
        plan->n_tensors++;
    }
    return true;
}

static json_t *entry_json(const struct source_bundle *source, const struct export_tensor *e)
{
    static const char *const names[] = {
        [DTYPE_F32] = "F32", [DTYPE_F16] = "F16", [DTYPE_BF16] = "BF16"};
    const struct tensor *t = &source->whole.tensors[e->index];
    json_t *shape = t->layout == LAYOUT_VECTOR_F32
                        ? json_pack("[I]", (json_int_t)t->rows)
                        : json_pack("[I,I]", (json_int_t)t->rows, (json_int_t)t->cols);
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", names[e->dtype], "shape", shape,
                     "data_offsets", (json_int_t)e->begin, (json_int_t)(e->begin + e->bytes));
}

static bool write_header(struct export_plan *plan, const struct source_bundle *source,
                         uint32_t file, struct tp_error *err)
{
    struct export_file *f = &plan->files[file];
    char name[TENSOR_NAME_MAX];
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        if (plan->tensors[i].file == file)
            json_object_set_new(root, name_of(name, source, &plan->tensors[i]),
                                entry_json(source, &plan->tensors[i]));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return tp_fail(err, TP_E_MEMORY, "out of memory: header of %s", f->name);
    size_t n = strlen(text), padded = align_up(n, 8);
    f->header_bytes = 8 + padded;
    f->header = mem_arena_alloc(&plan->arena, f->header_bytes, err);
    if (f->header) {
        le_put_u64((unsigned char *)f->header, padded);
        memcpy(f->header + 8, text, n);
        memset(f->header + 8 + n, ' ', padded - n);
    }
    free(text);
    return f->header != NULL;
}

bool export_plan_build(struct export_plan *plan, const struct source_bundle *source,
                       uint64_t file_bytes, struct tp_error *err)
{
    *plan = (struct export_plan){0};
    bool ok = place(plan, source, file_bytes, err);
    for (uint32_t i = 0; ok && i < plan->n_files; i++) {
        if (plan->n_files == 1)
            snprintf(plan->files[i].name, EXPORT_NAME_MAX, "model.safetensors");
        else
            snprintf(plan->files[i].name, EXPORT_NAME_MAX, "model-%05u-of-%05u.safetensors", i + 1,
                     plan->n_files);
        ok = write_header(plan, source, i, err);
    }
    if (!ok)
        export_plan_free(plan);
    return ok;
}

void export_plan_free(struct export_plan *plan)
{
    mem_arena_free(&plan->arena);
    *plan = (struct export_plan){0};
}

char *export_index_text(const struct export_plan *plan, const struct source_bundle *source,
                        size_t *n, struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    json_t *map = json_object();
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        json_object_set_new(map, name_of(name, source, &plan->tensors[i]),
                            json_string(plan->files[plan->tensors[i].file].name));
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)plan->bytes,
                             "weight_map", map);
    char *text = root ? json_text(root, n, err) : NULL;
    json_decref(root);
    return text;
}
