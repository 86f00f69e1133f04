#include "source_checkpoint.h"

#include "checked.h"
#include "values.h"

enum {
    PIECE_BYTES = 4 << 20, /* of stored bytes a digest covers; part of the bundle id */
    STRIP = 1024,          /* values converted at once, on the stack */
};

struct source_input {
    const struct safetensors *file;
    const struct st_tensor *stored;
    const unsigned char *data; /* mapped, any alignment */
    enum dtype dtype;          /* as stored */
    uint64_t rows, cols;
    _Atomic bool varies; /* prepare found two values */
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

/* The constants of the group that column `col` is in: of all of it, whatever part is asked for. */
static uint32_t group_constants(const struct source_input *in, const struct stored *stored,
                                uint64_t row, uint64_t col)
{
    float wide[STRIP];
    uint64_t begin = col / stored->group * stored->group, left = in->cols - begin;
    uint64_t n = left < stored->group ? left : stored->group;
    widen(in, row, begin, n, wide);
    return stored->constants(stored, wide, n);
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

static bool read_leaf(const struct source_input *in, const struct stored *stored, uint64_t row,
                      struct range leaf, unsigned char *out)
{
    struct piece piece = {.index = 0};
    while (stored_next_piece(stored, leaf, &piece)) {
        uint32_t constants = stored->group ? group_constants(in, stored, row, piece.cols.begin)
                             : in->scales  ? in->scales[row]
                                           : 0;
        stored_put_constants(stored, out, &piece, constants);
        if (!encode_run(in, stored, row, piece.cols, constants, out + 4 * piece.word))
            return false;
    }
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

static uint64_t piece_rows(const struct source_input *in)
{
    uint64_t rows = PIECE_BYTES / (in->cols * dtype_bytes(in->dtype));
    return rows ? rows : 1;
}

static uint32_t prepare_pieces(const struct source *source, uint32_t index)
{
    const struct source_checkpoint *s = self_of(source);
    const struct source_input *in = &s->inputs[index];
    if (s->whole.tensors[index].part == PART_SCALE)
        return 0;
    return (uint32_t)div_ceil(in->rows, piece_rows(in));
}

static bool find_scales(const struct source_input *in, const struct stored *stored,
                        struct range rows, struct tp_error *err)
{
    float *row = mem_array(in->cols, sizeof *row, err);
    if (!row)
        return false;
    for (uint64_t r = rows.begin; r < rows.end; r++) {
        widen(in, r, 0, in->cols, row);
        in->scales[r] = stored->constants(stored, row, in->cols);
    }
    mem_free(row);
    return true;
}

static bool not_finite(const struct source_input *in, uint64_t at, struct tp_error *err)
{
    char what[96];
    snprintf(what, sizeof what, "row %llu column %llu is not a finite number",
             (unsigned long long)(at / in->cols), (unsigned long long)(at % in->cols));
    return input_fail(in, TP_E_NONFINITE, err, what);
}

/* One pass over memory: every block is checked and hashed while it is in the cache. */
static bool check_and_hash(const struct source_input *in, uint64_t at, uint64_t n,
                           struct hash128 *digest, struct tp_error *err)
{
    enum { BLOCK = 64 << 10 };
    size_t element = dtype_bytes(in->dtype);
    struct hash_stream stream;
    io_populate(in->data + at * element, n * element);
    hash_start(&stream);
    for (uint64_t i = 0; i < n; i += BLOCK) {
        size_t block = n - i < BLOCK ? n - i : BLOCK;
        const unsigned char *data = in->data + (at + i) * element;
        size_t finite = values_finite(in->dtype, data, block);
        if (finite < block)
            return not_finite(in, at + i + finite, err);
        hash_add(&stream, data, block * element);
    }
    *digest = hash_end(&stream);
    return true;
}

/* Is there another value than the tensor's first? Seldom more than the next one is looked at. */
static void look_for_another(struct source_input *in, uint64_t at, uint64_t n)
{
    size_t element = dtype_bytes(in->dtype);
    const unsigned char *data = in->data + at * element;
    if (!in->varies && (memcmp(data, in->data, element) != 0 ||
                        memcmp(data, data + element, (n - 1) * element) != 0))
        in->varies = true;
}

uint32_t source_checkpoint_constant(const struct source_checkpoint *s, char name[TP_NAME_BUF])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->whole.n_tensors; i++) {
        const struct source_input *in = &s->inputs[i];
        if (s->whole.tensors[i].layout == LAYOUT_PANEL16 && !in->varies &&
            in->rows * in->cols > 1 && n++ == 0)
            tp_name_cut(name, in->stored->name, in->stored->name_len);
    }
    return n;
}

static bool prepare(const struct source *source, uint32_t index, uint32_t piece, bool known,
                    struct hash128 *digest, struct tp_error *err)
{
    const struct source_checkpoint *s = self_of(source);
    struct source_input *in = &s->inputs[index];
    struct range rows = {piece * piece_rows(in), (piece + 1) * piece_rows(in)};
    struct hash128 found;
    if (rows.end > in->rows)
        rows.end = in->rows;
    if (!check_and_hash(in, rows.begin * in->cols, range_count(rows) * in->cols, &found, err))
        return false;
    look_for_another(in, rows.begin * in->cols, range_count(rows) * in->cols);
    if (known && !hash_equal(found, *digest))
        return input_fail(in, TP_E_CHANGED, err,
                          "changed since the conversion was interrupted; use --restart");
    *digest = found;
    return !in->scales || find_scales(in, s->whole.tensors[index].stored, rows, err);
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
    const struct source_checkpoint *s = self_of(source);
    json_t *unused = json_array();
    for (uint32_t i = 0; i < s->checkpoint->count; i++) {
        const struct checkpoint_tensor *t = &s->checkpoint->tensors[i];
        if (!t->used)
            json_array_append_new(unused, json_stringn(t->tensor->name, t->tensor->name_len));
    }
    json_t *warnings = s->warnings ? json_integer(s->warnings) : NULL;
    json_t *layers_of = s->layers_of ? json_integer((json_int_t)s->layers_of) : NULL;
    json_t *root = json_pack("{s:o, s:o, s:o*, s:o*}", "tensors", tensors_json(s, digests),
                             "unused", unused, "warnings", warnings, "layers_of", layers_of);
    if (!root)
        tp_fail(err, TP_E_MEMORY, "out of memory: description of the source");
    return root;
}

/* ---- binding ---- */

static bool check_shape(const struct source_input *in, const struct tensor *t, struct tp_error *err)
{
    char what[160];
    const struct st_tensor *st = in->stored;
    bool vector = t->layout == LAYOUT_VECTOR_F32;
    if (st->rank == (vector ? 1u : 2u) && st->shape[0] == t->rows &&
        (vector || st->shape[1] == t->cols))
        return true;
    snprintf(what, sizeof what,
             "shape has %u dimensions, %llu x %llu; config.json implies %llu x %llu", st->rank,
             (unsigned long long)(st->rank > 0 ? st->shape[0] : 1),
             (unsigned long long)(st->rank > 1 ? st->shape[1] : 1), (unsigned long long)t->rows,
             (unsigned long long)t->cols);
    return input_fail(in, TP_E_CF_SHAPE, err, what);
}

static bool bind(struct source_checkpoint *s, uint32_t index, struct tp_error *err)
{
    const struct tensor *t = &s->whole.tensors[index];
    struct source_input *in = &s->inputs[index];
    char name[TENSOR_NAME_MAX];
    if (t->part == PART_SCALE) { /* follows its weight in the plan */
        struct source_input *weight = &s->inputs[index - 1];
        weight->scales = mem_arena_alloc(&s->arena, t->rows * sizeof *weight->scales, err);
        *in = *weight;
        return weight->scales != NULL;
    }
    tensor_name(name, t->role, t->layer, t->part);
    struct checkpoint_tensor *found = checkpoint_use(s->checkpoint, name, err);
    if (!found)
        return false;
    in->file = checkpoint_file(s->checkpoint, found);
    in->stored = found->tensor;
    in->data = safetensors_data(in->file, in->stored);
    in->rows = t->rows;
    in->cols = t->cols;
    s->source.bytes += in->stored->end - in->stored->begin;
    return safetensors_float_dtype(in->file, in->stored, &in->dtype, err) &&
           check_shape(in, t, err);
}

/* A stored lm_head beside tied embeddings must be the embedding; it is not stored twice. */
static bool check_tied(struct source_checkpoint *s, struct tp_error *err)
{
    const struct source_input *embed = &s->inputs[0];
    char name[TENSOR_NAME_MAX];
    tensor_name(name, ROLE_LM_HEAD, TENSOR_NO_LAYER, PART_WEIGHT);
    if (!s->source.model->tied_embeddings || !checkpoint_find(s->checkpoint, name))
        return true;
    struct checkpoint_tensor *found = checkpoint_use(s->checkpoint, name, err);
    if (!found)
        return false;
    struct source_input head = *embed;
    head.file = checkpoint_file(s->checkpoint, found);
    head.stored = found->tensor;
    uint64_t bytes = embed->stored->end - embed->stored->begin;
    if (head.stored->dtype != embed->stored->dtype ||
        head.stored->end - head.stored->begin != bytes ||
        memcmp(safetensors_data(head.file, head.stored), embed->data, bytes) != 0)
        return input_fail(&head, TP_E_CF_TIED, err,
                          "config.json ties it to the embedding, but its values are others");
    return true;
}

bool source_checkpoint_open(struct source_checkpoint *s, struct checkpoint *checkpoint,
                            const struct model_config *model, struct recipe recipe,
                            struct tp_error *err)
{
    *s = (struct source_checkpoint){.checkpoint = checkpoint};
    if (!rank_plan_build(model, recipe, 1, 0, &s->whole, err))
        return false;
    s->source = (struct source){.model = model,
                                .recipe = recipe,
                                .whole = &s->whole,
                                .read_rows = read_rows,
                                .prepare_pieces = prepare_pieces,
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

enum dtype source_checkpoint_widest(const struct checkpoint *checkpoint)
{
    bool f16 = false, bf16 = false;
    for (uint32_t i = 0; i < checkpoint->count; i++) {
        enum st_dtype d = checkpoint->tensors[i].tensor->dtype;
        if (d == ST_F32)
            return DTYPE_F32;
        f16 |= d == ST_F16;
        bf16 |= d == ST_BF16;
    }
    /* neither 16-bit type holds the other */
    return f16 && bf16 ? DTYPE_F32 : f16 ? DTYPE_F16 : DTYPE_BF16;
}
