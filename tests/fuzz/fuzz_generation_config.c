/* The input is a generation_config.json. What is left of it is what the sampler takes
 * (sampler_check, which is among the kernels). */
#include "generation_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { VOCAB = 1000 };
    struct generation_config c;
    struct tp_error err = {0};
    struct findings findings = {.quiet = true}, strict = {.strict = true};
    tp_assert(generation_config_read("fuzz", (const char *)data, size, VOCAB, &findings, &c, &err));
    tp_assert(!findings.warnings || (c.ignored && err.code == TP_OK));
    tp_assert(generation_config_read("fuzz", (const char *)data, size, VOCAB, &strict, &c, &err) ==
              !findings.warnings);
    tp_assert(!findings.warnings == (err.code == TP_OK));
    if (findings.warnings)
        tp_assert(generation_config_read("fuzz", (const char *)data, size, VOCAB, &findings, &c,
                                         &(struct tp_error){0}));
    tp_assert(c.n_eos <= MODEL_EOS_MAX);
    for (uint64_t i = 0; i < c.n_eos; i++)
        tp_assert(c.eos_id[i] >= 0 && c.eos_id[i] < VOCAB);
    tp_assert(c.temperature == 0 || (c.temperature >= 1e-6 && c.temperature <= 1e6));
    tp_assert(c.top_p >= 0 && c.top_p <= 1 && c.min_p >= 0 && c.min_p <= 1);
    tp_assert(c.repetition_penalty >= 1e-3 && c.repetition_penalty <= 1e3);
    return 0;
}
