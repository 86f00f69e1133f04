/* Products on tensor cores (fast prompts): deterministic, and no further from the truth than
 * 16-bit operands with f32 sums are. Not the order of docs/numerics.md; section 12 says what holds.
 *
 * mma m16n8k16 wants of lane (g, t), g = lane / 4, t = lane % 4, two rows at the pairs t and t + 4
 * of k. Which rows and which columns those are is ours to choose, if x goes by the same columns. So
 * lane (g, t) loads 16 bytes, a word of rows 4q .. 4q + 3 (q = g % 4) of panel g / 4: rows 4q, 4q +
 * 1 of two panels make one fragment, rows 4q + 2, 4q + 3 the other. No shuffle, no shared memory.
 *
 * x comes as fragments: [32 columns][two steps of 16 k][16 tokens][lane] of 16 bytes, the pairs t
 * and t + 4 of tokens g and g + 8. What a row's sum is does not depend on how many tokens there
 * are: they are padded to a tile of 32, 64 or 128.
 */
#pragma once
#include "dot.cuh"

/* ---- operands of 16 bits ---- */

struct as_bf16 {
    enum { HALF = 0 };
    static __device__ __forceinline__ void mma(float *d, const uint32_t *a, uint32_t b0,
                                               uint32_t b1)
    {
        mma_bf16(d, a, b0, b1);
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high)
    {
        return pack_bf16(low, high);
    }
    static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c)
    {
        return fma_bf16(a, b, c);
    }
    static __device__ __forceinline__ uint32_t from_bf16(uint32_t pair)
    {
        return pair;
    }
};
struct as_f16 {
    enum { HALF = 1 };
    static __device__ __forceinline__ void mma(float *d, const uint32_t *a, uint32_t b0,
                                               uint32_t b1)
    {
        mma_f16(d, a, b0, b1);
    }
    static __device__ __forceinline__ float within(float f)
    {
        return f > 65504.0f ? 65504.0f : f < -65504.0f ? -65504.0f : f;
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high)
    {
        return pack_f16(within(low), within(high));
    }
    static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c)
    {
        return fma_f16(a, b, c);
    }
    static __device__ __forceinline__ uint32_t from_bf16(uint32_t pair) /* twice the same */
    {
        const float v = __uint_as_float(pair & 0xffff0000u);
        return pack(v, v);
    }
};

static __device__ __forceinline__ uint32_t part(const uint4 &v, int r)
{
    return r == 0 ? v.x : r == 1 ? v.y : r == 2 ? v.z : v.w;
}

/* A group's scale and offset for the four rows of a lane, each as a pair of the same. */
struct group_constants {
    uint4 words;          /* of the rows */
    uint32_t scale_bytes; /* where the scale is in a word */
    uint32_t zeros, minimum;

    template <class A> __device__ __forceinline__ uint32_t scale(int r) const
    {
        return A::from_bf16(byte_perm(part(words, r), 0, scale_bytes));
    }
    template <class A> __device__ __forceinline__ uint32_t least(int r) const
    {
        return A::from_bf16(byte_perm(part(words, r), 0, minimum ? 0x1010 : 0x4444));
    }
    /* the zero in the low bytes below a given high one */
    __device__ __forceinline__ uint32_t zero(int r, uint32_t high) const
    {
        return byte_perm(part(words, r), zeros ? high * 0x01010101u : high << 8 | (minimum ? 0 : 8),
                         zeros ? 0x4040 : 0x5454);
    }
};

