#include "writer.h"

#include "chat_digest.h"
#include "checked.h"
#include "child.h"
#include "commit.h"
#include "fill.h"
#include "progress.h"
#include "squeeze.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define JOURNAL_NAME "journal"
#define RAW_DIR "raw"

struct writer {
    const struct writer_request *request;
    char partial[IO_PATH_MAX]; /* OUTPUT.partial */
    char stage[IO_PATH_MAX];   /* where raw rank files lie: partial, or partial/raw */
    struct journal journal;
    struct bundle bundle;      /* in memory: what the manifest will say */
    json_t *templates;         /* owns bundle.templates */
    struct fill fill;
    struct mem_arena arena;
};

static struct writer_report last_report;

struct writer_report writer_last_report(void)
{
    return last_report;
}

static void on_signal(int sig)
{
    if (atomic_exchange(&fill_interrupted, sig))
        _exit(TP_EXIT_INTERRUPTED);
}

void writer_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- binding the journal to this run ---- */

static struct journal_record input_record(const struct writer_request *request, uint32_t i)
{
    const struct writer_file *input = &request->inputs[i];
    struct hash_stream stream;
    hash_start(&stream);
    hash_add(&stream, input->name, strlen(input->name) + 1);
    hash_add(&stream, input->data, input->size);
    return (struct journal_record){.kind = JOURNAL_FILE, .a = i, .hash = hash_end(&stream)};
}

static bool write_binding(struct writer *w, struct tp_error *err)
{
    struct journal_record run = {.kind = JOURNAL_RUN, .hash = w->request->run};
    if (!journal_reset(&w->journal, err) || !journal_append(&w->journal, &run, 1, err))
        return false;
    for (uint32_t i = 0; i < w->request->n_inputs; i++) {
        struct journal_record record = input_record(w->request, i);
        if (!journal_append(&w->journal, &record, 1, err))
            return false;
    }
    return true;
}

static bool bind(struct writer *w, struct tp_error *err)
{
    const struct journal *j = &w->journal;
    if (w->request->restart || j->n_found <= w->request->n_inputs)
        return write_binding(w, err);
    if (j->records[0].kind != JOURNAL_RUN || !hash_equal(j->records[0].hash, w->request->run))
        return tp_fail(err, TP_E_JOURNAL_OTHER,
                       "%s: holds an unfinished conversion of another model or other options; "
                       "finish that one, or use --restart",
                       w->partial);
    for (uint32_t i = 0; i < w->request->n_inputs; i++)
        if (!hash_equal(j->records[i + 1].hash, input_record(w->request, i).hash))
            return tp_fail(err, TP_E_CHANGED,
                           "%s: changed since the conversion was interrupted; use --restart",
                           w->request->inputs[i].name);
    return true;
}

static bool make_folder(const char *path, struct tp_error *err)
{
    return io_is_dir(path) || io_mkdir(path, err);
}

static bool open_folder(struct writer *w, struct tp_error *err)
{
    char journal[IO_PATH_MAX];
    if (!make_folder(w->partial, err) || !make_folder(w->stage, err) ||
        !io_join(journal, w->partial, JOURNAL_NAME, err))
        return false;
    struct tp_error why = {0};
    if (!journal_open(&w->journal, journal, &why)) {
        if (why.code != TP_E_JOURNAL || !w->request->restart) {
            *err = why;
            return false;
        }
        if (!io_unlink(journal, err) || !journal_open(&w->journal, journal, err))
            return false;
    }
    return bind(w, err);
}

/* ---- travelling files ---- */

static bool add_file(struct writer *w, const char *name, const void *data, uint64_t size,
                     struct tp_error *err)
{
    char path[IO_PATH_MAX];
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
    return io_join(path, w->partial, name, err) && io_write_file(path, data, size, err);
}

/* ---- rank files ---- */

/* Large files go past the page cache, three times as fast; small ones stay in it for who reads them next. */
static bool open_direct(struct writer *w, uint64_t rank, uint64_t size)
{
    if (size >= SHARD_HUGE_FROM)
        w->fill.direct_fds[rank] = io_open_direct(w->fill.paths[rank]);
    return true;
}

