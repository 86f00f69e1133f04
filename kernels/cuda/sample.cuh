/* Choosing tokens (docs/numerics.md section 10), in three launches.
 *
 * scan:   a CTA a chunk of 1,024 ids: the highest of it
 * weigh:  likewise: the sum of its weights; and into bins of falling x
 * choose: a CTA a row: greedy, or top-k, top-p, min-p and the draw
 *
 * What top-k and top-p cut is sorted: all ids down to the bin behind which nothing can be kept.
 * The bins only say which those are; who is kept is decided in the order of the definition. A
 * row for which they are too many, or that only the host can say why of, is left to it.
 */
#pragma once
#include "cuda_args.h"
#include "gpu.h"

static __device__ __forceinline__ bool is_finite(float x)
{
    return x > -__builtin_inff() && x < __builtin_inff();
}

/* ---- the highest ---- */

struct best_logit {
    float x; /* NaN: there is a NaN or +inf */
    uint32_t id;
};

static __device__ __forceinline__ best_logit better_of(best_logit a, best_logit b)
{
    const bool first = a.x != a.x || (b.x == b.x && (a.x > b.x || (a.x == b.x && a.id < b.id)));
    return first ? a : b;
}

/* Of all threads of a CTA, to all of them. scratch: [WARPS] */
template <int N_WARPS>
static __device__ best_logit best_of_all(best_logit mine, best_logit *scratch)
{
    for (int d = 16; d; d /= 2) {
        const float x = __shfl_xor_sync(~0u, mine.x, d);
        const uint32_t id = __shfl_xor_sync(~0u, mine.id, d);
        mine = better_of(mine, {x, id});
    }
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = mine;
    __syncthreads();
    mine = scratch[0];
    for (int i = 1; i < N_WARPS; i++)
        mine = better_of(mine, scratch[i]);
    return mine;
}

/* Of the row, from its chunks'. */
template <int N_WARPS>
static __device__ best_logit best_of_row(const cuda_sample &a, unsigned m, best_logit *scratch)
{
    best_logit mine = {-__builtin_inff(), CUDA_NO_CHOICE};
    for (unsigned i = threadIdx.x; i < a.chunks; i += N_WARPS * 32)
        mine = better_of(mine, {a.best[m * a.chunks + i], a.first[m * a.chunks + i]});
    return best_of_all<N_WARPS>(mine, scratch);
}

static __device__ __forceinline__ bool cuts(const cuda_choice &c)
{
    return c.top_k || c.top_p < 1;
}

/* Shared memory: CUDA_WARPS pairs. */
static __device__ __forceinline__ void sample_scan(const cuda_sample &a)
{
    shared_cursor cursor = shared_begin();
    best_logit *scratch = shared_take<best_logit>(cursor, CUDA_WARPS);
    const unsigned m = blockIdx.x / a.chunks, chunk = blockIdx.x % a.chunks;
    launch_dependents();
    wait_previous();
    if (m >= a.choices->n_rows || !a.choices->row[m].asked)
        return;
    const cuda_choice &c = a.choices->row[m];
    best_logit mine = {-__builtin_inff(), CUDA_NO_CHOICE};
#pragma unroll
    for (unsigned i = 0; i < CUDA_SUM_CHUNK; i += CUDA_THREADS) {
        const unsigned id = chunk * CUDA_SUM_CHUNK + i + threadIdx.x;
        const float x =
            id < a.vocab ? a.logits[(size_t)m * a.logit_stride + id] : -__builtin_inff();
        if (!(x < __builtin_inff()))
            mine = {__builtin_nanf(""), id};
        else if (id < a.vocab && !(c.banned && a.banned[id]))
            mine = better_of(mine, {x, id});
    }
    if (cuts(c))
        for (unsigned b = chunk * CUDA_THREADS + threadIdx.x; b < CUDA_BINS;
             b += a.chunks * CUDA_THREADS)
            a.bins[(size_t)m * CUDA_BINS + b] = 0;
    mine = best_of_all<CUDA_WARPS>(mine, scratch);
    if (threadIdx.x == 0) {
        a.best[m * a.chunks + chunk] = mine.x;
        a.first[m * a.chunks + chunk] = mine.id;
    }
}

/* ---- weights and bins ---- */

