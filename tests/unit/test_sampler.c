/* Picks depend on logits, marks, options, seed, sequence and position alone, and follow the
 * definition: checked against a plain double computation that sorts everything. */
#include "exp_of.h"
#include "sampler.h"

#include "mem.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 2000 };

static struct sampler sampler;
static float logits[VOCAB];

static int setup(void **state)
{
    (void)state;
    return sampler_init(&sampler, VOCAB, NULL) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    sampler_free(&sampler);
    sampler_free(&sampler);
    return 0;
}

static void fill(unsigned seed)
{
    srand(seed);
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = (float)(rand() % 4000) / 250.0f - 8.0f;
}

static uint32_t pick(const struct sampler_options *o, const uint8_t *marks, uint64_t sequence,
                     uint64_t position)
{
    uint32_t id = UINT32_MAX;
    struct tp_error err = {0};
    assert_true(sampler_pick(&sampler, logits, marks, o, sequence, position, &id, &err));
    assert_true(id < VOCAB);
    return id;
}

/* Known answers of Random123 (kat_vectors, philox4x32 10). */
static void philox_gives_its_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        philox4x32(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void greedy_takes_the_lowest_id_among_equals(void **state)
{
    (void)state;
    struct sampler_options o = sampler_defaults();
    fill(1);
    logits[700] = logits[1500] = 50;
    assert_int_equal(pick(&o, NULL, 0, 0), 700);
    logits[3] = 50;
    assert_int_equal(pick(&o, NULL, 9, 9), 3);
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -0.0f;
    logits[5] = 0.0f; /* equal to -0 */
    assert_int_equal(pick(&o, NULL, 0, 0), 0);
}

static void banned_ids_are_never_picked(void **state)
{
    (void)state;
    static uint8_t marks[VOCAB];
    struct sampler_options o = sampler_defaults();
    fill(2);
    logits[10] = 60;
    logits[20] = 40;
    marks[10] = SAMPLER_BANNED;
    assert_int_equal(pick(&o, marks, 0, 0), 20);
    o.temperature = 1;
    for (uint64_t p = 0; p < 50; p++)
        assert_int_equal(pick(&o, marks, 0, p), 20);
}

static void the_repetition_penalty_lowers_what_was_seen(void **state)
{
    (void)state;
    static uint8_t marks[VOCAB];
    struct sampler_options o = sampler_defaults();
    o.repetition_penalty = 2;
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -3;
    logits[1] = 10;
    logits[2] = 6;
    marks[1] = SAMPLER_SEEN;
    assert_int_equal(pick(&o, marks, 0, 0), 2);
    logits[1] = logits[2] = -2;
    assert_int_equal(pick(&o, marks, 0, 0), 2); /* below zero it multiplies */
    assert_int_equal(pick(&o, NULL, 0, 0), 1);
}

/* ---- the definition in double: sort all, cut, draw ---- */

struct entry {
    double x, p;
    uint32_t id;
};

static int by_logit(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->x != y->x ? (x->x < y->x ? 1 : -1) : x->id < y->id ? -1 : 1;
}

/* Probabilities of what is kept, in order; how many. */
static size_t distribution(const struct sampler_options *o, struct entry *e)
{
    size_t n = VOCAB;
    double total = 0, mass = 0;
    for (size_t i = 0; i < n; i++)
        e[i] = (struct entry){(double)(logits[i] / (float)o->temperature), 0, (uint32_t)i};
    qsort(e, n, sizeof *e, by_logit);
    if (o->top_k && o->top_k < n)
        n = (size_t)o->top_k;
    for (size_t i = 0; i < n; i++)
        total += e[i].p = exp(e[i].x - e[0].x);
    size_t kept = 0;
    while (kept < n && (kept == 0 || mass < o->top_p * total || o->top_p >= 1))
        mass += e[kept++].p;
    n = kept;
    for (kept = 0; kept < n && e[kept].p >= o->min_p; kept++)
        ;
    total = 0;
    for (size_t i = 0; i < kept; i++)
        total += e[i].p;
    for (size_t i = 0; i < kept; i++)
        e[i].p /= total;
    return kept;
}

static const struct sampler_options settings[] = {
    {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1},
    {.temperature = 0.7, .top_p = 1, .repetition_penalty = 1, .top_k = 50, .seed = 2},
    {.temperature = 0.7, .top_p = 0.9, .repetition_penalty = 1, .seed = 3},
    {.temperature = 1.5, .top_p = 0.8, .repetition_penalty = 1, .top_k = 40, .seed = 4},
    {.temperature = 1.2, .top_p = 1, .min_p = 0.05, .repetition_penalty = 1, .seed = 5},
    {.temperature = 2,
     .top_p = 0.95,
     .min_p = 0.1,
     .repetition_penalty = 1,
     .top_k = 100,
     .seed = 6},
    {.temperature = 1, .top_p = 0, .repetition_penalty = 1, .seed = 7},
    {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1, .seed = 8},
    {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = VOCAB + 1, .seed = 9},
    {.temperature = 1, .top_p = 1, .min_p = 1, .repetition_penalty = 1, .seed = 10},
};

/* What is picked is kept by the definition, and as often as it says: chi-square over the
 * likeliest. */
static void picks_follow_the_distribution(void **state)
{
    (void)state;
    enum { DRAWS = 6000, BINS = 12 };
    static struct entry e[VOCAB];
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        fill((unsigned)s + 10);
        size_t kept = distribution(&settings[s], e), seen[BINS + 1] = {0};
        static uint8_t allowed[VOCAB];
        memset(allowed, BINS + 1, sizeof allowed);
        for (size_t i = 0; i < kept; i++)
            allowed[e[i].id] = (uint8_t)(i < BINS ? i : BINS);
        for (uint64_t i = 0; i < DRAWS; i++) {
            uint32_t id = pick(&settings[s], NULL, i % 7, i);
            assert_true(allowed[id] <= BINS);
            seen[allowed[id]]++;
        }
        double chi = 0, rest = 1;
        for (size_t i = 0; i <= BINS && i <= kept; i++) {
            double p = i == BINS ? rest : i < kept ? e[i].p : 0;
            rest -= p;
            if (p * DRAWS > 5)
                chi += pow((double)seen[i] - p * DRAWS, 2) / (p * DRAWS);
        }
        if (chi > 45) /* 12 degrees of freedom: 1 in 100 000 */
            fail_msg("settings %zu: chi-square %g", s, chi);
    }
}

