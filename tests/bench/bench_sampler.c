/* The time of a choice among 151,936 ids on one thread, greedy, with a temperature, with top-p,
 * beside a plain pass of exp over as many values. Logits are normal numbers, flat (sigma 1) and
 * peaked (3). Prints lines of JSON, the best of many calls for each round; checks nothing.
 *
 * bench_sampler [isa]
 */
#include "math64.h"
#include "measure.h"
#include "mem.h"
#include "sampler.h"
#include "threads.h"
#include <stdio.h>

enum { VOCAB = 151936, CALLS = 30, ROUNDS = 7, KINDS = 4 };

/* Box and Muller's, from the sampler's own generator. */
static void fill(float *logits, double sigma)
{
    for (uint32_t i = 0; i < VOCAB; i++) {
        uint32_t r[4];
        double sin, cos;
        philox4x32((const uint32_t[4]){i, 0, 0, 0}, (const uint32_t[2]){7, 0}, r);
        math64_sincos((double)r[1] * 0x1p-32 * 6.283185307179586, &sin, &cos);
        double u = -2 * math64_log(((double)r[0] + 1) * 0x1p-32),
               root = u > 0 ? math64_exp(0.5 * math64_log(u)) : 0;
        logits[i] = (float)(sigma * root * cos);
    }
}

static double best_pick(struct sampler *sampler, const float *logits,
                        const struct sampler_options *options)
{
    double best = 1;
    struct tp_error err = {0};
    for (uint64_t i = 0; i < CALLS; i++) {
        uint32_t id;
        double begin = now();
        tp_assert(sampler_pick(sampler, logits, NULL, options, 0, i, &id, &err));
        double took = now() - begin;
        best = took < best ? took : best;
    }
    return best;
}

static double best_exp(const struct sampler *sampler, const float *logits, float *out)
{
    double best = 1;
    for (int i = 0; i < CALLS; i++) {
        double begin = now();
        sampler->kernels->exp(logits, VOCAB, out);
        double took = now() - begin;
        best = took < best ? took : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        struct sampler_options options;
    } kinds[KINDS] = {
        {"greedy", {.top_p = 1, .repetition_penalty = 1}},
        {"temperature 0.8", {.temperature = 0.8, .top_p = 1, .repetition_penalty = 1}},
        {"top-p 0.9", {.temperature = 0.8, .top_p = 0.9, .repetition_penalty = 1}},
        {"top-k 50", {.temperature = 0.8, .top_p = 1, .top_k = 50, .repetition_penalty = 1}},
    };
    struct sampler sampler;
    struct tp_error err = {0};
    enum isa isa;
    float *logits = mem_array(VOCAB, 2 * sizeof *logits, &err);
    if (!logits || !sampler_init(&sampler, VOCAB, &err))
        return tp_error_print("bench_sampler", &err);
    if (argc > 1 && isa_from_name(argv[1], &isa) && kernels_get(isa))
        sampler.kernels = kernels_get(isa);
    threads_set_fp_mode();
    for (int sigma = 1; sigma <= 3; sigma += 2) {
        double ms[KINDS + 1][ROUNDS];
        char what[64];
        fill(logits, sigma);
        for (int round = 0; round < ROUNDS; round++) {
            ms[KINDS][round] = 1e3 * best_exp(&sampler, logits, logits + VOCAB);
            for (int i = 0; i < KINDS; i++)
                ms[i][round] = 1e3 * best_pick(&sampler, logits, &kinds[i].options);
        }
        for (int i = 0; i <= KINDS; i++) {
            snprintf(what, sizeof what, "%s, sigma %d", i < KINDS ? kinds[i].name : "exp", sigma);
            print_samples(what, "ms", ms[i], ROUNDS);
        }
    }
    sampler_free(&sampler);
    mem_free(logits);
    return 0;
}