/* x of an id, less the highest: at most 0 */
static __device__ __forceinline__ float below_best(float logit, float temperature, float max)
{
    return __fsub_rn(__fdiv_rn(logit, temperature), max);
}
static __device__ __forceinline__ float logit_of(const cuda_sample &a, unsigned m, unsigned id)
{
    const bool banned = a.choices->row[m].banned && a.banned[id];
    return banned ? -__builtin_inff() : a.logits[(size_t)m * a.logit_stride + id];
}

/* A bin has 64th parts of an octave of the distance to the highest, so that it does not matter
 * which temperature spreads them; octaves from 2^-25 to 2^7. Beyond 87 there is no weight. */
static __device__ __forceinline__ unsigned bin_of(float below)
{
    enum { PARTS = 6, FIRST = (102 << PARTS) };
    const int bin = (int)(__float_as_uint(-below) >> (23 - PARTS) & 0x3fff) - FIRST;
    return (unsigned)(bin < 0 ? 0 : bin);
}
/* What lies in no bin up to this one is at least so far from the highest. */
static __device__ __forceinline__ float bin_end(unsigned bin)
{
    return __uint_as_float((bin + 1 + (102u << 6)) << 17);
}

/* A bin: how many ids, above their weights in units of 2^-21, each rounded down: sums of integers
 * are the same in any order. Of a chunk each of the two fits in 32 bits. */
enum { MASS_BITS = 44 };
static __device__ __forceinline__ uint64_t bin_of_parts(uint32_t count, uint32_t mass)
{
    return (uint64_t)count << MASS_BITS | mass;
}
static __device__ __forceinline__ uint32_t mass_of(float w)
{
    return (uint32_t)__fmul_rn(w, 0x1p21f);
}
static __device__ __forceinline__ uint32_t bin_count(uint64_t bin)
{
    return (uint32_t)(bin >> MASS_BITS);
}
static __device__ __forceinline__ uint64_t bin_mass(uint64_t bin)
{
    return bin & ((1ull << MASS_BITS) - 1);
}

/* 32 chains to one sum: a lane has one; all get it. */
static __device__ __forceinline__ double fold_sum(double chain)
{
    for (int d = 16; d; d /= 2)
        chain = __dadd_rn(chain, __shfl_xor_sync(~0u, chain, d)); /* commutes */
    return chain;
}

/* Shared memory: the bins, a chunk's weights, CUDA_WARPS pairs. */
static __device__ __forceinline__ void sample_weigh(const cuda_sample &a)
{
    enum { LOADS = CUDA_SUM_CHUNK / CUDA_THREADS };
    shared_cursor cursor = shared_begin();
    uint32_t *counts = shared_take<uint32_t>(cursor, CUDA_BINS);
    uint32_t *masses = shared_take<uint32_t>(cursor, CUDA_BINS);
    float *w = shared_take<float>(cursor, CUDA_SUM_CHUNK);
    best_logit *scratch = shared_take<best_logit>(cursor, CUDA_WARPS);
    const unsigned m = blockIdx.x / a.chunks, chunk = blockIdx.x % a.chunks;
    launch_dependents();
    wait_previous();
    if (m >= a.choices->n_rows || !a.choices->row[m].asked || a.choices->row[m].temperature == 0)
        return;
    const cuda_choice &c = a.choices->row[m];
    const float best = best_of_row<CUDA_WARPS>(a, m, scratch).x,
                max = __fdiv_rn(best, c.temperature);
    if (!is_finite(best) || !is_finite(max))
        return;
    for (unsigned b = threadIdx.x; cuts(c) && b < CUDA_BINS; b += CUDA_THREADS)
        counts[b] = masses[b] = 0;
    __syncthreads();
    unsigned long long *bins = (unsigned long long *)a.bins + (size_t)m * CUDA_BINS;
    float x[LOADS];
#pragma unroll
    for (unsigned i = 0; i < LOADS; i++) {
        const unsigned id = chunk * CUDA_SUM_CHUNK + i * CUDA_THREADS + threadIdx.x;
        x[i] = id < a.vocab ? logit_of(a, m, id) : -__builtin_inff();
    }
#pragma unroll
    for (unsigned i = 0; i < LOADS; i++) {
        const float below = below_best(x[i], c.temperature, max), weight = exp_value(below);
        w[i * CUDA_THREADS + threadIdx.x] = cuts(c) || weight >= c.least_weight ? weight : 0.0f;
        if (cuts(c) && weight > 0) {
            atomicAdd(&counts[bin_of(below)], 1u);
            if (mass_of(weight))
                atomicAdd(&masses[bin_of(below)], mass_of(weight));
        }
    }
    __syncthreads();
    for (unsigned b = threadIdx.x; cuts(c) && b < CUDA_BINS; b += CUDA_THREADS)
        if (counts[b])
            atomicAdd(&bins[b], (unsigned long long)bin_of_parts(counts[b], masses[b]));
    if (threadIdx.x >= 32)
        return;
    double chain = 0;
#pragma unroll 8
    for (unsigned i = threadIdx.x; i < CUDA_SUM_CHUNK; i += 32)
        chain = __dadd_rn(chain, (double)w[i]);
    chain = fold_sum(chain);
    if (threadIdx.x == 0)
        a.sums[m * a.chunks + chunk] = chain;
}

