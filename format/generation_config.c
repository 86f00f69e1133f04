#include "generation_config.h"
#include "json.h"
#include "token_ids.h"

struct generation_config generation_config_default(void)
{
    return (struct generation_config){
        .temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1};
}

static bool number(const struct json_in *in, const char *key, double min, double max, double *value,
                   struct tp_error *err)
{
    double v;
    if (!json_get_double_or(in, key, *value, &v, err))
        return false;
    if (!(v >= min && v <= max))
        return tp_fail(err, in->code, "%s: %s: %g, %g to %g expected", in->file, key, v, min, max);
    *value = v;
    return true;
}

/* Keys that change which token is chosen and are not followed, and the value without effect. */
static const struct {
    const char *key;
    double neutral;
    /* clang-format off */
} not_done[] = {
    {"num_beams", 1}, {"num_beam_groups", 1}, {"penalty_alpha", 0}, {"typical_p", 1}, {"top_h", 1},
    {"epsilon_cutoff", 0}, {"eta_cutoff", 0}, {"encoder_repetition_penalty", 1},
    {"no_repeat_ngram_size", 0}, {"bad_words_ids", 0}, {"force_words_ids", 0}, {"constraints", 0},
    {"forced_bos_token_id", 0}, {"forced_eos_token_id", 0}, {"suppress_tokens", 0},
    {"begin_suppress_tokens", 0}, {"sequence_bias", 0}, {"exponential_decay_length_penalty", 0},
    {"guidance_scale", 1}, {"watermarking_config", 0}, {"dola_layers", 0}, {"stop_strings", 0},
    {"min_length", 0}, {"min_new_tokens", 0},
};
/* clang-format on */

static const char *find_not_done(const json_t *object)
{
    for (size_t i = 0; i < sizeof not_done / sizeof *not_done; i++) {
        const json_t *value = json_find(object, not_done[i].key);
        bool neutral = !value || json_is_false(value) ||
                       (json_is_number(value) && json_number_value(value) == not_done[i].neutral) ||
                       (json_is_array(value) && json_array_size(value) == 0) ||
                       (json_is_object(value) && json_object_size(value) == 0);
        if (!neutral)
            return not_done[i].key;
    }
    return NULL;
}

bool generation_config_read(const char *file, const char *data, size_t n, uint64_t vocab,
                            struct generation_config *out, struct tp_error *err)
{
    *out = generation_config_default();
    json_t *root = json_parse(file, data, n, TP_E_CF_GENERATION, err);
    if (!root)
        return false;
    struct json_in in = {root, file, TP_E_CF_GENERATION};
    bool ok = json_is_object(root);
    if (!ok)
        tp_fail(err, in.code, "%s: %s at top level, an object expected", file,
                json_type_name(root));
    ok = ok && json_get_bool_or(&in, "do_sample", out->do_sample, &out->do_sample, err) &&
         number(&in, "temperature", 0, 1e6, &out->temperature, err) &&
         (out->temperature == 0 || number(&in, "temperature", 1e-6, 1e6, &out->temperature, err)) &&
         json_get_u64_or(&in, "top_k", 0, INT32_MAX, out->top_k, &out->top_k, err) &&
         number(&in, "top_p", 0, 1, &out->top_p, err) &&
         number(&in, "min_p", 0, 1, &out->min_p, err) &&
         number(&in, "repetition_penalty", 1e-3, 1e3, &out->repetition_penalty, err) &&
         token_ids_read(&in, "eos_token_id", vocab, out->eos_id, &out->n_eos, err);
    if (ok)
        out->ignored = find_not_done(root);
    json_decref(root);
    return ok;
}
