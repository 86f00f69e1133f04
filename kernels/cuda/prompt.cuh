/* Between the products of a fast prompt (product.cuh): RoPE, attention with an online softmax, of
 * rows of one sequence at ascending positions. Section 12 of docs/numerics.md says what holds.
 */
#pragma once
#include "product.cuh"

/* ---- RoPE and the KV cache ---- */

/* A warp has a head of a row, as in rope_append. */
static __device__ __forceinline__ void prompt_rope(const cuda_prompt_rope &a)
{
    shared_cursor cursor = shared_begin();
    float *heads = shared_take<float>(cursor, (size_t)WARPS * a.rope.head_dim);
    launch_dependents();
    wait_previous();
    const unsigned warp = threadIdx.x / 32, all = a.rope.heads + a.rope.kv_heads;
    const unsigned item = blockIdx.x * WARPS + warp, m = item / all, head = item % all;
    if (m >= a.n_rows)
        return;
    const unsigned p = a.position + m;
    float *x = heads + (size_t)warp * a.rope.head_dim;
    if (head < a.rope.heads)
        put_query(a.rope, p, m, head, x);
    else
        append_to(a.rope, a.pages[p / CUDA_CHUNK], p, m, head - a.rope.heads, x);
}

/* ---- attention ---- */

enum { KEYS = 32 }; /* positions at a time, two panels */

/* A warp's 16 query rows of a head: of lane (g, t) rows g and g + 8. Of 16 positions of a panel of
 * K, tile i of the two has position 2c + i in column c, so that a lane holds the scores of
 * positions 4t .. 4t + 3, which are the pairs of P that it is asked for. Components of V likewise.
 * A tile of positions that a row does not see changes nothing of it, to the bit: which rows share a
 * warp does not matter. */
template <class A, int PAD> struct query_tile {
    const cuda_prompt_attention &a;
    unsigned lane, g, t;
    unsigned position[2]; /* of the rows */
    uint32_t q[PAD / 16][4];
    float o[PAD / 16][2][4];
    float top[2], sum[2]; /* of the rows; sum: this lane's part */

    __device__ __forceinline__ query_tile(const cuda_prompt_attention &args, unsigned first,
                                          unsigned head)
        : a(args), lane(threadIdx.x % 32), g(lane / 4), t(lane % 4)
    {
        const float *from[2];
        for (unsigned i = 0; i < 2; i++) {
            const unsigned m = first + g + 8 * i, row = m < a.n_rows ? m : a.n_rows - 1;
            from[i] = a.queries + ((size_t)row * a.heads + head) * a.head_pad + t * 2;
            position[i] = a.position + row;
            top[i] = -__uint_as_float(0x7f800000);
            sum[i] = 0.0f;
        }
#pragma unroll
        for (int s = 0; s < PAD / 16; s++) {
            const bool there = s * 16u < a.head_pad;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *x = from[i % 2] + s * 16 + i / 2 * 8;
                q[s][i] = there ? A::pack(x[0], x[1]) : 0;
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
                o[s][i / 4][i % 4] = 0.0f;
        }
    }

    /* scores of 32 positions: panel, tile, and in it (row, column) as mma leaves them */
    __device__ __forceinline__ void score(const unsigned char *k, float (*s)[2][4]) const
    {
#pragma unroll
        for (int i = 0; i < 16; i++)
            s[i / 8][i / 4 % 2][i % 4] = 0.0f;
        const size_t panel = (size_t)a.head_pad * 32;
#pragma unroll
        for (int c = 0; c < PAD / 16; c++) {
            if (c * 16u >= a.head_pad)
                break;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const unsigned char *at = k + j * panel + (c * 8 + t) * 64 + g * 8;
                const uint2 low = *(const uint2 *)at, high = *(const uint2 *)(at + 4 * 64);
                A::mma(s[j][0], q[c], low.x, high.x);
                A::mma(s[j][1], q[c], low.y, high.y);
            }
        }
    }

    /* Scores to weights of softmax, less what is added later; the weights so far follow a new
     * maximum. */
    __device__ __forceinline__ void weigh(unsigned first, float scale, float (*s)[2][4])
    {
        const float none = -__uint_as_float(0x7f800000);
#pragma unroll
        for (int row = 0; row < 2; row++) {
            const unsigned last = position[row];
            float most = none, added = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float &v = s[i / 4][i / 2 % 2][row * 2 + i % 2];
                const unsigned p = first + i / 4 * 16 + t * 4 + i % 2 * 2 + i / 2 % 2;
                v = p <= last && (!a.window || p + a.window > last) ? __fmul_rn(v, scale) : none;
                most = max_of(most, v);
            }
            most = max_of(most, __shfl_xor_sync(~0u, most, 1));
            most = max_of(most, __shfl_xor_sync(~0u, most, 2));
            most = max_of(top[row], most);
            const float factor = most == top[row] ? 1.0f : exp2_approx(__fsub_rn(top[row], most));
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float &v = s[i / 4][i / 2 % 2][row * 2 + i % 2];
                v = v == none ? 0.0f : exp2_approx(__fsub_rn(v, most));
                added = __fadd_rn(added, v);
            }
            top[row] = most;
            sum[row] = __fmaf_rn(sum[row], factor, added);
