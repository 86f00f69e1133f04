/* XXH3-128 (seed 0) of many chunks at once, a warp each: what loading checks, done where the bytes
 * have arrived. https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
 *
 * Inside a block of 1 KiB, 16 stripes of 64 bytes, the eight accumulators only gather sums, so that
 * the stripes go side by side: lane l has half l % 2 of stripe l / 2. Between blocks they are
 * scrambled, one block after another; that chain bounds a chunk, not the many chunks in flight.
 */
#pragma once
#include "cuda_args.h"
#include "gpu.h"

static __device__ __forceinline__ uint64_t secret_at(const uint64_t *secret, unsigned byte)
{
    const unsigned w = byte / 8, shift = byte % 8 * 8;
    return shift ? secret[w] >> shift | secret[w + 1] << (64 - shift) : secret[w];
}

/* A half stripe into four accumulators: acc[i ^ 1] += data, acc[i] += low(data ^ key) * high(data
 * ^ key). */
static __device__ __forceinline__ void half_stripe(uint64_t sum[4], const uint4 *at,
                                                   const uint64_t *secret, unsigned key)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint4 v = at[i];
        const uint64_t d[2] = {(uint64_t)v.y << 32 | v.x, (uint64_t)v.w << 32 | v.z};
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const uint64_t k = d[j] ^ secret_at(secret, key + 8 * (2 * i + j));
            sum[2 * i + (j ^ 1)] += d[j];
            sum[2 * i + j] += (k & 0xffffffffu) * (k >> 32);
        }
    }
}

static __device__ __forceinline__ void hash_chunks(const cuda_hash &a)
{
    const unsigned lane = threadIdx.x, half = lane % 2, stripe = lane / 2;
    launch_dependents();
    wait_previous();
    const uint64_t p32_1 = 0x9E3779B1u, p32_2 = 0x85EBCA77u, p32_3 = 0xC2B2AE3Du,
                   p64_1 = 0x9E3779B185EBCA87u, p64_2 = 0xC2B2AE3D27D4EB4Fu,
                   p64_3 = 0x165667B19E3779F9u, p64_4 = 0x85EBCA77C2B2AE63u,
                   p64_5 = 0x27D4EB2F165667C5u;
    for (unsigned c = blockIdx.x; c < a.chunks; c += gridDim.x) {
        const unsigned char *in = a.data + a.at[c];
        const uint64_t bytes = a.bytes[c], blocks = (bytes - 1) / 1024;
        const unsigned stripes =
            (unsigned)((bytes - 1 - 1024 * blocks) / 64); /* of the last block */
        uint64_t acc[4] = {half ? p64_4 : p32_3, half ? p32_2 : p64_1, half ? p64_5 : p64_2,
                           half ? p32_1 : p64_3};
        for (uint64_t b = 0; b <= blocks; b++) {
            const uint4 *at = (const uint4 *)(in + b * 1024 + stripe * 64 + half * 32);
            uint64_t sum[4] = {0, 0, 0, 0};
            if (b < blocks || stripe < stripes)
                half_stripe(sum, at, a.secret, stripe * 8 + half * 32);
            else if (stripe == stripes) /* the chunk's last 64 bytes, with a key of their own */
                half_stripe(sum, (const uint4 *)(in + bytes - 64 + half * 32), a.secret,
                            192 - 64 - 7 + half * 32);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int d = 2; d < 32; d *= 2)
                    sum[i] += __shfl_xor_sync(~0u, sum[i], d);
                acc[i] += sum[i];
                if (b < blocks)
                    acc[i] = ((acc[i] ^ acc[i] >> 47) ^
                              secret_at(a.secret, 192 - 64 + half * 32 + 8 * i)) *
                             p32_1;
            }
        }
        if (lane < 2)
            for (int i = 0; i < 4; i++)
                a.acc[c * 8 + half * 4 + i] = acc[i];
    }
}
