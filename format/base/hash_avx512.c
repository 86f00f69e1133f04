#define XXH_INLINE_ALL
/* Bytes: what is hashed comes from memory, or was read just now by a dot, which has asked for what
 * is less far. */
#define XXH_PREFETCH_DIST 13312
#define HASH_SET hash_avx512
#define HASH_NAME "avx512"
#include "hash_set.inc.h"
