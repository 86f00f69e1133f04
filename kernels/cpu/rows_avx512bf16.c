/* Dots of many rows with VDPBF16PS, which multiplies pairs of bf16 values:
 * x = fma(low, fma(high, x)).
 *
 * A chain of docs/numerics.md section 3 takes every other column. So a pair is two neighbours of a
 * chain, the earlier one in its high half: columns (0, 2) of four for the even chain, (1, 3) for
 * the odd one. Rows of x are packed so once; weights of any format, all of whose values are bf16
 * values here, are unpacked so a strip of blocks at a time, which then serves all rows from the
 * first-level cache. */
#include "columns_avx512.h"
#include "error.h"
#include "fma.h"

enum { STRIP_BLOCKS = 8, BLOCK_PAIRS = BLOCK_COLS / 2 };

void rows_begin_avx512bf16(void)
{
}

void rows_end_avx512bf16(void)
{
}

/* Rows of x lie side by side in tiles of so many, a pair of each: where there are but one or two, no
 * wider than that. */
enum { TILE_R = 4 };
INLINE size_t width_of(size_t M)
{
    return M <= 2 ? M : TILE_R;
}

/* A block's pairs of the two chains in turn. */
INLINE __m512i pairs_of_row(const float *x)
{
    /* dwords of two registers of 16 columns: the first of a pair, the second */
    const __m512i first =
        _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
    const __m512i low = _mm512_load_si512(x), high = _mm512_load_si512(x + 16);
    return _mm512_or_si512(_mm512_permutex2var_epi32(low, first, high),
                           _mm512_srli_epi32(_mm512_permutex2var_epi32(low, second, high), 16));
}

/* Four rows of 16 words become 16 rows of four. */
INLINE void transpose(const __m512i v[4], uint32_t *to)
{
    const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]),
                  c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    const __m512i t[4] = {_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c),
                          _mm512_unpacklo_epi64(b, d), _mm512_unpackhi_epi64(b, d)};
    const __m512i p = _mm512_shuffle_i32x4(t[0], t[1], 0x44),
                  q = _mm512_shuffle_i32x4(t[2], t[3], 0x44),
                  r = _mm512_shuffle_i32x4(t[0], t[1], 0xee),
                  s = _mm512_shuffle_i32x4(t[2], t[3], 0xee);
    _mm512_store_si512(to, _mm512_shuffle_i32x4(p, q, 0x88));
    _mm512_store_si512(to + 16, _mm512_shuffle_i32x4(p, q, 0xdd));
    _mm512_store_si512(to + 32, _mm512_shuffle_i32x4(r, s, 0x88));
    _mm512_store_si512(to + 48, _mm512_shuffle_i32x4(r, s, 0xdd));
}

void pack_rows_avx512bf16(PACK_ROWS_ARGS)
{
    const size_t width = width_of(M);
    const __m512i none = _mm512_setzero_si512();
    for (size_t m = 0; m < M; m += width)
        for (size_t b = 0; b < blocks; b++, packed += BLOCK_PAIRS * width) {
            __m512i v[TILE_R] = {none, none, none, none};
            for (size_t r = 0; r < width && m + r < M; r++)
                v[r] = pairs_of_row(x + (m + r) * x_stride + b * BLOCK_COLS);
            if (width == TILE_R) {
                transpose(v, packed);
            } else if (width == 2) {
                const __m512i even =
                    _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(8));
                _mm512_store_si512(packed, _mm512_permutex2var_epi32(v[0], even, v[1]));
                _mm512_store_si512(packed + 16, _mm512_permutex2var_epi32(v[0], odd, v[1]));
            } else {
                _mm512_store_si512(packed, v[0]);
            }
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

/* sum with the pairs of 16 rows and a pair of x: GCC 12 copies the sum. */
INLINE __m512 add_pair(__m512 sum, __m512i pair, __m512i x)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(pair), "v"(x));
    return sum;
}

INLINE __m512i pair_at(const uint32_t *x)
{
    return _mm512_set1_epi32((int)*x);
}

