#include "writer.h"

#include "chat_digest.h"
#include "checked.h"
#include "child.h"
#include "clock.h"
#include "disk_needed.h"
#include "fill.h"
#include "interrupt.h"
#include "squeeze.h"
#include <stdlib.h>

struct writer {
    const struct writer_request *request;
    struct stage *stage;
    struct journal journal;
    struct bundle bundle; /* in memory: what the manifest will say */
    json_t *templates;    /* owns bundle.templates */
    struct fill fill;
    char (*names)[RANK_FILE_NAME_MAX]; /* [tp_size] */
    uint64_t manifest_bytes;           /* about */
    struct progress progress;          /* of the phase, but for fill's own */
    struct writer_report report;
    struct mem_arena arena;
};

static struct writer_report last_report;

struct writer_report writer_last_report(void)
{
    return last_report;
}

static void begin_phase(struct writer *w, const char *phase, uint64_t bytes)
{
    progress_start(&w->progress, w->request->quiet ? NULL : w->request->program, phase, bytes);
}

/* ---- the plan ---- */

static bool alloc_ranks(struct writer *w, struct tp_error *err)
{
    uint64_t tp = w->request->tp_size, n_tensors = w->request->source->whole->n_tensors;
    struct fill *f = &w->fill;
    w->names = mem_arena_alloc(&w->arena, tp * sizeof *w->names, err);
    w->bundle.ranks = mem_arena_alloc(&w->arena, tp * sizeof *w->bundle.ranks, err);
    w->bundle.plans = mem_arena_alloc(&w->arena, tp * sizeof *w->bundle.plans, err);
    f->heads = mem_arena_alloc(&w->arena, tp * sizeof *f->heads, err);
    f->files = mem_arena_alloc(&w->arena, tp * sizeof *f->files, err);
    f->digests = mem_arena_alloc(&w->arena, n_tensors * sizeof *f->digests, err);
    if (!w->names || !w->bundle.ranks || !w->bundle.plans || !f->heads || !f->files || !f->digests)
        return false;
    for (uint64_t r = 0; r < tp; r++)
        f->files[r].fd = f->files[r].direct_fd = -1;
    return true;
}

static bool plan_ranks(struct writer *w, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    struct fill *f = &w->fill;
    w->bundle.model = *q->source->model;
    w->bundle.recipe = q->source->recipe;
    w->bundle.compress = q->compress;
    w->bundle.tp_size = q->tp_size;
    if (!alloc_ranks(w, err))
        return false;
    for (uint64_t r = 0; r < q->tp_size; r++) {
        struct rank_plan *plan = &w->bundle.plans[r];
        if (!rank_plan_build(&w->bundle.model, w->bundle.recipe, q->tp_size, r, plan, err))
            return false;
        f->heads[r].chunks =
            mem_arena_alloc(&w->arena, plan->n_chunks * sizeof *f->heads[r].chunks, err);
        if (!f->heads[r].chunks)
            return false;
        rank_file_name(w->names[r], r, q->tp_size);
        f->bytes_total += plan->data_bytes;
    }
    f->plans = w->bundle.plans;
    f->request = q;
    f->journal = &w->journal;
    return true;
}

static bool check_memory(const struct writer *w, struct tp_error *err)
{
    uint64_t need =
        fill_worker_bytes(w->request, w->bundle.plans) * (uint64_t)fill_workers(&w->fill);
    for (uint64_t r = 0; w->request->compress && r < w->request->tp_size; r++) {
        uint64_t n = squeeze_worker_bytes(&w->bundle.plans[r]) * (uint64_t)w->request->threads;
        need = n > need ? n : need;
    }
    need += w->request->tables;
    return need <= w->request->memory ||
           tp_fail(
               err, TP_E_LIMIT,
               "--mem %llu: %llu bytes are needed with %d thread%s; allow more, or fewer threads",
               (unsigned long long)w->request->memory, (unsigned long long)need,
               w->request->threads, w->request->threads == 1 ? "" : "s");
}

