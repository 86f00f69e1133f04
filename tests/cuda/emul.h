/* A CUDA device on the CPU, for tests: the same .cu files compiled as C++.
 *
 * Every CUDA thread is a fiber. It runs until it meets others (barrier, warp collective) or says
 * that it waits (yield_warp); then the scheduler picks the next one, in an order that a seed
 * chooses: rising, falling or shuffled. What it finds:
 *  - out of bounds: global arrays are heap blocks, every shared array is one of its own (address
 *    sanitizer)
 *  - data races, a missing __syncthreads or __syncwarp, reads of the kernel before without
 *    wait_previous(): fibers are threads to the thread sanitizer, and only what orders memory on a
 *    GPU orders it here (a shuffle does not)
 *  - shared memory beyond the launch's size, reads of shared memory never written (NaN), lanes that
 *    meet at different collectives, barriers that not everyone reaches, waits that never end: one
 *    line, then abort
 * Floating point is the host's, in the mode of docs/numerics.md: the bits are the GPU's for
 * everything rounded once (fma, add, mul, div, sqrt).
 */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y = 1, z = 1;
};
inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

/* ---- who runs ---- */

struct emul_block;
struct emul_fiber {
    uint3 thread;
    unsigned lane;
    struct emul_block *block;
    unsigned arrays; /* shared arrays taken */
};
extern thread_local emul_fiber *emul_self;
const uint3 &emul_block_index();
const dim3 &emul_grid_dim();
#define threadIdx (emul_self->thread)
#define blockIdx (emul_block_index())
#define gridDim (emul_grid_dim())

/* ---- launching ---- */

/* A kernel by its name: kernels/cuda/entry.h makes one of each. */
struct emul_entry {
    const char *name;
    size_t bytes; /* of its arguments */
    void (*run)(const void *arguments);
    const emul_entry *next;
    emul_entry(const char *name, size_t bytes, void (*run)(const void *));
};
const emul_entry *emul_find(const char *name);

struct emul_launch {
    dim3 grid, block;
    size_t shared_bytes;
    bool programmatic; /* may start before the launch before it has ended: see wait_previous() */
};
/* Order of the threads: 0 rising, 1 falling, else shuffled anew at every choice. */
void emul_seed(uint64_t seed);
void emul_run(const emul_launch &launch, const emul_entry &entry, const void *arguments);
/* The host may use what all launches wrote. */
void emul_sync();

/* ---- meeting ---- */

void emul_barrier();
void emul_yield();
void emul_pause(); /* before an atomic: with a shuffling seed others may come first */
/* All lanes of mask leave `bytes` (at most 64), which each may read until its next meeting. kind:
 * which collective. */
void emul_meet(unsigned mask, const char *kind, const void *mine, size_t bytes, bool orders_memory);
void emul_read(unsigned lane, void *out, size_t bytes);
[[noreturn]] void emul_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

inline void __syncthreads()
{
    emul_barrier();
}
inline void __syncwarp(unsigned mask = ~0u)
{
    emul_meet(mask, "__syncwarp", nullptr, 0, true);
}
inline void yield_warp()
{
    emul_yield();
}

template <class T> T emul_shuffle(unsigned mask, const char *kind, T value, unsigned source)
{
    emul_meet(mask, kind, &value, sizeof value, false);
    if (!(mask >> source & 1))
        emul_fail("%s: lane %u reads lane %u, which is not in mask %08x", kind, emul_self->lane,
                  source, mask);
    emul_read(source, &value, sizeof value);
    return value;
}
template <class T> T __shfl_sync(unsigned mask, T v, int lane)
{
    return emul_shuffle(mask, "__shfl_sync", v, (unsigned)lane & 31);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits)
{
    return emul_shuffle(mask, "__shfl_xor_sync", v, emul_self->lane ^ (unsigned)bits);
}
/* ---- memory ---- */

void *emul_shared(size_t bytes);
struct shared_cursor {
};
inline shared_cursor shared_begin()
{
    return {};
}
template <class T> T *shared_take(shared_cursor &, size_t n)
{
    return (T *)emul_shared(n * sizeof(T));
}

