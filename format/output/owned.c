#include "owned.h"

#include "jobs.h"
#include "sealed.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char export_format[] = "tpshard export";
static const char templates[] = TEMPLATES_FOLDER "/";
enum { EXPORT_VERSION = 1, EXPORT_MANIFEST_MAX = 16 << 20 };

/* ---- the list ---- */

static void add(struct owned *o, const char *name, uint64_t rank, uint64_t bytes,
                struct hash128 hash)
{
    struct owned_file *f = &o->files[o->n_files++];
    *f = (struct owned_file){.rank = rank, .bytes = bytes, .hash = hash};
    f->template = strncmp(name, templates, sizeof templates - 1) == 0;
    snprintf(f->name, sizeof f->name, "%s", name + (f->template ? sizeof templates - 1 : 0));
}

static bool make_list(struct owned *o, uint64_t most, struct tp_error *err)
{
    o->files = mem_arena_alloc(&o->arena, most * sizeof *o->files, err);
    return o->files != NULL;
}

static bool open_bundle(struct owned *o, struct tp_error *err)
{
    char name[RANK_FILE_NAME_MAX];
    const struct bundle *b = &o->bundle;
    if (!bundle_open(&o->bundle, o->folder.path, false, err) ||
        !make_list(o, b->n_files + b->tp_size + 1, err))
        return false;
    o->id = b->manifest_hash;
    for (uint32_t i = 0; i < b->n_files; i++)
        add(o, b->files[i].name, OWNED_NO_RANK, b->files[i].bytes, b->files[i].hash);
    for (uint64_t r = 0; r < b->tp_size; r++)
        add(o, rank_file_name(name, r, b->tp_size), r, b->ranks[r].file_bytes, (struct hash128){0});
    add(o, BUNDLE_MANIFEST, OWNED_NO_RANK, b->manifest_bytes, o->id);
    return true;
}

static bool read_export(struct owned *o, const struct json_in *top, struct tp_error *err)
{
    const json_t *list;
    const char *format, *name, *hex;
    uint64_t version, bytes;
    struct hash128 hash;
    if (!json_get_string(top, "format", &format, err) ||
        !json_get_u64(top, "version", 0, UINT32_MAX, &version, err) ||
        !json_get_array(top, "files", &list, err))
        return false;
    if (strcmp(format, export_format) != 0 || version != EXPORT_VERSION)
        return tp_fail(err, TP_E_VERSION, "%s: \"%.64s\" %llu, this build reads \"%s\" %d",
                       top->file, format, (unsigned long long)version, export_format,
                       EXPORT_VERSION);
    if (!make_list(o, json_array_size(list) + 1, err))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct json_in in = {json_array_get(list, i), top->file, top->code};
        if (!json_get_string(&in, "name", &name, err) ||
            !json_get_u64(&in, "bytes", 0, INT64_MAX, &bytes, err) ||
            !json_get_string(&in, "hash", &hex, err))
            return false;
        const char *last = strncmp(name, templates, sizeof templates - 1) == 0
                               ? name + sizeof templates - 1
                               : name;
        if (!io_name_is_plain(last, strlen(last)) || !hash_from_hex(hex, &hash))
            return tp_fail(err, top->code, "%s: files: entry %zu is malformed", top->file, i);
        add(o, name, OWNED_NO_RANK, bytes, hash);
    }
    return true;
}

static bool open_export(struct owned *o, struct tp_error *err)
{
    char path[IO_PATH_MAX], *text;
    size_t n;
    folder_path(path, &o->folder, BUNDLE_EXPORT);
    if (!io_read_file(path, EXPORT_MANIFEST_MAX, &text, &n, err))
        return false;
    o->id = hash_bytes(text, n);
    json_t *root =
        sealed_check(path, text, n, err) ? json_parse(path, text, n, TP_E_MANIFEST, err) : NULL;
    struct json_in top = {root, path, TP_E_MANIFEST};
    bool ok = root && read_export(o, &top, err);
    if (ok)
        add(o, BUNDLE_EXPORT, OWNED_NO_RANK, n, o->id);
    json_decref(root);
    mem_free(text);
    return ok;
}

