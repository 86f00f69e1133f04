#include "choice.h"

#include "mem.h"
#include <string.h>

static bool read_config(struct choice *c, const struct bundle *bundle, struct tp_error *err)
{
    const struct bundle_file *file = bundle_find_file(bundle, "generation_config.json");
    char *data;
    size_t n;
    c->config = generation_config_default();
    if (!file)
        return true;
    if (!bundle_read_file(bundle, file, &data, &n, err))
        return false;
    struct findings known = {.quiet = true}; /* convert has said them */
    bool ok =
        generation_config_read(file->name, data, n, bundle->model.vocab, &known, &c->config, err);
    mem_free(data);
    return ok;
}

static struct sampler_options sampling_of(const struct choice_given *o,
                                          const struct generation_config *config)
{
    struct sampler_options s = sampler_defaults();
    bool asked = o->given_temperature || o->given_top_k || o->given_top_p || o->given_min_p;
    s.repetition_penalty = o->given_penalty ? o->penalty : config->repetition_penalty;
    s.seed = o->seed;
    if (!asked && !config->do_sample)
        return s;
    s.temperature = 1;
    if (config->do_sample) {
        s.temperature = config->temperature;
        s.top_k = config->top_k;
        s.top_p = config->top_p;
        s.min_p = config->min_p;
    }
    if (o->given_temperature)
        s.temperature = o->temperature < SAMPLER_TEMPERATURE_MIN ? 0 : o->temperature;
    if (o->given_top_k)
        s.top_k = o->top_k;
    if (o->given_top_p)
        s.top_p = o->top_p;
    if (o->given_min_p)
        s.min_p = o->min_p;
    return s;
}

static bool is_one_of(const int64_t *list, uint64_t n, uint32_t id)
{
    for (uint64_t i = 0; i < n; i++)
        if (list[i] == (int64_t)id)
            return true;
    return false;
}

/* generation_config.json's, else config.json's; and the tokenizer's: published models have what
 * ends an answer in one of them alone. */
static void read_eos(struct choice *c, const struct model_config *model,
                     const struct tokenizer *tokenizer)
{
    bool own = c->config.n_eos > 0;
    c->n_eos = own ? c->config.n_eos : model->n_eos;
    memcpy(c->eos, own ? c->config.eos_id : model->eos_id, c->n_eos * sizeof *c->eos);
    uint32_t end = tokenizer ? tokenizer_end(tokenizer) : TOKEN_NONE;
    if (end < model->vocab && !is_one_of(c->eos, c->n_eos, end))
        c->eos[c->n_eos++] = end;
}

bool choice_read(struct choice *choice, const struct bundle *bundle,
                 const struct tokenizer *tokenizer, const struct choice_given *given,
                 struct tp_error *err)
{
    struct choice *c = choice;
    if (!read_config(c, bundle, err))
        return false;
    c->sampling = sampling_of(given, &c->config);
    read_eos(c, &bundle->model, tokenizer);
    return sampler_check(&c->sampling, err);
}

bool choice_ban_holes(const struct tokenizer *tokenizer, uint64_t vocab, const int64_t *eos,
                      uint64_t n_eos, uint8_t **marks, struct tp_error *err)
{
    *marks = NULL;
    for (uint32_t id = 0; id < vocab; id++) {
        if (tokenizer_is_token(tokenizer, id) || is_one_of(eos, n_eos, id))
            continue;
        if (!*marks && !(*marks = mem_array(vocab, 1, err)))
            return false;
        (*marks)[id] = SAMPLER_BANNED;
    }
    return true;
}
