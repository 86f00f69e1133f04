#define LANES_SET lanes_avx512
#define LANES_NAME "avx512"
#include "lanes.inc.h"
