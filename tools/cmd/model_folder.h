/* A Hugging Face folder as convert and verify see it: config, weights, and the files that travel
 * along. */
#pragma once
#include "findings.h"
#include "hf_config.h"
#include "options.h"
#include "source_checkpoint.h"
#include "stage.h"

enum { MODEL_FOLDER_FILES_MAX = 16 };

struct model_folder {
    const char *dir;
    struct findings findings;
    struct hf_config *config;
    uint64_t layers_of; /* of the checkpoint; config->model has those that are asked for */
    struct checkpoint checkpoint;
    struct source_checkpoint source;
    struct recipe recipe;
    struct named_bytes files[MODEL_FOLDER_FILES_MAX]; /* as read; data owned */
    uint32_t n_files;
    struct named_bytes
        *inputs; /* [checkpoint.file_count] names and what must not change, for the log */
    struct mem_arena arena;
};

/* Read config, open weights, bind. The recipe is that of the options where recipe is NULL. Notes
 * and warnings are findings. A quantized checkpoint is TP_E_UNSUPPORTED by its scheme,
 * or by a tensor where config.json names none. More layers than there are is TP_E_USAGE.
 * First comes model_folder_check_links. */
bool model_folder_open(struct model_folder *folder, const char *dir, const struct options *options,
                       const struct recipe *recipe, struct tp_error *err);
/* Read what travels beside config.json, compile the tokenizer. What is wrong with any of it is a
 * finding, and the rest counts. */
bool model_folder_read_files(struct model_folder *folder, struct tp_error *err);
/* One of what travels; NULL: the folder has none, or it is left out. */
const struct named_bytes *model_folder_file(const struct model_folder *folder, const char *name);
/* Files that would be copied are no links that lead nowhere, nor, without follow, out of the
 * folder, but into the blobs of a Hub cache: TP_E_IX_LINK names the one that is. */
bool model_folder_check_links(const char *dir, bool follow, struct tp_error *err);
/* A file of that name may be read. */
bool model_folder_reads(const char *name);
void model_folder_close(struct model_folder *folder); /* {0} is allowed */