static bool open_rank_file(struct writer *w, uint64_t rank, struct tp_error *err)
{
    const struct rank_plan *plan = &w->bundle.plans[rank];
    uint64_t size = plan->data_offset + plan->data_bytes;
    char name[RANK_FILE_NAME_MAX], *path = w->fill.paths[rank];
    struct io_identity who;
    if (!io_join(path, w->stage, rank_file_name(name, rank, w->request->tp_size), err))
        return false;
    if (io_exists(path)) {
        w->fill.fds[rank] = io_open_write(path, err);
        if (w->fill.fds[rank] < 0 || !io_identify(w->fill.fds[rank], path, &who, err))
            return false;
        if (who.size == size)
            return open_direct(w, rank, size);
        if (!io_close(&w->fill.fds[rank], path, err) || !io_unlink(path, err))
            return false;
    }
    w->fill.fds[rank] = io_create(path, err);
    return w->fill.fds[rank] >= 0 && io_reserve(w->fill.fds[rank], path, size, err) &&
           open_direct(w, rank, size);
}

static bool open_rank_files(struct writer *w, struct tp_error *err)
{
    struct fill *f = &w->fill;
    for (uint64_t r = 0; r < w->request->tp_size; r++) {
        struct rank_plan *plan = &w->bundle.plans[r];
        f->heads[r].chunks =
            mem_arena_alloc(&w->arena, plan->n_chunks * sizeof *f->heads[r].chunks, err);
        if (!f->heads[r].chunks || !open_rank_file(w, r, err))
            return false;
        f->bytes_total += plan->data_bytes;
    }
    return true;
}

/* Header and table of a filled raw file. */
static bool finish_rank_file(struct writer *w, uint64_t rank, struct tp_error *err)
{
    const struct rank_plan *plan = &w->bundle.plans[rank];
    struct shard_head *head = &w->fill.heads[rank];
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
    w->bundle.ranks[rank] =
        (struct bundle_rank){plan->data_offset + plan->data_bytes,
                             hash_bytes(bytes, SHARD_HEADER_BYTES)};
    bool ok = io_write_at(w->fill.fds[rank], w->fill.paths[rank], bytes, plan->data_offset, 0, err) &&
              io_sync(w->fill.fds[rank], w->fill.paths[rank], err);
    mem_free(bytes);
    return ok && io_close(&w->fill.direct_fds[rank], w->fill.paths[rank], err) &&
           io_close(&w->fill.fds[rank], w->fill.paths[rank], err);
}

static bool identify_bundle(struct writer *w, struct tp_error *err)
{
    const struct source *source = w->request->source;
    w->bundle.root = source->describe(source, w->fill.digests, err);
    w->bundle.source = w->bundle.root;
    return w->bundle.root && bundle_id_of(&w->bundle, &w->bundle.bundle_id, err);
}

/* ---- selftest, compression, manifest ---- */

static bool write_manifest(struct writer *w, const char *dir, const char *name, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    size_t n;
    char *text = bundle_manifest_text(&w->bundle, w->fill.heads, &n, err);
    bool ok = text && io_join(path, dir, name, err) && io_write_file(path, text, n, err);
    mem_free(text);
    return ok;
}

/* The runtime as a program of its own answers fixed prompts on the raw files; what it says goes along. */
static bool run_selftest(struct writer *w, struct tp_error *err)
{
    char path[IO_PATH_MAX], threads[16], *data;
    size_t n;
    snprintf(threads, sizeof threads, "%d", w->request->threads);
    const char *const arguments[] = {"selftest", "--record", w->stage, "--threads", threads, "-q",
                                     NULL};
    /* Recording reads the rank files alone, raw, wherever they are; the other files lie in w->partial. */
    enum compress compress = w->bundle.compress;
    w->bundle.compress = COMPRESS_NONE;
    bool ok = write_manifest(w, w->stage, BUNDLE_MANIFEST_OPEN, err);
    w->bundle.compress = compress;
    if (!ok || !child_run_tprun(arguments, err) || !io_join(path, w->stage, BUNDLE_SELFTEST, err) ||
        !io_read_file(path, BUNDLE_MANIFEST_MAX, &data, &n, err))
        return false;
    ok = add_file(w, BUNDLE_SELFTEST, data, n, err);
    mem_free(data);
    return ok && io_join(path, w->stage, BUNDLE_MANIFEST_OPEN, err) && io_unlink(path, err);
}