/* ---- tiles: four rows of x and two panels, whose sixteen chains hide the instruction's latency
 * ---- */

enum { TILE_P = 2 };

/* Blocks of up to two panels, unpacked. */
struct strip {
    __m512i pairs[TILE_P][STRIP_BLOCKS * BLOCK_PAIRS];
};

/* What becomes of a piece's sums: out = fma(scale, sum, out), then fma(minimum, S, out). */
struct fold {
    __m512 scale[TILE_P], minimum[TILE_P];
    const float *sums; /* S of row m at m * stride; NULL: no minimum */
    size_t stride;
};

/* Memory that is read next, of each panel: a few lines with every block that is multiplied. */
struct ahead {
    const char *at, *end;
    size_t panel_bytes, lines; /* lines: a block */
};

INLINE void ask(struct ahead *ahead, size_t P)
{
    for (size_t i = 0; i < ahead->lines && ahead->at < ahead->end; i++, ahead->at += 64)
        for (size_t p = 0; p < P; p++)
            _mm_prefetch(ahead->at + p * ahead->panel_bytes, _MM_HINT_T0);
}

/* The dots of R rows with unpacked blocks of P panels go on in out; or, with a fold, over a whole
 * piece, are folded into it. */
INLINE void tile(size_t R, size_t P, size_t width, const struct strip *strip, size_t blocks,
                 const uint32_t *x, const struct fold *fold, size_t m, float *out,
                 size_t out_stride, struct ahead *ahead)
{
    __m512 sum[TILE_R][TILE_P], chain[2][TILE_R][TILE_P];
#pragma GCC unroll 8
    for (size_t i = 0; i < R * P; i++)
        sum[i / P][i % P] = fold ? _mm512_setzero_ps()
                                 : _mm512_loadu_ps(out + i / P * out_stride + i % P * PANEL_ROWS);
    for (size_t b = 0; b < blocks; b++, x += BLOCK_PAIRS * width) {
        const __m512i *pairs = &strip->pairs[0][b * BLOCK_PAIRS];
        ask(ahead, P);
#pragma GCC unroll 8
        for (size_t i = 0; i < R * P; i++)
            chain[0][i / P][i % P] = chain[1][i / P][i % P] = _mm512_setzero_ps();
#pragma GCC unroll 16
        for (size_t k = 0; k < BLOCK_PAIRS; k++) {
#pragma GCC unroll 4
            for (size_t r = 0; r < R; r++) {
                const __m512i at = pair_at(x + k * width + r);
#pragma GCC unroll 2
                for (size_t p = 0; p < P; p++)
                    chain[k % 2][r][p] =
                        add_pair(chain[k % 2][r][p], pairs[p * STRIP_BLOCKS * BLOCK_PAIRS + k], at);
            }
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < R * P; i++)
            sum[i / P][i % P] = _mm512_add_ps(
                sum[i / P][i % P], _mm512_add_ps(chain[0][i / P][i % P], chain[1][i / P][i % P]));
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < R * P; i++) {
        const size_t r = i / P, p = i % P;
        float *to = out + r * out_stride + p * PANEL_ROWS;
        __m512 total = sum[r][p];
        if (fold)
            total = _mm512_fmadd_ps(fold->scale[p], total, _mm512_loadu_ps(to));
        if (fold && fold->sums)
            total = _mm512_fmadd_ps(fold->minimum[p],
                                    _mm512_set1_ps(fold->sums[(m + r) * fold->stride]), total);
        _mm512_storeu_ps(to, total);
    }
}

