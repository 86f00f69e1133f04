/* What happens between the matrices: rows of the residual stream, norms, RoPE, the KV cache. */
#pragma once
#include "cuda_args.h"
#include "gpu.h"

/* Column k of a panel's row as f32. */
static __device__ __forceinline__ float panel_value(const void *panels, unsigned dtype,
                                                    unsigned panel_words, unsigned row, unsigned k)
{
    const uint32_t *panel =
        (const uint32_t *)panels + (size_t)(row / 16) * panel_words * 16 + row % 16;
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

/* Column k of row m, which is a token's, from the rank that has it: of its panels, or where they
 * are not reached from what its GPU has given; 0 where neither is. */
static __device__ __forceinline__ float embedded(const cuda_residual &a, unsigned m, unsigned k)
{
    const unsigned token = a.tokens[m];
    for (unsigned r = 0; r < a.n_embed; r++) {
        const cuda_embed rank = a.embed[r];
        if (token - rank.first >= rank.count) /* below 0: beyond the last */
            continue;
        if (a.gathered)
            return a.gathered[((size_t)rank.gpu * a.gathered_rows + m) * a.stride + k];
        return rank.panels
                   ? panel_value(rank.panels, a.embed_dtype, a.panel_words, token - rank.first, k)
                   : 0.0f;
    }
    return 0.0f;
}

/* ---- the inbox ---- */

#ifdef TP_TEST_INBOXES
enum { INBOXES = TP_TEST_INBOXES }; /* two are one too few: the tests must see it */
#else
enum { INBOXES = CUDA_INBOXES };
#endif

static __device__ __forceinline__ float *inbox_of(const cuda_inbox &inbox, unsigned gpu,
                                                  unsigned turn)
{
    return inbox.at[gpu] + (size_t)(turn % INBOXES) * inbox.floats;
}

/* A root that has not come yet. In vain: said to the host, and all others stop waiting. */
static __device__ __noinline__ float wait_root(const cuda_residual &a, const float *at,
                                               unsigned root, bool &stopped)
{
    enum { FIRST = 16, TURNS = 1024 }; /* between questions to the host's memory, which is far */
    const unsigned long long begin = clock_nanoseconds();
    for (unsigned turn = 1; !stopped; turn++) {
        yield_warp();
        const float v = load_relaxed_system(at);
        if (__float_as_uint(v) != CUDA_EMPTY)
            return v;
        if (turn != FIRST && turn % TURNS)
            continue;
        stopped = load_word_system(&a.watch->stop);
        if (stopped || clock_nanoseconds() - begin <= a.deadline)
            continue;
        store_word_system(&a.watch->missing[a.gpu], 1 + root * 2 + a.inbox.index % 2);
        store_word_system(&a.watch->stop, 1);
    }
    return 0.0f;
}

/* All roots of a column, folded in tree order; then scale, bias, the residual. stopped: nobody
 * waits any more. */
static __device__ __forceinline__ float reduced(const cuda_residual &a, const float *inbox,
                                                unsigned m, unsigned i, bool &stopped)
{
    enum { AT_ONCE = 8 }; /* loads on their way, before the first is looked at */
    float stack[CUDA_STACK];
    unsigned depth = 0;
    for (unsigned first = 0; first < a.n_roots; first += AT_ONCE) {
        const unsigned count = a.n_roots - first < AT_ONCE ? a.n_roots - first : +AT_ONCE;
        cuda_root roots[AT_ONCE];
        float values[AT_ONCE];
#pragma unroll
        for (unsigned n = 0; n < AT_ONCE; n++) {
            roots[n] = a.roots[n < count ? first + n : first];
            const float *at =
                inbox + (size_t)roots[n].slot * a.inbox.root_stride + (size_t)m * a.stride + i;
            values[n] = n >= count ? 0.0f : a.inbox.n > 1 ? load_relaxed_system(at) : *at;
        }
#pragma unroll
        for (unsigned n = 0; n < AT_ONCE; n++) {
            if (n >= count)
                break;
            float v = values[n];
            if (a.inbox.n > 1 && __float_as_uint(v) == CUDA_EMPTY)
                v = wait_root(a,
                              inbox + (size_t)roots[n].slot * a.inbox.root_stride +
                                  (size_t)m * a.stride + i,
                              first + n, stopped);
            for (unsigned k = roots[n].merges; k; k--)
                v = __fadd_rn(stack[--depth], v);
            stack[depth++] = v;
        }
    }
    float v = stack[0];
    v = a.scale ? __fmul_rn(v, a.scale[i]) : v;
    v = a.bias ? __fadd_rn(v, a.bias[i]) : v;
    return __fadd_rn(a.residual[(size_t)m * a.stride + i], v);
}

/* The inbox that the reduction before has read, for the next but one: a peer puts something there
 * after it has got what this GPU puts into the next. By all CTAs. For that every GPU puts something
 * into every inbox, and all wait for it. */
static __device__ __forceinline__ void keep_inboxes(const cuda_residual &a)
{
    if (a.inbox.n < 2 || !a.keeps)
        return;
    const unsigned turn = a.step->turn + a.inbox.index;
    const unsigned words = a.inbox.floats - CUDA_GPUS, each = a.step->empty_rows * a.stride;
    float *inbox = inbox_of(a.inbox, 0, turn + INBOXES - 1);
    for (unsigned n = blockIdx.x * CUDA_THREADS + threadIdx.x;
         n < words / a.inbox.root_stride * each; n += gridDim.x * CUDA_THREADS)
        store_relaxed_system(inbox + (size_t)(n / each) * a.inbox.root_stride + n % each,
                             __uint_as_float(CUDA_EMPTY));
    if (blockIdx.x || threadIdx.x)
        return;
    for (unsigned g = 0; g < CUDA_GPUS; g++)
        store_relaxed_system(inbox + words + g, __uint_as_float(CUDA_EMPTY));
    for (unsigned g = 0; a.inbox.absent >> a.gpu & 1 && g < a.inbox.n; g++)
        store_relaxed_system(inbox_of(a.inbox, g, turn) + words + a.gpu, 0.0f);
    bool stopped = false;
    for (unsigned g = 0; g < a.inbox.n; g++)
        if (a.inbox.absent >> g & 1)
            wait_root(a, inbox_of(a.inbox, 0, turn) + words + g, a.n_roots + g, stopped);
}

/* Element i of row m, as it is before the norm. */
static __device__ __forceinline__ float entering(const cuda_residual &a, const float *inbox,
                                                 unsigned m, unsigned i, bool &stopped)
{
    if (!a.embed)
        return reduced(a, inbox, m, i, stopped);
    return embedded(a, m, i);
}

/* place of an element in a row of shared memory that dots read */
static __device__ __forceinline__ unsigned padded(unsigned j)
{
    return j / BLOCK * XPAD + j % BLOCK;
}

/* 1 / sqrt(mean + eps) of n values, by a warp. PAD: they lie as dots read them. */
template <bool PAD>
static __device__ __forceinline__ float norm_factor(const float *x, unsigned n, float eps)
{
    float chain = 0.0f;
#pragma unroll 8
    for (unsigned i = threadIdx.x % 16; i < n; i += 16) {
        const float v = x[PAD ? padded(i) : i];
        chain = __fmaf_rn(v, v, chain);
    }
    chain = fold_chains(chain);
    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(chain, (float)n), eps)));
}

