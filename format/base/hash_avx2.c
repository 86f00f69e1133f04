#define XXH_INLINE_ALL
/* Bytes. What is hashed comes from memory; or a dot has read it just now, and asked for the 6 KiB
 * behind it. */
#define XXH_PREFETCH_DIST 12288
#define HASH_SET hash_avx2
#define HASH_NAME "avx2"
#include "hash_set.inc.h"
