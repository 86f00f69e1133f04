/* Dots in the one order of docs/numerics.md section 3, from the panels that the CPU reads.
 *
 * A panel is columns of 64 bytes: 16 rows of one 4-byte word, which holds 1, 2, 4 or 8 neighbouring
 * columns of a row. A lane loads 16 bytes, the words of four rows, and walks a block of 32 columns
 * down: its two chains for each row are the block's, and nothing crosses lanes. A unit is what
 * four lanes (16 rows) take at once: as many blocks as make 16 loads a lane. A warp takes eight
 * units in a row, across panels, so that no lane idles whatever the shape. Block values go to
 * memory; the warp that completes a panel adds them up in rising order.
 */
#pragma once
#include "rows.cuh"

/* ---- four values of one row, widened: quarter q of a block ---- */

struct F32 {
    enum { PER_WORD = 1, GROUPED = 0, ZERO = 0 };
    static __device__ void four(const uint32_t *w, int, float, float *v)
    {
        for (int i = 0; i < 4; i++)
            v[i] = __uint_as_float(w[i]);
    }
};
struct BF16 {
    enum { PER_WORD = 2, GROUPED = 0, ZERO = 0 };
    static __device__ void four(const uint32_t *w, int, float, float *v)
    {
        for (int i = 0; i < 2; i++) {
            v[2 * i] = __uint_as_float(w[i] << 16);
            v[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
        }
    }
};
struct F16 {
    enum { PER_WORD = 2, GROUPED = 0, ZERO = 0 };
    static __device__ void four(const uint32_t *w, int, float, float *v)
    {
        half2_to_float(w[0], v);
        half2_to_float(w[1], v + 2);
    }
};
/* two's complement: byte + 128 is the low mantissa byte of 2^23 + 128 + value */
struct I8 {
    enum { PER_WORD = 4, GROUPED = 0, ZERO = 0 };
    static __device__ void four(const uint32_t *w, int, float, float *v)
    {
        const uint32_t u = w[0] ^ 0x80808080u;
        for (int i = 0; i < 4; i++)
            v[i] = __fadd_rn(__uint_as_float(byte_perm(u, 0x4b000000u, 0x7440 + i)), -8388736.0f);
    }
};
struct E4M3 {
    enum { PER_WORD = 4, GROUPED = 0, ZERO = 0 };
    static __device__ void four(const uint32_t *w, int, float, float *v)
    {
        half2_to_float(e4m3x2_to_half2(w[0] & 0xffff), v);
        half2_to_float(e4m3x2_to_half2(w[0] >> 16), v + 2);
    }
};
/* At bit p of a mantissa a code is worth 2^p, and the fma that takes the bias away scales it back:
 * exact. What is taken from every code is 8, or a zero for each piece. Of columns 0 to 7 of a
 * word, column 2q is at bit 4q, column 2q + 1 at 16 + 4q. */
template <bool ZEROS> struct I4 {
    enum { PER_WORD = 8, GROUPED = 1, ZERO = ZEROS };
    template <int P> static __device__ float at(uint32_t w, float zero)
    {
        constexpr float unit = 1.0f / (1 << P), bias = 8388608.0f * unit + (ZERO ? 0 : 8);
        const float v = __fmaf_rn(__uint_as_float(and_or(w, 0xfu << P, 0x4b000000u)), unit, -bias);
        return ZERO ? __fsub_rn(v, zero) : v;
    }
    static __device__ void four(const uint32_t *w, int q, float zero, float *v)
    {
        const uint32_t h = w[0] >> 12;
        if (q % 2 == 0)
            v[0] = at<0>(w[0], zero), v[1] = at<16>(w[0], zero), v[2] = at<4>(w[0], zero),
            v[3] = at<8>(h, zero);
        else
            v[0] = at<8>(w[0], zero), v[1] = at<12>(h, zero), v[2] = at<12>(w[0], zero),
            v[3] = at<16>(h, zero);
    }
};

template <class T> struct shape {
    enum {
        WORDS = BLOCK / T::PER_WORD,           /* loads of a block */
        BLOCKS = WORDS >= 16 ? 1 : 16 / WORDS, /* blocks that a lane walks in a unit */
        LOADS = WORDS * BLOCKS,
    };
};

/* The two chains of M x 4 rows over one block of words that arrive through ring. */
template <class T, int M, int RING> struct lane_block {
    float chain[M][4][2];
    template <class Refill>
    __device__ __forceinline__ void walk(uint4 *ring, int first, const float *x, unsigned x_row,
                                         const float *zero, Refill refill)
    {
#pragma unroll
        for (int i = 0; i < M * 8; i++)
            chain[i / 8][i / 2 % 4][i % 2] = 0.0f;
#pragma unroll
        for (int q = 0; q < BLOCK / 4; q++) {
            enum { TAKE = T::PER_WORD >= 4 ? 1 : 4 / T::PER_WORD };
            const int s = first + q * 4 / T::PER_WORD;
            float w[4][4];
            uint32_t words[4][TAKE];
#pragma unroll
            for (int i = 0; i < TAKE; i++) {
                const uint4 v = ring[(s + i) % RING];
                words[0][i] = v.x, words[1][i] = v.y, words[2][i] = v.z, words[3][i] = v.w;
            }
#pragma unroll
            for (int r = 0; r < 4; r++)
                T::four(words[r], q, zero[r], w[r]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                const float4 f = *(const float4 *)(x + m * x_row + q * 4);
                const float xs[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int r = 0; r < 4; r++)
                        chain[m][r][j % 2] = __fmaf_rn(w[r][j], xs[j], chain[m][r][j % 2]);
            }
            if (T::PER_WORD < 8 || q % 2)
#pragma unroll
                for (int i = 0; i < TAKE; i++)
                    refill(ring[(s + i) % RING], s + i);
        }
    }
    __device__ __forceinline__ float value(int m, int r) const
    {
        return __fadd_rn(chain[m][r][0], chain[m][r][1]);
    }
};

/* ---- one launch ---- */

/* This CTA's range of units. Its panels are counted from the one that it begins in, units from the
 * first one of that. Panels at either end may be shared with other CTAs: their slots are the
 * numbers of the CTAs that they begin in. */
struct dot_range {
    unsigned units;      /* of a panel */
    unsigned first;      /* panel */
    unsigned begin, end; /* units */
    unsigned last;       /* panel, the one that the range ends in or behind */
    unsigned slots[2];   /* of panel 0 and of panel `last`; CUDA_NO_SLOT: not shared */

