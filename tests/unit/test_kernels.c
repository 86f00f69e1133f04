/* Every table gives the bits of the plain C one, and that one is right. */
#include "exp_of.h"
#include "kernels_fixture.h"

#include "fma.h"
#include "math64.h"
#include "tables.h"

static const enum stored_id dtypes[] = {STORED_F32, STORED_F16, STORED_BF16, STORED_INT8,
                                        STORED_FP8};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes };

/* ---- fma ---- */

__attribute__((target("fma"))) static float fma_hard(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}

static void check_fma(float a, float b, float c)
{
    float hard = fma_hard(a, b, c), soft = fma_soft(a, b, c);
    if (f32_bits(hard) != f32_bits(soft) && !(isnan(hard) && isnan(soft)))
        fail_msg("fma(%a, %a, %a) is %a, not %a", (double)a, (double)b, (double)c, (double)hard,
                 (double)soft);
}

static void soft_fma_is_the_hardware_fma(void **state)
{
    (void)state;
    if (!__builtin_cpu_supports("fma")) {
        print_message("SKIP: this CPU has no FMA\n");
        skip();
    }
    for (int i = 0; i < 4000000; i++) {
        float a = random_scaled(-126, 127), b = random_scaled(-126, 127);
        check_fma(a, b, random_scaled(-126, 127));
        check_fma(random_hostile(), random_hostile(), random_hostile());
        /* near cancellation, results around and below the least normal number */
        a = random_scaled(-66, -40), b = random_scaled(-66, -40);
        check_fma(a, b, -(a * b));
        check_fma(a, b, f32_from_bits(f32_bits(-(a * b)) + random_below(5)));
        check_fma(a, random_scaled(-66, -60), random_scaled(-126, -120));
        /* few bits: ties */
        a = (float)(int)random_below(4096) * 0x1p-70f,
        b = (float)(int)random_below(4096) * 0x1p-70f;
        check_fma(a, b, (float)(int)random_below(1 << 24) * 0x1p-126f);
        check_fma((float)(int)random_below(8192), (float)(int)random_below(8192), 0x1p-30f);
    }
}

/* ---- dots ---- */

/* x rows with exact cancellations: neighbours of a pair of equal columns are opposite. */
static void fill_rows(float *x, size_t rows, size_t stride)
{
    for (size_t i = 0; i < rows * stride; i++)
        x[i] = random_hostile();
    for (size_t i = 2; i < rows * stride; i += 2)
        if (random_below(4) == 0)
            x[i] = -x[i - 2];
}

/* M rows of 16 results, and nothing behind them. */
static void assert_rows(const float *got, const float *want, size_t M, size_t stride,
                        const char *what)
{
    for (size_t m = 0; m < M; m++) {
        assert_same_bits(got + m * stride, want + m * stride, 16, what);
        for (size_t i = 16; i < stride; i++)
            assert_int_equal(f32_bits(got[m * stride + i]), 0);
    }
}

static void every_dot_has_the_bits_of_plain_c(void **state)
{
    (void)state;
    enum { ROWS = 40, BLOCKS = 70, STRIDE = BLOCKS * 32 + 16, OUT = 21 };
    const struct kernels *tables[ISA_COUNT], *scalar = kernels_get(ISA_SCALAR);
    size_t n_tables = other_tables(tables);
    void *w = test_memory(BLOCKS * 512 * 4);
    float *x = test_memory(ROWS * STRIDE * 4), *want = test_memory(ROWS * OUT * 4);
    float *got = test_memory(ROWS * OUT * 4);
    for (int d = 0; d < N_DTYPES; d++)
        for (size_t blocks = 1; blocks <= BLOCKS; blocks++) {
            enum stored_id dtype = dtypes[d];
            panel_random(dtype, w, blocks * 32);
            fill_rows(x, ROWS, STRIDE);
            scalar->dot[dtype](w, ONE_LEAF(blocks_of(blocks)), x, STRIDE, NULL, ROWS, want, OUT, 0);
            for (size_t t = 0; t < n_tables; t++)
                for (size_t M = 1; M <= ROWS; M++) {
                    memset(got, 0, ROWS * OUT * 4);
                    tables[t]->dot[dtype](w, ONE_LEAF(blocks_of(blocks)), x, STRIDE, NULL, M, got,
                                          OUT, 0);
                    assert_rows(got, want, M, OUT, tables[t]->name);
                }
        }
    free(w);
    free(x);
    free(want);
    free(got);
}

/* Leaves cut into pieces: a short one first, whole groups, a short one last. Codes, scales and
 * offsets of any kind. */
static void every_dot_over_groups_has_the_bits_of_plain_c(void **state)
{
    (void)state;
    enum { ROWS = 99, MANY = 32, BLOCKS = 19, STRIDE = BLOCKS * 32, OUT = 19 };
    const struct kernels *tables[ISA_COUNT], *scalar = kernels_get(ISA_SCALAR);
    size_t n_tables = other_tables(tables);
    uint32_t *w = test_memory(BLOCKS * (256 + 64));
    float *x = test_memory(ROWS * STRIDE * 4), *want = test_memory(ROWS * OUT * 4),
          *got = test_memory(ROWS * OUT * 4);
    float *sums = test_memory(ROWS * BLOCKS * 4), *again = test_memory(ROWS * BLOCKS * 4);
    for (unsigned id = STORED_INT4_G32; id < STORED_COUNT; id++)
        for (uint32_t blocks = 1; blocks <= BLOCKS; blocks++)
            for (uint32_t lead = 1, group = stored_of(id)->group / 32;
                 lead <= group && lead <= blocks; lead++) {
                struct pieces pieces = {blocks, lead, group};
                for (size_t i = 0; i < BLOCKS * (256 + 64) / 4;
                     i++) /* whatever is a code here may be a constant there */
                    w[i] = (f32_bits(random_scaled(-20, 10)) & 0xffff0000) |
                           f32_to_bf16(random_scaled(-20, 10));
                fill_rows(x, ROWS, STRIDE);
                scalar->piece_sums(pieces, x, STRIDE, ROWS, sums);
                scalar->dot[id](w, ONE_LEAF(pieces), x, STRIDE, sums, ROWS, want, OUT, 0);
                for (size_t t = 0; t < n_tables; t++)
                    for (size_t M = 1; M <= ROWS; M += M < MANY ? 1 : 67) { /* 1 .. 32, 99 */
                        memset(got, 0, ROWS * OUT * 4);
                        tables[t]->piece_sums(pieces, x, STRIDE, M, again);
                        tables[t]->dot[id](w, ONE_LEAF(pieces), x, STRIDE, again, M, got, OUT, 0);
                        assert_rows(got, want, M, OUT, tables[t]->name);
                    }
            }
    free(w);
    free(x);
    free(want);
    free(got);
    free(sums);
    free(again);
}

