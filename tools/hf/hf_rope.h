/* The rotary positions of a config.json: rope_theta, rope_scaling (transformers 4), rope_parameters
 * (5), flat or nested by layer type. */
#pragma once
#include "findings.h"
#include "json.h"
#include "model_config.h"

/* model: n_layers, max_positions and window are set. Fills model->rope, every field resolved;
 * rope_scaling, where it is there, as in transformers, and a note if rope_parameters says
 * otherwise. A type or key that we do not know is TP_E_CF_KEY, a number that cannot be
 * TP_E_CF_ROPE. */
bool hf_rope_read(const struct json_in *in, struct model_config *model,
                  const struct findings *findings, struct tp_error *err);
