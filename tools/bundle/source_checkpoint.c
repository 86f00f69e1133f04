#include "source_checkpoint.h"

#include "checked.h"
#include "hf_names.h"
#include "values.h"

enum {
    PIECE_BYTES = 4 << 20, /* of stored bytes a digest covers; part of the bundle id */
    STRIP = 1024,          /* values converted at once, on the stack */
    DISK_AHEAD = 32 << 20, /* of a file that is read, on their way from the disk */
};

struct source_input {
    const struct safetensors *file;
    const struct st_tensor *stored;
    const unsigned char *data; /* mapped, any alignment */
    enum dtype dtype;          /* as stored */
    uint64_t rows, cols;
    _Atomic bool prepared, varies; /* prepare saw values; it found two */
    uint32_t *scales; /* [rows] constants of rows, where the format has them; filled by prepare */
};

static const struct source_checkpoint *self_of(const struct source *source)
{
    return source->state;
}

static bool input_fail(const struct source_input *in, enum tp_code code, struct tp_error *err,
                       const char *what)
{
    char name[TP_NAME_BUF];
    return tp_fail(err, code, "%s: tensor \"%s\": %s", in->file->name,
                   tp_name_cut(name, in->stored->name, in->stored->name_len), what);
}

/* ---- reading ---- */

static bool read_vector(const struct source *source, const struct source_input *in,
                        const struct tensor *t, uint64_t row, uint64_t n, unsigned char *out,
                        struct tp_error *err)
{
    size_t element = dtype_bytes(in->dtype);
    float wide[STRIP];
    unsigned char narrow[STRIP * 4];
    if (t->part == PART_SCALE) {
        memcpy(out, in->scales + row, n * 4);
        return true;
    }
    for (uint64_t at = 0; at < n; at += STRIP) {
        size_t strip = n - at < STRIP ? n - at : STRIP;
        values_widen(in->dtype, in->data + (row + at) * element, strip, wide);
        if (!values_narrow(source->recipe.dtype, wide, strip, narrow))
            return input_fail(in, TP_E_RANGE, err,
                              "a value is beyond the range of the dtype asked for");
        values_widen(source->recipe.dtype, narrow, strip, (float *)(void *)(out + at * 4));
    }
    return true;
}

/* n columns from `col` of a row, as f32. */
static void widen(const struct source_input *in, uint64_t row, uint64_t col, uint64_t n,
                  float *wide)
{
    values_widen(in->dtype, in->data + (row * in->cols + col) * dtype_bytes(in->dtype), n, wide);
}

/* The codes or values of a run of columns, padded with zeros to a block. */
static bool encode_run(const struct source_input *in, const struct stored *stored, uint64_t row,
                       struct range cols, uint32_t constants, unsigned char *out)
{
    uint64_t n = range_count(cols), end = align_up(n, BLOCK_COLS) * stored->bits / 8;
    uint64_t used = div_ceil(n * stored->bits, 8);
    float wide[STRIP];
    if ((unsigned)in->dtype == stored->id) {
        memcpy(out, in->data + (row * in->cols + cols.begin) * dtype_bytes(in->dtype), used);
        memset(out + used, 0, end - used);
        return true;
    }
    for (uint64_t at = 0; at < n; at += STRIP) {
        size_t strip = n - at < STRIP ? n - at : STRIP;
        widen(in, row, cols.begin + at, strip, wide);
        if (!stored->encode(stored, wide, strip, constants, out + at * stored->bits / 8))
            return false;
    }
    used = align_up(used, 4);
    memset(out + used, 0, end - used);
    return true;
}

/* The piece of a group: constants are those of all of it, whatever part is asked for. */
static bool encode_group(const struct source_input *in, const struct stored *stored, uint64_t row,
                         const struct piece *piece, unsigned char *leaf)
{
    float wide[STRIP];
    uint64_t begin = piece->cols.begin / stored->group * stored->group, left = in->cols - begin;
    uint64_t n = range_count(piece->cols), used = align_up(n * stored->bits, 32) / 8;
    unsigned char *out = leaf + 4 * piece->word;
    size_t group = left < stored->group ? left : stored->group;
    widen(in, row, begin, group, wide);
    uint32_t constants = stored->constants(stored, wide, group);
    stored_put_constants(stored, leaf, piece, constants);
    memset(out + used, 0, align_up(n, BLOCK_COLS) * stored->bits / 8 - used);
    return stored->encode(stored, wide + (piece->cols.begin - begin), n, constants, out);
}

