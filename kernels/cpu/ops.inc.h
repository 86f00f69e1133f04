/* Everything but the dots, as one plain C source that the three ops_*.c compile for their
 * instruction set. Sums have sixteen lanes by definition and nothing is contracted, so the compiler
 * may use registers of any width without changing a bit; fma_f32 is the only fused operation.
 *
 * Elementwise loops may work in place (y == x): INDEPENDENT says so to the vectorizer.
 */
#include "fma.h"
#include "tables.h"

#include <math.h>

enum { LANES = 16 };

/* ---- docs/numerics.md sections 2, 4 and 5 ---- */

static inline float bf16_value(float f)
{
    uint32_t u = f32_bits(f), rounded = u + 0x7fff + (u >> 16 & 1);
    rounded = (u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : rounded;
    return f32_from_bits(rounded & 0xffff0000);
}

static inline float max_f32(float a, float b)
{
    return a > b ? a : b;
}

/* Written so that a NaN passes through. */
static inline float exp_f32(float given)
{
    const float magic = 0x1.8p+23f; /* the sum's low mantissa bits are the rounded integer */
    float x = given < -87.0f ? -87.0f : given;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 0x1.715476p+0f + magic;
    float n = t - magic;
    float r = fma_f32(n, -0x1.62e400p-1f, x);
    r = fma_f32(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6ac74cp-10f;
    p = fma_f32(p, r, 0x1.123de0p-7f);
    p = fma_f32(p, r, 0x1.555858p-5f);
    p = fma_f32(p, r, 0x1.55548cp-3f);
    p = fma_f32(p, r, 0x1.fffffcp-2f);
    p = fma_f32(p, r, 1.0f);
    p = fma_f32(p, r, 1.0f);
    float result = f32_from_bits(f32_bits(p) + (f32_bits(t) << 23));
    return given < -87.0f ? 0.0f : result;
}

/* The sum of sixteen lanes: 8, 4, 2, 1. */
static inline float fold_sum(float lane[LANES])
{
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t c = 0; c < half; c++)
            lane[c] = lane[c] + lane[c + half];
    return lane[0];
}

static void exp_all(const float *x, size_t n, float *y)
{
    INDEPENDENT
    for (size_t i = 0; i < n; i++)
        y[i] = exp_f32(x[i]);
}

static void round_bf16_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = bf16_value(x[i]);
}

static void rms_norm(const float *x, const float *w, size_t n, float eps, bool round_bf16, float *y)
{
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t c = 0; c < LANES; c++)
            lane[c] = fma_f32(x[i + c], x[i + c], lane[c]);
    for (size_t c = 0; i < n; i++, c++)
        lane[c] = fma_f32(x[i], x[i], lane[c]);
    float mean = fold_sum(lane) / (float)n;
    float r = 1.0f / sqrtf(mean + eps);
    INDEPENDENT
    for (i = 0; i < n; i++)
        y[i] = (x[i] * r) * w[i];
    if (round_bf16)
        round_bf16_all(y, n);
}

static void add(const float *a, const float *b, size_t n, float *y)
{
    INDEPENDENT
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void scale_bias(const float *x, const float *scale, const float *bias, size_t n, float *y)
{
    if (scale) {
        INDEPENDENT
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] * scale[i];
        x = y;
    }
    if (bias)
        add(x, bias, n, y);
    else if (x != y)
        memcpy(y, x, n * sizeof *y);
}

static void silu_mul(const float *gate, const float *up, size_t n, bool round_bf16, float *y)
{
    INDEPENDENT
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
    if (round_bf16)
        round_bf16_all(y, n);
}

static void rope(float *head, const float *cos, const float *sin, size_t head_dim)
{
    size_t half = head_dim / 2;
    INDEPENDENT
    for (size_t i = 0; i < half; i++) {
        float a = head[i], b = head[i + half];
        head[i] = fma_f32(a, cos[i], -(b * sin[i]));
        head[i + half] = fma_f32(b, cos[i], a * sin[i]);
    }
}

/* ---- panels ---- */

static inline size_t panel_index(size_t interleave, size_t r, size_t k)
{
    return k / interleave * PANEL_ROWS * interleave + r * interleave + k % interleave;
}

#define PANEL_ROW(name, type, interleave, value)                                                   \
    static void panel_row_##name(const void *w, size_t blocks, size_t r, float *out)               \
    {                                                                                              \
        const type *p = w;                                                                         \
        for (size_t k = 0; k < blocks * BLOCK_COLS; k++)                                           \
            out[k] = value(p[panel_index(interleave, r, k)]);                                      \
    }
PANEL_ROW(f32, float, 1, )
PANEL_ROW(f16, uint16_t, 2, f16_to_f32)
PANEL_ROW(bf16, uint16_t, 2, bf16_to_f32)

