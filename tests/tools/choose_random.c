/* choose_random ROUNDS SEED [VOCAB]: tokens chosen on the GPU (or the emulated one) from rows of
 * made-up logits, with made-up options: each is the one that sampler_pick picks, and where u stands
 * on an edge the one of the definition. Prints how many the GPU left to the host; exit status 1 at
 * the first that differs, or that it left without need.
 */
#include "cuda_device.h"
#include "exp_of.h"
#include "mem.h"
#include "sampler.h"
#include "threads.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = CUDA_ROWS, KINDS = 15, INEXACT = 14 };

struct random_test {
    struct cuda cuda;
    struct model_config model;
    struct device_setup setup;
    struct cuda_gpu gpu;
    struct sampler sampler;
    uint64_t state;
    float *logits; /* [ROWS][stride] */
    uint8_t *marks;
    struct sampler_options options[ROWS];
    struct sampler_choice choices[ROWS];
    uint32_t kinds[ROWS], chosen[ROWS];
    bool edge[ROWS]; /* u is made up */
    uint64_t rows, greedy, cut, host_must, host_may;
};

/* ---- what is asked ---- */

static uint32_t below(struct random_test *t, uint32_t n)
{
    t->state = t->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((t->state >> 33) % n);
}

static double unit(struct random_test *t)
{
    return below(t, 1u << 30) * 0x1p-30;
}

static float normal(struct random_test *t)
{
    double sum = 0;
    for (int i = 0; i < 6; i++)
        sum += unit(t) - 0.5;
    return (float)(sum * sqrt(2));
}

static float value(struct random_test *t, uint32_t kind, uint32_t i, float scale)
{
    switch (kind) {
    case 0: /* as models have them */
        return normal(t) * scale;
    case 1:
        return i % 97 == 5 ? 20 + normal(t) : normal(t) * (1 + scale);
    case 2:
        return 1.5f;
    case 3:
        return below(t, 3) ? -1 : 2;
    case 4:
        return rintf(normal(t) * scale * 4) / 4;
    case 5:
        return below(t, 2) ? -0.0f : below(t, 4) ? 0.0f : -1.0f;
    case 6:
        return below(t, 10) ? -INFINITY : normal(t);
    case 7:
        return -INFINITY;
    case 8:
        return below(t, 2) ? 3e38f : normal(t) * 1e38f;
    case 9:
        return -(float)i * 1e-7f;
    case 10: /* Zipf's law */
        return -logf((float)i + 1) * scale + 30;
    case 11: /* where weights end */
        return i == 3 ? 0 : -87 + normal(t) * 1e-5f;
    case 12:
        return below(t, 5) ? -88 - normal(t) : normal(t) * 1e-3f;
    case 13:
        return normal(t) * 1e-30f;
    default: /* INEXACT: sums that no order of adding leaves exact */
        return (float)(unit(t) * -30);
    }
}

static double one_of(struct random_test *t, const double *values, uint32_t n)
{
    uint32_t i = below(t, n);
    return values[i] < 0 ? unit(t) : values[i];
}
#define ONE_OF(t, ...)                                                                             \
    one_of(t, (const double[]){__VA_ARGS__}, sizeof((double[]){__VA_ARGS__}) / sizeof(double))

