/* The end of both programs. */
#pragma once
#include "error.h"
#include <stdbool.h>

/* ok: the command says that all went well. That holds if nothing of standard output is missing and
 * no allocation failed on the way. Else one error line. Returns the exit status. */
int finish(const char *program, bool ok, struct tp_error *err);