/* Of ordinary values, of those at one end of what is moderate or the other, of all; and zeros,
 * and cancellations. */
enum { MODERATE_KINDS = 4 };

static void fill_moderate(float *x, size_t n, int kind)
{
    static const int low[MODERATE_KINDS] = {-8, -100, 58, -100}, high[] = {8, -99, 59, 59};
    for (size_t i = 0; i < n; i++)
        x[i] = random_below(8) == 0            ? copysignf(0, random_unit())
               : i > 1 && random_below(4) == 0 ? -x[i - 2]
                                               : random_scaled(low[kind], high[kind]);
}

/* One row and 1 to 5 panels, moderate or of any values. */
static void assert_dot_row(const struct kernels *k, unsigned id, struct pieces pieces,
                           const void *w, size_t panel_bytes, const float *x, bool moderate)
{
    enum { PANELS = 5 };
    const struct kernels *scalar = kernels_get(ISA_SCALAR);
    float want[PANELS * PANEL_ROWS], got[(PANELS + 1) * PANEL_ROWS], sums[64];
    if (pieces.group)
        scalar->piece_sums(pieces, x, pieces.blocks * 32, 1, sums);
    for (size_t p = 0; p < PANELS; p++)
        scalar->dot[id]((const char *)w + p * panel_bytes, ONE_LEAF(pieces), x, pieces.blocks * 32,
                        sums, 1, want + p * PANEL_ROWS, PANEL_ROWS, 0);
    for (size_t panels = 1; panels <= PANELS; panels++) {
        memset(got, 0, sizeof got);
        k->dot_row[id](w, panel_bytes, panels, ONE_LEAF(pieces), x, sums, moderate, got, 0);
        assert_same_bits(got, want, panels * PANEL_ROWS, k->name);
        for (size_t i = panels * PANEL_ROWS; i < sizeof got / sizeof *got; i++)
            assert_int_equal(f32_bits(got[i]), 0);
    }
}

static void dots_of_one_row_have_the_bits_of_plain_c(void **state)
{
    (void)state;
    enum { BLOCKS = 19, PANEL_WORDS = BLOCKS * 512 };
    const struct kernels *tables[ISA_COUNT];
    size_t n_tables = other_tables(tables);
    uint32_t *w = test_memory(5 * PANEL_WORDS * 4);
    float *x = test_memory(BLOCKS * 128);
    for (unsigned id = 0; id < STORED_COUNT; id++)
        for (uint32_t blocks = 1; blocks <= BLOCKS; blocks++)
            for (int kind = -1; stored_of(id) && kind < MODERATE_KINDS; kind++) {
                const uint32_t group = stored_of(id)->group / 32;
                const struct pieces pieces = {blocks, group < blocks ? group : blocks, group};
                /* below, a second scale; or a zero, one time in three of any size */
                for (size_t i = 0; i < 5 * PANEL_WORDS; i++)
                    w[i] = (f32_bits(random_scaled(-20, 10)) & 0xffff0000) |
                           (stored_of(id)->offset == OFFSET_ZERO
                                ? random_u32() & (blocks % 3 ? 15 : 0xff)
                                : f32_to_bf16(random_scaled(-20, 10)));
                for (size_t p = 0; p < 5 && !group; p++)
                    panel_random(id, w + p * PANEL_WORDS, blocks * 32);
                if (kind < 0)
                    fill_rows(x, 1, blocks * 32);
                else
                    fill_moderate(x, blocks * 32, kind);
                for (size_t t = 0; t < n_tables; t++)
                    for (int moderate = 0; tables[t]->dot_row[id] && moderate <= (kind >= 0);
                         moderate++) {
                        assert_true(!moderate || tables[t]->moderate(x, blocks * 32));
                        assert_dot_row(tables[t], id, pieces, w, PANEL_WORDS * 4, x, moderate);
                    }
            }
    free(w);
    free(x);
}

static void what_is_not_moderate_is_seen_wherever_it_is(void **state)
{
    (void)state;
    enum { N = 96 };
    static const float beyond[] = {0x1.fffffep-101f, -0x1p-126f,      0x1p-149f, 0x1.000002p60f,
                                   -0x1p127f,        (float)INFINITY, NAN};
    const struct kernels *tables[ISA_COUNT];
    size_t n_tables = other_tables(tables);
    float x[N];
    for (size_t t = 0; t < n_tables; t++)
        for (size_t v = 0; v < sizeof beyond / sizeof *beyond; v++)
            for (size_t at = 0; at < N && tables[t]->moderate; at++) {
                fill_moderate(x, N, 3);
                x[(at + 1) % N] = 0x1p60f;
                x[(at + 2) % N] = -0x1p-100f;
                assert_true(tables[t]->moderate(x, N));
                x[at] = beyond[v];
                assert_false(tables[t]->moderate(x, N));
            }
}

