#include "output.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_there(const struct output *o)
{
    return o->place.entry.kind == FOLDER_FOLDER;
}

static bool exists(const struct output *o, struct tp_error *err)
{
    return tp_fail(err, TP_E_OUTPUT_EXISTS,
                   "%s: exists and is not empty; --force replaces the bundle or export in it",
                   o->place.path);
}

/* What is there: nothing, an empty folder, or something that can be replaced. */
static bool read_old(struct output *o, struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names = {0};
    struct folder folder;
    if (!is_there(o))
        return true;
    bool ok = folder_enter(&folder, &o->place.parent, o->place.name, err) &&
              folder_read_names(&folder, &arena, &names, err);
    folder_close(&folder);
    mem_arena_free(&arena);
    return ok && (names.count == 0 ||
                  owned_open(&o->old, &o->place.parent, o->place.name, o->place.path, err));
}

/* A run that published and was killed then left its log. *ours: with the very manifest that is
 * there. */
static bool find_log(const struct output *o, struct folder *folder, struct journal *log,
                     bool *found, bool *ours, struct tp_error *err)
{
    struct hash128 made, id;
    *found = *ours = false;
    *log = (struct journal){.fd = -1};
    folder->fd = -1;
    if (!is_there(o))
        return true;
    if (!folder_enter(folder, &o->place.parent, o->place.name, err) ||
        !stage_find_log(folder, log, found, &made, err))
        return false;
    *ours = *found && owned_id(folder, &id) && hash_equal(id, made);
    return true;
}

/* What is made is read again, and its folder changed, before the command ends. */
static bool umask_is_usable(struct tp_error *err)
{
    return geteuid() == 0 || (folder_umask() & 0700) == 0 ||
           tp_fail(err, TP_E_USAGE, "umask %03o takes what is made from its owner; set another",
                   (unsigned)folder_umask());
}

bool output_decide(struct output *output, const char *path, const char *input, bool force,
                   int threads, struct tp_error *err)
{
    struct folder folder;
    struct journal log;
    bool published, ours;
    *output = (struct output)OUTPUT_CLOSED;
    output->input = input;
    output->force = force;
    output->threads = threads;
    if (!umask_is_usable(err) || !place_open_folder(&output->place, path, err) ||
        !place_check_folder(&output->place, input, err) ||
        !find_log(output, &folder, &log, &published, &ours, err) || !read_old(output, err))
        return false;
    journal_close(&log);
    folder_close(&folder);
    /* a run that published and was killed then may be this one: output_open knows */
    return force || published || output->old.folder.fd < 0 || exists(output, err);
}

void output_close(struct output *output)
{
    stage_close(&output->stage);
    owned_close(&output->old);
    place_close(&output->place);
}

/* ---- the old folder ---- */

/* What is in the old folder and not its own can move to the new one. */
static bool check_movable(const struct output *o, const char *name, struct tp_error *err)
{
    const struct folder *folder = &o->old.folder;
    struct folder_entry entry;
    if (!folder_look(folder, name, &entry, err))
        return false;
    return entry.kind != FOLDER_FOLDER || faccessat(folder->fd, name, W_OK, AT_EACCESS) == 0 ||
           tp_fail(err, TP_E_OUTPUT_EXISTS,
                   "%s/%.255s: would have to move, and may not be written to; move it away",
                   o->place.path, name);
}