/* Stored formats: the pairs t and t + 4 of step `step` of a block, of row r of a lane's words. */
struct stored_16 {
    enum { LOADS = 4, GROUPED = 0 };
    template <class A>
    static __device__ __forceinline__ void pairs(const uint4 *words, int step, int r,
                                                 const group_constants &, uint32_t *out)
    {
        out[0] = part(words[2 * step], r);
        out[1] = part(words[2 * step + 1], r);
    }
};
/* two's complement: of a code c, (c & 127) + 128 less 128, or 256 where its sign is set */
struct stored_int8 {
    enum { LOADS = 2, GROUPED = 0 };
    template <class A> static __device__ __forceinline__ uint32_t two(uint32_t w, uint32_t bytes)
    {
        if (A::HALF)
            return sub_f16(byte_perm(w ^ 0x80808080u, 0x64646464u, bytes), 0x64806480u);
        const uint32_t codes = byte_perm(w, 0, bytes);
        return fma_bf16(and_or(codes, 0x00800080u, 0x43004300u), 0xbf80bf80u,
                        and_or(codes, 0x007f007fu, 0x43004300u));
    }
    template <class A>
    static __device__ __forceinline__ void pairs(const uint4 *words, int step, int r,
                                                 const group_constants &, uint32_t *out)
    {
        out[0] = two<A>(part(words[step], r), 0x4140);
        out[1] = two<A>(part(words[step], r), 0x4342);
    }
};
struct stored_fp8 {
    enum { LOADS = 2, GROUPED = 0 };
    template <class A> static __device__ __forceinline__ uint32_t two(uint32_t w)
    {
        const uint32_t halves = e4m3x2_to_half2(w);
        float v[2];
        if (A::HALF)
            return halves;
        half2_to_float(halves, v); /* exact in bf16: the high halves */
        return byte_perm(__float_as_uint(v[0]), __float_as_uint(v[1]), 0x7632);
    }
    template <class A>
    static __device__ __forceinline__ void pairs(const uint4 *words, int step, int r,
                                                 const group_constants &, uint32_t *out)
    {
        out[0] = two<A>(part(words[step], r) & 0xffff);
        out[1] = two<A>(part(words[step], r) >> 16);
    }
};
/* (code - zero) * scale + minimum, rounded once. A code below an exponent of its own is a
 * number. */
struct stored_int4 {
    enum { LOADS = 1, GROUPED = 1 };
    template <class A>
    static __device__ __forceinline__ uint32_t two(uint32_t w, int r, const group_constants &c)
    {
        const uint32_t code =
            A::HALF ? sub_f16(and_or(w, 0x000f000fu, 0x64006400u), c.zero(r, 0x64))
                    : fma_bf16(0x3f803f80u, and_or(w, 0x000f000fu, 0x43004300u), c.zero(r, 0xc3));
        return A::fma(code, c.template scale<A>(r), c.template least<A>(r));
    }
    template <class A>
    static __device__ __forceinline__ void pairs(const uint4 *words, int step, int r,
                                                 const group_constants &c, uint32_t *out)
    {
        out[0] = two<A>(part(words[0], r) >> 8 * step, r, c);
        out[1] = two<A>(part(words[0], r) >> (8 * step + 4), r, c);
    }
};

/* The first column of a pair of a block: step, t, which of the pairs t and t + 4. */
static __device__ __forceinline__ unsigned column_of(unsigned per_word, unsigned step, unsigned t,
                                                     unsigned second)
{
    return per_word == 2   ? step * 16 + second * 8 + t * 2
           : per_word == 4 ? step * 16 + t * 4 + second * 2
                           : t * 8 + step * 4 + second * 2;
}

static __device__ __forceinline__ unsigned tile_of(unsigned rows)
{
    return rows <= 32 ? 32 : rows <= 64 ? 64 : 128;
}

/* ---- rows of x to operands ---- */

static __device__ __forceinline__ uint32_t operand_pair(const cuda_operand &a, unsigned m,
                                                        unsigned k)
{
    if (m >= a.n_rows)
        return 0;
    const float *x = a.from + (size_t)m * a.stride + k;
    return a.half ? as_f16::pack(x[0], x[1]) : as_bf16::pack(x[0], x[1]);
}

