/* What people name in place of a model folder, and what to do about it. */
#pragma once
#include "error.h"

/* path is a folder with a config.json (a bare one is enough for who reads nothing else), or the
 * error says what it is and what to name: TP_E_IO where there is nothing, TP_E_UNSUPPORTED for an
 * adapter or another format, else TP_E_CF_FILE. */
bool model_path_check(const char *path, bool bare, struct tp_error *err);
