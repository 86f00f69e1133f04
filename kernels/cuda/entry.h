/* How a kernel gets its name: nvcc sees a function of that name, the emulator a row of its
 * table. */
#pragma once
#include "gpu.h"
#ifdef EMULATE
#define ENTRY(name, threads, ctas, args, ...)                                                      \
    static void name(const args &a)                                                                \
    {                                                                                              \
        __VA_ARGS__(a);                                                                            \
    }                                                                                              \
    static const emul_entry entry_of_##name(#name, sizeof(args),                                   \
                                            [](const void *a) { name(*(const args *)a); });
#else
#define ENTRY(name, threads, ctas, args, ...)                                                      \
    extern "C" __global__ void __launch_bounds__(threads, ctas)                                    \
        name(const __grid_constant__ args a)                                                       \
    {                                                                                              \
        __VA_ARGS__(a);                                                                            \
    }
#endif
