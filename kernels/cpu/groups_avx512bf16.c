/* Dots over groups of 4-bit codes with VDPBF16PS: codes are looked up as pairs of bf16 values, two
 * of a chain at a time. */
#include "error.h"
#include "tiles_avx512bf16.h"

enum { LINE_COLS = 8, LINE_PAIRS = 4, BLOCK_BYTES = 256 };

/* values: by code, or by code - zero + 16; plus: 16 - zero in both halves of each row, zero at most
 * 15. */
struct codes {
    __m512i values, plus;
};

INLINE struct codes codes_of(enum stored_offset offset, __m512i zero)
{
    uint16_t values[32];
    for (int i = 0; i < 32; i++)
        values[i] = (uint16_t)(f32_bits((float)(offset == OFFSET_ZERO   ? i - 16
                                                : offset == OFFSET_NONE ? i % 16 - 8
                                                                        : i % 16)) >>
                               16);
    __m512i plus = _mm512_sub_epi32(_mm512_set1_epi32(16), zero);
    return (struct codes){_mm512_loadu_si512(values),
                          _mm512_or_si512(plus, _mm512_slli_epi32(plus, 16))};
}

INLINE bool has_table(enum stored_offset offset, __m512i zero)
{
    return offset != OFFSET_ZERO || !_mm512_cmpgt_epi32_mask(zero, _mm512_set1_epi32(15));
}

/* Pairs of a line's eight columns, even and odd chain in turn. Column 2q of a row is at bit 4q of
 * its word, 2q + 1 at bit 16 + 4q; what stands above the four bits of a code is not looked at, or
 * cut off. */
INLINE void pairs_of_line(enum stored_offset offset, __m512i line, struct codes codes,
                          __m512i pairs[LINE_PAIRS])
{
#pragma GCC unroll 4
    for (int i = 0; i < LINE_PAIRS; i++) {
        const long long first = i / 2 * 8 + i % 2 * 16, second = first + 4; /* bits */
        const long long row = second | first << 16, rows = row | (row + 32 + (32 << 16)) << 32;
        __m512i code = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(rows), line);
        if (offset == OFFSET_ZERO)
            code = _mm512_add_epi32(_mm512_and_si512(code, _mm512_set1_epi16(15)), codes.plus);
        pairs[i] = _mm512_permutexvar_epi16(code, codes.values);
    }
}

/* The same of a pair that is needed once; GCC would broadcast it apart. */
INLINE __m512 add_pair_at(__m512 sum, __m512i pair, const uint32_t *x)
{
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(pair), "m"(*x));
    return sum;
}

/* sum[r] += the dots of R rows with B blocks, whose chains run side by side; each pair is used as
 * soon as it is looked up. */
INLINE void blocks_int4(enum stored_offset offset, size_t R, size_t B, const char *w,
                        const uint32_t *x, struct codes codes, __m512 sum[TILE_R])
{
    enum { LINES = BLOCK_COLS / LINE_COLS };
    __m512 even[TILE_R], odd[TILE_R];
    for (size_t i = 0; i < B * R; i++)
        even[i] = odd[i] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (size_t k = 0; k < LINES; k++)
#pragma GCC unroll 4
        for (size_t b = 0; b < B; b++) {
            const char *line = w + b * BLOCK_BYTES + k * 64;
            __m512i pairs[LINE_PAIRS];
            _mm_prefetch(line + near_bytes(BLOCK_BYTES), _MM_HINT_T0);
            pairs_of_line(offset, _mm512_load_si512(line), codes, pairs);
#pragma GCC unroll 2
            for (size_t i = 0; i < LINE_PAIRS; i += 2)
#pragma GCC unroll 4
                for (size_t r = 0; r < R; r++) {
                    const uint32_t *at = x + (b * BLOCK_PAIRS + k * LINE_PAIRS + i) * R + r;
                    even[b * R + r] = add_pair_at(even[b * R + r], pairs[i], at);
                    odd[b * R + r] = add_pair_at(odd[b * R + r], pairs[i + 1], at + R);
                }
        }
    for (size_t b = 0; b < B; b++)
        for (size_t r = 0; r < R; r++)
            sum[r] = _mm512_add_ps(sum[r], _mm512_add_ps(even[b * R + r], odd[b * R + r]));
}

