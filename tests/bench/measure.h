/* What the benches share: a clock, medians, and the honest read of memory, the limit of every
 * decode figure: the fastest of several ways, built as the kernels are, so that no engine beats it
 * by its prefetching. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { READ_WAYS = 5, READ_ROUNDS = 3, SAMPLES_MAX = 1024 };

double now(void);                           /* seconds */
double median(const double *values, int n); /* n at most SAMPLES_MAX */
/* A line of JSON: what was measured, its unit, the median, and every round's figure in turn; n at
 * most SAMPLES_MAX. */
void print_samples(const char *what, const char *unit, const double *values, int n);

/* The sum of all words, which the compiler cannot leave out. p aligned to 64 bytes; bytes a
 * multiple of 256; what is ahead of the end is asked for and need not exist. */
uint64_t read_all(int way, const unsigned char *p, size_t bytes);
const char *read_way_name(int way);
/* The way whose median of READ_ROUNDS calls of seconds(arg, way) is the least. */
int read_way_best(double (*seconds)(void *arg, int way), void *arg);