static bool read_leaf(const struct source_input *in, const struct stored *stored, uint64_t row,
                      struct range leaf, unsigned char *out)
{
    struct piece piece = {.index = 0};
    uint32_t constants = in->scales ? in->scales[row] : 0;
    while (stored_next_piece(stored, leaf, &piece))
        if (!(stored->group
                  ? encode_group(in, stored, row, &piece, out)
                  : encode_run(in, stored, row, piece.cols, constants, out + 4 * piece.word)))
            return false;
    return true;
}

/* Leaves that need no padding lie side by side: without groups they are one run. */
static bool read_row(const struct source_input *in, const struct tensor *t, uint64_t row,
                     struct range leaves, unsigned char *out, struct tp_error *err)
{
    bool ok = true;
    for (uint64_t i = leaves.begin, end; ok && i < leaves.end; i = end) {
        struct range run = leaf_columns(&t->leaves, i);
        for (end = i + 1;
             !t->stored->group && end < leaves.end && range_count(run) % BLOCK_COLS == 0; end++)
            run.end = leaf_columns(&t->leaves, end).end;
        ok = read_leaf(in, t->stored, row, run, out);
        out += 4 * stored_words(t->stored, run);
    }
    return ok ||
           input_fail(in, TP_E_RANGE, err, "a value is beyond the range of the dtype asked for");
}

static const unsigned char *rows_in_place(const struct source *source, uint32_t index, uint64_t row,
                                          struct range leaves, size_t *stride)
{
    const struct source_checkpoint *s = self_of(source);
    const struct source_input *in = &s->inputs[index];
    const struct tensor *t = &s->whole.tensors[index];
    if ((unsigned)in->dtype != t->stored->id)
        return NULL;
    for (uint64_t i = leaves.begin; i < leaves.end; i++)
        if (range_count(leaf_columns(&t->leaves, i)) % BLOCK_COLS)
            return NULL;
    size_t element = dtype_bytes(in->dtype);
    *stride = in->cols * element;
    return in->data + row * *stride + leaf_columns(&t->leaves, leaves.begin).begin * element;
}

static bool read_rows(const struct source *source, uint32_t index, uint64_t row, uint64_t n_rows,
                      struct range leaves, unsigned char *out, size_t stride, unsigned char *space,
                      struct tp_error *err)
{
    (void)space;
    const struct source_checkpoint *s = self_of(source);
    const struct source_input *in = &s->inputs[index];
    const struct tensor *t = &s->whole.tensors[index];
    if (t->layout == LAYOUT_VECTOR_F32)
        return read_vector(source, in, t, row, n_rows, out, err);
    for (uint64_t i = 0; i < n_rows; i++)
        if (!read_row(in, t, row + i, leaves, out + i * stride, err))
            return false;
    return true;
}

/* ---- preparing: digests, finite values, scales ---- */

static uint64_t rows_of_piece(const struct source_input *in)
{
    uint64_t rows = PIECE_BYTES / (in->cols * dtype_bytes(in->dtype));
    return rows ? rows : 1;
}

static uint64_t piece_rows(const struct source *source, uint32_t index)
{
    const struct source_checkpoint *s = self_of(source);
    return s->whole.tensors[index].part == PART_SCALE ? 0 : rows_of_piece(&s->inputs[index]);
}

static bool not_finite(const struct source_input *in, uint64_t at, struct tp_error *err)
{
    char what[96];
    snprintf(what, sizeof what, "row %llu column %llu is not a finite number",
             (unsigned long long)(at / in->cols), (unsigned long long)(at % in->cols));
    return input_fail(in, TP_E_NONFINITE, err, what);
}