static bool add_file(struct writer *w, const char *name, const void *data, uint64_t size,
                     struct tp_error *err)
{
    struct bundle_file *f = &w->bundle.files[w->bundle.n_files];
    if (w->bundle.n_files == BUNDLE_FILES_MAX)
        return tp_fail(err, TP_E_LIMIT, "%s: more than %d files", name, BUNDLE_FILES_MAX);
    *f = (struct bundle_file){.bytes = size, .hash = hash_bytes(data, size)};
    memcpy(f->name, name, strlen(name) + 1);
    w->bundle.n_files++;
    if (strcmp(name, BUNDLE_TOKENIZER) == 0) {
        if (!chat_digests(data, size, &w->templates, err))
            return false;
        w->bundle.templates = w->templates;
    }
    return true;
}

static bool identify_bundle(struct writer *w, struct tp_error *err)
{
    const struct source *source = w->request->source;
    json_decref(w->bundle.root);
    w->bundle.root = source->describe(source, w->fill.digests, err);
    w->bundle.source = w->bundle.root;
    return w->bundle.root && bundle_id_of(&w->bundle, &w->bundle.bundle_id, err);
}

/* What is going to be written can be read: a manifest with every number in its place but the hashes
 * goes through the reader, before the first byte. */
static bool check_readable(struct writer *w, struct tp_error *err)
{
    enum { LONGER = 4096 }; /* sizes of frames and of selftest.json may have more digits */
    struct bundle again;
    struct tp_error why = {0};
    size_t n;
    uint32_t n_files = w->bundle.n_files;
    if ((w->request->selftest && !add_file(w, BUNDLE_SELFTEST, "", 0, err)) ||
        !identify_bundle(w, err))
        return false;
    char *text = bundle_manifest_text(&w->bundle, w->fill.heads, &n, err);
    bool ok = text != NULL;
    if (ok && n + LONGER > BUNDLE_MANIFEST_MAX)
        ok = tp_fail(err, TP_E_LIMIT, "%s: %zu bytes would be needed, at most %d are allowed",
                     BUNDLE_MANIFEST, n, BUNDLE_MANIFEST_MAX);
    if (ok && !bundle_parse(&again, "", BUNDLE_MANIFEST, text, n, &why))
        ok = tp_fail(err, TP_E_LIMIT, "a bundle of this model could not be read: %s", why.text);
    else if (ok)
        bundle_close(&again);
    mem_free(text);
    w->bundle.n_files = n_files;
    w->manifest_bytes = n + LONGER;
    return ok;
}

static uint64_t disk_of(const struct writer *w)
{
    return disk_needed(&w->bundle, w->request->source, w->manifest_bytes, w->request->selftest);
}

static bool plan(struct writer *w, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    if (!plan_ranks(w, err) || !check_memory(w, err))
        return false;
    for (uint32_t i = 0; i < q->n_files; i++)
        if (!add_file(w, q->files[i].name, q->files[i].data, q->files[i].size, err))
            return false;
    return check_readable(w, err);
}

/* ---- opening ---- */

static bool open_output(struct writer *w, bool *done, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    const char *names[PARTITION_TP_MAX + BUNDLE_FILES_MAX + 2];
    uint32_t n = 0;
    for (uint64_t r = 0; r < q->tp_size; r++)
        names[n++] = w->names[r];
    for (uint32_t i = 0; i < w->bundle.n_files; i++)
        names[n++] = w->bundle.files[i].name;
    names[n++] = BUNDLE_MANIFEST;
    if (q->selftest)
        names[n++] = BUNDLE_SELFTEST;
    begin_phase(w, "looking at what is there", 0);
    bool ok = output_open(q->output, &q->run, names, n, disk_of(w), done, err);
    progress_end(&w->progress);
    if (!ok)
        return false;
    if (!*done && q->verbose)
        room_print(&q->output->room, q->program);
    return true;
}

