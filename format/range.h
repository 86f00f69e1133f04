/* Runs of things, and how they are cut: the one formula, docs/format.md section 1. */
#pragma once
#include <stdint.h>

static inline uint64_t cut(uint64_t n, uint64_t i, uint64_t k)
{
    return n * i / k;
}

struct range {
    uint64_t begin, end; /* half open */
};
static inline uint64_t range_count(struct range r)
{
    return r.end - r.begin;
}