    /* lane_blocks: of the format's shape */
    __device__ dot_range(const cuda_dot &a, unsigned lane_blocks)
    {
        units = (a.blocks + lane_blocks - 1) / lane_blocks * (a.pair ? 2 : 1);
        const unsigned long long total = (unsigned long long)a.panels * units, n = gridDim.x;
        const unsigned long long from = total * blockIdx.x / n, to = total * (blockIdx.x + 1) / n;
        first = (unsigned)(from / units);
        begin = (unsigned)(from - (unsigned long long)first * units);
        end = begin + (unsigned)(to - from);
        last = (end - 1) / units;
        const unsigned long long at = (unsigned long long)first * units;
        slots[0] = begin || end < units ? (unsigned)(((at + 1) * n - 1) / total) : CUDA_NO_SLOT;
        slots[1] = last == 0 ? slots[0]
                   : end % units != 0
                       ? (unsigned)(((at + (unsigned long long)last * units + 1) * n - 1) / total)
                       : CUDA_NO_SLOT;
    }
    __device__ unsigned slot_of(unsigned panel) const
    {
        return panel == 0 ? slots[0] : panel == last ? slots[1] : CUDA_NO_SLOT;
    }
};

/* Where a unit is: panel of the range, unit in it. */
struct dot_at {
    unsigned panel, unit;