static bool check_changeable(const struct output *o, struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names;
    if (faccessat(o->old.folder.fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return tp_fail(
            err, TP_E_OUTPUT_EXISTS,
            "%s: may not be written to, so that it cannot be replaced; name another folder",
            o->place.path);
    bool ok = folder_read_names(&o->old.folder, &arena, &names, err);
    for (size_t i = 0; ok && i < names.count; i++) {
        if (folder_is_mount(&o->old.folder, names.list[i]))
            ok = tp_fail(err, TP_E_OUTPUT_EXISTS,
                         "%s/%.255s: is a mount point, which cannot move; name another folder",
                         o->place.path, names.list[i]);
        ok = ok && (owned_is_ours(&o->old, names.list[i]) || check_movable(o, names.list[i], err));
    }
    mem_arena_free(&arena);
    return ok;
}

/* A name in the old folder that is not as its manifest says, and is to be in the new one too. */
static bool check_clashes(const struct output *o, const char *const *new_names, uint32_t n_new,
                          struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names;
    const char *clash = NULL;
    if (!folder_read_names(&o->old.folder, &arena, &names, err))
        return false;
    for (size_t i = 0; i < names.count && !clash; i++) {
        bool taken = strcmp(names.list[i], STAGE_JOURNAL) == 0;
        for (uint32_t k = 0; k < n_new && !taken; k++)
            taken = strcmp(names.list[i], new_names[k]) == 0;
        if (taken && !owned_is_ours(&o->old, names.list[i]))
            clash = names.list[i];
    }
    if (clash)
        tp_fail(err, TP_E_OUTPUT_EXISTS,
                "%s/%.255s: is not what its manifest says, and the new folder has a file of that "
                "name; move it away",
                o->place.path, clash);
    mem_arena_free(&arena);
    return !clash;
}

struct input_check {
    const struct output *o;
    char old[IO_PATH_MAX]; /* the old folder's path, with "/" */
    struct tp_error *err;
    bool ok;
};

/* A file that is going to be read would go with the old folder: it is a link into it. */
static void check_input(void *arg, const char *name)
{
    struct input_check *check = arg;
    const struct owned *old = &check->o->old;
    char path[IO_PATH_MAX], real[IO_PATH_MAX];
    struct stat st;
    if (!check->ok || !io_join(path, check->o->input, name, NULL) || stat(path, &st) != 0 ||
        !S_ISREG(st.st_mode) || !realpath(path, real))
        return;
    bool in_it = strncmp(real, check->old, strlen(check->old)) == 0;
    for (uint32_t i = 0; i < old->n_files && !in_it; i++) /* by another path, through a mount */
        in_it = st.st_nlink == 1 && old->files[i].who.ino == st.st_ino &&
                old->files[i].who.dev == st.st_dev;
    if (in_it)
        check->ok = tp_fail(check->err, TP_E_OUTPUT_EXISTS,
                            "%s: would be replaced, and %s in it is read; name another folder",
                            check->o->place.path, io_base_name(real));
}

static bool check_inputs(const struct output *o, struct tp_error *err)
{
    struct input_check check = {.o = o, .err = err, .ok = true};
    char path[IO_PATH_MAX];
    return io_join(path, o->place.parent.path, o->place.name, err) &&
           io_join(check.old, path, "", err) &&
           folder_list_path(o->input, check_input, &check, err) && check.ok;
}

/* Move what is not of the old folder's manifest into the new one, delete the rest; the manifest
 * last, so that a tidy that is killed can still tell them apart. */
static bool tidy_names(struct owned *old, const struct folder *published, struct mem_arena *arena,
                       struct tp_error *err)
{
    const char *manifest = old->files[old->n_files - 1].name;
    struct folder_names names;
    if (!folder_read_names(&old->folder, arena, &names, err))
        return false;
    struct tp_error why = {0}; /* the first */
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.list[i];
        if (!owned_is_ours(old, name))
            folder_move(&old->folder, name, published, name, &why);
        else if (strcmp(name, manifest) != 0)
            owned_remove(old, name, &why);
    }
    if (why.code == TP_OK && folder_unlink(&old->folder, manifest, &why))
        return true;
    return tp_fail(
        err, why.code,
        "%s: is the folder that was replaced, and cannot be emptied (%.200s); move away what "
        "is not the bundle's, and run the same command again",
        old->folder.path, why.text);
}

/* room: for its names */
static bool tidy_old(const struct output *o, struct owned *old, const struct folder *published,
                     struct mem_arena *room, struct tp_error *err)
{
    memcpy(old->folder.path, o->place.partial_path, IO_PATH_MAX);
    /* safe before the log goes, which alone knows of it */
    return tidy_names(old, published, room, err) &&
           folder_rmdir(&o->place.parent, o->place.partial, err) &&
           folder_sync(&o->place.parent, err);
}

/* The old folder of a publish that was killed after the exchange: what is at OUTPUT.partial with
 * that manifest. An empty one lacks but its end; of any other nothing is removed. */
static bool find_and_tidy_old(const struct output *o, struct hash128 id,
                              const struct folder *published, struct tp_error *err)
{
    const char *partial = o->place.partial;
    struct folder_entry entry;
    struct owned old;
    struct mem_arena room = {0};
    struct tp_error why = {0};
    if (!folder_look(&o->place.parent, partial, &entry, err))
        return false;
    if (entry.kind != FOLDER_FOLDER || folder_rmdir(&o->place.parent, partial, &why))
        return folder_sync(&o->place.parent, err);
    bool ok = true;
    if (owned_open(&old, &o->place.parent, partial, partial, NULL) && hash_equal(old.id, id))
        ok = owned_check(&old, o->threads, err) && tidy_old(o, &old, published, &room, err);
    mem_arena_free(&room);
    owned_close(&old);
    return ok;
}

/* ---- a publish that was killed ---- */

static bool remove_log(const struct folder *published, const struct journal *log,
                       struct tp_error *err)
{
    if (!folder_leads_to(published, STAGE_JOURNAL, log->fd))
        return tp_fail(err, TP_E_FOREIGN, "%s/%s: is another file than this command's",
                       published->path, STAGE_JOURNAL);
    return folder_unlink(published, STAGE_JOURNAL, err);
}

/* The folder that it was exchanged with, if there was one. */
static const struct journal_record *last_old(const struct journal *log)
{
    const struct journal_record *old = NULL;
    for (uint64_t i = 0; i < log->n_found; i++)
        if (log->records[i].kind == JOURNAL_OLD)
            old = &log->records[i];
    return old && old->a == JOURNAL_NO_OLD ? NULL : old;
}

/* Bring it to its end: the old folder, then the log. Nothing that can fail comes after that: while
 * it is there, the same command finds its own work. */
static bool tidy_published(const struct output *o, const struct folder *published,
                           const struct journal *log, struct tp_error *err)
{
    const struct journal_record *old = last_old(log);
    return (!old || find_and_tidy_old(o, old->hash, published, err)) &&
           remove_log(published, log, err);
}

/* The published folder is what this run made. */
static bool check_published(struct output *o, const struct journal *log,
                            const struct stage_run *run, struct tp_error *err)
{
    if (!stage_inputs_equal(log, run, "--force makes it anew", err) ||
        !owned_check(&o->old, o->threads, err))
        return false;
    const char *changed = owned_changed(&o->old);
    return !changed || tp_fail(err, TP_E_CHANGED,
                               "%s/%s: changed since it was made; move it away, and use --force",
                               o->place.path, changed);
}

/* *done: it was this run, and all is as it should be. Else force alone goes on, or restart over its
 * own. */
static bool finish_published(struct output *o, const struct stage_run *run, bool *done,
                             struct tp_error *err)
{
    struct folder folder;
    struct journal log;
    struct tp_error why = {0};
    bool found, ours, ok = find_log(o, &folder, &log, &found, &ours, err);
    bool same = ok && found && hash_equal(log.records[0].hash, run->hash);
    *done = false;
    if (same && !ours && !o->force)
        ok = tp_fail(err, TP_E_CHANGED,
                     "%s: its manifest is not the one that was made there; move it away",
                     o->place.path);
    if (ok && ours) {
        if (same && !run->restart)
            *done = check_published(o, &log, run, &why);
        ok = tidy_published(o, &folder, &log, err);
        if (ok && !*done && why.code != TP_OK && !o->force)
            ok = tp_fail(err, why.code, "%s", why.text);
    }
    journal_close(&log);
    folder_close(&folder);
    if (!ok || *done || !is_there(o) || o->old.folder.fd < 0)
        return ok;
    return o->force || (same && ours && run->restart) || exists(o, err);
}

/* ---- opening and publishing ---- */

bool output_open(struct output *output, const struct stage_run *run, const char *const *names,
                 uint32_t n_names, uint64_t bytes, bool *done, struct tp_error *err)
{
    struct output *o = output;
    struct tp_error why = {0};
    struct folder folder;
    struct journal log;
    bool found, ours;
    if (!finish_published(o, run, done, err))
        return false;
    if (*done)
        return true;
    if (o->old.folder.fd >= 0 &&
        (!owned_check(&o->old, o->threads, err) || !check_inputs(o, err) ||
         !check_changeable(o, err) || !check_clashes(o, names, n_names, err)))
        return false;
    room_look(&o->room, &o->place, bytes);
    if (!room_check(&o->room, &o->place, err))
        return false;
    if (stage_open(&o->stage, &o->place, run, &why))
        return true;
    if (why.code == TP_E_FOREIGN) { /* or the old folder of somebody who published meanwhile */
        if (find_log(o, &folder, &log, &found, &ours, err) && found)
            tp_fail(err, TP_E_LOCKED,
                    "%s: another command has published here meanwhile; run this one again",
                    o->place.path);
        journal_close(&log);
        folder_close(&folder);
    }
    return tp_fail(err, why.code, "%s", why.text);
}

static bool taken(const struct output *o, struct tp_error *err)
{
    return tp_fail(err, TP_E_OUTPUT_EXISTS,
                   "%s: is another than at the start; everything is made and kept in %s: move the "
                   "other away, and run the same command again",
                   o->place.path, o->place.partial_path);
}

/* Onto a free name, or an empty folder that was there at the start. */
static bool publish_new(struct output *o, struct tp_error *err)
{
    struct tp_error why = {0};
    struct folder_entry now;
    const struct folder *parent = &o->place.parent;
    const char *partial = o->place.partial;
    struct journal_record none = {.kind = JOURNAL_OLD, .a = JOURNAL_NO_OLD};
    bool ok;
    if (!folder_look(parent, o->place.name, &now, err) ||
        (last_old(&o->stage.log) && !journal_append(&o->stage.log, &none, 1, err)))
        return false;
    if (now.kind == FOLDER_FOLDER && is_there(o) && now.who.ino == o->place.entry.who.ino &&
        now.who.dev == o->place.entry.who.dev)
        ok = folder_replace(parent, partial, o->place.name, &why);
    else
        ok = folder_move(parent, partial, parent, o->place.name, &why);
    return ok ||
           (why.code == TP_E_FOREIGN ? taken(o, err) : tp_fail(err, why.code, "%s", why.text));
}

/* In exchange with the old folder, if it is still the one that was read. */
static bool publish_exchange(struct output *o, struct tp_error *err)
{
    const char *partial = o->place.partial;
    struct mem_arena arena = {0};
    struct folder_names names;
    const char *manifest = o->old.files[o->old.n_files - 1].name;
    struct journal_record old = {.kind = JOURNAL_OLD, .hash = o->old.id};
    if (!folder_leads_to(&o->place.parent, o->place.name, o->old.folder.fd) ||
        !owned_is_ours(&o->old, manifest))
        return taken(o, err);
    bool ok = folder_read_names(&o->stage.dir, &arena, &names, err) &&
              check_clashes(o, names.list, (uint32_t)names.count, err);
    mem_arena_free(&arena);
    if (!ok || !journal_append(&o->stage.log, &old, 1, err) ||
        !folder_exchange(&o->place.parent, partial, o->place.name, err))
        return false;
    if (folder_leads_to(&o->place.parent, partial, o->old.folder.fd))
        return true;
    folder_exchange(&o->place.parent, partial, o->place.name, NULL); /* somebody was in between */
    return taken(o, err);
}

static bool publish(struct output *o, struct hash128 manifest, struct mem_arena *room,
                    struct tp_error *err)
{
    const struct folder *parent = &o->place.parent, *dir = &o->stage.dir;
    bool replaces = o->old.folder.fd >= 0;
    if (!mem_held(err) || !stage_set_made(&o->stage, manifest, err) || !stage_seal(&o->stage, err))
        return false;
    if (!folder_leads_to(parent, o->place.partial, dir->fd))
        return tp_fail(err, TP_E_FOREIGN, "%s: is another folder than at the start", dir->path);
    if (!folder_set_mode(dir, 0777 & ~folder_umask(), err) || !folder_sync(dir, err) ||
        !(replaces ? publish_exchange(o, err) : publish_new(o, err))) {
        folder_set_mode(dir, 0700, NULL); /* it is private again */
        return false;
    }
    if (!folder_leads_to(parent, o->place.name, dir->fd))
        return tp_fail(err, TP_E_FOREIGN, "%s: is another folder than the one that was published",
                       o->place.path);
    memcpy(o->stage.dir.path, o->place.path, IO_PATH_MAX);
    return folder_sync(parent, err) && stage_check(&o->stage, err) &&
           (!replaces || tidy_old(o, &o->old, dir, room, err)) &&
           remove_log(dir, &o->stage.log, err);
}

bool output_publish(struct output *output, struct hash128 manifest, struct tp_error *err)
{
    struct mem_arena room = {0}; /* what comes after the exchange finds its memory here */
    bool ok = mem_arena_alloc(&room, 1, err) && publish(output, manifest, &room, err);
    mem_arena_free(&room);
    return ok;
}
