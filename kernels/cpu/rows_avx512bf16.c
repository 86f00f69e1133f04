/* Dots of many rows with VDPBF16PS: weights of values, and rows of x, as pairs. */
#include "fma.h"
#include "tiles_avx512bf16.h"

void rows_begin_avx512bf16(void)
{
}

void rows_end_avx512bf16(void)
{
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

/* One text for all formats. */
static void tiles_plain(size_t P, struct strip *strip, size_t x_stride, size_t M, size_t out_stride,
                        struct ahead ahead)
{
    if (P == 2)
        tiles(2, false, strip, x_stride, M, out_stride, ahead);
    else
        tiles(1, false, strip, x_stride, M, out_stride, ahead);
}

INLINE void dot_values(enum stored_id stored, size_t block_bytes, size_t P, ROWS_ARGS)
{
    struct strip strip;
    strip_begin(&strip, x);
    (void)sums;
    EACH_LEAF(at)
    for (size_t b = 0, blocks = at.leaf->pieces.blocks, n; b < blocks; b += n) {
        const char *from = at.w + b * block_bytes;
        n = blocks - b < STRIP_BLOCKS ? blocks - b : STRIP_BLOCKS;
        if (!strip_has_room(&strip, n))
            tiles_plain(P, &strip, stride, M, out_stride,
                        ahead_of(&strip, from, block_bytes, panel_bytes, M));
        for (size_t p = 0; p < P; p++)
            unpack(stored, from + p * panel_bytes, n, strip_pairs(&strip, p));
        strip_add(&strip, &at, b, n);
    }
    tiles_plain(P, &strip, stride, M, out_stride,
                ahead_of(&strip, w + P * panel_bytes, block_bytes, panel_bytes, M));
}

#define VALUES(name, stored, bytes, P)                                                             \
    static void name##_##P(ROWS_ARGS)                                                              \
    {                                                                                              \
        dot_values(stored, 512 * bytes, P, w, panel_bytes, leaves, x, stride, sums, M, out,        \
                   out_stride, node);                                                              \
    }
#define DOT_VALUES(name, stored, bytes)                                                            \
    VALUES(name, stored, bytes, 1)                                                                 \
    VALUES(name, stored, bytes, 2)                                                                 \
    EACH_PAIR(name)
DOT_VALUES(bf16, STORED_BF16, 2)
DOT_VALUES(i8, STORED_INT8, 1)
DOT_VALUES(e4m3, STORED_FP8, 1)

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