/* ---- the row ---- */

/* What the threads of a row's CTA share. */
struct chooser {
    uint64_t *keys;      /* [CUDA_CANDIDATES] in order; then by id, and the place in order */
    double *sums;        /* [chunks] */
    float *w;            /* [CUDA_CANDIDATES] weights in order */
    float *held;         /* [CUDA_SUM_CHUNK] weights of a chunk, 0 where an id is not kept */
    best_logit *scratch; /* [CUDA_CHOOSE_WARPS] */
    uint64_t *carry;     /* [CUDA_CHOOSE_WARPS] */
    struct chooser_state {
        double total, at, target;
        unsigned bin, count, fits_bin, fits_count; /* bins, and the ids in all up to it */
        unsigned chunk, found;
    } * state;
};

/* The first i at which sum + w[0] + ... + w[i], in this order, is above the bound; REACH: or
 * equal to it. n: none. Sums never fall, so that a stretch can be passed at once. */
template <bool REACH>
static __device__ unsigned walk(const float *w, unsigned n, double sum, double bound)
{
    enum { STRETCH = 16 };
    unsigned i = 0;
    for (; i + STRETCH <= n; i += STRETCH) {
        double after = sum;
#pragma unroll
        for (unsigned j = 0; j < STRETCH; j++)
            after = __dadd_rn(after, (double)w[i + j]);
        if (after > bound || (REACH && after == bound))
            break;
        sum = after;
    }
    for (; i < n; i++) {
        sum = __dadd_rn(sum, (double)w[i]);
        if (sum > bound || (REACH && sum == bound))
            return i;
    }
    return n;
}

/* By one thread. */
static __device__ double total_of(const double *sums, unsigned chunks)
{
    double total = 0;
#pragma unroll 8
    for (unsigned i = 0; i < chunks; i++)
        total = __dadd_rn(total, sums[i]);
    return total;
}

/* The bin down to which candidates are taken: for top-k the first with k ids up to it, for top-p
 * the first with the mass `wanted`, where those are not too many; else as many as fit. count: of
 * ids. bin [CUDA_BINS]. */
