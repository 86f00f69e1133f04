/* Kernels with one fault each: the emulator, or a sanitizer that it tells of its threads, must
 * notice every one. `planted NAME SEED`; without a name, the names. */
#include "gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 64 };

struct planes {
    const float *in;
    float *out;
};

/* Each thread takes another's value through shared memory. */
template <bool SYNC> static void exchange(const planes &a)
{
    shared_cursor c = shared_begin();
    float *s = shared_take<float>(c, N);
    s[threadIdx.x] = a.in[threadIdx.x];
    if (SYNC)
        __syncthreads();
    a.out[threadIdx.x] = s[N - 1 - threadIdx.x];
}
template <bool SYNC> static void warp_exchange(const planes &a)
{
    shared_cursor c = shared_begin();
    float *s = shared_take<float>(c, N);
    const unsigned t = threadIdx.x;
    s[t] = a.in[t];
    float other = __shfl_xor_sync(~0u, a.in[t], 1); /* lanes meet here, but it orders no memory */
    if (SYNC)
        __syncwarp();
    a.out[t] = s[t ^ 1] + other;
}
/* The last thread overwrites, between two barriers, what the first one reads behind the second. */
template <bool SYNC> static void overwritten(const planes &a)
{
    shared_cursor c = shared_begin();
    float *s = shared_take<float>(c, 1);
    const unsigned t = threadIdx.x;
    if (t == 0)
        *s = a.in[N - 1];
    __syncthreads();
    if (t == N - 1)
        *s = a.in[N - 1];
    if (SYNC)
        __syncthreads();
    a.out[t] = t ? a.in[N - 1 - t] : *s;
    __syncthreads();
}
static void global_overrun(const planes &a)
{
    a.out[threadIdx.x] = a.in[threadIdx.x + 1];
}
static void shared_overrun(const planes &a)
{
    shared_cursor c = shared_begin();
    float *s = shared_take<float>(c, N), *next = shared_take<float>(c, N);
    next[threadIdx.x] = a.in[threadIdx.x];
    s[threadIdx.x + 1] = a.in[threadIdx.x]; /* on a GPU: next[0] */
    __syncthreads();
    a.out[threadIdx.x] = s[threadIdx.x] + next[threadIdx.x];
}
static void shared_too_much(const planes &a)
{
    shared_cursor c = shared_begin();
    float *s = shared_take<float>(c, 2 * N + 4);
    s[threadIdx.x] = a.in[threadIdx.x];
    a.out[threadIdx.x] = s[threadIdx.x];
}
static void divergent_barrier(const planes &a)
{
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncwarp(0xff00u);
    a.out[threadIdx.x] = a.in[threadIdx.x];
}
static void divergent_shuffle(const planes &a)
{
    float v = a.in[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        v = __shfl_sync(0xffffu, v, 20);
    a.out[threadIdx.x] = v;
}
template <bool WAIT> static void copied(const planes &a)
{
    shared_cursor c = shared_begin();
    float *s = shared_take<float>(c, N);
    if (threadIdx.x < N / 4)
        copy_async16(s + 4 * threadIdx.x, a.in + 4 * threadIdx.x);
    copy_commit();
    const float early = s[WAIT ? 0 : 4 * (threadIdx.x / 4)];
    copy_wait<0>();
    __syncthreads();
    a.out[threadIdx.x] = WAIT ? s[threadIdx.x] : early;
}
template <bool WAIT> static void second(const planes &a)
{
    if (WAIT)
        wait_previous();
    a.out[threadIdx.x] = a.in[N - 1 - threadIdx.x] + 1;
}

#define PLANTED(name, ...)                                                                         \
    static const emul_entry entry_of_##name(                                                       \
        #name, sizeof(planes), [](const void *a) { __VA_ARGS__(*(const planes *)a); });
PLANTED(good, exchange<true>)
PLANTED(good_syncwarp, warp_exchange<true>)
PLANTED(good_copy, copied<true>)
PLANTED(good_previous, second<true>)
PLANTED(good_barriers, overwritten<true>)
PLANTED(no_second_barrier, overwritten<false>)
PLANTED(no_syncthreads, exchange<false>)
PLANTED(no_syncwarp, warp_exchange<false>)
PLANTED(global_overrun, global_overrun)
PLANTED(shared_overrun, shared_overrun)
PLANTED(shared_too_much, shared_too_much)
PLANTED(divergent_barrier, divergent_barrier)
PLANTED(divergent_shuffle, divergent_shuffle)
PLANTED(copy_not_waited, copied<false>)
PLANTED(previous_not_waited, second<false>)

int main(int argc, char **argv)
{
    if (argc < 3) {
        puts("good good_syncwarp good_copy good_previous good_barriers\n"
             "no_syncthreads no_second_barrier no_syncwarp global_overrun shared_overrun "
             "shared_too_much "
             "divergent_barrier "
             "divergent_shuffle copy_not_waited previous_not_waited");
        return 0;
    }
    emul_seed((uint64_t)atoi(argv[2]));
    float *a = (float *)aligned_alloc(16, N * 4), *b = (float *)aligned_alloc(16, N * 4),
          *c = (float *)aligned_alloc(16, N * 4);
    for (int i = 0; i < N; i++)
        a[i] = (float)i, b[i] = c[i] = NAN;
    const emul_launch one = {{1}, {N}, 2 * N * sizeof(float), false},
                      early = {{1}, {N}, 2 * N * sizeof(float), true};
    const planes first = {a, b}, then = {b, c};
    const bool two = strstr(argv[1], "previous");
    emul_run(one, *emul_find(two ? "good" : argv[1]), &first);
    if (two)
        emul_run(early, *emul_find(argv[1]), &then);
    emul_sync();
    const float *result = two ? c : b;
    int wrong = 0;
    for (int i = 0; i < N; i++) {
        const bool known =
            two || strstr(argv[1], "good") == argv[1] || !strcmp(argv[1], "no_syncthreads");
        const float want = two                                 ? (float)i + 1
                           : !strcmp(argv[1], "good_copy")     ? (float)i
                           : !strcmp(argv[1], "good_syncwarp") ? (float)(2 * (i ^ 1))
                                                               : (float)(N - 1 - i);
        wrong += known ? result[i] != want : isnan(result[i]);
    }
    free(a), free(b), free(c);
    return wrong != 0;
}
