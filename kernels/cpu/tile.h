/* All of the tile unit that is used: eight tiles of 16 rows of 64 bytes, dense in memory.
 *
 * TDPBF16PS of A, 16 rows of x, and B, a block of a panel, 32 columns of 16 rows: for each pair of
 * them two chains of fused multiply-adds from +0 over the even and the odd columns, rising; then
 * C = C + (even + odd). Subnormal numbers are zeros of their sign, before and after every
 * operation, whatever MXCSR says. That is docs/numerics.md section 3, so a tile may stay the
 * accumulator over all blocks of a leaf.
 *
 * With TP_TEST_TILES the unit is memory and plain C, for tests on machines without it.
 */
#pragma once
#include "dtype.h"
#include "fma.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE_LINE = 64, TILE_BYTES = TILE_ROWS * TILE_LINE };

/* c += a * b, [16][16] words each, as Intel's manual writes it down. The floating-point mode is
 * that of threads_set_fp_mode(). */
static inline void tile_product_plain(const uint32_t *a, const uint32_t *b, float *c)
{
    for (size_t m = 0; m < TILE_ROWS; m++) {
        float even[16] = {0}, odd[16] = {0};
        for (size_t k = 0; k < 16; k++)
            for (size_t n = 0; n < 16; n++) {
                uint32_t x = a[m * 16 + k], w = b[k * 16 + n];
                even[n] = fma_f32(f32_from_bits(x << 16), f32_from_bits(w << 16), even[n]);
                odd[n] =
                    fma_f32(f32_from_bits(x & 0xffff0000), f32_from_bits(w & 0xffff0000), odd[n]);
            }
        for (size_t n = 0; n < 16; n++)
            c[m * 16 + n] = c[m * 16 + n] + (even[n] + odd[n]);
    }
}

#ifdef TP_TEST_TILES
#include "error.h"

#define TILE_NAME(name, end) name##_emulated##end

static _Thread_local struct {
    bool configured; /* what is not configured faults */
    uint32_t tiles[8][TILE_BYTES / 4];
} tile_unit;

static inline void tile_configure(void)
{
    memset(&tile_unit, 0, sizeof tile_unit);
    tile_unit.configured = true;
}

static inline void tile_release(void)
{
    tile_unit.configured = false;
}

static inline uint32_t *tile_at(size_t t)
{
    tp_assert(tile_unit.configured);
    return tile_unit.tiles[t];
}

#define tile_zero(t) memset(tile_at(t), 0, TILE_BYTES)
#define tile_load(t, from) memcpy(tile_at(t), from, TILE_BYTES)
#define tile_store(t, to) memcpy(to, tile_at(t), TILE_BYTES)

static inline void tile_dot(size_t c, size_t a, size_t b)
{
    float sums[TILE_BYTES / 4];
    memcpy(sums, tile_at(c), TILE_BYTES);
    tile_product_plain(tile_at(a), tile_at(b), sums);
    memcpy(tile_at(c), sums, TILE_BYTES);
}

#else

#define TILE_NAME(name, end) name##_amx##end

/* The compiler's own functions are no use: GCC 12's tell it neither all the bytes of the
 * configuration nor that a load reads memory. */
static inline void tile_configure(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (size_t t = 0; t < 8; t++) {
        config.bytes[t] = TILE_LINE;
        config.rows[t] = TILE_ROWS;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

/* A thread without tiles in use has none to save when another one takes its processor. */
static inline void tile_release(void)
{
    __asm__ volatile("tilerelease");
}

#define tile_zero(t) __asm__ volatile("tilezero %tmm" #t)
/* clang-format off */
#define tile_load(t, from)                                                                         \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((size_t)TILE_LINE)           \
                     : "memory")
/* clang-format on */
#define tile_store(t, to)                                                                          \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((size_t)TILE_LINE)         \
                     : "memory")
#define tile_dot(c, a, b) __asm__ volatile("tdpbf16ps %tmm" #b ", %tmm" #a ", %tmm" #c)

#endif