/* M rows, normed, by all threads of a CTA: to x, [M][blocks][XPAD] in shared memory. CTA 0 leaves
 * the residual stream. factors: [M] in shared memory. */
template <int M>
static __device__ void norm_rows(const cuda_residual &a, float *x, unsigned blocks, float *factors)
{
    const unsigned width = blocks * BLOCK, rows = a.step->n_rows;
    const float *inbox = inbox_of(a.inbox, 0, a.step->turn + a.inbox.index);
    bool stopped = false;
    keep_inboxes(a);
    for (unsigned n = threadIdx.x; n < M * width; n += CUDA_THREADS) {
        const unsigned m = n / width, i = n % width;
        const float v = m < rows && i < a.hidden ? entering(a, inbox, m, i, stopped) : 0.0f;
        x[m * blocks * XPAD + padded(i)] = v;
        if (blockIdx.x == 0 && m < rows && i < a.hidden)
            a.residual_out[(size_t)m * a.stride + i] = v;
    }
    __syncthreads();
    for (unsigned m = threadIdx.x / 32; m < M; m += CUDA_THREADS / 32) {
        const float f = norm_factor<true>(x + m * blocks * XPAD, a.hidden, a.eps);
        if (threadIdx.x % 32 == 0)
            factors[m] = f;
    }
    __syncthreads();
    for (unsigned n = threadIdx.x; n < M * width; n += CUDA_THREADS) {
        const unsigned m = n / width, i = n % width;
        float *at = x + m * blocks * XPAD + padded(i);
        const float y = i < a.hidden ? __fmul_rn(__fmul_rn(*at, factors[m]), a.norm[i]) : 0.0f;
        *at = a.round ? bf16_value(y) : y;
    }
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
    keep_inboxes(a);
    if (m >= a.step->n_rows)
        return;
    const float *inbox = inbox_of(a.inbox, 0, a.step->turn + a.inbox.index);
    bool stopped = false;
    for (unsigned i = threadIdx.x; i < a.hidden; i += CUDA_THREADS)
        a.residual_out[(size_t)m * a.stride + i] = row[i] = entering(a, inbox, m, i, stopped);
    __syncthreads();
    if (threadIdx.x < 32) {
        const float f = norm_factor<false>(row, a.hidden, a.eps);
        if (threadIdx.x == 0)
            *factor = f;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < a.hidden; i += CUDA_THREADS) {
        const float y = __fmul_rn(__fmul_rn(row[i], *factor), a.norm[i]);
        a.normed[(size_t)m * a.stride + i] = a.round ? bf16_value(y) : y;
    }
}