/* A thread makes 16 bytes of fragments, or a pair. */
static __device__ __forceinline__ void operand(const cuda_operand &a)
{
    launch_dependents();
    wait_previous();
    size_t n = (size_t)blockIdx.x * CUDA_THREADS + threadIdx.x;
    if (n == 0)
        *a.mark_at = a.mark;
    if (!a.per_word) {
        const unsigned pairs = a.blocks * BLOCK / 2;
        if (n < (size_t)a.n_out * pairs)
            a.to[n] = operand_pair(a, (unsigned)(n / pairs), (unsigned)(n % pairs) * 2);
        return;
    }
    /* of a slice of 128 tokens: [block][step][16 tokens][lane], as many of 16 as its tile has */
    const size_t slice_size = (size_t)a.blocks * 2 * (CUDA_TOKENS / 16) * 32;
    const unsigned slice = (unsigned)(n / slice_size), first = slice * CUDA_TOKENS;
    if (first >= a.n_rows)
        return;
    const unsigned groups = tile_of(a.n_rows - first) / 16;
    n -= slice * slice_size;
    if (n >= (size_t)a.blocks * 2 * groups * 32)
        return;
    uint4 *to = (uint4 *)(void *)a.to + slice * slice_size + n;
    const unsigned lane = n % 32, g = lane / 4, t = lane % 4;
    const unsigned at = (unsigned)(n / 32), m = first + at % groups * 16 + g,
                   step = at / groups % 2, k = at / groups / 2 * BLOCK;
    const unsigned c0 = k + column_of(a.per_word, step, t, 0),
                   c1 = k + column_of(a.per_word, step, t, 1);
    *to = {operand_pair(a, m, c0), operand_pair(a, m, c1), operand_pair(a, m + 8, c0),
           operand_pair(a, m + 8, c1)};
}

/* ---- products ---- */

struct product_panel {
    const cuda_matrix *matrix;
    unsigned panel; /* of the matrix */
    bool there;
};
/* Panel `which` (0 or 1) of a CTA's set n, counted over the grid. */
static __device__ __forceinline__ product_panel panel_of(const cuda_product &a, unsigned n,
                                                         unsigned which)
{
    n = a.pair ? n : n * 2 + which;
    const unsigned panel = n < a.panels ? n : a.panels - 1;
    unsigned j = a.pair ? which : 0;
    while (!a.pair && j + 1 < a.n_matrices && panel >= a.matrix[j + 1].first)
        j++;
    return {&a.matrix[j], panel - (a.pair ? 0 : a.matrix[j].first), n < a.panels};
}

/* A row's sum. k is cut into eight parts; sums of two neighbours are added, then those in rising
 * order. Each warp has a part; or, of two warps that read the same x, each has two, of its own
 * rows. */
enum { SUM_TOKENS = 16 }; /* whose sums are in shared memory at a time */

/* The sums of 16 tokens of all warps to where they go. sums: [WARPS / TURNS][token][32 SETS rows,
 * and one between]. */
template <int SETS, int TURNS>
static __device__ void leave_sums(const cuda_product &a, const float *sums, unsigned first)
{
    constexpr unsigned STRIDE = 2 * ROWS * SETS + 1, NEXT = SUM_TOKENS * STRIDE;
    const unsigned set_rows = a.pair ? +ROWS : 2 * ROWS, width = set_rows * SETS;
    for (unsigned n = threadIdx.x; n < SUM_TOKENS * width; n += CUDA_THREADS) {
        const unsigned token = n / width, set = n % width / set_rows, r = n % set_rows;
        const product_panel p = panel_of(a, blockIdx.x * SETS + set, r / ROWS);
        const unsigned row = p.panel * ROWS + r % ROWS;
        if (first + token >= a.n_rows || !p.there || row >= p.matrix->rows)
            continue;
        auto sum = [&](unsigned i) {
            const float *at = sums + token * STRIDE + set * 2 * ROWS + i;
            float v = 0.0f;
            for (unsigned w = 0; w < WARPS / TURNS; w += 2 / TURNS) {
                const float two =
                    TURNS == 2 ? at[w * NEXT] : __fadd_rn(at[w * NEXT], at[(w + 1) * NEXT]);
                v = w ? __fadd_rn(v, two) : two;
            }
            return v;
        };
        float v = scaled(p.matrix, row, sum(r));
        if (a.pair) {
            v = __fmul_rn(silu_value(v), scaled(&a.matrix[1], row, sum(r + ROWS)));
            v = a.round ? bf16_value(v) : v;
        }
        p.matrix->out[(size_t)(first + token) * p.matrix->out_stride + row] = v;
    }
}

