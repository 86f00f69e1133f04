/* UTF-8, one character at a time. Strict: no overlong forms, surrogates, nothing above U+10FFFF. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum utf8_kind {
    UTF8_CHAR, /* a character */
    UTF8_BAD,  /* bytes that begin no character, whatever follows */
    UTF8_CUT,  /* the beginning of a character; the text ends before its end */
};

/* What stands at s, of which left > 0 bytes are there. *n: the bytes it takes; for UTF8_BAD the
 * maximal part that is replaced by one U+FFFD (Unicode, section 3.9, as Rust's from_utf8_lossy
 * does it). */
static inline enum utf8_kind utf8_scan(const unsigned char *s, size_t left, size_t *n)
{
    unsigned char c = s[0];
    *n = 1;
    if (c < 0x80)
        return UTF8_CHAR;
    size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4)
        return UTF8_BAD;
    for (size_t i = 1; i < need; i++) {
        if (i == left)
            return UTF8_CUT;
        unsigned char low = 0x80, high = 0xbf;
        if (i == 1) {
            low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
            high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        }
        if (s[i] < low || s[i] > high)
            return UTF8_BAD;
        *n = i + 1;
    }
    return UTF8_CHAR;
}

/* Bytes of the character at s; 0 where there is none. */
static inline size_t utf8_length(const unsigned char *s, size_t left)
{
    size_t n;
    return left && utf8_scan(s, left, &n) == UTF8_CHAR ? n : 0;
}

static inline bool utf8_is_valid(const void *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t at = 0, k = 1;
    while (at < n && (k = utf8_length(s + at, n - at)))
        at += k;
    return k != 0;
}

/* The code point of a whole character of n bytes. */
static inline uint32_t utf8_decode(const unsigned char *s, size_t n)
{
    static const unsigned char mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = s[0] & mask[n];
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3f);
    return c;
}

/* The bytes of code point c to b; returns how many. */
static inline size_t utf8_encode(uint32_t c, unsigned char b[4])
{
    if (c < 0x80) {
        b[0] = (unsigned char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i; c >>= 6)
        b[i] = (unsigned char)(0x80 | (c & 0x3f));
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    b[0] = (unsigned char)(lead[n] | c);
    return n;
}

/* White_Space of Unicode */
static inline bool utf8_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}
