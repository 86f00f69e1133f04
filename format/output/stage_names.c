/* The staging folder: names and proofs, and the files that have them. */
#include "stage_names.h"

#include "output_file.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const folders[STAGE_WHERES] = {
    [STAGE_RAW] = "raw", [STAGE_TEMPLATES] = TEMPLATES_FOLDER};

/* ---- the list ---- */

static uint64_t id_of(const char *name, enum stage_where where)
{
    struct hash_stream stream;
    struct hash128 hash;
    uint64_t id;
    hash_start(&stream);
    if (where != STAGE_TOP) {
        hash_add(&stream, folders[where], strlen(folders[where]));
        hash_add(&stream, "/", 1);
    }
    hash_add(&stream, name, strlen(name));
    hash = hash_end(&stream);
    memcpy(&id, hash.bytes, sizeof id);
    return id;
}

static bool is_listed(const struct stage *s, const char *name, enum stage_where where)
{
    uint64_t id = id_of(name, where);
    for (size_t i = 0; i < s->n_names; i++)
        if (s->names[i].id == id)
            return true;
    return false;
}

static bool add(struct stage *s, const struct stage_name *name, struct tp_error *err)
{
    if (!mem_grow((void **)&s->names, &s->names_cap, s->n_names + 1, sizeof *s->names, err))
        return false;
    s->names[s->n_names++] = *name;
    return true;
}

bool stage_take_names(struct stage *stage, struct tp_error *err)
{
    for (uint64_t i = 0; i < stage->log.n_found; i++) {
        const struct journal_record *r = &stage->log.records[i];
        struct stage_name name = {.id = (uint64_t)r->b << 32 | r->a,
                                  .proof = (enum stage_proof)r->c,
                                  .bytes = r->bytes,
                                  .hash = r->hash};
        if (r->kind == JOURNAL_NAME && !add(stage, &name, err))
            return false;
        if (r->kind == JOURNAL_MADE) {
            stage->made = true;
            stage->made_hash = r->hash;
        }
    }
    return true;
}

static void make_stamp(const struct stage *s, uint64_t id, unsigned char stamp[STAGE_STAMP])
{
    static const char text[] = "tpshard: unfinished file\n";
    memset(stamp, 0, STAGE_STAMP);
    memcpy(stamp, text, sizeof text - 1);
    memcpy(stamp + 32, s->run.bytes, sizeof s->run.bytes);
    memcpy(stamp + 48, &id, sizeof id);
}

static struct stage_name name_of(const struct stage *s, const struct stage_file *file)
{
    unsigned char stamp[STAGE_STAMP];
    struct stage_name name = {.id = id_of(file->name, file->where), .proof = file->proof};
    bool stamped = file->proof == STAGE_STAMPED;
    if (stamped)
        make_stamp(s, name.id, stamp);
    name.bytes = stamped ? sizeof stamp : file->n;
    name.hash = hash_bytes(stamped ? stamp : file->data, name.bytes);
    return name;
}

static bool is_known(const struct stage *s, const struct stage_name *name)
{
    for (size_t i = 0; i < s->n_names; i++)
        if (s->names[i].id == name->id && s->names[i].proof == name->proof &&
            s->names[i].bytes == name->bytes && hash_equal(s->names[i].hash, name->hash))
            return true;
    return false;
}

bool stage_list(struct stage *stage, const struct stage_file *files, uint32_t n,
                struct tp_error *err)
{
    uint64_t fresh = 0;
    struct journal_record *records = mem_array(n, sizeof *records, err);
    bool ok = records != NULL;
    for (uint32_t i = 0; ok && i < n; i++) {
        struct stage_name name = name_of(stage, &files[i]);
        if (is_known(stage, &name))
            continue;
        records[fresh++] = (struct journal_record){.kind = JOURNAL_NAME,
                                                   .a = (uint32_t)name.id,
                                                   .b = (uint32_t)(name.id >> 32),
                                                   .c = name.proof,
                                                   .bytes = name.bytes,
                                                   .hash = name.hash};
        ok = add(stage, &name, err);
    }
    ok = ok && (fresh == 0 || journal_append(&stage->log, records, fresh, err));
    mem_free(records);
    return ok;
}

