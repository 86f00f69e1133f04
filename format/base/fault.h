/* The fault hook, for tests: a call on files can be made to fail, to be cut short, or to be the
 * last.
 *
 * TP_FAULT=ACTION:[KIND:]K in the environment makes the K-th call (counted from 1 over the process,
 * of all kinds or of one) do ACTION: kill (SIGKILL), stop (SIGSTOP), short (transfers one byte
 * less; the loop goes on), or fail with an errno by its name in lower case: eintr, eio, enospc,
 * edquot, efbig, emfile, eacces, erofs, enametoolong, estale, eisdir, exdev, eexist, einval.
 * TP_FAULT=count prints "io calls: N" and a line "io call: KIND N" for every kind seen on stderr at
 * exit.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* clang-format off */
enum fault_call {
    FAULT_OPEN, FAULT_CREATE, FAULT_READ, FAULT_WRITE, FAULT_RESERVE, FAULT_SYNC, FAULT_CLOSE,
    FAULT_SYNC_DIR, FAULT_RENAME, FAULT_MKDIR, FAULT_UNLINK, FAULT_MAP, FAULT_DIRECT, FAULT_CALLS
};
/* clang-format on */

/* Count a call; true when it shall fail, errno set. *n (may be NULL) is cut by one for a short
 * transfer. */
bool fault_hits(enum fault_call call, size_t *n);