/* Chunks on record are this run's. */
static bool open_journal(struct writer *w, struct tp_error *err)
{
    struct hash128 hash = w->request->run.hash;
    struct journal_record run = {.kind = JOURNAL_RUN, .hash = hash};
    struct stage_file file = {.name = STAGE_JOURNAL, .proof = STAGE_LOG, .data = ""};
    struct journal *j = &w->journal;
    struct tp_error why = {0};
    if (!stage_list(w->stage, &file, 1, err) ||
        !journal_open(j, &w->stage->dir, STAGE_JOURNAL, err))
        return false;
    if (!stage_hold_log(w->stage, STAGE_JOURNAL, &why))
        return tp_fail(err, why.code == TP_E_FOREIGN ? TP_E_JOURNAL : why.code, "%s", why.text);
    if (!journal_read(j, "use --restart to begin anew", err) || !journal_trim(j, err))
        return false;
    if (j->n_found == 0)
        return journal_reset(j, err) && journal_append(j, &run, 1, err);
    return (j->records[0].kind == JOURNAL_RUN && hash_equal(j->records[0].hash, hash)) ||
           tp_fail(err, TP_E_JOURNAL_OTHER, "%s: is of another conversion; use --restart", j->path);
}

/* Rank files before compression. */
static enum stage_where place_of_ranks(const struct writer *w)
{
    return w->request->compress == COMPRESS_NONE ? STAGE_TOP : STAGE_RAW;
}

static bool list_rank_files(struct writer *w, enum stage_where where, struct tp_error *err)
{
    struct stage_file files[PARTITION_TP_MAX];
    for (uint64_t r = 0; r < w->request->tp_size; r++)
        files[r] = (struct stage_file){.name = w->names[r], .proof = STAGE_STAMPED, .where = where};
    return stage_list(w->stage, files, (uint32_t)w->request->tp_size, err);
}

static bool changed(const char *what, struct tp_error *err)
{
    return tp_fail(err, TP_E_CHANGED,
                   "%s: changed since it was made; move it away, and use --restart", what);
}

/* Between tensors and behind the last there are zeros: chunks are compared later, by their
 * hashes. */
static bool check_gaps(const struct writer *w, uint64_t rank, struct tp_error *err)
{
    const struct rank_plan *plan = &w->bundle.plans[rank];
    const struct fill_file *f = &w->fill.files[rank];
    unsigned char gap[SHARD_FILE_ALIGN];
    uint64_t at = 0;
    for (uint32_t i = 0; i <= plan->n_tensors; i++) {
        uint64_t next = i < plan->n_tensors ? plan->tensors[i].offset : plan->data_bytes,
                 n = next - at;
        tp_assert(n <= sizeof gap);
        if (!io_read_at(f->fd, f->path, gap, n, plan->data_offset + at, err))
            return false;
        for (uint64_t k = 0; k < n; k++)
            if (gap[k])
                return changed(f->path, err);
        at = i < plan->n_tensors ? next + plan->tensors[i].bytes : at;
    }
    return true;
}

/* Of a run that was killed while it compressed: they are made again, and take no room until
 * then. */
static bool remove_frames(struct writer *w, struct tp_error *err)
{
    bool ok = list_rank_files(w, STAGE_TOP, err);
    for (uint64_t r = 0; ok && r < w->request->tp_size; r++)
        ok = stage_remove(w->stage, w->names[r], STAGE_TOP, err);
    return ok;
}

/* Large files go past the page cache, three times as fast; small ones stay in it for who reads them
 * next. */
