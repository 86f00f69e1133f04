#include "cpu_set.h"

#include <cpuid.h>
#include <stdatomic.h>

bool cpu_has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

/* __builtin_cpu_supports also asks whether the system saves the wide registers. */
static enum cpu_set find_best(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !cpu_has_f16c())
        return CPU_PLAIN;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
               ? CPU_AVX512
               : CPU_AVX2;
}

enum cpu_set cpu_best(void)
{
    static _Atomic int known; /* and 1 */
    int best = atomic_load_explicit(&known, memory_order_relaxed);
    if (!best)
        atomic_store_explicit(&known, best = (int)find_best() + 1, memory_order_relaxed);
    return (enum cpu_set)(best - 1);
}