/* ---- to the last bit: everything sorted, sums as docs/numerics.md section 10 writes them ---- */

static double chunked(const float *w, const bool *kept, double *sums)
{
    double total = 0;
    for (size_t at = 0; at < VOCAB; at += 1024) {
        double s[32] = {0};
        for (size_t i = at; i < VOCAB && i < at + 1024; i++)
            s[i % 32] += kept[i] ? (double)w[i] : 0;
        for (size_t half = 16; half; half /= 2)
            for (size_t c = 0; c < half; c++)
                s[c] += s[c + half];
        total += *sums++ = s[0];
    }
    return total;
}

static uint32_t defined(const struct sampler_options *o, uint64_t sequence, uint64_t position)
{
    static struct entry e[VOCAB];
    static float w[VOCAB];
    static bool kept[VOCAB];
    double sums[2], mass = 0, sum = 0;
    size_t n = VOCAB, j = 0;
    for (size_t i = 0; i < VOCAB; i++)
        e[i] = (struct entry){(double)(logits[i] / (float)o->temperature), 0, (uint32_t)i};
    qsort(e, n, sizeof *e, by_logit);
    for (size_t i = 0; i < VOCAB; i++)
        w[e[i].id] = exp_of((float)e[i].x - (float)e[0].x);
    n = o->top_k && o->top_k < n ? (size_t)o->top_k : n;
    memset(kept, 0, sizeof kept);
    for (size_t i = 0; i < n; i++)
        kept[e[i].id] = true;
    if (o->top_p < 1) {
        double wanted = o->top_p * chunked(w, kept, sums);
        while (j < n && (j == 0 || mass < wanted))
            mass += (double)w[e[j++].id];
        for (; j < n; j++)
            kept[e[j].id] = false;
    }
    uint32_t last = 0;
    for (uint32_t i = 0; i < VOCAB; i++)
        if ((kept[i] = kept[i] && w[i] > 0 && (double)w[i] >= o->min_p))
            last = i;
    const uint32_t counter[4] = {(uint32_t)position, 0, (uint32_t)sequence, 0};
    const uint32_t key[2] = {(uint32_t)o->seed, (uint32_t)(o->seed >> 32)};
    uint32_t r[4];
    philox4x32(counter, key, r);
    double u = ((double)(r[0] >> 5) * 0x1p26 + (double)(r[1] >> 6)) * 0x1p-53;
    double target = u * chunked(w, kept, sums);
    for (uint32_t c = 0; c < 2; c++) {
        if (sum + sums[c] > target) {
            for (uint32_t i = c * 1024; i < VOCAB && i < c * 1024 + 1024; i++)
                if (kept[i] && (last = i, sum += (double)w[i], sum > target))
                    break;
            return last;
        }
        sum += sums[c];
    }
    return last;
}

/* Logits of many kinds: of few values, so that cuts fall between equals and on the very mass; flat;
 * peaked. */