/* Values are finite; their hash; scales of rows. One pass over memory: all of it is done to some
 * rows while they are in the cache, and those that follow are on their way. `wide`: of a row. */
static bool look_at_rows(const struct source_input *in, const struct stored *stored,
                         struct range rows, float *wide, struct hash128 *digest,
                         struct tp_error *err)
{
    enum { BLOCK = 4 << 10, AHEAD = 16 << 10, LINE = 64 }; /* bytes */
    size_t row_bytes = in->cols * dtype_bytes(in->dtype);
    uint64_t step = row_bytes < BLOCK ? BLOCK / row_bytes : 1;
    struct hash_stream stream;
    const unsigned char *begin = in->data + rows.begin * row_bytes;
    uint64_t bytes = range_count(rows) * row_bytes, at = (uint64_t)(begin - in->file->map.data);
    io_read_ahead(in->file->fd, at + DISK_AHEAD, bytes);
    io_populate(&in->file->map, at, bytes);
    hash_start(&stream);
    for (uint64_t row = rows.begin; row < rows.end; row += step) {
        uint64_t n = row + step < rows.end ? step : rows.end - row;
        const unsigned char *data = in->data + row * row_bytes;
        for (size_t i = 0; i < n * row_bytes; i += LINE)
            __builtin_prefetch(data + AHEAD + i, 0, 2);
        size_t finite = values_finite(in->dtype, data, n * in->cols);
        if (finite < n * in->cols)
            return not_finite(in, row * in->cols + finite, err);
        hash_add(&stream, data, n * row_bytes);
        for (uint64_t r = row; in->scales && r < row + n; r++) {
            widen(in, r, 0, in->cols, wide);
            in->scales[r] = stored->constants(stored, wide, in->cols);
        }
    }
    *digest = hash_end(&stream);
    return true;
}

/* Is there another value than the tensor's first? Seldom more than the next one is looked at. */
static void look_for_another(struct source_input *in, uint64_t at, uint64_t n)
{
    size_t element = dtype_bytes(in->dtype);
    const unsigned char *data = in->data + at * element;
    in->prepared = true;
    if (!in->varies && (memcmp(data, in->data, element) != 0 ||
                        memcmp(data, data + element, (n - 1) * element) != 0))
        in->varies = true;
}

/* Matrices of one value throughout, bit by bit, of those that were prepared; of biases and norms it
 * is usual. Said once. */
static bool warn_of_constant(struct source_checkpoint *s, struct tp_error *err)
{
    char name[TP_NAME_BUF];
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->whole.n_tensors && !s->constant_said; i++) {
        const struct source_input *in = &s->inputs[i];
        if (s->whole.tensors[i].layout == LAYOUT_PANEL16 && in->prepared && !in->varies &&
            in->rows * in->cols > 1 && n++ == 0)
            tp_name_cut(name, in->stored->name, in->stored->name_len);
    }
    s->constant_said |= n > 0;
    return !n ||
           finding_warn(
               s->findings, TP_E_ST_TENSOR, err,
               "%s: %u weight %s one value throughout, \"%s\" the first; is the checkpoint whole?",
               s->checkpoint->dir, n, n == 1 ? "matrix has" : "matrices have", name);
}

static bool prepare(const struct source *source, uint32_t index, uint32_t piece, bool known,
                    struct hash128 *digest, struct tp_error *err)
{
    const struct source_checkpoint *s = self_of(source);
    struct source_input *in = &s->inputs[index];
    struct range rows = {piece * rows_of_piece(in), (piece + 1) * rows_of_piece(in)};
    struct hash128 found;
    float *wide = NULL;
    if (rows.end > in->rows)
        rows.end = in->rows;
    if (in->scales && !(wide = mem_array(in->cols, sizeof *wide, err)))
        return false;
    bool ok = look_at_rows(in, s->whole.tensors[index].stored, rows, wide, &found, err);
    mem_free(wide);
    if (!ok)
        return false;
    look_for_another(in, rows.begin * in->cols, range_count(rows) * in->cols);
    if (known && !hash_equal(found, *digest))
        return input_fail(in, TP_E_CHANGED, err,
                          "changed since the conversion was interrupted; use --restart");
    *digest = found;
    return true;
}

