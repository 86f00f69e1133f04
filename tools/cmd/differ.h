/* Where two JSON objects of one kind differ. */
#pragma once
#include "model_config.h"

/* Calls fn for every key whose values differ, NULL where an object lacks it; a's keys first. */
void json_each_difference(const json_t *a, const json_t *b,
                          void (*fn)(void *arg, const char *key, const json_t *a, const json_t *b),
                          void *arg);
/* Equal in every field, or TP_E_VALUE_DIFFERS: "FILE: model: FIELD is not that of WHAT" */
bool model_equals(const struct model_config *a, const struct model_config *b, const char *file,
                  const char *what, struct tp_error *err);