    __device__ void go(unsigned n, unsigned units) /* on */
    {
        unit += n;
        while (unit >= units) {
            unit -= units;
            panel++;
        }
    }
};

struct dot_place {
    const unsigned char *w;
    const cuda_matrix *matrix;
    unsigned panel; /* of the matrix */
};
static __device__ __forceinline__ dot_place place_of(const cuda_dot &a, unsigned panel,
                                                     unsigned part)
{
    const unsigned parts = a.pair ? 2 : 1;
    unsigned j = 0;
    while (j + parts < a.n_matrices && panel >= a.matrix[j + parts].first)
        j += parts;
    const cuda_matrix *m = &a.matrix[j + part];
    const unsigned own = panel - m->first;
    return {(const unsigned char *)m->w + (size_t)own * a.panel_words * 64, m, own};
}

/* The values of a row's blocks to its dot, or to the roots of its leaves. */
struct dot_fold {
    float stack[CUDA_STACK];
    unsigned depth;

    /* value: [blocks][16]; constants: the same of the words of pieces, at their first blocks; sums
     * of x: [blocks] */
    __device__ void fold(const cuda_dot &a, const float *value, const float *constants,
                         const float *sums)
    {
        float acc = 0.0f;
        depth = 0;
        if (!a.table) {
#pragma unroll 8
            for (unsigned b = 0; b < a.blocks; b++)
                acc = __fadd_rn(acc, value[b * ROWS]);
            stack[depth++] = __fadd_rn(acc, 0.0f);
            return;
        }
        cuda_block next = a.table[0];
        for (unsigned b = 0; b < a.blocks;) {
            const cuda_block block = next;
            const unsigned end = b + block.run;
            next = a.table[end < a.blocks ? end : 0];
            float piece = 0.0f, sum = 0.0f;
#pragma unroll 4
            for (unsigned i = b; i < end; i++)
                piece = __fadd_rn(piece, value[i * ROWS]);
            if (a.minimum)
                for (unsigned i = b; i < end; i++)
                    sum = __fadd_rn(sum, sums[i]);
            if (constants) {
                const uint32_t c = __float_as_uint(constants[b * ROWS]);
                acc =
                    __fmaf_rn(__uint_as_float(block.high ? c & 0xffff0000u : c << 16), piece, acc);
                if (a.minimum)
                    acc = __fmaf_rn(__uint_as_float(c << 16), sum, acc);
            } else {
                acc = piece;
            }
            b = end;
            if (!block.leaf_ends)
                continue;
            float v = __fadd_rn(acc, 0.0f);
            for (unsigned k = block.merges; k; k--)
                v = __fadd_rn(stack[--depth], v);
            stack[depth++] = v;
            acc = 0.0f;
        }
    }
};

static __device__ __forceinline__ float scaled(const cuda_matrix *m, unsigned row, float v)
{
    v = m->scale ? __fmul_rn(v, m->scale[row]) : v;
    return m->bias ? __fadd_rn(v, m->bias[row]) : v;
}

/* A panel's values: [M][parts][blocks][16] of blocks; with groups then [parts][blocks][16] words
 * of pieces' constants. */
template <class T, int M> static __device__ __forceinline__ unsigned values_of(const cuda_dot &a)
{
    return (M + T::GROUPED) * (a.pair ? 2 : 1) * a.blocks * ROWS;
}

/* A row's roots into every GPU's inbox. */
static __device__ __forceinline__ void put_roots(const cuda_dot &a, const dot_fold &fold, size_t at)
{
    const unsigned turn = a.step->turn + a.inbox.index;
    at += (size_t)a.first_slot * a.inbox.root_stride;
    if (a.inbox.n == 1)
        for (unsigned n = 0; n < fold.depth; n++)
            inbox_of(a.inbox, 0, turn)[at + (size_t)n * a.inbox.root_stride] = fold.stack[n];
    else
        for (unsigned g = 0; g < a.inbox.n; g++)
            for (unsigned n = 0; n < fold.depth; n++)
                store_relaxed_system(inbox_of(a.inbox, g, turn) + at +
                                         (size_t)n * a.inbox.root_stride,
                                     fold.stack[n]);
}

/* All values of a panel are there: its 16 rows of M results, by a warp. */
template <class T, int M>
static __device__ void finish_panel(const cuda_dot &a, unsigned panel, const float *values,
                                    const float *sums)
{
    const unsigned parts = a.pair ? 2 : 1, rows = a.step->n_rows, part_values = a.blocks * ROWS;
    const float *constants = T::GROUPED ? values + (size_t)M * parts * part_values : nullptr;
    const dot_place first = place_of(a, panel, 0), second = place_of(a, panel, parts - 1);
    for (unsigned i = threadIdx.x % 32; i < M * ROWS; i += 32) {
        const unsigned m = i / ROWS, r = i % ROWS, row = first.panel * ROWS + r;
        const float *value = values + (size_t)m * parts * part_values + r;
        if (m >= rows || row >= first.matrix->rows)
            continue;
        dot_fold fold;
        fold.fold(a, value, constants ? constants + r : nullptr, sums + m * a.blocks);
        const size_t at = (size_t)m * first.matrix->out_stride + row;
        if (a.pair) {
            const float gate = scaled(first.matrix, row, fold.stack[0]);
            fold.fold(a, value + part_values, constants ? constants + part_values + r : nullptr,
                      sums + m * a.blocks);
            const float v = __fmul_rn(silu_value(gate), scaled(second.matrix, row, fold.stack[0]));
            first.matrix->out[at] = a.round ? bf16_value(v) : v;
        } else if (a.inbox.n) {
            put_roots(a, fold, at);
        } else {
            first.matrix->out[at] = scaled(first.matrix, row, fold.stack[0]);
        }
    }
}

/* Sums of x over every block: a dot with ones. */
template <int M>
static __device__ void sum_blocks(const cuda_dot &a, const float *x, unsigned x_row,
                                  unsigned x_block, float *sums)
{
    for (unsigned i = threadIdx.x; i < M * a.blocks; i += CUDA_THREADS) {
        const float *at = x + i / a.blocks * x_row + i % a.blocks * x_block;
        float even = __fadd_rn(at[0], 0.0f), odd = __fadd_rn(at[1], 0.0f);
        for (unsigned k = 2; k < BLOCK; k += 2) {
            even = __fadd_rn(at[k], even);
            odd = __fadd_rn(at[k + 1], odd);
        }
        sums[i] = __fadd_rn(even, odd);
    }
}

/* What of a panel's values is where, and who has come: in shared memory where the panel is this
 * CTA's alone, else in global memory. */
struct dot_board {
    float *inner;
    unsigned *arrived, *summed; /* [slots] units that came; rounds of the slot that are done */
    unsigned slots, panel_values;
    float *edge;
    unsigned *edge_arrived;

