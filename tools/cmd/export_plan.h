/* The safetensors that a bundle is exported to: every tensor's dtype, file and place, before a byte
 * is written. */
#pragma once
#include "source_bundle.h"

/* As transformers' 5GB; a larger tensor has a file alone. */
#define EXPORT_FILE_BYTES UINT64_C(5000000000)
#define EXPORT_NAME_MAX 48
#define EXPORT_INDEX "model.safetensors.index.json" /* where there is more than one file */

struct export_tensor {
    uint32_t index;   /* in the source's plan */
    enum dtype dtype; /* f32, f16, bf16 */
    uint32_t file;
    uint64_t begin, bytes; /* in the file's data */
};

struct export_file {
    char name[EXPORT_NAME_MAX]; /* "model.safetensors", "model-00001-of-00003.safetensors" */
    uint64_t data_bytes;
    char *header;          /* its length first: data follows at header_bytes */
    uint64_t header_bytes; /* a multiple of 8 */
};

struct export_plan {
    struct export_tensor *tensors; /* [n_tensors] scales are not among them */
    struct export_file *files;
    uint32_t n_tensors, n_files;
    uint64_t bytes; /* of all data */
    struct mem_arena arena;
};

/* Unquantized tensors have the dtype that the manifest names for the checkpoint's, where the
 * bundle's dtype is the config's and holds such values exactly; else, and for quantized weights,
 * the bundle's. file_bytes: EXPORT_FILE_BYTES, less in tests. */
bool export_plan_build(struct export_plan *plan, const struct source_bundle *source,
                       uint64_t file_bytes, struct tp_error *err);
void export_plan_free(struct export_plan *plan); /* {0} is allowed */
/* model.safetensors.index.json; mem_free */
char *export_index_text(const struct export_plan *plan, const struct source_bundle *source,
                        size_t *n, struct tp_error *err);