/* What a run of panels is multiplied with: a leaf of any number of blocks, groups of any kind,
 * zeros that are none, in longer rows; of bf16 values, or any. */
struct rows_case {
    enum stored_id id;
    bool bf16;
    struct pieces pieces;
    size_t panels, panel_bytes;
    uint32_t *w;
    float *x, *sums, *want; /* want [ROWS_MOST][panels * 16] */
};
enum { ROWS_MOST = 150, ROWS_BLOCKS = 24, ROWS_PANELS = 35, ROWS_STRIDE = ROWS_BLOCKS * 32 };

static void rows_random(struct rows_case *c, enum stored_id id, bool bf16)
{
    const struct kernels *scalar = kernels_get(ISA_SCALAR);
    uint32_t group = stored_of(id)->group / 32, lead = group ? 1 + random_below(group) : 0;
    uint32_t blocks = 1 + random_below(random_below(3) ? 10 : ROWS_BLOCKS);
    c->id = id;
    c->bf16 = bf16;
    c->pieces = (struct pieces){blocks, lead < blocks ? lead : blocks, group};
    c->panels = 1 + random_below(random_below(3) ? 4 : ROWS_PANELS);
    c->panel_bytes = blocks * (id == STORED_F32 ? 2048 : 1024) + 64 * random_below(9);
    for (size_t p = 0; p < c->panels; p++) {
        uint32_t *w = c->w + p * c->panel_bytes / 4;
        if (!group)
            panel_random(id, w, blocks * 32);
        for (size_t i = 0; group && i < blocks * 256; i++)
            w[i] = (f32_bits(random_scaled(-20, 10)) & 0xffff0000) |
                   (random_below(2) ? random_below(16) : f32_to_bf16(random_scaled(-20, 10)));
    }
    fill_rows(c->x, ROWS_MOST, ROWS_STRIDE);
    if (bf16)
        scalar->round_bf16(c->x, ROWS_MOST * ROWS_STRIDE);
    if (group)
        scalar->piece_sums(c->pieces, c->x, ROWS_STRIDE, ROWS_MOST, c->sums);
    for (size_t p = 0; p < c->panels; p++)
        scalar->dot[id](c->w + p * c->panel_bytes / 4, ONE_LEAF(c->pieces), c->x, ROWS_STRIDE,
                        c->sums, ROWS_MOST, c->want + p * 16, c->panels * 16, 0);
}

static void assert_dot_rows(const struct kernels *k, const struct rows_case *c, size_t M)
{
    const size_t width = c->panels * 16, stride = width + random_below(3) * 5;
    uint32_t *packed = test_memory(packed_words(k, ROWS_BLOCKS, M) * 4);
    float *x = test_memory(M * ROWS_STRIDE * 4), *got = test_memory(M * stride * 4);
    void *room = test_memory(k->rows_room);
    char what[80];
    snprintf(what, sizeof what, "%s %s, %u blocks, %zu panels, %zu rows", k->name,
             stored_of(c->id)->name, c->pieces.blocks, c->panels, M);
    memcpy(x, c->x, M * ROWS_STRIDE * 4); /* so that nothing behind them is read */
    k->pack_rows(x, ROWS_STRIDE, ROWS_BLOCKS, M, packed);
    k->rows_begin();
    k->dot_rows[c->id](c->w, c->panel_bytes, c->panels, ONE_LEAF(c->pieces), packed, ROWS_BLOCKS,
                       c->sums, M, got, stride, 0, room);
    k->rows_end();
    for (size_t m = 0; m < M; m++) {
        assert_same_bits(got + m * stride, c->want + m * width, width, what);
        for (size_t i = width; i < stride; i++)
            assert_int_equal(f32_bits(got[m * stride + i]), 0);
    }
    free(packed);
    free(x);
    free(got);
    free(room);
}

static void dots_of_packed_rows_have_the_bits_of_plain_c(void **state)
{
    (void)state;
    struct rows_case c = {.w = test_memory(ROWS_PANELS * (ROWS_BLOCKS + 1) * 2048),
                          .x = test_memory(ROWS_MOST * ROWS_STRIDE * 4),
                          .sums = test_memory(ROWS_MOST * ROWS_BLOCKS * 4),
                          .want = test_memory(ROWS_MOST * ROWS_PANELS * 16 * 4)};
    for (int round = 0; round < 8; round++)
        for (unsigned id = STORED_F32; id < STORED_COUNT; id++) {
            rows_random(&c, id, round % 2 == 0);
            for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
                const struct kernels *k = kernels_get(isa);
                for (int i = 0; i < 4 && k && k->dot_rows[id] && (c.bf16 || k->rows_f32); i++)
                    assert_dot_rows(k, &c, 1 + random_below(i ? 40 : ROWS_MOST));
            }
        }
    free(c.w);
    free(c.x);
    free(c.sums);
    free(c.want);
}

/* Panels cut into leaves, of which some end sums before them. */
enum { LEAVES_MOST = 7, LEAF_BLOCKS = 11, RUN_PANELS = 5, RUN_ROWS = 130 };
enum { RUN_BLOCKS = LEAVES_MOST * LEAF_BLOCKS, RUN_STRIDE = RUN_BLOCKS * 32 };
struct run_case {
    enum stored_id id;
    struct leaf leaves[LEAVES_MOST];
    uint8_t merges[LEAVES_MOST];
    struct leaf_run run;
    size_t panel_bytes;
    bool moderate; /* x's first row */
    uint32_t *w;
    float *x, *sums, *want; /* want [LEAVES_MOST][RUN_ROWS][RUN_PANELS * 16] */
};

static uint32_t leaf_bytes(const struct stored *s, struct pieces pieces)
{
    if (!s->group)
        return pieces.blocks * 64 * s->bits;
    uint32_t n = 1 + (pieces.blocks - pieces.lead + pieces.group - 1) / pieces.group;
    return 64 * (pieces.blocks * 4 + (s->offset == OFFSET_NONE ? (n + 1) / 2 : n));
}

