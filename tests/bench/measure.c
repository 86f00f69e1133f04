#include "measure.h"

#include "prefetch.h"
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(const double *values, int n)
{
    double sorted[SAMPLES_MAX];
    memcpy(sorted, values, (size_t)n * sizeof *values);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return sorted[n / 2];
}

void print_samples(const char *what, const char *unit, const double *values, int n)
{
    printf("{\"what\": \"%s\", \"unit\": \"%s\", \"median\": %.5g, \"samples\": [", what, unit,
           median(values, n));
    for (int i = 0; i < n; i++)
        printf("%s%.5g", i ? ", " : "", values[i]);
    printf("]}\n");
    fflush(stdout);
}

/* ---- the honest read ---- */

enum read_ahead { AHEAD_NONE, AHEAD_PAGE, AHEAD_L1_4K, AHEAD_L1_8K, AHEAD_L2_16K };
static const char *const names[READ_WAYS] = {"plain", "a page ahead", "4 KiB ahead", "8 KiB ahead",
                                             "16 KiB ahead, L2"};

enum { STRETCH = 256 };

static inline __attribute__((always_inline)) void ask_read(enum read_ahead ahead,
                                                           const unsigned char *p)
{
    if (ahead == AHEAD_PAGE)
        prefetch_next_page((const char *)p, STRETCH);
    for (size_t i = 0; i < STRETCH; i += 64)
        if (ahead == AHEAD_L1_4K)
            _mm_prefetch(p + i + 4096, _MM_HINT_T0);
        else if (ahead == AHEAD_L1_8K)
            _mm_prefetch(p + i + 8192, _MM_HINT_T0);
        else if (ahead == AHEAD_L2_16K)
            _mm_prefetch(p + i + 16384, _MM_HINT_T1);
}

/* Four sums hide the latency of an addition; wide loads read faster than narrow ones. */
#define READ(bits, isa, vector, zero, load, add, total)                                            \
    static inline __attribute__((always_inline, target(isa)))                                      \
    uint64_t read_##bits(enum read_ahead ahead, const unsigned char *p, size_t bytes)              \
    {                                                                                              \
        vector sum[4] = {zero(), zero(), zero(), zero()};                                          \
        for (size_t i = 0; i < bytes; i += STRETCH) {                                              \
            ask_read(ahead, p + i);                                                                \
            _Pragma("GCC unroll 16") for (size_t j = 0; j < STRETCH; j += sizeof(vector))          \
                sum[j / sizeof(vector) % 4] =                                                      \
                    add(sum[j / sizeof(vector) % 4], load((const void *)(p + i + j)));             \
        }                                                                                          \
        sum[0] = add(add(sum[0], sum[1]), add(sum[2], sum[3]));                                    \
        return (uint64_t)total;                                                                    \
    }                                                                                              \
    __attribute__((target(isa))) static uint64_t read_way_##bits(int way, const unsigned char *p,  \
                                                                 size_t bytes)                     \
    {                                                                                              \
        switch (way) {                                                                             \
        case AHEAD_PAGE:                                                                           \
            return read_##bits(AHEAD_PAGE, p, bytes);                                              \
        case AHEAD_L1_4K:                                                                          \
            return read_##bits(AHEAD_L1_4K, p, bytes);                                             \
        case AHEAD_L1_8K:                                                                          \
            return read_##bits(AHEAD_L1_8K, p, bytes);                                             \
        case AHEAD_L2_16K:                                                                         \
            return read_##bits(AHEAD_L2_16K, p, bytes);                                            \
        default:                                                                                   \
            return read_##bits(AHEAD_NONE, p, bytes);                                              \
        }                                                                                          \
    }

READ(512, "avx512f", __m512i, _mm512_setzero_si512, _mm512_load_si512, _mm512_add_epi64,
     _mm512_reduce_add_epi64(sum[0]))
READ(256, "avx2", __m256i, _mm256_setzero_si256, _mm256_load_si256, _mm256_add_epi64,
     _mm256_extract_epi64(sum[0], 0))
READ(128, "sse2", __m128i, _mm_setzero_si128, _mm_load_si128, _mm_add_epi64,
     _mm_cvtsi128_si64(sum[0]))

uint64_t read_all(int way, const unsigned char *p, size_t bytes)
{
    return __builtin_cpu_supports("avx512f") ? read_way_512(way, p, bytes)
           : __builtin_cpu_supports("avx2")  ? read_way_256(way, p, bytes)
                                             : read_way_128(way, p, bytes);
}

const char *read_way_name(int way)
{
    return names[way];
}

int read_way_best(double (*seconds)(void *arg, int way), void *arg)
{
    double times[READ_WAYS][READ_ROUNDS];
    int best = 0;
    for (int round = 0; round < READ_ROUNDS; round++)
        for (int way = 0; way < READ_WAYS; way++)
            times[way][round] = seconds(arg, way);
    for (int way = 0; way < READ_WAYS; way++)
        if (median(times[way], READ_ROUNDS) < median(times[best], READ_ROUNDS))
            best = way;
    return best;
}
