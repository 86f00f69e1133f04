#include "sampler.h"

#include "checked.h"
#include "math64.h"
#include "mem.h"
#include "threads.h"
#include <math.h>
#include <string.h>

struct sampler_options sampler_defaults(void)
{
    return (struct sampler_options){.top_p = 1, .repetition_penalty = 1};
}

static bool in_range(const char *name, double value, double min, double max, struct tp_error *err)
{
    return (value >= min && value <= max) ||
           tp_fail(err, TP_E_USAGE, "%s %g: %g to %g expected", name, value, min, max);
}

bool sampler_check(const struct sampler_options *o, struct tp_error *err)
{
    return in_range("temperature", o->temperature, 0, 1e6, err) &&
           (o->temperature == 0 ||
            in_range("temperature", o->temperature, SAMPLER_TEMPERATURE_MIN, 1e6, err)) &&
           in_range("top_p", o->top_p, 0, 1, err) && in_range("min_p", o->min_p, 0, 1, err) &&
           in_range("repetition_penalty", o->repetition_penalty, 1e-3, 1e3, err);
}

bool sampler_init(struct sampler *sampler, size_t vocab, struct tp_error *err)
{
    struct sampler *s = sampler;
    *s = (struct sampler){.vocab = vocab, .kernels = kernels_best()};
    s->x = mem_array(vocab, sizeof *s->x, err);
    s->w = mem_array(vocab, sizeof *s->w, err);
    s->candidates = mem_array(vocab, sizeof *s->candidates, err);
    s->ids = mem_array(vocab, sizeof *s->ids, err);
    s->sums = mem_array(div_ceil(vocab, SAMPLE_CHUNK), sizeof *s->sums, err);
    s->bins = mem_array(SAMPLE_ROWS, sizeof *s->bins, err);
    if (s->x && s->w && s->candidates && s->ids && s->sums && s->bins)
        return true;
    sampler_free(s);
    return false;
}

void sampler_free(struct sampler *sampler)
{
    mem_free(sampler->x);
    mem_free(sampler->w);
    mem_free(sampler->candidates);
    mem_free(sampler->ids);
    mem_free(sampler->sums);
    mem_free(sampler->bins);
    *sampler = (struct sampler){0};
}

/* ---- the generator ---- */

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    enum { ROUNDS = 10 };
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* In [0, 1), 53 bits. */
static double uniform(uint64_t seed, uint64_t sequence, uint64_t position)
{
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), (uint32_t)sequence,
                                 (uint32_t)(sequence >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t r[4];
    philox4x32(counter, key, r);
    return ((double)(r[0] >> 5) * 0x1p26 + (double)(r[1] >> 6)) * 0x1p-53;
}

/* ---- candidates: order, selection ---- */

static inline bool before(struct sampler_candidate a, struct sampler_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* The first candidate of heap[0..n) to the top, given that it holds below it. */
static void sift_down(struct sampler_candidate *heap, size_t n, size_t i)
{
    struct sampler_candidate moved = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moved))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* A heap whose candidates come out in order: each goes to the place that it frees at the end, so
 * that the k-th is at list[n - 1 - k]. Only as many are sorted as are taken. */
struct selection {
    struct sampler_candidate *list;
    size_t n, taken;
};

static struct selection selection_begin(struct sampler_candidate *list, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(list, n, i);
    return (struct selection){list, n, 0};
}

static struct sampler_candidate selection_take(struct selection *s)
{
    size_t last = s->n - 1 - s->taken++;
    struct sampler_candidate best = s->list[0];
    s->list[0] = s->list[last];
    s->list[last] = best;
    sift_down(s->list, last, 0);
    return best;
}

/* ---- what is kept ---- */

static double total_of(const struct sampler *s)
{
    double total = 0;
    for (size_t c = 0; c < div_ceil(s->vocab, SAMPLE_CHUNK); c++)
        total += s->sums[c];
    return total;
}

/* Candidates in order, from `mass` on, until their masses reach `wanted`: *mass then, and the last
 * of them. A mass is a weight or, where they are counted, 1. false: they do not reach it. */
