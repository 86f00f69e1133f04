#include "generation_config.h"
#include "json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct generation_config generation_config_default(void)
{
    return (struct generation_config){
        .temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1};
}

/* Keys that change which token is chosen and are not followed, and the value without effect. */
static const struct {
    const char *key;
    double neutral;
    /* clang-format off */
} not_done[] = {
    {"num_beams", 1}, {"num_beam_groups", 1}, {"penalty_alpha", 0}, {"typical_p", 1}, {"top_h", 1},
    {"epsilon_cutoff", 0}, {"eta_cutoff", 0}, {"encoder_repetition_penalty", 1},
    {"no_repeat_ngram_size", 0}, {"encoder_no_repeat_ngram_size", 0}, {"bad_words_ids", 0},
    {"force_words_ids", 0}, {"constraints", 0}, {"forced_bos_token_id", -1},
    {"forced_eos_token_id", -1}, {"suppress_tokens", 0},
    {"begin_suppress_tokens", 0}, {"sequence_bias", 0}, {"exponential_decay_length_penalty", 0},
    {"guidance_scale", 1}, {"watermarking_config", 0}, {"dola_layers", 0}, {"stop_strings", 0},
    {"min_length", 0}, {"min_new_tokens", 0},
};
/* clang-format on */

static void leave_out(struct generation_config *out, const char *key)
{
    if (out->n_ignored++ == 0)
        out->ignored = key;
}

static void find_not_done(const json_t *object, struct generation_config *out)
{
    for (size_t i = 0; i < sizeof not_done / sizeof *not_done; i++) {
        const json_t *value = json_find(object, not_done[i].key);
        bool neutral = !value || json_is_false(value) ||
                       (json_is_number(value) && json_number_value(value) == not_done[i].neutral) ||
                       (json_is_array(value) && json_array_size(value) == 0) ||
                       (json_is_object(value) && json_object_size(value) == 0);
        if (!neutral)
            leave_out(out, not_done[i].key);
    }
    const char *cache = json_string_value(json_find(object, "cache_implementation"));
    if (cache && strcmp(cache, "quantized") == 0)
        leave_out(out, "cache_implementation");
}

/* ---- fields ---- */

struct reader {
    struct json_in in;
    struct generation_config *out;
    struct findings *findings;
    bool greedy; /* of how tokens are drawn something is not known */
};

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

static bool temperature(const struct json_in *in, double *value, struct tp_error *err)
{
    double v = *value;
    if (!number(in, "temperature", 0, 1e6, &v, err) ||
        (v != 0 && !number(in, "temperature", 1e-6, 1e6, &v, err)))
        return false;
    *value = v;
    return true;
}

static bool whole_number(const struct json_in *in, const char *key, double max, uint64_t *value,
                         struct tp_error *err)
{
    double v = (double)*value;
    if (!number(in, key, 0, max, &v, err))
        return false;
    if (v != floor(v))
        return tp_fail(err, in->code, "%s: %s: %g, a whole number expected", in->file, key, v);
    *value = (uint64_t)v;
    return true;
}

/* ok: the field was taken; else why says what is wrong with it. */
static bool taken(struct reader *r, const char *key, bool ok, struct tp_error *why,
                  struct tp_error *err)
{
    if (ok)
        return true;
    r->greedy = true;
    leave_out(r->out, key);
    return finding_forgive(r->findings, why, "it is ignored, and tokens are chosen greedily", err);
}

static bool read_choice(struct reader *r, struct tp_error *err)
{
    struct generation_config *out = r->out;
    const struct json_in *in = &r->in;
    struct tp_error why = {0};
    return taken(r, "do_sample", json_get_bool_or(in, "do_sample", false, &out->do_sample, &why),
                 &why, err) &&
           taken(r, "temperature", temperature(in, &out->temperature, &why), &why, err) &&
           taken(r, "top_k", whole_number(in, "top_k", INT32_MAX, &out->top_k, &why), &why, err) &&
           taken(r, "top_p", number(in, "top_p", 0, 1, &out->top_p, &why), &why, err) &&
           taken(r, "min_p", number(in, "min_p", 0, 1, &out->min_p, &why), &why, err) &&
           taken(r, "repetition_penalty",
                 number(in, "repetition_penalty", 1e-3, 1e3, &out->repetition_penalty, &why), &why,
                 err);
}

/* One id, or a list of them; those that are none are left out. */
static bool read_eos(struct reader *r, uint64_t vocab, struct tp_error *err)
{
    static const char key[] = "eos_token_id";
    struct generation_config *out = r->out;
    const json_t *value = json_find(r->in.object, key);
    size_t count = json_is_array(value) ? json_array_size(value) : value != NULL;
    bool said = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        double id = json_is_number(item) ? json_number_value(item) : -1;
        bool ok = id >= 0 && id < (double)vocab && id == floor(id);
        if (ok && out->n_eos < MODEL_EOS_MAX) {
            out->eos_id[out->n_eos++] = (int64_t)id;
            continue;
        }
        if (!said)
            leave_out(out, key);
        said = true;
        if (ok)
            return finding_warn(r->findings, TP_E_CF_TOKEN_ID, err,
                                "%s: %s: %zu ids, at most %d expected: the others are ignored",
                                r->in.file, key, count, MODEL_EOS_MAX);
        char found[32];
        snprintf(found, sizeof found, "%.17g", json_number_value(item));
        if (!finding_warn(r->findings, TP_E_CF_TOKEN_ID, err,
                          "%s: %s: %s, ids 0 to %llu expected: it is ignored", r->in.file, key,
                          json_is_number(item) ? found : json_type_name(item),
                          (unsigned long long)vocab - 1))
            return false;
    }
    return true;
}

bool generation_config_read(const char *file, const char *data, size_t n, uint64_t vocab,
                            struct findings *findings, struct generation_config *out,
                            struct tp_error *err)
{
    struct tp_error why = {0};
    *out = generation_config_default();
    json_t *root = n <= GENERATION_CONFIG_BYTES_MAX
                       ? json_parse_wide(file, data, n, TP_E_CF_GENERATION, &why)
                       : NULL;
    if (n > GENERATION_CONFIG_BYTES_MAX)
        tp_fail(&why, TP_E_CF_GENERATION, "%s: %zu bytes, at most %d expected", file, n,
                GENERATION_CONFIG_BYTES_MAX);
    else if (root && !json_is_object(root))
        tp_fail(&why, TP_E_CF_GENERATION, "%s: %s at top level, an object expected", file,
                json_type_name(root));
    if (why.code) {
        json_decref(root);
        leave_out(out, "all of it");
        return finding_forgive(findings, &why,
                               "the file is ignored, and tokens are chosen greedily", err);
    }
    struct reader r = {{root, file, TP_E_CF_GENERATION}, out, findings, false};
    bool ok = read_choice(&r, err) && read_eos(&r, vocab, err);
    out->do_sample &= !r.greedy;
    find_not_done(root, out);
    json_decref(root);
    return ok;
}
