#include "fill.h"

#include "checked.h"
#include "interrupt.h"
#include "jobs.h"
#include "pack.h"
#include "progress.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
    SYNC_RECORDS = 256, /* at most so many between two syncs */
    SYNC_SHARE = 20,    /* and at least so many syncs in a run: a kill loses at most that share */
    SYNC_SHARE_SMALL = 48,  /* the same of less than MUCH_BYTES in all */
    SYNC_BYTES = 256 << 20, /* at most so many, but for one chunk, between two syncs */
    MUCH_BYTES = 256 << 20, /* of output: it pays to have more writes in flight */
    MORE_WRITES = 4,        /* in flight, beside those of 2 workers for each thread */
    PIECES_AHEAD = 2,       /* of the source, prepared before they are needed */
};

enum task_kind { TASK_PREPARE, TASK_CHUNK };
struct task {
    enum task_kind kind;
    uint32_t rank, tensor, part; /* part: piece or chunk */
};

struct state {
    struct fill *fill;
    bool source_only;
    const struct source *source;
    struct jobs jobs;
    struct task *tasks;           /* [jobs.count] */
    uint32_t *first_piece;        /* [n_tensors + 1] */
    _Atomic uint64_t *piece_done; /* 1 when it is prepared, of every piece */
    struct hash128 *pieces;
    bool *piece_known;
    bool **chunk_known; /* [tp_size][n_chunks] */
    uint64_t out_bytes; /* of a worker's memory: a packed chunk; what packs it follows */
    pthread_mutex_t edges[PARTITION_TP_MAX]; /* io_direct's */

    pthread_mutex_t mutex;  /* guards what follows */
    pthread_cond_t changed; /* for the syncing thread */
    pthread_cond_t room;    /* for workers that are too far ahead of it */
    struct journal_record *pending;
    size_t n_pending, pending_cap;
    uint64_t pending_bytes, sync_records, sync_bytes;
    int working; /* workers that have not ended */
    struct mem_arena arena;
};

/* ---- the list of tasks ---- */

static uint64_t count_tasks(const struct state *s, uint32_t n_tensors)
{
    uint64_t n = s->first_piece[n_tensors];
    for (uint64_t r = 0; r < s->fill->request->tp_size; r++)
        n += s->fill->plans[r].n_chunks;
    return n;
}

/* Pieces of the source that a chunk's values come from, by their numbers among all; {0}: none are
 * needed. */
static struct range pieces_of(const struct state *s, uint64_t rank, uint32_t tensor, uint32_t c)
{
    const struct tensor *t = &s->fill->plans[rank].tensors[tensor];
    uint32_t from = tensor - (t->part == PART_SCALE); /* a scale comes of its weight's */
    uint64_t rows = s->source->piece_rows(s->source, from), row = t->own_rows.begin;
    if (!rows)
        return (struct range){0};
    bool vector = t->layout == LAYOUT_VECTOR_F32;
    uint64_t bytes = vector ? 4 : tensor_panel_bytes(t), each = vector ? 1 : PANEL_ROWS;
    uint64_t first = c * t->chunk_bytes / bytes * each,
             end = first + tensor_chunk_bytes(t, c) / bytes * each;
    if (end > range_count(t->own_rows)) /* padding of the last panel */
        end = range_count(t->own_rows);
    return (struct range){s->first_piece[from] + (row + first) / rows,
                          s->first_piece[from] + (row + end - 1) / rows + 1};
}

/* Of the next chunk of each rank the one that needs least of the source; false: there is none. */
static bool next_chunk(const struct state *s, uint32_t tensor, const uint32_t *next, uint64_t *rank)
{
    uint64_t least = UINT64_MAX;
    for (uint64_t r = 0; r < s->fill->request->tp_size; r++)
        if (next[r] < s->fill->plans[r].tensors[tensor].n_chunks) {
            uint64_t need = pieces_of(s, r, tensor, next[r]).end;
            *rank = need < least ? r : *rank;
            least = need < least ? need : least;
        }
    return least != UINT64_MAX;
}

static void add_prepare(struct state *s, uint32_t *tensor, uint64_t *piece, uint64_t end)
{
    uint32_t n_tensors = s->fill->plans[0].n_tensors;
    end = end < s->first_piece[n_tensors] ? end : s->first_piece[n_tensors];
    for (; *piece < end; ++*piece) {
        while (*piece >= s->first_piece[*tensor + 1])
            ++*tensor;
        s->tasks[s->jobs.count++] =
            (struct task){TASK_PREPARE, 0, *tensor, (uint32_t)(*piece - s->first_piece[*tensor])};
    }
}

/* In the order of the source: pieces come a little ahead of the chunks that need them, so that
 * nobody waits for them for long, and they are still in the cache when the chunks are cut. */
