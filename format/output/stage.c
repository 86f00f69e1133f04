/* The staging folder: whose it is. */
#include "stage.h"

#include "stage_names.h"
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STAGE_NAMES "names"

const char *stage_log_name(const struct stage *stage)
{
    return stage->folded ? STAGE_JOURNAL : STAGE_NAMES;
}

static bool foreign(const struct stage *s, const char *what, struct tp_error *err)
{
    return tp_fail(err, TP_E_FOREIGN, "%s: %s; nothing was touched; move it away",
                   s->place->partial_path, what);
}

/* ---- opening and locking ---- */

enum attempt { OPENED, AGAIN, FAILED };

/* What another process did in between is looked at again. */
static enum attempt again_if_taken(const struct tp_error *why, struct tp_error *err)
{
    if (why->code == TP_E_FOREIGN)
        return AGAIN;
    tp_fail(err, why->code, "%s", why->text);
    return FAILED;
}

static enum attempt enter(struct stage *s, struct tp_error *err)
{
    const struct folder *parent = &s->place->parent;
    const char *partial = s->place->partial;
    struct folder_entry entry;
    struct tp_error why = {0};
    if (!folder_look(parent, partial, &entry, err))
        return FAILED;
    bool fresh = entry.kind == FOLDER_NOTHING;
    if (fresh && !folder_mkdir(parent, partial, &why))
        return again_if_taken(&why, err);
    if (!fresh && entry.kind != FOLDER_FOLDER) {
        foreign(s, "is in the way and no folder of ours", err);
        return FAILED;
    }
    if (!fresh && entry.owner != geteuid()) {
        foreign(s, "belongs to another user", err);
        return FAILED;
    }
    if (!folder_enter(&s->dir, parent, partial, err))
        return FAILED;
    memcpy(s->dir.path, s->place->partial_path, IO_PATH_MAX);
    return OPENED;
}

/* The log that is there, or a new one in an empty folder. */
static enum attempt open_log(struct stage *s, struct tp_error *err)
{
    struct folder_entry names, journal;
    struct folder_names all;
    struct mem_arena arena = {0};
    struct tp_error why = {0};
    if (!folder_look(&s->dir, STAGE_NAMES, &names, err) ||
        !folder_look(&s->dir, STAGE_JOURNAL, &journal, err))
        return FAILED;
    s->folded = names.kind == FOLDER_NOTHING && journal.kind == FOLDER_FILE;
    if (names.kind != FOLDER_FILE && !s->folded) {
        bool ok = folder_read_names(&s->dir, &arena, &all, err);
        bool empty = ok && all.count == 0;
        mem_arena_free(&arena);
        if (ok && !empty)
            foreign(s, "is there, and nothing in it says that it was made by this program", err);
        if (!empty)
            return FAILED;
    }
    return journal_open(&s->log, &s->dir, stage_log_name(s), &why) ? OPENED
                                                                   : again_if_taken(&why, err);
}

/* The names still lead to what was opened. */
static bool is_current(const struct stage *s)
{
    return folder_leads_to(&s->place->parent, s->place->partial, s->dir.fd) &&
           folder_leads_to(&s->dir, stage_log_name(s), s->log.fd);
}

static enum attempt try_open(struct stage *s, struct tp_error *err)
{
    enum attempt done = enter(s, err);
    if (done == OPENED)
        done = open_log(s, err);
    if (done == OPENED && !journal_lock(&s->log, err))
        done = FAILED;
    if (done == OPENED && !is_current(s))
        done = AGAIN;
    if (done == AGAIN) { /* a log that was made in a folder that has become another's goes again */
        if (s->log.created && folder_leads_to(&s->dir, stage_log_name(s), s->log.fd))
            folder_unlink(&s->dir, stage_log_name(s), NULL);
        journal_close(&s->log);
        folder_close(&s->dir);
    }
    return done;
}

/* ---- the identity ---- */

static struct journal_record input_record(const struct stage_run *run, uint32_t i)
{
    const struct named_bytes *input = &run->inputs[i];
    struct hash_stream stream;
    hash_start(&stream);
    hash_add(&stream, input->name, strlen(input->name) + 1);
    hash_add(&stream, input->data, input->size);
    return (struct journal_record){.kind = JOURNAL_FILE, .a = i, .hash = hash_end(&stream)};
}

