/* How 4-bit weights best lie in a panel: constants inside or in front, codes in pairs or in order;
 * ways to widen them, prefetch, pages, panels of 32 rows. One row of x, in the order of
 * docs/numerics.md; eight panels of known weights are compared with plain C, bit by bit. Slices of
 * a large buffer are read in turn, int8's dots beside each; a run that lost its processor is
 * repeated. Prints medians.
 *
 * bench_layout [rounds [MiB [columns]]]
 */
#include "measure.h"
#include "prefetch.h"

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BLOCK = 32, COLUMNS_MAX = 16384, PANELS = 8, SLICE = 1 << 26 };

/* Constants. WORD: a line of words before each group, a bf16 scale in the high half, zero or bf16
 * minimum in the low half. PAIR: a line before every two groups, a scale in each half. FRONT:
 * WORD's lines at the panel's front. FRONT16: scales of 16 bits there. WIDE: an f32 line for the
 * scale, another for zero or minimum. */
enum place { WORD, PAIR, FRONT, FRONT16, WIDE, INT8, READ };
enum offset { NONE, ZERO, MIN };
/* IN_PLACE: a code is the mantissa of a number whose unit lies at its nibble. TABLE: a shift, then
 * a table of 16. MIXED: the table where no shift is needed, else in place. */
enum widen { IN_PLACE, TABLE, MIXED };
enum order { PAIRS, ORDER };
/* PAGE: the next page. NEAR: that and 2 KiB ahead. FAR: 16 KiB ahead, to the second level. */
enum fetch { OFF, PAGE, NEAR, FAR };

struct layout {
    enum place place;
    enum offset offset;
    size_t group;
    enum widen widen;
    enum order order;
    enum fetch fetch;
    size_t width; /* lines side by side: 2 in a panel of 32 rows */
};

static size_t columns = 2048;
static float x[COLUMNS_MAX] __attribute__((aligned(64)));
static float sums[129][COLUMNS_MAX / BLOCK]; /* [group size][group]: S */

#define INLINE static inline __attribute__((always_inline))

/* Bytes in front of all blocks; bytes before a group (PAIR: two groups). */
INLINE size_t front_bytes(struct layout l)
{
    size_t lines = columns / l.group;
    return l.place == FRONT ? 64 * lines : l.place == FRONT16 ? 64 * ((lines + 1) / 2) : 0;
}

INLINE size_t own_bytes(struct layout l)
{
    size_t bytes = l.place == WIDE && l.offset != NONE ? 128 : 64 * l.width;
    return l.place == WORD || l.place == PAIR || l.place == WIDE ? bytes : 0;
}

INLINE size_t panel_bytes(struct layout l)
{
    size_t owners = columns / l.group / (l.place == PAIR ? 2 : 1);
    if (l.place == INT8 || l.place == READ)
        return 16 * columns;
    return 8 * l.width * columns + owners * own_bytes(l) + front_bytes(l);
}

