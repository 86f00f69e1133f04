#include "against.h"

#include "checked.h"
#include "differ.h"
#include "jobs.h"
#include "le.h"
#include "values_of.h"

/* ---- what is not in rank files ---- */

static bool check_files(const struct against *a, struct tp_error *err)
{
    const struct bundle *bundle = &a->bundle->bundle;
    for (uint32_t i = 0; i < bundle->n_files; i++) {
        const struct bundle_file *f = &bundle->files[i];
        const struct named_bytes *of_folder = model_folder_file(&a->folder, f->name);
        if (strcmp(f->name, BUNDLE_SELFTEST) == 0)
            continue;
        if (!of_folder || of_folder->size != f->bytes ||
            !hash_equal(hash_bytes(of_folder->data, of_folder->size), f->hash))
            return tp_fail(err, TP_E_VALUE_DIFFERS, "%s: %s: is not what %s has", bundle->dir,
                           f->name, a->folder.dir);
    }
    for (uint32_t i = 0; i < a->folder.n_files; i++)
        if (!bundle_find_file(bundle, a->folder.files[i].name))
            return tp_fail(err, TP_E_VALUE_DIFFERS, "%s: %s: missing, %s has it", bundle->dir,
                           a->folder.files[i].name, a->folder.dir);
    return true;
}

static bool layers_differ(const struct against *a, struct tp_error *err)
{
    const struct bundle *b = &a->bundle->bundle;
    return tp_fail(err, TP_E_VALUE_DIFFERS, "%s: source: layers_of is %llu, %s has %llu layers",
                   b->dir, (unsigned long long)b->layers_of, a->folder.dir,
                   (unsigned long long)a->folder.layers_of);
}

bool against_open(struct against *a, const struct source_bundle *bundle, const char *dir,
                  const struct options *options, struct tp_error *err)
{
    struct options o = *options;
    *a = (struct against){.bundle = bundle};
    o.follow_links = true; /* nothing is copied */
    const struct bundle *b = &bundle->bundle;
    o.layers = b->layers_of > b->model.n_layers ? b->model.n_layers : 0;
    bool ok = model_folder_open(&a->folder, dir, &o, &b->recipe, err);
    if (!ok && err->code == TP_E_USAGE) /* nobody asked for these layers but the bundle */
        err->code = TP_E_VALUE_DIFFERS;
    ok = ok && model_equals(&b->model, &a->folder.config->model, b->dir, dir, err) &&
         (a->folder.layers_of == b->layers_of || layers_differ(a, err)) &&
         model_folder_read_files(&a->folder, err) && check_files(a, err);
    if (!ok)
        against_close(a);
    return ok;
}

void against_close(struct against *a)
{
    model_folder_close(&a->folder);
    *a = (struct against){0};
}

/* ---- scales ---- */

struct prepare {
    const struct source *source;
    uint64_t *first; /* [n_tensors + 1] number of a tensor's first piece */
    uint32_t n_tensors;
};

static bool prepare_piece(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    (void)space;
    struct prepare *p = arg;
    struct hash128 digest;
    uint32_t i = jobs_owner(p->first, p->n_tensors, job);
    return p->source->prepare(p->source, i, (uint32_t)(job - p->first[i]), false, &digest, err);
}

bool against_prepare(struct against *a, int threads, struct tp_error *err)
{
    const struct source *source = &a->folder.source.source;
    struct prepare p = {.source = source, .n_tensors = source->whole->n_tensors};
    p.first = mem_array(p.n_tensors + 1, sizeof *p.first, err);
    if (!p.first)
        return false;
    for (uint32_t i = 0; i < p.n_tensors; i++)
        p.first[i + 1] = p.first[i] + source_pieces(source, i);
    struct jobs jobs = {.count = p.first[p.n_tensors], .run = prepare_piece, .arg = &p};
    bool ok = jobs_run(&jobs, threads, err);
    mem_free(p.first);
    return ok;
}

