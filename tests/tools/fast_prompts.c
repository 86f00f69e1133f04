/* What of fast prompts no command shows, on --device cuda:
 *
 *     fast_prompts after BUNDLE
 *         What follows one is exact: given the cache that it left, the logits of an answer's tokens
 *         are the same run one by one, or all at once as a prompt's rest.
 *     fast_prompts company BUNDLE
 *         Five prompts, fast and exact, have the same logits together and each alone.
 */
#include "batch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 5, PROMPT = 150, ANSWER = 9, POSITIONS = 512, CHUNK = 128 };

struct program {
    struct bundle bundle;
    struct engine engine;
    struct batch batch;
    uint32_t ids[SLOTS * POSITIONS];
    bool taken[SLOTS];
};

struct seen {
    float *logits; /* [SLOTS][POSITIONS][vocab] */
    uint64_t vocab;
};

static void check(bool ok, const char *what, struct tp_error *err)
{
    if (ok)
        return;
    fprintf(stderr, "fast_prompts: %s: %s\n", what, err->text);
    exit(1);
}

static bool keep(void *arg, uint32_t slot, uint32_t position, const float *logits,
                 struct tp_error *err)
{
    struct seen *seen = arg;
    (void)err;
    memcpy(seen->logits + ((uint64_t)slot * POSITIONS + position) * seen->vocab, logits,
           seen->vocab * sizeof *logits);
    return true;
}

static void add(struct program *p, uint32_t slot, uint32_t n_ids, uint32_t n_cached,
                struct seen *seen)
{
    struct tp_error err = {0};
    const struct request request = {.ids = p->ids + slot * POSITIONS,
                                    .n_ids = n_ids,
                                    .n_cached = n_cached,
                                    .sampling = sampler_defaults(),
                                    .on_logits = keep,
                                    .arg = seen};
    check(batch_add(&p->batch, &request, slot, &err) == slot, "request", &err);
    p->taken[slot] = true;
}

/* All that were added; their caches stay. */
static void run(struct program *p)
{
    struct tp_error err = {0};
    for (bool ran = true; ran;)
        check(batch_step(&p->batch, &ran, &err), "step", &err);
    for (uint32_t s = 0; s < SLOTS; s++) {
        if (!p->taken[s])
            continue;
        p->taken[s] = false;
        check(batch_check(&p->batch, s, &err), "answer", &err);
        batch_remove(&p->batch, s, true);
    }
}

static void after(struct program *p, struct seen *one, struct seen *all)
{
    add(p, 0, PROMPT, 0, one);
    run(p);
    memcpy(all->logits, one->logits, PROMPT * one->vocab * sizeof *one->logits);
    for (uint32_t i = 0; i < ANSWER; i++) {
        add(p, 0, PROMPT + i + 1, PROMPT + i, one);
        run(p);
    }
    add(p, 0, PROMPT + ANSWER, PROMPT, all);
    run(p);
}

static void company(struct program *p, struct seen *one, struct seen *all)
{
    static const uint32_t lengths[SLOTS] = {300, 17, 4, 140, 129};
    for (uint32_t s = 0; s < SLOTS; s++)
        add(p, s, lengths[s], 0, all);
    run(p);
    for (uint32_t s = 0; s < SLOTS; s++) {
        engine_forget(&p->engine, s, 0);
        add(p, s, lengths[s], 0, one);
        run(p);
    }
}

int main(int argc, char **argv)
{
    static struct program p;
    struct tp_error err = {0};
    const uint64_t positions[SLOTS] = {POSITIONS, POSITIONS, POSITIONS, POSITIONS, POSITIONS};
    if (argc != 3)
        return 2;
    check(bundle_open(&p.bundle, argv[2], false, &err), "bundle", &err);
    const struct engine_setup setup = {.device = &device_cuda,
                                       .threads = 1,
                                       .kv_dtype = p.bundle.recipe.dtype,
                                       .rows_max = CHUNK + SLOTS,
                                       .span_rows_max = CHUNK,
                                       .n_sequences = SLOTS,
                                       .n_pages = SLOTS * 2,
                                       .positions_max = positions,
                                       .verify = true,
                                       .memory_fraction = 0.9};
    const uint64_t vocab = p.bundle.model.vocab, count = (uint64_t)SLOTS * POSITIONS * vocab;
    struct seen one = {calloc(count, sizeof(float)), vocab},
                all = {calloc(count, sizeof(float)), vocab};
    for (uint32_t i = 0; i < SLOTS * POSITIONS; i++)
        p.ids[i] = (uint32_t)((i * i * 7 + 3) % vocab);
    check(engine_open(&p.engine, &p.bundle, &setup, &err) &&
              batch_open(&p.batch, &p.engine, CHUNK, &err),
          "engine", &err);
    (strcmp(argv[1], "after") == 0 ? after : company)(&p, &one, &all);
    const bool same = memcmp(one.logits, all.logits, count * sizeof(float)) == 0;
    batch_close(&p.batch);
    engine_close(&p.engine);
    bundle_close(&p.bundle);
    free(one.logits);
    free(all.logits);
    puts(same ? "the same bits" : "other bits");
    return !same;
}