/* ---- RoPE and the KV cache ---- */

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

/* A head by a warp: norm, RoPE; in x, [head_dim] of shared memory. */
static __device__ __forceinline__ void rope_head(const cuda_rope &a, const float *from,
                                                 const float *norm, unsigned position, float *x)
{
    const unsigned lane = threadIdx.x % 32, d = a.head_dim, half = d / 2;
    for (unsigned i = lane; i < d; i += 32)
        x[i] = from[i];
    __syncwarp();
    if (norm) {
        const float f = norm_factor<false>(x, d, a.eps);
        __syncwarp();
        for (unsigned i = lane; i < d; i += 32)
            x[i] = __fmul_rn(__fmul_rn(x[i], f), norm[i]);
        __syncwarp();
    }
    for (unsigned i = lane; i < half; i += 32) {
        const float c = a.cos[(size_t)position * half + i], s = a.sin[(size_t)position * half + i];
        const float u = x[i], v = x[i + half];
        x[i] = __fmaf_rn(u, c, -__fmul_rn(v, s));
        x[i + half] = __fmaf_rn(v, c, __fmul_rn(u, s));
    }
    __syncwarp();
}

static __device__ __forceinline__ const float *query_from(const cuda_rope &a, unsigned m,
                                                          unsigned head)
{
    return a.q + (size_t)m * a.q_stride + (size_t)head * a.head_dim;
}

/* k and v of row m, at position p, into its page, by a warp; x as above. */
static __device__ __forceinline__ void append_to(const cuda_rope &a, unsigned page, unsigned p,
                                                 unsigned m, unsigned kv_head, float *x)
{
    const unsigned at = p % CUDA_CHUNK;
    const size_t from = (size_t)m * a.kv_stride + (size_t)kv_head * a.head_dim;
    unsigned char *k = a.pages + ((size_t)page * a.kv_heads + kv_head) * 2 * a.page_bytes;
    rope_head(a, a.k + from, a.k_norm, p, x);
    for (unsigned i = threadIdx.x % 32; i < a.head_dim; i += 32) {
        kv_put(k, a.kv_dtype, at / 16, at % 16, i, a.head_pad, x[i]);
        kv_put(k + a.page_bytes, a.kv_dtype, i / 16, i % 16, at, CUDA_CHUNK, a.v[from + i]);
    }
}

static __device__ __forceinline__ void append(const cuda_rope &a, unsigned m, unsigned kv_head,
                                              float *x)
{
    const unsigned p = a.step->position[m];
    const uint32_t *pages = (const uint32_t *)(a.step + 1);
    append_to(a, pages[(size_t)m * a.chunks_max + p / CUDA_CHUNK], p, m, kv_head, x);
}

static __device__ __forceinline__ void put_query(const cuda_rope &a, unsigned p, unsigned m,
                                                 unsigned head, float *x)
{
    rope_head(a, query_from(a, m, head), a.q_norm, p, x);
    float *to = a.queries + ((size_t)m * a.heads + head) * a.head_pad;
    for (unsigned i = threadIdx.x % 32; i < a.head_dim; i += 32)
        to[i] = a.round ? bf16_value(x[i]) : x[i];
}

/* A warp has a head of a row; q to where attention reads it, k and v into the cache. Shared
 * memory: a head for each warp. */
static __device__ __forceinline__ void rope_append(const cuda_rope &a)
{
    shared_cursor cursor = shared_begin();
    float *heads = shared_take<float>(cursor, (size_t)CUDA_THREADS / 32 * a.head_dim);
    launch_dependents();
    wait_previous();
    const unsigned warp = threadIdx.x / 32, all = a.heads + a.kv_heads;
    const unsigned item = blockIdx.x * (CUDA_THREADS / 32) + warp, m = item / all,
                   head = item % all;
    if (m >= a.step->n_rows)
        return;
    float *x = heads + (size_t)warp * a.head_dim;
    if (head >= a.heads)
        return append(a, m, head - a.heads, x);
    put_query(a, a.step->position[m], m, head, x);
}