bool owned_open(struct owned *owned, const struct folder *in, const char *name, const char *shown,
                struct tp_error *err)
{
    struct folder_entry bundle, export, sub;
    struct tp_error why = {0};
    *owned = (struct owned)OWNED_CLOSED;
    if (!folder_enter(&owned->folder, in, name, err) ||
        !folder_look(&owned->folder, TEMPLATES_FOLDER, &sub, err) ||
        (sub.kind == FOLDER_FOLDER &&
         !folder_enter(&owned->templates, &owned->folder, TEMPLATES_FOLDER, err)) ||
        !folder_look(&owned->folder, BUNDLE_MANIFEST, &bundle, err) ||
        !folder_look(&owned->folder, BUNDLE_EXPORT, &export, err))
        return false;
    if (bundle.kind == FOLDER_FILE   ? open_bundle(owned, &why)
        : export.kind == FOLDER_FILE ? open_export(owned, &why)
                                     : tp_fail(&why, TP_E_BUNDLE_NONE, "it has no manifest"))
        return true;
    if (why.code == TP_E_MEMORY || why.code == TP_E_IO)
        return tp_fail(err, why.code, "%s", why.text);
    return tp_fail(
        err, TP_E_OUTPUT_EXISTS,
        "%s: is not empty, and no bundle or export that could be replaced (%.300s); name "
        "another folder",
        shown, why.text);
}

void owned_close(struct owned *owned)
{
    folder_close(&owned->templates);
    folder_close(&owned->folder);
    bundle_close(&owned->bundle);
    mem_arena_free(&owned->arena);
    *owned = (struct owned)OWNED_CLOSED;
}

bool owned_id(const struct folder *folder, struct hash128 *id)
{
    struct io_identity who;
    struct io_map map = {0};
    int fd = folder_open_file(folder, BUNDLE_MANIFEST, O_RDONLY, &who, NULL);
    if (fd < 0)
        fd = folder_open_file(folder, BUNDLE_EXPORT, O_RDONLY, &who, NULL);
    bool ok = fd >= 0 && who.size <= BUNDLE_MANIFEST_MAX &&
              io_map(fd, folder->path, who.size, &map, NULL);
    if (ok)
        *id = hash_bytes(map.data, map.size);
    io_unmap(&map);
    io_close(&fd, folder->path, NULL);
    return ok;
}

static const struct folder *folder_of(const struct owned *o, const struct owned_file *f)
{
    return f->template ? &o->templates : &o->folder;
}

static bool is_ours(const struct owned *o, const char *name, bool template)
{
    const struct owned_file *f = NULL;
    struct folder_entry now;
    for (uint32_t i = 0; i < o->n_files && !f; i++)
        if (o->files[i].template == template && strcmp(o->files[i].name, name) == 0)
            f = &o->files[i];
    return f && f->as_named && folder_look(folder_of(o, f), name, &now, NULL) &&
           io_identity_equal(&f->who, &now.who);
}

static bool is_templates(const struct owned *o, const char *name)
{
    return o->templates.fd >= 0 && strcmp(name, TEMPLATES_FOLDER) == 0;
}

struct templates_check {
    const struct owned *owned;
    bool ours;
};

static void check_template(void *arg, const char *name)
{
    struct templates_check *c = arg;
    c->ours = c->ours && is_ours(c->owned, name, true);
}

bool owned_is_ours(const struct owned *owned, const char *name)
{
    struct templates_check check = {owned, false};
    if (!is_templates(owned, name))
        return is_ours(owned, name, false);
    for (uint32_t i = 0; i < owned->n_files && !check.ours; i++)
        check.ours = owned->files[i].template; /* an empty one is what a kill left of it */
    return folder_leads_to(&owned->folder, name, owned->templates.fd) &&
           folder_list(&owned->templates, check_template, &check, NULL) && check.ours;
}

