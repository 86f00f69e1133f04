/* Run the runtime as a program of its own. */
#pragma once
#include "error.h"
#include "progress.h"
#include <stdbool.h>
#include <stdint.h>

/* Is it there? TP_E_CHILD: it is not. */
bool child_has_tprun(struct tp_error *err);
/* tprun beside this program, with arguments (NULL-terminated, argv[0] excluded). What it prints, at
 * most `limit` bytes: mem_free. Its stderr is taken in, and the last line of that stands in the
 * error: TP_E_CHILD, also when there is no such program. TP_E_INTERRUPTED: a signal ended it.
 * progress goes on meanwhile. */
bool child_run_tprun(const char *const *arguments, uint64_t limit, struct progress *progress,
                     char **data, size_t *n, struct tp_error *err);