static void run_random(struct run_case *c, enum stored_id id)
{
    const struct kernels *scalar = kernels_get(ISA_SCALAR);
    const struct stored *s = stored_of(id);
    const uint32_t group = s->group / 32;
    uint32_t depth = 0, block = 0;
    c->id = id;
    c->run = (struct leaf_run){1 + random_below(LEAVES_MOST), 0, c->leaves, c->merges, NULL};
    c->panel_bytes = 64 * random_below(9);
    fill_rows(c->x, RUN_ROWS, RUN_STRIDE);
    if (c->moderate)
        fill_moderate(c->x, RUN_STRIDE, (int)random_below(MODERATE_KINDS));
    scalar->round_bf16(c->x, RUN_ROWS * RUN_STRIDE);
    for (uint32_t i = 0; i < c->run.count; i++) {
        uint32_t blocks = 1 + random_below(LEAF_BLOCKS), lead = group ? 1 + random_below(group) : 0;
        struct pieces pieces = {blocks, lead < blocks ? lead : blocks, group};
        c->leaves[i] = (struct leaf){pieces, leaf_bytes(s, pieces)};
        c->panel_bytes += c->leaves[i].panel_bytes;
        c->merges[i] = (uint8_t)random_below(++depth);
        depth -= c->merges[i];
        if (s->offset == OFFSET_MINIMUM)
            scalar->piece_sums(pieces, c->x + block * 32, RUN_STRIDE, RUN_ROWS, c->sums + block);
        block += blocks;
    }
    c->run.n_roots = depth;
    for (size_t i = 0; i < c->panel_bytes / 4 * RUN_PANELS; i++)
        c->w[i] = (f32_bits(random_scaled(-20, 10)) & 0xffff0000) |
                  (random_below(2) ? random_below(16) : f32_to_bf16(random_scaled(-20, 10)));
    if (id == STORED_F16 || id == STORED_FP8) /* no code is infinite or not a number */
        for (size_t i = 0; i < c->panel_bytes / 4 * RUN_PANELS; i++)
            c->w[i] &= 0xb7b7b7b7;
}

/* Leaf by leaf, then folded. */
static void run_folded(const struct run_case *c)
{
    enum { STRIDE = RUN_PANELS * 16, NODE = RUN_ROWS * STRIDE };
    const struct kernels *scalar = kernels_get(ISA_SCALAR);
    size_t at = 0, block = 0, top = 0;
    for (uint32_t i = 0; i < c->run.count; i++, top++) {
        for (size_t p = 0; p < RUN_PANELS; p++)
            scalar->dot[c->id](c->w + (p * c->panel_bytes + at) / 4, ONE_LEAF(c->leaves[i].pieces),
                               c->x + block * 32, RUN_STRIDE, c->sums + block, RUN_ROWS,
                               c->want + top * NODE + p * 16, STRIDE, 0);
        for (unsigned m = c->merges[i]; m; m--, top--)
            for (size_t k = 0; k < NODE; k++)
                c->want[(top - 1) * NODE + k] += c->want[top * NODE + k];
        at += c->leaves[i].panel_bytes;
        block += c->leaves[i].pieces.blocks;
    }
}

static void assert_roots(const struct run_case *c, const float *got, size_t M, size_t panels,
                         const char *what)
{
    for (size_t root = 0; root < c->run.n_roots; root++)
        for (size_t m = 0; m < M; m++)
            assert_same_bits(got + (root * M + m) * panels * 16,
                             c->want + (root * RUN_ROWS + m) * RUN_PANELS * 16, panels * 16, what);
}

/* What a follower is told rises, and lies in the panel. */
struct told {
    struct follower follower;
    const char *at, *end;
    bool wrong;
};

static void tell(struct follower *self, const void *end)
{
    struct told *told = (struct told *)self;
    told->wrong |= (const char *)end <= told->at || (const char *)end > told->end;
    told->at = end;
}

static size_t run_bytes(const struct leaf_run *run)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < run->count; i++)
        bytes += run->leaves[i].panel_bytes;
    return bytes;
}

/* One row and one panel, by dot and by dot_rows. */
static void assert_followed(const struct kernels *k, const struct run_case *c,
                            const uint32_t *packed, float *got, void *room)
{
    const char *w = (const char *)c->w;
    for (int by_rows = 0; by_rows < (k->dot_rows[c->id] ? 2 : 1); by_rows++) {
        struct told told = {{tell}, w, w + c->panel_bytes, false};
        struct leaf_run run = c->run;
        run.follower = &told.follower;
        if (by_rows)
            k->dot_rows[c->id](w, 0, 1, &run, packed, RUN_BLOCKS, c->sums, 1, got, 16, 16, room);
        else
            k->dot[c->id](w, &run, c->x, RUN_STRIDE, c->sums, 1, got, 16, 16);
        assert_roots(c, got, 1, 1, k->name);
        assert_false(told.wrong);
        if (!by_rows && k->isa >= ISA_AVX2 && !is_emulated(k))
            assert_ptr_equal(told.at, w + run_bytes(&c->run));
    }
}