bool owned_remove(const struct owned *owned, const char *name, struct tp_error *err)
{
    if (!is_templates(owned, name))
        return folder_unlink(&owned->folder, name, err);
    for (uint32_t i = 0; i < owned->n_files; i++)
        if (owned->files[i].template && is_ours(owned, owned->files[i].name, true) &&
            !folder_unlink(&owned->templates, owned->files[i].name, err))
            return false;
    return folder_rmdir(&owned->folder, name, err);
}

/* ---- checking ---- */

static bool rank_is_as_named(const struct owned *o, const struct owned_file *f,
                             struct tp_error *err)
{
    const struct rank_plan *plan = &o->bundle.plans[f->rank];
    struct shard shard;
    if (!bundle_open_rank(&o->bundle, f->rank, &shard, err))
        return false;
    bool ok =
        io_identity_equal(&shard.identity, &f->who) && shard_check_padding(&shard, plan, NULL);
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        for (uint32_t c = 0; ok && c < plan->tensors[i].n_chunks; c++)
            ok = shard_check_chunk(&shard, &plan->tensors[i], c, NULL);
    shard_close(&shard);
    return ok;
}

static bool file_is_as_named(const struct owned *o, const struct owned_file *f,
                             struct tp_error *err)
{
    struct io_identity who;
    struct io_map map = {0};
    int fd = folder_open_file(folder_of(o, f), f->name, O_RDONLY, &who, err);
    bool ok = fd >= 0 && who.size == f->bytes && io_identity_equal(&who, &f->who) &&
              io_map(fd, f->name, who.size, &map, err) &&
              hash_equal(hash_bytes(map.data, map.size), f->hash);
    io_unmap(&map);
    io_close(&fd, f->name, NULL);
    return ok;
}

/* What cannot be read says nothing; what is read and is another is somebody's. */
static bool check_file(void *arg, uint64_t job, unsigned char *space, struct tp_error *err)
{
    struct owned *o = arg;
    struct owned_file *f = &o->files[job];
    struct folder_entry entry;
    struct tp_error why = {0};
    (void)space;
    f->as_named = false;
    if (folder_of(o, f)->fd >= 0 && folder_look(folder_of(o, f), f->name, &entry, &why) &&
        entry.kind == FOLDER_FILE) {
        f->who = entry.who;
        f->as_named =
            f->rank == OWNED_NO_RANK ? file_is_as_named(o, f, &why) : rank_is_as_named(o, f, &why);
    }
    return (why.code != TP_E_IO && why.code != TP_E_MEMORY) ||
           tp_fail(err, why.code, "%s", why.text);
}

bool owned_check(struct owned *owned, int threads, struct tp_error *err)
{
    struct jobs jobs = {.count = owned->n_files, .run = check_file, .arg = owned};
    return jobs_run(&jobs, threads, err);
}

const char *owned_changed(const struct owned *owned)
{
    for (uint32_t i = 0; i < owned->n_files; i++)
        if (!owned->files[i].as_named)
            return owned->files[i].name;
    return NULL;
}

/* ---- the manifest of an export ---- */

char *owned_export_text(struct hash128 bundle_id, const struct bundle_file *files, uint32_t n_files,
                        size_t *n, struct tp_error *err)
{
    char hex[33];
    json_t *list = json_array();
    for (uint32_t i = 0; i < n_files; i++) {
        hash_to_hex(files[i].hash, hex);
        json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", files[i].name, "bytes",
                                              (json_int_t)files[i].bytes, "hash", hex));
    }
    hash_to_hex(bundle_id, hex);
    json_t *root = json_pack("{s:s, s:i, s:s, s:o}", "format", export_format, "version",
                             EXPORT_VERSION, "bundle_id", hex, "files", list);
    char *text = root ? sealed_text(root, n, err) : NULL;
    json_decref(root);
    if (!text)
        tp_fail(err, TP_E_MEMORY, "out of memory: %s", BUNDLE_EXPORT);
    return text;
}
