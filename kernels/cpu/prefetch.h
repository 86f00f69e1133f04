/* Weights are read once, in order, page after page. Where pages are small (4 KiB) a hardware
 * prefetcher stops at the end of one, and the first read of the next waits for its translation:
 * dots came to 0.72 - 0.82 of a plain read. Asking for a line of the next page two KiB before the
 * end hides that (1.0 of a plain read). It is that page's last line, so that the prefetcher's own
 * stream through the page is undisturbed; with 2 MiB pages it costs nothing.
 */
#pragma once
#include <stdbool.h>
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

/* Intel's cores hold too few reads in flight while a dot widens what it reads: with every line
 * asked for 16 KiB before, into the second-level cache, it comes to 0.92 - 0.95 (bf16) and 0.83 -
 * 0.86 (int8) of a plain read; with the page alone to 0.75 and 0.68. AMD's want it nearer, in the
 * first-level cache. */
enum { FAR_BYTES = 16384 };

static inline bool prefetch_far(void)
{
    return __builtin_cpu_is("intel");
}

/* Of the weights that rows read, a line that is read later: far, or so many bytes, or 0 for none.
 * Codes want it most: widening them fills the processor's window before it holds enough reads in
 * flight. So do several rows: while they meet a line, or a stretch, nothing else is asked for. */
static inline __attribute__((always_inline)) void ask_ahead(bool far, size_t near, const char *w)
{
    if (far)
        _mm_prefetch(w + FAR_BYTES, _MM_HINT_T1);
    else if (near)
        _mm_prefetch(w + near, _MM_HINT_T0);
}

/* Memory that is read next, of each of P panels: a few lines with every block that is multiplied.
 * far: into the second-level cache. */
struct ahead {
    const char *at, *end;
    size_t panel_bytes, lines; /* lines: a block */
};

static inline __attribute__((always_inline)) void ask(struct ahead *ahead, size_t P, bool far)
{
    for (size_t i = 0; i < ahead->lines && ahead->at < ahead->end; i++, ahead->at += 64)
        for (size_t p = 0; p < P; p++)
            if (far)
                _mm_prefetch(ahead->at + p * ahead->panel_bytes, _MM_HINT_T1);
            else
                _mm_prefetch(ahead->at + p * ahead->panel_bytes, _MM_HINT_T0);
}