static void order_tasks(struct state *s)
{
    uint32_t at = 0;
    uint64_t piece = 0, rank;
    for (uint32_t tensor = 0; !s->source_only && tensor < s->fill->plans[0].n_tensors; tensor++) {
        uint32_t next[PARTITION_TP_MAX] = {0};
        while (next_chunk(s, tensor, next, &rank)) {
            uint64_t end = pieces_of(s, rank, tensor, next[rank]).end;
            add_prepare(s, &at, &piece, end ? end + PIECES_AHEAD : 0);
            s->tasks[s->jobs.count++] =
                (struct task){TASK_CHUNK, (uint32_t)rank, tensor, next[rank]++};
        }
    }
    add_prepare(s, &at, &piece, UINT64_MAX);
}

static bool list_tasks(struct state *s, struct tp_error *err)
{
    uint32_t n_tensors = s->fill->plans[0].n_tensors;
    s->first_piece = mem_arena_alloc(&s->arena, (n_tensors + 1) * sizeof *s->first_piece, err);
    if (!s->first_piece)
        return false;
    for (uint32_t i = 0; i < n_tensors; i++)
        s->first_piece[i + 1] = s->first_piece[i] + source_pieces(s->source, i);
    uint32_t n_pieces = s->first_piece[n_tensors];
    s->piece_done = mem_arena_alloc(&s->arena, n_pieces * sizeof *s->piece_done, err);
    s->pieces = mem_arena_alloc(&s->arena, n_pieces * sizeof *s->pieces, err);
    s->piece_known = mem_arena_alloc(&s->arena, n_pieces, err);
    s->tasks = mem_arena_alloc(&s->arena, count_tasks(s, n_tensors) * sizeof *s->tasks, err);
    if (!s->piece_done || !s->pieces || !s->piece_known || !s->tasks)
        return false;
    order_tasks(s);
    uint64_t total = s->fill->bytes_total,
             share = total < MUCH_BYTES ? SYNC_SHARE_SMALL : SYNC_SHARE;
    s->sync_records = s->jobs.count / share + 1;
    s->sync_records = s->sync_records < SYNC_RECORDS ? s->sync_records : SYNC_RECORDS;
    s->sync_bytes = total / share + 1;
    s->sync_bytes = s->sync_bytes < SYNC_BYTES ? s->sync_bytes : SYNC_BYTES;
    return true;
}

/* All pieces of the source that a chunk comes from are on record. */
static bool source_known(const struct state *s, uint64_t rank, uint32_t tensor, uint32_t c)
{
    struct range pieces = pieces_of(s, rank, tensor, c);
    for (uint64_t i = pieces.begin; i < pieces.end; i++)
        if (!s->piece_known[i])
            return false;
    return true;
}

/* What the journal of an earlier run says is there. Records are within range: the run is the
 * same. */
static bool take_journal(struct state *s, struct tp_error *err)
{
    struct fill *f = s->fill;
    s->chunk_known = mem_arena_alloc(&s->arena, f->request->tp_size * sizeof *s->chunk_known, err);
    for (uint64_t r = 0; s->chunk_known && r < f->request->tp_size; r++)
        if (!(s->chunk_known[r] = mem_arena_alloc(&s->arena, f->plans[r].n_chunks, err)))
            return false;
    if (!s->chunk_known)
        return false;
    for (uint64_t i = 0; i < f->journal->n_found; i++) {
        const struct journal_record *j = &f->journal->records[i];
        if (j->kind == JOURNAL_DIGEST && j->a < f->plans[0].n_tensors &&
            j->b < s->first_piece[j->a + 1] - s->first_piece[j->a]) {
            s->pieces[s->first_piece[j->a] + j->b] = j->hash;
            s->piece_known[s->first_piece[j->a] + j->b] = true;
        } else if (j->kind == JOURNAL_CHUNK && j->a < f->request->tp_size &&
                   j->b < f->plans[j->a].n_tensors &&
                   j->c < f->plans[j->a].tensors[j->b].n_chunks) {
            uint32_t at = f->plans[j->a].tensors[j->b].first_chunk + j->c;
            f->heads[j->a].chunks[at].raw_hash = j->hash;
            s->chunk_known[j->a][at] = source_known(s, j->a, j->b, j->c);
        }
    }
    return true;
}

/* ---- workers ---- */

/* Is there a batch to sync? */
static bool is_due(const struct state *s)
{
    return s->n_pending >= s->sync_records || s->pending_bytes >= s->sync_bytes;
}

/* What is written but not yet synced is what a kill loses: at most one batch beside the one in
 * work. */