/* A dot of ones, as numerics.md section 3 has it. */
static void piece_sums(struct pieces pieces, const float *x, size_t x_stride, size_t M, float *sums)
{
    for (size_t m = 0; m < M; m++)
        for (size_t b = 0, n; b < pieces.blocks; b += n) {
            float sum = 0;
            n = piece_blocks(pieces, b);
            for (size_t i = b; i < b + n; i++) {
                const float *at = x + m * x_stride + i * BLOCK_COLS;
                float even = at[0] + 0.0f, odd = at[1] + 0.0f;
                for (size_t k = 2; k < BLOCK_COLS; k += 2) {
                    even = at[k] + even;
                    odd = at[k + 1] + odd;
                }
                sum = sum + (even + odd);
            }
            sums[m * (x_stride / BLOCK_COLS) + b] = sum;
        }
}

static void kv_put(void *page, enum dtype kv, size_t panel, size_t row, size_t k, size_t columns,
                   float value)
{
    size_t at = panel * PANEL_ROWS * columns + panel_index(kv == DTYPE_F32 ? 1 : 2, row, k);
    if (kv == DTYPE_F32)
        ((float *)page)[at] = value;
    else
        ((uint16_t *)page)[at] = kv == DTYPE_F16 ? f32_to_f16_sat(value) : f32_to_bf16(value);
}

static void kv_append(void *k, void *v, enum dtype kv, size_t head_dim, size_t head_pad, size_t p,
                      const float *k_head, const float *v_head)
{
    for (size_t c = 0; c < head_dim; c++) {
        kv_put(k, kv, p / PANEL_ROWS, p % PANEL_ROWS, c, head_pad, k_head[c]);
        kv_put(v, kv, c / PANEL_ROWS, c % PANEL_ROWS, p, ATTENTION_CHUNK, v_head[c]);
    }
}

/* ---- attention, section 6 ---- */

/* Positions begin .. end - 1 of a chunk that are computed: whole blocks of 32, begin and end
 * multiples.
 *
 * Leaving out a block without a visible position changes no bit. Its e are all +0, so that in the
 * full computation its two chains are fma(v, +0, +0) = +0 (v finite; +0 + -0 is +0), and it adds +0
 * to acc: that leaves acc as it is, or makes +0 of a -0 (a flushed sum), and the sign of a zero acc
 * is lost anyway in the dot's final + 0.0. The sums of e start at +0, are never negative, and gain
 * +0. */
struct span {
    size_t begin, end;
};

static struct span visible_blocks(const int *first, const int *last, size_t M)
{
    int low = ATTENTION_CHUNK, high = -1;
    for (size_t i = 0; i < M; i++)
        if (first[i] <= last[i]) {
            low = first[i] < low ? first[i] : low;
            high = last[i] > high ? last[i] : high;
        }
    if (high < 0)
        return (struct span){0, 0};
    return (struct span){(size_t)low / BLOCK_COLS * BLOCK_COLS,
                         ((size_t)high / BLOCK_COLS + 1) * BLOCK_COLS};
}

/* Scores of one row to unnormalized probabilities in place; their maximum and sum. The maximum's
 * lanes take any order: only the sign of a zero could differ, which no result depends on. */
static void chunk_softmax(float *s, struct span span, int first, int last, float scale,
                          bool round_p, float *max, float *sum)
{
    float top[LANES], lane[LANES] = {0};
    for (size_t c = 0; c < LANES; c++)
        top[c] = -__builtin_inff();
    for (size_t j = span.begin; j < span.end; j += LANES)
        for (size_t c = 0; c < LANES; c++) {
            int position = (int)(j + c);
            s[j + c] = s[j + c] * scale;
            float seen = position >= first && position <= last ? s[j + c] : -__builtin_inff();
            top[c] = max_f32(top[c], seen);
        }
    float m = top[0];
    for (size_t c = 1; c < LANES; c++)
        m = max_f32(m, top[c]);
    for (size_t j = span.begin; j < span.end; j += LANES)
        for (size_t c = 0; c < LANES; c++) {
            int position = (int)(j + c);
            float e = exp_f32(s[j + c] - m);
            s[j + c] = position >= first && position <= last ? e : 0.0f;
        }
    for (size_t j = span.begin; j < span.end; j += LANES)
        for (size_t c = 0; c < LANES; c++)
            lane[c] = lane[c] + s[j + c];
    if (round_p)
        round_bf16_all(s + span.begin, span.end - span.begin);
    *max = m;
    *sum = fold_sum(lane);
}

/* Join a chunk's (max_c, sum_c, o_c) to a row's running state. */
static void chunk_join(bool *fresh, float *max, float *sum, float *o, float max_c, float sum_c,
                       const float *o_c, size_t n)
{
    if (*fresh) {
        *fresh = false;
        *max = max_c;
        *sum = sum_c;
        memcpy(o, o_c, n * sizeof *o);
        return;
    }
    float joint = max_f32(*max, max_c);
    float a = *max == joint ? 1.0f : exp_f32(*max - joint);
    float b = max_c == joint ? 1.0f : exp_f32(max_c - joint);
    *max = joint;
    *sum = fma_f32(*sum, a, sum_c * b);
    for (size_t i = 0; i < n; i++)
        o[i] = fma_f32(o[i], a, o_c[i] * b);
}

