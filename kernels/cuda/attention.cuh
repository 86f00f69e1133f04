/* Attention of docs/numerics.md section 6: a CTA takes a chunk of 256 positions for TILE query
 * heads of one KV head of a row; the CTA that ends the last chunk of those heads joins all in
 * ascending order. K and V are panels like weights, so both dots are lane_block's.
 */
#pragma once
#include "dot.cuh"

enum { CHUNK_BLOCKS = CUDA_CHUNK / BLOCK };

/* A block of a panel in memory, M rows of x. */
template <class T, int M>
static __device__ __forceinline__ void block_in_memory(const uint4 *words, const float *x,
                                                       unsigned x_row,
                                                       lane_block<T, M, shape<T>::WORDS> &chains)
{
    const float none[4] = {0, 0, 0, 0};
    uint4 v[shape<T>::WORDS];
#pragma unroll
    for (int s = 0; s < shape<T>::WORDS; s++)
        v[s] = words[s * 4];
    chains.walk(v, 0, x, x_row, none, [](uint4 &, int) {});
}

struct attention_item {
    unsigned m, kv_head, tile, head, n_heads; /* query heads [head, head + n_heads) */
    unsigned position, low, chunk, first_chunk, n_chunks;
};

template <class T, int TILE> struct attention_work {
    const cuda_attention *a; /* of the rank of the item in work */
    unsigned blocks, stride;
    float *q;      /* [TILE][blocks][XPAD] */
    float *scores; /* [256][stride] block values of positions: [TILE][blocks] */
    float *e;      /* [TILE][CHUNK_BLOCKS][XPAD] */
    float *sums;   /* [head_pad / 16][TILE][CHUNK_BLOCKS][16] */
    float *stats;  /* [TILE][2] maximum, sum */
    float *heads;  /* [TILE + 1][head_dim] */
    unsigned *last;

    __device__ attention_work(const cuda_attention *first) : a(first)
    {
        shared_cursor cursor = shared_begin();
        blocks = a->head_pad / BLOCK;
        stride = TILE * blocks + 1;
        q = shared_take<float>(cursor, (size_t)TILE * blocks * XPAD);
        scores = shared_take<float>(cursor, (size_t)CUDA_CHUNK * stride);
        e = shared_take<float>(cursor, (size_t)TILE * CHUNK_BLOCKS * XPAD);
        sums = shared_take<float>(cursor, (size_t)blocks * 2 * TILE * CHUNK_BLOCKS * ROWS);
        stats = shared_take<float>(cursor, 2 * TILE);
        last = shared_take<unsigned>(cursor, 1);
        heads = shared_take<float>(cursor, a->queries ? 0 : (size_t)(TILE + 1) * a->head_dim);
    }

    /* Items: rows, KV heads, tiles of query heads, chunks. false: this row has no such chunk. */
    __device__ bool item_of(unsigned n, attention_item &i) const
    {
        const unsigned tiles = (a->group + TILE - 1) / TILE;
        i.kv_head = n % a->kv_heads, n /= a->kv_heads;
        i.tile = n % tiles, n /= tiles;
        i.m = n % a->step->n_rows, n /= a->step->n_rows;
        const unsigned begin = i.kv_head * a->group, end = begin + a->group;
        const unsigned from = begin > a->skip ? begin - a->skip : 0,
                       top = end - a->skip < a->heads ? end - a->skip : a->heads;
        i.head = from + i.tile * TILE;
        i.n_heads = i.head < top ? (top - i.head < TILE ? top - i.head : TILE) : 0;
        i.position = a->step->position[i.m];
        i.low = a->window && i.position + 1 > a->window ? i.position + 1 - a->window : 0;
        i.first_chunk = i.low / CUDA_CHUNK;
        i.n_chunks = i.position / CUDA_CHUNK - i.first_chunk + 1;
        i.chunk = i.first_chunk + n;
        return i.n_heads && n < i.n_chunks;
    }

    __device__ void load_queries(const attention_item &i)
    {
        for (unsigned n = threadIdx.x; n < TILE * a->head_pad; n += CUDA_THREADS) {
            const unsigned h = n / a->head_pad, c = n % a->head_pad;
            q[h * blocks * XPAD + padded(c)] =
                h < i.n_heads ? a->queries[((size_t)i.m * a->heads + i.head + h) * a->head_pad + c]
                              : 0.0f;
        }
    }

    /* The same from what the matrix gave; and where the row's own position is in this chunk, its k
     * and v go into the page first. A warp has a head. */
    __device__ void make_queries(const attention_item &i)
    {
        const unsigned lane = threadIdx.x % 32;
        for (unsigned h = threadIdx.x / 32; h <= TILE; h += WARPS) {
            float *x = heads + h * a->head_dim;
            if (h == TILE) {
                if (i.chunk == i.position / CUDA_CHUNK)
                    append(a->rope, i.m, i.kv_head, x);
                continue;
            }
            if (h < i.n_heads)
                rope_head(a->rope, query_from(a->rope, i.m, i.head + h), a->rope.q_norm, i.position,
                          x);
            for (unsigned c = lane; c < a->head_pad; c += 32) {
                const float v = h < i.n_heads && c < a->head_dim ? x[c] : 0.0f;
                q[h * blocks * XPAD + padded(c)] = a->round ? bf16_value(v) : v;
            }
        }
    }

    /* Dots of x [TILE][n_blocks][XPAD] with n_panels panels, block by block: put(panel, block,
     * head, row, value). */
    template <class Put>
    __device__ __forceinline__ void dot_panels(const uint4 *words, unsigned n_panels,
                                               unsigned n_blocks, const float *x, Put put)
    {
        const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4;
        for (unsigned n = warp * GROUPS + lane / 4; n < n_panels * n_blocks; n += WARPS * GROUPS) {
            const unsigned panel = n / n_blocks, block = n % n_blocks;
            lane_block<T, TILE, shape<T>::WORDS> chains;
            block_in_memory<T, TILE>(words + (size_t)n * shape<T>::WORDS * 4 + quad,
                                     x + block * XPAD, n_blocks * XPAD, chains);
            for (int h = 0; h < TILE; h++)
                for (int r = 0; r < 4; r++)
                    put(panel, block, h, quad * 4 + r, chains.value(h, r));
        }
    }

    __device__ void dot_keys(const uint4 *k) /* a panel has 16 positions */
    {
        dot_panels(k, CUDA_CHUNK / ROWS, blocks, q,
                   [&](unsigned panel, unsigned block, unsigned h, unsigned r, float v) {
                       scores[(panel * ROWS + r) * stride + h * blocks + block] = v;
                   });
    }

    __device__ void add_scores()
    {
        for (unsigned n = threadIdx.x; n < TILE * CUDA_CHUNK; n += CUDA_THREADS) {
            const unsigned h = n / CUDA_CHUNK, j = n % CUDA_CHUNK;
            float acc = 0.0f;
            for (unsigned b = 0; b < blocks; b++)
                acc = __fadd_rn(acc, scores[j * stride + h * blocks + b]);
            e[h * CHUNK_BLOCKS * XPAD + padded(j)] = __fmul_rn(__fadd_rn(acc, 0.0f), a->scale);
        }
    }

    /* A warp has a head: the maximum, exp, the sum of the chunk. */
    __device__ void softmax(unsigned begin, unsigned end)
    {
        const unsigned lane = threadIdx.x % 32;
        for (unsigned h = threadIdx.x / 32; h < TILE; h += WARPS) {
            float *s = e + h * CHUNK_BLOCKS * XPAD, top = -__uint_as_float(0x7f800000);
            for (unsigned j = lane; j < CUDA_CHUNK; j += 32)
                top = j >= begin && j <= end ? max_of(top, s[padded(j)]) : top;
            for (int d = 16; d; d /= 2)
                top = max_of(top, __shfl_xor_sync(~0u, top, d));
            for (unsigned j = lane; j < CUDA_CHUNK; j += 32)
                s[padded(j)] =
                    j >= begin && j <= end ? exp_value(__fsub_rn(s[padded(j)], top)) : 0.0f;
            __syncwarp();
            float chain = 0.0f;
            for (unsigned j = lane % 16; j < CUDA_CHUNK; j += 16)
                chain = __fadd_rn(chain, s[padded(j)]);
            chain = fold_chains(chain);
            __syncwarp();
            if (a->round)
                for (unsigned j = lane; j < CUDA_CHUNK; j += 32)
                    s[padded(j)] = bf16_value(s[padded(j)]);
            if (lane == 0)
                stats[2 * h] = top, stats[2 * h + 1] = chain;
        }
    }

    __device__ void dot_values(const uint4 *v) /* a panel has 16 components */
    {
        dot_panels(v, a->head_pad / ROWS, CHUNK_BLOCKS, e,
                   [&](unsigned panel, unsigned block, unsigned h, unsigned r, float value) {
                       sums[((panel * TILE + h) * CHUNK_BLOCKS + block) * ROWS + r] = value;
                   });
    }

    __device__ float *partial_of(const attention_item &i, unsigned h, unsigned chunk) const
    {
        return a->partial +
               (((size_t)i.m * a->heads + i.head + h) * a->chunks_max + chunk) * (a->head_pad + 2);
    }

    __device__ void leave(const attention_item &i)
    {
        for (unsigned n = threadIdx.x; n < i.n_heads * a->head_pad; n += CUDA_THREADS) {
            const unsigned h = n / a->head_pad, d = n % a->head_pad;
            float acc = 0.0f;
            for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
                acc = __fadd_rn(acc,
                                sums[((d / ROWS * TILE + h) * CHUNK_BLOCKS + b) * ROWS + d % ROWS]);
            partial_of(i, h, i.chunk - i.first_chunk)[d] = __fadd_rn(acc, 0.0f);
        }
        for (unsigned n = threadIdx.x; n < i.n_heads * 2; n += CUDA_THREADS)
            partial_of(i, n / 2, i.chunk - i.first_chunk)[a->head_pad + n % 2] = stats[n];
    }

    /* true for the CTA that is the last of these heads */
    __device__ bool is_last(const attention_item &i)
    {
        const unsigned tiles = (a->group + TILE - 1) / TILE;
        unsigned *arrived = &a->arrived[(i.m * a->kv_heads + i.kv_head) * tiles + i.tile];
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            *last = add_acq_rel(arrived, 1) + 1 == i.n_chunks;
            if (*last)
                *arrived = 0;
        }
        __syncthreads();
        return *last;
    }

    __device__ void join(const attention_item &i)
    {
        for (unsigned n = threadIdx.x; n < i.n_heads * a->head_dim; n += CUDA_THREADS) {
            const unsigned h = n / a->head_dim, d = n % a->head_dim;
            const float *from = partial_of(i, h, 0);
            float o = from[d], top = from[a->head_pad], sum = from[a->head_pad + 1];
            for (unsigned c = 1; c < i.n_chunks; c++) {
                from += a->head_pad + 2;
                const float other = from[a->head_pad], joint = max_of(top, other);
                const float x = top == joint ? 1.0f : exp_value(__fsub_rn(top, joint));
                const float y = other == joint ? 1.0f : exp_value(__fsub_rn(other, joint));
                top = joint;
                sum = __fmaf_rn(sum, x, __fmul_rn(from[a->head_pad + 1], y));
                o = __fmaf_rn(o, x, __fmul_rn(from[d], y));
            }
            o = __fadd_rn(__fdiv_rn(o, sum), 0.0f);
            a->out[(size_t)i.m * a->out_stride +
                   a->columns[(size_t)(i.head + h) * a->head_dim + d]] =
                a->round ? bf16_value(o) : o;
        }
    }
};