static bool push(struct state *s, struct journal_record record, struct tp_error *err)
{
    pthread_mutex_lock(&s->mutex);
    while (is_due(s))
        pthread_cond_wait(&s->room, &s->mutex);
    bool ok =
        mem_grow((void **)&s->pending, &s->pending_cap, s->n_pending + 1, sizeof *s->pending, err);
    if (ok) {
        s->pending[s->n_pending++] = record;
        s->pending_bytes += record.bytes;
        if (is_due(s))
            pthread_cond_signal(&s->changed);
    }
    pthread_mutex_unlock(&s->mutex);
    return ok;
}

static bool do_prepare(struct state *s, const struct task *task, struct tp_error *err)
{
    uint32_t at = s->first_piece[task->tensor] + task->part;
    bool known = s->piece_known[at];
    struct journal_record record = {.kind = JOURNAL_DIGEST, .a = task->tensor, .b = task->part};
    if (!s->source->prepare(s->source, task->tensor, task->part, known, &s->pieces[at], err))
        return false;
    record.hash = s->pieces[at];
    if (!known && !s->source_only && !push(s, record, err))
        return false;
    atomic_store(&s->piece_done[at], 1); /* on record before any of its chunks */
    return true;
}

static bool not_as_made(const struct state *s, const struct task *task, struct tp_error *err)
{
    const struct tensor *t = &s->fill->plans[task->rank].tensors[task->tensor];
    char name[TENSOR_NAME_MAX];
    return tp_fail(
        err, TP_E_CHANGED, "%s: tensor \"%s\": chunk %u: changed since it was made; use --restart",
        s->fill->files[task->rank].path, tensor_name(name, t->role, t->layer, t->part), task->part);
}

static void count_resumed(struct state *s, uint64_t bytes)
{
    atomic_fetch_add(&s->jobs.bytes_done, bytes);
    __atomic_fetch_add(&s->fill->bytes_resumed, bytes, __ATOMIC_RELAXED);
}

/* space: page aligned, the chunk with a page more, then what packing it needs. */
static bool do_chunk(struct state *s, uint64_t job, unsigned char *space, struct tp_error *err)
{
    const struct task *task = &s->tasks[job];
    struct fill *f = s->fill;
    const struct fill_file *file = &f->files[task->rank];
    const struct rank_plan *plan = &f->plans[task->rank];
    const struct tensor *t = &plan->tensors[task->tensor];
    struct chunk *chunk = &f->heads[task->rank].chunks[t->first_chunk + task->part];
    uint64_t bytes = tensor_chunk_bytes(t, task->part);
    uint64_t at = plan->data_offset + t->offset + task->part * t->chunk_bytes;
    unsigned char *out = space + at % IO_DIRECT_ALIGN; /* aligned as in the file */
    bool known = s->chunk_known[task->rank][t->first_chunk + task->part];
    struct hash128 found = {0};
    if (known || !file->writable) {
        if (!io_read_at(file->fd, file->path, out, bytes, at, err))
            return false;
        found = hash_bytes(out, bytes);
    }
    if (known && hash_equal(found, chunk->raw_hash)) {
        count_resumed(s, bytes);
        return true;
    }
    struct range pieces = pieces_of(s, task->rank, task->tensor, task->part);
    for (uint64_t i = pieces.begin; i < pieces.end; i++)
        if (!jobs_await(&s->jobs, job, &s->piece_done[i], 1))
            return true;
    if (!pack_chunk(s->source, plan, task->tensor, task->part, space + s->out_bytes, out,
                    &chunk->raw_hash, err))
        return false;
    if (!file->writable) {
        if (!hash_equal(found, chunk->raw_hash))
            return not_as_made(s, task, err);
        count_resumed(s, bytes);
        return true;
    }
    struct io_direct direct = {file->direct_fd, file->fd, &s->edges[task->rank], file->path};
    if (!io_write_direct(&direct, out, bytes, at, err))
        return false;
    if (file->direct_fd < 0)
        io_write_back(file->fd, at, bytes);
    atomic_fetch_add(&s->jobs.bytes_done, bytes);
    return push(s,
                (struct journal_record){.kind = JOURNAL_CHUNK,
                                        .a = task->rank,
                                        .b = task->tensor,
                                        .c = task->part,
                                        .bytes = bytes,
                                        .hash = chunk->raw_hash},
                err);
}

/* The largest packed chunk of any rank, and what packing needs. */
static void space_bytes(const struct writer_request *request, const struct rank_plan *plans,
                        uint64_t *out_bytes, uint64_t *pack_bytes)
{
    *out_bytes = *pack_bytes = 0;
    for (uint64_t r = 0; r < request->tp_size; r++) {
        *pack_bytes = max_u64(*pack_bytes, pack_space_bytes(request->source, &plans[r]));
        *out_bytes = max_u64(*out_bytes, rank_plan_largest_chunk(&plans[r]));
    }
    *out_bytes = align_up(*out_bytes + IO_DIRECT_ALIGN, 64);
}

uint64_t fill_worker_bytes(const struct writer_request *request, const struct rank_plan *plans)
{
    uint64_t out, pack;
    space_bytes(request, plans, &out, &pack);
    return out + pack;
}

