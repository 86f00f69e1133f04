/* Rotary positions: frequencies of a model and the cos/sin table's rows, docs/numerics.md sections
 * 6 and 9. Agrees with transformers' modeling_rope_utils (default, linear, llama3, yarn), in
 * binary64 throughout where transformers uses float32. */
#pragma once
#include "model_config.h"
#include <stddef.h>

/* f (head_dim/2): radians per position of component pair i. model has passed model_config_check. */
void rope_frequencies(const struct model_config *model, double *f);
/* cos, sin (half) f32: of position * f[i], times attention_factor.
 * position <= MODEL_POSITIONS_MAX. */
void rope_row(const double *f, size_t half, uint64_t position, double attention_factor, float *cos,
              float *sin);
/* yarn's attention factor where config.json does not give it: with m(s, k) = 0.1 k log(s) + 1 for
 * s > 1, else 1: m(factor, mscale) / m(factor, mscale_all_dim) if both are given and not 0 (0: not
 * given), else m(factor, 1). */
double rope_yarn_attention_factor(double factor, double mscale, double mscale_all_dim);
