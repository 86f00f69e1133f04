/* What the kernels use beyond C++ and the CUDA built-ins, in one place: nvcc sees PTX, the emulator
 * (tests/cuda/emul.h) its own functions of the same names. */
#pragma once
#include "cuda_args.h"
#include <stddef.h>
#include <stdint.h>
#ifdef EMULATE
#include "emul.h"
#else
#include <cuda_runtime.h>

/* weights are read once: past L1, first out of L2 */
static __device__ __forceinline__ uint4 load_stream(const uint4 *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
/* a line of 128 bytes on its way into L2 */
static __device__ __forceinline__ void prefetch_line(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
static __device__ __forceinline__ void half2_to_float(uint32_t w, float *v)
{
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
        : "=f"(v[0]), "=f"(v[1])
        : "r"(w));
}
/* to nearest even, subnormals kept */
static __device__ __forceinline__ uint32_t float_to_half(float f)
{
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
/* two in a word, the first in the low half; to nearest even, subnormals kept */
static __device__ __forceinline__ uint32_t floats_to_half2(float low, float high)
{
    uint32_t w;
    asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(low), "f"(high));
    return w;
}
static __device__ __forceinline__ uint32_t floats_to_bf16x2(float low, float high)
{
    uint32_t w;
    asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(low), "f"(high));
    return w;
}
static __device__ __forceinline__ uint32_t e4m3x2_to_half2(uint32_t w)
{
#if __CUDA_ARCH__ >= 890
    uint32_t h;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"((uint16_t)w));
    return h;
#else /* E4M3 is a half of less exponent, 2^8 too small: exact, subnormals too */
    uint32_t s = __byte_perm(w, 0, 0x1404), h = (s & 0x80008000u) | (s >> 1 & 0x3f803f80u), r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(h), "r"(0x5c005c00u));
    return r;
#endif
}
/* (w & mask) | bits in one instruction */
static __device__ __forceinline__ uint32_t and_or(uint32_t w, uint32_t mask, uint32_t bits)
{
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(w), "r"(mask), "r"(bits));
    return r;
}
static __device__ __forceinline__ uint32_t byte_perm(uint32_t a, uint32_t b, uint32_t s)
{
    return __byte_perm(a, b, s);
}
/* A kernel may begin before the one ahead of it in the stream has ended; what that one wrote can be
 * read after wait_previous(). */
#if __CUDA_ARCH__ >= 900
static __device__ __forceinline__ void launch_dependents()
{
    asm volatile("griddepcontrol.launch_dependents;");
}
static __device__ __forceinline__ void wait_previous()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}
#else
static __device__ __forceinline__ void launch_dependents()
{
}
static __device__ __forceinline__ void wait_previous()
{
}
#endif
static __device__ __forceinline__ void yield_warp()
{
    __nanosleep(20);
}
static __device__ __forceinline__ unsigned load_acquire_shared(const unsigned *p)
{
    unsigned v;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];"
                 : "=r"(v)
                 : "r"((unsigned)__cvta_generic_to_shared(p))
                 : "memory");
    return v;
}
static __device__ __forceinline__ void store_release_shared(unsigned *p, unsigned v)
{
    asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"((unsigned)__cvta_generic_to_shared(p)),
                 "r"(v)
                 : "memory");
}
static __device__ __forceinline__ unsigned add_acq_rel_shared(unsigned *p, unsigned v)
{
    unsigned old;
    asm volatile("atom.acq_rel.cta.shared.add.u32 %0, [%1], %2;"
                 : "=r"(old)
                 : "r"((unsigned)__cvta_generic_to_shared(p)), "r"(v)
                 : "memory");
    return old;
}
static __device__ __forceinline__ unsigned add_acq_rel(unsigned *p, unsigned v)
{
    unsigned old;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(old)
                 : "l"(p), "r"(v)
                 : "memory");
    return old;
}

