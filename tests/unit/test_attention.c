/* Attention over chunks: the document's text with nothing left out gives the same bits as the
 * kernels, whatever rows run together; and both are near the truth. */
#include "exp_of.h"
#include "kernels_fixture.h"

#include "fma.h"
#include "math64.h"

enum { CHUNKS = 3, POSITIONS = CHUNKS * 256, PAD_MAX = 128, ROWS = 70 };

struct cache {
    enum dtype kv;
    size_t head_dim, head_pad;
    char *k[CHUNKS], *v[CHUNKS]; /* pages */
    float *k_rows, *v_rows;      /* [POSITIONS][head_dim] as appended */
};

static void cache_build(struct cache *c, enum dtype kv, size_t head_dim)
{
    *c = (struct cache){kv, head_dim, (head_dim + 31) / 32 * 32, {0}, {0}, NULL, NULL};
    c->k_rows = test_memory(POSITIONS * head_dim * 4);
    c->v_rows = test_memory(POSITIONS * head_dim * 4);
    for (size_t i = 0; i < POSITIONS * head_dim; i++) {
        c->k_rows[i] = random_unit() * 2;
        c->v_rows[i] = random_below(8) ? random_unit() : random_unit() * 0x1p-20f;
    }
    for (size_t i = 0; i < CHUNKS; i++) {
        c->k[i] = test_memory(256 * c->head_pad * dtype_bytes(kv));
        c->v[i] = test_memory(256 * c->head_pad * dtype_bytes(kv));
    }
    for (size_t p = 0; p < POSITIONS; p++)
        kernels_get(ISA_SCALAR)
            ->kv_append(c->k[p / 256], c->v[p / 256], kv, head_dim, c->head_pad, p % 256,
                        c->k_rows + p * head_dim, c->v_rows + p * head_dim);
}

static void cache_free(struct cache *c)
{
    for (size_t i = 0; i < CHUNKS; i++) {
        free(c->k[i]);
        free(c->v[i]);
    }
    free(c->k_rows);
    free(c->v_rows);
}

static float kv_value(enum dtype kv, float f)
{
    return kv == DTYPE_F32   ? f
           : kv == DTYPE_F16 ? f16_to_f32(f32_to_f16_sat(f))
                             : bf16_to_f32(f32_to_bf16(f));
}

static void a_page_gives_back_what_was_put_in(void **state)
{
    (void)state;
    static const enum dtype kvs[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const size_t dims[] = {8, 64, 80};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            struct cache c;
            cache_build(&c, kvs[i], dims[j]);
            size_t panel = 16 * dtype_bytes(c.kv);
            for (size_t p = 0; p < POSITIONS; p++)
                for (size_t n = 0; n < c.head_pad; n++) {
                    char *k = c.k[p / 256] + p % 256 / 16 * c.head_pad * panel;
                    char *v = c.v[p / 256] + n / 16 * 256 * panel;
                    float want_k = 0, want_v = 0;
                    if (n < c.head_dim) {
                        want_k = kv_value(c.kv, c.k_rows[p * c.head_dim + n]);
                        want_v = kv_value(c.kv, c.v_rows[p * c.head_dim + n]);
                    }
                    assert_true(panel_get((enum stored_id)c.kv, k, p % 16, n) == want_k);
                    assert_true(panel_get((enum stored_id)c.kv, v, n % 16, p % 256) == want_v);
                }
            cache_free(&c);
        }
}

/* ---- a query's chunks, by the text of section 6, nothing left out ---- */

struct query {
    float q[PAD_MAX];
    size_t p, low; /* sees low .. p */
    bool round;
};