/* The nibble of column c of a word's eight. */
INLINE unsigned nibble_of(enum order order, unsigned c)
{
    return order == ORDER ? c : c / 2 + c % 2 * 4;
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")

INLINE __m512 f32_of(__m512i bits)
{
    return _mm512_castsi512_ps(bits);
}

INLINE void fetch_line(enum fetch fetch, const char *w)
{
    if (fetch == NEAR)
        _mm_prefetch(w + 2048, _MM_HINT_T0);
    if (fetch == FAR)
        _mm_prefetch(w + 16384, _MM_HINT_T1);
}

/* Eight columns of 16 rows; zero: as floats. */
INLINE void word(struct layout l, __m512i v, const float *xk, __m512 zero, const __m512 bias[4],
                 __m512 *even, __m512 *odd)
{
    enum { AND_OR = 0xea };
    const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 table = l.offset == NONE ? _mm512_sub_ps(codes, _mm512_set1_ps(8)) : codes;
    __m512i high = _mm512_srli_epi32(v, 16);
#pragma GCC unroll 8
    for (unsigned c = 0; c < 8; c++) {
        unsigned n = nibble_of(l.order, c), q = n % 4;
        __m512 value, *chain = c % 2 ? odd : even;
        if (l.widen == TABLE || (l.widen == MIXED && q == 0)) {
            value = _mm512_permutexvar_ps(_mm512_srli_epi32(v, 4 * n), table);
            if (l.offset == ZERO)
                value = _mm512_sub_ps(value, zero);
        } else {
            const __m512i nibble = _mm512_set1_epi32(15 << 4 * q);
            const __m512i magic = _mm512_set1_epi32((int)(150 - 4 * q) << 23);
            __m512i code = _mm512_ternarylogic_epi32(n < 4 ? v : high, nibble, magic, AND_OR);
            value = _mm512_sub_ps(f32_of(code), bias[q]);
        }
        *chain = _mm512_fmadd_ps(value, _mm512_set1_ps(xk[c]), *chain);
    }
}

/* Scale and zero or minimum of 16 rows; half: the group's place among two. */
INLINE void constants(struct layout l, const char *at, size_t half, __m512 *scale, __m512 *other)
{
    *other = _mm512_setzero_ps();
    if (l.place == FRONT16) {
        __m512i halves = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)at));
        *scale = f32_of(_mm512_slli_epi32(halves, 16));
        return;
    }
    __m512i v = _mm512_load_si512(at), low = _mm512_slli_epi32(v, 16);
    *scale = f32_of(_mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000)));
    if (l.place == PAIR && !half)
        *scale = f32_of(low);
    if (l.place == WIDE)
        *scale = f32_of(v), v = low = l.offset == NONE ? v : _mm512_load_si512(at + 64);
    if (l.offset == ZERO)
        *other = _mm512_cvtepi32_ps(_mm512_and_si512(v, _mm512_set1_epi32(255)));
    if (l.offset == MIN)
        *other = f32_of(low);
}

INLINE void dot_int4(struct layout l, const char *w, float *out)
{
    const size_t N = l.width, front = front_bytes(l), pair = l.place == PAIR ? 2 : 1;
    const char *entry = w;
    const float *xk = x;
    __m512 total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    w += front;
    for (size_t g = 0; g < columns / l.group; g += pair) {
        const char *at = front ? entry : w;
        if (front && l.fetch == NEAR) /* the next panel's entry */
            _mm_prefetch(entry + panel_bytes(l), _MM_HINT_T0);
        entry += l.place == FRONT16 ? 32 : 64;
        for (size_t i = 0; i < own_bytes(l); i += 64)
            fetch_line(l.fetch, w + i);
        w += own_bytes(l);
#pragma GCC unroll 2
        for (size_t half = 0; half < pair; half++) {
            __m512 scale[2], other[2], bias[2][4], P[2];
#pragma GCC unroll 2
            for (size_t n = 0; n < N; n++) {
                constants(l, at + 64 * n, half, &scale[n], &other[n]);
                P[n] = _mm512_setzero_ps();
                for (int q = 0; q < 4; q++) {
                    float unit = (float)(1 << (23 - 4 * q));
                    bias[n][q] = _mm512_set1_ps(l.offset == NONE ? unit + 8 : unit);
                    if (l.offset == ZERO)
                        bias[n][q] = _mm512_add_ps(bias[n][q], other[n]);
                }
            }
            for (size_t b = 0; b < l.group; b += BLOCK, w += 256 * N, xk += BLOCK) {
                __m512 even[2], odd[2];
#pragma GCC unroll 2
                for (size_t n = 0; n < N; n++)
                    even[n] = odd[n] = _mm512_setzero_ps();
                if (l.fetch == PAGE || l.fetch == NEAR)
                    prefetch_next_page(w, 256 * N);
#pragma GCC unroll 4
                for (size_t i = 0; i < 4; i++)
#pragma GCC unroll 2
                    for (size_t n = 0; n < N; n++) {
                        const char *line = w + 64 * (N * i + n);
                        fetch_line(l.fetch, line);
                        word(l, _mm512_load_si512(line), xk + 8 * i, other[n], bias[n], &even[n],
                             &odd[n]);
                    }
#pragma GCC unroll 2
                for (size_t n = 0; n < N; n++)
                    P[n] = _mm512_add_ps(P[n], _mm512_add_ps(even[n], odd[n]));
            }
#pragma GCC unroll 2
            for (size_t n = 0; n < N; n++) {
                total[n] = _mm512_fmadd_ps(scale[n], P[n], total[n]);
                if (l.offset == MIN)
                    total[n] = _mm512_fmadd_ps(other[n], _mm512_set1_ps(sums[l.group][g + half]),
                                               total[n]);
            }
        }
    }
#pragma GCC unroll 2
    for (size_t n = 0; n < N; n++)
        _mm512_storeu_ps(out + 16 * n, _mm512_add_ps(total[n], _mm512_setzero_ps()));
}

