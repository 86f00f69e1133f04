#include "selftest.h"

#include "json.h"

void selftest_free(struct selftest *test)
{
    mem_arena_free(&test->arena);
    *test = (struct selftest){0};
}

static const uint32_t lengths[SELFTEST_PROMPTS] = {1, 7, 40};

/* Ids of a fixed linear congruence (Knuth's MMIX), so that every vocabulary has its own prompts. */
static bool make_prompt(struct selftest *test, uint32_t p, const struct model_config *model,
                        uint64_t *state, struct tp_error *err)
{
    struct prompt *prompt = &test->prompts[p];
    uint64_t n = lengths[p] < model->max_positions ? lengths[p] : model->max_positions;
    prompt->n_ids = (uint32_t)n;
    prompt->ids = mem_arena_alloc(&test->arena, n * sizeof *prompt->ids, err);
    prompt->id = mem_arena_copy(&test->arena, &"012"[p], 1, err);
    test->positions[p] = mem_arena_alloc(&test->arena, n * sizeof **test->positions, err);
    test->layers[p] =
        mem_arena_alloc(&test->arena, (model->n_layers + 1) * sizeof **test->layers, err);
    if (!prompt->ids || !prompt->id || !test->positions[p] || !test->layers[p])
        return false;
    for (uint64_t i = 0; i < n; i++) {
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        prompt->ids[i] = (uint32_t)((*state >> 33) % model->vocab);
    }
    return true;
}

bool selftest_init(struct selftest *test, const struct model_config *model, struct tp_error *err)
{
    uint64_t state = 1;
    *test = (struct selftest){
        .n_prompts = SELFTEST_PROMPTS,
        .n_layers = (uint32_t)model->n_layers,
        .n_top = model->vocab < SELFTEST_TOP ? (uint32_t)model->vocab : SELFTEST_TOP,
    };
    struct mem_arena *arena = &test->arena;
    test->prompts = mem_arena_alloc(arena, SELFTEST_PROMPTS * sizeof *test->prompts, err);
    test->positions = mem_arena_alloc(arena, SELFTEST_PROMPTS * sizeof *test->positions, err);
    test->layers = mem_arena_alloc(arena, SELFTEST_PROMPTS * sizeof *test->layers, err);
    bool ok = test->prompts && test->positions && test->layers;
    for (uint32_t p = 0; ok && p < SELFTEST_PROMPTS; p++)
        ok = make_prompt(test, p, model, &state, err);
    if (!ok)
        selftest_free(test);
    return ok;
}

void selftest_set_logits(struct selftest *test, uint32_t prompt, uint32_t position,
                         const float *logits, uint64_t vocab)
{
    struct selftest_position *out = &test->positions[prompt][position];
    uint32_t count = 0;
    out->hash = hash_bytes(logits, vocab * sizeof *logits);
    for (uint32_t id = 0; id < vocab; id++) {
        uint32_t at = count;
        while (at > 0 && logits[id] > out->top_logits[at - 1])
            at--;
        if (at == test->n_top)
            continue;
        count += count < test->n_top;
        for (uint32_t i = count - 1; i > at; i--) {
            out->top_ids[i] = out->top_ids[i - 1];
            out->top_logits[i] = out->top_logits[i - 1];
        }
        out->top_ids[at] = id;
        out->top_logits[at] = logits[id];
    }
}

void selftest_set_layers(struct selftest *test, const struct trace *trace)
{
    for (uint32_t p = 0; p < test->n_prompts; p++)
        for (uint32_t layer = 0; layer <= test->n_layers; layer++)
            test->layers[p][layer] = trace_hash(trace, p, layer);
}

/* ---- text ---- */

static json_t *hash_json(struct hash128 hash)
{
    char hex[33];
    hash_to_hex(hash, hex);
    return json_string(hex);
}

static json_t *position_json(const struct selftest *test, const struct selftest_position *position)
{
    json_t *ids = json_array(), *values = json_array();
    for (uint32_t i = 0; i < test->n_top; i++) {
        json_array_append_new(ids, json_integer(position->top_ids[i]));
        json_array_append_new(values, json_real((double)position->top_logits[i]));
    }
    return json_pack("{s:o, s:o, s:o}", "logits", hash_json(position->hash), "top_ids", ids,
                     "top_logits", values);
}