static void make_row(struct random_test *t, uint32_t m, bool inexact)
{
    const uint32_t vocab = (uint32_t)t->model.vocab, kind = inexact ? INEXACT : below(t, KINDS);
    const float scale = (float)ONE_OF(t, 0.1, 1, 3, 10);
    t->kinds[m] = kind;
    float *row = t->logits + m * t->gpu.logit_stride;
    for (uint32_t i = 0; i < t->gpu.logit_stride; i++)
        row[i] = i < vocab ? value(t, kind, i, scale) : NAN;
    if (below(t, 20) == 0)
        row[below(t, vocab)] = below(t, 2) ? NAN : INFINITY;
    t->options[m] = (struct sampler_options){
        .temperature = ONE_OF(t, 0, 1, 1, 0.7, 1.3, 1e-6, 1e6, 0.01, 100, -1),
        .top_p = ONE_OF(t, 1, 1, 0, 0.999999, 0.5, 0.9, 0.95, 1e-300, 1 - 0x1p-53, -1),
        .min_p = ONE_OF(t, 0, 0, 0, 0.05, 0.5, 1, 1e-30, -1),
        .repetition_penalty = 1,
        .top_k = (uint64_t)ONE_OF(t, 0, 0, 0, 1, 2, 40, 50, 1023, 1024, 1025, 1e6),
        .seed = below(t, 1000),
    };
    if (inexact) { /* many are kept */
        t->options[m].temperature = 1;
        t->options[m].top_k = below(t, 2) ? 0 : 200 + below(t, 800);
        t->options[m].top_p = ONE_OF(t, 1, 0.999, -1);
        t->options[m].min_p = 0;
    }
    if (t->options[m].top_k == 2)
        t->options[m].top_k += below(t, CUDA_TOP_K_MAX);
    if (t->options[m].temperature > 0 && t->options[m].temperature < 1e-6)
        t->options[m].temperature = 1e-6;
    t->choices[m] = sampler_choice_of(&t->options[m], vocab, m, t->rows);
    if (t->marks && below(t, 4)) {
        t->choices[m].banned = t->marks;
        t->choices[m].banned_hash = hash_bytes(t->marks, vocab);
    }
}

/* ---- what is expected ---- */

struct ranked {
    float x, w;
    uint32_t id;
    bool kept;
};

static int in_order(const void *a, const void *b)
{
    const struct ranked *l = a, *r = b;
    return l->x > r->x ? -1 : l->x < r->x ? 1 : l->id < r->id ? -1 : l->id > r->id;
}
static int by_id(const void *a, const void *b)
{
    const struct ranked *l = a, *r = b;
    return (l->id > r->id) - (l->id < r->id);
}

static double chunk_sum(const struct ranked *r, uint32_t n)
{
    double s[32] = {0};
    for (uint32_t i = 0; i < n; i++)
        s[i % 32] += r[i].kept ? (double)r[i].w : 0;
    for (uint32_t half = 16; half; half /= 2)
        for (uint32_t c = 0; c < half; c++)
            s[c] += s[c + half];
    return s[0];
}

static uint32_t chunk_size(uint32_t vocab, uint32_t at)
{
    return vocab - at < SAMPLE_CHUNK ? vocab - at : SAMPLE_CHUNK;
}

static double sum_of_all(struct ranked *r, uint32_t vocab)
{
    double sum = 0;
    qsort(r, vocab, sizeof *r, by_id);
    for (uint32_t at = 0; at < vocab; at += SAMPLE_CHUNK)
        sum += chunk_sum(r + at, chunk_size(vocab, at));
    return sum;
}

/* What docs/numerics.md section 10 keeps, of finite logits; r by id then. */
static void keep(struct ranked *r, uint32_t vocab, const struct sampler_choice *c)
{
    qsort(r, vocab, sizeof *r, in_order);
    for (uint32_t i = 0; i < vocab; i++)
        r[i].kept = !c->top_k || i < c->top_k;
    if (c->top_p < 1) {
        double wanted = c->top_p * sum_of_all(r, vocab), sum = 0;
        bool reached = false;
        qsort(r, vocab, sizeof *r, in_order);
        for (uint32_t i = 0; i < vocab; i++) {
            r[i].kept &= !reached;
            sum += (double)r[i].w;
            reached |= sum >= wanted;
        }
    }
    qsort(r, vocab, sizeof *r, by_id);
    for (uint32_t i = 0; i < vocab; i++)
        r[i].kept &= r[i].w > 0 && r[i].w >= c->least_weight;
}