    __device__ float *values(unsigned panel, unsigned slot) const
    {
        return slot == CUDA_NO_SLOT ? inner + (size_t)(panel % slots) * panel_values
                                    : edge + (size_t)slot * panel_values;
    }
    /* n units of a panel have been left by this warp. All lanes: is it complete? */
    __device__ bool arrive(const dot_range &range, unsigned panel, unsigned slot, unsigned n) const
    {
        unsigned complete = 0;
        if (slot != CUDA_NO_SLOT)
            __threadfence();
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            complete = slot == CUDA_NO_SLOT
                           ? add_acq_rel_shared(&arrived[panel % slots], n) + n ==
                                 range.units * (panel / slots + 1)
                           : add_acq_rel(&edge_arrived[slot], n) + n == range.units;
        complete = __shfl_sync(~0u, complete, 0);
        __syncwarp(); /* what lane 0 acquired is for all lanes */
        return complete;
    }
    __device__ void done(unsigned panel, unsigned slot) const
    {
        __syncwarp();
        if (threadIdx.x % 32)
            return;
        if (slot == CUDA_NO_SLOT)
            store_release_shared(&summed[panel % slots], panel / slots + 1);
        else
            edge_arrived[slot] = 0;
    }
};

/* A warp has left the values of n units from `at` on; who completes a panel adds its values up.
 * Seldom: it stays out of the loop's registers. */
template <class T, int M>
static __device__ __noinline__ void leave_units(const cuda_dot &a, const dot_range &range,
                                                const dot_board &board, dot_at at, unsigned n,
                                                const float *sums)
{
    while (n) {
        const unsigned left = range.units - at.unit, some = left < n ? left : n,
                       slot = range.slot_of(at.panel);
        if (board.arrive(range, at.panel, slot, some)) {
            finish_panel<T, M>(a, range.first + at.panel, board.values(at.panel, slot), sums);
            board.done(at.panel, slot);
        }
        n -= some;
        at.unit = 0;
        at.panel++;
    }
}

template <class T, int M> static __device__ __forceinline__ void dot(const cuda_dot &a)
{
    constexpr int LANE_BLOCKS = shape<T>::BLOCKS, LOADS = shape<T>::LOADS, WORDS = shape<T>::WORDS;
    constexpr int RING = M <= 2 && LOADS <= 16 && !T::GROUPED ? LOADS : 8; /* loads on their way */
    constexpr unsigned TURN = WARPS * GROUPS; /* units that the CTA takes at once */
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4,
                   group = lane / 4;
    const unsigned parts = a.pair ? 2 : 1;
    const dot_range range(a, LANE_BLOCKS);
    const unsigned per_part = range.units / parts;

    /* The words of a unit's blocks; of those that are not there the first of all, to be read in
     * vain. With groups also how far from them a block's constants are: of the first of a piece,
     * or of all. */
    auto find = [&](dot_at at, unsigned u, const uint4 **words, unsigned *constants) {
        const unsigned part = at.unit >= per_part,
                       first = (at.unit - part * per_part) * LANE_BLOCKS;
        const uint4 *base = (const uint4 *)a.matrix[0].w + quad;
        unsigned left = 0;
        if (u < range.end) {
            base = (const uint4 *)place_of(a, range.first + at.panel, part).w + quad;
            left = a.blocks - first;
        }
#pragma unroll
        for (int b = 0; b < LANE_BLOCKS; b++) {
            unsigned word = 0;
            constants[b] = 0;
            if ((unsigned)b < left && T::GROUPED) {
                const cuda_block block = a.table[first + b];
                word = block.word;
                constants[b] = block.run || T::ZERO ? block.word - block.constants : 0;
            } else if ((unsigned)b < left) {
                word = (first + b) * WORDS;
            }
            words[b] = base + (size_t)word * 4;
        }
    };
    /* The first weights are on their way before anything is waited for. */
    uint4 ring[RING];
    const uint4 *now[LANE_BLOCKS], *next[LANE_BLOCKS];
    unsigned constants[LANE_BLOCKS], next_constants[LANE_BLOCKS];
    dot_at coming = {0, 0}; /* this lane's unit after the one in work */
    coming.go(range.begin + warp * GROUPS + group, range.units);
    find(coming, range.begin + warp * GROUPS + group, next, next_constants);
#pragma unroll
    for (int s = 0; s < RING; s++)
        ring[s] = load_stream(next[s / WORDS] + s % WORDS * 4);

    shared_cursor cursor = shared_begin();
    dot_board board = {a.inner, nullptr,       nullptr, a.slots, values_of<T, M>(a),
                       a.edge,  a.edge_arrived};
    board.arrived = shared_take<unsigned>(cursor, a.slots);
    board.summed = shared_take<unsigned>(cursor, a.slots);
    float *sums = shared_take<float>(cursor, a.minimum ? M * a.blocks : 0);
    float *staged = shared_take<float>(cursor, a.stage_x ? (size_t)M * a.blocks * XPAD : 0);
    float *factors = shared_take<float>(cursor, a.x ? 0 : M);
    float *inner = shared_take<float>(cursor, a.inner ? 0 : (size_t)a.slots * board.panel_values);
    board.inner = a.inner ? a.inner + (size_t)blockIdx.x * a.slots * board.panel_values : inner;

    launch_dependents();
    wait_previous();
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *a.mark_at = a.mark;
    /* the first panel may be shared: nobody of this CTA will have completed it alone */
    for (unsigned i = threadIdx.x; i < a.slots; i += CUDA_THREADS) {
        const bool shared = i == 0 && range.slots[0] != CUDA_NO_SLOT;
        board.arrived[i] = shared ? range.units : 0;
        board.summed[i] = shared;
    }
    if (!a.x) {
        norm_rows<M>(a.before, staged, a.blocks, factors);
    } else if (a.stage_x) {
        for (unsigned i = threadIdx.x; i < M * a.blocks * BLOCK; i += CUDA_THREADS) {
            const unsigned m = i / (a.blocks * BLOCK), k = i % (a.blocks * BLOCK);
            staged[m * a.blocks * XPAD + padded(k)] = a.x[(size_t)m * a.x_stride + k];
        }
    }
    const float *x = a.stage_x ? staged : a.x;
    const unsigned x_row = a.stage_x ? a.blocks * XPAD : a.x_stride,
                   x_block = a.stage_x ? +XPAD : +BLOCK;
    __syncthreads();
    if (a.minimum) {
        sum_blocks<M>(a, x, x_row, x_block, sums);
        __syncthreads();
    }

    dot_at turn = {0, 0}; /* the warp's first unit */
    turn.go(range.begin + warp * GROUPS, range.units);
    for (unsigned u0 = range.begin + warp * GROUPS; u0 < range.end; u0 += TURN) {
        const dot_at at = coming;
        const bool mine = u0 + group < range.end;
        const unsigned p = mine ? at.panel : range.last, slot = range.slot_of(p);
        const unsigned part = at.unit >= per_part,
                       first_block = (at.unit - part * per_part) * LANE_BLOCKS;
        coming.go(TURN, range.units);
#pragma unroll
        for (int b = 0; b < LANE_BLOCKS; b++)
            now[b] = next[b], constants[b] = next_constants[b];
        find(coming, u0 + group + TURN, next, next_constants);
        if (slot == CUDA_NO_SLOT)
            while (load_acquire_shared(&board.summed[p % a.slots]) != p / a.slots)
                yield_warp();
        __syncwarp();
        float *out = board.values(p, slot);
#pragma unroll
        for (int b = 0; b < LANE_BLOCKS; b++) {
            const unsigned block = first_block + b;
            const bool there = mine && block < a.blocks;
            uint4 shared = {0, 0, 0, 0}; /* by the piece */
            if (T::GROUPED && constants[b])
                shared = *(now[b] - (size_t)constants[b] * 4);
            float zero[4] = {0, 0, 0, 0};
            if (T::ZERO && !a.minimum) {
                zero[0] = (float)(shared.x & 255), zero[1] = (float)(shared.y & 255);
                zero[2] = (float)(shared.z & 255), zero[3] = (float)(shared.w & 255);
            }
            lane_block<T, M, RING> chains;
            chains.walk(ring, b * WORDS, x + (there ? block : 0) * x_block, x_row, zero,
                        [&](uint4 &v, int s) {
                            if (s + RING < LOADS)
                                v = load_stream(now[(s + RING) / WORDS % LANE_BLOCKS] +
                                                (s + RING) % WORDS * 4);
                            else
                                v = load_stream(next[(s + RING - LOADS) / WORDS] +
                                                (s + RING - LOADS) % WORDS * 4);
                        });
            if (there)
#pragma unroll
                for (int m = 0; m < M; m++)
                    *(float4 *)(out + ((size_t)(m * parts + part) * a.blocks + block) * ROWS +
                                quad * 4) = make_float4(chains.value(m, 0), chains.value(m, 1),
                                                        chains.value(m, 2), chains.value(m, 3));
            if (T::GROUPED && constants[b])
                *(uint4 *)(void *)(out + ((size_t)(M * parts + part) * a.blocks + block) * ROWS +
                                   quad * 4) = shared;
        }
        __syncwarp();
        leave_units<T, M>(a, range, board, turn, u0 + GROUPS < range.end ? +GROUPS : range.end - u0,
                          sums);
        turn.go(TURN, range.units);
    }
}