static json_t *prompt_json(const struct selftest *test, uint32_t p)
{
    const struct prompt *prompt = &test->prompts[p];
    json_t *ids = json_array(), *layers = json_array(), *positions = json_array();
    for (uint32_t i = 0; i < prompt->n_ids; i++) {
        json_array_append_new(ids, json_integer(prompt->ids[i]));
        json_array_append_new(positions, position_json(test, &test->positions[p][i]));
    }
    for (uint32_t layer = 0; layer <= test->n_layers; layer++)
        json_array_append_new(layers, hash_json(test->layers[p][layer]));
    return json_pack("{s:o, s:o, s:o}", "prompt_ids", ids, "layers", layers, "positions",
                     positions);
}

char *selftest_text(const struct selftest *test, size_t *n, struct tp_error *err)
{
    json_t *prompts = json_array();
    for (uint32_t p = 0; p < test->n_prompts; p++)
        json_array_append_new(prompts, prompt_json(test, p));
    json_t *root = json_pack("{s:i, s:o}", "version", SELFTEST_VERSION, "prompts", prompts);
    char *text = NULL;
    if (root)
        text = json_text(root, n, err);
    else
        tp_fail(err, TP_E_MEMORY, "selftest.json: out of memory");
    json_decref(root);
    return text;
}

/* ---- comparison ---- */

static bool same_hash(const json_t *value, struct hash128 found)
{
    const char *hex = json_string_value(value);
    struct hash128 wanted;
    return hex && hash_from_hex(hex, &wanted) && hash_equal(wanted, found);
}

/* "layer 3", "the final norm" or "no layer": where the residual stream first differs. */
static const char *first_layer(const struct selftest *test, uint32_t p, const json_t *layers,
                               char *buf, size_t size)
{
    for (uint32_t layer = 0; layer <= test->n_layers; layer++) {
        if (same_hash(json_array_get(layers, layer), test->layers[p][layer]))
            continue;
        if (layer == test->n_layers)
            return "the final norm";
        snprintf(buf, size, "layer %u", layer);
        return buf;
    }
    return "no layer";
}

static bool compare_prompt(const struct selftest *test, uint32_t p, const struct json_in *in,
                           struct tp_error *err)
{
    const json_t *ids, *layers, *positions;
    const struct prompt *prompt = &test->prompts[p];
    char layer[32];
    if (!json_get_array(in, "prompt_ids", &ids, err) ||
        !json_get_array(in, "layers", &layers, err) ||
        !json_get_array(in, "positions", &positions, err))
        return false;
    bool same =
        json_array_size(ids) == prompt->n_ids && json_array_size(positions) == prompt->n_ids;
    for (uint32_t i = 0; same && i < prompt->n_ids; i++)
        same = json_integer_value(json_array_get(ids, i)) == prompt->ids[i];
    if (!same)
        return tp_fail(err, TP_E_SELFTEST, "%s: prompt %u: other tokens than this version's",
                       in->file, p);
    const char *differs = first_layer(test, p, layers, layer, sizeof layer);
    for (uint32_t i = 0; i < prompt->n_ids; i++) {
        const json_t *position = json_array_get(positions, i);
        const struct selftest_position *found = &test->positions[p][i];
        const json_t *top = json_array_get(json_find(position, "top_ids"), 0);
        if (!same_hash(json_find(position, "logits"), found->hash))
            return tp_fail(
                err, TP_E_SELFTEST,
                "%s: prompt %u: position %u: other logits, the likeliest token is %u, %lld "
                "expected; the residual stream first differs at %s",
                in->file, p, i, found->top_ids[0], (long long)json_integer_value(top), differs);
    }
    return strcmp(differs, "no layer") == 0 ||
           tp_fail(err, TP_E_SELFTEST,
                   "%s: prompt %u: the logits are right, but the residual stream differs at %s",
                   in->file, p, differs);
}

bool selftest_compare(const struct selftest *test, const char *file, const char *text, size_t n,
                      struct tp_error *err)
{
    json_t *root = json_parse(file, text, n, TP_E_JSON, err);
    if (!root)
        return false;
    struct json_in in = {root, file, TP_E_JSON_FIELD};
    const json_t *prompts;
    uint64_t version;
    bool ok = json_get_u64(&in, "version", SELFTEST_VERSION, SELFTEST_VERSION, &version, err) &&
              json_get_array(&in, "prompts", &prompts, err);
    if (ok && json_array_size(prompts) != test->n_prompts)
        ok = tp_fail(err, TP_E_SELFTEST, "%s: %zu prompts, %u expected", file,
                     json_array_size(prompts), test->n_prompts);
    for (uint32_t p = 0; ok && p < test->n_prompts; p++) {
        struct json_in prompt = {json_array_get(prompts, p), file, TP_E_JSON_FIELD};
        ok = compare_prompt(test, p, &prompt, err);
    }
    json_decref(root);
    return ok;
}
