/* Random numbers of hostile scale, and the packing of a panel, for the tests of kernels/. */
#pragma once
#include "kernels.h"
#include "mem.h"
#include "threads.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t random_state = 88172645463325252;

static inline uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static inline uint32_t random_below(uint32_t n)
{
    return random_u32() % n;
}

/* in [-1, 1) */
static inline float random_unit(void)
{
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

/* Any mantissa and sign, exponent in [low, high]. */
static inline float random_scaled(int low, int high)
{
    uint32_t exponent = (uint32_t)(low + (int)random_below((uint32_t)(high - low + 1)) + 127);
    return f32_from_bits((random_u32() & 0x807fffff) | exponent << 23);
}

/* Now and then a zero of either sign or a subnormal; else from 2^-70 to 2^40, so that products also
 * fall below the least normal number; or tame ones, whose sums cancel. */
static inline float random_hostile(void)
{
    switch (random_below(16)) {
    case 0:
        return 0.0f;
    case 1:
        return -0.0f;
    case 2:
        return f32_from_bits((random_u32() & 0x807fffff));
    case 3:
    case 4:
    case 5:
        return random_scaled(-70, 40);
    case 6:
    case 7:
        return random_scaled(-66, -60);
    default:
        return random_scaled(-4, 4);
    }
}

static inline void *test_memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    assert_non_null(p);
    memset(p, 0, (bytes + 63) / 64 * 64 + 64);
    return p;
}

/* The nearest E4M3 code, the even one of two, at most 448: by looking at all of them. */
static inline uint8_t f32_to_e4m3(float f)
{
    uint8_t best = 0;
    double size = fabs((double)f), least = INFINITY;
    if (isnan(f))
        return 0x7f;
    for (int pass = 0; pass < 2; pass++) /* even codes first */
        for (unsigned code = (unsigned)pass; code < 0x7f; code += 2) {
            double off = fabs(fmin(size, 448) - (double)e4m3_to_f32((uint8_t)code));
            if (off < least) {
                least = off;
                best = (uint8_t)code;
            }
        }
    return (uint8_t)((f32_bits(f) >> 24 & 0x80) | best);
}

/* Where element (r, k) of a panel lies, by the text of format.md. */
static inline size_t panel_at(enum stored_id stored, size_t r, size_t k)
{
    size_t I = 32 / stored_of(stored)->bits;
    return (k / I) * 16 * I + r * I + k % I;
}

static inline float panel_get(enum stored_id stored, const void *w, size_t r, size_t k)
{
    size_t at = panel_at(stored, r, k);
    switch (stored) {
    case STORED_F32:
        return ((const float *)w)[at];
    case STORED_F16:
        return f16_to_f32(((const uint16_t *)w)[at]);
    case STORED_BF16:
        return bf16_to_f32(((const uint16_t *)w)[at]);
    case STORED_INT8:
        return (float)((const int8_t *)w)[at];
    default:
        return e4m3_to_f32(((const uint8_t *)w)[at]);
    }
}

static inline void panel_put(enum stored_id stored, void *w, size_t r, size_t k, float value)
{
    size_t at = panel_at(stored, r, k);
    switch (stored) {
    case STORED_F32:
        ((float *)w)[at] = value;
        break;
    case STORED_F16:
        ((uint16_t *)w)[at] = f32_to_f16_sat(value);
        break;
    case STORED_BF16:
        ((uint16_t *)w)[at] = f32_to_bf16(value);
        break;
    case STORED_INT8:
        ((int8_t *)w)[at] = (int8_t)(value > 127 ? 127 : value < -127 ? -127 : value);
        break;
    default:
        ((uint8_t *)w)[at] = f32_to_e4m3(value);
    }
}

static inline void panel_random(enum stored_id stored, void *w, size_t columns)
{
    for (size_t k = 0; k < columns; k++)
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            float scale = stored == STORED_F16 ? 0x1p-12f : stored == STORED_FP8 ? 0x1p-4f : 1.0f;
            panel_put(stored, w, r, k, random_hostile() * scale);
        }
}

/* One leaf of blocks without groups */
static inline struct pieces blocks_of(size_t blocks)
{
    return (struct pieces){.blocks = (uint32_t)blocks};
}

static inline void assert_same_bits(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (f32_bits(a[i]) != f32_bits(b[i]))
            fail_msg("%s: value %zu: %a is not %a", what, i, (double)a[i], (double)b[i]);
}

static inline const char *isa_name(enum isa isa)
{
    static const char *const names[ISA_COUNT] = {"scalar", "avx2", "avx512", "avx512bf16", "amx"};
    return names[isa];
}

/* tests/tools/emulated_tiles.c: rows of its own, all else plain C. */
static inline bool is_emulated(const struct kernels *k)
{
    return k->dot[STORED_F32] == kernels_get(ISA_SCALAR)->dot[STORED_F32];
}

/* The tables other than the scalar one that run here; says so about the others, once. */
static inline size_t other_tables(const struct kernels *tables[ISA_COUNT])
{
    static bool said;
    size_t n = 0;
    for (enum isa isa = ISA_AVX2; isa < ISA_COUNT; isa++) {
        const struct kernels *k = kernels_get(isa);
        if (k && !is_emulated(k))
            tables[n++] = k;
        else if (!said)
            print_message("SKIP: this CPU lacks %s%s\n", isa_name(isa),
                          k ? "; its rows run on an emulated unit" : "");
    }
    said = true;
    return n;
}

static inline int set_fp_mode(void **state)
{
    (void)state;
    threads_set_fp_mode();
    return 0;
}
