/* The sets of instructions that files are compiled for: what this processor has whole, and the
 * system keeps the registers of. */
#pragma once
#include <stdbool.h>

/* Each has those before it. */
enum cpu_set {
    CPU_PLAIN,
    CPU_AVX2,   /* files *_avx2.c: with FMA and F16C */
    CPU_AVX512, /* files *_avx512.c: F, BW, VL, DQ */
    CPU_SETS
};

/* The largest set of this processor; remembered, so that a loop may ask. */
enum cpu_set cpu_best(void);
/* Not every compiler knows its name. */
bool cpu_has_f16c(void);