/* Rows at once: their maxima and sums wait here while PV reads each panel once for all of them. */
enum { ROWS_AT_ONCE = 64 };

/* Rows of x as they are, or packed for dot_rows. */
struct rows_of_x {
    const float *x;
    size_t stride, columns, count;
    const uint32_t *packed; /* or NULL */
    void *room;             /* of dot_rows */
};

/* panel_bytes from one panel of w to the next. */
static void dots(const struct kernels *self, enum dtype kv, const char *w, size_t panel_bytes,
                 size_t panels, struct rows_of_x x, float *out, size_t out_stride)
{
    const struct pieces pieces = {.blocks = (uint32_t)(x.columns / BLOCK_COLS)};
    const struct leaf_run *leaf = ONE_LEAF(pieces);
    if (x.packed)
        self->dot_rows[kv](w, panel_bytes, panels, leaf, x.packed, pieces.blocks, NULL, x.count,
                           out, out_stride, 0, x.room);
    else
        for (size_t p = 0; p < panels; p++)
            self->dot[kv](w + p * panel_bytes, leaf, x.x, x.stride, NULL, x.count,
                          out + p * PANEL_ROWS, out_stride, 0);
}

/* The same rows, packed too where `packed` is room for that. */
static struct rows_of_x rows_for(const struct kernels *self, const float *x, size_t stride,
                                 size_t columns, size_t count, uint32_t *packed, void *room)
{
    if (packed)
        self->pack_rows(x, stride, columns / BLOCK_COLS, count, packed);
    return (struct rows_of_x){x, stride, columns, count, packed, room};
}

static void attention_chunk(const struct kernels *self, const void *k, const void *v, enum dtype kv,
                            size_t head_pad, const float *q, size_t q_stride, size_t M, float scale,
                            const int *first, const int *last, bool round_p, bool *fresh,
                            float *max, float *sum, float *o, size_t o_stride, float *scratch)
{
    float *s = scratch + self->rows_room / sizeof *s, *o_c = s + M * ATTENTION_CHUNK,
          max_c[ROWS_AT_ONCE], sum_c[ROWS_AT_ONCE];
    size_t column_bytes = PANEL_ROWS * (kv == DTYPE_F32 ? 4 : 2); /* of a panel */
    for (size_t m = 0, rows; m < M; m += rows) {
        rows = M - m < ROWS_AT_ONCE ? M - m : ROWS_AT_ONCE;
        struct span span = visible_blocks(first + m, last + m, rows);
        size_t positions = span.end - span.begin;
        if (!positions)
            continue;
        uint32_t *packed = kernels_packs(self, (enum stored_id)kv, round_p, rows)
                               ? (uint32_t *)(void *)(o_c + M * head_pad)
                               : NULL;
        if (packed)
            self->rows_begin();
        dots(self, kv, (const char *)k + span.begin / PANEL_ROWS * head_pad * column_bytes,
             head_pad * column_bytes, positions / PANEL_ROWS,
             rows_for(self, q + m * q_stride, q_stride, head_pad, rows, packed, scratch),
             s + span.begin, ATTENTION_CHUNK);
        for (size_t i = 0; i < rows; i++)
            if (first[m + i] <= last[m + i])
                chunk_softmax(s + i * ATTENTION_CHUNK, span, first[m + i], last[m + i], scale,
                              round_p, &max_c[i], &sum_c[i]);
        dots(self, kv, (const char *)v + span.begin * column_bytes, ATTENTION_CHUNK * column_bytes,
             head_pad / PANEL_ROWS,
             rows_for(self, s + span.begin, ATTENTION_CHUNK, positions, rows, packed, scratch), o_c,
             head_pad);
        if (packed)
            self->rows_end();
        for (size_t i = 0; i < rows; i++)
            if (first[m + i] <= last[m + i])
                chunk_join(&fresh[m + i], &max[m + i], &sum[m + i], o + (m + i) * o_stride,
                           max_c[i], sum_c[i], o_c + i * head_pad, head_pad);
    }
}

static void attention_end(const float *o, float l, size_t n, bool round_bf16, float *out)
{
    INDEPENDENT
    for (size_t i = 0; i < n; i++)
        out[i] = o[i] / l + 0.0f;
    if (round_bf16)
        round_bf16_all(out, n);
}

#include "sample.inc.h"

#define OPS_TABLE                                                                                  \
    .panel_row =                                                                                   \
        {[DTYPE_F32] = panel_row_f32, [DTYPE_F16] = panel_row_f16, [DTYPE_BF16] = panel_row_bf16}, \
    .piece_sums = piece_sums, .rms_norm = rms_norm, .round_bf16 = round_bf16_all, .add = add,      \
    .scale_bias = scale_bias, .silu_mul = silu_mul, .rope = rope,                                  \
    .attention_chunk = attention_chunk, .attention_join = chunk_join,                              \
    .attention_end = attention_end, .kv_append = kv_append, .exp = exp_all,                        \
    .sample_scan = sample_scan, .sample_weights = sample_weights, .sample_sums = sample_sums,      \
    .sample_histogram = sample_histogram, .sample_bin = sample_bin
