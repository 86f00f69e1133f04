/* What the GPU at hand does: its memory's speed, launches, conversions that kernels rely on, and
 * whether its arithmetic is docs/numerics.md's. nvcc -O3 -fmad=false -ftz=true -prec-div=true
 * -prec-sqrt=true
 *
 * First line of output: the read speed in GB/s, for scripts. Exit status 1 where a result differs
 * from the CPU's. */
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include <xmmintrin.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        cudaError_t e_ = (call);                                                                   \
        if (e_ != cudaSuccess) {                                                                   \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(e_));                            \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

template <class F> static double median_ms(int runs, F f)
{
    std::vector<float> t;
    cudaEvent_t a, b;
    OK(cudaEventCreate(&a));
    OK(cudaEventCreate(&b));
    for (int i = 0; i < runs + 2; i++) {
        float ms;
        OK(cudaEventRecord(a));
        f();
        OK(cudaEventRecord(b));
        OK(cudaEventSynchronize(b));
        OK(cudaEventElapsedTime(&ms, a, b));
        if (i >= 2)
            t.push_back(ms);
    }
    std::sort(t.begin(), t.end());
    return t[t.size() / 2];
}

/* ---- memory ---- */

__global__ void read_all(const uint4 *p, size_t n, unsigned *out)
{
    unsigned s = 0;
    const size_t stride = (size_t)gridDim.x * blockDim.x;
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * stride < n; i += 4 * stride) {
        uint4 a = __ldcs(p + i), b = __ldcs(p + i + stride), c = __ldcs(p + i + 2 * stride),
              d = __ldcs(p + i + 3 * stride);
        s += (a.x ^ a.y ^ a.z ^ a.w) + (b.x ^ b.y ^ b.z ^ b.w) + (c.x ^ c.y ^ c.z ^ c.w) +
             (d.x ^ d.y ^ d.z ^ d.w);
    }
    if (s == 0x12345678u)
        *out = s;
}

static double read_speed(int sms)
{
    size_t bytes = (size_t)4 << 30, free, total;
    OK(cudaMemGetInfo(&free, &total));
    bytes = std::min(bytes, free / 2 / 4096 * 4096);
    uint4 *p;
    unsigned *out;
    double best = 0;
    OK(cudaMalloc(&p, bytes));
    OK(cudaMalloc(&out, 4));
    OK(cudaMemset(p, 1, bytes));
    for (int per = 2; per <= 32; per *= 2)
        best = std::max(best, bytes / 1e6 / median_ms(7, [&] {
                                  read_all<<<sms * per, 256>>>(p, bytes / 16, out);
                              }));
    OK(cudaFree(p));
    OK(cudaFree(out));
    return best;
}

static void host_copies()
{
    const size_t bytes = 1 << 30;
    void *pinned, *device;
    OK(cudaMallocHost(&pinned, bytes));
    OK(cudaMalloc(&device, bytes));
    memset(pinned, 1, bytes);
    printf("pinned host to device: %.1f GB/s\n",
           bytes / 1e6 / median_ms(5, [&] {
               OK(cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyHostToDevice));
           }));
    OK(cudaFreeHost(pinned));
    OK(cudaFree(device));
}

/* ---- launches ---- */

__global__ void empty()
{
}

static void launches()
{
    enum { N = 200 };
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaStreamCreate(&s));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < N; i++)
        empty<<<132, 256, 0, s>>>();
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    printf("a kernel in a graph: %.2f us\n", 1e3 / N * median_ms(9, [&] {
                                                 OK(cudaGraphLaunch(exec, s));
                                                 OK(cudaStreamSynchronize(s));
                                             }));
}

/* ---- conversions: instructions a cycle and multiprocessor ---- */

template <int KIND> __global__ void convert(unsigned n, unsigned *out)
{
    unsigned a = threadIdx.x, b = threadIdx.x * 3 + 1;
    for (unsigned i = 0; i < n; i++) {
#pragma unroll
        for (int j = 0; j < 16; j++) {
            if (KIND == 0) { /* two E4M3 to two halves */
#if __CUDA_ARCH__ >= 890
                unsigned h;
                asm volatile("{.reg .b16 s; mov.b32 {s, _}, %1; cvt.rn.f16x2.e4m3x2 %0, s;}"
                             : "=r"(h)
                             : "r"(a));
                a = h;
#endif
            } else if (KIND == 1) { /* a half to f32 */
                float f;
                asm volatile("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}"
                             : "=f"(f)
                             : "r"(a));
                a = __float_as_uint(f);
            } else { /* bytes into a mantissa */
                asm volatile("prmt.b32 %0, %0, %1, 0x7440;" : "+r"(a) : "r"(b));
            }
        }
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = a;
}

template <int KIND> static void rate(const char *name, int sms, double ghz)
{
    unsigned *out;
    const unsigned n = 2000, threads = 1024;
    OK(cudaMalloc(&out, (size_t)sms * 2 * threads * 4));
    double ms = median_ms(5, [&] { convert<KIND><<<sms * 2, threads>>>(n, out); });
    printf("%s: %.1f a cycle and multiprocessor\n", name,
           (double)n * 16 * threads * 2 / (ms * 1e-3) / (ghz * 1e9));
    OK(cudaFree(out));
}

/* ---- arithmetic at the edge of the subnormals ---- */

__device__ float result(int op, float a, float b, float c)
{
    return op == 0   ? __fmaf_rn(a, b, c)
           : op == 1 ? __fadd_rn(a, b)
           : op == 2 ? __fmul_rn(a, b)
           : op == 3 ? __fdiv_rn(a, b)
                     : __fsqrt_rn(fabsf(a));
}
__global__ void compute(int op, const float *in, float *out, unsigned n)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = result(op, in[3 * i], in[3 * i + 1], in[3 * i + 2]);
}

