/* The tokenizer that a command line names: of a bundle, or a compiled one alone. */
#pragma once
#include "tokenizer.h"

/* path: a bundle, a folder, or a file as tpshard tokenizer makes it. *bytes: what the tokenizer
 * lies in, freed with mem_free after tokenizer_close; NULL where it is mapped. */
bool tokenizer_open_either(const char *path, struct tokenizer *tokenizer, char **bytes,
                           struct tp_error *err);