/* As in dot_avx512.c. */
INLINE void dot_int8(enum fetch fetch, const char *w, float *out)
{
    enum { MASK_XOR = 0x6a };
    __m512 acc = _mm512_setzero_ps();
    for (size_t k = 0; k < columns; k += BLOCK) {
        __m512 chain[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        if (fetch == PAGE || fetch == NEAR)
            prefetch_next_page(w, 512);
#pragma GCC unroll 8
        for (size_t i = 0; i < BLOCK; i += 4, w += 64) {
            fetch_line(fetch, w);
            __m512i v = _mm512_load_si512(w), u = _mm512_srli_epi32(v, 16);
#pragma GCC unroll 4
            for (size_t c = 0; c < 4; c++) {
                const __m512i byte = _mm512_set1_epi32(c % 2 ? 0xff00 : 0xff);
                const __m512i bits = _mm512_set1_epi32(c % 2 ? 0x47008000 : 0x4b000080);
                const __m512 bias = _mm512_set1_ps((c % 2 ? 0x1p15f : 0x1p23f) + 128);
                __m512i code = _mm512_ternarylogic_epi32(c < 2 ? v : u, byte, bits, MASK_XOR);
                chain[c % 2] = _mm512_fmadd_ps(_mm512_sub_ps(f32_of(code), bias),
                                               _mm512_set1_ps(x[k + i + c]), chain[c % 2]);
            }
        }
        acc = _mm512_add_ps(acc, _mm512_add_ps(chain[0], chain[1]));
    }
    _mm512_storeu_ps(out, _mm512_add_ps(acc, _mm512_setzero_ps()));
}

INLINE void read_panel(const char *w, float *out)
{
    __m512i sum[4] = {{0}};
    for (size_t i = 0; i < 16 * columns; i += 256)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            sum[j] = _mm512_add_epi32(sum[j], _mm512_load_si512(w + i + 64 * j));
    sum[0] = _mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3]));
    _mm512_storeu_si512(out, sum[0]);
}

/* The table's rows, int8 first. The last argument: huge pages. */
#define GROUPS(X, p, o, ...)                                                                       \
    X(p, o, 32, __VA_ARGS__) X(p, o, 64, __VA_ARGS__) X(p, o, 128, __VA_ARGS__)
#define OFFSETS(X, p, ...)                                                                         \
    GROUPS(X, p, NONE, __VA_ARGS__) GROUPS(X, p, ZERO, __VA_ARGS__) GROUPS(X, p, MIN, __VA_ARGS__)
#define LEAN(X, ...)                                                                               \
    GROUPS(X, PAIR, NONE, __VA_ARGS__)                                                             \
    GROUPS(X, WORD, ZERO, __VA_ARGS__) GROUPS(X, WORD, MIN, __VA_ARGS__)
#define PAGES(X, p, o, g, widen, f)                                                                \
    X(p, o, g, widen, PAIRS, f, 1, 1) X(p, o, g, widen, PAIRS, f, 1, 0)
#define FETCHES(X, p, o, g, widen)                                                                 \
    PAGES(X, p, o, g, widen, OFF)                                                                  \
    PAGES(X, p, o, g, widen, PAGE)                                                                 \
    PAGES(X, p, o, g, widen, FAR)                                                                  \
    X(p, o, g, widen, PAIRS, NEAR, 1, 0)