static uint32_t drawn(const struct ranked *r, uint32_t vocab, double u)
{
    double total = 0, sum = 0;
    uint32_t at, last = 0;
    for (at = 0; at < vocab; at += SAMPLE_CHUNK)
        total += chunk_sum(r + at, chunk_size(vocab, at));
    double target = u * total;
    for (at = 0; at < vocab; at += SAMPLE_CHUNK) {
        double s = chunk_sum(r + at, chunk_size(vocab, at));
        if (sum + s > target)
            break;
        sum += s;
    }
    bool held = at < vocab;
    uint32_t from = held ? at : 0, end = held ? at + chunk_size(vocab, at) : vocab;
    for (uint32_t i = from; i < end; i++) {
        if (!r[i].kept)
            continue;
        last = i;
        sum += (double)r[i].w;
        if (held && sum > target)
            break;
    }
    return last;
}

/* The vocabulary, in order or not; what is kept is marked. The row is finite. */
static struct ranked *rank_all(const struct random_test *t, uint32_t m)
{
    const uint32_t vocab = (uint32_t)t->model.vocab;
    const struct sampler_choice *c = &t->choices[m];
    const float *row = t->logits + m * t->gpu.logit_stride;
    float max = -INFINITY;
    struct ranked *r = mem_array(vocab, sizeof *r, NULL);
    tp_assert(r);
    unsigned mode = threads_set_fp_mode();
    for (uint32_t i = 0; i < vocab; i++) {
        bool banned = c->banned && c->banned[i];
        r[i] = (struct ranked){.x = banned ? -INFINITY : row[i] / c->temperature, .id = i};
        max = r[i].x > max ? r[i].x : max;
    }
    for (uint32_t i = 0; i < vocab; i++)
        r[i].w = exp_of(r[i].x - max);
    keep(r, vocab, c);
    threads_restore_fp_mode(mode);
    return r;
}

/* u where the sum reaches an id, give or take a bit of it, and the id that it draws. */
static uint32_t on_edge(struct random_test *t, uint32_t m)
{
    const uint32_t vocab = (uint32_t)t->model.vocab, until = below(t, vocab);
    struct sampler_choice *c = &t->choices[m];
    struct ranked *r = rank_all(t, m);
    double total = 0, sum = 0;
    for (uint32_t at = 0; at < vocab; at += SAMPLE_CHUNK) {
        double chunk = chunk_sum(r + at, chunk_size(vocab, at));
        if (until / SAMPLE_CHUNK == at / SAMPLE_CHUNK) {
            sum = total;
            for (uint32_t i = at; i <= until; i++)
                sum += r[i].kept ? (double)r[i].w : 0;
        }
        total += chunk;
    }
    uint32_t way = below(t, 4);
    double u = way ? nextafter(sum / total, (double)way - 2) : sum / total;
    c->u = u < 1 && u >= 0x1p-53 ? u : way % 2 ? 0 : 0x1p-53;
    uint32_t id = drawn(r, vocab, c->u);
    mem_free(r);
    return id;
}

/* How many top-k and top-p keep. */
static uint32_t kept_of(const struct random_test *t, uint32_t m)
{
    uint32_t n = 0;
    struct ranked *r = rank_all(t, m);
    for (uint32_t i = 0; i < t->model.vocab; i++)
        n += r[i].kept;
    mem_free(r);
    return n;
}

/* ---- the comparison ---- */

static bool copy_to(struct random_test *t, const void *to, const void *from, size_t bytes,
                    struct tp_error *err)
{
    return CUDA(&t->cuda.api, err, cuMemcpyHtoDAsync_v2,
                ((uintptr_t)to, from, bytes, t->cuda.stream));
}