/* What a lane has of a block: the words of four rows of a panel. */
template <class F> struct block_words {
    uint4 words[F::LOADS];
    group_constants constants;

    __device__ __forceinline__ void load(const cuda_product &a, const uint4 *w, unsigned block)
    {
        unsigned word = block * F::LOADS * 4;
        if (F::GROUPED) {
            const cuda_block at = a.table[block];
            word = at.word;
            constants = {w[(size_t)at.constants * 4], at.high ? 0x3232u : 0x1010u, a.zeros,
                         a.minimum};
        }
#pragma unroll
        for (int s = 0; s < F::LOADS; s++)
            words[s] = load_stream(w + (size_t)(word + s * 4 + threadIdx.x % 4) * 4);
    }

    /* The fragments of a step of 16 k: rows 4q, 4q + 1 and rows 4q + 2, 4q + 3. */
    template <class A>
    __device__ __forceinline__ void fragments(int step, uint32_t (*rows)[4]) const
    {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            uint32_t pair[2];
            F::template pairs<A>(words, step, r, constants, pair);
            rows[r / 2][r % 2] = pair[0];
            rows[r / 2][2 + r % 2] = pair[1];
        }
    }
};

/* A warp's sums of 32 SETS rows of weights and 8 TILES tokens. */
template <class A, class F, int TILES, int SETS> struct warp_product {
    /* blocks on their way, as far as registers go */
    enum { AHEAD = F::LOADS == 4 ? (TILES == 8 ? 1 : 2) : TILES == 8 ? 2 - F::GROUPED : 4 };
    const cuda_product &a;
    const uint4 *w[SETS];
    block_words<F> ring[AHEAD][SETS];
    float d[SETS][2][TILES][4];

    __device__ __forceinline__ warp_product(const cuda_product &args, unsigned set) : a(args)
    {
#pragma unroll
        for (int s = 0; s < SETS; s++) {
            const product_panel own = panel_of(a, set + s, threadIdx.x % 32 / 16);
            w[s] = (const uint4 *)own.matrix->w + (size_t)own.panel * a.panel_words * 4 +
                   threadIdx.x / 4 % 4;
        }
    }

    __device__ __forceinline__ void load(int i, unsigned block)
    {
#pragma unroll
        for (int s = 0; s < SETS; s++)
            ring[i][s].load(a, w[s], block);
    }

    /* The first weights are on their way before anything is waited for. */
    __device__ __forceinline__ void begin(unsigned first, unsigned end)
    {
#pragma unroll
        for (int i = 0; i < SETS * 2 * TILES * 4; i++)
            d[i / (TILES * 8)][i / (TILES * 4) % 2][i / 4 % TILES][i % 4] = 0.0f;
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (first + i < end)
                load(i, first + i);
    }

    __device__ __forceinline__ void multiply(unsigned block, const uint32_t (*rows)[SETS][2][4])
    {
        const uint4 *x = (const uint4 *)a.x + (size_t)block * TILES * 32 + threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const int step = i / (TILES / 2), n = i % (TILES / 2);
            const uint4 b = x[i * 32];
#pragma unroll
            for (int s = 0; s < 2 * SETS; s++) {
                A::mma(d[s / 2][s % 2][2 * n], rows[step][s / 2][s % 2], b.x, b.y);
                A::mma(d[s / 2][s % 2][2 * n + 1], rows[step][s / 2][s % 2], b.z, b.w);
            }
        }
    }

    __device__ __forceinline__ void run(unsigned first, unsigned end)
    {
        for (; first < end; first += AHEAD) {
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const unsigned block = first + i;
                if (block >= end)
                    break;
                uint32_t rows[2][SETS][2][4];
#pragma unroll
                for (int n = 0; n < 2 * SETS; n++)
                    ring[i][n / 2].template fragments<A>(n % 2, rows[n % 2][n / 2]);
                if (block + AHEAD < end)
                    load(i, block + AHEAD);
                multiply(block, rows);
            }
        }
    }
};

