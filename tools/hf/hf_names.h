/* How a checkpoint spells the names of its tensors: what stands in the place of "model." differs
 * with the program that wrote it, and is one for all of a file. */
#pragma once
#include "checkpoint.h"
#include "tensor.h"

enum { HF_NAME_MAX = TENSOR_NAME_MAX + 32 };

/* What the checkpoint has in the place of "model.": the first of the known spellings by which a
 * tensor is found that every model has; "model." where none is. A constant. */
const char *hf_names_prefix(const struct checkpoint *ck);
/* The name of a tensor (tensor_name) by that spelling. The head stands outside the model, or inside
 * with a part of the prefix: as the checkpoint has it. Returns buf. */
const char *hf_name(char buf[HF_NAME_MAX], const struct checkpoint *ck, const char *prefix,
                    enum role role, uint32_t layer, enum part part);
/* The part of such a name that no spelling changes. */
const char *hf_name_ending(const char *name, const char *prefix);