static bool on_device(struct random_test *t, uint32_t n, struct tp_error *err)
{
    const struct step step = {.n_logits = n, .choices = t->choices, .chosen = t->chosen};
    for (uint32_t m = 0; m < n; m++)
        t->chosen[m] = STEP_HOST_CHOOSES;
    if (!copy_to(t, t->gpu.logits, t->logits, ROWS * t->gpu.logit_stride * 4, err) ||
        !cuda_put_choices(&t->gpu, &step, 0, n, err) || !cuda_run_choices(&t->gpu, ROWS, err) ||
        !cuda_fetch_chosen(&t->gpu, n, err) ||
        !CUDA(&t->cuda.api, err, cuStreamSynchronize, (t->cuda.stream)))
        return false;
    cuda_take_chosen(&t->gpu, &step, 0, n);
    return true;
}

/* Few are kept, and not more than fit are as likely as the last of them. */
static bool can_choose(const struct random_test *t, uint32_t m)
{
    enum { FEW = CUDA_CANDIDATES * 3 / 4 };
    const uint32_t kind = t->kinds[m];
    return t->model.vocab <= CUDA_CANDIDATES ||
           ((kind == 0 || kind == 1 || kind == 10) && kept_of(t, m) <= FEW);
}

static bool compare(struct random_test *t, uint32_t m, const uint32_t *want, bool picked)
{
    struct sampler_choice *c = &t->choices[m];
    const bool must = !picked || c->top_k > CUDA_TOP_K_MAX;
    const bool host = t->chosen[m] == STEP_HOST_CHOOSES;
    const bool cuts = c->temperature > 0 && (c->top_k || c->top_p < 1);
    t->rows++;
    t->greedy += !host && c->temperature == 0;
    t->cut += !host && cuts;
    t->host_must += host && must;
    t->host_may += host && !must;
    c->least_weight = host ? 0 : c->least_weight; /* min-p makes nothing easier */
    /* on an edge two orders of adding may disagree about the chunk */
    if (host ? must || t->edge[m] || (cuts && !can_choose(t, m)) : picked && t->chosen[m] == *want)
        return true;
    printf("vocabulary %llu row %llu: %u chosen, %u wanted (picked %d); temperature %g top_k %u "
           "top_p %.17g min_p %g u %.17g\n",
           (unsigned long long)t->model.vocab, (unsigned long long)t->rows, t->chosen[m], *want,
           picked, (double)c->temperature, c->top_k, c->top_p, (double)c->least_weight, c->u);
    return false;
}

static bool one_round(struct random_test *t, bool edges, struct tp_error *err)
{
    const uint32_t n = 1 + below(t, ROWS), vocab = (uint32_t)t->model.vocab;
    uint32_t want[ROWS];
    bool picked[ROWS], same = true;
    for (uint32_t i = 0; t->marks && i < vocab; i++)
        t->marks[i] = below(t, 8) ? 0 : SAMPLER_BANNED;
    for (uint32_t m = 0; m < n; m++) {
        make_row(t, m, edges && below(t, 2));
        const float *row = t->logits + m * t->gpu.logit_stride;
        want[m] = STEP_HOST_CHOOSES;
        picked[m] = sampler_pick(&t->sampler, row, t->choices[m].banned, &t->options[m], m, t->rows,
                                 &want[m], NULL);
        t->edge[m] = picked[m] && edges && t->choices[m].temperature > 0;
        if (t->edge[m])
            want[m] = on_edge(t, m);
    }
    if (!on_device(t, n, err))
        return false;
    for (uint32_t m = 0; m < n; m++)
        same = compare(t, m, &want[m], picked[m]) && same;
    return same || tp_fail(err, TP_E_DEVICE, "the GPU chooses another");
}

/* ---- opening ---- */

static bool take(struct random_test *t, void *pointer, size_t bytes, struct tp_error *err)
{
    cu_address address = 0;
    if (!CUDA(&t->cuda.api, err, cuMemAlloc_v2, (&address, bytes)))
        return false;
    void *at = (void *)(uintptr_t)address;
    memcpy(pointer, &at, sizeof at);
    return true;
}

