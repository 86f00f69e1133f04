/* tpshard diff: what differs between two bundles, of whatever degree and compression. */
#include "commands.h"

#include "checked.h"
#include "differ.h"
#include "jobs.h"
#include "shown.h"
#include "source_bundle.h"
#include "values_of.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>

static const char help[] =
    "usage: tpshard diff A B [--json] [--threads N]\n"
    "\n"
    "Compare two bundles: identity, recipe, model, the files that travel along, and every value "
    "of every\n"
    "tensor. Degree and compression may differ, and do not count. Where dtypes differ, the "
    "values they stand\n"
    "for are compared. Exit status 0: equal, 8: not.\n"
    "\n"
    "      --json       for programs\n"
    "      --threads N  (default: all processors)\n";

enum { BLOCK_BYTES = 8 << 20 }; /* of rows compared at once */

typedef unsigned long long ull; /* for printf */

/* A tensor that both have, and what was found. */
struct pair {
    const struct tensor *a, *b;
    uint32_t index_a, index_b;
    uint64_t block_rows;
    uint64_t differing, row, col; /* count; the first one */
    double largest;
};

struct diff {
    const struct options *options;
    struct source_bundle a, b;
    struct pair *pairs;
    uint64_t *first_job; /* of a pair */
    uint32_t n_pairs;
    pthread_mutex_t mutex; /* guards what the jobs find */
    json_t *found;
};

/* ---- what is found ---- */

__attribute__((format(printf, 4, 5))) static json_t *add(struct diff *d, const char *kind,
                                                         const char *name, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_t *item = json_pack("{s:s, s:s, s:s}", "kind", kind, "name", name, "text", text);
    if (!item) /* text was cut inside a character */
        item = json_pack("{s:s, s:s, s:s}", "kind", kind, "name", name, "text", "differs");
    json_array_append_new(d->found, item);
    return item;
}

/* ---- identity, recipe, model, files ---- */

