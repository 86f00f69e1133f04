/* What has the output's name is complete: the folder's last steps, and what is found at the first. */
#pragma once
#include "error.h"
#include <stdbool.h>

/* The output's name may be taken: it is free, an empty folder, or force. TP_E_OUTPUT_EXISTS otherwise. */
bool commit_check(const char *output, bool force, struct tp_error *err);
/* Give `partial` (complete, synced) the name `output`. What had that name before is exchanged in one step;
 * of it, files that its manifest names are removed, others are moved into the new folder. */
bool commit_publish(const char *partial, const char *output, struct tp_error *err);
/* The end of a publish that was killed after the exchange: tidy what is left at `partial`. */
bool commit_tidy(const char *partial, const char *output, struct tp_error *err);