/* While some wait for the disk others pack; more of them keep it busy, where there is much to write
 * and they take no more than half of the memory that tables leave. */
int fill_workers(const struct fill *fill)
{
    const struct writer_request *q = fill->request;
    int least = 2 * q->threads, most = fill->bytes_total < MUCH_BYTES ? least : least + MORE_WRITES;
    uint64_t spare = q->memory > q->tables ? q->memory - q->tables : 0;
    uint64_t half = spare / 2 / fill_worker_bytes(q, fill->plans);
    return half >= (uint64_t)most ? most : half > (uint64_t)least ? (int)half : least;
}

static bool do_task(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct state *s = arg;
    const struct task *task = &s->tasks[job];
    return task->kind == TASK_PREPARE ? do_prepare(s, task, err) : do_chunk(s, job, space, err);
}

/* ---- the syncing thread ---- */

/* Sync the rank files that `records` speak of, then write the records. */
static bool sync_batch(struct state *s, const struct journal_record *records, size_t n,
                       struct tp_error *err)
{
    struct fill *f = s->fill;
    bool touched[PARTITION_TP_MAX] = {0};
    for (size_t i = 0; i < n; i++)
        if (records[i].kind == JOURNAL_CHUNK)
            touched[records[i].a] = true;
    for (uint64_t r = 0; r < f->request->tp_size; r++)
        if (touched[r] && !io_sync(f->files[r].fd, f->files[r].path, err))
            return false;
    return journal_append(f->journal, records, n, err);
}

static void sync_loop(struct state *s)
{
    struct tp_error err = {0};
    struct progress progress;
    const struct writer_request *q = s->fill->request;
    progress_start(&progress, q->quiet ? NULL : q->program,
                   s->source_only ? "reading the source again" : "converting",
                   s->source_only ? 0 : s->fill->bytes_total);
    for (bool last = false; !last;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += PROGRESS_INTERVAL_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&s->mutex);
        while (s->working && !is_due(s) &&
               pthread_cond_timedwait(&s->changed, &s->mutex, &until) == 0)
            ;
        last = s->working == 0;
        bool due = last || is_due(s);
        struct journal_record *records = due ? s->pending : NULL;
        size_t n = due ? s->n_pending : 0;
        if (due) {
            s->pending = NULL;
            s->n_pending = s->pending_cap = 0;
            s->pending_bytes = 0;
            pthread_cond_broadcast(&s->room);
        }
        pthread_mutex_unlock(&s->mutex);
        if (n && !sync_batch(s, records, n, &err))
            jobs_fail(&s->jobs, 0, &err);
        mem_free(records);
        progress_show(&progress, atomic_load(&s->jobs.bytes_done));
    }
    progress_end(&progress);
}

static void thread_main(void *arg, int index, int count)
{
    struct state *s = arg;
    (void)count;
    if (index == 0) {
        sync_loop(s);
        return;
    }
    jobs_work(&s->jobs);
    pthread_mutex_lock(&s->mutex);
    s->working--;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

bool fill_run(struct fill *fill, bool source_only, struct tp_error *err)
{
    struct state s = {.fill = fill, .source_only = source_only, .source = fill->request->source};
    s.working = fill_workers(fill);
    s.jobs = (struct jobs){.run = do_task, .arg = &s};
    space_bytes(fill->request, fill->plans, &s.out_bytes, &s.jobs.space_bytes);
    s.jobs.space_bytes += s.out_bytes;
    jobs_begin(&s.jobs);
    pthread_mutex_init(&s.mutex, NULL);
    pthread_cond_init(&s.changed, NULL);
    pthread_cond_init(&s.room, NULL);
    for (uint64_t r = 0; r < fill->request->tp_size; r++)
        pthread_mutex_init(&s.edges[r], NULL);
    bool ok = list_tasks(&s, err) && take_journal(&s, err) &&
              threads_run(s.working + 1, thread_main, &s, err);
    struct tp_error failed;
    if (!jobs_end(&s.jobs, &failed) && ok) {
        *err = failed;
        ok = false;
    }
    if (ok && interrupt_pending())
        ok = interrupt_fail(err);
    for (uint32_t i = 0; ok && i < fill->plans[0].n_tensors; i++)
        fill->digests[i] =
            hash_of_hashes(s.pieces + s.first_piece[i], s.first_piece[i + 1] - s.first_piece[i]);
    for (uint64_t r = 0; r < fill->request->tp_size; r++)
        pthread_mutex_destroy(&s.edges[r]);
    pthread_mutex_destroy(&s.mutex);
    pthread_cond_destroy(&s.changed);
    pthread_cond_destroy(&s.room);
    mem_free(s.pending);
    mem_arena_free(&s.arena);
    return ok;
}
