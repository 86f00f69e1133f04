#include "source_bundle.h"

#include "checked.h"
#include "owned.h"
#include "pack.h"

static const struct source_bundle *self_of(const struct source *source)
{
    return source->state;
}

static struct range meet(struct range a, struct range b)
{
    struct range m = {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
    return m.begin < m.end ? m : (struct range){0, 0};
}

/* What is asked of one rank's copy of a tensor. */
struct request {
    const struct tensor *tensor;
    struct range rows;  /* global */
    unsigned char *out; /* of the first row asked for */
    size_t stride;
    uint64_t from, to, n; /* bytes of a row: where in the rank's, where in out's, how many */
};

/* Copy what is asked for out of one panel: 16 rows from `row` (global), unpacked to `plain`
 * first. */
static void take_panel(const struct request *q, const unsigned char *panel, uint64_t row,
                       unsigned char *plain)
{
    uint64_t words = q->tensor->row_words;
    struct range rows = meet(q->rows, (struct range){row, row + PANEL_ROWS});
    if (!range_count(rows))
        return;
    pack_deinterleave(panel, words, plain, words * 4);
    for (uint64_t r = rows.begin; r < rows.end; r++)
        memcpy(q->out + (r - q->rows.begin) * q->stride + q->to,
               plain + (r - row) * words * 4 + q->from, q->n);
}

/* A thread's memory: the largest chunk, thrice. */
struct space {
    unsigned char *chunk, *scratch, *plain;
};

static bool take_matrix(const struct request *q, const struct shard *shard,
                        const struct space *space, struct tp_error *err)
{
    const struct tensor *t = q->tensor;
    uint64_t panel_bytes = tensor_panel_bytes(t);
    uint64_t panels = panel_bytes ? t->chunk_bytes / panel_bytes : 1;
    for (uint32_t c = 0; c < t->n_chunks; c++) {
        struct range rows = {t->own_rows.begin + c * panels * PANEL_ROWS,
                             t->own_rows.begin + (c + 1) * panels * PANEL_ROWS};
        if (!range_count(meet(meet(rows, t->own_rows), q->rows)))
            continue;
        if (!shard_read_chunk(shard, t, c, space->chunk, space->scratch, err))
            return false;
        uint64_t n = tensor_chunk_bytes(t, c) / panel_bytes;
        for (uint64_t p = 0; p < n; p++)
            take_panel(q, space->chunk + p * panel_bytes, rows.begin + p * PANEL_ROWS,
                       space->plain);
    }
    return true;
}

static bool take_vector(const struct request *q, const struct shard *shard,
                        const struct space *space, struct tp_error *err)
{
    const struct tensor *t = q->tensor;
    uint64_t per_chunk = t->chunk_bytes / 4;
    for (uint32_t c = 0; c < t->n_chunks; c++) {
        struct range own = {t->own_rows.begin + c * per_chunk,
                            t->own_rows.begin + c * per_chunk + tensor_chunk_bytes(t, c) / 4};
        struct range rows = meet(q->rows, own);
        if (!range_count(rows))
            continue;
        if (!shard_read_chunk(shard, t, c, space->chunk, space->scratch, err))
            return false;
        memcpy(q->out + (rows.begin - q->rows.begin) * 4,
               space->chunk + (rows.begin - own.begin) * 4, range_count(rows) * 4);
    }
    return true;
}

bool source_bundle_read_rank(const struct source_bundle *s, uint64_t rank, uint32_t index,
                             struct range rows, struct range leaves, unsigned char *out,
                             size_t stride, unsigned char *memory, struct tp_error *err)
{
    const struct tensor *t = &s->bundle.plans[rank].tensors[index];
    bool vector = t->layout == LAYOUT_VECTOR_F32;
    struct range own = meet(leaves, t->own_leaves);
    struct request q = {.tensor = t, .rows = meet(rows, t->own_rows), .stride = stride};
    if (!range_count(q.rows) || (!vector && !range_count(own)))
        return true;
    uint64_t each = s->source.space_bytes / 3;
    struct space space = {memory, memory + each, memory + 2 * each};
    q.out = out + (q.rows.begin - rows.begin) * stride;
    q.from = tensor_words(t, (struct range){t->own_leaves.begin, own.begin}) * 4;
    q.to = tensor_words(t, (struct range){leaves.begin, own.begin}) * 4;
    q.n = tensor_words(t, own) * 4;
    return (vector ? take_vector : take_matrix)(&q, &s->shards[rank], &space, err);
}

/* Rows that several ranks hold are taken from each: they are the same, and it keeps this simple
 * where shares overlap only in a few KV heads; whole vectors are taken from rank 0. */
static bool read_rows(const struct source *source, uint32_t index, uint64_t row, uint64_t n_rows,
                      struct range leaves, unsigned char *out, size_t stride, unsigned char *space,
                      struct tp_error *err)
{
    const struct source_bundle *s = self_of(source);
    for (uint64_t r = 0; r < s->bundle.tp_size; r++) {
        const struct tensor *t = &s->bundle.plans[r].tensors[index];
        if (!source_bundle_read_rank(s, r, index, (struct range){row, row + n_rows}, leaves, out,
                                     stride, space, err))
            return false;
        if (range_count(t->own_rows) == t->rows && !t->leaf_cut)
            break;
    }
    return true;
}

static uint64_t piece_rows(const struct source *source, uint32_t index)
{
    (void)source;
    (void)index;
    return 0;
}

static json_t *describe(const struct source *source, const struct hash128 *digests,
                        struct tp_error *err)
{
    (void)digests;
    json_t *copy = json_deep_copy(self_of(source)->bundle.source);
    if (!copy)
        tp_fail(err, TP_E_MEMORY, "out of memory: description of the source");
    return copy;
}

static bool unchanged(const struct source *source, struct tp_error *err)
{
    const struct source_bundle *s = self_of(source);
    for (uint64_t r = 0; r < s->bundle.tp_size; r++) {
        struct io_identity now;
        if (!io_identify(s->shards[r].fd, s->shards[r].path, &now, err))
            return false;
        if (!io_identity_equal(&now, &s->shards[r].identity))
            return tp_fail(err, TP_E_CHANGED, "%s: changed while reading", s->shards[r].path);
    }
    return true;
}

static bool check(const struct source *source, int threads, struct tp_error *err)
{
    const struct source_bundle *s = self_of(source);
    struct folder folder;
    struct owned owned = OWNED_CLOSED;
    bool ok = folder_open(&folder, s->bundle.dir, err) &&
              owned_open(&owned, &folder, ".", s->bundle.dir, err);
    if (ok && !hash_equal(owned.id, s->bundle.manifest_hash))
        ok = tp_fail(err, TP_E_CHANGED, "%s%s: changed while reading", s->bundle.dir,
                     BUNDLE_MANIFEST);
    ok = ok && owned_check(&owned, threads, err);
    if (ok && owned_changed(&owned))
        ok = tp_fail(err, TP_E_CHANGED,
                     "%s%s: is not what the manifest says, it is damaged or changed", s->bundle.dir,
                     owned_changed(&owned));
    owned_close(&owned);
    folder_close(&folder);
    return ok;
}

bool source_bundle_open(struct source_bundle *s, const char *dir, struct tp_error *err)
{
    *s = (struct source_bundle){0};
    if (!bundle_open(&s->bundle, dir, false, err))
        return false;
    s->shards = mem_arena_alloc(&s->arena, s->bundle.tp_size * sizeof *s->shards, err);
    bool ok =
        s->shards && rank_plan_build(&s->bundle.model, s->bundle.recipe, 1, 0, &s->whole, err);
    for (uint64_t r = 0; s->shards && r < s->bundle.tp_size; r++)
        s->shards[r].fd = -1;
    for (uint64_t r = 0; ok && r < s->bundle.tp_size; r++)
        ok = bundle_open_rank(&s->bundle, r, &s->shards[r], err);
    uint64_t bytes = 0;
    for (uint64_t r = 0; ok && r < s->bundle.tp_size; r++) {
        uint64_t largest = rank_plan_largest_chunk(&s->bundle.plans[r]);
        bytes += s->shards[r].head.data_file_bytes;
        s->chunk_bytes = largest > s->chunk_bytes ? largest : s->chunk_bytes;
    }
    if (!ok) {
        source_bundle_close(s);
        return false;
    }
    s->source = (struct source){.model = &s->bundle.model,
                                .recipe = s->bundle.recipe,
                                .whole = &s->whole,
                                .whole_chunks = true,
                                .bytes = bytes,
                                .space_bytes = 3 * align_up(s->chunk_bytes, 64),
                                .read_rows = read_rows,
                                .piece_rows = piece_rows,
                                .describe = describe,
                                .unchanged = unchanged,
                                .check = check,
                                .state = s};
    return true;
}

void source_bundle_close(struct source_bundle *s)
{
    for (uint64_t r = 0; s->shards && r < s->bundle.tp_size; r++)
        shard_close(&s->shards[r]);
    rank_plan_free(&s->whole);
    bundle_close(&s->bundle);
    mem_arena_free(&s->arena);
    *s = (struct source_bundle){0};
}
