/* Weights are read once, in order, page after page. Where pages are small (4 KiB) a hardware
 * prefetcher stops at the end of one, and the first read of the next waits for its translation:
 * dots came to 0.72 - 0.82 of a plain read. Asking for a line of the next page two KiB before the
 * end hides that (1.0 of a plain read). It is that page's last line, so that the prefetcher's own
 * stream through the page is undisturbed; with 2 MiB pages it costs nothing.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <xmmintrin.h>

/* w: the next `bytes` that are read (half a page at most). The address asked for need not exist.
 * Always inline: GCC takes a function that only prefetches for one without effect, and drops it. */
static inline __attribute__((always_inline)) void prefetch_next_page(const char *w, size_t bytes)
{
    enum { PAGE = 4096, LEAD = 2048, LINE = 64 };
    uintptr_t at = (uintptr_t)w;
    if ((at + LEAD) % PAGE < bytes)
        _mm_prefetch((const char *)((at | (PAGE - 1)) + 1 + PAGE - LINE), _MM_HINT_T0);
}
