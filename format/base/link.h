/* Links in a folder that somebody else made: where they may lead. */
#pragma once
#include "io.h"

/* A name in the folder dir that is a link leads into the folder; or, where that is
 * HUB/models--A--B/snapshots/REV, into HUB/models--A--B/blobs. Else TP_E_IX_LINK, and nothing was
 * opened; advice ends its line, NULL: a link may lead anywhere. dir itself may be a link, and what
 * is missing is no error. */
bool link_check(const char *dir, const char *name, const char *advice, struct tp_error *err);