#pragma unroll
            for (int i = 0; i < PAD / 16 * 4; i++) {
                float &v = o[i / 4][i / 2 % 2][row * 2 + i % 2];
                v = __fmul_rn(v, factor);
            }
        }
    }

    __device__ __forceinline__ void add(const unsigned char *v, const float (*s)[2][4])
    {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const uint32_t p[4] = {A::pack(s[j][0][0], s[j][1][0]), A::pack(s[j][0][2], s[j][1][2]),
                                   A::pack(s[j][0][1], s[j][1][1]),
                                   A::pack(s[j][0][3], s[j][1][3])};
#pragma unroll
            for (int c = 0; c < PAD / 16; c++) {
                if (c * 16u >= a.head_pad)
                    break;
                const unsigned char *at =
                    v + (size_t)c * CUDA_CHUNK * 32 + (j * 8 + t * 2) * 64 + g * 8;
                const uint2 low = *(const uint2 *)at, high = *(const uint2 *)(at + 64);
                A::mma(o[c][0], p, low.x, high.x);
                A::mma(o[c][1], p, low.y, high.y);
            }
        }
    }

    __device__ __forceinline__ void leave(unsigned first, unsigned head)
    {
        const uint32_t *columns = a.columns + (size_t)head * a.head_dim;
#pragma unroll
        for (int row = 0; row < 2; row++) {
            float all = __fadd_rn(sum[row], __shfl_xor_sync(~0u, sum[row], 1));
            all = __fadd_rn(all, __shfl_xor_sync(~0u, all, 2));
            const unsigned m = first + g + 8 * row;
            if (m >= a.n_rows)
                continue;
            float *out = a.out + (size_t)m * a.out_stride;
#pragma unroll
            for (int i = 0; i < PAD / 16 * 4; i++) {
                const unsigned c = i / 4 * 16 + t * 4 + i % 2 * 2 + i / 2 % 2;
                const float v = __fdiv_rn(o[i / 4][i / 2 % 2][row * 2 + i % 2], all);
                if (c < a.head_dim)
                    out[columns[c]] = a.round ? bf16_value(v) : v;
            }
        }
    }
};

/* A CTA has 64 query rows of a head; the heads of a KV head are neighbours. */
template <class A, int PAD>
static __device__ __forceinline__ void prompt_attention(const cuda_prompt_attention &a)
{
    launch_dependents();
    wait_previous();
    const unsigned head = blockIdx.x % a.heads,
                   first = (blockIdx.x / a.heads * CUDA_QUERY_WARPS + threadIdx.x / 32) * 16;
    if (first >= a.n_rows)
        return;
    const unsigned kv_head = (head + a.skip) / a.group,
                   last = a.position + (first + 15 < a.n_rows ? first + 15 : a.n_rows - 1);
    const unsigned lowest = a.position + first + 1;
    const float scale = __fmul_rn(a.scale, 0x1.715476p+0f); /* log2(e) */
    query_tile<A, PAD> tile(a, first, head);
    for (unsigned p = a.window && lowest > a.window ? (lowest - a.window) / KEYS * KEYS : 0;
         p <= last; p += KEYS) {
        const unsigned page = a.pages[p / CUDA_CHUNK], at = p % CUDA_CHUNK;
        const unsigned char *k = a.kv + ((size_t)page * a.kv_heads + kv_head) * 2 * a.page_bytes;
        float s[2][2][4];
        tile.score(k + (size_t)at * a.head_pad * 2, s);
        tile.weigh(p, scale, s);
        tile.add(k + a.page_bytes + (size_t)at * 32, s);
    }
    tile.leave(first, head);
}