static bool open_rank_files(struct writer *w, struct tp_error *err)
{
    enum stage_where where = place_of_ranks(w);
    if ((where == STAGE_RAW &&
         (!remove_frames(w, err) || !stage_make_folder(w->stage, STAGE_RAW, err))) ||
        !list_rank_files(w, where, err))
        return false;
    const struct folder *folder = where == STAGE_RAW ? &w->stage->raw : &w->stage->dir;
    char path[IO_PATH_MAX];
    for (uint64_t r = 0; r < w->request->tp_size; r++) {
        const struct rank_plan *plan = &w->bundle.plans[r];
        struct fill_file *f = &w->fill.files[r];
        uint64_t size = plan->data_offset + plan->data_bytes;
        enum stage_found found;
        folder_path(path, folder, w->names[r]);
        f->path = mem_arena_copy(&w->arena, path, strlen(path), err);
        f->fd = f->path ? stage_file_open(w->stage, w->names[r], where, size, &found, err) : -1;
        f->writable = f->fd >= 0 && found != STAGE_COMPLETE;
        if (f->fd < 0 || (found != STAGE_MADE && !check_gaps(w, r, err)))
            return false;
        if (size >= SHARD_HUGE_FROM && f->writable)
            f->direct_fd = folder_open_direct(folder, w->names[r]);
    }
    return true;
}

/* ---- rank files ---- */

/* One that an earlier run completed has the head that it should have. */
static bool check_head(struct writer *w, uint64_t rank, const unsigned char *bytes,
                       struct tp_error *err)
{
    const struct fill_file *f = &w->fill.files[rank];
    uint64_t n = w->bundle.plans[rank].data_offset;
    unsigned char *found = mem_alloc(n, err);
    bool ok = found && io_read_at(f->fd, f->path, found, n, 0, err);
    if (ok && memcmp(found, bytes, n) != 0)
        ok = changed(f->path, err);
    mem_free(found);
    return ok && (w->request->compress || stage_hold(w->stage, w->names[rank], f->fd, err));
}

/* Header and table of a filled raw file. */
static bool finish_rank_file(struct writer *w, uint64_t rank, struct tp_error *err)
{
    const struct rank_plan *plan = &w->bundle.plans[rank];
    struct shard_head *head = &w->fill.heads[rank];
    struct fill_file *f = &w->fill.files[rank];
    head->bundle_id = w->bundle.bundle_id;
    head->compress = COMPRESS_NONE;
    head->data_file_bytes = plan->data_bytes;
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        for (uint32_t c = 0; c < plan->tensors[i].n_chunks; c++) {
            const struct tensor *t = &plan->tensors[i];
            struct chunk *chunk = &head->chunks[t->first_chunk + c];
            chunk->file_hash = chunk->raw_hash;
            chunk->file_offset = t->offset + c * t->chunk_bytes;
            chunk->file_bytes = tensor_chunk_bytes(t, c);
        }
    unsigned char *bytes = shard_head_write(&w->bundle.model, plan, head, err);
    if (!bytes)
        return false;
    w->bundle.ranks[rank] = (struct bundle_rank){plan->data_offset + plan->data_bytes,
                                                 hash_bytes(bytes, SHARD_HEADER_BYTES)};
    bool ok = f->writable ? stage_file_finish(w->stage, w->names[rank], place_of_ranks(w), f->fd,
                                              bytes, plan->data_offset, err)
                          : check_head(w, rank, bytes, err);
    mem_free(bytes);
    return ok && io_close(&f->direct_fd, f->path, err) && io_close(&f->fd, f->path, err);
}

/* ---- small files ---- */

static bool put_files(struct writer *w, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    struct stage_file files[BUNDLE_FILES_MAX];
    for (uint32_t i = 0; i < q->n_files; i++)
        files[i] = (struct stage_file){q->files[i].name, STAGE_WHOLE, q->files[i].data,
                                       q->files[i].size, STAGE_TOP};
    if (!stage_list(w->stage, files, q->n_files, err))
        return false;
    for (uint32_t i = 0; i < q->n_files; i++)
        if (!stage_put(w->stage, files[i].name, STAGE_TOP, files[i].data, files[i].n, err))
            return false;
    return true;
}