static void add_field(void *arg, const char *key, const json_t *a, const json_t *b)
{
    char *of_a = a ? json_dumps(a, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    char *of_b = b ? json_dumps(b, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    add(arg, "model", key, "%.200s and %.200s", of_a ? of_a : "absent", of_b ? of_b : "absent");
    free(of_a);
    free(of_b);
}

static void compare_recipe(struct diff *d)
{
    const struct bundle *a = &d->a.bundle, *b = &d->b.bundle;
    char of_a[33], of_b[33];
    if (!hash_equal(a->bundle_id, b->bundle_id)) {
        hash_to_hex(a->bundle_id, of_a);
        hash_to_hex(b->bundle_id, of_b);
        add(d, "identity", "bundle_id", "%s and %s", of_a, of_b);
    }
    if (a->recipe.dtype != b->recipe.dtype)
        add(d, "recipe", "dtype", "%s and %s", dtype_name(a->recipe.dtype),
            dtype_name(b->recipe.dtype));
    const char *quant_a = recipe_quant_name(&a->recipe), *quant_b = recipe_quant_name(&b->recipe);
    if (strcmp(quant_a, quant_b) != 0)
        add(d, "recipe", "quant", "%s and %s", quant_a, quant_b);
    else
        for (int role = ROLE_EMBED; role < ROLE_COUNT; role++) /* both mixed */
            if (role_is_quantized((enum role)role) &&
                a->recipe.stored[role] != b->recipe.stored[role])
                add(d, "recipe", role_key((enum role)role), "%s and %s",
                    stored_of(a->recipe.stored[role])->name,
                    stored_of(b->recipe.stored[role])->name);
    json_each_difference(json_object_get(a->root, "model"), json_object_get(b->root, "model"),
                         add_field, d);
}

/* A self-test that one lacks was not asked for; that says nothing about the model. */
static void compare_files(struct diff *d)
{
    const struct bundle *a = &d->a.bundle, *b = &d->b.bundle;
    for (uint32_t i = 0; i < a->n_files; i++) {
        const struct bundle_file *of_b = bundle_find_file(b, a->files[i].name);
        if (!of_b && strcmp(a->files[i].name, BUNDLE_SELFTEST) != 0)
            add(d, "file", a->files[i].name, "only in the first");
        else if (of_b && !hash_equal(of_b->hash, a->files[i].hash))
            add(d, "file", a->files[i].name, "%llu and %llu bytes, not the same",
                (ull)a->files[i].bytes, (ull)of_b->bytes);
    }
    for (uint32_t i = 0; i < b->n_files; i++)
        if (!bundle_find_file(a, b->files[i].name) &&
            strcmp(b->files[i].name, BUNDLE_SELFTEST) != 0)
            add(d, "file", b->files[i].name, "only in the second");
}

/* ---- tensors ---- */

static bool same_form(const struct pair *p)
{
    return p->a->layout == p->b->layout &&
           (p->a->layout == LAYOUT_VECTOR_F32 || p->a->stored == p->b->stored);
}

/* Then its scales are compared as they are; else as a part of its values. */
static bool same_stored(const struct diff *d, enum role role)
{
    return d->a.bundle.recipe.stored[role] == d->b.bundle.recipe.stored[role];
}

static bool list_pairs(struct diff *d, uint64_t *n_jobs, struct tp_error *err)
{
    const struct rank_plan *a = &d->a.whole, *b = &d->b.whole;
    char name[TENSOR_NAME_MAX];
    d->pairs = mem_array(a->n_tensors, sizeof *d->pairs, err);
    d->first_job = mem_array(a->n_tensors, sizeof *d->first_job, err);
    if (!d->pairs || !d->first_job)
        return false;
    for (uint32_t i = 0; i < a->n_tensors; i++) {
        const struct tensor *t = &a->tensors[i];
        const struct tensor *u = rank_plan_find(b, t->role, t->layer, t->part);
        if (t->part == PART_SCALE && !same_stored(d, t->role))
            continue;
        tensor_name(name, t->role, t->layer, t->part);
        if (!u) {
            add(d, "tensor", name, "only in the first");
        } else if (t->rows != u->rows || t->cols != u->cols) {
            add(d, "tensor", name, "shape %llu x %llu and %llu x %llu", (ull)t->rows, (ull)t->cols,
                (ull)u->rows, (ull)u->cols);
        } else {
            uint64_t most = tensor_row_bytes(t) > tensor_row_bytes(u) ? tensor_row_bytes(t)
                                                                      : tensor_row_bytes(u);
            uint64_t rows = BLOCK_BYTES / most / 16 * 16;
            struct pair *p = &d->pairs[d->n_pairs++];
            *p = (struct pair){.a = t, .b = u, .index_a = i, .index_b = (uint32_t)(u - b->tensors)};
            p->block_rows = rows ? rows : 16;
            d->first_job[p - d->pairs] = *n_jobs;
            *n_jobs += div_ceil(t->rows, p->block_rows);
        }
    }
    for (uint32_t i = 0; i < b->n_tensors; i++) {
        const struct tensor *u = &b->tensors[i];
        if ((u->part != PART_SCALE || same_stored(d, u->role)) &&
            !rank_plan_find(a, u->role, u->layer, u->part))
            add(d, "tensor", tensor_name(name, u->role, u->layer, u->part), "only in the second");
    }
    return true;
}

/* One block of rows of one bundle: stored bytes, and scales where values of other dtypes are
 * compared. */
struct side {
    const struct source *source;
    const struct tensor *tensor;
    unsigned char *bytes; /* [n][row_bytes] */
    uint32_t *scales;     /* [n]; NULL: codes */
    float *row;           /* [cols] */
};

static uint64_t reader_bytes(const struct diff *d)
{
    return max_u64(d->a.source.space_bytes, d->b.source.space_bytes);
}

/* A thread's memory: the reader's, then of each side a row as f32, scales and stored rows. */
static uint64_t side_bytes(const struct tensor *t, uint64_t rows)
{
    return align_up(t->cols * 4 + rows * (4 + tensor_row_bytes(t)), 64);
}

static bool read_side(struct side *s, uint32_t index, bool scaled, uint64_t row, uint64_t n,
                      unsigned char *space, unsigned char *own, struct tp_error *err)
{
    uint64_t stride = tensor_row_bytes(s->tensor);
    s->row = (float *)(void *)own;
    uint32_t *scales = (uint32_t *)(void *)(s->row + s->tensor->cols);
    s->bytes = (unsigned char *)(scales + n);
    s->scales = scaled ? scales : NULL;
    return s->source->read_rows(s->source, index, row, n, s->tensor->own_leaves, s->bytes, stride,
                                space, err) &&
           (!scaled || s->source->read_rows(s->source, index + 1, row, n, (struct range){0, 1},
                                            (unsigned char *)scales, 4, space, err));
}

/* Row i of the block, which is row `row` of the tensor. */
static void compare_row(struct side *a, struct side *b, uint64_t i, uint64_t row,
                        struct pair *found)
{
    uint64_t cols = a->tensor->cols;
    values_of_row(a->tensor, a->bytes + i * tensor_row_bytes(a->tensor),
                  a->scales ? &a->scales[i] : NULL, false, a->row);
    values_of_row(b->tensor, b->bytes + i * tensor_row_bytes(b->tensor),
                  b->scales ? &b->scales[i] : NULL, false, b->row);
    for (uint64_t c = 0; c < cols; c++) {
        if (f32_bits(a->row[c]) == f32_bits(b->row[c]))
            continue;
        double distance = fabs((double)a->row[c] - (double)b->row[c]);
        if (found->differing++ == 0) {
            found->row = row;
            found->col = c;
        }
        found->largest = distance > found->largest ? distance : found->largest;
    }
}

static void join(struct diff *d, struct pair *p, const struct pair *found)
{
    pthread_mutex_lock(&d->mutex);
    if (p->differing == 0 || found->row < p->row) {
        p->row = found->row;
        p->col = found->col;
    }
    p->differing += found->differing;
    p->largest = found->largest > p->largest ? found->largest : p->largest;
    pthread_mutex_unlock(&d->mutex);
}

static bool compare_block(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct diff *d = arg;
    uint32_t at = jobs_owner(d->first_job, d->n_pairs, job);
    struct pair *p = &d->pairs[at], found = {0};
    struct side a = {.source = &d->a.source, .tensor = p->a};
    struct side b = {.source = &d->b.source, .tensor = p->b};
    uint64_t row = (job - d->first_job[at]) * p->block_rows, n = p->a->rows - row;
    n = n < p->block_rows ? n : p->block_rows;
    bool same = same_form(p);
    bool scaled_a = !same && p->a->stored->row_scale;
    bool scaled_b = !same && p->b->stored->row_scale;
    unsigned char *own = space + reader_bytes(d);
    bool ok = read_side(&a, p->index_a, scaled_a, row, n, space, own, err) &&
              read_side(&b, p->index_b, scaled_b, row, n, space, own + side_bytes(p->a, n), err);
    uint64_t bytes = tensor_row_bytes(p->a);
    for (uint64_t i = 0; ok && i < n; i++)
        if (!same || memcmp(a.bytes + i * bytes, b.bytes + i * bytes, bytes) != 0)
            compare_row(&a, &b, i, row + i, &found);
    if (found.differing)
        join(d, p, &found);
    return ok;
}

static bool compare_tensors(struct diff *d, struct tp_error *err)
{
    struct jobs jobs = {.run = compare_block, .arg = d};
    if (!list_pairs(d, &jobs.count, err))
        return false;
    for (uint32_t i = 0; i < d->n_pairs; i++) {
        const struct pair *p = &d->pairs[i];
        uint64_t rows = p->block_rows;
        jobs.space_bytes = max_u64(jobs.space_bytes, reader_bytes(d) + side_bytes(p->a, rows) +
                                                         side_bytes(p->b, rows));
    }
    if (!jobs_run(&jobs, d->options->threads, err))
        return false;
    for (uint32_t i = 0; i < d->n_pairs; i++) {
        const struct pair *p = &d->pairs[i];
        char name[TENSOR_NAME_MAX];
        if (p->differing == 0)
            continue;
        tensor_name(name, p->a->role, p->a->layer, p->a->part);
        json_t *item =
            add(d, "tensor", name,
                "%llu of %llu values differ, first at row %llu column %llu, by at "
                "most %.6g%s",
                (ull)p->differing, (ull)(p->a->rows * p->a->cols), (ull)p->row, (ull)p->col,
                p->largest, same_form(p) && p->a->stored->row_scale ? " (as codes)" : "");
        json_object_set_new(item, "differing", json_integer((json_int_t)p->differing));
        json_object_set_new(item, "row", json_integer((json_int_t)p->row));
        json_object_set_new(item, "column", json_integer((json_int_t)p->col));
        json_object_set_new(item, "largest", json_real(p->largest));
    }
    return true;
}

/* ---- the command ---- */

static bool print(const struct diff *d, struct tp_error *err)
{
    size_t i, count = json_array_size(d->found);
    json_t *item;
    if (d->options->json) {
        json_t *root = json_pack("{s:i, s:b, s:I, s:I, s:O}", "schema", JSON_SCHEMA, "equal",
                                 count == 0, "tp_a", (json_int_t)d->a.bundle.tp_size, "tp_b",
                                 (json_int_t)d->b.bundle.tp_size, "differences", d->found);
        return json_print(root, err);
    }
    json_array_foreach(d->found, i, item)
    {
        shown_put(stdout, json_string_value(json_object_get(item, "kind")));
        putchar(' ');
        shown_put(stdout, json_string_value(json_object_get(item, "name")));
        printf(": ");
        shown_put(stdout, json_string_value(json_object_get(item, "text")));
        putchar('\n');
    }
    if (count == 0)
        printf("equal: recipe, model, %u files and all values of %u tensors (tp %llu and %llu)\n",
               d->a.bundle.n_files, d->n_pairs, (ull)d->a.bundle.tp_size, (ull)d->b.bundle.tp_size);
    return true;
}

static bool diff(struct diff *d, struct tp_error *err)
{
    const struct options *o = d->options;
    if (!source_bundle_open(&d->a, o->args[0], err) ||
        !source_bundle_open(&d->b, o->args[1], err) || !bundle_check_files(&d->a.bundle, err) ||
        !bundle_check_files(&d->b.bundle, err))
        return false;
    d->found = json_array();
    compare_recipe(d);
    compare_files(d);
    if (!compare_tensors(d, err) || !d->a.source.unchanged(&d->a.source, err) ||
        !d->b.source.unchanged(&d->b.source, err) || !print(d, err))
        return false;
    size_t n = json_array_size(d->found);
    if (!io_flush_stdout(err)) /* what differs is lost */
        return false;
    return n == 0 || tp_fail(err, TP_E_DIFF, "%s and %s: %zu difference%s", o->args[0], o->args[1],
                             n, n == 1 ? "" : "s");
}

static bool run_diff(const struct options *options, struct tp_error *err)
{
    struct diff d = {.options = options, .mutex = PTHREAD_MUTEX_INITIALIZER};
    bool ok = diff(&d, err);
    json_decref(d.found);
    mem_free(d.pairs);
    mem_free(d.first_job);
    source_bundle_close(&d.a);
    source_bundle_close(&d.b);
    return ok;
}

const struct command command_diff = {
    .name = "diff",
    .id = COMMAND_DIFF,
    .n_args = 2,
    .args = "two bundles",
    .summary = "what differs between two bundles",
    .help = help,
    .run = run_diff,
};
