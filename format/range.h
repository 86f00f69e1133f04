/* Runs of things, and how they are cut: the one formula, docs/format.md section 1. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

static inline uint64_t cut(uint64_t n, uint64_t i, uint64_t k)
{
    return n * i / k;
}

struct range {
    uint64_t begin, end; /* half open */
};
static inline bool range_has(struct range r, uint64_t i)
{
    return i >= r.begin && i < r.end;
}
static inline uint64_t range_count(struct range r)
{
    return r.end - r.begin;
}