static bool open_vocabulary(struct random_test *t, uint64_t vocab, struct tp_error *err)
{
    struct cuda_gpu *g = &t->gpu;
    struct cuda_chooser *c = &g->chooser;
    const struct cuda_api *api = &t->cuda.api;
    t->model.vocab = vocab;
    t->setup.model = &t->model;
    *g = (struct cuda_gpu){.cuda = &t->cuda, .setup = &t->setup};
    g->logit_stride = (vocab + 15) / 16 * 16;
    cuda_set_chooser(g);
    t->logits = mem_array(ROWS * g->logit_stride, sizeof *t->logits, err);
    t->marks = mem_array(vocab, 1, err);
    return t->logits && t->marks && sampler_init(&t->sampler, vocab, err) &&
           take(t, &g->logits, ROWS * g->logit_stride * 4, err) &&
           take(t, &c->choices, sizeof *c->choices, err) && take(t, &c->banned, vocab, err) &&
           take(t, &c->best, ROWS * c->chunks * 4, err) &&
           take(t, &c->first, ROWS * c->chunks * 4, err) &&
           take(t, &c->sums, ROWS * c->chunks * 8, err) &&
           take(t, &c->bins, ROWS * CUDA_BINS * 8, err) && take(t, &c->chosen, ROWS * 4, err) &&
           cuda_open_chooser(c, api, err) && cuda_find_chooser(g, err);
}

static void close_vocabulary(struct random_test *t)
{
    const struct cuda_chooser *c = &t->gpu.chooser;
    const void *const taken[] = {t->gpu.logits, c->choices, c->banned, c->best,
                                 c->first,      c->sums,    c->bins,   c->chosen};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (taken[i])
            t->cuda.api.cuMemFree_v2((uintptr_t)taken[i]);
    cuda_close_chooser(&t->gpu.chooser, &t->cuda.api);
    sampler_free(&t->sampler);
    mem_free(t->logits);
    mem_free(t->marks);
}

static bool try_vocabulary(struct random_test *t, uint64_t vocab, int rounds, struct tp_error *err)
{
    bool ok = open_vocabulary(t, vocab, err);
    uint8_t *marks = t->marks;
    t->rows = t->greedy = t->cut = t->host_must = t->host_may = 0;
    for (int i = 0; ok && i < rounds; i++) {
        t->marks = below(t, 2) ? marks : NULL;
        ok = one_round(t, i % 3 == 2, err);
    }
    t->marks = marks;
    if (ok)
        printf("vocabulary %llu: %llu rows, %llu greedy, %llu cut; left to the host: %llu that it "
               "must choose, %llu others\n",
               (unsigned long long)vocab, (unsigned long long)t->rows,
               (unsigned long long)t->greedy, (unsigned long long)t->cut,
               (unsigned long long)t->host_must, (unsigned long long)t->host_may);
    close_vocabulary(t);
    return ok;
}

int main(int argc, char **argv)
{
    static struct random_test t;
    static const uint64_t vocabularies[] = {1, 16, 33, 1024, 1025, 2048, 5000};
    struct tp_error err = {0};
    if (argc < 3) {
        fprintf(stderr, "usage: choose_random ROUNDS SEED [VOCAB]\n");
        return 2;
    }
    const int rounds = atoi(argv[1]);
    t.state = (uint64_t)atoi(argv[2]);
    bool ok = cuda_open(&t.cuda, 0, &err);
    if (argc > 3)
        ok = ok && try_vocabulary(&t, strtoull(argv[3], NULL, 10), rounds, &err);
    for (size_t i = 0; argc == 3 && i < sizeof vocabularies / sizeof *vocabularies; i++)
        ok = ok && try_vocabulary(&t, vocabularies[i], rounds, &err);
    if (t.cuda.stream)
        cuda_close(&t.cuda);
    return ok ? 0 : tp_error_print("choose_random", &err);
}
