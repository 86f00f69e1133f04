/* Dots of many rows with VDPBF16PS, which multiplies pairs of bf16 values:
 * x = fma(low, fma(high, x)).
 *
 * A chain of docs/numerics.md section 3 takes every other column. So a pair is two neighbours of a
 * chain, the earlier one in its high half: columns (0, 2) of four for the even chain, (1, 3) for
 * the odd one. Rows of x are packed so once; weights of any format, all of whose values are bf16
 * values here, are unpacked so a strip of blocks at a time, which then serves all rows from the
 * first-level cache. */
#include "columns_avx512.h"
#include "fma.h"

enum { STRIP_BLOCKS = 8, BLOCK_PAIRS = BLOCK_COLS / 2 };

void rows_begin_avx512bf16(void)
{
}

void rows_end_avx512bf16(void)
{
}

/* x rows: of each block the pairs of the two chains in turn. */
void pack_rows_avx512bf16(PACK_ROWS_ARGS)
{
    /* dwords of two registers of 16 columns: the first of a pair, the second */
    const __m512i first =
        _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
    for (size_t m = 0; m < M; m++)
        for (size_t b = 0; b < blocks; b++) {
            const float *at = x + m * x_stride + b * BLOCK_COLS;
            __m512i low = _mm512_load_si512(at), high = _mm512_load_si512(at + 16);
            __m512i pairs = _mm512_or_si512(
                _mm512_permutex2var_epi32(low, first, high),
                _mm512_srli_epi32(_mm512_permutex2var_epi32(low, second, high), 16));
            _mm512_store_si512(packed + (m * blocks + b) * BLOCK_PAIRS, pairs);
        }
}

/* bf16 values as f32: the first in the high half. */
INLINE __m512i pair_of(__m512 first, __m512 second)
{
    return _mm512_or_si512(_mm512_castps_si512(first),
                           _mm512_srli_epi32(_mm512_castps_si512(second), 16));
}

INLINE void unpack(enum stored_id stored, const char *w, size_t blocks, __m512i *pairs)
{
    const size_t bytes = stored == STORED_BF16 ? 128 : 64; /* of four columns */
    for (size_t i = 0; i < blocks * (BLOCK_COLS / 4); i++, w += bytes, pairs += 2) {
        if (stored == STORED_BF16) {
            enum { LOW_HALVES = 0x55555555 };
            __m512i a = _mm512_load_si512(w), b = _mm512_load_si512(w + 64);
            pairs[0] = _mm512_mask_mov_epi16(_mm512_slli_epi32(a, 16), LOW_HALVES, b);
            pairs[1] = _mm512_mask_mov_epi16(a, LOW_HALVES, _mm512_srli_epi32(b, 16));
        } else {
            __m512 v[4];
            columns(stored, w, v);
            pairs[0] = pair_of(v[0], v[2]);
            pairs[1] = pair_of(v[1], v[3]);
        }
    }
}

/* sum with the pairs of 16 rows and a pair of x: GCC 12 copies the sum and broadcasts apart. */
INLINE __m512 add_pair(__m512 sum, __m512i pair, const uint32_t *x)
{
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(pair), "m"(*x));
    return sum;
}

/* Memory that is read next, a few lines with every block that is multiplied. */
struct ahead {
    const char *at;
    size_t lines; /* a block */
};

