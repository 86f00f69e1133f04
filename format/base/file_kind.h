/* What people have under the name of a file that is something else: a download that failed, a
 * pointer in place of the file, another format. Told by the first bytes. */
#pragma once
#include "error.h"

enum { FILE_KIND_BYTES = 512 }; /* of a file's beginning are enough */

/* False, of that code, if head[0..n), with which the file begins, is known to be of another kind
 * than the one wanted ("JSON"): says what it is, and what to do. None of the kinds begins as JSON
 * does. */
bool file_kind_check(const char *file, const void *head, size_t n, const char *wanted,
                     enum tp_code code, struct tp_error *err);
