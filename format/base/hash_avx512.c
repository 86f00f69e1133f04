#define XXH_INLINE_ALL
/* Bytes. What is hashed comes from memory; or a dot has read it just now, and asked for the 9 KiB
 * behind it. */
#define XXH_PREFETCH_DIST 13312
#define HASH_SET hash_avx512
#define HASH_NAME "avx512"
#include "hash_set.inc.h"