/* acc[r] += the dots of R rows with unpacked blocks. */
INLINE void tile(size_t R, const __m512i *pairs, size_t blocks, const uint32_t *x, size_t x_stride,
                 float *acc, size_t acc_stride, struct ahead *ahead)
{
    __m512 sum[TILE_ROWS], even[TILE_ROWS], odd[TILE_ROWS];
    const uint32_t *row[TILE_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++)
        row[r] = x + r * x_stride;
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++)
        sum[r] = _mm512_loadu_ps(acc + r * acc_stride);
    for (size_t b = 0; b < blocks; b++, pairs += BLOCK_PAIRS) {
        for (size_t i = 0; i < ahead->lines; i++, ahead->at += 64)
            _mm_prefetch(ahead->at, _MM_HINT_T0);
#pragma GCC unroll 8
        for (size_t r = 0; r < R; r++)
            even[r] = odd[r] = _mm512_setzero_ps();
#pragma GCC unroll 8
        for (size_t i = 0; i < BLOCK_PAIRS; i += 2)
#pragma GCC unroll 8
            for (size_t r = 0; r < R; r++) {
                even[r] = add_pair(even[r], pairs[i], row[r] + i);
                odd[r] = add_pair(odd[r], pairs[i + 1], row[r] + i + 1);
            }
#pragma GCC unroll 8
        for (size_t r = 0; r < R; r++)
            row[r] += BLOCK_PAIRS;
#pragma GCC unroll 8
        for (size_t r = 0; r < R; r++)
            sum[r] = _mm512_add_ps(sum[r], _mm512_add_ps(even[r], odd[r]));
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++)
        _mm512_storeu_ps(acc + r * acc_stride, sum[r]);
}

/* next: the bytes behind these blocks as they are stored, block_bytes each. */
INLINE void tiles(const __m512i *pairs, size_t blocks, const uint32_t *x, size_t x_stride, size_t M,
                  float *acc, size_t acc_stride, const char *next, size_t block_bytes)
{
    struct ahead ahead = {next, (block_bytes / 64 * TILE_ROWS + M - 1) / M};
#define TILE(R)                                                                                    \
    case R:                                                                                        \
        tile(R, pairs, blocks, x + m * x_stride, x_stride, acc + m * acc_stride, acc_stride,       \
             &ahead);                                                                              \
        break
    EACH_TILE(TILE)
#undef TILE
}

INLINE void panel_rows(enum stored_id stored, size_t block_bytes, DOT_ARGS_OF(uint32_t))
{
    __m512i pairs[STRIP_BLOCKS * BLOCK_PAIRS];
    (void)sums;
    for (size_t m = 0; m < M; m++)
        _mm512_storeu_ps(out + m * out_stride, _mm512_setzero_ps());
    for (size_t b = 0, n; b < pieces.blocks; b += n) {
        n = pieces.blocks - b < STRIP_BLOCKS ? pieces.blocks - b : STRIP_BLOCKS;
        unpack(stored, (const char *)w + b * block_bytes, n, pairs);
        tiles(pairs, n, x + b * BLOCK_PAIRS, x_stride, M, out, out_stride,
              (const char *)w + (b + n) * block_bytes, block_bytes);
    }
    for (size_t m = 0; m < M; m++) /* -0 becomes +0 */
        _mm512_storeu_ps(out + m * out_stride,
                         _mm512_add_ps(_mm512_loadu_ps(out + m * out_stride), _mm512_setzero_ps()));
}

#define PANEL(name, stored, bytes)                                                                 \
    static void panel_##name(DOT_ARGS_OF(uint32_t))                                                \
    {                                                                                              \
        panel_rows(stored, 512 * bytes, w, pieces, x, x_stride, sums, M, out, out_stride);         \
    }
PANEL(bf16, STORED_BF16, 2)
PANEL(i8, STORED_INT8, 1)
PANEL(e4m3, STORED_FP8, 1)

/* ---- does the instruction do what is said above? ---- */

bool pairs_add_in_order(void)
{
    /* (1 + 2^-7) (1 - 2^-8), -1, 2^-20 ...: any other order, or a sum of products, rounds
     * otherwise */
    static const uint16_t a[2] = {0x3f81, 0x4b00}, b[2] = {0x3f7f, 0x3f81};
    _Alignas(64) float got[16];
    uint32_t w, x;
    bool same = true;
    memcpy(&w, a, 4);
    memcpy(&x, b, 4);
    for (int i = 0; i < 64; i++) {
        float sum = (float)(i * 524287 % 4099) * -2053.0f + 0.37f;
        float want = fma_f32(bf16_to_f32(a[0]), bf16_to_f32(b[0]),
                             fma_f32(bf16_to_f32(a[1]), bf16_to_f32(b[1]), sum));
        _mm512_store_ps(got, add_pair(_mm512_set1_ps(sum), _mm512_set1_epi32((int)w), &x));
        same &= got[0] == want;
    }
    return same;
}

