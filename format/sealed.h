/* A JSON document that ends with its own digest: the hash of every byte before the 32 hex digits of
 * its last key, "digest"; what follows them is exactly `"\n}\n`.
 */
#pragma once
#include "json.h"

/* The text of an object, whose last key is set here, an end of line included. mem_free; NULL on
 * error. */
char *sealed_text(json_t *root, size_t *n, struct tp_error *err);
/* TP_E_MANIFEST: the end is missing, the text is cut. TP_E_MANIFEST_HASH: it is damaged. */
bool sealed_check(const char *path, const char *text, size_t n, struct tp_error *err);