#define LAYOUTS(X)                                                                                 \
    X(INT8, NONE, 32, IN_PLACE, PAIRS, NEAR, 1, 1)                                                 \
    PAGES(X, READ, NONE, 32, IN_PLACE, OFF)                                                        \
    GROUPS(X, PAIR, NONE, IN_PLACE, PAIRS, NEAR, 1, 1)                                             \
    OFFSETS(X, WORD, IN_PLACE, PAIRS, NEAR, 1, 1)                                                  \
    GROUPS(X, FRONT16, NONE, IN_PLACE, PAIRS, NEAR, 1, 1)                                          \
    OFFSETS(X, FRONT, IN_PLACE, PAIRS, NEAR, 1, 1)                                                 \
    GROUPS(X, FRONT, ZERO, IN_PLACE, PAIRS, OFF, 1, 1)                                             \
    OFFSETS(X, WIDE, IN_PLACE, PAIRS, NEAR, 1, 1)                                                  \
    LEAN(X, IN_PLACE, ORDER, NEAR, 1, 1)                                                           \
    LEAN(X, TABLE, PAIRS, NEAR, 1, 1)                                                              \
    LEAN(X, MIXED, PAIRS, NEAR, 1, 1)                                                              \
    GROUPS(X, PAIR, NONE, IN_PLACE, PAIRS, NEAR, 2, 1)                                             \
    GROUPS(X, PAIR, NONE, TABLE, PAIRS, NEAR, 2, 1)                                                \
    FETCHES(X, PAIR, NONE, 128, TABLE)                                                             \
    FETCHES(X, PAIR, NONE, 32, TABLE)                                                              \
    FETCHES(X, WORD, ZERO, 128, IN_PLACE)                                                          \
    FETCHES(X, WORD, MIN, 32, TABLE)                                                               \
    FETCHES(X, INT8, NONE, 32, IN_PLACE)
#define NAME(p, o, g, widen, order, f, width, huge) stream_##p##o##g##widen##order##f##width##huge
#define DEFINE(p, o, g, widen, order, f, width, huge)                                              \
    static void NAME(p, o, g, widen, order, f, width, huge)(const char *w, size_t panels,          \
                                                            float *out)                            \
    {                                                                                              \
        const struct layout l = {p, o, g, widen, order, f, width};                                 \
        for (size_t i = 0; i < panels; i++, w += panel_bytes(l), out += 16 * width)                \
            if (p == READ)                                                                         \
                read_panel(w, out);                                                                \
            else if (p == INT8)                                                                    \
                dot_int8(f, w, out);                                                               \
            else                                                                                   \
                dot_int4(l, w, out);                                                               \
    }
LAYOUTS(DEFINE)
#pragma GCC pop_options

