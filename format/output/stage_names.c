/* The staging folder: names and proofs, and the files that have them. */
#include "stage_names.h"

#include "checked.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define RAW "raw"
#define UNFINISHED ".unfinished" /* a small file before it has its name, where it cannot be without one */

/* ---- the list ---- */

static uint64_t id_of(const char *name, bool raw)
{
    struct hash_stream stream;
    struct hash128 hash;
    uint64_t id;
    hash_start(&stream);
    if (raw)
        hash_add(&stream, RAW "/", sizeof RAW);
    hash_add(&stream, name, strlen(name));
    hash = hash_end(&stream);
    memcpy(&id, hash.bytes, sizeof id);
    return id;
}

static bool is_listed(const struct stage *s, uint64_t id)
{
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
                                  .bytes = r->bytes,
                                  .whole = r->c != 0,
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
    struct stage_name name = {.id = id_of(file->name, file->raw)};
    make_stamp(s, name.id, stamp);
    name.bytes = file->data ? file->n : sizeof stamp;
    name.whole = file->data && !file->head;
    name.hash = hash_bytes(file->data ? file->data : stamp, name.bytes);
    return name;
}

static bool same_proof(const struct stage_name *a, const struct stage_name *b)
{
    return a->id == b->id && a->bytes == b->bytes && a->whole == b->whole &&
           hash_equal(a->hash, b->hash);
}

bool stage_list(struct stage *stage, const struct stage_file *files, uint32_t n,
                struct tp_error *err)
{
    uint64_t fresh = 0;
    struct journal_record *records = mem_array(n, sizeof *records, err);
    if (!records)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        struct stage_name name = name_of(stage, &files[i]);
        bool known = false;
        for (size_t j = 0; j < stage->n_names && !known; j++)
            known = same_proof(&stage->names[j], &name);
        if (known)
            continue;
        records[fresh++] = (struct journal_record){.kind = JOURNAL_NAME,
                                                   .a = (uint32_t)name.id,
                                                   .b = (uint32_t)(name.id >> 32),
                                                   .c = name.whole,
                                                   .bytes = name.bytes,
                                                   .hash = name.hash};
        if (!add(stage, &name, err)) {
            mem_free(records);
            return false;
        }
    }
    bool ok = fresh == 0 || journal_append(&stage->log, records, fresh, err);
    mem_free(records);
    return ok;
}

/* ---- proofs ---- */

static const struct folder *folder_of(const struct stage *s, bool raw)
{
    return raw ? &s->raw : &s->dir;
}

static bool not_ours(const struct stage *s, const char *name, bool raw, struct tp_error *err)
{
    char path[IO_PATH_MAX];
    return tp_fail(err, TP_E_FOREIGN, "%s: was not made by this command; move it away",
                   folder_path(path, folder_of(s, raw), name));
}

enum proof { PROOF_NONE, PROOF_BLANK, PROOF_STAMPED, PROOF_COMPLETE };