static void picks_are_those_of_the_definition_with_every_instruction_set(void **state)
{
    (void)state;
    static const double ps[] = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1};
    const struct kernels *before = sampler.kernels;
    for (unsigned seed = 0; seed < 600; seed++) {
        srand(seed);
        int values = seed % 3 ? 2 + rand() % 6 : 1 << 20;
        float spread = (float)(rand() % 5) * 3;
        for (size_t i = 0; i < VOCAB; i++)
            logits[i] = (float)(rand() % values) / (float)values * spread;
        if (seed % 5 == 0)
            logits[rand() % VOCAB] += (float)(rand() % 20);
        const struct sampler_options o = {
            .temperature = 0.25 * (1 + rand() % 8),
            .top_p = ps[rand() % 8],
            .top_k = rand() % 2 ? 0 : (uint64_t)(rand() % 2200),
            .min_p = rand() % 3 ? 0 : 0.01 * (rand() % 101),
            .repetition_penalty = 1,
            .seed = seed,
        };
        for (uint64_t i = 0; i < 3; i++) {
            uint32_t wanted = defined(&o, i, seed);
            for (int isa = 0; isa < ISA_COUNT; isa++) {
                sampler.kernels = kernels_get((enum isa)isa);
                if (sampler.kernels && pick(&o, NULL, i, seed) != wanted)
                    fail_msg("seed %u, isa %d: %u picked, %u by the definition", seed, isa,
                             pick(&o, NULL, i, seed), wanted);
            }
        }
    }
    sampler.kernels = before;
}

static void a_pick_depends_on_seed_sequence_and_position_alone(void **state)
{
    (void)state;
    struct sampler_options o = settings[3];
    fill(30);
    uint32_t first[64];
    for (uint64_t i = 0; i < 64; i++)
        first[i] = pick(&o, NULL, 5, i);
    size_t by_sequence = 0, by_seed = 0;
    struct sampler_options other = o;
    other.seed++;
    for (uint64_t i = 64; i-- > 0;) { /* in another order */
        assert_int_equal(pick(&o, NULL, 5, i), first[i]);
        by_sequence += pick(&o, NULL, 6, i) != first[i];
        by_seed += pick(&other, NULL, 5, i) != first[i];
    }
    assert_true(by_sequence > 16);
    assert_true(by_seed > 16);
}

static void top_k_keeps_the_lowest_ids_among_equals(void **state)
{
    (void)state;
    struct sampler_options o = settings[7];
    o.top_k = 3;
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = 1;
    for (uint64_t i = 0; i < 200; i++)
        assert_true(pick(&o, NULL, 0, i) < 3);
}

static void logits_that_are_not_numbers_are_an_error(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct tp_error err = {0};
        uint32_t id = 7;
        fill(3);
        logits[VOCAB - 1] = k ? NAN : INFINITY;
        assert_false(sampler_pick(&sampler, logits, NULL, &settings[k], 0, 0, &id, &err));
        assert_int_equal(err.code, TP_E_NAN);
        assert_non_null(strstr(err.text, "id 1999"));
        assert_int_equal(id, 7);
    }
    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    struct tp_error err = {0};
    uint32_t id;
    assert_false(sampler_pick(&sampler, logits, NULL, &settings[0], 0, 0, &id, &err));
    assert_int_equal(err.code, TP_E_NAN);
    logits[40] = -500; /* masked logits are nothing unusual */
    assert_int_equal(pick(&settings[2], NULL, 0, 0), 40);
}

static void nothing_is_allocated_while_picking(void **state)
{
    (void)state;
    fill(4);
    uint64_t before = mem_alloc_count();
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++)
        pick(&settings[s], NULL, 0, s);
    assert_int_equal(mem_alloc_count(), before);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct sampler_options o = sampler_defaults();
    assert_true(sampler_check(&o, NULL));
    static const struct sampler_options bad[] = {
        {.temperature = -1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = NAN, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1e-9, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1.5, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .min_p = -0.5, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .repetition_penalty = 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tp_error err = {0};
        assert_false(sampler_check(&bad[i], &err));
        assert_int_equal(err.code, TP_E_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_its_known_answers),
        cmocka_unit_test(greedy_takes_the_lowest_id_among_equals),
        cmocka_unit_test(banned_ids_are_never_picked),
        cmocka_unit_test(the_repetition_penalty_lowers_what_was_seen),
        cmocka_unit_test(picks_follow_the_distribution),
        cmocka_unit_test(picks_are_those_of_the_definition_with_every_instruction_set),
        cmocka_unit_test(a_pick_depends_on_seed_sequence_and_position_alone),
        cmocka_unit_test(top_k_keeps_the_lowest_ids_among_equals),
        cmocka_unit_test(logits_that_are_not_numbers_are_an_error),
        cmocka_unit_test(nothing_is_allocated_while_picking),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests_name("sampler", tests, setup, teardown);
}
