#define XXH_INLINE_ALL
#define XXH_PREFETCH_DIST 1536 /* bytes: what is hashed comes from memory */
#define HASH_SET hash_avx512
#define HASH_NAME "avx512"
#include "hash_set.inc.h"