static void assert_run(const struct kernels *k, const struct run_case *c, size_t M, size_t panels)
{
    const size_t stride = panels * 16, node = M * stride;
    float *got = test_memory(LEAVES_MOST * node * 4);
    uint32_t *packed = test_memory(packed_words(k, RUN_BLOCKS, M) * 4);
    void *room = test_memory(k->rows_room);
    for (size_t p = 0; p < panels; p++)
        k->dot[c->id](c->w + p * c->panel_bytes / 4, &c->run, c->x, RUN_STRIDE, c->sums, M,
                      got + p * 16, stride, node);
    assert_roots(c, got, M, panels, k->name);
    if (M == 1 && k->dot_row[c->id]) {
        k->dot_row[c->id](c->w, c->panel_bytes, panels, &c->run, c->x, c->sums, c->moderate, got,
                          node);
        assert_roots(c, got, M, panels, k->name);
    }
    if (k->dot_rows[c->id]) {
        k->pack_rows(c->x, RUN_STRIDE, RUN_BLOCKS, M, packed);
        k->rows_begin();
        k->dot_rows[c->id](c->w, c->panel_bytes, panels, &c->run, packed, RUN_BLOCKS, c->sums, M,
                           got, stride, node, room);
        assert_roots(c, got, M, panels, k->name);
    }
    if (M == 1)
        assert_followed(k, c, packed, got, room);
    if (k->dot_rows[c->id])
        k->rows_end();
    free(got);
    free(packed);
    free(room);
}

static void leaves_are_folded_as_their_program_says(void **state)
{
    (void)state;
    struct run_case c = {.w = test_memory(RUN_PANELS * (RUN_BLOCKS * 2048 + 512)),
                         .x = test_memory(RUN_ROWS * RUN_STRIDE * 4),
                         .sums = test_memory(RUN_ROWS * RUN_BLOCKS * 4),
                         .want = test_memory((LEAVES_MOST + 1) * RUN_ROWS * RUN_PANELS * 16 * 4)};
    static const size_t rows[] = {1, 2, 3, 4, 5, 9, 97, RUN_ROWS};
    for (int round = 0; round < 6; round++)
        for (unsigned id = 0; id < STORED_COUNT; id++) {
            if (!stored_of(id))
                continue;
            c.moderate = round % 2;
            run_random(&c, id);
            run_folded(&c);
            for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++)
                for (size_t i = 0; kernels_get(isa) && i < sizeof rows / sizeof *rows; i++)
                    assert_run(kernels_get(isa), &c, rows[i], 1 + random_below(RUN_PANELS));
        }
    free(c.w);
    free(c.x);
    free(c.sums);
    free(c.want);
}

/* A tile of x, a tile of weights, the sums before: bf16 values and sums of any kind. */
static void tiles_random(uint32_t *a, uint32_t *b, float *c)
{
    for (size_t i = 0; i < 256; i++) {
        bool huge = random_below(8) == 0;
        float f[4];
        for (int k = 0; k < 4; k++)
            f[k] = huge ? random_scaled(-126, 100) : random_hostile();
        a[i] = f32_bits(f[0]) >> 16 | (f32_bits(f[1]) & 0xffff0000);
        b[i] = f32_bits(f[2]) >> 16 | (f32_bits(f[3]) & 0xffff0000);
        c[i] = random_below(4) ? random_hostile() : random_scaled(-126, 100);
    }
}

/* The emulated unit's product is a block of the order; the instruction is the emulated unit. */
static void a_tile_is_a_block_of_the_order(void **state)
{
    (void)state;
    const struct kernels *scalar = kernels_get(ISA_SCALAR), *amx = kernels_get(ISA_AMX);
    const bool here = !is_emulated(amx);
    uint32_t *a = test_memory(1024), *b = test_memory(1024);
    float *c = test_memory(1024), *got = test_memory(1024), x[32], want[16];
    if (!here)
        print_message("SKIP: this CPU lacks amx; the instruction is not compared\n");
    kernels_get(ISA_AMX)->rows_begin();
    for (int round = 0; round < (here ? 50000 : 500); round++) {
        tiles_random(a, b, c);
        memcpy(got, c, 1024);
        rows_begin_emulated();
        tile_product_emulated(a, b, got);
        for (size_t m = 0; m < 16 && round < 500; m++) {
            for (size_t k = 0; k < 16; k++) {
                x[2 * k] = f32_from_bits(a[m * 16 + k] << 16);
                x[2 * k + 1] = f32_from_bits(a[m * 16 + k] & 0xffff0000);
            }
            scalar->dot[STORED_BF16](b, ONE_LEAF(blocks_of(1)), x, 32, NULL, 1, want, 16, 0);
            for (size_t n = 0; n < 16; n++)
                want[n] = c[m * 16 + n] + want[n]; /* whose zeros have no sign */
            for (size_t n = 0; n < 16; n++)
                assert_true(want[n] == got[m * 16 + n] || isnan(want[n]));
        }
        if (here) {
            tile_product_amx(a, b, c);
            for (size_t i = 0; i < 256; i++)
                assert_true(f32_bits(c[i]) == f32_bits(got[i]) || isnan(got[i]));
        }
    }
    kernels_get(ISA_AMX)->rows_end();
    assert_true(tiles_add_in_order_emulated());
    free(a);
    free(b);
    free(c);
    free(got);
}

/* One row over the pieces of a leaf, read word by word as format.md has them, in plain loops. */
static float row_over_groups(const struct stored *s, const uint32_t *w, struct range leaf, size_t r,
                             const float *x)
{
    static const int bits[8] = {0, 16, 4, 20, 8, 24, 12, 28};
    unsigned char row[4096];
    struct piece piece = {.index = 0};
    float total = 0;
    for (size_t i = 0; i < stored_words(s, leaf); i++)
        memcpy(row + 4 * i, w + i * 16 + r, 4);
    while (stored_next_piece(s, leaf, &piece)) {
        uint32_t c = stored_get_constants(s, row, &piece);
        float zero = s->offset == OFFSET_NONE   ? 8
                     : s->offset == OFFSET_ZERO ? (float)(c & 255)
                                                : 0,
              p = 0, sum = 0;
        uint64_t columns = (piece.cols.end - piece.cols.begin + 31) / 32 * 32;
        for (size_t b = 0; b < columns; b += 32) {
            float chain[2] = {0, 0}, ones[2] = {0, 0};
            for (size_t k = b; k < b + 32; k++) {
                uint32_t word;
                memcpy(&word, row + 4 * (piece.word + k / 8), 4);
                float xk = x[piece.k + k], code = (float)(word >> bits[k % 8] & 15) - zero;
                chain[k % 2] = fma_soft(code, xk, chain[k % 2]);
                ones[k % 2] = fma_soft(1, xk, ones[k % 2]);
            }
            p = p + (chain[0] + chain[1]);
            sum = sum + (ones[0] + ones[1]);
        }
        total = fma_soft(f32_from_bits(c & 0xffff0000), p, total);
        if (s->offset == OFFSET_MINIMUM)
            total = fma_soft(f32_from_bits(c << 16), sum, total);
    }
    return total + 0.0f;
}

