#include "against.h"

#include "checked.h"
#include "differ.h"
#include "jobs.h"
#include "le.h"
#include "quant.h"

/* ---- what is not in rank files ---- */

static const struct named_bytes *find_file(const struct model_folder *folder, const char *name)
{
    for (uint32_t i = 0; i < folder->n_files; i++)
        if (strcmp(folder->files[i].name, name) == 0)
            return &folder->files[i];
    return NULL;
}

static bool check_files(const struct against *a, struct tp_error *err)
{
    const struct bundle *bundle = &a->bundle->bundle;
    for (uint32_t i = 0; i < bundle->n_files; i++) {
        const struct bundle_file *f = &bundle->files[i];
        const struct named_bytes *of_folder = find_file(&a->folder, f->name);
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

bool against_open(struct against *a, const struct source_bundle *bundle, const char *dir,
                  const struct options *options, struct tp_error *err)
{
    struct options o = *options;
    *a = (struct against){.bundle = bundle};
    o.dtype = bundle->bundle.recipe.dtype;
    o.quant = bundle->bundle.recipe.quant;
    o.follow_links = true; /* nothing is copied */
    bool ok = model_folder_open(&a->folder, dir, &o, err) &&
              model_equals(&bundle->bundle.model, &a->folder.config->model, bundle->bundle.dir, dir,
                           err) &&
              model_folder_read_files(&a->folder, o.quiet, err) && check_files(a, err);
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
    uint32_t *first; /* [n_tensors + 1] number of a tensor's first piece */
    uint32_t n_tensors;
};

static bool prepare_piece(void *arg, uint64_t job, int thread, struct tp_error *err)
{
    (void)thread;
    struct prepare *p = arg;
    struct hash128 digest;
    uint32_t low = 0, high = p->n_tensors; /* the last tensor that begins at job or before */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (p->first[middle] <= job)
            low = middle;
        else
            high = middle;
    }
    return p->source->prepare(p->source, low, (uint32_t)job - p->first[low], false, &digest, err);
}

bool against_prepare(struct against *a, int threads, bool quiet, struct tp_error *err)
{
    const struct source *source = &a->folder.source.source;
    struct prepare p = {.source = source, .n_tensors = source->whole->n_tensors};
    p.first = mem_array(p.n_tensors + 1, sizeof *p.first, err);
    if (!p.first)
        return false;
    for (uint32_t i = 0; i < p.n_tensors; i++)
        p.first[i + 1] = p.first[i] + source->prepare_pieces(source, i);
    struct jobs jobs = {
        .count = p.first[p.n_tensors], .run = prepare_piece, .arg = &p, .quiet = quiet};
    bool ok = jobs_run(&jobs, threads, err);
    mem_free(p.first);
    return ok;
}

uint64_t against_rows_bytes(const struct against *a)
{
    uint64_t most = 0;
    for (uint64_t r = 0; r < a->bundle->bundle.tp_size; r++) {
        uint64_t n = pack_space_bytes(&a->folder.source.source, &a->bundle->bundle.plans[r]);
        most = n > most ? n : most;
    }
    return most;
}

/* ---- values ---- */

/* Where in the whole tensor the value at byte `at` of the rank's packed bytes belongs; false in
 * padding. */
static bool locate(const struct model_config *model, const struct rank_plan *plan,
                   const struct tensor *t, uint64_t at, uint64_t *row, uint64_t *col)
{
    if (t->layout == LAYOUT_VECTOR_F32) {
        *row = t->own_rows.begin + at / 4;
        *col = 0;
        return true;
    }
    uint64_t element = dtype_bytes(t->dtype), i = at / element, fold = dtype_interleave(t->dtype);
    uint64_t in_panel = i % (16 * t->k);
    uint64_t k = in_panel / (16 * fold) * fold + i % fold;
    *row = t->own_rows.begin + i / (16 * t->k) * 16 + in_panel / fold % 16;
    *col = t->own_cols.begin + k;
    if (t->leaf_cut) {
        bool attention = t->role == ROLE_O;
        struct leaves leaves = attention ? leaves_of_attention(model) : leaves_of_mlp(model);
        uint64_t leaf = attention ? plan->partition.attention_leaves.begin
                                  : plan->partition.mlp_leaves.begin;
        for (; k >= leaf_padded(&leaves, leaf); leaf++)
            k -= leaf_padded(&leaves, leaf);
        *col = leaf_columns(&leaves, leaf).begin + k;
        if (*col >= leaf_columns(&leaves, leaf).end)
            return false;
    }
    return *row < t->own_rows.end && *col < t->own_cols.end;
}

static float value_at(const struct tensor *t, const unsigned char *p)
{
    if (t->layout == LAYOUT_VECTOR_F32 || t->dtype == DTYPE_F32)
        return f32_from_bits(le_u32(p));
    if (t->dtype == DTYPE_F16)
        return f16_to_f32(le_u16(p));
    if (t->dtype == DTYPE_BF16)
        return bf16_to_f32(le_u16(p));
    return quant_value(t->dtype, *p);
}

static bool value_differs(const struct against *a, uint64_t rank, const struct tensor *t,
                          uint64_t at, const unsigned char *stored, const unsigned char *again,
                          struct tp_error *err)
{
    const struct bundle *bundle = &a->bundle->bundle;
    char name[TENSOR_NAME_MAX];
    const char *file = io_base_name(a->bundle->shards[rank].path);
    uint64_t row, col;
    tensor_name(name, t->role, t->layer, t->part);
    if (!locate(&bundle->model, &bundle->plans[rank], t, at, &row, &col))
        return tp_fail(err, TP_E_VALUE_DIFFERS, "%s: tensor \"%s\": padding is not zero", file,
                       name);
    return tp_fail(err, TP_E_VALUE_DIFFERS,
                   "%s: tensor \"%s\": row %llu column %llu: %.9g stored, %s gives %.9g", file,
                   name, (unsigned long long)row, (unsigned long long)col,
                   (double)value_at(t, stored), a->folder.dir, (double)value_at(t, again));
}

bool against_chunk(const struct against *a, uint64_t rank, uint32_t index, uint32_t c,
                   const unsigned char *raw, struct pack_space *space, unsigned char *again,
                   struct tp_error *err)
{
    const struct rank_plan *plan = &a->bundle->bundle.plans[rank];
    const struct tensor *t = &plan->tensors[index];
    uint64_t n = tensor_chunk_bytes(t, c), element = tensor_element_bytes(t);
    if (!pack_chunk(&a->folder.source.source, plan, index, c, space, again, err))
        return false;
    if (memcmp(raw, again, n) == 0)
        return true;
    uint64_t at = 0;
    while (memcmp(raw + at, again + at, element) == 0)
        at += element;
    return value_differs(a, rank, t, c * t->chunk_bytes + at, raw + at, again + at, err);
}