static bool squeeze_all(struct writer *w, struct tp_error *err)
{
    for (uint64_t r = 0; r < w->request->tp_size; r++) {
        char path[IO_PATH_MAX], name[RANK_FILE_NAME_MAX];
        unsigned char header[SHARD_HEADER_BYTES];
        if (!io_join(path, w->partial, rank_file_name(name, r, w->request->tp_size), err) ||
            !squeeze_rank(w->fill.paths[r], path, &w->bundle.model, &w->bundle.plans[r],
                          &w->fill.heads[r], w->request->threads, &w->bundle.ranks[r].file_bytes,
                          err))
            return false;
        int fd = io_open_read(path, NULL, err);
        bool ok = fd >= 0 && io_read_at(fd, path, header, sizeof header, 0, err);
        ok = io_close(&fd, path, err) && ok;
        if (!ok)
            return false;
        w->bundle.ranks[r].head_hash = hash_bytes(header, sizeof header);
    }
    return true;
}

struct removal {
    const char *dir;
    bool ok;
    struct tp_error *err;
};

static void remove_name(void *arg, const char *name)
{
    struct removal *r = arg;
    char path[IO_PATH_MAX];
    r->ok = r->ok && io_join(path, r->dir, name, r->err) && io_unlink(path, r->err);
}

/* The manifest stands: what only served the making goes, then the folder takes its name. The journal goes
 * last, and nothing that can fail comes after it: while it is there, the same command finds its own work. */
static bool publish(struct writer *w, struct tp_error *err)
{
    char raw[IO_PATH_MAX], journal[IO_PATH_MAX];
    struct removal removal = {raw, true, err};
    if (!io_join(raw, w->partial, RAW_DIR, err))
        return false;
    if (io_is_dir(raw) &&
        (!io_list_dir(raw, remove_name, &removal, err) || !removal.ok || !io_rmdir(raw, err)))
        return false;
    return commit_publish(w->partial, w->request->output, err) &&
           io_join(journal, w->request->output, JOURNAL_NAME, err) && io_unlink(journal, err);
}

/* ---- the run ---- */

static bool plan_ranks(struct writer *w, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    struct fill *f = &w->fill;
    w->bundle.model = *q->source->model;
    w->bundle.recipe = q->source->recipe;
    w->bundle.compress = q->compress;
    w->bundle.tp_size = q->tp_size;
    w->bundle.ranks = mem_arena_alloc(&w->arena, q->tp_size * sizeof *w->bundle.ranks, err);
    w->bundle.plans = mem_arena_alloc(&w->arena, q->tp_size * sizeof *w->bundle.plans, err);
    f->heads = mem_arena_alloc(&w->arena, q->tp_size * sizeof *f->heads, err);
    f->fds = mem_arena_alloc(&w->arena, q->tp_size * sizeof *f->fds, err);
    f->direct_fds = mem_arena_alloc(&w->arena, q->tp_size * sizeof *f->direct_fds, err);
    f->paths = mem_arena_alloc(&w->arena, q->tp_size * sizeof *f->paths, err);
    f->digests = mem_arena_alloc(&w->arena, q->source->whole->n_tensors * sizeof *f->digests, err);
    if (!w->bundle.ranks || !w->bundle.plans || !f->heads || !f->fds || !f->direct_fds ||
        !f->paths || !f->digests)
        return false;
    for (uint64_t r = 0; r < q->tp_size; r++)
        f->fds[r] = f->direct_fds[r] = -1;
    for (uint64_t r = 0; r < q->tp_size; r++)
        if (!rank_plan_build(&w->bundle.model, w->bundle.recipe, q->tp_size, r,
                             &w->bundle.plans[r], err))
            return false;
    f->plans = w->bundle.plans;
    f->request = q;
    f->journal = &w->journal;
    return true;
}

static bool check_memory(const struct writer *w, struct tp_error *err)
{
    uint64_t need = fill_worker_bytes(w->request, w->bundle.plans) *
                    (uint64_t)fill_workers(w->request);
    for (uint64_t r = 0; w->request->compress && r < w->request->tp_size; r++) {
        uint64_t n = squeeze_worker_bytes(&w->bundle.plans[r]) * (uint64_t)w->request->threads;
        need = n > need ? n : need;
    }
    return need <= w->request->memory ||
           tp_fail(err, TP_E_LIMIT,
                   "--mem %llu: %d threads need %llu bytes of buffers; allow more, or fewer threads",
                   (unsigned long long)w->request->memory, w->request->threads,
                   (unsigned long long)need);
}

