#include "pack.h"

#include "checked.h"
#include "cpu_set.h"
#include <immintrin.h>

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

#define AVX2 static __attribute__((target("avx2")))

AVX2 void transpose_8x8(const unsigned char *in, size_t in_stride, unsigned char *out,
                        size_t out_stride)
{
    __m256 a[8], b[8];
    for (size_t i = 0; i < 4; i++) { /* rows i and i + 4, a half of each */
        const unsigned char *lower = in + i * in_stride, *upper = in + (i + 4) * in_stride;
        for (size_t half = 0; half < 2; half++)
            a[i + 4 * half] = _mm256_insertf128_ps(
                _mm256_castps128_ps256(_mm_loadu_ps((const void *)(lower + 16 * half))),
                _mm_loadu_ps((const void *)(upper + 16 * half)), 1);
    }
    for (size_t half = 0; half < 8; half += 4)
        for (size_t i = 0; i < 4; i += 2) {
            b[half + i] = _mm256_unpacklo_ps(a[half + i], a[half + i + 1]);
            b[half + i + 1] = _mm256_unpackhi_ps(a[half + i], a[half + i + 1]);
        }
    for (size_t half = 0; half < 8; half += 4)
        for (size_t i = 0; i < 2; i++) {
            float *to = (void *)(out + (half + 2 * i) * out_stride),
                  *next = (void *)(out + (half + 2 * i + 1) * out_stride);
            _mm256_storeu_ps(to, _mm256_shuffle_ps(b[half + i], b[half + i + 2], 0x44));
            _mm256_storeu_ps(next, _mm256_shuffle_ps(b[half + i], b[half + i + 2], 0xee));
        }
}

/* Lines of 64 bytes of eight rows at a time: rows that are a power of two apart share a set of the
 * first cache, which has eight ways. Returns the words done. */
AVX2 uint64_t interleave_lines(const unsigned char *rows, size_t stride, uint64_t words,
                               unsigned char *panel)
{
    uint64_t k = 0;
    for (; k + 16 <= words; k += 16)
        for (size_t r = 0; r < PANEL_ROWS; r += 8)
            for (size_t half = 0; half < 16; half += 8)
                transpose_8x8(rows + r * stride + (k + half) * 4, stride,
                              panel + (k + half) * 64 + r * 4, 64);
    return k;
}

void pack_interleave(const unsigned char *rows, size_t stride, uint64_t words, unsigned char *panel)
{
    uint64_t k = cpu_best() >= CPU_AVX2 ? interleave_lines(rows, stride, words, panel) : 0;
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

/* Rows that lie as they are stored are interleaved from there; the panel that has padding is
 * not. */
static uint64_t pack_in_place(const struct source *source, uint32_t index, const struct tensor *t,
                              struct range panels, unsigned char *out, struct hash_stream *stream)
{
    uint64_t panel_bytes = tensor_panel_bytes(t), full = range_count(t->own_rows) / PANEL_ROWS;
    size_t stride;
    const unsigned char *rows =
        source->rows_in_place
            ? source->rows_in_place(source, index, t->own_rows.begin + panels.begin * PANEL_ROWS,
                                    t->own_leaves, &stride)
            : NULL;
    uint64_t end = !rows ? panels.begin : full < panels.end ? full : panels.end;
    for (uint64_t panel = panels.begin; panel < end; panel++, out += panel_bytes) {
        pack_interleave(rows, stride, t->row_words, out);
        hash_add(stream, out, panel_bytes);
        rows += PANEL_ROWS * stride;
    }
    return end;
}

bool pack_chunk(const struct source *source, const struct rank_plan *plan, uint32_t index,
                uint32_t c, unsigned char *space, unsigned char *out, struct hash128 *hash,
                struct tp_error *err)
{
    const struct tensor *t = &plan->tensors[index];
    uint64_t bytes = tensor_chunk_bytes(t, c), begin = c * t->chunk_bytes;
    struct hash_stream stream;
    if (t->layout == LAYOUT_VECTOR_F32) {
        bool ok = source->read_rows(source, index, t->own_rows.begin + begin / 4, bytes / 4,
                                    t->own_leaves, out, 4, space, err);
        *hash = ok ? hash_bytes(out, bytes) : (struct hash128){0};
        return ok;
    }
    unsigned char *staged = space + source->space_bytes; /* rows, row-major */
    uint64_t stride = stage_stride(t), panel_bytes = tensor_panel_bytes(t);
    struct range panels = {begin / panel_bytes, (begin + bytes) / panel_bytes};
    uint64_t step = panels_at_once(source, t);
    hash_start(&stream); /* of panels while they are in the cache */
    uint64_t panel = pack_in_place(source, index, t, panels, out, &stream);
    out += (panel - panels.begin) * panel_bytes;
    for (; panel < panels.end; panel += step) {
        uint64_t n = panel + step < panels.end ? step : panels.end - panel;
        uint64_t row = panel * PANEL_ROWS, rows = range_count(t->own_rows) - row;
        if (rows > n * PANEL_ROWS)
            rows = n * PANEL_ROWS;
        if (!source->read_rows(source, index, t->own_rows.begin + row, rows, t->own_leaves, staged,
                               stride, space, err))
            return false;
        memset(staged + rows * stride, 0, (n * PANEL_ROWS - rows) * stride);
        for (uint64_t i = 0; i < n; i++, out += panel_bytes) {
            pack_interleave(staged + i * PANEL_ROWS * stride, stride, t->row_words, out);
            hash_add(&stream, out, panel_bytes);
        }
    }
    *hash = hash_end(&stream);
    return true;
}