static bool unchanged(const struct source *source, struct tp_error *err)
{
    return checkpoint_unchanged(self_of(source)->checkpoint, err);
}

/* ---- describing ---- */

static json_t *tensors_json(const struct source_checkpoint *s, const struct hash128 *digests)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < s->whole.n_tensors; i++) {
        const struct source_input *in = &s->inputs[i];
        char hex[33];
        if (s->whole.tensors[i].part == PART_SCALE)
            continue;
        hash_to_hex(digests[i], hex);
        json_array_append_new(list, json_pack("{s:s%, s:s, s:[I,I], s:s}", "name", in->stored->name,
                                              (size_t)in->stored->name_len, "dtype",
                                              dtype_name(in->dtype), "shape", (json_int_t)in->rows,
                                              (json_int_t)in->cols, "hash", hex));
    }
    return list;
}

static json_t *describe(const struct source *source, const struct hash128 *digests,
                        struct tp_error *err)
{
    struct source_checkpoint *s = source->state;
    if (!warn_of_constant(s, err))
        return NULL;
    uint32_t count = s->findings->warnings;
    json_t *unused = json_array();
    for (uint32_t i = 0; i < s->checkpoint->count; i++) {
        const struct checkpoint_tensor *t = &s->checkpoint->tensors[i];
        if (!t->used)
            json_array_append_new(unused, json_stringn(t->tensor->name, t->tensor->name_len));
    }
    json_t *warnings = count ? json_integer(count) : NULL;
    json_t *layers_of = s->layers_of ? json_integer((json_int_t)s->layers_of) : NULL;
    json_t *root = json_pack("{s:o, s:o, s:o*, s:o*}", "tensors", tensors_json(s, digests),
                             "unused", unused, "warnings", warnings, "layers_of", layers_of);
    if (!root)
        tp_fail(err, TP_E_MEMORY, "out of memory: description of the source");
    return root;
}

/* ---- binding ---- */

static uint64_t rows_of(const struct st_tensor *t)
{
    return t->rank ? t->shape[0] : 1;
}

static bool check_shape(const struct source_input *in, const struct tensor *t, struct tp_error *err)
{
    char what[160], implied[48];
    const struct st_tensor *st = in->stored;
    bool vector = t->layout == LAYOUT_VECTOR_F32;
    int n = snprintf(implied, sizeof implied, "%llu", (unsigned long long)t->rows);
    if (st->rank == (vector ? 1u : 2u) && st->shape[0] == t->rows &&
        (vector || st->shape[1] == t->cols))
        return true;
    if (!vector)
        snprintf(implied + n, sizeof implied - (size_t)n, " x %llu", (unsigned long long)t->cols);
    snprintf(what, sizeof what, "shape has %u dimensions, %llu x %llu; config.json implies %s%s",
             st->rank, (unsigned long long)rows_of(st),
             (unsigned long long)(st->rank > 1 ? st->shape[1] : 1), implied,
             t->role == ROLE_EMBED || t->role == ROLE_LM_HEAD ? " (vocab_size first)" : "");
    return input_fail(in, TP_E_CF_SHAPE, err, what);
}

/* The name in the checkpoint of a tensor of the model. Of a tied model the head may be all that is
 * stored of the embedding, or have the rows of the model where the embedding has others. */
static const char *stored_name(char buf[HF_NAME_MAX], const struct checkpoint *ck,
                               const char *prefix, const struct model_config *model,
                               const struct tensor *t)
{
    char head[HF_NAME_MAX];
    hf_name(buf, ck, prefix, t->role, t->layer, t->part);
    if (t->role != ROLE_EMBED || !model->tied_embeddings)
        return buf;
    hf_name(head, ck, prefix, ROLE_LM_HEAD, TENSOR_NO_LAYER, PART_WEIGHT);
    const struct checkpoint_tensor *e = checkpoint_find(ck, buf), *h = checkpoint_find(ck, head);
    if (h && (!e || (rows_of(h->tensor) == t->rows && rows_of(e->tensor) != t->rows)))
        memcpy(buf, head, sizeof head);
    return buf;
}