/* ---- groups of 4-bit codes: looked up, two of a chain at a time ---- */

enum { LINE_COLS = 8, LINE_PAIRS = 4, PREFETCH_BYTES = 8192 };

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

/* sum[r] += the dots of R rows with B blocks, whose chains run side by side; each pair is used as
 * soon as it is looked up. */
INLINE void blocks_int4(enum stored_offset offset, size_t R, size_t B, const char *w,
                        const uint32_t *x, size_t x_stride, struct codes codes,
                        __m512 sum[TILE_ROWS])
{
    enum { BLOCK_BYTES = 256, LINES = BLOCK_COLS / LINE_COLS };
    __m512 even[TILE_ROWS], odd[TILE_ROWS];
    for (size_t i = 0; i < B * R; i++)
        even[i] = odd[i] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (size_t k = 0; k < LINES; k++)
#pragma GCC unroll 4
        for (size_t b = 0; b < B; b++) {
            const char *line = w + b * BLOCK_BYTES + k * 64;
            __m512i pairs[LINE_PAIRS];
            _mm_prefetch(line + PREFETCH_BYTES, _MM_HINT_T0);
            pairs_of_line(offset, _mm512_load_si512(line), codes, pairs);
#pragma GCC unroll 2
            for (size_t i = 0; i < LINE_PAIRS; i += 2)
#pragma GCC unroll 4
                for (size_t r = 0; r < R; r++) {
                    const uint32_t *at = x + r * x_stride + b * BLOCK_PAIRS + k * LINE_PAIRS + i;
                    even[b * R + r] = add_pair(even[b * R + r], pairs[i], at);
                    odd[b * R + r] = add_pair(odd[b * R + r], pairs[i + 1], at + 1);
                }
        }
    for (size_t b = 0; b < B; b++)
        for (size_t r = 0; r < R; r++)
            sum[r] = _mm512_add_ps(sum[r], _mm512_add_ps(even[b * R + r], odd[b * R + r]));
}

INLINE void sum_blocks(enum stored_offset offset, size_t R, const char *w, size_t blocks,
                       const uint32_t *x, size_t x_stride, struct codes codes,
                       __m512 sum[TILE_ROWS])
{
    size_t b = 0;
    for (; b + 2 <= blocks; b += 2)
        blocks_int4(offset, R, 2, w + b * 256, x + b * BLOCK_PAIRS, x_stride, codes, sum);
    if (b < blocks)
        blocks_int4(offset, R, 1, w + b * 256, x + b * BLOCK_PAIRS, x_stride, codes, sum);
}

/* sum[r] += the dots of R rows with a piece. */
INLINE void add_piece(enum stored_offset offset, size_t R, const char *w, size_t blocks,
                      const uint32_t *x, size_t x_stride, struct codes codes, __m512 sum[TILE_ROWS])
{
    size_t b = 0;
    for (; b + 2 <= blocks; b += 2)
        blocks_int4(offset, R, 2, w + b * 256, x + b * BLOCK_PAIRS, x_stride, codes, sum);
    if (b < blocks)
        blocks_int4(offset, R, 1, w + b * 256, x + b * BLOCK_PAIRS, x_stride, codes, sum);
}