/* constants_of in registers. */
struct constants {
    __m512 scale, minimum;
    __m512i zero;
};

INLINE struct constants constants_at(enum stored_offset offset, const uint32_t *word, bool second)
{
    const __m512i words = _mm512_load_si512(word);
    const __m512 lower = f32_of(_mm512_slli_epi32(words, 16)),
                 upper = f32_of(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000)));
    return (struct constants){offset == OFFSET_NONE && !second ? lower : upper, lower,
                              _mm512_and_si512(words, _mm512_set1_epi32(0xff))};
}

/* A leaf and R rows, their sums in registers. false: a zero that no table has; nothing is written
 * then. */
INLINE bool few_over_groups(enum stored_offset offset, size_t R, const struct leaf_at *at,
                            const uint32_t *x, size_t x_stride, const float *sums,
                            size_t out_stride, struct follower *follower)
{
    __m512 total[TILE_R];
    for (size_t r = 0; r < R; r++)
        total[r] = _mm512_setzero_ps();
    for (struct piece_at p = before_pieces(at->w); next_piece(offset, at->leaf->pieces, &p);) {
        const struct constants c = constants_at(offset, p.word, p.second);
        if (!has_table(offset, c.zero))
            return false;
        const struct codes codes = codes_of(offset, c.zero);
        const size_t block = at->block + p.block;
        const uint32_t *x_at = x + block * BLOCK_PAIRS * R;
        const char *w = (const char *)p.codes;
        __m512 sum[TILE_R];
        for (size_t r = 0; r < R; r++)
            sum[r] = _mm512_setzero_ps();
        for (size_t i = 0; i < p.blocks; i += 2, w += 2 * BLOCK_BYTES, x_at += 2 * BLOCK_PAIRS * R)
            if (p.blocks - i > 1)
                blocks_int4(offset, R, 2, w, x_at, codes, sum);
            else
                blocks_int4(offset, R, 1, w, x_at, codes, sum);
        for (size_t r = 0; r < R; r++) {
            total[r] = _mm512_fmadd_ps(c.scale, sum[r], total[r]);
            if (offset == OFFSET_MINIMUM)
                total[r] = _mm512_fmadd_ps(
                    c.minimum, _mm512_set1_ps(sums[r * (x_stride / BLOCK_PAIRS) + block]),
                    total[r]);
        }
        if (R == 1)
            follow(follower, (const char *)p.codes + p.blocks * BLOCK_BYTES);
    }
    for (size_t r = 0; r < R; r++)
        put_leaf_sums(at, r * out_stride, total[r]);
    return true;
}

/* Zeros that no table has: what a writer never stores. */
static void unpack_any_zero(const char *w, size_t blocks, __m512i zero, __m512i *pairs)
{
    __m512 bias[4];
    _Alignas(64) float zeros[PANEL_ROWS];
    _mm512_store_ps(zeros, _mm512_cvtepi32_ps(zero));
    bias_int4(zeros, bias);
    for (size_t k = 0; k < blocks * BLOCK_COLS; k += LINE_COLS, w += 64, pairs += LINE_PAIRS) {
        __m512i low = _mm512_load_si512(w), high = _mm512_srli_epi32(low, 16);
        for (unsigned i = 0; i < LINE_PAIRS; i++) {
            unsigned first = i / 2 * 8 + i % 2 * 16;
            pairs[i] = pair_of(code_int4(OFFSET_ZERO, low, high, first, bias[0], bias),
                               code_int4(OFFSET_ZERO, low, high, first + 4, bias[0], bias));
        }
    }
}

INLINE void unpack_int4(enum stored_offset offset, const char *w, size_t blocks, struct codes codes,
                        __m512i *pairs)
{
    for (size_t i = 0; i < blocks * BLOCK_PAIRS; i += LINE_PAIRS, w += 64)
        pairs_of_line(offset, _mm512_load_si512(w), codes, pairs + i);
}