static void reference(const struct cache *c, const struct query *query, float scale, float *out)
{
    static _Alignas(64) float q[PAD_MAX], s[256], o[PAD_MAX], o_c[PAD_MAX];
    const struct kernels *k = kernels_get(ISA_SCALAR);
    size_t panel = 16 * dtype_bytes(c->kv);
    float m = 0, l = 0;
    memcpy(q, query->q, sizeof q);
    for (size_t chunk = query->low / 256; chunk <= query->p / 256; chunk++) {
        for (size_t i = 0; i < 256; i += 16)
            k->dot[c->kv](c->k[chunk] + i / 16 * c->head_pad * panel,
                          ONE_LEAF(blocks_of(c->head_pad / 32)), q, c->head_pad, NULL, 1, s + i, 16,
                          0);
        float m_c = -INFINITY, lane[16] = {0};
        for (size_t j = 0; j < 256; j++) {
            bool visible = chunk * 256 + j >= query->low && chunk * 256 + j <= query->p;
            s[j] *= scale;
            m_c = visible && s[j] > m_c ? s[j] : m_c;
        }
        for (size_t j = 0; j < 256; j++) {
            bool visible = chunk * 256 + j >= query->low && chunk * 256 + j <= query->p;
            s[j] = visible ? exp_of(s[j] - m_c) : 0;
            lane[j % 16] += s[j];
            s[j] = query->round ? bf16_to_f32(f32_to_bf16(s[j])) : s[j];
        }
        for (size_t half = 8; half; half /= 2)
            for (size_t i = 0; i < half; i++)
                lane[i] += lane[i + half];
        for (size_t i = 0; i < c->head_pad; i += 16)
            k->dot[c->kv](c->v[chunk] + i / 16 * 256 * panel, ONE_LEAF(blocks_of(8)), s, 256, NULL,
                          1, o_c + i, 16, 0);
        if (chunk == query->low / 256) {
            m = m_c, l = lane[0];
            memcpy(o, o_c, sizeof o);
            continue;
        }
        float joint = m > m_c ? m : m_c;
        float a = m == joint ? 1 : exp_of(m - joint);
        float b = m_c == joint ? 1 : exp_of(m_c - joint);
        l = fma_soft(l, a, lane[0] * b);
        for (size_t i = 0; i < c->head_pad; i++)
            o[i] = fma_soft(o[i], a, o_c[i] * b);
        m = joint;
    }
    for (size_t i = 0; i < c->head_dim; i++) {
        out[i] = o[i] / l + 0.0f;
        out[i] = query->round ? bf16_to_f32(f32_to_bf16(out[i])) : out[i];
    }
}

/* The rows' outputs, [rows][head_dim], computed together. */
static void attend(const struct kernels *kernels, const struct cache *c,
                   const struct query *queries, size_t rows, float scale, float *out)
{
    float *q = test_memory(rows * c->head_pad * 4), *o = test_memory(rows * c->head_pad * 4);
    float *scratch = test_memory(attention_scratch(kernels, rows, c->head_pad) * 4);
    float max[ROWS], sum[ROWS];
    bool fresh[ROWS];
    int first[ROWS], last[ROWS];
    for (size_t i = 0; i < rows; i++) {
        memcpy(q + i * c->head_pad, queries[i].q, c->head_pad * 4);
        fresh[i] = true;
    }
    for (size_t chunk = 0; chunk < CHUNKS; chunk++) {
        for (size_t i = 0; i < rows; i++) {
            int low = (int)queries[i].low - (int)chunk * 256,
                p = (int)queries[i].p - (int)chunk * 256;
            first[i] = low < 0 ? 0 : low > 255 ? 256 : low;
            last[i] = p > 255 ? 255 : p;
        }
        kernels->attention_chunk(kernels, c->k[chunk], c->v[chunk], c->kv, c->head_pad, q,
                                 c->head_pad, rows, scale, first, last, queries[0].round, fresh,
                                 max, sum, o, c->head_pad, scratch);
    }
    for (size_t i = 0; i < rows; i++)
        kernels->attention_end(o + i * c->head_pad, sum[i], c->head_dim, queries[0].round,
                               out + i * c->head_dim);
    free(q);
    free(o);
    free(scratch);
}

static void queries_random(const struct cache *c, struct query *queries, size_t rows, bool round)
{
    static const size_t windows[] = {0, 0, 1, 7, 32, 100, 256, 300};
    memset(queries, 0, rows * sizeof *queries);
    for (size_t i = 0; i < rows; i++) {
        size_t w = windows[random_below(8)], p = random_below(POSITIONS);
        if (i % 5 == 0)
            p = (size_t[]){0, 255, 256, 511, 512, 31, 767}[random_below(7)];
        queries[i].p = p;
        queries[i].low = w && p + 1 > w ? p + 1 - w : 0;
        queries[i].round = round;
        for (size_t n = 0; n < c->head_dim; n++) {
            float f =
                random_unit() * (i % 4 ? 1.0f : 30.0f); /* some rows: one-sided, exp underflows */
            queries[i].q[n] = round ? bf16_to_f32(f32_to_bf16(f)) : f;
        }
    }
}

static const struct {
    enum dtype kv;
    size_t head_dim;
    bool round;
} cases[] = {{DTYPE_BF16, 64, true},  {DTYPE_BF16, 80, true}, {DTYPE_F16, 64, false},
             {DTYPE_F32, 128, false}, {DTYPE_F32, 8, false},  {DTYPE_F32, 32, true}};
enum { N_CASES = sizeof cases / sizeof *cases };