/* Zeros that no table has: what a writer never stores. */
static void unpack_any_zero(const char *w, size_t blocks, const float *zero, __m512i *pairs)
{
    __m512 bias[4];
    bias_int4(zero, bias);
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

INLINE void piece_int4(enum stored_offset offset, const uint32_t *w, size_t blocks,
                       const uint32_t *x, size_t x_stride, const float *zero, size_t M, float *acc)
{
    const __m512i zeros = _mm512_cvtps_epi32(_mm512_load_ps(zero));
    const struct codes codes = codes_of(offset, zeros);
    const char *at = (const char *)w;
    const bool known = has_table(offset, zeros);
    if (known && M == 2) {
        __m512 sum[TILE_ROWS] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        add_piece(offset, 2, at, blocks, x, x_stride, codes, sum);
        _mm512_store_ps(acc, sum[0]);
        _mm512_store_ps(acc + PANEL_ROWS, sum[1]);
        return;
    }
    __m512i pairs[STRIP_BLOCKS * BLOCK_PAIRS];
    memset(acc, 0, M * PANEL_ROWS * sizeof *acc);
    for (size_t b = 0, n; b < blocks; b += n, at += n * 256) {
        n = blocks - b < STRIP_BLOCKS ? blocks - b : STRIP_BLOCKS;
        if (known)
            unpack_int4(offset, at, n, codes, pairs);
        else
            unpack_any_zero(at, n, zero, pairs);
        tiles(pairs, n, x + b * BLOCK_PAIRS, x_stride, M, acc, PANEL_ROWS, at + n * 256, 256);
    }
}

#define GROUP_X uint32_t
#define GROUP_X_BLOCK BLOCK_PAIRS
#include "groups.inc.h"
/* One row, its constants and its sum in registers. false: a zero that no table has; nothing is done
 * then. */
INLINE bool row_over_groups(enum stored_offset offset, const uint32_t *w, struct pieces pieces,
                            const uint32_t *x, const float *sums, float *out)
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000), byte = _mm512_set1_epi32(0xff);
    const uint32_t *at = w, *word = w;
    __m512 total = _mm512_setzero_ps();
    for (size_t b = 0, index = 0, n; b < pieces.blocks; b += n, index++) {
        const bool second = offset == OFFSET_NONE && index % 2;
        word = second ? word : at;
        at += second ? 0 : PANEL_ROWS;
        n = piece_blocks(pieces, b);
        const __m512i constants = _mm512_load_si512(word), zero = _mm512_and_si512(constants, byte);
        const __m512 lower = f32_of(_mm512_slli_epi32(constants, 16)), /* scale, or minimum */
            scale = offset == OFFSET_NONE && !second ? lower
                                                     : f32_of(_mm512_and_si512(constants, upper));
        if (!has_table(offset, zero))
            return false;
        __m512 sum[TILE_ROWS] = {_mm512_setzero_ps()};
        add_piece(offset, 1, (const char *)at, n, x + b * BLOCK_PAIRS, 0, codes_of(offset, zero),
                  sum);
        at += n * BLOCK_COLS / 8 * PANEL_ROWS;
        total = _mm512_fmadd_ps(scale, sum[0], total);
        if (offset == OFFSET_MINIMUM)
            total = _mm512_fmadd_ps(lower, _mm512_set1_ps(sums[b]), total);
    }
    _mm512_storeu_ps(out, _mm512_add_ps(total, _mm512_setzero_ps()));
    return true;
}

#define PANEL_OF_GROUPS(name, offset)                                                              \
    static GROUPS(many_##name, offset, piece_int4) static void panel_##name(DOT_ARGS_OF(uint32_t)) \
    {                                                                                              \
        if (M != 1 || !row_over_groups(offset, w, pieces, x, sums, out))                           \
            many_##name(w, pieces, x, x_stride, sums, M, out, out_stride);                         \
    }
PANEL_OF_GROUPS(int4_none, OFFSET_NONE)
PANEL_OF_GROUPS(int4_zero, OFFSET_ZERO)
PANEL_OF_GROUPS(int4_min, OFFSET_MINIMUM)

/* A panel after the other. */
#define DOT_ROWS(name)                                                                             \
    void dot_rows_avx512bf16_##name(DOT_ROWS_ARGS)                                                 \
    {                                                                                              \
        (void)room;                                                                                \
        for (size_t p = 0; p < panels; p++)                                                        \
            panel_##name((const char *)w + p * panel_bytes, pieces, x + block * BLOCK_PAIRS,       \
                         x_blocks * BLOCK_PAIRS, sums, M, out + p * PANEL_ROWS, out_stride);       \
    }
/* clang-format off */
DOT_ROWS(bf16)
DOT_ROWS(i8)
DOT_ROWS(e4m3)
DOT_ROWS(int4_none)
DOT_ROWS(int4_zero)
DOT_ROWS(int4_min)
/* clang-format on */