/* What checkpoint_use says, and what may be behind it. */
static bool fail_missing(const struct source_checkpoint *s, const char *name, enum role role,
                         const struct tp_error *why, struct tp_error *err)
{
    char shown[TP_NAME_BUF];
    bool end = role == ROLE_EMBED || role == ROLE_LM_HEAD;
    const struct st_tensor *like =
        checkpoint_find_ending(s->checkpoint, hf_name_ending(name, s->prefix));
    if (why->code != TP_E_ST_TENSOR)
        return tp_fail(err, why->code, "%s", why->text);
    if (like && strlen(name) == like->name_len && memcmp(name, like->name, like->name_len) == 0)
        like = NULL; /* it is there, too often */
    if (like)
        return tp_fail(err, why->code, "%s; \"%s\" ends alike", why->text,
                       tp_name_cut(shown, like->name, like->name_len));
    return tp_fail(err, why->code, "%s%s%s", why->text,
                   end ? "; tie_word_embeddings of config.json is " : "",
                   !end                               ? ""
                   : s->source.model->tied_embeddings ? "true"
                                                      : "not true");
}

static bool bind_stored(struct source_checkpoint *s, struct source_input *in, const char *name,
                        enum role role, struct tp_error *err)
{
    struct tp_error why = {0};
    struct checkpoint_tensor *found = checkpoint_use(s->checkpoint, name, &why);
    if (!found)
        return fail_missing(s, name, role, &why, err);
    in->file = checkpoint_file(s->checkpoint, found);
    in->stored = found->tensor;
    in->data = safetensors_data(in->file, in->stored);
    return safetensors_float_dtype(in->file, in->stored, &in->dtype, err);
}

static bool bind(struct source_checkpoint *s, uint32_t index, struct tp_error *err)
{
    const struct tensor *t = &s->whole.tensors[index];
    struct source_input *in = &s->inputs[index];
    char name[HF_NAME_MAX];
    if (t->part == PART_SCALE) { /* follows its weight in the plan */
        struct source_input *weight = &s->inputs[index - 1];
        weight->scales = mem_arena_alloc(&s->arena, t->rows * sizeof *weight->scales, err);
        *in = *weight;
        return weight->scales != NULL;
    }
    stored_name(name, s->checkpoint, s->prefix, s->source.model, t);
    in->rows = t->rows;
    in->cols = t->cols;
    if (!bind_stored(s, in, name, t->role, err))
        return false;
    s->source.bytes += in->stored->end - in->stored->begin;
    return check_shape(in, t, err);
}

/* ---- tied embeddings ---- */

/* The row has the same values in both; of NULL: zeros. */
static bool row_equals(const struct source_input *a, const struct source_input *b, uint64_t row)
{
    float of_a[STRIP], of_b[STRIP] = {0};
    for (uint64_t at = 0; at < a->cols; at += STRIP) {
        size_t n = a->cols - at < STRIP ? a->cols - at : STRIP;
        widen(a, row, at, n, of_a);
        if (b)
            widen(b, row, at, n, of_b);
        for (size_t i = 0; i < n; i++)
            if (of_a[i] != of_b[i])
                return false;
    }
    return true;
}

/* Both are stored, and tied: rows that both have are alike. Of more rows those that the model has
 * are zero, what is beyond the vocabulary is not used. */
static bool check_alike(const struct source_input *in, struct source_input *other,
                        struct tp_error *err)
{
    char name[TP_NAME_BUF], what[300];
    const struct st_tensor *st = other->stored;
    tp_name_cut(name, in->stored->name, in->stored->name_len);
    other->rows = rows_of(st);
    other->cols = st->rank > 1 ? st->shape[1] : 1;
    snprintf(what, sizeof what,
             "%llu x %llu, and \"%.100s\" %llu x %llu: tie_word_embeddings of config.json makes "
             "them one",
             (unsigned long long)other->rows, (unsigned long long)other->cols, name,
             (unsigned long long)in->rows, (unsigned long long)in->cols);
    if (st->rank != 2 || other->cols != in->cols)
        return input_fail(other, TP_E_CF_TIED, err, what);
    for (uint64_t row = 0; row < in->rows; row++)
        if (!row_equals(in, row < other->rows ? other : NULL, row)) {
            snprintf(what, sizeof what,
                     "row %llu %s \"%.100s\": tie_word_embeddings of config.json makes them one",
                     (unsigned long long)row,
                     row < other->rows ? "has other values than that of"
                                       : "is missing, and is no padding in",
                     name);
            return input_fail(other, TP_E_CF_TIED, err, what);
        }
    return true;
}

