/* A model folder as one table from tensor name to bytes, over one or many .safetensors files.
 *
 * The weights are model.safetensors, or model.safetensors.index.json and the files it names, or the
 * only other *.safetensors. Where the first two are there the file comes first, and who knows what
 * is needed may turn to the index. Nothing else in the folder is opened here, pickle files never.
 * Files are opened once and held by descriptor until close. What the index says wrongly is an error
 * of the tensor that is needed, and else a finding.
 */
#pragma once
#include "checkpoint_index.h"
#include "safetensors.h"

struct checkpoint_tensor {
    const struct st_tensor *tensor; /* borrowed from the file */
    uint32_t file;                  /* in checkpoint.files */
    bool indexed;                   /* the index sends the name to this file; true without index */
    bool used;                      /* checkpoint_use has been called for it */
};

struct checkpoint {
    const char *dir;
    const char *source; /* index or only file, a plain name, for errors */
    bool index_beside;  /* source is model.safetensors, and there is an index that was not read */
    struct safetensors *files;
    uint32_t file_count;
    struct checkpoint_tensor *tensors; /* of all files, by name (st_name_compare), then file */
    uint32_t count;
    struct checkpoint_index index; /* {0} without one */
    uint32_t *opened;              /* [index.file_count] in files, UINT32_MAX: missing */
    struct mem_arena arena;
};

/* Open every file of the model that is there.
 * Errors  TP_E_IX_*, TP_E_ST_*, TP_E_JSON, TP_E_NOT_REGULAR, TP_E_IO, TP_E_LIMIT, TP_E_MEMORY;
 *         *ck is then {0}. */
bool checkpoint_open(struct checkpoint *ck, const char *dir, struct findings *findings,
                     struct tp_error *err);
/* Where there is an index_beside: open that, in place of the file. Errors as above. */
bool checkpoint_turn_to_index(struct checkpoint *ck, struct findings *findings,
                              struct tp_error *err);
void checkpoint_close(struct checkpoint *ck); /* idempotent; {0} is allowed */

/* NULL where the model has no such tensor: for those that may be absent. Of several the one of the
 * index; what the index does not name is found if it is there once. */
struct checkpoint_tensor *checkpoint_find(const struct checkpoint *ck, const char *name);
/* A tensor that must be there; marked as used. NULL and TP_E_ST_TENSOR, TP_E_IX_WRONG or
 * TP_E_IX_MISSING otherwise. Not thread safe. What is not marked in the end is the list of unused
 * source tensors. */
struct checkpoint_tensor *checkpoint_use(struct checkpoint *ck, const char *name,
                                         struct tp_error *err);
/* A tensor whose name, in letters of either case, is ending or ends in a dot and that: NULL where
 * there is none. */
const struct st_tensor *checkpoint_find_ending(const struct checkpoint *ck, const char *ending);
/* What the index says that is not so, when all that is needed has been used: findings. */
bool checkpoint_check_index(const struct checkpoint *ck, struct findings *findings,
                            struct tp_error *err);

static inline const struct safetensors *checkpoint_file(const struct checkpoint *ck,
                                                        const struct checkpoint_tensor *tensor)
{
    return &ck->files[tensor->file];
}

/* safetensors_unchanged for every file. */
bool checkpoint_unchanged(const struct checkpoint *ck, struct tp_error *err);
