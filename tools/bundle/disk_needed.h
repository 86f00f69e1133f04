/* How much disk a conversion takes. */
#pragma once
#include "bundle.h"
#include "source.h"

/* Bytes of OUTPUT.partial when it is fullest: rank files, with compression each beside its frames
 * in turn, the files that travel, the manifest, the log, and selftest.json where it is wanted. At
 * most; frames may come out smaller. bundle: with its plans and files. */
uint64_t disk_needed(const struct bundle *bundle, const struct source *source,
                     uint64_t manifest_bytes, bool selftest);