INLINE void tiles(size_t P, const struct strip *strip, size_t blocks, const uint32_t *x,
                  size_t x_stride, const struct fold *fold, size_t M, float *out, size_t out_stride,
                  struct ahead ahead)
{
#define TILE(R, width)                                                                             \
    case R:                                                                                        \
        tile(R, P, width, strip, blocks, x, fold, m, out, out_stride, &ahead);                     \
        break
    if (M <= 2) {
        const size_t m = 0;
        switch (M) {
            TILE(1, 1);
            TILE(2, 2);
        }
        return;
    }
    for (size_t m = 0; m < M; m += TILE_R, x += TILE_R * x_stride, out += TILE_R * out_stride)
        switch (M - m) {
            TILE(1, TILE_R);
            TILE(2, TILE_R);
            TILE(3, TILE_R);
        default:
            tile(TILE_R, P, TILE_R, strip, blocks, x, fold, m, out, out_stride, &ahead);
        }
#undef TILE
}

/* Tiles of a format's strips, one panel or two. */
static void tiles_plain(size_t P, const struct strip *strip, size_t blocks, const uint32_t *x,
                        size_t x_stride, size_t M, float *out, size_t out_stride,
                        struct ahead ahead)
{
    if (P == 2)
        tiles(2, strip, blocks, x, x_stride, NULL, M, out, out_stride, ahead);
    else
        tiles(1, strip, blocks, x, x_stride, NULL, M, out, out_stride, ahead);
}

static void tiles_folded(size_t P, const struct strip *strip, size_t blocks, const uint32_t *x,
                         size_t x_stride, const struct fold *fold, size_t M, float *out,
                         size_t out_stride, struct ahead ahead)
{
    if (P == 2)
        tiles(2, strip, blocks, x, x_stride, fold, M, out, out_stride, ahead);
    else
        tiles(1, strip, blocks, x, x_stride, fold, M, out, out_stride, ahead);
}

/* Of a strip's panels, what follows its blocks, M rows long. */
INLINE struct ahead ahead_of(const char *next, size_t bytes, size_t blocks, size_t panel_bytes,
                             size_t M)
{
    return (struct ahead){next, next + bytes, panel_bytes,
                          (bytes / 64 * TILE_R + blocks * M - 1) / (blocks * M)};
}

INLINE void clear(size_t M, size_t P, float *out, size_t out_stride)
{
    for (size_t m = 0; m < M; m++)
        for (size_t p = 0; p < P; p++)
            _mm512_storeu_ps(out + m * out_stride + p * PANEL_ROWS, _mm512_setzero_ps());
}

/* -0 becomes +0. */
INLINE void finish(size_t M, size_t P, float *out, size_t out_stride)
{
    for (size_t m = 0; m < M; m++)
        for (size_t p = 0; p < P; p++) {
            float *at = out + m * out_stride + p * PANEL_ROWS;
            _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), _mm512_setzero_ps()));
        }
}

INLINE void dot_values(enum stored_id stored, size_t block_bytes, size_t P, const char *w,
                       size_t panel_bytes, struct pieces pieces, const uint32_t *x, size_t x_stride,
                       size_t M, float *out, size_t out_stride)
{
    struct strip strip;
    clear(M, P, out, out_stride);
    for (size_t b = 0, n; b < pieces.blocks; b += n, w += n * block_bytes) {
        n = pieces.blocks - b < STRIP_BLOCKS ? pieces.blocks - b : STRIP_BLOCKS;
        for (size_t p = 0; p < P; p++)
            unpack(stored, w + p * panel_bytes, n, strip.pairs[p]);
        tiles_plain(P, &strip, n, x + b * BLOCK_PAIRS * width_of(M), x_stride, M, out, out_stride,
                    ahead_of(w + n * block_bytes, n * block_bytes, n, panel_bytes, M));
    }
    finish(M, P, out, out_stride);
}

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
        _mm512_store_ps(got, add_pair(_mm512_set1_ps(sum), _mm512_set1_epi32((int)w), pair_at(&x)));
        same &= got[0] == want;
    }
    return same;
}

/* ---- groups of 4-bit codes: looked up, two of a chain at a time ---- */

