/* Little-endian access to file bytes at any alignment. The only way file bytes become numbers. */
#pragma once
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "only little-endian hosts are supported");

static inline uint16_t le_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t le_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t le_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void le_put_u16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void le_put_u32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void le_put_u64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}
