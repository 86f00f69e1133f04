/* Reference results that travel with a bundle (selftest.json): for a few fixed prompts, per
 * position the hash of the logits and the highest five, and per layer the hash of the residual
 * stream. They hold on any machine and at any degree.
 */
#pragma once
#include "hash.h"
#include "mem.h"
#include "model_config.h"
#include "prompts.h"
#include "trace.h"

enum { SELFTEST_PROMPTS = 3, SELFTEST_TOP = 5, SELFTEST_VERSION = 1 };

struct selftest_position {
    struct hash128 hash;            /* of the f32 logits [vocab] */
    uint32_t top_ids[SELFTEST_TOP]; /* by falling logit, the lower id first; n_top of them */
    float top_logits[SELFTEST_TOP];
};

struct selftest {
    uint32_t n_prompts, n_layers, n_top;
    struct prompt *prompts;               /* [n_prompts] */
    struct selftest_position **positions; /* [n_prompts][n_ids] */
    struct hash128 **layers; /* [n_prompts][n_layers + 1], the last of the normed rows */
    struct mem_arena arena;
};

/* The fixed prompts of a model, results empty. A {0} selftest may be freed. */
bool selftest_init(struct selftest *test, const struct model_config *model, struct tp_error *err);
void selftest_free(struct selftest *test);
void selftest_set_logits(struct selftest *test, uint32_t prompt, uint32_t position,
                         const float *logits, uint64_t vocab);
void selftest_set_layers(struct selftest *test, const struct trace *trace);
/* The text of selftest.json; mem_free. */
char *selftest_text(const struct selftest *test, size_t *n, struct tp_error *err);
/* Compare with such a text. TP_E_SELFTEST names prompt, position and the first layer that differs.
 */
bool selftest_compare(const struct selftest *test, const char *file, const char *text, size_t n,
                      struct tp_error *err);
