#define LANES_SET lanes_avx2
#define LANES_NAME "avx2"
#include "lanes.inc.h"
