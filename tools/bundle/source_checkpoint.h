/* A checkpoint as a source: stored values converted to the recipe's dtype, or quantized row by
 * row. */
#pragma once
#include "checkpoint.h"
#include "source.h"

struct source_checkpoint {
    struct source source; /* give this to the writer; .state points back here */
    struct checkpoint *checkpoint;
    const char *prefix;        /* hf_names_prefix */
    struct findings *findings; /* about the folder; the manifest has their number */
    bool constant_said;        /* of matrices of one value, which prepare finds: in findings */
    uint64_t layers_of; /* where the model has the first of its layers alone; 0: it has all */
    struct rank_plan whole;
    struct source_input *inputs; /* [whole.n_tensors] */
    struct mem_arena arena;
};

/* Bind every tensor of the model and recipe to the checkpoint's, marking those used: presence,
 * dtype and shape are checked here. Of a tied model the embedding or the head may be stored, or
 * both with the same values. Matrices of one value throughout are a finding when a conversion is
 * described. model, checkpoint and findings are borrowed until close. Errors those of
 * checkpoint_use, TP_E_ST_DTYPE_OTHER, TP_E_CF_SHAPE (both shapes named), TP_E_CF_TIED. */
bool source_checkpoint_open(struct source_checkpoint *s, struct checkpoint *checkpoint,
                            const struct model_config *model, struct recipe recipe,
                            struct findings *findings, struct tp_error *err);
void source_checkpoint_close(struct source_checkpoint *s); /* {0} is allowed */
/* Bytes held for scales */
uint64_t source_checkpoint_bytes(const struct source_checkpoint *s);
/* What a checkpoint has of a model's tensors. */
struct source_survey {
    bool complete;     /* all of them */
    enum dtype widest; /* that they are stored in: what --dtype keep means where config.json names
                          none */
};
bool source_checkpoint_survey(const struct checkpoint *checkpoint, const struct model_config *model,
                              struct source_survey *survey, struct tp_error *err);