static bool put(struct writer *w, const char *name, enum stage_where where, const void *data,
                uint64_t n, struct tp_error *err)
{
    struct stage_file file = {name, STAGE_WHOLE, data, n, where};
    return stage_list(w->stage, &file, 1, err) && stage_put(w->stage, name, where, data, n, err);
}

static bool put_manifest(struct writer *w, const char *name, enum stage_where where,
                         struct hash128 *hash, struct tp_error *err)
{
    size_t n;
    char *text = bundle_manifest_text(&w->bundle, w->fill.heads, &n, err);
    bool ok = text && put(w, name, where, text, n, err);
    if (ok)
        *hash = hash_bytes(text, n);
    mem_free(text);
    return ok;
}

/* The runtime as a program of its own answers fixed prompts on the raw files; what it says goes
 * along. */
static bool run_selftest(struct writer *w, struct tp_error *err)
{
    enum stage_where where = place_of_ranks(w);
    char threads[16], partial[IO_PATH_MAX], folder[IO_PATH_MAX],
        *data; /* by a path that is no option */
    size_t n;
    struct hash128 hash;
    snprintf(threads, sizeof threads, "%d", w->request->threads);
    if (!io_join(partial, w->stage->place->parent.path, w->stage->place->partial, err) ||
        !io_join(folder, partial, where == STAGE_RAW ? "raw" : "", err))
        return false;
    const char *const arguments[] = {"selftest",  "--record", folder, "-q",
                                     "--threads", threads,    NULL};
    /* Recording reads the rank files alone, raw, wherever they are. */
    w->bundle.compress = COMPRESS_NONE;
    double start = clock_seconds();
    begin_phase(w, "selftest: tprun answers fixed prompts", 0);
    bool ok = put_manifest(w, BUNDLE_MANIFEST_OPEN, where, &hash, err);
    w->bundle.compress = w->request->compress;
    if (!ok || !child_run_tprun(arguments, BUNDLE_MANIFEST_MAX, &w->progress, &data, &n, err))
        return false;
    ok = add_file(w, BUNDLE_SELFTEST, data, n, err) &&
         put(w, BUNDLE_SELFTEST, STAGE_TOP, data, n, err);
    mem_free(data);
    w->report.selftest_seconds = clock_seconds() - start;
    return ok && stage_remove(w->stage, BUNDLE_MANIFEST_OPEN, where, err);
}

/* ---- compression ---- */

static bool squeeze_one(struct writer *w, uint64_t rank, int raw_fd, int fd, struct tp_error *err)
{
    struct bundle_rank *to = &w->bundle.ranks[rank];
    char path[IO_PATH_MAX];
    folder_path(path, &w->stage->dir, w->names[rank]);
    unsigned char *bytes =
        squeeze_rank(raw_fd, fd, path, &w->bundle.model, &w->bundle.plans[rank],
                     &w->fill.heads[rank], w->request->threads, &w->progress, &to->file_bytes, err);
    bool ok = bytes && stage_file_finish(w->stage, w->names[rank], STAGE_TOP, fd, bytes,
                                         w->bundle.plans[rank].data_offset, err);
    if (ok)
        to->head_hash = hash_bytes(bytes, SHARD_HEADER_BYTES);
    mem_free(bytes);
    return ok;
}

static bool squeeze_all(struct writer *w, struct tp_error *err)
{
    double start = clock_seconds();
    begin_phase(w, "compressing", w->fill.bytes_total);
    for (uint64_t r = 0; r < w->request->tp_size; r++) {
        enum stage_found found;
        int fd = -1, raw_fd = folder_open_file(&w->stage->raw, w->names[r], 0, NULL, err);
        bool ok = raw_fd >= 0 &&
                  (fd = stage_file_open(w->stage, w->names[r], STAGE_TOP,
                                        w->bundle.plans[r].data_offset, &found, err)) >= 0 &&
                  squeeze_one(w, r, raw_fd, fd, err);
        ok = io_close(&fd, w->names[r], err) && ok;
        io_close(&raw_fd, w->names[r], NULL);
        if (!ok || !stage_remove(w->stage, w->names[r], STAGE_RAW, err))
            return false;
        w->progress.before += w->bundle.plans[r].data_bytes;
    }
    w->report.compress_seconds = clock_seconds() - start;
    return true;
}