inline void prefetch_line(const void *)
{
}
inline uint4 load_stream(const uint4 *p)
{
    return *p;
}
void launch_dependents();
void wait_previous();
/* Threads of a launch take turns, and what orders memory between them are atomics and meetings. */
inline void __threadfence()
{
    __asm__ volatile("" ::: "memory");
}
inline unsigned load_acquire_shared(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
inline void store_release_shared(unsigned *p, unsigned v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
inline unsigned add_acq_rel_shared(unsigned *p, unsigned v)
{
    return emul_pause(), __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL);
}
inline unsigned add_acq_rel(unsigned *p, unsigned v)
{
    return emul_pause(), __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL);
}
inline float load_relaxed_system(const float *p)
{
    float v;
    __atomic_load(p, &v, __ATOMIC_RELAXED);
    return v;
}
inline void store_relaxed_system(float *p, float v)
{
    emul_pause();
    __atomic_store(p, &v, __ATOMIC_RELAXED);
}
inline unsigned load_word_system(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
inline void store_word_system(unsigned *p, unsigned v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}
inline unsigned long long clock_nanoseconds()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_nsec;
}
/* A count: it orders nothing. */
template <class T> T atomicAdd(T *p, T v)
{
    return emul_pause(), __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
/* Copies to shared memory that are there when waited for: done at once, or as late as that
 * (seed). */
void emul_copy_async(void *to, const void *from, size_t bytes);
void emul_copy_commit();
void emul_copy_wait(unsigned groups_left);
inline void copy_async16(void *to, const void *from)
{
    emul_copy_async(to, from, 16);
}
inline void copy_commit()
{
    emul_copy_commit();
}
template <int N> void copy_wait()
{
    emul_copy_wait(N);
}

/* ---- arithmetic ---- */

inline float __fmaf_rn(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}
/* the rounding of one instruction: 0x2000 down, 0x4000 up */
inline float emul_fma(float a, float b, float c, unsigned rounding)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr((mode & ~0x6000u) | rounding);
    __asm__ volatile("vfmadd213ss %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    _mm_setcsr(mode);
    return a;
}
inline float __fmaf_rd(float a, float b, float c)
{
    return emul_fma(a, b, c, 0x2000);
}
inline float __fmaf_ru(float a, float b, float c)
{
    return emul_fma(a, b, c, 0x4000);
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fsub_rn(float a, float b)
{
    return a - b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
inline float __fsqrt_rn(float a)
{
    return __builtin_sqrtf(a);
}
inline double __dadd_rn(double a, double b)
{
    return a + b;
}
inline double __dmul_rn(double a, double b)
{
    return a * b;
}
inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
inline uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t s)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++)
        r |= (uint32_t)(bytes >> (s >> 4 * i & 7) * 8 & 255) << 8 * i;
    return r;
}
inline uint32_t and_or(uint32_t w, uint32_t mask, uint32_t bits)
{
    return (w & mask) | bits;
}
inline void half2_to_float(uint32_t w, float *v)
{
    uint16_t low = (uint16_t)w, high = (uint16_t)(w >> 16);
    _Float16 l, h;
    memcpy(&l, &low, 2), memcpy(&h, &high, 2);
    v[0] = (float)l, v[1] = (float)h;
}
inline uint32_t float_to_half(float f)
{
    _Float16 h = (_Float16)f;
    uint16_t bits;
    memcpy(&bits, &h, 2);
    return bits;
}
inline uint32_t floats_to_half2(float low, float high)
{
    return float_to_half(low) | float_to_half(high) << 16;
}
inline uint32_t floats_to_bf16x2(float low, float high)
{
    uint32_t r = 0;
    for (int i = 0; i < 2; i++) {
        const uint32_t u = __float_as_uint(i ? high : low);
        const bool nan = (u & 0x7fffffff) > 0x7f800000;
        r |= (nan ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16) << 16 * i;
    }
    return r;
}
inline uint32_t
e4m3x2_to_half2(uint32_t w) /* E4M3 is a half of less exponent: 2^8 too small, subnormals too */
{
    uint32_t r = 0;
    for (int i = 0; i < 2; i++) {
        uint32_t c = w >> 8 * i & 255;
        uint16_t bits = (uint16_t)((c & 0x80) << 8 | (c & 0x7f) << 7);
        _Float16 h;
        memcpy(&h, &bits, 2);
        h = (_Float16)((float)h * 256.0f);
        memcpy(&bits, &h, 2);
        r |= (uint32_t)bits << 16 * i;
    }
    return r;
}

/* ---- tensor cores, pairs of 16 bits ---- */

inline float emul_bf16(uint32_t pair, unsigned high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}
inline float emul_f16(uint32_t pair, unsigned high)
{
    float v[2];
    half2_to_float(pair, v);
    return v[high];
}
/* All lanes meet. Lane (g, t), g = lane / 4, has rows g and g + 8 of a, column g of b, of d columns
 * 2t and 2t + 1. Products are exact, sums are rounded in rising order of k. */
template <class Value>
void emul_mma(const char *kind, float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Value value)
{
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const unsigned g = emul_self->lane / 4, t = emul_self->lane % 4;
    emul_meet(~0u, kind, mine, sizeof mine, false);
    uint32_t row[4][6], column[2][4][6];
    for (unsigned i = 0; i < 4; i++) {
        emul_read(g * 4 + i, row[i], sizeof row[i]);
        emul_read(t * 8 + i, column[0][i], sizeof column[0][i]);
        emul_read(t * 8 + 4 + i, column[1][i], sizeof column[1][i]);
    }
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 16; k++)
            d[i] += value(row[k % 8 / 2][i / 2 + k / 8 * 2], k % 2) *
                    value(column[i % 2][k % 8 / 2][4 + k / 8], k % 2);
}
inline void mma_bf16(float *d, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    emul_mma("mma_bf16", d, a, b0, b1, emul_bf16);
}
inline void mma_f16(float *d, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    emul_mma("mma_f16", d, a, b0, b1, emul_f16);
}
inline uint32_t emul_to_bf16(float f)
{
    const uint32_t u = __float_as_uint(f);
    return (u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 64 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high)
{
    return emul_to_bf16(low) | emul_to_bf16(high) << 16;
}
inline uint32_t pack_f16(float low, float high)
{
    return float_to_half(low) | float_to_half(high) << 16;
}
inline uint32_t fma_bf16(uint32_t a, uint32_t b, uint32_t c)
{
    float v[2];
    for (unsigned i = 0; i < 2; i++)
        v[i] = __fmaf_rn(emul_bf16(a, i), emul_bf16(b, i), emul_bf16(c, i));
    return pack_bf16(v[0], v[1]);
}
inline uint32_t fma_f16(uint32_t a, uint32_t b, uint32_t c)
{
    float v[2];
    for (unsigned i = 0; i < 2; i++)
        v[i] = __fmaf_rn(emul_f16(a, i), emul_f16(b, i), emul_f16(c, i));
    return pack_f16(v[0], v[1]);
}
inline uint32_t sub_f16(uint32_t a, uint32_t b)
{
    return pack_f16(emul_f16(a, 0) - emul_f16(b, 0), emul_f16(a, 1) - emul_f16(b, 1));
}
inline float exp2_approx(float x)
{
    return exp2f(x);
}