/* A stored lm_head beside tied embeddings must be the embedding; it is not stored twice. */
static bool check_tied(struct source_checkpoint *s, struct tp_error *err)
{
    static const enum role roles[] = {ROLE_EMBED, ROLE_LM_HEAD};
    const struct source_input *in = &s->inputs[0];
    for (size_t i = 0; s->source.model->tied_embeddings && i < 2; i++) {
        char name[HF_NAME_MAX];
        struct source_input other = {0};
        hf_name(name, s->checkpoint, s->prefix, roles[i], TENSOR_NO_LAYER, PART_WEIGHT);
        const struct checkpoint_tensor *found = checkpoint_find(s->checkpoint, name);
        if (found && found->tensor != in->stored &&
            !(bind_stored(s, &other, name, roles[i], err) && check_alike(in, &other, err)))
            return false;
    }
    return true;
}

/* ---- opening ---- */

bool source_checkpoint_survey(const struct checkpoint *checkpoint, const struct model_config *model,
                              struct source_survey *survey, struct tp_error *err)
{
    struct rank_plan plan;
    bool have[ST_DTYPE_COUNT] = {false};
    const char *prefix = hf_names_prefix(checkpoint);
    if (!rank_plan_build(model, recipe_of(DTYPE_BF16, NULL), 1, 0, &plan, err))
        return false;
    *survey = (struct source_survey){.complete = true};
    for (uint32_t i = 0; i < plan.n_tensors; i++) {
        char name[HF_NAME_MAX];
        const struct checkpoint_tensor *found = checkpoint_find(
            checkpoint, stored_name(name, checkpoint, prefix, model, &plan.tensors[i]));
        survey->complete &= found != NULL;
        if (found)
            have[found->tensor->dtype] = true;
    }
    rank_plan_free(&plan);
    /* neither 16-bit type holds the other */
    survey->widest = have[ST_F32] || (have[ST_F16] && have[ST_BF16]) ? DTYPE_F32
                     : have[ST_F16]                                  ? DTYPE_F16
                                                                     : DTYPE_BF16;
    return true;
}

bool source_checkpoint_open(struct source_checkpoint *s, struct checkpoint *checkpoint,
                            const struct model_config *model, struct recipe recipe,
                            struct findings *findings, struct tp_error *err)
{
    *s = (struct source_checkpoint){
        .checkpoint = checkpoint, .findings = findings, .prefix = hf_names_prefix(checkpoint)};
    if (!rank_plan_build(model, recipe, 1, 0, &s->whole, err))
        return false;
    s->source = (struct source){.model = model,
                                .recipe = recipe,
                                .whole = &s->whole,
                                .read_rows = read_rows,
                                .rows_in_place = rows_in_place,
                                .piece_rows = piece_rows,
                                .prepare = prepare,
                                .describe = describe,
                                .unchanged = unchanged,
                                .state = s};
    s->inputs = mem_arena_alloc(&s->arena, s->whole.n_tensors * sizeof *s->inputs, err);
    bool ok = s->inputs != NULL;
    for (uint32_t i = 0; ok && i < s->whole.n_tensors; i++)
        ok = bind(s, i, err);
    ok = ok && check_tied(s, err);
    if (!ok)
        source_checkpoint_close(s);
    return ok;
}

void source_checkpoint_close(struct source_checkpoint *s)
{
    rank_plan_free(&s->whole);
    mem_arena_free(&s->arena);
    *s = (struct source_checkpoint){0};
}

uint64_t source_checkpoint_bytes(const struct source_checkpoint *s)
{
    return s->arena.total;
}