/* ---- proofs ---- */

static const struct folder *folder_of(const struct stage *s, enum stage_where where)
{
    return where == STAGE_RAW ? &s->raw : where == STAGE_TEMPLATES ? &s->templates : &s->dir;
}

static bool not_ours(const struct stage *s, const char *name, enum stage_where where,
                     struct tp_error *err)
{
    char path[IO_PATH_MAX];
    return tp_fail(err, TP_E_FOREIGN, "%s: was not made by this command; move it away",
                   folder_path(path, folder_of(s, where), name));
}

static bool holds(const struct stage_name *name, const struct io_map *map)
{
    switch (name->proof) {
    case STAGE_LOG:
        return journal_is_journal(map->data, map->size, 0);
    case STAGE_OWN:
        return true;
    case STAGE_FOLDER:
        return false;
    default: /* STAGE_STAMPED, STAGE_HEAD, STAGE_WHOLE */
        return name->bytes <= map->size &&
               (name->proof != STAGE_WHOLE || name->bytes == map->size) &&
               hash_equal(name->hash, hash_bytes(map->data, name->bytes));
    }
}

enum proof { PROOF_NONE, PROOF_STAMPED, PROOF_COMPLETE };

/* What the bytes of a file prove. */
static enum proof proof_of(const struct stage *s, uint64_t id, const struct io_map *map)
{
    enum proof found = PROOF_NONE;
    for (size_t i = 0; i < s->n_names; i++) {
        const struct stage_name *name = &s->names[i];
        if (name->id == id && holds(name, map))
            found = name->proof == STAGE_STAMPED ? PROOF_STAMPED : PROOF_COMPLETE;
    }
    return found;
}

/* A file with another name beside this one may be somebody's. */
static bool has_one_name(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_nlink == 1;
}

/* A file that is there, opened with flags, and what it proves; -1 where it is no file of ours. */
static int open_proven(const struct stage *s, const char *name, enum stage_where where, int flags,
                       struct io_identity *who, struct io_map *map, enum proof *proof,
                       struct tp_error *err)
{
    const struct folder *folder = folder_of(s, where);
    struct folder_entry entry;
    *map = (struct io_map){0};
    if (!folder_look(folder, name, &entry, err))
        return -1;
    if (entry.kind != FOLDER_FILE) {
        not_ours(s, name, where, err);
        return -1;
    }
    int fd = folder_open_file(folder, name, flags, who, err);
    if (fd >= 0 && io_map(fd, name, who->size, map, err)) {
        *proof = proof_of(s, id_of(name, where), map);
        if (*proof != PROOF_NONE && has_one_name(fd))
            return fd;
        not_ours(s, name, where, err);
    }
    io_unmap(map);
    io_close(&fd, name, NULL);
    return -1;
}

static bool check_proven(const struct stage *s, const char *name, enum stage_where where,
                         struct tp_error *err)
{
    struct io_identity who;
    struct io_map map;
    enum proof proof;
    int fd = open_proven(s, name, where, O_RDONLY, &who, &map, &proof, err);
    bool ok = fd >= 0;
    io_unmap(&map);
    io_close(&fd, name, NULL);
    return ok;
}

static bool is_there(const struct stage *s, const char *name, enum stage_where where, bool *there,
                     struct tp_error *err)
{
    struct folder_entry entry = {0};
    bool ok = folder_look(folder_of(s, where), name, &entry, err);
    *there = entry.kind != FOLDER_NOTHING;
    return ok;
}

static void hold(struct stage *s, const char *name, enum stage_where where,
                 const struct io_identity *who, bool grows)
{
    uint64_t id = id_of(name, where);
    for (size_t i = 0; i < s->n_names; i++)
        if (s->names[i].id == id) {
            s->names[i].held = true;
            s->names[i].grows = grows;
            s->names[i].who = *who;
        }
}

