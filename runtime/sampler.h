/* Logits to a token id. The pick is a function of (logits, marks, options, sequence, position) and
 * nothing else: no generator state, so that it is the same at any batch, thread count and
 * tensor-parallel degree.
 *
 * Order, as Hugging Face applies them: repetition penalty, temperature, top-k, top-p, min-p, draw;
 * docs/numerics.md section 10 has every operation. (HF keeps all equals of the k-th; here exactly k
 * are kept.)
 */
#pragma once
#include "error.h"
#include "hash.h"
#include "kernels.h"

/* Logits are divided by it, so that one not far above 0 would be out of range; below it the highest
 * is all that is left. */
#define SAMPLER_TEMPERATURE_MIN 1e-6

struct sampler_options {
    double temperature;        /* 0: the highest logit, the lowest id among equals */
    double top_p;              /* keep the likeliest up to this mass; 1: all */
    double min_p;              /* keep p >= min_p * p of the likeliest; 0: all */
    double repetition_penalty; /* of ids marked SAMPLER_SEEN; 1: none */
    uint64_t top_k;            /* 0: all */
    uint64_t seed;
};

/* Greedy, nothing cut off. */
struct sampler_options sampler_defaults(void);
/* Temperature, top_p, min_p and penalty are finite and in range.
 *
 * Errors  TP_E_USAGE naming the option */
bool sampler_check(const struct sampler_options *options, struct tp_error *err);

enum sampler_marks {
    SAMPLER_SEEN = 1,   /* stands in the prompt or the answer so far */
    SAMPLER_BANNED = 2, /* never picked: a hole of the vocabulary */
};

struct sampler_candidate {
    float logit;
    uint32_t id;
};

/* Working memory for one vocabulary: 20 bytes per id. {0} is safe to free. */
struct sampler {
    size_t vocab;
    const struct kernels *kernels;
    float *x, *w;                         /* [vocab] logits over temperature; weights */
    struct sampler_candidate *candidates; /* [vocab] */
    uint32_t *ids;                        /* [vocab] */
    double *sums;                         /* [vocab / 1024, rounded up] */
    double (*bins)[SAMPLE_TABLES];        /* [SAMPLE_ROWS] */
};
bool sampler_init(struct sampler *sampler, size_t vocab, struct tp_error *err);
void sampler_free(struct sampler *sampler);

/* Pick from logits [vocab]. marks: [vocab] enum sampler_marks of this sequence, or NULL. Allocates
 * nothing.
 * Errors  TP_E_NAN: a logit is NaN or +inf, or none is finite; *id untouched */
bool sampler_pick(struct sampler *sampler, const float *logits, const uint8_t *marks,
                  const struct sampler_options *options, uint64_t sequence, uint64_t position,
                  uint32_t *id, struct tp_error *err);

/* What is asked of one pick, for a device that picks in the host's place. */
struct sampler_choice {
    bool asked;                 /* false: it is not */
    float temperature;          /* 0: greedy */
    float least_weight;         /* min-p: those below it go */
    uint32_t top_k;             /* 0: all */
    double top_p, u;            /* u: the draw's, in [0, 1) */
    const uint8_t *banned;      /* [vocab] not 0: never picked; NULL: none; borrowed */
    struct hash128 banned_hash; /* of its bytes */
};
/* Whoever asks adds what is banned. The penalty must be 1. */
struct sampler_choice sampler_choice_of(const struct sampler_options *options, size_t vocab,
                                        uint64_t sequence, uint64_t position);

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four words
 * that depend on counter and key alone. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