uint64_t against_space_bytes(const struct against *a)
{
    uint64_t most = 0;
    for (uint64_t r = 0; r < a->bundle->bundle.tp_size; r++)
        most =
            max_u64(most, pack_space_bytes(&a->folder.source.source, &a->bundle->bundle.plans[r]));
    return most;
}

/* ---- values ---- */

static bool value_differs(const struct against *a, uint64_t rank, const struct tensor *t,
                          uint64_t row, uint64_t col, float stored, float again,
                          struct tp_error *err)
{
    char name[TENSOR_NAME_MAX];
    return tp_fail(err, TP_E_VALUE_DIFFERS,
                   "%s: tensor \"%s\": row %llu column %llu: %.9g stored, %s gives %.9g",
                   io_base_name(a->bundle->shards[rank].path),
                   tensor_name(name, t->role, t->layer, t->part), (unsigned long long)row,
                   (unsigned long long)col, (double)stored, a->folder.dir, (double)again);
}

static bool vector_differs(const struct against *a, uint64_t rank, const struct tensor *t,
                           uint64_t at, const unsigned char *stored, const unsigned char *again,
                           struct tp_error *err)
{
    return value_differs(a, rank, t, t->own_rows.begin + at, 0, f32_from_bits(le_u32(stored)),
                         f32_from_bits(le_u32(again)), err);
}

/* The first value that differs in a panel's first row that does; where none does it is the
 * padding. */
static bool panel_differs(const struct against *a, uint64_t rank, const struct tensor *t,
                          uint64_t panel, const unsigned char *stored, const unsigned char *again,
                          struct tp_error *err)
{
    uint64_t bytes = tensor_row_bytes(t), cols = range_count(t->own_cols), row = 0, col = 0;
    unsigned char *rows = mem_array(2 * PANEL_ROWS, bytes, err);
    float *values = mem_array(2 * cols, sizeof *values, err);
    if (rows && values) {
        unsigned char *rows_again = rows + PANEL_ROWS * bytes;
        pack_deinterleave(stored, t->row_words, rows, bytes);
        pack_deinterleave(again, t->row_words, rows_again, bytes);
        while (memcmp(rows + row * bytes, rows_again + row * bytes, bytes) == 0)
            row++;
        values_of_row(t, rows + row * bytes, NULL, false, values);
        values_of_row(t, rows_again + row * bytes, NULL, false, values + cols);
        while (col < cols && f32_bits(values[col]) == f32_bits(values[cols + col]))
            col++;
        char name[TENSOR_NAME_MAX];
        row += t->own_rows.begin + panel * PANEL_ROWS;
        if (col < cols && row < t->own_rows.end)
            value_differs(a, rank, t, row, t->own_cols.begin + col, values[col], values[cols + col],
                          err);
        else
            tp_fail(err, TP_E_VALUE_DIFFERS,
                    "%s: tensor \"%s\": row %llu: padding or constants are not what %s gives",
                    io_base_name(a->bundle->shards[rank].path),
                    tensor_name(name, t->role, t->layer, t->part), (unsigned long long)row,
                    a->folder.dir);
    }
    mem_free(rows);
    mem_free(values);
    return false;
}

bool against_chunk(const struct against *a, uint64_t rank, uint32_t index, uint32_t c,
                   const unsigned char *raw, unsigned char *space, unsigned char *again,
                   struct tp_error *err)
{
    const struct rank_plan *plan = &a->bundle->bundle.plans[rank];
    const struct tensor *t = &plan->tensors[index];
    uint64_t n = tensor_chunk_bytes(t, c), at = 0;
    struct hash128 hash;
    if (!pack_chunk(&a->folder.source.source, plan, index, c, space, again, &hash, err))
        return false;
    if (memcmp(raw, again, n) == 0)
        return true;
    bool vector = t->layout == LAYOUT_VECTOR_F32;
    uint64_t step = vector ? 4 : tensor_panel_bytes(t);
    while (memcmp(raw + at, again + at, step) == 0)
        at += step;
    return (vector ? vector_differs : panel_differs)(a, rank, t, (c * t->chunk_bytes + at) / step,
                                                     raw + at, again + at, err);
}
