/* Run the runtime as a program of its own. */
#pragma once
#include "error.h"
#include <stdbool.h>

/* tprun beside this program, with arguments (NULL-terminated, argv[0] excluded). Its stderr is taken in, and
 * its last line stands in the error: TP_E_CHILD, also when there is no such program. */
bool child_run_tprun(const char *const *arguments, struct tp_error *err);
