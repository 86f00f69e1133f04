/* The input is a generation_config.json. What is accepted is what the sampler takes (sampler_check,
 * which is among the kernels). */
#include "generation_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { VOCAB = 1000 };
    struct generation_config c;
    struct tp_error err = {0};
    if (!generation_config_read("fuzz", (const char *)data, size, VOCAB, &c, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
        return 0;
    }
    tp_assert(c.n_eos <= MODEL_EOS_MAX);
    for (uint64_t i = 0; i < c.n_eos; i++)
        tp_assert(c.eos_id[i] >= 0 && c.eos_id[i] < VOCAB);
    tp_assert(c.temperature == 0 || (c.temperature >= 1e-6 && c.temperature <= 1e6));
    tp_assert(c.top_p >= 0 && c.top_p <= 1 && c.min_p >= 0 && c.min_p <= 1);
    tp_assert(c.repetition_penalty >= 1e-3 && c.repetition_penalty <= 1e3);
    return 0;
}
