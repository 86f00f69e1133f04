#define LANES_SET lanes_plain
#define LANES_NAME "plain"
#include "lanes.inc.h"

#include <stdatomic.h>

size_t lanes_sets(const struct lanes *sets[LANES_SETS_MAX])
{
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
    size_t n = 0;
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        sets[n++] = &lanes_avx512;
    if (avx2)
        sets[n++] = &lanes_avx2;
    sets[n++] = &lanes_plain;
    return n;
}

const struct lanes *lanes_best(void)
{
    static _Atomic(const struct lanes *) best; /* asked for every group of a row */
    const struct lanes *found = atomic_load_explicit(&best, memory_order_relaxed);
    if (!found) {
        const struct lanes *sets[LANES_SETS_MAX];
        lanes_sets(sets);
        atomic_store_explicit(&best, found = sets[0], memory_order_relaxed);
    }
    return found;
}
