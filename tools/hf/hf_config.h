/* config.json of a Hugging Face folder, in the forms of transformers 4 and 5, into struct
 * model_config. Only this folder of files knows how transformers spells things. */
#pragma once
#include "hf_config_keys.h"
#include "hf_quantization.h"
#include "model_config.h"

#define HF_CONFIG_BYTES_MAX (UINT64_C(4) << 20)

struct hf_config {
    struct model_config model;              /* checked: model_config_check */
    char quantization[HF_QUANTIZATION_MAX]; /* scheme of the stored weights; "" none */
    const char *quantization_at_work;       /* what of it counts with plain weights; or NULL */
};

/* path: a model folder, or a bare config.json. options may be NULL. In a folder,
 * hf_quant_config.json and quantize_config.json, which older quantizers write, count as naming a
 * scheme where config.json does not. Errors: TP_E_CF_* naming file and field; a missing or too
 * large config.json is TP_E_CF_FILE. text: what was read, n bytes and a NUL, for who takes
 * config.json along, who frees it; it may be NULL. */
bool hf_config_read(const char *path, const struct hf_options *options, struct hf_config *out,
                    char **text, size_t *n, struct tp_error *err);
/* The same from text; file is for errors. */
bool hf_config_parse(const char *file, const char *data, size_t n, const struct hf_options *options,
                     struct hf_config *out, struct tp_error *err);