/* A CTA: 32 SETS rows of weights; with TURNS 2 twice as many. */
template <class A, class F, int TILES, int SETS, int TURNS>
static __device__ __forceinline__ void product(const cuda_product &a)
{
    constexpr int CTA_SETS = SETS * TURNS, VALUES = SETS * TILES * 8;
    constexpr unsigned STRIDE = 2 * ROWS * CTA_SETS + 1;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const unsigned own = warp % TURNS * SETS, parts = warp / TURNS; /* its set, its sums */
    shared_cursor cursor = shared_begin();
    float *sums = shared_take<float>(cursor, WARPS / TURNS * SUM_TOKENS * STRIDE);
    float *kept = shared_take<float>(cursor, TURNS == 2 ? WARPS * VALUES * 32 : 0);
    warp_product<A, F, TILES, SETS> work(a, blockIdx.x * CTA_SETS + own);
    auto cut = [&](unsigned part) { return a.blocks * part / WARPS; };

    work.begin(cut(parts * TURNS), cut(parts * TURNS + 1));
    launch_dependents();
    wait_previous();
    work.run(cut(parts * TURNS), cut(parts * TURNS + 1));
    if (TURNS == 2) {
        float *at = kept + (size_t)warp * VALUES * 32 + lane; /* this lane's alone */
#pragma unroll
        for (int i = 0; i < VALUES; i++)
            at[i * 32] = work.d[i / (TILES * 8)][i / (TILES * 4) % 2][i / 4 % TILES][i % 4];
        work.begin(cut(parts * TURNS + 1), cut(parts * TURNS + 2));
        work.run(cut(parts * TURNS + 1), cut(parts * TURNS + 2));
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
            float &v = work.d[i / (TILES * 8)][i / (TILES * 4) % 2][i / 4 % TILES][i % 4];
            v = __fadd_rn(at[i * 32], v);
        }
    }
#pragma unroll
    for (int n = 0; n < TILES / 2; n++) {
        if (n * SUM_TOKENS >= (int)a.n_rows)
            break;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16 * SETS; i++) {
            const int set = i / 16, rows = i / 8 % 2, tile = i / 4 % 2, at = i % 4;
            const unsigned row = (own + set) * 2 * ROWS + g / 4 * ROWS + g % 4 * 4 + rows * 2 +
                                 at / 2,
                           token = tile * 8 + t * 2 + at % 2;
            sums[(parts * SUM_TOKENS + token) * STRIDE + row] = work.d[set][rows][2 * n + tile][at];
        }
        __syncthreads();
        leave_sums<CTA_SETS, TURNS>(a, sums, n * SUM_TOKENS);
    }
}

/* ---- behind a library's product ---- */

static __device__ __forceinline__ void finish(const cuda_finish &a)
{
    launch_dependents();
    wait_previous();
    const cuda_matrix &m = a.matrix[0], &second = a.matrix[1];
    const size_t n = (size_t)blockIdx.x * CUDA_THREADS + threadIdx.x;
    if (n >= (size_t)a.n_rows * m.rows)
        return;
    const unsigned column = (unsigned)(n % m.rows);
    const size_t at = n / m.rows * m.out_stride + column;
    float v = scaled(&m, column, m.out[at]);
    if (a.pair)
        v = __fmul_rn(silu_value(v), scaled(&second, column, second.out[at]));
    m.out[at] = a.pair && a.round ? bf16_value(v) : v;
}