static bool hold_file(struct stage *s, const char *name, enum stage_where where, int fd,
                      struct tp_error *err)
{
    char path[IO_PATH_MAX];
    struct io_identity who;
    folder_path(path, folder_of(s, where), name);
    if (!is_listed(s, name, where))
        return not_ours(s, name, where, err);
    if (fchmod(fd, 0666 & ~folder_umask()) != 0)
        return tp_fail_errno(err, "%s: chmod", path);
    if (!io_identify(fd, path, &who, err))
        return false;
    hold(s, name, where, &who, false);
    return true;
}

bool stage_hold(struct stage *stage, const char *name, int fd, struct tp_error *err)
{
    return hold_file(stage, name, STAGE_TOP, fd, err);
}

bool stage_hold_log(struct stage *stage, const char *name, struct tp_error *err)
{
    struct io_identity who;
    struct io_map map;
    enum proof proof;
    int fd = open_proven(stage, name, STAGE_TOP, O_RDONLY, &who, &map, &proof, err);
    if (fd >= 0)
        hold(stage, name, STAGE_TOP, &who, true);
    io_unmap(&map);
    return fd >= 0 && io_close(&fd, name, err);
}

/* ---- files ---- */

static struct folder *inner(struct stage *s, enum stage_where where)
{
    return where == STAGE_RAW ? &s->raw : &s->templates;
}

static bool enter(struct stage *s, enum stage_where where, struct tp_error *err)
{
    struct folder *folder = inner(s, where);
    return folder->fd >= 0 || folder_enter(folder, &s->dir, folders[where], err);
}

bool stage_make_folder(struct stage *stage, enum stage_where where, struct tp_error *err)
{
    const char *name = folders[where];
    struct stage_file file = {.name = name, .proof = STAGE_FOLDER, .data = ""};
    bool there;
    return stage_list(stage, &file, 1, err) && is_there(stage, name, STAGE_TOP, &there, err) &&
           (there || folder_mkdir(&stage->dir, name, err)) && enter(stage, where, err);
}

/* A file of these bytes, which gets its name when it has them; -1 on error. */
static int make_file(struct stage *s, const char *name, enum stage_where where, const void *data,
                     uint64_t n, struct tp_error *err)
{
    const struct folder *folder = folder_of(s, where);
    char temp[OUTPUT_TEMP_MAX], path[IO_PATH_MAX];
    struct stage_file file = {.name = temp, .proof = STAGE_OWN, .data = "", .where = where};
    int fd;
    folder_path(path, folder, name);
    if (!folder_unnamed(folder, &fd, err))
        return -1;
    bool named = fd < 0;
    if (named && output_temp_name(name, temp, err) && stage_list(s, &file, 1, err))
        fd = folder_create(folder, temp, 0600, err);
    if (fd >= 0 && io_write_at(fd, path, data, n, 0, err) && io_sync(fd, path, err) &&
        (named ? folder_move(folder, temp, folder, name, err) : folder_link(folder, fd, name, err)))
        return fd;
    io_close(&fd, path, NULL);
    return -1;
}

int stage_file_open(struct stage *stage, const char *name, enum stage_where where, uint64_t size,
                    enum stage_found *found, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    struct io_identity who = {0};
    struct io_map map = {0};
    enum proof proof = PROOF_STAMPED;
    bool there;
    unsigned char stamp[STAGE_STAMP];
    tp_assert(size >= STAGE_STAMP);
    make_stamp(stage, id_of(name, where), stamp);
    folder_path(path, folder_of(stage, where), name);
    if (!is_there(stage, name, where, &there, err))
        return -1;
    int fd = there ? open_proven(stage, name, where, O_RDWR, &who, &map, &proof, err)
                   : make_file(stage, name, where, stamp, sizeof stamp, err);
    io_unmap(&map);
    *found = !there ? STAGE_MADE : proof == PROOF_COMPLETE ? STAGE_COMPLETE : STAGE_UNFINISHED;
    bool ok = fd >= 0;
    if (ok && (who.size > size || (*found == STAGE_COMPLETE && who.size != size)))
        ok = not_ours(stage, name, where, err);
    if (ok && *found != STAGE_COMPLETE && who.size != size)
        ok = io_reserve(fd, path, size, err);
    if (ok)
        return fd;
    io_close(&fd, path, NULL);
    return -1;
}

