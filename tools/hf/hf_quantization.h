/* How a checkpoint says that its weights are quantized, as one short name for people. */
#pragma once
#include "json.h"
#include <stddef.h>

#define HF_QUANTIZATION_MAX 96

/* "gptq 4-bit", "awq 4-bit", "compressed-tensors int-quantized", "bitsandbytes 8-bit",
 * "modelopt FP8", "mlx 4-bit" ...; "" where config.json names no scheme. What it is called decides
 * nothing: the tensors do, and what is at work. */
void hf_quantization_name(const struct json_in *in, char name[HF_QUANTIZATION_MAX]);
/* What of it changes what is computed even where all weights are plain: activations, the cache, or
 * weights that are quantized while they are used. A name; NULL: nothing. */
const char *hf_quantization_at_work(const struct json_in *in);
