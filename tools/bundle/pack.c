#include "pack.h"

#include "checked.h"
#include <emmintrin.h>

/* A panel is a matrix of words, whatever they hold: [16 rows][n] becomes [n][16 rows]. */
static void transpose_4x4(const unsigned char *in, size_t in_stride, unsigned char *out,
                          size_t out_stride)
{
    __m128 a = _mm_loadu_ps((const float *)(const void *)in);
    __m128 b = _mm_loadu_ps((const float *)(const void *)(in + in_stride));
    __m128 c = _mm_loadu_ps((const float *)(const void *)(in + 2 * in_stride));
    __m128 d = _mm_loadu_ps((const float *)(const void *)(in + 3 * in_stride));
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps((float *)(void *)out, a);
    _mm_storeu_ps((float *)(void *)(out + out_stride), b);
    _mm_storeu_ps((float *)(void *)(out + 2 * out_stride), c);
    _mm_storeu_ps((float *)(void *)(out + 3 * out_stride), d);
}

void pack_interleave(const unsigned char *rows, size_t stride, uint64_t words, unsigned char *panel)
{
    uint64_t k = 0;
    for (; k + 4 <= words; k += 4)
        for (size_t r = 0; r < PANEL_ROWS; r += 4)
            transpose_4x4(rows + r * stride + k * 4, stride, panel + k * 64 + r * 4, 64);
    for (; k < words; k++)
        for (size_t r = 0; r < PANEL_ROWS; r++)
            memcpy(panel + k * 64 + r * 4, rows + r * stride + k * 4, 4);
}

void pack_deinterleave(const unsigned char *panel, uint64_t words, unsigned char *rows,
                       size_t stride)
{
    uint64_t k = 0;
    for (; k + 4 <= words; k += 4)
        for (size_t r = 0; r < PANEL_ROWS; r += 4)
            transpose_4x4(panel + k * 64 + r * 4, 64, rows + r * stride + k * 4, stride);
    for (; k < words; k++)
        for (size_t r = 0; r < PANEL_ROWS; r++)
            memcpy(rows + r * stride + k * 4, panel + k * 64 + r * 4, 4);
}

/* Staged rows lie a cache line further apart than they are long: rows of a power of two would all
 * fall into the same sets of the cache. */
static uint64_t stage_stride(const struct tensor *t)
{
    return t->row_words * 4 + 64;
}

/* Panels staged at once. */
static uint64_t panels_at_once(const struct source *source, const struct tensor *t)
{
    uint64_t panel_bytes = tensor_panel_bytes(t);
    return source->whole_chunks && panel_bytes ? t->chunk_bytes / panel_bytes : 1;
}

uint64_t pack_space_bytes(const struct source *source, const struct rank_plan *plan)
{
    uint64_t most = 64;
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        if (t->layout != LAYOUT_PANEL16)
            continue;
        uint64_t bytes = panels_at_once(source, t) * PANEL_ROWS * stage_stride(t);
        most = max_u64(most, bytes);
    }
    return source->space_bytes + most;
}

bool pack_chunk(const struct source *source, const struct rank_plan *plan, uint32_t index,
                uint32_t c, unsigned char *space, unsigned char *out, struct tp_error *err)
{
    const struct tensor *t = &plan->tensors[index];
    uint64_t bytes = tensor_chunk_bytes(t, c), begin = c * t->chunk_bytes;
    if (t->layout == LAYOUT_VECTOR_F32)
        return source->read_rows(source, index, t->own_rows.begin + begin / 4, bytes / 4,
                                 t->own_leaves, out, 4, space, err);
    unsigned char *staged = space + source->space_bytes; /* rows, row-major */
    uint64_t stride = stage_stride(t), panel_bytes = tensor_panel_bytes(t);
    uint64_t panel = begin / panel_bytes, end = panel + bytes / panel_bytes;
    uint64_t step = panels_at_once(source, t);
    for (; panel < end; panel += step) {
        uint64_t n = panel + step < end ? step : end - panel;
        uint64_t row = panel * PANEL_ROWS, rows = range_count(t->own_rows) - row;
        if (rows > n * PANEL_ROWS)
            rows = n * PANEL_ROWS;
        if (!source->read_rows(source, index, t->own_rows.begin + row, rows, t->own_leaves, staged,
                               stride, space, err))
            return false;
        memset(staged + rows * stride, 0, (n * PANEL_ROWS - rows) * stride);
        for (uint64_t i = 0; i < n; i++, out += panel_bytes)
            pack_interleave(staged + i * PANEL_ROWS * stride, stride, t->row_words, out);
    }
    return true;
}