static bool reach(const struct sampler *s, size_t n, bool counted, double wanted, double *mass,
                  struct sample_cut *cut)
{
    struct selection selection = selection_begin(s->candidates, n);
    while (selection.taken < n) {
        struct sampler_candidate c = selection_take(&selection);
        *mass += counted ? 1 : (double)s->w[c.id];
        cut->x = c.logit;
        cut->id = c.id;
        if (*mass >= wanted)
            return true;
    }
    return false;
}

/* All of them, in order: as it is defined. */
static void cut_all(const struct sampler *s, bool counted, double wanted, struct sample_cut *cut)
{
    size_t n = 0;
    double mass = 0;
    for (size_t i = 0; i < s->vocab; i++)
        if (s->w[i] > 0)
            s->candidates[n++] = (struct sampler_candidate){s->x[i], (uint32_t)i};
    reach(s, n, counted, wanted, &mass, cut);
}

/* The same faster: the mass of everything above the stretch of x in which they reach it, in any
 * order, then that stretch in order. `unsure`: more than any order of adding can make of a mass. */
static void cut_at(const struct sampler *s, float max, float range, bool counted, double wanted,
                   double unsure, struct sample_cut *cut)
{
    const float scale = (float)(SAMPLE_BINS - 2) / range;
    double before = 0, mass, here = 0;
    int32_t bin = 0;
    memset(s->bins, 0, SAMPLE_ROWS * sizeof *s->bins);
    s->kernels->sample_histogram(s->x, counted ? NULL : s->w, s->vocab, max, scale, s->bins);
    for (; bin < SAMPLE_BINS - 1; bin++, before += here) {
        here = (s->bins[bin][0] + s->bins[bin][1]) + (s->bins[bin][2] + s->bins[bin][3]);
        if (before + here >= wanted)
            break;
    }
    if (bin == SAMPLE_BINS - 1) { /* where they are counted, so many have no weight: all are kept */
        if (!counted)
            cut_all(s, counted, wanted, cut);
        return;
    }
    mass = before;
    size_t n = s->kernels->sample_bin(s->x, s->vocab, max, scale, bin, s->ids);
    for (size_t i = 0; i < n; i++)
        s->candidates[i] = (struct sampler_candidate){s->x[s->ids[i]], s->ids[i]};
    if ((before > 0 && before > wanted - unsure) ||
        !reach(s, n, counted, wanted - unsure, &mass, cut) || mass < wanted + unsure)
        cut_all(s, counted, wanted, cut);
}

/* The least weight that is at least min_p. */
static float least_weight(const struct sampler_options *o)
{
    float weight = (float)o->min_p;
    return (double)weight < o->min_p ? nextafterf(weight, INFINITY) : weight;
}

/* Top-k, then top-p among what is left, then min-p. */
static struct sample_cut find_cut(const struct sampler *s, float max,
                                  const struct sampler_options *o)
{
    enum { RANGE = 88 }; /* exp(-88) is 0 */
    struct sample_cut cut = {-INFINITY, UINT32_MAX, 0};
    if (o->top_k && o->top_k < s->vocab)
        cut_at(s, max, RANGE, true, (double)o->top_k, 0, &cut);
    if (o->top_p < 1) {
        s->kernels->sample_sums(s->x, s->w, s->vocab, cut, s->sums);
        double total = total_of(s), wanted = o->top_p * total;
        /* ids below total (1 - top_p) / vocab have less than that share together */
        double least = total * (1 - o->top_p) / (double)s->vocab;
        double range = least > 0x1p-120 ? -math64_log(least) : RANGE;
        struct sample_cut inner = {-INFINITY, UINT32_MAX, 0};
        cut_at(s, max,
               (float)(range < 1       ? 1
                       : range > RANGE ? RANGE
                                       : range),
               false, wanted, total * (double)s->vocab * 0x1p-51, &inner);
        if (inner.x > cut.x || (inner.x == cut.x && inner.id < cut.id))
            cut = inner;
    }
    cut.weight = least_weight(o);
    return cut;
}

/* ---- picking ---- */

static bool is_kept(const struct sampler *s, size_t i, struct sample_cut cut)
{
    return s->w[i] > 0 && s->w[i] >= cut.weight &&
           (s->x[i] > cut.x || (s->x[i] == cut.x && i <= cut.id));
}

