/* The instructions that files compiled for a set of them may use: whether this processor has them
 * all, and the system keeps their registers. Cheap enough to ask every time. */
#pragma once
#include <stdbool.h>

bool cpu_has_f16c(void);
bool cpu_has_avx2(void);   /* files *_avx2.c: with FMA and F16C */
bool cpu_has_avx512(void); /* files *_avx512.c: F, BW, VL, DQ, and those of AVX2 */
