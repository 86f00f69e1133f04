/* model.safetensors.index.json: which tensor stands in which file of the folder.
 *
 * Every name in it is checked before anything is opened by it: a plain file name ending in
 * .safetensors, no two of which a file system could take for one.
 */
#pragma once
#include "error.h"
#include "mem.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_TEXT_MAX 100000000u /* bytes, as for a safetensors header */

struct index_entry {
    const char *name; /* of the tensor */
    uint32_t name_len;
    uint32_t file; /* in files */
};

struct checkpoint_index {
    struct index_entry *entries; /* by name (st_name_compare), no two alike, at least one */
    uint32_t count;
    const char **files; /* by name as bytes, no two alike */
    uint32_t file_count;
    char total_size[48];    /* metadata.total_size as written, cut; "" where there is none */
    struct mem_arena arena; /* owns the names */
};

/* text[0..n) is borrowed for the call. name is used in errors.
 * Errors  TP_E_JSON, TP_E_IX_FIELD, TP_E_IX_PATH, TP_E_IX_CASE, TP_E_ST_NAME, TP_E_ST_COUNT,
 *         TP_E_MEMORY; *index is then {0}. */
bool checkpoint_index_parse(struct checkpoint_index *index, const char *name, const char *text,
                            uint64_t n, struct tp_error *err);
void checkpoint_index_free(struct checkpoint_index *index); /* idempotent; {0} is allowed */
