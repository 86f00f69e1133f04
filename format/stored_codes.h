/* Inside format/stored: what the rows of its table point to. docs/numerics.md section 7. Nothing
 * here depends on the floating-point mode: subnormal f32 values cannot reach a code or a choice. */
#pragma once
#include "stored.h"

#define STORED_ENCODE(name)                                                                        \
    bool encode_##name(const struct stored *self, const float *values, size_t n,                   \
                       uint32_t constants, unsigned char *words)
#define STORED_DECODE(name)                                                                        \
    void decode_##name(const struct stored *self, const unsigned char *words, size_t n,            \
                       uint32_t constants, bool to_odd, float *values)
#define STORED_CONSTANTS(name)                                                                     \
    uint32_t constants_##name(const struct stored *self, const float *values, size_t n)

STORED_ENCODE(dense);
STORED_DECODE(dense);
STORED_CONSTANTS(int8);
STORED_ENCODE(int8);
STORED_DECODE(int8);
STORED_CONSTANTS(fp8);
STORED_ENCODE(fp8);
STORED_DECODE(fp8);
STORED_CONSTANTS(int4);
STORED_ENCODE(int4);
STORED_DECODE(int4);