static void every_table_and_batch_has_the_bits_of_the_text(void **state)
{
    (void)state;
    struct query *queries = test_memory(ROWS * sizeof *queries);
    float *want = test_memory(ROWS * PAD_MAX * 4), *got = test_memory(ROWS * PAD_MAX * 4);
    for (int i = 0; i < N_CASES; i++) {
        struct cache c;
        cache_build(&c, cases[i].kv, cases[i].head_dim);
        queries_random(&c, queries, ROWS, cases[i].round);
        float scale = (float)(1 / sqrt((double)c.head_dim));
        for (size_t r = 0; r < ROWS; r++)
            reference(&c, &queries[r], scale, want + r * c.head_dim);
        for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
            const struct kernels *k = kernels_get(isa);
            if (!k)
                continue;
            for (size_t batch = 1; batch <= ROWS; batch = batch * 2 + (batch > 8)) {
                memset(got, 0, ROWS * PAD_MAX * 4);
                for (size_t r = 0; r < ROWS; r += batch)
                    attend(k, &c, queries + r, ROWS - r < batch ? ROWS - r : batch, scale,
                           got + r * c.head_dim);
                assert_same_bits(got, want, ROWS * c.head_dim, k->name);
            }
            attend(k, &c, queries, ROWS, scale, got);
            assert_same_bits(got, want, ROWS * c.head_dim, k->name);
        }
        cache_free(&c);
    }
    free(queries);
    free(want);
    free(got);
}

static void attention_is_near_the_double_formula(void **state)
{
    (void)state;
    struct query *queries = test_memory(ROWS * sizeof *queries);
    float *got = test_memory(ROWS * PAD_MAX * 4);
    static double s[POSITIONS];
    for (int i = 0; i < N_CASES; i++) {
        struct cache c;
        cache_build(&c, cases[i].kv, cases[i].head_dim);
        queries_random(&c, queries, ROWS, cases[i].round);
        float scale = (float)(1 / sqrt((double)c.head_dim));
        attend(kernels_best(), &c, queries, ROWS, scale, got);
        for (size_t r = 0; r < ROWS; r++) {
            double top = -1e300, sum = 0;
            for (size_t p = queries[r].low; p <= queries[r].p; p++) {
                s[p] = 0;
                for (size_t n = 0; n < c.head_dim; n++)
                    s[p] += (double)queries[r].q[n] *
                            (double)kv_value(c.kv, c.k_rows[p * c.head_dim + n]);
                s[p] *= (double)scale;
                top = s[p] > top ? s[p] : top;
            }
            for (size_t p = queries[r].low; p <= queries[r].p; p++)
                sum += s[p] = s[p] - top < -87 ? 0 : math64_exp(s[p] - top);
            for (size_t n = 0; n < c.head_dim; n++) {
                double o = 0;
                for (size_t p = queries[r].low; p <= queries[r].p; p++)
                    o += s[p] * (double)kv_value(c.kv, c.v_rows[p * c.head_dim + n]);
                double off = fabs((double)got[r * c.head_dim + n] - o / sum);
                assert_true(off < (cases[i].round ? 0x1p-7 : 2e-5)); /* |v| <= 1 */
            }
        }
        cache_free(&c);
    }
    free(queries);
    free(got);
}

static void a_row_that_sees_nothing_keeps_its_state(void **state)
{
    (void)state;
    struct cache c;
    cache_build(&c, DTYPE_F32, 32);
    static _Alignas(64) float q[2 * 32], o[2 * 32];
    for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
        const struct kernels *k = kernels_get(isa);
        if (!k)
            continue;
        float *scratch = test_memory(attention_scratch(k, 2, 32) * 4);
        float max[2] = {3, 4}, sum[2] = {5, 6};
        bool fresh[2] = {true, false};
        o[0] = 7, o[32] = 8, q[0] = 1;
        int first[2] = {9, 1}, last[2] = {8, 0};
        k->attention_chunk(k, c.k[0], c.v[0], c.kv, 32, q, 32, 2, 1, first, last, false, fresh, max,
                           sum, o, 32, scratch);
        assert_true(fresh[0] && !fresh[1] && max[0] == 3 && sum[1] == 6 && o[0] == 7 && o[32] == 8);
        last[0] = 9; /* the other row alone: one position, so that o is its v and the sum is 1 */
        k->attention_chunk(k, c.k[0], c.v[0], c.kv, 32, q, 32, 2, 1, first, last, false, fresh, max,
                           sum, o, 32, scratch);
        assert_true(!fresh[0] && sum[0] == 1 && o[5] == c.v_rows[9 * 32 + 5]);
        assert_true(max[1] == 4 && sum[1] == 6 && o[32] == 8);
        free(scratch);
    }
    cache_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_page_gives_back_what_was_put_in, set_fp_mode),
        cmocka_unit_test_setup(every_table_and_batch_has_the_bits_of_the_text, set_fp_mode),
        cmocka_unit_test_setup(attention_is_near_the_double_formula, set_fp_mode),
        cmocka_unit_test_setup(a_row_that_sees_nothing_keeps_its_state, set_fp_mode),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
