/* Panels unpacked: rows of 16-bit values, one after the other.
 *
 * A lane has eight columns of four rows. Of every word it loads 16 bytes, the four rows side by
 * side (dot.cuh); what it then has of a row is 16 bytes too. So nothing crosses lanes: four lanes
 * load whole sectors of a panel, and eight groups of them store 128 bytes of each row.
 *
 * Values are rounded once, to nearest even: where f32 would be inexact it is rounded to odd.
 */
#pragma once
#include "dot.cuh"

/* ---- two values of 16 bits in a word ---- */

struct TO_BF16 {
    static __device__ uint32_t two(float a, float b)
    {
        return floats_to_bf16x2(a, b);
    }
};
struct TO_F16 {
    static __device__ uint32_t two(float a, float b)
    {
        return floats_to_half2(a, b);
    }
};

/* ---- a piece's constants: a word of each row ---- */

/* Groups with a scale, with a zero, with a minimum. */
enum unpack_groups { GROUPS_SCALE, GROUPS_ZERO, GROUPS_MINIMUM };

/* code: what the format's four() makes of it */
template <int KIND> static __device__ float grouped_value(float code, float scale, float minimum)
{
    if (KIND != GROUPS_MINIMUM)
        return __fmul_rn(code, scale); /* of 4 and 8 bits: exact */
    const float below = __fmaf_rd(code, scale, minimum), above = __fmaf_ru(code, scale, minimum);
    return __float_as_uint(below) & 1 ? below : above; /* the odd one, or both are the same */
}

/* ---- a lane ---- */

/* T: the format; OUT: TO_BF16, TO_F16; KIND: of a format with groups */
template <class T, class OUT, int KIND = GROUPS_SCALE>
static __device__ __forceinline__ void unpack(const cuda_unpack &a)
{
    constexpr int COLUMNS = 8, WORDS = COLUMNS / T::PER_WORD, OF_BLOCK = BLOCK / COLUMNS;
    const unsigned panel = blockIdx.x / a.parts, rows = threadIdx.x % 4 * 4,
                   eight = blockIdx.x % a.parts * (CUDA_THREADS / 4) + threadIdx.x / 4,
                   block = eight / OF_BLOCK;
    if (block >= a.blocks)
        return;
    const uint32_t *w = (const uint32_t *)a.w + (size_t)panel * a.panel_words * ROWS + rows;
    unsigned word = eight * WORDS;
    uint4 constants = {0, 0, 0, 0};
    unsigned high = 0;
    if (T::GROUPED) {
        const cuda_block b = a.table[block];
        word = b.word + eight % OF_BLOCK * WORDS;
        constants = *(const uint4 *)(w + (size_t)b.constants * ROWS);
        high = b.high;
    }
    uint32_t words[4][WORDS];
#pragma unroll
    for (int i = 0; i < WORDS; i++) {
        const uint4 v = load_stream((const uint4 *)(w + (size_t)(word + i) * ROWS));
        words[0][i] = v.x, words[1][i] = v.y, words[2][i] = v.z, words[3][i] = v.w;
    }
    const uint32_t of_rows[4] = {constants.x, constants.y, constants.z, constants.w};
    uint4 *out = (uint4 *)a.out + ((size_t)panel * ROWS + rows) * a.blocks * OF_BLOCK + eight;
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const uint32_t c = of_rows[r];
        const float scale = __uint_as_float(high ? c & 0xffff0000u : c << 16),
                    minimum = __uint_as_float(c << 16),
                    zero = KIND == GROUPS_ZERO ? (float)(c & 255) : 0.0f;
        float v[COLUMNS];
        T::four(words[r], 0, zero, v);
        T::four(words[r] + (T::PER_WORD == 8 ? 0 : WORDS / 2), 1, zero, v + 4);
        if (T::GROUPED)
#pragma unroll
            for (int i = 0; i < COLUMNS; i++)
                v[i] = grouped_value<KIND>(v[i], scale, minimum);
        out[(size_t)r * a.blocks * OF_BLOCK] = {OUT::two(v[0], v[1]), OUT::two(v[2], v[3]),
                                                OUT::two(v[4], v[5]), OUT::two(v[6], v[7])};
    }
}
