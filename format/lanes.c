#define LANES_SET lanes_plain
#define LANES_NAME "plain"
#include "lanes.inc.h"

const struct lanes *const lanes_sets[CPU_SETS] = {&lanes_plain, &lanes_avx2, &lanes_avx512};

const struct lanes *lanes_best(void)
{
    return lanes_sets[cpu_best()];
}