bool stage_file_finish(struct stage *stage, const char *name, enum stage_where where, int fd,
                       const unsigned char *head, uint64_t n, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    struct stage_file file = {name, STAGE_HEAD, head, STAGE_STAMP, where};
    folder_path(path, folder_of(stage, where), name);
    return stage_list(stage, &file, 1, err) &&
           io_write_at(fd, path, head + STAGE_STAMP, n - STAGE_STAMP, STAGE_STAMP, err) &&
           io_sync(fd, path, err) && io_write_at(fd, path, head, STAGE_STAMP, 0, err) &&
           io_sync(fd, path, err) && (where == STAGE_RAW || hold_file(stage, name, where, fd, err));
}

static bool put_new(struct stage *s, const char *name, enum stage_where where, const void *data,
                    uint64_t n, struct tp_error *err)
{
    int fd = make_file(s, name, where, data, n, err);
    bool ok = fd >= 0 && (where == STAGE_RAW || hold_file(s, name, where, fd, err));
    return io_close(&fd, name, ok ? err : NULL) && ok;
}

bool stage_put(struct stage *stage, const char *name, enum stage_where where, const void *data,
               uint64_t n, struct tp_error *err)
{
    struct io_identity who;
    struct io_map map;
    enum proof proof;
    bool there;
    if (!is_there(stage, name, where, &there, err))
        return false;
    if (!there)
        return put_new(stage, name, where, data, n, err);
    int fd = open_proven(stage, name, where, O_RDONLY, &who, &map, &proof, err);
    bool ok = fd >= 0;
    bool same = ok && map.size == n && (n == 0 || memcmp(map.data, data, n) == 0);
    io_unmap(&map);
    ok = ok && (!same || where == STAGE_RAW || hold_file(stage, name, where, fd, err));
    ok = io_close(&fd, name, ok ? err : NULL) && ok;
    return ok && (same || (folder_unlink(folder_of(stage, where), name, err) &&
                           put_new(stage, name, where, data, n, err)));
}

bool stage_remove(struct stage *stage, const char *name, enum stage_where where,
                  struct tp_error *err)
{
    bool there;
    if (!is_there(stage, name, where, &there, err))
        return false;
    return !there || (check_proven(stage, name, where, err) &&
                      folder_unlink(folder_of(stage, where), name, err));
}

/* ---- all of them ---- */

typedef bool (*name_fn)(struct stage *s, const char *name, enum stage_where where,
                        struct tp_error *err);

/* What is done with every name of a folder but one; a folder in it is a name of the folder around
 * it. */
static bool each_name(struct stage *s, enum stage_where where, const char *but, name_fn fn,
                      struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names;
    bool ok = folder_read_names(folder_of(s, where), &arena, &names, err);
    for (size_t i = 0; ok && i < names.count; i++)
        if (strcmp(names.list[i], but) != 0)
            ok = fn(s, names.list[i], where, err);
    mem_arena_free(&arena);
    return ok;
}

/* The folder of ours that has this name in the folder where; STAGE_TOP: none. */
static enum stage_where folder_named(const struct stage *s, const char *name,
                                     enum stage_where where)
{
    struct folder_entry entry;
    for (enum stage_where in = STAGE_RAW; where == STAGE_TOP && in < STAGE_WHERES; in++)
        if (strcmp(name, folders[in]) == 0 && is_listed(s, name, STAGE_TOP) &&
            folder_look(&s->dir, name, &entry, NULL) && entry.kind == FOLDER_FOLDER)
            return in;
    return STAGE_TOP;
}

