#include "reference_chars.h"

#include <stddef.h>
#include <utf8proc.h>

bool reference_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* Lower case of Unicode 16 and 17, which utf8proc does not know. step 2: every second one. */
static const struct {
    uint32_t first, last, step;
    int32_t add;
} newer_lower[] = {
    {0x1c89, 0x1c89, 1, 1},      {0xa7cb, 0xa7cb, 1, 0x264 - 0xa7cb},
    {0xa7cc, 0xa7ce, 2, 1},      {0xa7d2, 0xa7d4, 2, 1},
    {0xa7da, 0xa7da, 1, 1},      {0xa7dc, 0xa7dc, 1, 0x19b - 0xa7dc},
    {0x10d50, 0x10d65, 1, 0x20}, {0x16ea0, 0x16eb8, 1, 0x1b},
};

uint32_t reference_lower(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    for (size_t i = 0; i < sizeof newer_lower / sizeof *newer_lower; i++)
        if (c >= newer_lower[i].first && c <= newer_lower[i].last &&
            (c - newer_lower[i].first) % newer_lower[i].step == 0)
            return (uint32_t)((int32_t)c + newer_lower[i].add);
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}
