#define LANES_SET lanes_plain
#define LANES_NAME "plain"
#include "lanes.inc.h"

#include "cpu_has.h"

size_t lanes_sets(const struct lanes *sets[LANES_SETS_MAX])
{
    size_t n = 0;
    if (cpu_has_avx512())
        sets[n++] = &lanes_avx512;
    if (cpu_has_avx2())
        sets[n++] = &lanes_avx2;
    sets[n++] = &lanes_plain;
    return n;
}

const struct lanes *lanes_best(void)
{
    const struct lanes *sets[LANES_SETS_MAX];
    lanes_sets(sets);
    return sets[0];
}
