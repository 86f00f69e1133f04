/* batch_random BUNDLE THREADS SEED: requests that come, go and are taken back at random steps; each
 * is answered as it is alone: ids, how it ends, and the log-probability of every id, to the last
 * bit. Prints how many; exit status 1 at the first that is not.
 */
#include "batch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 7,
    REQUESTS = 60,
    PROMPT_MAX = 40,
    NEW_MAX = 24,
    POSITIONS = PROMPT_MAX + NEW_MAX,
    CHUNK = 9
};

struct said {
    uint32_t ids[NEW_MAX], count;
    enum batch_finish finish;
    struct hash128 logits[NEW_MAX]; /* that it was chosen from */
    float row[1 << 16];             /* logits of the last position */
};

struct asked {
    struct request request;
    uint32_t ids[PROMPT_MAX];
    uint32_t leaves_after; /* steps; 0: stays to its end */
    uint32_t fails_at;     /* position; 0: nowhere */
    struct said here, alone;
    struct said *to;
    uint64_t vocab;
};

static uint32_t below(uint32_t n)
{
    return (uint32_t)rand() % n;
}

static bool on_logits(void *arg, uint32_t slot, uint32_t position, const float *logits,
                      struct tp_error *err)
{
    struct asked *a = arg;
    (void)slot;
    if (position && position == a->fails_at)
        return tp_fail(err, TP_E_NAN, "as asked");
    memcpy(a->to->row, logits, a->vocab * sizeof *logits);
    return true;
}

static bool on_token(void *arg, uint32_t slot, uint32_t id)
{
    struct asked *a = arg;
    (void)slot;
    a->to->logits[a->to->count] = hash_bytes(a->to->row, a->vocab * sizeof *a->to->row);
    a->to->ids[a->to->count++] = id;
    return id % 23 == 5;
}

static void ask(struct asked *a, uint64_t number, uint64_t vocab)
{
    static const int64_t eos[] = {3};
    *a = (struct asked){.leaves_after = below(4) ? 0 : 1 + below(12),
                        .fails_at = below(5) ? 0 : below(POSITIONS),
                        .vocab = vocab};
    a->request = (struct request){
        .stream = number,
        .ids = a->ids,
        .n_ids = 1 + below(PROMPT_MAX),
        .n = below(NEW_MAX + 1),
        .sampling = {.temperature = below(3) ? 0.5 + 0.25 * below(6) : 0,
                     .top_p = below(2) ? 1 : 0.8,
                     .top_k = below(3) ? 0 : 1 + below(30),
                     .min_p = below(4) ? 0 : 0.02,
                     .repetition_penalty = below(3) ? 1 : 1.3,
                     .seed = below(5)},
        .eos = eos,
        .n_eos = below(2),
        .on_token = on_token,
        .on_logits = on_logits,
        .arg = a,
    };
    for (uint32_t i = 0; i < a->request.n_ids; i++)
        a->ids[i] = below((uint32_t)vocab);
}

static void check(bool ok, const char *what, struct tp_error *err)
{
    if (ok)
        return;
    fprintf(stderr, "batch_random: %s: %s\n", what, err->text);
    exit(1);
}

/* In random company: a request more now and then, one less now and then. */
static void run_together(struct batch *b, struct asked *asked)
{
    struct tp_error err = {0};
    struct asked *in[SLOTS] = {0};
    uint32_t age[SLOTS] = {0}, next = 0, live = 0;
    bool ran;
    while (next < REQUESTS || live) {
        while (next < REQUESTS && live < SLOTS && below(3)) {
            asked[next].to = &asked[next].here;
            uint32_t slot;
            do /* any free one */
                slot = below(SLOTS);
            while (in[slot]);
            check(batch_add(b, &asked[next].request, slot, &err) == slot, "add", &err);
            in[slot] = &asked[next++];
            age[slot] = 0;
            live++;
        }
        check(batch_step(b, &ran, &err), "step", &err);
        for (uint32_t s = 0; s < SLOTS; s++) {
            if (!in[s])
                continue;
            const struct answer *answer = batch_answer(b, s);
            if (answer->finish == BATCH_GOING &&
                (!in[s]->leaves_after || ++age[s] < in[s]->leaves_after))
                continue;
            in[s]->here.finish = answer->finish;
            batch_remove(b, s, false);
            in[s] = NULL;
            live--;
        }
    }
}

static void run_alone(struct batch *b, struct asked *a)
{
    struct tp_error err = {0};
    bool ran = true;
    a->to = &a->alone;
    uint32_t slot = below(SLOTS);
    check(batch_add(b, &a->request, slot, &err) == slot, "add", &err);
    while (ran)
        check(batch_step(b, &ran, &err), "step", &err);
    a->alone.finish = batch_answer(b, slot)->finish;
    batch_remove(b, slot, false);
}

/* What was said, or, of who left, what had been by then. */
static bool equal(const struct said *here, const struct said *alone)
{
    return here->count <= alone->count &&
           memcmp(here->ids, alone->ids, here->count * sizeof *here->ids) == 0 &&
           memcmp(here->logits, alone->logits, here->count * sizeof *here->logits) == 0 &&
           (here->finish == BATCH_GOING ||
            (here->finish == alone->finish && here->count == alone->count));
}

int main(int argc, char **argv)
{
    struct bundle bundle = {0};
    static struct engine engine;
    struct batch batch = {0};
    struct tp_error err = {0};
    uint64_t positions[SLOTS];
    uint32_t tokens = 0, left = 0, failed = 0;
    if (argc != 4)
        return 2;
    srand((unsigned)atoi(argv[3]));
    for (int s = 0; s < SLOTS; s++)
        positions[s] = POSITIONS;
    check(bundle_open(&bundle, argv[1], false, &err), "bundle", &err);
    const struct engine_setup setup = {.device = &device_cpu,
                                       .threads = atoi(argv[2]),
                                       .kv_dtype = bundle.recipe.dtype,
                                       .rows_max = CHUNK + SLOTS,
                                       .n_sequences = SLOTS,
                                       .n_pages = SLOTS,
                                       .positions_max = positions,
                                       .verify = true};
    struct asked *asked = calloc(REQUESTS, sizeof *asked);
    check(engine_open(&engine, &bundle, &setup, &err) && batch_open(&batch, &engine, CHUNK, &err),
          "engine", &err);
    for (uint32_t i = 0; i < REQUESTS; i++)
        ask(&asked[i], i, bundle.model.vocab);
    run_together(&batch, asked);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        run_alone(&batch, &asked[i]);
        tokens += asked[i].here.count;
        left += asked[i].here.finish == BATCH_GOING;
        failed += asked[i].here.finish == BATCH_FAILED;
        if (!equal(&asked[i].here, &asked[i].alone)) {
            fprintf(stderr, "batch_random: request %u says something else in company\n", i);
            return 1;
        }
    }
    printf("%d requests, %u tokens, %u left before their end, %u failed\n", REQUESTS, tokens, left,
           failed);
    batch_close(&batch);
    engine_close(&engine);
    bundle_close(&bundle);
    free(asked);
    return 0;
}
