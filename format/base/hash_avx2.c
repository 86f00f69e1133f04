#define XXH_INLINE_ALL
#define HASH_SET hash_avx2
#define HASH_NAME "avx2"
#include "hash_set.inc.h"
