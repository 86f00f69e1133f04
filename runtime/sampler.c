#include "sampler.h"

#include "kernels.h"
#include "math64.h"
#include "mem.h"
#include <math.h>

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
           (o->temperature == 0 || in_range("temperature", o->temperature, 1e-6, 1e6, err)) &&
           in_range("top_p", o->top_p, 0, 1, err) && in_range("min_p", o->min_p, 0, 1, err) &&
           in_range("repetition_penalty", o->repetition_penalty, 1e-3, 1e3, err);
}

bool sampler_init(struct sampler *sampler, size_t vocab, struct tp_error *err)
{
    struct sampler_candidate *candidates = mem_array(vocab, sizeof *candidates, err);
    if (!candidates)
        return false;
    *sampler = (struct sampler){vocab, candidates};
    return true;
}

void sampler_free(struct sampler *sampler)
{
    mem_free(sampler->candidates);
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
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32),
                                 (uint32_t)sequence, (uint32_t)(sequence >> 32)};
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

/* ---- picking ---- */

/* Penalised logits of everything that may be picked, in order of id. *best: the first of the
 * highest. */
static bool gather(struct sampler *sampler, const float *logits, const uint8_t *marks,
                   const struct sampler_options *options, size_t *count,
                   struct sampler_candidate *best, struct tp_error *err)
{
    float penalty = (float)options->repetition_penalty;
    size_t n = 0;
    *best = (struct sampler_candidate){-INFINITY, 0};
    for (size_t i = 0; i < sampler->vocab; i++) {
        float x = logits[i];
        if (!(x < INFINITY))
            return tp_fail(err, TP_E_NAN, "logits: %s at id %zu", isnan(x) ? "NaN" : "+inf", i);
        if (marks) {
            if (marks[i] & SAMPLER_BANNED)
                continue;
            if (marks[i] & SAMPLER_SEEN)
                x = x > 0 ? x / penalty : x * penalty;
        }
        sampler->candidates[n] = (struct sampler_candidate){x, (uint32_t)i};
        if (x > best->logit)
            *best = sampler->candidates[n];
        n++;
    }
    *count = n;
    if (best->logit == -INFINITY)
        return tp_fail(err, TP_E_NAN, "logits: none of %zu is finite", sampler->vocab);
    return true;
}

static double weight(struct sampler_candidate c, float max)
{
    return (double)kernels_exp(c.logit - max);
}

static double total_weight(const struct sampler_candidate *list, size_t n, float max)
{
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += weight(list[i], max);
    return total;
}

/* Put the first candidates in order at the front of list: count of them, fewer where they have the
 * wanted weight before. How many there are. */
static size_t take_likeliest(struct sampler_candidate *list, size_t n, size_t count, double wanted,
                             float max)
{
    struct selection selection = selection_begin(list, n);
    double mass = 0;
    while (selection.taken < count && (selection.taken == 0 || mass < wanted))
        mass += weight(selection_take(&selection), max);
    for (size_t i = 0; i < selection.taken && i < n - 1 - i; i++) {
        struct sampler_candidate c = list[i];
        list[i] = list[n - 1 - i];
        list[n - 1 - i] = c;
    }
    return selection.taken;
}

/* Top-k, then top-p among what is left; how many stay. */
static size_t keep_likeliest(struct sampler_candidate *list, size_t n,
                             const struct sampler_options *options, float max)
{
    if (!options->top_k || options->top_k >= n)
        return take_likeliest(list, n, n, options->top_p * total_weight(list, n, max), max);
    size_t k = take_likeliest(list, n, (size_t)options->top_k, INFINITY, max);
    double wanted = options->top_p < 1 ? options->top_p * total_weight(list, k, max) : INFINITY;
    double mass = 0;
    size_t kept = 0;
    while (kept < k && (kept == 0 || mass < wanted))
        mass += weight(list[kept++], max);
    return kept;
}

/* Turns list into weights, in place of logits. */
static uint32_t draw(struct sampler_candidate *list, size_t n, float max, double min_p, double u)
{
    size_t kept = 0;
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        float w = kernels_exp(list[i].logit - max);
        if (w == 0 || (double)w < min_p)
            continue;
        list[kept++] = (struct sampler_candidate){w, list[i].id};
        total += (double)w;
    }
    double target = u * total, sum = 0;
    for (size_t i = 0; i + 1 < kept; i++) {
        sum += (double)list[i].logit;
        if (sum > target)
            return list[i].id;
    }
    return list[kept - 1].id; /* the likeliest is always kept: its weight is 1 */
}

bool sampler_pick(struct sampler *sampler, const float *logits, const uint8_t *marks,
                  const struct sampler_options *options, uint64_t sequence, uint64_t position,
                  uint32_t *id, struct tp_error *err)
{
    struct sampler_candidate best;
    struct sampler_candidate *list = sampler->candidates;
    size_t n = 0;
    if (!gather(sampler, logits, marks, options, &n, &best, err))
        return false;
    if (options->temperature == 0) {
        *id = best.id;
        return true;
    }
    float temperature = (float)options->temperature;
    for (size_t i = 0; i < n; i++)
        list[i].logit /= temperature;
    float max = best.logit / temperature;
    if (!(max < INFINITY))
        return tp_fail(err, TP_E_NAN, "logits: %g over temperature %g is +inf", (double)best.logit,
                       options->temperature);
    if ((options->top_k && options->top_k < n) || options->top_p < 1)
        n = keep_likeliest(list, n, options, max);
    *id = draw(list, n, max, options->min_p, uniform(options->seed, sequence, position));
    return true;
}

double sampler_nll(const float *logits, size_t vocab, uint32_t id)
{
    enum { NEGLIGIBLE = -700 }; /* e^-700 adds nothing to a sum of 1 or more */
    tp_assert(id < vocab);
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        if (!(logits[i] < INFINITY))
            return NAN;
        if ((double)logits[i] > max)
            max = (double)logits[i];
    }
    if (max == -INFINITY)
        return NAN;
    for (size_t i = 0; i < vocab; i++) {
        double x = (double)logits[i] - max;
        if (x > NEGLIGIBLE)
            sum += math64_exp(x);
    }
    return max + math64_log(sum) - (double)logits[id];
}
