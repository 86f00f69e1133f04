/* What happens between the matrices: rows of the residual stream, norms, RoPE, the KV cache. */
#pragma once
#include "cuda_args.h"
#include "gpu.h"

/* Column k of a panel's row as f32. */
static __device__ __forceinline__ float embedded(const void *panels, unsigned dtype, unsigned panel_words,
                                                 unsigned row, unsigned k)
{
    const uint32_t *panel = (const uint32_t *)panels + (size_t)(row / 16) * panel_words * 16 + row % 16;
    if (dtype == 1)
        return __uint_as_float(panel[k * 16]);
    const uint32_t w = panel[k / 2 * 16];
    float v[2];
    if (dtype == 2)
        half2_to_float(w, v);
    else
        v[0] = __uint_as_float(w << 16), v[1] = __uint_as_float(w & 0xffff0000u);
    return v[k % 2];
}

/* All roots of a column, folded in tree order; then scale, bias, the residual. */
static __device__ __forceinline__ float reduced(const cuda_residual &a, unsigned m, unsigned i)
{
    float stack[CUDA_STACK];
    unsigned depth = 0;
    for (unsigned n = 0; n < a.n_roots; n++) {
        float v = a.roots[(size_t)n * a.root_stride + (size_t)m * a.stride + i];
        for (unsigned k = a.merges[n]; k; k--)
            v = __fadd_rn(stack[--depth], v);
        stack[depth++] = v;
    }
    float v = stack[0];
    v = a.scale ? __fmul_rn(v, a.scale[i]) : v;
    v = a.bias ? __fadd_rn(v, a.bias[i]) : v;
    return __fadd_rn(a.residual[(size_t)m * a.stride + i], v);
}

/* A CTA has a row. Shared memory: hidden + 1 floats. */
static __device__ __forceinline__ void residual_norm(const cuda_residual &a)
{
    shared_cursor cursor = shared_begin();
    float *row = shared_take<float>(cursor, a.hidden);
    float *factor = shared_take<float>(cursor, 1);
    launch_dependents();
    wait_previous();
    const unsigned m = blockIdx.x;
    if (m >= a.step->n_rows)
        return;
    const unsigned token = a.step->token[m] - a.first_token; /* below 0: beyond the last */
    for (unsigned i = threadIdx.x; i < a.hidden; i += CUDA_THREADS) {
        float v;
        if (a.embed)
            v = token < a.tokens ? embedded(a.embed, a.embed_dtype, a.panel_words, token, i) : 0.0f;
        else
            v = reduced(a, m, i);
        a.residual[(size_t)m * a.stride + i] = row[i] = v;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        const float f = norm_factor(row, a.hidden, a.eps);
        if (threadIdx.x == 0)
            *factor = f;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < a.hidden; i += CUDA_THREADS) {
        const float y = __fmul_rn(__fmul_rn(row[i], *factor), a.norm[i]);
        a.normed[(size_t)m * a.stride + i] = a.round ? bf16_value(y) : y;
    }
}

static __device__ __forceinline__ uint32_t kv_bits(unsigned dtype, float v)
{
    if (dtype == 1)
        return __float_as_uint(v);
    if (dtype == 2)
        return float_to_half(v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v);
    return __float_as_uint(bf16_value(v)) >> 16;
}

/* Element (row, k) of a panel of 16 rows and `columns` columns, number `panel` of a page. */
static __device__ __forceinline__ void kv_put(unsigned char *page, unsigned dtype, unsigned panel,
                                              unsigned row, unsigned k, unsigned columns, float v)
{
    if (dtype == 1)
        ((float *)page)[((size_t)panel * columns + k) * 16 + row] = v;
    else
        ((uint16_t *)page)[((size_t)panel * columns + k / 2 * 2) * 16 + row * 2 + k % 2] =
            (uint16_t)kv_bits(dtype, v);
}

/* A warp has a head of a row: norm, RoPE; q to where attention reads it, k and v into the cache.
 * Shared memory: a head for each warp. */
static __device__ __forceinline__ void rope_append(const cuda_rope &a)
{
    shared_cursor cursor = shared_begin();
    float *heads = shared_take<float>(cursor, (size_t)CUDA_THREADS / 32 * a.head_dim);
    launch_dependents();
    wait_previous();
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, d = a.head_dim, half = d / 2;
    const unsigned item = blockIdx.x * (CUDA_THREADS / 32) + warp, all = a.heads + a.kv_heads;
    const unsigned m = item / all, head = item % all;
    if (m >= a.step->n_rows)
        return;
    float *x = heads + (size_t)warp * d;
    const unsigned kv_head = head - a.heads, p = a.step->position[m];
    const bool query = head < a.heads;
    const float *from = query ? a.q + (size_t)m * a.q_stride + (size_t)head * d
                              : a.k + (size_t)m * a.kv_stride + (size_t)kv_head * d;
    const float *norm = query ? a.q_norm : a.k_norm;
    for (unsigned i = lane; i < d; i += 32)
        x[i] = from[i];
    __syncwarp();
    if (norm) {
        const float f = norm_factor(x, d, a.eps);
        __syncwarp();
        for (unsigned i = lane; i < d; i += 32)
            x[i] = __fmul_rn(__fmul_rn(x[i], f), norm[i]);
        __syncwarp();
    }
    for (unsigned i = lane; i < half; i += 32) {
        const float c = a.cos[(size_t)p * half + i], s = a.sin[(size_t)p * half + i];
        const float u = x[i], v = x[i + half];
        x[i] = __fmaf_rn(u, c, -__fmul_rn(v, s));
        x[i + half] = __fmaf_rn(v, c, __fmul_rn(u, s));
    }
    __syncwarp();
    if (query) {
        float *to = a.queries + ((size_t)m * a.heads + head) * a.head_pad;
        for (unsigned i = lane; i < d; i += 32)
            to[i] = a.round ? bf16_value(x[i]) : x[i];
        return;
    }
    const uint32_t *pages = (const uint32_t *)(a.step + 1);
    const unsigned page = pages[(size_t)m * a.chunks_max + p / CUDA_CHUNK], at = p % CUDA_CHUNK;
    unsigned char *k = a.pages + ((size_t)page * a.kv_heads + kv_head) * 2 * a.page_bytes;
    const float *v = a.v + (size_t)m * a.kv_stride + (size_t)kv_head * d;
    for (unsigned i = lane; i < d; i += 32) {
        kv_put(k, a.kv_dtype, at / 16, at % 16, i, a.head_pad, x[i]);
        kv_put(k + a.page_bytes, a.kv_dtype, i / 16, i % 16, at, CUDA_CHUNK, v[i]);
    }
}
