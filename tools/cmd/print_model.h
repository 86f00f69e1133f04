/* A model in a line, as inspect and plan show it. */
#pragma once
#include "model_config.h"

/* layers_of: how many the checkpoint has. On stdout. */
void print_model(const struct model_config *model, uint64_t layers_of);
/* "32 layers", "first 4 of 32 layers" */
#define LAYERS_TEXT_BUF 64
const char *layers_text(char buf[LAYERS_TEXT_BUF], uint64_t n, uint64_t of);