static void dots_over_groups_are_those_of_the_document(void **state)
{
    (void)state;
    enum { ROWS = 9, COLUMNS = 1024 };
    uint32_t *w = test_memory(2048 * 64);
    float *x = test_memory(ROWS * COLUMNS * 4), *sums = test_memory(ROWS * COLUMNS / 32 * 4),
          out[ROWS * 16];
    for (int round = 0; round < 400; round++) {
        const struct stored *s = stored_of(STORED_INT4_G32 + random_below(9));
        uint64_t begin = random_below(300), n = 1 + random_below(random_below(2) ? 100 : 400);
        struct range leaf = {begin, begin + n};
        struct pieces pieces = stored_pieces(s, leaf);
        for (size_t i = 0; i < 2048 * 16; i++)
            w[i] = (f32_bits(random_scaled(-20, 10)) & 0xffff0000) |
                   f32_to_bf16(random_scaled(-20, 10));
        fill_rows(x, ROWS, COLUMNS);
        for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
            const struct kernels *k = kernels_get(isa);
            if (!k)
                continue;
            k->piece_sums(pieces, x, COLUMNS, ROWS, sums);
            k->dot[s->id](w, ONE_LEAF(pieces), x, COLUMNS, sums, ROWS, out, 16, 0);
            for (size_t m = 0; m < ROWS; m += 4)
                for (size_t r = 0; r < 16; r += 5) {
                    float want = row_over_groups(s, w, leaf, r, x + m * COLUMNS);
                    assert_same_bits(out + m * 16 + r, &want, 1, k->name);
                }
        }
    }
    free(w);
    free(x);
    free(sums);
}

/* All 2^16 or 2^8 codes times one, so that every code's widening is seen alone. */
static void every_code_is_widened_exactly(void **state)
{
    (void)state;
    uint16_t *w = test_memory(1024);
    float *x = test_memory(128), *out = test_memory(64);
    for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++)
        for (int d = 1; d < N_DTYPES && kernels_get(isa); d++) {
            const struct kernels *k = kernels_get(isa);
            uint32_t size = stored_of(dtypes[d])->bits / 8, codes = size == 1 ? 256 : 65536;
            for (uint32_t code = 0; code < codes; code++) {
                size_t column = code / 16 % 32, at = panel_at(dtypes[d], code % 16, column);
                memset(w, 0, 512 * size);
                memset(x, 0, 128);
                memcpy((char *)w + at * size, &code, size);
                float value = panel_get(dtypes[d], w, code % 16, column);
                if (!isfinite(value))
                    continue;
                x[column] = 1;
                k->dot[dtypes[d]](w, ONE_LEAF(blocks_of(1)), x, 32, NULL, 1, out, 16, 0);
                /* a bf16 code below the least normal number is flushed as the operand of an fma */
                float want = fabsf(value) < 0x1p-126f ? 0 : value;
                assert_int_equal(f32_bits(out[code % 16]), f32_bits(want + 0.0f));
            }
        }
    free(w);
    free(x);
    free(out);
}

static void dot_is_near_the_long_double_sum(void **state)
{
    (void)state;
    enum { BLOCKS = 33, ROWS = 3 };
    const struct kernels *k = kernels_get(ISA_SCALAR);
    void *w = test_memory(BLOCKS * 512 * 4);
    float *x = test_memory(ROWS * BLOCKS * 32 * 4), *out = test_memory(ROWS * 16 * 4);
    for (int round = 0; round < 20; round++)
        for (int d = 0; d < N_DTYPES; d++) {
            panel_random(dtypes[d], w, BLOCKS * 32);
            fill_rows(x, ROWS, BLOCKS * 32);
            k->dot[dtypes[d]](w, ONE_LEAF(blocks_of(BLOCKS)), x, BLOCKS * 32, NULL, ROWS, out, 16,
                              0);
            for (size_t m = 0; m < ROWS; m++)
                for (size_t r = 0; r < 16; r++) {
                    long double sum = 0, size = 0;
                    for (size_t c = 0; c < BLOCKS * 32; c++) {
                        long double p =
                            (long double)panel_get(dtypes[d], w, r, c) * x[m * BLOCKS * 32 + c];
                        sum += p;
                        size += p < 0 ? -p : p;
                    }
                    long double off = out[m * 16 + r] - sum;
                    long double bound = size * (BLOCKS + 18) * 0x1p-24L + 0x1p-80L; /* x DAZ'd */
                    assert_true((off < 0 ? -off : off) <= bound);
                }
        }
    free(w);
    free(x);
    free(out);
}