static __device__ void find_bin(const chooser &s, const uint64_t *bins, unsigned top_k,
                                uint64_t wanted)
{
    enum { EACH = CUDA_BINS / CUDA_CHOOSE_THREADS };
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint64_t mine[EACH], sum = 0;
    for (int i = 0; i < EACH; i++)
        sum += mine[i] = bins[threadIdx.x * EACH + i];
    uint64_t upto = sum; /* of the warp's threads up to this one */
    for (unsigned d = 1; d < 32; d *= 2) {
        const uint64_t other = __shfl_sync(~0u, upto, lane < d ? lane : lane - d);
        upto += lane < d ? 0 : other;
    }
    if (lane == 31)
        s.carry[warp] = upto;
    if (threadIdx.x == 0) {
        s.state->bin = s.state->fits_bin = CUDA_BINS - 1;
        s.state->count = s.state->fits_count = CUDA_NO_CHOICE;
    }
    __syncthreads();
    uint64_t at = upto - sum, all = 0;
    for (unsigned i = 0; i < CUDA_CHOOSE_WARPS; i++) {
        at += i < warp ? s.carry[i] : 0;
        all += s.carry[i];
    }
    for (int i = 0; i < EACH; i++) {
        const uint64_t before = at;
        const unsigned bin = threadIdx.x * EACH + i;
        at += mine[i];
        const bool was = top_k ? bin_count(before) >= top_k : bin_mass(before) >= wanted,
                   is = top_k ? bin_count(at) >= top_k : bin_mass(at) >= wanted;
        if (is && !was) {
            s.state->bin = bin;
            s.state->count = bin_count(at);
        }
        if (bin_count(at) > CUDA_CANDIDATES && bin_count(before) <= CUDA_CANDIDATES) {
            s.state->fits_bin = bin - 1; /* bin 0: no id fits */
            s.state->fits_count = bin_count(before);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        chooser::chooser_state &t = *s.state;
        t.count = t.count == CUDA_NO_CHOICE ? bin_count(all) : t.count;
        t.fits_count = t.fits_count == CUDA_NO_CHOICE ? bin_count(all) : t.fits_count;
        if (t.count > CUDA_CANDIDATES) {
            t.bin = t.fits_bin;
            t.count = top_k ? 0 : t.fits_count;
        }
        t.found = t.count == bin_count(all);
    }
    __syncthreads();
}

/* Rising keys are falling x, rising ids among equals; -0 is +0. */
static __device__ __forceinline__ uint64_t key_of(float x, unsigned id)
{
    const uint32_t u = __float_as_uint(__fadd_rn(x, 0.0f));
    return (uint64_t)(u >> 31 ? u : ~u & 0x7fffffffu) << 32 | id;
}
static __device__ __forceinline__ float x_of(uint64_t key)
{
    const uint32_t u = (uint32_t)(key >> 32);
    return __uint_as_float(u >> 31 ? u : ~u & 0x7fffffffu);
}

/* What is gathered: ids of no later bin. low: surely below them all, so that few are divided. */
struct wanted_ids {
    float max, low;
    unsigned bin;
};

static __device__ wanted_ids wanted_to(unsigned bin, float max, float temperature)
{
    const float end = bin_end(bin), size = max < 0 ? -max : max;
    const float slack = __fmul_rn(__fadd_rn(size, end), 0x1p-16f);
    return {max, __fmul_rn(__fsub_rn(__fsub_rn(max, end), slack), temperature), bin};
}

static __device__ __forceinline__ void gather_one(const cuda_sample &a, const cuda_choice &c,
                                                  const chooser &s, wanted_ids wanted, float logit,
                                                  unsigned id)
{
    if (logit < wanted.low || id >= a.vocab || (c.banned && a.banned[id]))
        return;
    const float x = __fdiv_rn(logit, c.temperature), below = __fsub_rn(x, wanted.max);
    if (below >= -87.0f && bin_of(below) <= wanted.bin)
        s.keys[atomicAdd(&s.state->count, 1u)] = key_of(x, id);
}

/* All ids that are wanted, in any order; chunks without one are not read. */
static __device__ void gather(const cuda_sample &a, unsigned m, const chooser &s, float max)
{
    enum { LOADS = CUDA_SUM_CHUNK / 128 };
    const cuda_choice &c = a.choices->row[m];
    const wanted_ids wanted = wanted_to(s.state->bin, max, c.temperature);
    const float *logits = a.logits + (size_t)m * a.logit_stride;
    __syncthreads(); /* all have read how many */
    if (threadIdx.x == 0)
        s.state->count = 0;
    __syncthreads();
    for (unsigned chunk = threadIdx.x / 32; chunk < a.chunks; chunk += CUDA_CHOOSE_WARPS) {
        if (a.best[m * a.chunks + chunk] < wanted.low)
            continue;
        const unsigned first = chunk * CUDA_SUM_CHUNK + threadIdx.x % 32 * 4;
        float4 x[LOADS];
#pragma unroll
        for (unsigned i = 0; i < LOADS; i++) {
            const unsigned id = first + i * 128;
            x[i] = id < a.logit_stride ? *(const float4 *)(logits + id) : make_float4(0, 0, 0, 0);
        }
#pragma unroll
        for (unsigned i = 0; i < LOADS; i++) {
            gather_one(a, c, s, wanted, x[i].x, first + i * 128);
            gather_one(a, c, s, wanted, x[i].y, first + i * 128 + 1);
            gather_one(a, c, s, wanted, x[i].z, first + i * 128 + 2);
            gather_one(a, c, s, wanted, x[i].w, first + i * 128 + 3);
        }
    }
    __syncthreads();
}

/* keys [n] rise; room for the next power of two. */
static __device__ void sort(uint64_t *keys, unsigned n)
{
    unsigned size = 2;
    while (size < n)
        size *= 2;
    for (unsigned i = n + threadIdx.x; i < size; i += CUDA_CHOOSE_THREADS)
        keys[i] = ~0ull;
    __syncthreads();
    for (unsigned run = 2; run <= size; run *= 2)
        for (unsigned d = run / 2; d; d /= 2) {
            for (unsigned t = threadIdx.x; t < size / 2; t += CUDA_CHOOSE_THREADS) {
                const unsigned i = 2 * t - (t & (d - 1)), j = i + d;
                const uint64_t low = keys[i], high = keys[j];
                if ((low > high) == !(i & run)) {
                    keys[i] = high;
                    keys[j] = low;
                }
            }
            __syncthreads();
        }
}

/* The first n candidates, in order, by id instead. */
static __device__ void order_by_id(uint64_t *keys, unsigned n)
{
    for (unsigned i = threadIdx.x; i < n; i += CUDA_CHOOSE_THREADS)
        keys[i] = keys[i] << 32 | i;
    sort(keys, n);
}

static __device__ __forceinline__ float kept_weight(const chooser &s, uint64_t key, unsigned kept,
                                                    float least)
{
    const unsigned place = (uint32_t)key;
    return place < kept && s.w[place] >= least ? s.w[place] : 0.0f;
}

/* Sums of all chunks, over what is kept of n candidates by id: a warp a chunk. */
static __device__ void sum_kept(const cuda_sample &a, const chooser &s, unsigned n, unsigned kept,
                                float least)
{
    const unsigned lane = threadIdx.x % 32;
    for (unsigned chunk = threadIdx.x / 32; chunk < a.chunks; chunk += CUDA_CHOOSE_WARPS) {
        const uint64_t begin = (uint64_t)chunk * CUDA_SUM_CHUNK << 32,
                       end = begin + ((uint64_t)CUDA_SUM_CHUNK << 32);
        unsigned i = 0;
        for (unsigned high = n; i < high;) {
            const unsigned middle = (i + high) / 2;
            if (s.keys[middle] < begin)
                i = middle + 1;
            else
                high = middle;
        }
        const bool any = i < n && s.keys[i] < end;
        double chain = 0;
        for (; i < n && s.keys[i] < end; i++)
            if ((s.keys[i] >> 32) % 32 == lane)
                chain = __dadd_rn(chain, (double)kept_weight(s, s.keys[i], kept, least));
        if (any)
            chain = fold_sum(chain);
        if (lane == 0)
            s.sums[chunk] = chain;
    }
    __syncthreads();
}

/* Into sums, what top-k, top-p and min-p keep; *n candidates by id, of which so many in order.
 * false: the host. */
static __device__ bool cut(const cuda_sample &a, unsigned m, const chooser &s, float max,
                           unsigned *n, unsigned *kept)
{
    const cuda_choice &c = a.choices->row[m];
    const bool by_mass = c.top_p < 1;
    uint64_t wanted = 0;
    if (!c.top_k) {
        if (threadIdx.x == 0)
            s.state->total = total_of(s.sums, a.chunks);
        __syncthreads();
        wanted = (uint64_t)__dmul_rn(__dmul_rn(c.top_p, s.state->total), 0x1p21) + 1;
    }
    find_bin(s, a.bins + (size_t)m * CUDA_BINS, c.top_k, wanted);
    const bool all = s.state->found;
    if (s.state->count == 0)
        return false;
    gather(a, m, s, max);
    const unsigned count = s.state->count;
    sort(s.keys, count);
    for (unsigned i = threadIdx.x; i < count; i += CUDA_CHOOSE_THREADS)
        s.w[i] = exp_value(__fsub_rn(x_of(s.keys[i]), max));
    *n = *kept = c.top_k && c.top_k < count ? c.top_k : count;
    __syncthreads();
    if (c.top_k) {
        order_by_id(s.keys, *n);
        if (by_mass) {
            sum_kept(a, s, *n, *n, 0.0f);
            if (threadIdx.x == 0)
                s.state->total = total_of(s.sums, a.chunks);
        }
    }
    if (by_mass) {
        if (threadIdx.x == 0)
            s.state->found = walk<true>(s.w, *n, 0, __dmul_rn(c.top_p, s.state->total));
        __syncthreads();
        if (s.state->found < *n)
            *kept = s.state->found + 1;
        else if (!c.top_k && !all)
            return false;
    }
    if (!c.top_k) {
        *n = *kept;
        order_by_id(s.keys, *n);
    }
    sum_kept(a, s, *n, *kept, c.least_weight);
    return true;
}

/* The chunk that holds the target, to all threads; chunks: none. */
static __device__ unsigned find_chunk(const cuda_sample &a, const chooser &s, double u)
{
    if (threadIdx.x == 0) {
        double target = __dmul_rn(u, total_of(s.sums, a.chunks)), sum = 0;
        unsigned chunk = 0;
        for (; chunk < a.chunks; chunk++) {
            const double next = __dadd_rn(sum, s.sums[chunk]);
            if (next > target)
                break;
            sum = next;
        }
        s.state->chunk = chunk;
        s.state->at = sum;
        s.state->target = target;
    }
    __syncthreads();
    return s.state->chunk;
}

/* By all threads of a CTA, to all of them. */
static __device__ uint32_t choose(const cuda_sample &a, unsigned m, const chooser &s)
{
    const cuda_choice &c = a.choices->row[m];
    const best_logit best = best_of_row<CUDA_CHOOSE_WARPS>(a, m, s.scratch);
    if (!is_finite(best.x))
        return CUDA_NO_CHOICE;
    if (c.temperature == 0)
        return best.id;
    const float max = __fdiv_rn(best.x, c.temperature);
    if (!is_finite(max))
        return CUDA_NO_CHOICE;
    for (unsigned i = threadIdx.x; i < a.chunks; i += CUDA_CHOOSE_THREADS)
        s.sums[i] = a.sums[m * a.chunks + i];
    __syncthreads();
    unsigned n = 0, kept = 0;
    if (cuts(c) && !cut(a, m, s, max, &n, &kept))
        return CUDA_NO_CHOICE;
    const unsigned chunk = find_chunk(a, s, c.u);
    if (chunk == a.chunks)
        return CUDA_NO_CHOICE;
    for (unsigned i = threadIdx.x; i < CUDA_SUM_CHUNK; i += CUDA_CHOOSE_THREADS) {
        const unsigned id = chunk * CUDA_SUM_CHUNK + i;
        float w = 0.0f;
        if (!cuts(c) && id < a.vocab) {
            w = exp_value(below_best(logit_of(a, m, id), c.temperature, max));
            w = w >= c.least_weight ? w : 0.0f;
        }
        s.held[i] = w;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < n; i += CUDA_CHOOSE_THREADS)
        if ((s.keys[i] >> 32) / CUDA_SUM_CHUNK == chunk)
            s.held[(s.keys[i] >> 32) % CUDA_SUM_CHUNK] =
                kept_weight(s, s.keys[i], kept, c.least_weight);
    __syncthreads();
    if (threadIdx.x == 0)
        s.state->found = walk<false>(s.held, CUDA_SUM_CHUNK, s.state->at, s.state->target);
    __syncthreads();
    /* sums in another order may say that the chunk does not hold it after all */
    return s.state->found < CUDA_SUM_CHUNK ? chunk * CUDA_SUM_CHUNK + s.state->found
                                           : (uint32_t)CUDA_NO_CHOICE;
}

static __device__ __forceinline__ void sample_choose(const cuda_sample &a)
{
    shared_cursor cursor = shared_begin();
    chooser s;
    s.keys = shared_take<uint64_t>(cursor, CUDA_CANDIDATES);
    s.sums = shared_take<double>(cursor, a.chunks);
    s.w = shared_take<float>(cursor, CUDA_CANDIDATES);
    s.held = shared_take<float>(cursor, CUDA_SUM_CHUNK);
    s.scratch = shared_take<best_logit>(cursor, CUDA_CHOOSE_WARPS);
    s.carry = shared_take<uint64_t>(cursor, CUDA_CHOOSE_WARPS);
    s.state = shared_take<chooser::chooser_state>(cursor, 1);
    const unsigned m = blockIdx.x;
    launch_dependents();
    wait_previous();
    if (m >= a.choices->n_rows)
        return;
    const uint32_t id = a.choices->row[m].asked ? choose(a, m, s) : (uint32_t)CUDA_NO_CHOICE;
    if (threadIdx.x == 0)
        a.chosen[m] = id;
}
