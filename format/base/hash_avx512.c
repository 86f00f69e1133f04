#define XXH_INLINE_ALL
#define HASH_SET hash_avx512
#define HASH_NAME "avx512"
#include "hash_set.inc.h"