/* One text for all offsets. */
static void tiles_folded(size_t P, struct strip *strip, size_t x_stride, size_t M,
                         size_t out_stride, struct ahead ahead)
{
    if (P == 2)
        tiles(2, true, strip, x_stride, M, out_stride, ahead);
    else
        tiles(1, true, strip, x_stride, M, out_stride, ahead);
}

/* A piece of P panels, which is at most a strip. */
INLINE void add_piece(enum stored_offset offset, size_t P, struct strip *strip,
                      const struct leaf_at *at, const struct piece_at *piece, size_t panel_bytes,
                      const float *sums, size_t sums_stride)
{
    const char *word = (const char *)piece->word, *w = (const char *)piece->codes;
    struct fold fold = {.stride = sums_stride,
                        .sums = offset == OFFSET_MINIMUM ? sums + at->block + piece->block : NULL};
    for (size_t p = 0; p < P; p++, word += panel_bytes, w += panel_bytes) {
        const struct constants c =
            constants_at(offset, (const uint32_t *)(const void *)word, piece->second);
        __m512i *pairs = strip_pairs(strip, p);
        fold.scale[p] = c.scale;
        fold.minimum[p] = c.minimum;
        if (has_table(offset, c.zero))
            unpack_int4(offset, w, piece->blocks, codes_of(offset, c.zero), pairs);
        else
            unpack_any_zero(w, piece->blocks, c.zero, pairs);
    }
    strip_add(strip, at, piece->block, piece->blocks)->fold = fold;
}

INLINE void many_over_groups(enum stored_offset offset, size_t P, ROWS_ARGS)
{
    struct strip strip;
    strip_begin(&strip, x);
    EACH_LEAF(at)
    for (struct piece_at p = before_pieces(at.w); next_piece(offset, at.leaf->pieces, &p);) {
        tp_assert(p.blocks <= STRIP_BLOCKS);
        if (!strip_has_room(&strip, p.blocks))
            tiles_folded(P, &strip, stride, M, out_stride,
                         ahead_of(&strip, (const char *)p.codes, BLOCK_BYTES, panel_bytes, M));
        add_piece(offset, P, &strip, &at, &p, panel_bytes, sums, stride / BLOCK_PAIRS);
    }
    tiles_folded(P, &strip, stride, M, out_stride,
                 ahead_of(&strip, w + P * panel_bytes, BLOCK_BYTES, panel_bytes, M));
}

/* A leaf with a zero that no table has. */
static __attribute__((noinline)) void few_of_any_zero(const struct leaf_at *at, const uint32_t *x,
                                                      size_t x_stride, size_t M, size_t out_stride)
{
    const struct leaf_run one = {.count = 1, .leaves = at->leaf, .merges = at->merges};
    many_over_groups(OFFSET_ZERO, 1, at->w, at->leaf->panel_bytes, &one,
                     x + at->block * BLOCK_PAIRS * width_of(M), x_stride, NULL, M, at->top,
                     out_stride, at->node);
}

/* One or two rows of x. */
INLINE void few_over_leaves(enum stored_offset offset, size_t R, ROWS_ARGS)
{
    (void)panel_bytes;
    EACH_LEAF(at)
    if (!few_over_groups(offset, R, &at, x, stride, sums, out_stride, leaves->follower))
        few_of_any_zero(&at, x, stride, M, out_stride);
}

#define ARGS w, panel_bytes, leaves, x, stride, sums, M, out, out_stride, node
#define DOT_GROUPS(name, offset)                                                                   \
    static void name##_1(ROWS_ARGS)                                                                \
    {                                                                                              \
        if (M == 1)                                                                                \
            few_over_leaves(offset, 1, ARGS);                                                      \
        else if (M == 2)                                                                           \
            few_over_leaves(offset, 2, ARGS);                                                      \
        else                                                                                       \
            many_over_groups(offset, 1, ARGS);                                                     \
    }                                                                                              \
    static void name##_2(ROWS_ARGS)                                                                \
    {                                                                                              \
        many_over_groups(offset, 2, ARGS);                                                         \
    }                                                                                              \
    EACH_PAIR(name)
DOT_GROUPS(int4_none, OFFSET_NONE)
DOT_GROUPS(int4_zero, OFFSET_ZERO)
DOT_GROUPS(int4_min, OFFSET_MINIMUM)