/* Values small enough to follow by hand: the two chains, and that a zero result is +0. */
static void dot_follows_the_order_by_hand(void **state)
{
    (void)state;
    float *w = test_memory(512 * 4 * 2), *x = test_memory(64 * 4), out[16];
    for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++) {
        const struct kernels *k = kernels_get(isa);
        if (!k)
            continue;
        memset(w, 0, 512 * 4 * 2);
        memset(x, 0, 64 * 4);
        for (int i = 0; i < 64; i++)
            x[i] = 1;
        /* row 0: even 2^24 + 1 + 1 loses both ones, odd keeps 1 */
        w[0] = 0x1p24f, w[2 * 16] = 1, w[4 * 16] = 1, w[1 * 16] = 1;
        /* row 1: even 1 + 1 = 2, odd 2^24: exact in the block's sum */
        w[0 + 1] = 1, w[2 * 16 + 1] = 1, w[1 * 16 + 1] = 0x1p24f;
        /* row 2: the second block adds 1 to 2^24: lost; 2^24 first, twice 0.5 after */
        w[2] = 0x1p24f, w[32 * 16 + 2] = 1;
        /* row 3: a negative sum that is flushed must not leave -0 */
        w[3] = -0x1p-126f, w[2 * 16 + 3] = 0x1.8p-126f, w[1 * 16 + 3] = -0x1p-126f;
        k->dot[STORED_F32](w, ONE_LEAF(blocks_of(2)), x, 64, NULL, 1, out, 16, 0);
        assert_true(out[0] == 0x1p24f);
        assert_true(out[1] == 0x1p24f + 2);
        assert_true(out[2] == 0x1p24f);
        assert_true(out[3] == -0x1p-126f);
        x[0] = x[2] = x[1] = -0.0f;
        k->dot[STORED_F32](w, ONE_LEAF(blocks_of(1)), x, 64, NULL, 1, out, 16, 0);
        assert_int_equal(f32_bits(out[3]), 0);
        x[0] = -0x1p-1f, x[1] = x[2] = 0; /* row 0: -2^23, and 1 from column 4 */
        k->dot[STORED_F32](w, ONE_LEAF(blocks_of(1)), x, 64, NULL, 1, out, 16, 0);
        assert_true(out[0] == -0x1p23f + 1);
        x[0] = 0x1p-1f;
        k->dot[STORED_F32](w, ONE_LEAF(blocks_of(1)), x, 64, NULL, 1, out, 16, 0);
        assert_int_equal(f32_bits(out[3]), 0); /* -0 before the final + 0.0 */
    }
    free(w);
    free(x);
}

/* ---- the other operations ---- */

static void exp_is_within_two_ulp(void **state)
{
    (void)state;
    double worst = 0;
    assert_true(exp_of(0.0f) == 1.0f && exp_of(-0.0f) == 1.0f);
    assert_int_equal(f32_bits(exp_of(-0x1.5c0002p+6f)), 0); /* just below -87 */
    assert_int_equal(f32_bits(exp_of(-1e30f)), 0);
    assert_true(exp_of(1e30f) == exp_of(88.0f));
    assert_true(isnan(exp_of(NAN)));
    float x[1024], y[1024];
    for (int64_t i = 0; i < 3000; i++) {
        for (int j = 0; j < 1024; j++) {
            x[j] = i % 2 ? random_unit() * 88.0f : random_scaled(-30, 5);
            x[j] = x[j] < -87.0f ? -87.0f : x[j];
        }
        kernels_best()->exp(x, 1024, y);
        for (int j = 0; j < 1024; j++) {
            double want = math64_exp((double)x[j]), ulp = 0x1p-23;
            uint64_t bits;
            memcpy(&bits, &want, 8);
            bits &= UINT64_C(0x7ff) << 52; /* the power of two below */
            double power;
            memcpy(&power, &bits, 8);
            double off = fabs((double)y[j] - want) / (power * ulp);
            worst = off > worst ? off : worst;
        }
    }
    print_message("exp: worst error %.3f ulp\n", worst);
    assert_true(worst < 2.0);
}

struct op_data {
    float *a, *b, *c, *want, *got;
    size_t n;
};

static void fill_ops(struct op_data *d, size_t n)
{
    d->n = n;
    for (size_t i = 0; i < n; i++) {
        d->a[i] = i % 3 ? random_unit() * 30 : random_hostile();
        d->b[i] = random_hostile();
        d->c[i] = random_unit();
    }
}

static void run_op(const struct kernels *k, int op, const struct op_data *d, float *y)
{
    size_t n = d->n;
    memcpy(y, d->a, n * 4);
    switch (op) {
    case 0:
        k->rms_norm(y, d->b, n, 1e-5f, false, y); /* in place */
        break;
    case 1:
        k->rms_norm(d->c, d->b, n, 1e-6f, true, y);
        break;
    case 2:
        k->round_bf16(y, n);
        break;
    case 3:
        k->add(y, d->b, n, y);
        break;
    case 4:
        k->scale_bias(y, d->b, d->c, n, y);
        break;
    case 5:
        k->scale_bias(d->a, d->b, NULL, n, y);
        break;
    case 6:
        k->scale_bias(d->a, NULL, d->c, n, y);
        break;
    case 7:
        k->silu_mul(d->a, d->b, n, false, y);
        break;
    case 8:
        k->silu_mul(d->a, d->b, n, true, y);
        break;
    case 9:
        k->rope(y, d->b, d->c, n / 2 * 2);
        break;
    case 10:
        k->attention_end(d->a, 3.25f, n, true, y);
        break;
    case 11:
        k->exp(y, n, y);
        break;
    case 12:
        k->scale_bias(d->a, NULL, NULL, n, y);
        break;
    default:
        k->attention_end(y, 0.3f, n, false, y);
    }
}

static void every_op_has_the_bits_of_plain_c(void **state)
{
    (void)state;
    enum { MOST = 1100, OPS = 14 };
    const struct kernels *tables[ISA_COUNT], *scalar = kernels_get(ISA_SCALAR);
    size_t n_tables = other_tables(tables);
    struct op_data d = {test_memory(MOST * 4), test_memory(MOST * 4), test_memory(MOST * 4),
                        test_memory(MOST * 4), test_memory(MOST * 4), 0};
    for (size_t n = 1; n < MOST; n += n < 140 ? 1 : 83)
        for (int op = 0; op < OPS; op++) {
            fill_ops(&d, n);
            run_op(scalar, op, &d, d.want);
            for (size_t t = 0; t < n_tables; t++) {
                char what[40];
                snprintf(what, sizeof what, "%s op %d n %zu", tables[t]->name, op, n);
                run_op(tables[t], op, &d, d.got);
                assert_same_bits(d.got, d.want, n, what);
            }
        }
    free(d.a);
    free(d.b);
    free(d.c);
    free(d.want);
    free(d.got);
}