template <class T, int TILE>
static __device__ __forceinline__ void attention(const cuda_attentions &all)
{
    attention_work<T, TILE> work(all.rank);
    for (unsigned r = 0; r < all.n; r++)
        for (uint64_t n = ((uint64_t)blockIdx.x * CUDA_THREADS + threadIdx.x) * 128;
             n < all.rank[r].ahead_bytes; n += (uint64_t)gridDim.x * CUDA_THREADS * 128)
            prefetch_line((const unsigned char *)all.rank[r].ahead + n);
    launch_dependents();
    wait_previous();
    const cuda_step *step = all.rank[0].step;
    const unsigned tiles = (all.rank[0].group + TILE - 1) / TILE;
    const unsigned each = tiles * step->n_rows * all.rank[0].chunks_max; /* of a KV head */
    const uint32_t *pages = (const uint32_t *)(step + 1);
    unsigned rank = 0, first = 0; /* of its items */
    for (unsigned n = blockIdx.x;; n += gridDim.x) {
        while (rank < all.n && n - first >= all.rank[rank].kv_heads * each)
            first += all.rank[rank++].kv_heads * each;
        if (rank == all.n)
            return;
        const cuda_attention &a = all.rank[rank];
        attention_item i;
        work.a = &a;
        if (!work.item_of(n - first, i))
            continue;
        const unsigned page = pages[(size_t)i.m * a.chunks_max + i.chunk];
        const unsigned char *k =
            a.pages + ((size_t)page * a.kv_heads + i.kv_head) * 2 * a.page_bytes;
        const unsigned begin = i.chunk * CUDA_CHUNK, end = begin + CUDA_CHUNK - 1;
        if (a.queries)
            work.load_queries(i);
        else
            work.make_queries(i);
        __syncthreads();
        work.dot_keys((const uint4 *)k);
        __syncthreads();
        work.add_scores();
        __syncthreads();
        work.softmax(i.low > begin ? i.low - begin : 0,
                     i.position < end ? i.position - begin : CUDA_CHUNK - 1);
        __syncthreads();
        work.dot_values((const uint4 *)(k + a.page_bytes));
        __syncthreads();
        work.leave(i);
        if (work.is_last(i))
            work.join(i);
        __syncthreads();
    }
}