#define ROW(p, o, g, widen, order, f, width, huge)                                                 \
    {{p, o, g, widen, order, f, width},                                                            \
     huge,                                                                                         \
     {#p, #o, #widen, #order, #f},                                                                 \
     NAME(p, o, g, widen, order, f, width, huge)},
static const struct row {
    struct layout layout;
    int huge;
    const char *names[5];
    void (*stream)(const char *w, size_t panels, float *out);
} rows[] = {LAYOUTS(ROW)};
enum { ROWS = sizeof rows / sizeof *rows };

static uint32_t hash(size_t i)
{
    uint32_t u = (uint32_t)i * 2654435761u;
    u = (u ^ u >> 15) * 2246822519u;
    return u ^ u >> 13;
}

/* Four bits of weight i: code or zero. */
static uint32_t code_of(size_t i)
{
    return hash(i) >> 28;
}

/* A bf16 number near 0.01: scale or minimum i. */
static float bf16_of(size_t i)
{
    uint32_t bits = 0x3c000000 | (hash(i + 99) >> 8 & 0x00ff0000);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* The order of docs/numerics.md over a piece. */
static float plain_sum(const float *weights, const float *xk, size_t n)
{
    float sum = 0;
    for (size_t b = 0; b < n; b += BLOCK) {
        float chain[2] = {0, 0};
        for (size_t j = b; j < b + BLOCK; j++)
            chain[j % 2] = fmaf(weights[j], xk[j], chain[j % 2]);
        sum = sum + (chain[0] + chain[1]);
    }
    return sum;
}

/* Row r's first weight is number r * columns, its first group too. */
static float plain_dot(struct layout l, size_t r)
{
    float total = 0, weights[128];
    for (size_t g = 0, i = r * columns; g < columns / l.group; g++, i++) {
        int zero = l.offset == NONE ? 8 : l.offset == ZERO ? (int)code_of(~i) : 0;
        for (size_t j = 0; j < l.group; j++)
            weights[j] = (float)((int)code_of(r * columns + g * l.group + j) - zero);
        total = fmaf(bf16_of(i), plain_sum(weights, x + g * l.group, l.group), total);
        if (l.offset == MIN)
            total = fmaf(bf16_of(~i), sums[l.group][g], total);
    }
    return total + 0.0f;
}

static void pack(struct layout l, size_t r, char *panels)
{
    size_t N = l.width, lane = 4 * (r % 16), front = front_bytes(l), code = r * columns;
    char *panel = panels + r / (16 * N) * panel_bytes(l);
    char *w = panel + front + r / 16 % N * 64 + lane;
    for (size_t g = 0, i = code; g < columns / l.group; g++, i++) {
        float scale = bf16_of(i), next = bf16_of(i + 1), minimum = bf16_of(~i);
        uint32_t zero = code_of(~i), all = 0;
        memcpy((char *)&all + 2, (char *)(l.place == PAIR ? &next : &scale) + 2, 2);
        if (l.offset == ZERO)
            all |= zero;
        else if (l.offset == MIN || l.place == PAIR)
            memcpy(&all, (char *)(l.offset == MIN ? &minimum : &scale) + 2, 2);
        if (l.place == FRONT16)
            memcpy(panel + 32 * g + lane / 2, (char *)&scale + 2, 2);
        else if (front)
            memcpy(panel + 64 * g + lane, &all, 4);
        else if (l.place != PAIR || g % 2 == 0) {
            memcpy(w, l.place == WIDE ? (void *)&scale : &all, 4);
            if (own_bytes(l) > 64 * N)
                memcpy(w + 64, l.offset == ZERO ? (void *)&zero : &minimum, 4);
            w += own_bytes(l);
        }
        for (size_t k = 0; k < l.group; k += 8, code += 8, w += 64 * N) {
            uint32_t codes = 0;
            for (unsigned c = 0; c < 8; c++)
                codes |= code_of(code + c) << 4 * nibble_of(l.order, c);
            memcpy(w, &codes, 4);
        }
    }
}

static size_t differing(const struct row *row, char *panels, float *out)
{
    size_t bad = 0, count = PANELS * 16 * row->layout.width;
    if (row->layout.place == READ || row->layout.place == INT8)
        return 0;
    for (size_t r = 0; r < count; r++)
        pack(row->layout, r, panels);
    row->stream(panels, PANELS, out);
    for (size_t r = 0; r < count; r++)
        bad += memcmp(&(float){plain_dot(row->layout, r)}, &out[r], 4) != 0;
    return bad;
}

static double used_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct share {
    const struct row *row;
    const char *w;
    size_t panels;
    float *out;
    int *waiting;
    double begin, end, used;
};

static void *work(void *arg)
{
    struct share *share = arg;
    __atomic_sub_fetch(share->waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(share->waiting, __ATOMIC_SEQ_CST))
        ;
    double used = used_seconds();
    share->begin = now();
    share->row->stream(share->w, share->panels, share->out);
    share->end = now();
    share->used = used_seconds() - used;
    return NULL;
}

/* GB/s of bytes read, or 0 where a thread lost its processor for a while. */
static double speed(const struct row *row, const char *w, int threads, float *out)
{
    size_t size = panel_bytes(row->layout), panels = SLICE / size / (size_t)threads;
    int waiting = threads;
    pthread_t other;
    struct share a = {row, w, panels, out, &waiting, 0, 0, 0}, b = a;
    b.w += panels * size;
    b.out += panels * 16 * row->layout.width;
    if (threads == 2 && pthread_create(&other, NULL, work, &b))
        exit(1);
    work(&a);
    if (threads == 1)
        b = a;
    else
        pthread_join(other, NULL);
    double elapsed = fmax(a.end, b.end) - fmin(a.begin, b.begin), used = fmax(a.used, b.used);
    return elapsed > 1.03 * used ? 0 : (double)(panels * size) * threads * 1e-9 / elapsed;
}

static char *map(size_t bytes, int huge)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("bench_layout");
        exit(1);
    }
    madvise(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return p;
}

int main(int argc, char **argv)
{
    static double gb[2][ROWS][SAMPLES_MAX + 1], ratio[2][ROWS][SAMPLES_MAX + 1];
    static size_t samples[2][ROWS];
    size_t rounds = argc > 1 ? (size_t)atoi(argv[1]) : 5, wrong = 0;
    size_t slices = (size_t)(argc > 2 ? atoi(argv[2]) : 1024) / (SLICE >> 20);
    size_t bytes = slices * SLICE;
    columns = argc > 3 ? (size_t)atoi(argv[3]) : columns;
    if (columns % 256 || !columns || columns > COLUMNS_MAX || slices < 2 ||
        rounds * slices > SAMPLES_MAX) {
        fputs("bench_layout: 256 n columns; 128 MiB or more, 64 GiB in all rounds\n", stderr);
        return 2;
    }
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
        puts("SKIP bench_layout: no AVX-512");
        return 0;
    }
    float ones[128];
    for (size_t k = 0; k < columns; k++)
        x[k] = (float)(hash(k) >> 19) * 0x1p-12f - 1, ones[k % 128] = 1;
    for (size_t group = 32; group <= 128; group *= 2)
        for (size_t g = 0; g < columns / group; g++)
            sums[group][g] = plain_sum(ones, x + g * group, group);
    char *memory[2] = {map(bytes + (1 << 17), 0), map(bytes + (1 << 17), 1)};
    char *panels = map(PANELS * 64 * columns + (1 << 17), 1);
    float *out = (float *)map(SLICE / 8, 1);
    for (size_t i = 0; i < bytes; i += 4) { /* numbers of ordinary size, as bf16 and as f32 */
        uint32_t u = (hash(i) & 0xbfbfbfbf) | 0x20202020;
        memcpy(memory[0] + i, &u, 4);
        memcpy(memory[1] + i, &u, 4);
    }
    for (int r = 0; r < ROWS; r++)
        wrong += differing(&rows[r], panels, out);
    for (size_t i = 0; i < rounds * slices; i++)
        for (int r = 0; r < ROWS; r++)
            for (int t = 0; t < 2; t++)
                for (int tries = 0; tries < 4; tries++) {
                    size_t at = i % slices * SLICE, *n = &samples[t][r];
                    double int8 = speed(&rows[0], memory[1] + (at + bytes / 2) % bytes, t + 1, out);
                    gb[t][r][*n] =
                        int8 > 0 ? speed(&rows[r], memory[rows[r].huge] + at, t + 1, out) : 0;
                    ratio[t][r][*n] = gb[t][r][*n] / int8;
                    if (gb[t][r][*n] > 0) {
                        ++*n;
                        break;
                    }
                }
    printf("%zu columns, %zu MiB, %zu rounds; %zu dots differ from plain C\n", columns, bytes >> 20,
           rounds, wrong);
    puts("const.  off. widen    order ahead group rows pages   bits |"
         " 1 thread: GB/s /int8 weights/int8 | 2 threads: GB/s /int8 weights/int8");
    for (int r = 0; r < ROWS; r++) {
        const struct row *row = &rows[r];
        size_t height = 16 * row->layout.width;
        double bits = (double)panel_bytes(row->layout) * 8 / (double)(height * columns);
        printf("%-7s %-4s %-8s %-5s %-5s %5zu %4zu %s %6.3f", row->names[0], row->names[1],
               row->names[2], row->names[3], row->names[4], row->layout.group, height,
               row->huge ? "2 MiB" : "4 KiB", bits);
        for (int t = 0; t < 2; t++) {
            double share = median(ratio[t][r], (int)samples[t][r]);
            printf(" | %14.1f %5.3f %12.3f", median(gb[t][r], (int)samples[t][r]), share,
                   share * 8 / bits);
        }
        putchar('\n');
    }
    return wrong != 0;
}