enum { LINE_COLS = 8, LINE_PAIRS = 4, BLOCK_WORDS = 64, PREFETCH_BYTES = 8192 };

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
                        const uint32_t *x, struct codes codes, __m512 sum[TILE_R])
{
    enum { BLOCK_BYTES = 256, LINES = BLOCK_COLS / LINE_COLS };
    __m512 even[TILE_R], odd[TILE_R];
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
                    const uint32_t *at = x + (b * BLOCK_PAIRS + k * LINE_PAIRS + i) * R + r;
                    even[b * R + r] = add_pair(even[b * R + r], pairs[i], pair_at(at));
                    odd[b * R + r] = add_pair(odd[b * R + r], pairs[i + 1], pair_at(at + R));
                }
        }
    for (size_t b = 0; b < B; b++)
        for (size_t r = 0; r < R; r++)
            sum[r] = _mm512_add_ps(sum[r], _mm512_add_ps(even[b * R + r], odd[b * R + r]));
}

/* What a piece's word of each row says; second: of the two pieces that the word serves. */
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

/* R rows, their sums in registers. false: a zero that no table has; nothing is done then. */
INLINE bool few_over_groups(enum stored_offset offset, size_t R, const uint32_t *w,
                            struct pieces pieces, const uint32_t *x, size_t x_stride,
                            const float *sums, float *out, size_t out_stride)
{
    const uint32_t *at = w, *word = w;
    __m512 total[TILE_R];
    for (size_t r = 0; r < R; r++)
        total[r] = _mm512_setzero_ps();
    for (size_t b = 0, index = 0, n; b < pieces.blocks; b += n, index++) {
        const bool second = offset == OFFSET_NONE && index % 2;
        word = second ? word : at;
        at += second ? 0 : PANEL_ROWS;
        n = piece_blocks(pieces, b);
        const struct constants c = constants_at(offset, word, second);
        if (!has_table(offset, c.zero))
            return false;
        const struct codes codes = codes_of(offset, c.zero);
        const uint32_t *x_at = x + b * BLOCK_PAIRS * R;
        __m512 sum[TILE_R];
        for (size_t r = 0; r < R; r++)
            sum[r] = _mm512_setzero_ps();
        for (size_t i = 0; i < n; i += 2, at += 2 * BLOCK_WORDS, x_at += 2 * BLOCK_PAIRS * R)
            if (n - i > 1)
                blocks_int4(offset, R, 2, (const char *)at, x_at, codes, sum);
            else
                blocks_int4(offset, R, 1, (const char *)at, x_at, codes, sum);
        at -= n % 2 * BLOCK_WORDS;
        for (size_t r = 0; r < R; r++) {
            total[r] = _mm512_fmadd_ps(c.scale, sum[r], total[r]);
            if (offset == OFFSET_MINIMUM)
                total[r] = _mm512_fmadd_ps(
                    c.minimum, _mm512_set1_ps(sums[r * (x_stride / BLOCK_PAIRS) + b]), total[r]);
        }
    }
    for (size_t r = 0; r < R; r++)
        _mm512_storeu_ps(out + r * out_stride, _mm512_add_ps(total[r], _mm512_setzero_ps()));
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

/* A piece is at most a strip. */
INLINE void many_over_groups(enum stored_offset offset, size_t P, const char *w, size_t panel_bytes,
                             struct pieces pieces, const uint32_t *x, size_t x_stride,
                             const float *sums, size_t M, float *out, size_t out_stride)
{
    struct strip strip;
    struct fold fold = {.stride = x_stride / BLOCK_PAIRS};
    const char *at = w, *word = w;
    clear(M, P, out, out_stride);
    for (size_t b = 0, index = 0, n; b < pieces.blocks; b += n, index++) {
        const bool second = offset == OFFSET_NONE && index % 2;
        word = second ? word : at;
        at += second ? 0 : PANEL_ROWS * 4;
        n = piece_blocks(pieces, b);
        tp_assert(n <= STRIP_BLOCKS);
        for (size_t p = 0; p < P; p++) {
            const struct constants c = constants_at(
                offset, (const uint32_t *)(const void *)(word + p * panel_bytes), second);
            fold.scale[p] = c.scale;
            fold.minimum[p] = c.minimum;
            if (has_table(offset, c.zero))
                unpack_int4(offset, at + p * panel_bytes, n, codes_of(offset, c.zero),
                            strip.pairs[p]);
            else
                unpack_any_zero(at + p * panel_bytes, n, c.zero, strip.pairs[p]);
        }
        at += n * BLOCK_WORDS * 4;
        fold.sums = offset == OFFSET_MINIMUM ? sums + b : NULL;
        tiles_folded(P, &strip, n, x + b * BLOCK_PAIRS * width_of(M), x_stride, &fold, M, out,
                     out_stride, ahead_of(at, n * BLOCK_WORDS * 4, n, panel_bytes, M));
    }
    finish(M, P, out, out_stride);
}

/* ---- runs of panels, two at a time ---- */

#define ROWS_ARGS                                                                                  \
    const char *w, size_t panel_bytes, struct pieces pieces, const uint32_t *x, size_t stride,     \
        const float *sums, size_t M, float *out, size_t out_stride
/* Of one panel, and of two. */
typedef void rows_fn(ROWS_ARGS);

INLINE void each_pair(rows_fn *one, rows_fn *two, DOT_ROWS_ARGS)
{
    const size_t stride = x_blocks * BLOCK_PAIRS;
    const char *at = w;
    (void)room;
    for (x += block * BLOCK_PAIRS * width_of(M); panels > 1;
         panels -= 2, at += 2 * panel_bytes, out += 2 * PANEL_ROWS)
        two(at, panel_bytes, pieces, x, stride, sums, M, out, out_stride);
    if (panels)
        one(at, panel_bytes, pieces, x, stride, sums, M, out, out_stride);
}

#define EACH_PAIR(name)                                                                            \
    void dot_rows_avx512bf16_##name(DOT_ROWS_ARGS)                                                 \
    {                                                                                              \
        each_pair(name##_1, name##_2, w, panel_bytes, panels, pieces, x, x_blocks, block, sums, M, \
                  out, out_stride, room);                                                          \
    }

#define VALUES(name, stored, bytes, P)                                                             \
    static void name##_##P(ROWS_ARGS)                                                              \
    {                                                                                              \
        (void)sums;                                                                                \
        dot_values(stored, 512 * bytes, P, w, panel_bytes, pieces, x, stride, M, out, out_stride); \
    }
#define DOT_VALUES(name, stored, bytes)                                                            \
    VALUES(name, stored, bytes, 1)                                                                 \
    VALUES(name, stored, bytes, 2)                                                                 \
    EACH_PAIR(name)
DOT_VALUES(bf16, STORED_BF16, 2)
DOT_VALUES(i8, STORED_INT8, 1)
DOT_VALUES(e4m3, STORED_FP8, 1)

/* A panel's rows of x, where they are one or two, and no zero is beyond the tables. */
#define FEW(offset, R, at)                                                                         \
    few_over_groups(offset, R, (const uint32_t *)(const void *)(w + (at)*panel_bytes), pieces, x,  \
                    stride, sums, out + (at)*PANEL_ROWS, out_stride)
#define GROUPS(name, offset, P)                                                                    \
    static void name##_##P(ROWS_ARGS)                                                              \
    {                                                                                              \
        bool done = M <= 2;                                                                        \
        for (size_t p = 0; done && p < (P); p++)                                                   \
            done = M == 1 ? FEW(offset, 1, p) : FEW(offset, 2, p);                                 \
        if (!done)                                                                                 \
            many_over_groups(offset, P, w, panel_bytes, pieces, x, stride, sums, M, out,           \
                             out_stride);                                                          \
    }
#define DOT_GROUPS(name, offset)                                                                   \
    GROUPS(name, offset, 1)                                                                        \
    GROUPS(name, offset, 2)                                                                        \
    EACH_PAIR(name)
DOT_GROUPS(int4_none, OFFSET_NONE)
DOT_GROUPS(int4_zero, OFFSET_ZERO)
DOT_GROUPS(int4_min, OFFSET_MINIMUM)