static bool make(struct writer *w, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    if (!open_rank_files(w, err) || !fill_run(&w->fill, err) ||
        !q->source->unchanged(q->source, err))
        return false;
    for (uint32_t i = 0; i < q->n_files; i++)
        if (!add_file(w, q->files[i].name, q->files[i].data, q->files[i].size, err))
            return false;
    if (!identify_bundle(w, err))
        return false;
    for (uint64_t r = 0; r < q->tp_size; r++)
        if (!finish_rank_file(w, r, err))
            return false;
    return (!q->selftest || run_selftest(w, err)) &&
           (q->compress == COMPRESS_NONE || squeeze_all(w, err)) &&
           write_manifest(w, w->partial, BUNDLE_MANIFEST, err);
}

/* An output that still holds the journal of this very run: published, but not tidied. */
static bool finish_published(struct writer *w, bool *done, struct tp_error *err)
{
    char journal[IO_PATH_MAX];
    *done = false;
    if (!io_join(journal, w->request->output, JOURNAL_NAME, err))
        return false;
    if (!io_exists(journal))
        return true;
    struct journal j;
    if (!journal_open(&j, journal, err))
        return false;
    *done = j.n_found && hash_equal(j.records[0].hash, w->request->run);
    journal_close(&j);
    return !*done || (commit_tidy(w->partial, w->request->output, err) && io_unlink(journal, err));
}

static bool run(struct writer *w, struct tp_error *err)
{
    const struct writer_request *q = w->request;
    char manifest[IO_PATH_MAX];
    bool done;
    if (snprintf(w->partial, sizeof w->partial, "%s.partial", q->output) >= (int)sizeof w->partial)
        return tp_fail(err, TP_E_LIMIT, "%.200s: path too long", q->output);
    if (!io_join(w->stage, w->partial, q->compress ? RAW_DIR : ".", err) ||
        !finish_published(w, &done, err))
        return false;
    if (done)
        return true;
    if (!commit_check(q->output, q->force, err) || !plan_ranks(w, err) || !check_memory(w, err) ||
        !open_folder(w, err) || !io_join(manifest, w->partial, BUNDLE_MANIFEST, err))
        return false;
    if (io_exists(manifest) && q->restart && !io_unlink(manifest, err))
        return false;
    return (io_exists(manifest) || make(w, err)) && publish(w, err);
}

static void remove_quietly(const char *dir, const char *name)
{
    char path[IO_PATH_MAX];
    if (io_join(path, dir, name, NULL) && io_exists(path))
        io_unlink(path, NULL);
}

/* What an input that cannot be converted leaves is of no use to a later run: our files of it go. */
static void discard(struct writer *w)
{
    for (uint64_t r = 0; r < w->request->tp_size; r++) {
        char name[RANK_FILE_NAME_MAX];
        remove_quietly(w->stage, rank_file_name(name, r, w->request->tp_size));
    }
    for (uint32_t i = 0; i < w->bundle.n_files; i++)
        remove_quietly(w->partial, w->bundle.files[i].name);
    remove_quietly(w->partial, JOURNAL_NAME);
    if (w->request->compress)
        io_rmdir(w->stage, NULL);
    io_rmdir(w->partial, NULL);
}

bool writer_run(const struct writer_request *request, struct tp_error *err)
{
    struct writer w = {.request = request, .journal = {.fd = -1}};
    double start = progress_now();
    bool ok = run(&w, err);
    if (!ok && w.journal.fd >= 0 && tp_code_exit(err->code) == TP_EXIT_INPUT)
        discard(&w);
    last_report = (struct writer_report){w.fill.bytes_total - w.fill.bytes_resumed,
                                         w.fill.bytes_resumed, progress_now() - start};
    for (uint64_t r = 0; w.fill.paths && r < request->tp_size; r++) {
        io_close(&w.fill.direct_fds[r], w.fill.paths[r], NULL);
        io_close(&w.fill.fds[r], w.fill.paths[r], NULL);
    }
    for (uint64_t r = 0; w.bundle.plans && r < request->tp_size; r++)
        rank_plan_free(&w.bundle.plans[r]);
    json_decref(w.bundle.root);
    json_decref(w.templates);
    journal_close(&w.journal);
    mem_arena_free(&w.arena);
    return ok;
}