static bool check_one_listed(struct stage *s, const char *name, enum stage_where where,
                             struct tp_error *err)
{
    struct folder_entry entry;
    enum stage_where in = folder_named(s, name, where);
    if (in != STAGE_TOP)
        return enter(s, in, err) && each_name(s, in, "", check_one_listed, err);
    return folder_look(folder_of(s, where), name, &entry, err) &&
           ((entry.kind == FOLDER_FILE && is_listed(s, name, where)) ||
            not_ours(s, name, where, err));
}

bool stage_check_listed(struct stage *stage, struct tp_error *err)
{
    return each_name(stage, STAGE_TOP, stage_log_name(stage), check_one_listed, err);
}

struct held_check {
    const struct stage *stage;
    enum stage_where where;
    struct tp_error *err;
    bool ok;
};

static bool is_held(const struct stage *s, const char *name, enum stage_where where,
                    struct tp_error *err)
{
    uint64_t id = id_of(name, where);
    struct folder_entry entry;
    bool held = false;
    if (!folder_look(folder_of(s, where), name, &entry, err))
        return false;
    for (size_t i = 0; i < s->n_names && !held; i++) {
        const struct stage_name *n = &s->names[i];
        held = n->id == id && n->held && n->who.ino == entry.who.ino &&
               n->who.dev == entry.who.dev && (n->grows || io_identity_equal(&n->who, &entry.who));
    }
    return held || not_ours(s, name, where, err);
}

static void check_one_held(void *arg, const char *name)
{
    struct held_check *c = arg;
    const struct stage *s = c->stage;
    if (!c->ok || (c->where == STAGE_TOP && strcmp(name, stage_log_name(s)) == 0))
        return;
    if (c->where == STAGE_TOP && s->templates.fd >= 0 && strcmp(name, TEMPLATES_FOLDER) == 0 &&
        folder_leads_to(&s->dir, name, s->templates.fd)) {
        struct held_check inside = {s, STAGE_TEMPLATES, c->err, true};
        c->ok = folder_list(&s->templates, check_one_held, &inside, c->err) && inside.ok;
        return;
    }
    c->ok = is_held(s, name, c->where, c->err);
}

bool stage_check_held(const struct stage *stage, struct tp_error *err)
{
    struct held_check check = {stage, STAGE_TOP, err, true};
    return folder_list(&stage->dir, check_one_held, &check, err) && check.ok;
}

static bool check_one_proven(struct stage *s, const char *name, enum stage_where where,
                             struct tp_error *err)
{
    enum stage_where in = folder_named(s, name, where);
    if (in != STAGE_TOP)
        return enter(s, in, err) && each_name(s, in, "", check_one_proven, err);
    return check_proven(s, name, where, err);
}

static bool delete_one(struct stage *s, const char *name, enum stage_where where,
                       struct tp_error *err);

static bool remove_folder(struct stage *s, enum stage_where where, struct tp_error *err)
{
    const char *name = folders[where];
    bool there;
    if (!is_there(s, name, STAGE_TOP, &there, err))
        return false;
    if (!there)
        return true;
    bool ok = enter(s, where, err) && each_name(s, where, "", check_one_proven, err) &&
              each_name(s, where, "", delete_one, err);
    folder_close(inner(s, where));
    return ok && folder_rmdir(&s->dir, name, err);
}

static bool delete_one(struct stage *s, const char *name, enum stage_where where,
                       struct tp_error *err)
{
    enum stage_where in = folder_named(s, name, where);
    return in != STAGE_TOP ? remove_folder(s, in, err) : stage_remove(s, name, where, err);
}

bool stage_remove_raw(struct stage *stage, struct tp_error *err)
{
    return remove_folder(stage, STAGE_RAW, err);
}

bool stage_clear(struct stage *stage, struct tp_error *err)
{
    bool ok = each_name(stage, STAGE_TOP, stage_log_name(stage), check_one_proven, err) &&
              each_name(stage, STAGE_TOP, stage_log_name(stage), delete_one, err);
    if (ok) {
        stage->n_names = 0;
        stage->made = false;
    }
    return ok;
}