static bool all_zero(const unsigned char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* What the bytes of a file prove. A stamp is synced before the file grows: a kill or a power cut leaves no more
 * than zeros of its length. */
static enum proof proof_of(const struct stage *s, uint64_t id, const struct io_map *map)
{
    unsigned char stamp[STAGE_STAMP];
    bool complete = false, grows = false;
    make_stamp(s, id, stamp);
    for (size_t i = 0; i < s->n_names; i++) {
        const struct stage_name *name = &s->names[i];
        if (name->id != id)
            continue;
        grows |= !name->whole;
        complete |= name->bytes <= map->size && (!name->whole || name->bytes == map->size) &&
                    hash_equal(name->hash, hash_bytes(map->data, name->bytes));
    }
    if (grows && map->size >= sizeof stamp && memcmp(map->data, stamp, sizeof stamp) == 0)
        return PROOF_STAMPED;
    if (grows && map->size <= sizeof stamp && all_zero(map->data, map->size))
        return PROOF_BLANK;
    return complete ? PROOF_COMPLETE : PROOF_NONE;
}

/* A file that is there, opened with flags, and what it proves; -1 where it is no file of ours. */
static int open_proven(const struct stage *s, const char *name, bool raw, int flags,
                       struct io_identity *who, struct io_map *map, enum proof *proof,
                       struct tp_error *err)
{
    const struct folder *folder = folder_of(s, raw);
    struct folder_entry entry;
    *map = (struct io_map){0};
    if (!folder_look(folder, name, &entry, err))
        return -1;
    if (entry.kind != FOLDER_FILE) {
        not_ours(s, name, raw, err);
        return -1;
    }
    int fd = folder_open_file(folder, name, flags, who, err);
    if (fd >= 0 && io_map(fd, name, who->size, map, err)) {
        *proof = proof_of(s, id_of(name, raw), map);
        if (*proof == PROOF_NONE && !raw && strcmp(name, STAGE_JOURNAL) == 0 &&
            is_listed(s, id_of(name, raw)) && journal_is_torn_run(fd))
            *proof = PROOF_BLANK;
        if (*proof != PROOF_NONE)
            return fd;
        not_ours(s, name, raw, err);
    }
    io_unmap(map);
    io_close(&fd, name, NULL);
    return -1;
}

static bool check_proven(const struct stage *s, const char *name, bool raw, struct tp_error *err)
{
    struct io_identity who;
    struct io_map map;
    enum proof proof;
    int fd = open_proven(s, name, raw, O_RDONLY, &who, &map, &proof, err);
    bool ok = fd >= 0;
    io_unmap(&map);
    io_close(&fd, name, NULL);
    return ok;
}

static bool is_there(const struct stage *s, const char *name, bool raw, bool *there,
                     struct tp_error *err)
{
    struct folder_entry entry = {0};
    bool ok = folder_look(folder_of(s, raw), name, &entry, err);
    *there = entry.kind != FOLDER_NOTHING;
    return ok;
}

static void hold(struct stage *s, const char *name, bool raw, const struct io_identity *who)
{
    uint64_t id = id_of(name, raw);
    for (size_t i = 0; i < s->n_names; i++)
        if (s->names[i].id == id) {
            s->names[i].dev = who->dev;
            s->names[i].ino = who->ino;
        }
}

bool stage_hold(struct stage *stage, const char *name, const struct io_identity *who,
                struct tp_error *err)
{
    hold(stage, name, false, who);
    return is_listed(stage, id_of(name, false)) || not_ours(stage, name, false, err);
}

/* ---- files ---- */

bool stage_make_raw(struct stage *stage, struct tp_error *err)
{
    struct stage_file raw = {.name = RAW, .data = "", .head = true};
    bool there;
    return stage_list(stage, &raw, 1, err) && is_there(stage, RAW, false, &there, err) &&
           (there || folder_mkdir(&stage->dir, RAW, 0700, err)) &&
           folder_enter(&stage->raw, &stage->dir, RAW, err);
}

static bool stamp_file(const struct stage *s, int fd, const char *path, uint64_t id, uint64_t size,
                       struct tp_error *err)
{
    unsigned char stamp[STAGE_STAMP];
    make_stamp(s, id, stamp);
    return io_write_at(fd, path, stamp, sizeof stamp, 0, err) && io_sync(fd, path, err) &&
           io_reserve(fd, path, size, err);
}

int stage_file_open(struct stage *stage, const char *name, bool raw, uint64_t size, bool *stamped,
                    struct tp_error *err)
{
    char path[IO_PATH_MAX];
    struct io_identity who;
    struct io_map map = {0};
    enum proof proof = PROOF_BLANK;
    bool there;
    tp_assert(size >= STAGE_STAMP);
    folder_path(path, folder_of(stage, raw), name);
    if (!is_there(stage, name, raw, &there, err))
        return -1;
    int fd = there ? open_proven(stage, name, raw, O_RDWR, &who, &map, &proof, err)
                   : folder_create(folder_of(stage, raw), name, err);
    bool ok = fd >= 0 && (there || io_identify(fd, path, &who, err));
    io_unmap(&map);
    if (ok && (who.size > size || (proof == PROOF_COMPLETE && who.size != size)))
        ok = not_ours(stage, name, raw, err);
    *stamped = proof != PROOF_COMPLETE;
    if (ok && *stamped && who.size != size)
        ok = stamp_file(stage, fd, path, id_of(name, raw), size, err);
    if (ok) {
        hold(stage, name, raw, &who);
        return fd;
    }
    io_close(&fd, path, NULL);
    return -1;
}

/* It gets its name when it is complete. */
static bool put_new(struct stage *s, const char *name, bool raw, const void *data, uint64_t n,
                    struct tp_error *err)
{
    const struct folder *folder = folder_of(s, raw);
    struct stage_file unfinished = {.name = UNFINISHED, .raw = raw, .data = "", .head = true};
    struct io_identity who;
    int fd;
    if (!folder_unnamed(folder, &fd, err))
        return false;
    bool named = fd < 0;
    if (named && stage_list(s, &unfinished, 1, err) && stage_remove(s, UNFINISHED, raw, err))
        fd = folder_create(folder, UNFINISHED, err);
    bool ok = fd >= 0 && io_write_at(fd, name, data, n, 0, err) && io_sync(fd, name, err) &&
              io_identify(fd, name, &who, err) &&
              (named ? folder_move(folder, UNFINISHED, folder, name, err)
                     : folder_link(folder, fd, name, err));
    ok = io_close(&fd, name, err) && ok;
    if (ok)
        hold(s, name, raw, &who);
    return ok;
}

bool stage_put(struct stage *stage, const char *name, bool raw, const void *data, uint64_t n,
               struct tp_error *err)
{
    struct io_identity who;
    struct io_map map;
    enum proof proof;
    bool there;
    if (!is_there(stage, name, raw, &there, err))
        return false;
    if (!there)
        return put_new(stage, name, raw, data, n, err);
    int fd = open_proven(stage, name, raw, O_RDONLY, &who, &map, &proof, err);
    bool ok = fd >= 0;
    bool same = ok && map.size == n && (n == 0 || memcmp(map.data, data, n) == 0);
    io_unmap(&map);
    ok = io_close(&fd, name, err) && ok;
    if (ok && same)
        hold(stage, name, raw, &who);
    return ok && (same || (folder_unlink(folder_of(stage, raw), name, err) &&
                           put_new(stage, name, raw, data, n, err)));
}

bool stage_remove(struct stage *stage, const char *name, bool raw, struct tp_error *err)
{
    bool there;
    if (!is_there(stage, name, raw, &there, err))
        return false;
    return !there || (check_proven(stage, name, raw, err) &&
                      folder_unlink(folder_of(stage, raw), name, err));
}

/* ---- all of them ---- */

/* What is done with every name of a folder but one; raw/ is a name of the folder around it. */
static bool each_name(struct stage *s, bool raw, const char *but,
                      bool (*fn)(struct stage *s, const char *name, bool raw, struct tp_error *err),
                      struct tp_error *err)
{
    struct mem_arena arena = {0};
    struct folder_names names;
    bool ok = folder_read_names(folder_of(s, raw), &arena, &names, err);
    for (size_t i = 0; ok && i < names.count; i++)
        if (strcmp(names.list[i], but) != 0)
            ok = fn(s, names.list[i], raw, err);
    mem_arena_free(&arena);
    return ok;
}

static bool is_raw_folder(const struct stage *s, const char *name, bool raw)
{
    struct folder_entry entry;
    return !raw && strcmp(name, RAW) == 0 && is_listed(s, id_of(RAW, false)) &&
           folder_look(&s->dir, RAW, &entry, NULL) && entry.kind == FOLDER_FOLDER;
}

static bool enter_raw(struct stage *s, struct tp_error *err)
{
    return s->raw.fd >= 0 || folder_enter(&s->raw, &s->dir, RAW, err);
}

static bool check_one_listed(struct stage *s, const char *name, bool raw, struct tp_error *err)
{
    struct folder_entry entry;
    if (is_raw_folder(s, name, raw))
        return enter_raw(s, err) && each_name(s, true, "", check_one_listed, err);
    return folder_look(folder_of(s, raw), name, &entry, err) &&
           ((entry.kind == FOLDER_FILE && is_listed(s, id_of(name, raw))) ||
            not_ours(s, name, raw, err));
}

bool stage_check_listed(struct stage *stage, struct tp_error *err)
{
    return each_name(stage, false, stage_log_name(stage), check_one_listed, err);
}

static bool check_one_held(struct stage *s, const char *name, bool raw, struct tp_error *err)
{
    uint64_t id = id_of(name, raw);
    struct folder_entry entry;
    if (!folder_look(folder_of(s, raw), name, &entry, err))
        return false;
    for (size_t i = 0; i < s->n_names; i++)
        if (s->names[i].id == id && s->names[i].ino && s->names[i].ino == entry.who.ino &&
            s->names[i].dev == entry.who.dev)
            return true;
    return not_ours(s, name, raw, err);
}

bool stage_check_held(struct stage *stage, struct tp_error *err)
{
    return each_name(stage, false, stage_log_name(stage), check_one_held, err);
}

static bool check_one_proven(struct stage *s, const char *name, bool raw, struct tp_error *err)
{
    if (is_raw_folder(s, name, raw))
        return enter_raw(s, err) && each_name(s, true, "", check_one_proven, err);
    return check_proven(s, name, raw, err);
}

static bool delete_one(struct stage *s, const char *name, bool raw, struct tp_error *err)
{
    if (is_raw_folder(s, name, raw))
        return stage_remove_raw(s, err);
    return stage_remove(s, name, raw, err);
}

bool stage_remove_raw(struct stage *stage, struct tp_error *err)
{
    bool there;
    if (!is_there(stage, RAW, false, &there, err))
        return false;
    if (!there)
        return true;
    bool ok = enter_raw(stage, err) && each_name(stage, true, "", check_one_proven, err) &&
              each_name(stage, true, "", delete_one, err);
    folder_close(&stage->raw);
    return ok && folder_rmdir(&stage->dir, RAW, err);
}

bool stage_clear(struct stage *stage, struct tp_error *err)
{
    bool ok = each_name(stage, false, stage_log_name(stage), check_one_proven, err) &&
              each_name(stage, false, stage_log_name(stage), delete_one, err);
    if (ok) {
        stage->n_names = 0;
        stage->made = false;
    }
    return ok;
}