/* ---- the run ---- */

static bool fill(struct writer *w, bool source_only, struct tp_error *err)
{
    double start = clock_seconds();
    bool ok = fill_run(&w->fill, source_only, err);
    w->report.bytes_read = w->request->source->bytes;
    w->report.convert_seconds = clock_seconds() - start;
    return ok;
}

/* The inputs are the files that were opened; earlier: what a run before this one made is of these
 * bytes, too. */
static bool source_unchanged(const struct writer *w, bool earlier, struct tp_error *err)
{
    const struct source *source = w->request->source;
    return source->unchanged(source, err) &&
           (!source->check || !earlier || source->check(source, w->request->threads, err));
}

static bool make(struct writer *w, struct hash128 *manifest, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    if (!open_journal(w, err) || !open_rank_files(w, err) || !fill(w, false, err))
        return false;
    begin_phase(w, "syncing", 0);
    if (!source_unchanged(w, w->fill.bytes_resumed > 0, err) || !put_files(w, err) ||
        !identify_bundle(w, err))
        return false;
    for (uint64_t r = 0; r < q->tp_size; r++)
        if (!finish_rank_file(w, r, err))
            return false;
    if ((q->selftest && !run_selftest(w, err)) || (q->compress && !squeeze_all(w, err)))
        return false;
    begin_phase(w, "syncing", 0);
    return put_manifest(w, BUNDLE_MANIFEST, STAGE_TOP, manifest, err) &&
           stage_remove_raw(w->stage, err);
}

static bool hold_one(struct writer *w, const struct owned_file *f, struct tp_error *err)
{
    struct io_identity who;
    int fd = folder_open_file(&w->stage->dir, f->name, 0, &who, err);
    bool ok = fd >= 0 && (io_identity_equal(&who, &f->who) || changed(f->name, err)) &&
              stage_hold(w->stage, f->name, fd, err);
    io_close(&fd, f->name, NULL);
    return ok;
}

static bool hold_made(struct writer *w, const struct owned *made, struct tp_error *err)
{
    if (!hash_equal(made->id, w->stage->made_hash))
        return changed(BUNDLE_MANIFEST, err);
    if (owned_changed(made))
        return changed(owned_changed(made), err);
    for (uint32_t i = 0; i < made->n_files; i++)
        if (!hold_one(w, &made->files[i], err))
            return false;
    return w->stage->folded || stage_hold_log(w->stage, STAGE_JOURNAL, err);
}

/* Every byte of the source is read again: it is what the manifest says. */
static bool check_source(struct writer *w, const struct bundle *made, const char *advice,
                         struct tp_error *err)
{
    if (!fill(w, true, err) || !source_unchanged(w, true, err) || !identify_bundle(w, err))
        return false;
    if (json_equal(w->bundle.source, made->source))
        return true;
    const json_t *now = json_object_get(w->bundle.source, "tensors"),
                 *then = json_object_get(made->source, "tensors");
    size_t i = 0;
    while (i + 1 < json_array_size(now) &&
           json_equal(json_array_get(now, i), json_array_get(then, i)))
        i++;
    const char *name = json_string_value(json_object_get(json_array_get(now, i), "name"));
    return tp_fail(err, TP_E_CHANGED,
                   "tensor \"%.200s\": changed since the conversion was interrupted; %s",
                   name ? name : "", advice);
}