bool stage_inputs_equal(const struct journal *log, const struct stage_run *run, const char *advice,
                        struct tp_error *err)
{
    if (log->records[0].bytes != run->n_inputs)
        return tp_fail(err, TP_E_CHANGED,
                       "%u files to convert, %llu when the conversion was interrupted; %s",
                       run->n_inputs, (unsigned long long)log->records[0].bytes, advice);
    for (uint32_t i = 0; i < run->n_inputs; i++)
        if (!hash_equal(log->records[i + 1].hash, input_record(run, i).hash))
            return tp_fail(err, TP_E_CHANGED,
                           "%s: changed since the conversion was interrupted; %s",
                           run->inputs[i].name, advice);
    return true;
}

static bool has_identity(const struct journal *log)
{
    if (log->n_found == 0 || log->records[0].kind != JOURNAL_RUN ||
        log->records[0].a != JOURNAL_NAMES || log->records[0].bytes > log->n_found - 1)
        return false;
    for (uint64_t i = 1; i <= log->records[0].bytes; i++)
        if (log->records[i].kind != JOURNAL_FILE)
            return false;
    return true;
}

/* The first record alone, then the inputs: what a kill leaves of it can be told. */
static bool write_identity(struct stage *s, const struct stage_run *run, struct tp_error *err)
{
    struct journal_record first = {
        .kind = JOURNAL_RUN, .a = JOURNAL_NAMES, .bytes = run->n_inputs, .hash = run->hash};
    struct journal_record *inputs = mem_array(run->n_inputs, sizeof *inputs, err);
    for (uint32_t i = 0; inputs && i < run->n_inputs; i++)
        inputs[i] = input_record(run, i);
    bool ok = inputs && folder_set_mode(&s->dir, 0700, err) && journal_reset(&s->log, err) &&
              journal_append(&s->log, &first, 1, err) &&
              (run->n_inputs == 0 || journal_append(&s->log, inputs, run->n_inputs, err)) &&
              folder_sync(&s->dir, err) && folder_sync(&s->place->parent, err);
    mem_free(inputs);
    return ok;
}

/* A log that took the name `journal` before it could be published is `names` again. */
static bool unfold(struct stage *s, struct tp_error *err)
{
    if (s->folded && !folder_move(&s->dir, STAGE_JOURNAL, &s->dir, STAGE_NAMES, err))
        return false;
    s->folded = false;
    return true;
}

/* What a kill leaves of an identity: nothing, a part of its first record, or that and some
 * inputs. */
static bool is_unfinished(const struct journal *log)
{
    unsigned char bytes[JOURNAL_RECORD];
    struct io_identity who;
    if (log->n_found)
        return log->records[0].kind == JOURNAL_RUN && log->records[0].a == JOURNAL_NAMES;
    return io_identify(log->fd, log->path, &who, NULL) && who.size <= sizeof bytes &&
           io_read_at(log->fd, log->path, bytes, who.size, 0, NULL) &&
           journal_is_journal(bytes, who.size, JOURNAL_NAMES);
}

/* Without an identity the folder is ours if there is nothing in it but what a kill leaves of
 * one. */
static bool begin_unfinished(struct stage *s, const struct stage_run *run, struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names;
    struct folder_entry entry;
    bool ok = folder_read_names(&s->dir, &arena, &names, err), alone = is_unfinished(&s->log);
    for (size_t i = 0; ok && i < names.count; i++)
        alone &= strcmp(names.list[i], stage_log_name(s)) == 0 ||
                 (strcmp(names.list[i], STAGE_JOURNAL) == 0 &&
                  folder_look(&s->dir, STAGE_JOURNAL, &entry, NULL) && entry.kind == FOLDER_FILE &&
                  entry.who.size == 0);
    if (ok && !alone)
        ok = foreign(s, "is there, and nothing in it says that it was made by this program", err);
    bool empty_journal = ok && !s->folded && names.count == 2;
    mem_arena_free(&arena);
    return ok && unfold(s, err) && (!empty_journal || folder_unlink(&s->dir, STAGE_JOURNAL, err)) &&
           write_identity(s, run, err);
}

bool stage_begin_again(struct stage *stage, const struct stage_run *run, struct tp_error *err)
{
    return stage_clear(stage, err) && unfold(stage, err) && write_identity(stage, run, err);
}

