#include "pack.h"

#include "checked.h"
#include <emmintrin.h>

/* A panel is a matrix of dwords, whatever the element: [16 rows][n] becomes [n][16 rows]. */
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

/* dwords is a multiple of 8: columns are padded to 32, an interleave is at most 4 */
void pack_interleave(const unsigned char *rows, size_t stride, uint64_t dwords, unsigned char *panel)
{
    for (uint64_t k = 0; k < dwords; k += 4)
        for (size_t r = 0; r < 16; r += 4)
            transpose_4x4(rows + r * stride + k * 4, stride, panel + k * 64 + r * 4, 64);
}

void pack_deinterleave(const unsigned char *panel, uint64_t dwords, unsigned char *rows,
                       size_t stride)
{
    for (uint64_t k = 0; k < dwords; k += 4)
        for (size_t r = 0; r < 16; r += 4)
            transpose_4x4(panel + k * 64 + r * 4, 64, rows + r * stride + k * 4, stride);
}

/* Staged rows lie a cache line further apart than they are long: rows of a power of two would all fall into
 * the same sets of the cache. */
static uint64_t stage_stride(const struct tensor *t)
{
    return t->k * dtype_bytes(t->dtype) + 64;
}

/* Panels staged at once. */
static uint64_t panels_at_once(const struct source *source, const struct tensor *t)
{
    uint64_t panel_bytes = t->k * 16 * dtype_bytes(t->dtype);
    return source->whole_chunks && panel_bytes ? t->chunk_bytes / panel_bytes : 1;
}

uint64_t pack_space_bytes(const struct source *source, const struct rank_plan *plan)
{
    uint64_t most = 64;
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct tensor *t = &plan->tensors[i];
        if (t->layout != LAYOUT_PANEL16)
            continue;
        uint64_t bytes = panels_at_once(source, t) * 16 * stage_stride(t);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* The runs of columns of a packed row: one for a full dot, one per leaf where columns are cut; each is
 * read to its place, and what lies between is zero. */
static bool stage_rows(const struct source *source, const struct rank_plan *plan, uint32_t index,
                       uint64_t row, uint64_t n_rows, struct pack_space *space, struct tp_error *err)
{
    const struct tensor *t = &plan->tensors[index];
    size_t element = dtype_bytes(t->dtype), stride = stage_stride(t);
    if (!t->leaf_cut) {
        if (t->k != t->cols)
            memset(space->rows, 0, n_rows * stride);
        return source->read_rows(source, index, row, n_rows, t->own_cols, space->rows, stride, err);
    }
    const struct model_config *model = source->model;
    bool attention = t->role == ROLE_O;
    struct leaves leaves = attention ? leaves_of_attention(model) : leaves_of_mlp(model);
    struct range owned =
        attention ? plan->partition.attention_leaves : plan->partition.mlp_leaves;
    if (t->k == range_count(t->own_cols)) /* nothing to pad: one run */
        return source->read_rows(source, index, row, n_rows, t->own_cols, space->rows, stride, err);
    memset(space->rows, 0, n_rows * stride);
    uint64_t at = 0;
    for (uint64_t leaf = owned.begin; leaf < owned.end; leaf++) {
        if (!source->read_rows(source, index, row, n_rows, leaf_columns(&leaves, leaf),
                               space->rows + at * element, stride, err))
            return false;
        at += leaf_padded(&leaves, leaf);
    }
    return true;
}

bool pack_chunk(const struct source *source, const struct rank_plan *plan, uint32_t index, uint32_t c,
                struct pack_space *space, unsigned char *out, struct tp_error *err)
{
    const struct tensor *t = &plan->tensors[index];
    uint64_t bytes = tensor_chunk_bytes(t, c), begin = c * t->chunk_bytes;
    if (t->layout == LAYOUT_VECTOR_F32)
        return source->read_rows(source, index, t->own_rows.begin + begin / 4, bytes / 4,
                                 t->own_cols, out, 4, err);
    uint64_t stride = stage_stride(t), dwords = t->k * dtype_bytes(t->dtype) / 4;
    uint64_t panel_bytes = 64 * dwords;
    uint64_t panel = begin / panel_bytes, end = panel + bytes / panel_bytes;
    uint64_t step = panels_at_once(source, t);
    for (; panel < end; panel += step) {
        uint64_t n = panel + step < end ? step : end - panel;
        uint64_t row = panel * 16, rows = range_count(t->own_rows) - row;
        if (rows > n * 16)
            rows = n * 16;
        if (!stage_rows(source, plan, index, t->own_rows.begin + row, rows, space, err))
            return false;
        memset(space->rows + rows * stride, 0, (n * 16 - rows) * stride);
        for (uint64_t i = 0; i < n; i++, out += panel_bytes)
            pack_interleave(space->rows + i * 16 * stride, stride, dwords, out);
    }
    return true;
}