static uint64_t state = 88172645463325252u;
static uint32_t next()
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 16);
}
/* a random number of exponent e */
static float with_exponent(int e)
{
    uint32_t u = (next() & 0x807fffffu) | (uint32_t)(e + 127) << 23;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static int edges()
{
    const char *names[] = {"fma", "add", "mul", "div", "sqrt"};
    const unsigned n = 1 << 20;
    std::vector<float> in(3 * n), out(n);
    float *d_in, *d_out;
    int bad = 0;
    OK(cudaMalloc(&d_in, 12 * n));
    OK(cudaMalloc(&d_out, 4 * n));
    for (int op = 0; op < 5; op++) {
        for (unsigned i = 0; i < n; i++) {
            const int e = -(int)(next() % 30),
                      at = -127 + (int)(next() % 4); /* where results fall */
            float a = with_exponent(e), b, c = 0;
            if (op == 0)
                b = with_exponent(at - e),
                c = next() % 2 ? with_exponent(at < -126 ? -126 : at) : 0;
            else if (op == 1)
                a = with_exponent(-126 + (int)(next() % 3)),
                b = with_exponent(-126 + (int)(next() % 3));
            else if (op == 2)
                b = with_exponent(at - e);
            else if (op == 3)
                a = with_exponent(at + 60 < -126 ? -126 : at + 60),
                b = with_exponent(60 + (int)(next() % 3) - 1);
            else
                a = next() % 2 ? with_exponent(-126 + (int)(next() % 3)) : a, b = 0;
            in[3 * i] = a, in[3 * i + 1] = b, in[3 * i + 2] = c;
        }
        OK(cudaMemcpy(d_in, in.data(), 12 * n, cudaMemcpyHostToDevice));
        compute<<<n / 256, 256>>>(op, d_in, d_out, n);
        OK(cudaMemcpy(out.data(), d_out, 4 * n, cudaMemcpyDeviceToHost));
        const unsigned mode = _mm_getcsr();
        _mm_setcsr(0x9fc0);
        unsigned differ = 0, tiny = 0, first = n;
        for (unsigned i = 0; i < n; i++) {
            volatile float a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2], r;
            r = op == 0   ? __builtin_fmaf(a, b, c)
                : op == 1 ? a + b
                : op == 2 ? a * b
                : op == 3 ? a / b
                          : __builtin_sqrtf(__builtin_fabsf(a));
            float w = r;
            if (memcmp(&w, &out[i], 4) == 0)
                continue;
            /* zero here, the least normal number there: tininess is decided before or after
             * rounding */
            const float sum = __builtin_fabsf(w) + __builtin_fabsf(out[i]);
            if ((w == 0 || out[i] == 0) && sum == 0x1p-126f)
                tiny++;
            else if (differ++ == 0)
                first = i;
        }
        _mm_setcsr(mode);
        printf(
            "%s around 2^-126: %u of %u differ from the CPU, and %u by where tininess is decided",
            names[op], differ, n, tiny);
        if (differ)
            printf(", first %a %a %a: %a", in[3 * first], in[3 * first + 1], in[3 * first + 2],
                   out[first]);
        putchar('\n');
        bad += differ != 0;
    }
    return bad;
}

int main()
{
    cudaDeviceProp prop;
    int khz;
    OK(cudaGetDeviceProperties(&prop, 0));
    OK(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0));
    printf("%.1f\n", read_speed(prop.multiProcessorCount));
    printf("%s, %d multiprocessors, %.2f GHz, %.0f GiB, L2 %.0f MiB\n", prop.name,
           prop.multiProcessorCount, khz * 1e-6, prop.totalGlobalMem / 1073741824.0,
           prop.l2CacheSize / 1048576.0);
    host_copies();
    launches();
    rate<0>("e4m3x2 to f16x2", prop.multiProcessorCount, khz * 1e-6);
    rate<1>("f16 to f32", prop.multiProcessorCount, khz * 1e-6);
    rate<2>("prmt", prop.multiProcessorCount, khz * 1e-6);
    return edges() != 0;
}
