/* A model folder as one table from tensor name to bytes, over one or many .safetensors files.
 *
 * The weights are model.safetensors.index.json and the files it names, or model.safetensors, or the
 * only other *.safetensors; two answers are an error. Nothing else in the folder is opened here,
 * pickle files never. Files are opened once and held by descriptor until close.
 */
#pragma once
#include "safetensors.h"

struct checkpoint_tensor {
    const struct st_tensor *tensor; /* borrowed from the file */
    uint32_t file;                  /* in checkpoint.files */
    bool indexed;                   /* the index sends the name to this file; true without index */
    bool twice;                     /* another file has a tensor of this name */
    bool used;                      /* checkpoint_use has been called for it */
};

struct checkpoint {
    const char *dir;
    const char *source; /* index or only file, a plain name, for errors */
    struct safetensors *files;
    uint32_t file_count;
    struct checkpoint_tensor *tensors; /* of all files, by name (st_name_compare) */
    uint32_t count;
    uint64_t total_bytes; /* of the indexed tensors */
    struct mem_arena arena;
    struct st_warnings warnings; /* the files' included */
};

/* Open every file of the model and check the index against them.
 * Errors  TP_E_IX_*, TP_E_ST_*, TP_E_JSON, TP_E_NOT_REGULAR, TP_E_IO, TP_E_LIMIT, TP_E_MEMORY;
 *         *ck is then {0}. */
bool checkpoint_open(struct checkpoint *ck, const char *dir, struct tp_error *err);
void checkpoint_close(struct checkpoint *ck); /* idempotent; {0} is allowed */

/* NULL where the model has no such tensor: for those that may be absent. What is not in the index
 * is not found. */
struct checkpoint_tensor *checkpoint_find(const struct checkpoint *ck, const char *name);
/* A tensor that must be there, once; marked as used. NULL and TP_E_ST_TENSOR otherwise. Not thread
 * safe. What is not marked in the end is the list of unused source tensors. */
struct checkpoint_tensor *checkpoint_use(struct checkpoint *ck, const char *name,
                                         struct tp_error *err);

static inline const struct safetensors *checkpoint_file(const struct checkpoint *ck,
                                                        const struct checkpoint_tensor *tensor)
{
    return &ck->files[tensor->file];
}

/* safetensors_unchanged for every file. */
bool checkpoint_unchanged(const struct checkpoint *ck, struct tp_error *err);