static bool settle(struct stage *s, const struct stage_run *run, struct tp_error *err)
{
    bool anew = run->restart;
    if (!journal_read(&s->log, anew ? NULL : "use --restart to begin anew", err))
        return false;
    if (!has_identity(&s->log) && !(anew && s->log.n_found > s->log.count))
        return begin_unfinished(s, run, err);
    if (!stage_take_names(s, err))
        return false;
    if (anew)
        return stage_begin_again(s, run, err);
    if (!journal_trim(&s->log, err))
        return false;
    if (!hash_equal(s->log.records[0].hash, run->hash))
        return tp_fail(err, TP_E_JOURNAL_OTHER,
                       "%s: holds an unfinished output of another model or other options; finish "
                       "that one, or use --restart",
                       s->dir.path);
    return stage_inputs_equal(&s->log, run, "use --restart", err) && (s->made || unfold(s, err)) &&
           stage_check_listed(s, err) && folder_set_mode(&s->dir, 0700, err);
}

bool stage_open(struct stage *stage, const struct place *place, const struct stage_run *run,
                struct tp_error *err)
{
    enum { TRIES = 20 };
    enum attempt done = AGAIN;
    *stage = (struct stage){STAGE_CLOSED, .place = place, .run = run->hash};
    for (int i = 0; i < TRIES && (done = try_open(stage, err)) == AGAIN; i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    if (done == AGAIN)
        tp_fail(err, TP_E_LOCKED, "%s: another command is at work there", place->partial_path);
    if (done == OPENED && settle(stage, run, err))
        return true;
    stage_close(stage);
    return false;
}

void stage_close(struct stage *stage)
{
    journal_close(&stage->log);
    folder_close(&stage->raw);
    folder_close(&stage->templates);
    folder_close(&stage->dir);
    mem_free(stage->names);
    stage->names = NULL;
}

void stage_discard(struct stage *stage)
{
    if (stage_clear(stage, NULL) && is_current(stage) &&
        folder_unlink(&stage->dir, stage_log_name(stage), NULL))
        folder_rmdir(&stage->place->parent, stage->place->partial, NULL);
}

/* ---- the end ---- */

bool stage_set_made(struct stage *stage, struct hash128 manifest, struct tp_error *err)
{
    struct journal_record record = {.kind = JOURNAL_MADE, .hash = manifest};
    if (stage->templates.fd >= 0 &&
        (!folder_set_mode(&stage->templates, 0777 & ~folder_umask(), err) ||
         !folder_sync(&stage->templates, err)))
        return false;
    return stage->made ||
           (folder_sync(&stage->dir, err) && journal_append(&stage->log, &record, 1, err));
}

bool stage_check(struct stage *stage, struct tp_error *err)
{
    return stage_check_held(stage, err) &&
           (folder_leads_to(&stage->dir, stage_log_name(stage), stage->log.fd) ||
            tp_fail(err, TP_E_FOREIGN, "%s/%s: is another file than this command's",
                    stage->dir.path, stage_log_name(stage)));
}

bool stage_seal(struct stage *stage, struct tp_error *err)
{
    struct folder_entry entry;
    if (!stage_check(stage, err))
        return false;
    if (stage->folded)
        return true;
    if (!folder_look(&stage->dir, STAGE_JOURNAL, &entry, err))
        return false;
    bool ok = entry.kind == FOLDER_NOTHING
                  ? folder_move(&stage->dir, STAGE_NAMES, &stage->dir, STAGE_JOURNAL, err)
                  : folder_replace(&stage->dir, STAGE_NAMES, STAGE_JOURNAL, err);
    stage->folded = ok;
    return ok;
}

/* The log says that all was made. */
static bool read_made(struct journal *log, bool *made, struct hash128 *manifest,
                      struct tp_error *err)
{
    *made = false;
    if (!journal_read(log, NULL, err))
        return false;
    for (uint64_t i = 0; has_identity(log) && i < log->n_found; i++)
        if (log->records[i].kind == JOURNAL_MADE) {
            *made = true;
            *manifest = log->records[i].hash;
        }
    return true;
}

bool stage_find_log(const struct folder *dir, struct journal *log, bool *found,
                    struct hash128 *manifest, struct tp_error *err)
{
    struct folder_entry entry;
    *found = false;
    *log = (struct journal){.fd = -1};
    if (!folder_look(dir, STAGE_JOURNAL, &entry, err))
        return false;
    if (entry.kind != FOLDER_FILE || entry.owner != geteuid())
        return true;
    /* somebody's file is looked at, and no more; ours again, once it is locked */
    bool ok = journal_open(log, dir, STAGE_JOURNAL, err) && read_made(log, found, manifest, err) &&
              (!*found || (journal_lock(log, err) && read_made(log, found, manifest, err)));
    /* tidied by somebody else meanwhile */
    *found = ok && *found && folder_leads_to(dir, STAGE_JOURNAL, log->fd);
    if (!*found)
        journal_close(log);
    return ok;
}