/* All was made by a run that was killed before it could publish: every byte of it is read again. */
static bool check_made(struct writer *w, struct hash128 *manifest, struct tp_error *err)
{
    struct owned made;
    struct tp_error why = {0};
    const struct place *place = w->stage->place;
    *manifest = w->stage->made_hash;
    begin_phase(w, "checking what was made", 0);
    bool ok = owned_open(&made, &place->parent, place->partial, place->partial_path, &why) ||
              (why.code == TP_E_OUTPUT_EXISTS ? changed(BUNDLE_MANIFEST, err)
                                              : tp_fail(err, why.code, "%s", why.text));
    ok = ok && owned_check(&made, w->request->threads, err) && hold_made(w, &made, err) &&
         check_source(w, &made.bundle, "use --restart", err);
    owned_close(&made);
    return ok;
}

static bool run(struct writer *w, struct tp_error *err)
{
    struct hash128 manifest;
    struct output *o = w->request->output;
    struct tp_error why = {0};
    bool done;
    if (!plan(w, err) || !open_output(w, &done, err))
        return false;
    if (done && !check_source(w, &o->old.bundle, "--force makes it anew", &why)) {
        if (!o->force || why.code != TP_E_CHANGED)
            return tp_fail(err, why.code, "%s", why.text);
        if (!open_output(w, &done, err))
            return false;
    }
    w->fill.bytes_resumed = done || w->stage->made ? w->fill.bytes_total : 0;
    return done || ((w->stage->made ? check_made(w, &manifest, err) : make(w, &manifest, err)) &&
                    output_publish(w->request->output, manifest, err));
}

static struct writer *new_writer(const struct writer_request *request, struct tp_error *err)
{
    struct writer *w = mem_alloc(sizeof *w, err); /* 50 KiB: stacks may be small */
    if (!w)
        return NULL;
    w->request = request;
    w->journal.fd = -1;
    return w;
}

static void free_writer(struct writer *w)
{
    for (uint64_t r = 0; w->fill.files && r < w->request->tp_size; r++) {
        io_close(&w->fill.files[r].direct_fd, w->names[r], NULL);
        io_close(&w->fill.files[r].fd, w->names[r], NULL);
    }
    journal_close(&w->journal);
    for (uint64_t r = 0; w->bundle.plans && r < w->request->tp_size; r++)
        rank_plan_free(&w->bundle.plans[r]);
    json_decref(w->bundle.root);
    json_decref(w->templates);
    mem_arena_free(&w->arena);
    mem_free(w);
}

bool writer_needs(const struct writer_request *request, uint64_t *bytes, struct tp_error *err)
{
    struct writer *w = new_writer(request, err);
    if (!w)
        return false;
    bool ok = plan(w, err);
    *bytes = ok ? disk_of(w) : 0;
    free_writer(w);
    return ok;
}

bool writer_run(const struct writer_request *request, struct tp_error *err)
{
    if (request->selftest && !child_has_tprun(err)) /* not when all has been written */
        return false;
    struct writer *w = new_writer(request, err);
    if (!w)
        return false;
    w->stage = &request->output->stage;
    double start = clock_seconds();
    interrupt_say("%.255s: interrupted, nothing is lost; run the same command again to resume",
                  request->output->place.path);
    bool ok = run(w, err);
    progress_end(&w->progress);
    if (ok) /* a signal has nothing left to interrupt, nor the same command to take up */
        interrupt_off(TP_EXIT_OK);
    /* what an input that cannot be converted leaves is of no use to a later run */
    if (!ok && w->stage->dir.fd >= 0 && tp_code_exit(err->code) == TP_EXIT_INPUT)
        stage_discard(w->stage);
    w->report.bytes_written = w->fill.bytes_total - w->fill.bytes_resumed;
    w->report.bytes_resumed = w->fill.bytes_resumed;
    w->report.seconds = clock_seconds() - start;
    last_report = w->report;
    free_writer(w);
    return ok;
}