static uint32_t draw(const struct sampler *s, struct sample_cut cut, double u)
{
    size_t chunk = 0, chunks = div_ceil(s->vocab, SAMPLE_CHUNK);
    s->kernels->sample_sums(s->x, s->w, s->vocab, cut, s->sums);
    double target = u * total_of(s), sum = 0;
    while (chunk < chunks && !(sum + s->sums[chunk] > target))
        sum += s->sums[chunk++];
    size_t first = chunk < chunks ? chunk * SAMPLE_CHUNK : 0, end = first + SAMPLE_CHUNK;
    if (chunk == chunks || end > s->vocab)
        end = s->vocab;
    uint32_t last = 0; /* the likeliest is always kept */
    for (size_t i = first; i < end; i++) {
        if (!is_kept(s, i, cut))
            continue;
        last = (uint32_t)i;
        sum += (double)s->w[i];
        if (chunk < chunks && sum > target)
            break;
    }
    return last;
}

/* The highest of x, which has no NaN and no +inf. */
static uint32_t first_of(const float *x, float highest)
{
    uint32_t i = 0;
    while (x[i] != highest)
        i++;
    return i;
}

static bool not_a_number(const struct sampler *s, const float *logits, struct tp_error *err)
{
    size_t i = 0;
    while (logits[i] < INFINITY)
        i++;
    tp_assert(i < s->vocab);
    return tp_fail(err, TP_E_NAN, "logits: %s at id %zu", isnan(logits[i]) ? "NaN" : "+inf", i);
}

/* Penalised logits, -inf for what is never picked. */
static void apply_marks(const struct sampler *s, const float *logits, const uint8_t *marks,
                        const struct sampler_options *options)
{
    float penalty = (float)options->repetition_penalty;
    for (size_t i = 0; i < s->vocab; i++) {
        float x = logits[i];
        if (marks[i] & SAMPLER_SEEN)
            x = x > 0 ? x / penalty : x * penalty;
        s->x[i] = marks[i] & SAMPLER_BANNED ? -INFINITY : x;
    }
}

static bool pick(const struct sampler *s, const float *logits, const uint8_t *marks,
                 const struct sampler_options *o, double u, uint32_t *id, struct tp_error *err)
{
    float best;
    if (!s->kernels->sample_scan(logits, s->vocab, &best))
        return not_a_number(s, logits, err);
    if (marks) {
        apply_marks(s, logits, marks, o);
        logits = s->x;
        s->kernels->sample_scan(logits, s->vocab, &best);
    }
    if (best == -INFINITY)
        return tp_fail(err, TP_E_NAN, "logits: none of %zu is finite", s->vocab);
    if (o->temperature == 0) {
        *id = first_of(logits, best);
        return true;
    }
    float temperature = (float)o->temperature, max = best / temperature;
    if (!(fabsf(max) < INFINITY))
        return tp_fail(err, TP_E_NAN, "logits: %g over temperature %g is not finite", (double)best,
                       o->temperature);
    s->kernels->sample_weights(logits, s->vocab, temperature, max, s->x, s->w);
    *id = draw(s, find_cut(s, max, o), u);
    return true;
}

bool sampler_pick(struct sampler *sampler, const float *logits, const uint8_t *marks,
                  const struct sampler_options *options, uint64_t sequence, uint64_t position,
                  uint32_t *id, struct tp_error *err)
{
    unsigned mode = threads_set_fp_mode();
    bool ok =
        pick(sampler, logits, marks, options, uniform(options->seed, sequence, position), id, err);
    threads_restore_fp_mode(mode);
    return ok;
}

struct sampler_choice sampler_choice_of(const struct sampler_options *options, size_t vocab,
                                        uint64_t sequence, uint64_t position)
{
    const struct sampler_options *o = options;
    tp_assert(o->repetition_penalty == 1);
    unsigned mode = threads_set_fp_mode();
    const struct sampler_choice choice = {
        .asked = true,
        .temperature = (float)o->temperature,
        .least_weight = least_weight(o),
        .top_k = o->top_k < vocab ? (uint32_t)o->top_k : 0,
        .top_p = o->top_p,
        .u = uniform(o->seed, sequence, position),
    };
    threads_restore_fp_mode(mode);
    return choice;
}