static void assert_near(double got, double want, double relative)
{
    double off = fabs(got - want), bound = fabs(want) * relative + 1e-30;
    if (!(off <= bound))
        fail_msg("%.9g is not %.9g", got, want);
}

static void ops_are_near_the_double_formulas(void **state)
{
    (void)state;
    enum { N = 200 };
    const struct kernels *k = kernels_get(ISA_SCALAR);
    float x[N], w[N], y[N], c[N], s[N];
    for (int i = 0; i < N; i++) {
        x[i] = random_unit() * 5;
        w[i] = random_unit();
        double cosine, sine;
        math64_sincos((double)(random_unit() * 100), &sine, &cosine);
        c[i] = (float)cosine, s[i] = (float)sine;
    }
    double squares = 0;
    for (int i = 0; i < N; i++)
        squares += (double)x[i] * (double)x[i];
    k->rms_norm(x, w, N, 1e-5f, false, y);
    double r = 1 / sqrt(squares / N + (double)1e-5f);
    for (int i = 0; i < N; i++)
        assert_near((double)y[i], (double)x[i] * r * (double)w[i], 1e-6);
    k->silu_mul(x, w, N, false, y);
    for (int i = 0; i < N; i++)
        assert_near((double)y[i], (double)x[i] / (1 + math64_exp(-(double)x[i])) * (double)w[i],
                    1e-6);
    k->scale_bias(x, w, c, N, y);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == x[i] * w[i] + c[i]);
    memcpy(y, x, sizeof y);
    k->rope(y, c, s, N);
    for (int i = 0; i < N / 2; i++) {
        double a = (double)x[i], b = (double)x[i + N / 2], size = fabs(a) + fabs(b);
        assert_true(fabs((double)y[i] - (a * (double)c[i] - b * (double)s[i])) < size * 1e-6);
        assert_true(fabs((double)y[i + N / 2] - (b * (double)c[i] + a * (double)s[i])) <
                    size * 1e-6);
    }
    k->silu_mul(x, w, N, true, y);
    for (int i = 0; i < N; i++)
        assert_int_equal(f32_bits(y[i]) & 0xffff, 0);
}

static void panel_row_decodes_a_row(void **state)
{
    (void)state;
    enum { BLOCKS = 3 };
    char *w = test_memory(BLOCKS * 512 * 4);
    float out[BLOCKS * 32];
    for (enum isa isa = ISA_SCALAR; isa < ISA_COUNT; isa++)
        for (int d = 0; d < 3 && kernels_get(isa); d++) { /* unquantized */
            panel_random(dtypes[d], w, BLOCKS * 32);
            for (size_t r = 0; r < 16; r++) {
                kernels_get(isa)->panel_row[dtypes[d]](w, BLOCKS, r, out);
                for (size_t k = 0; k < BLOCKS * 32; k++)
                    assert_int_equal(f32_bits(out[k]), f32_bits(panel_get(dtypes[d], w, r, k)));
            }
        }
    free(w);
}

static void tables_are_found_by_name(void **state)
{
    (void)state;
    enum isa isa;
    assert_true(isa_from_name("scalar", &isa) && isa == ISA_SCALAR);
    assert_true(isa_from_name("avx2", &isa) && isa == ISA_AVX2);
    assert_true(isa_from_name("avx512", &isa) && isa == ISA_AVX512);
    assert_true(isa_from_name("avx512bf16", &isa) && isa == ISA_AVX512BF16);
    assert_true(isa_from_name("amx", &isa) && isa == ISA_AMX);
    assert_false(isa_from_name("sse", &isa));
    assert_non_null(kernels_get(ISA_SCALAR));
    assert_non_null(kernels_best());
    for (enum isa i = ISA_SCALAR; i < ISA_COUNT; i++)
        assert_true(!kernels_get(i) || kernels_get(i)->isa == i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(soft_fma_is_the_hardware_fma, set_fp_mode),
        cmocka_unit_test_setup(every_dot_has_the_bits_of_plain_c, set_fp_mode),
        cmocka_unit_test_setup(dots_of_packed_rows_have_the_bits_of_plain_c, set_fp_mode),
        cmocka_unit_test_setup(leaves_are_folded_as_their_program_says, set_fp_mode),
        cmocka_unit_test_setup(a_tile_is_a_block_of_the_order, set_fp_mode),
        cmocka_unit_test_setup(every_dot_over_groups_has_the_bits_of_plain_c, set_fp_mode),
        cmocka_unit_test_setup(dots_of_one_row_have_the_bits_of_plain_c, set_fp_mode),
        cmocka_unit_test_setup(what_is_not_moderate_is_seen_wherever_it_is, set_fp_mode),
        cmocka_unit_test_setup(dots_over_groups_are_those_of_the_document, set_fp_mode),
        cmocka_unit_test_setup(every_code_is_widened_exactly, set_fp_mode),
        cmocka_unit_test_setup(dot_is_near_the_long_double_sum, set_fp_mode),
        cmocka_unit_test_setup(dot_follows_the_order_by_hand, set_fp_mode),
        cmocka_unit_test_setup(exp_is_within_two_ulp, set_fp_mode),
        cmocka_unit_test_setup(every_op_has_the_bits_of_plain_c, set_fp_mode),
        cmocka_unit_test_setup(ops_are_near_the_double_formulas, set_fp_mode),
        cmocka_unit_test_setup(panel_row_decodes_a_row, set_fp_mode),
        cmocka_unit_test(tables_are_found_by_name),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
