/* SHA-256 (FIPS 180-4), for digests that people compare with those of other programs. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 2 * SHA256_BYTES + 1 };

/* The digest of n bytes in lower-case hex, with its NUL. */
void sha256_hex(const void *data, size_t n, char hex[SHA256_HEX]);