/* words that other GPUs and the host write, or read */
static __device__ __forceinline__ float load_relaxed_system(const float *p)
{
    float v;
    asm volatile("ld.relaxed.sys.global.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
    return v;
}
static __device__ __forceinline__ void store_relaxed_system(float *p, float v)
{
    asm volatile("st.relaxed.sys.global.f32 [%0], %1;" ::"l"(p), "f"(v) : "memory");
}
static __device__ __forceinline__ unsigned load_word_system(const unsigned *p)
{
    unsigned v;
    asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
static __device__ __forceinline__ void store_word_system(unsigned *p, unsigned v)
{
    asm volatile("st.relaxed.sys.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
static __device__ __forceinline__ unsigned long long clock_nanoseconds()
{
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    return t;
}
/* ---- tensor cores, pairs of 16 bits (the first in the low half) ---- */

/* d += a b: m16n8k16, f32 sums */
static __device__ __forceinline__ void mma_bf16(float *d, const uint32_t *a, uint32_t b0,
                                                uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
static __device__ __forceinline__ void mma_f16(float *d, const uint32_t *a, uint32_t b0,
                                               uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/* to nearest even */
static __device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
static __device__ __forceinline__ uint32_t pack_f16(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
/* a * b + c of two pairs, each rounded once */
static __device__ __forceinline__ uint32_t fma_bf16(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
static __device__ __forceinline__ uint32_t fma_f16(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
static __device__ __forceinline__ uint32_t sub_f16(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
/* 2^x, within 2 ulp */
static __device__ __forceinline__ float exp2_approx(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

/* dynamic shared memory, array after array, in the same order for all threads */
struct shared_cursor {
    unsigned char *at;
};
static __device__ __forceinline__ shared_cursor shared_begin()
{
    extern __shared__ __align__(16) unsigned char shared_memory[];
    return {shared_memory};
}
template <class T> static __device__ __forceinline__ T *shared_take(shared_cursor &c, size_t n)
{
    T *p = (T *)c.at;
    c.at += (n * sizeof(T) + 15) / 16 * 16;
    return p;
}
#endif

/* ---- arithmetic of docs/numerics.md ---- */

static __device__ __forceinline__ float bf16_value(float f)
{
    const uint32_t u = __float_as_uint(f), rounded = u + 0x7fff + (u >> 16 & 1);
    return __uint_as_float(((u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : rounded) & 0xffff0000u);
}
static __device__ __forceinline__ float max_of(float a, float b)
{
    return a > b ? a : b;
}
/* section 4 */
static __device__ __forceinline__ float exp_value(float given)
{
    float x = given < -87.0f ? -87.0f : given;
    x = x > 88.0f ? 88.0f : x;
    const float t = __fadd_rn(__fmul_rn(x, 0x1.715476p+0f), 0x1.8p+23f),
                n = __fadd_rn(t, -0x1.8p+23f);
    float r = __fmaf_rn(n, -0x1.62e400p-1f, x);
    r = __fmaf_rn(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6ac74cp-10f;
    p = __fmaf_rn(p, r, 0x1.123de0p-7f);
    p = __fmaf_rn(p, r, 0x1.555858p-5f);
    p = __fmaf_rn(p, r, 0x1.55548cp-3f);
    p = __fmaf_rn(p, r, 0x1.fffffcp-2f);
    p = __fmaf_rn(p, r, 1.0f);
    p = __fmaf_rn(p, r, 1.0f);
    p = __uint_as_float(__float_as_uint(p) + (__float_as_uint(t) << 23));
    return given < -87.0f ? 0.0f : p;
}
static __device__ __forceinline__ float silu_value(float g)
{
    return __fdiv_rn(g, __fadd_rn(1.0f, exp_value(-g)));
}
/* The sixteen chains of section 5 to one sum: lane l of a warp has chain l % 16; every lane gets
 * it. */
static __device__ __forceinline__ float fold_chains(float chain)
{
    for (int d = 8; d; d /= 2)
        chain = __fadd_rn(chain, __shfl_xor_sync(~0u, chain, d)); /* commutes */
    return chain;
}

/* ---- how work is laid out ---- */

enum {
    ROWS = 16,  /* of a panel */
    BLOCK = 32, /* columns that a dot adds up at once */
    GROUPS = CUDA_GROUPS,
    WARPS = CUDA_WARPS,
    XPAD = CUDA_XPAD,
};
