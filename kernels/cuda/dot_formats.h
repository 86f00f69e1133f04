/* One stored format's dots: FORMAT and TYPE are given. */
#include "dot.cuh"
#include "entry.h"

#undef DOT_
#undef DOT
#define DOT_(name, type, m)                                                                        \
    ENTRY(dot_##name##_##m, CUDA_THREADS, m <= 4 ? 2 : 1, cuda_dot, dot<type, m>)
#define DOT(name, type, m) DOT_(name, type, m)
DOT(FORMAT, TYPE, 1)
DOT(FORMAT, TYPE, 2)
DOT(FORMAT, TYPE, 4)
DOT(FORMAT, TYPE, 8)
DOT(FORMAT, TYPE, 16)
#undef FORMAT
#undef TYPE
