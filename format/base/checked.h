/* The only arithmetic on untrusted sizes. Every function returns false on overflow, *out
 * untouched. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool tp_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool tp_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* a rounded up to a multiple of align, a power of two */
static inline bool tp_align_up(uint64_t a, uint64_t align, uint64_t *out)
{
    uint64_t sum;
    if (!tp_add(a, align - 1, &sum))
        return false;
    *out = sum & ~(align - 1);
    return true;
}

/* [offset, offset + bytes) lies in [0, size) */
static inline bool tp_range_in(uint64_t offset, uint64_t bytes, uint64_t size)
{
    return offset <= size && bytes <= size - offset;
}

/* For sizes already checked or of our own making. */
static inline uint64_t div_ceil(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline uint64_t align_up(uint64_t a, uint64_t align)
{
    return (a + align - 1) / align * align;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Decimal digits only: no sign, no space, no prefix; the whole of text[0..len). */
bool tp_parse_u64(const char *text, size_t len, uint64_t *out);
/* Bytes as people type them: 512M, 16GiB, 1.5g, 80 GB. K, M, G, T and KiB ... are powers of 1024,
 * KB ... of 1000; at most six decimals. */
bool tp_parse_size(const char *text, uint64_t *out);
/* A finite decimal number, whatever the locale; the whole of text. */
bool tp_parse_double(const char *text, double *out);
