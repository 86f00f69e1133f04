/* A bundle in memory: loaded, sealed, written. What is changed in between is forge_change's. */
#include "forge_bundle.h"

#include "../fuzz/reseal.h"
#include "bundle.h"
#include "forge_change.h"
#include "mem.h"
#include <fcntl.h>
#include <unistd.h>

uint64_t forge_next(struct forged *f)
{
    uint64_t z = f->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* ---- loading ---- */

static bool load_file(struct forged_file *file, const char *dir, const char *name,
                      struct tp_error *err)
{
    char path[IO_PATH_MAX], *bytes;
    size_t n;
    snprintf(file->name, sizeof file->name, "%s", name);
    if (!io_join(path, dir, name, err) || !io_read_file(path, UINT64_C(1) << 30, &bytes, &n, err))
        return false;
    file->bytes = (unsigned char *)bytes;
    file->n = n;
    return true;
}

static bool load_list(const char *list, const char *key, const struct forged *f, const char *dir,
                      struct forged_file *files, uint32_t *count, uint32_t most,
                      struct tp_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(f->manifest, list), i, item)
    {
        const char *name = json_string_value(json_object_get(item, key));
        if (i == most || !name || !load_file(&files[i], dir, name, err))
            return false;
        (*count)++;
    }
    return true;
}

bool forge_load(struct forged *f, const char *dir, struct tp_error *err)
{
    struct forged_file text = {0};
    *f = (struct forged){.random = f->random, .kind = "nothing"};
    if (!load_file(&text, dir, BUNDLE_MANIFEST, err))
        return false;
    f->manifest = json_parse(BUNDLE_MANIFEST, (char *)text.bytes, text.n, TP_E_MANIFEST, err);
    mem_free(text.bytes);
    return f->manifest &&
           load_list("ranks", "file", f, dir, f->ranks, &f->n_ranks, FORGE_RANKS_MAX, err) &&
           load_list("files", "name", f, dir, f->files, &f->n_files, FORGE_FILES_MAX, err);
}

void forge_free(struct forged *f)
{
    for (uint32_t i = 0; i < f->n_ranks; i++)
        mem_free(f->ranks[i].bytes);
    for (uint32_t i = 0; i < f->n_files; i++)
        mem_free(f->files[i].bytes);
    json_decref(f->manifest);
    *f = (struct forged){0};
}

/* ---- sealing ---- */

static json_t *hex_of(struct hash128 hash)
{
    char hex[33];
    hash_to_hex(hash, hex);
    return json_string(hex);
}

static void set(json_t *object, const char *key, json_t *value)
{
    if (json_is_object(object) && !forge_is_raw(json_object_get(object, key)))
        json_object_set_new(object, key, value);
    else
        json_decref(value);
}

/* The manifest as text, `raw` in its place, with a digest that is right. */
static char *text_of(const struct forged *f, size_t *n, struct tp_error *err)
{
    static const char end[] = ",\n \"digest\": \"00000000000000000000000000000000\"\n}\n";
    char *plain = json_text(f->manifest, n, err);
    if (!plain)
        return NULL;
    const char *from = f->raw ? strstr(plain, "\"" FORGE_RAW "\"") : NULL;
    size_t before = from ? (size_t)(from - plain) : *n - 2; /* "\n}" */
    const char *instead = from ? f->raw : "";
    size_t skip = from ? sizeof FORGE_RAW + 1 : 0, raw = strlen(instead);
    size_t after = *n - 2 - before - skip;
    char *text = mem_alloc(before + raw + after + sizeof end, err);
    if (text) {
        memcpy(text, plain, before);
        memcpy(text + before, instead, raw);
        memcpy(text + before + raw, plain + before + skip, after);
        memcpy(text + before + raw + after, end, sizeof end);
        *n = before + raw + after + sizeof end - 1;
        reseal_manifest(text, *n);
    }
    mem_free(plain);
    return text;
}

/* The bundle id that the reader would compute, if all else is right. */
static bool seal_id(struct forged *f, struct tp_error *err)
{
    struct bundle bundle = {0};
    struct tp_error why = {0};
    struct hash128 id;
    size_t n;
    char *text = text_of(f, &n, err);
    if (!text)
        return false;
    if (bundle_parse(&bundle, "", BUNDLE_MANIFEST, text, n, &why))
        bundle_close(&bundle);
    else if (reseal_id(text, n, why.text))
        set(f->manifest, "bundle_id", json_stringn(strstr(text, "\"bundle_id\": \"") + 14, 32));
    mem_free(text);
    const char *hex = json_string_value(json_object_get(f->manifest, "bundle_id"));
    for (uint32_t r = 0; hex && hash_from_hex(hex, &id) && r < f->n_ranks; r++)
        if (f->ranks[r].bytes && f->ranks[r].n >= 32)
            memcpy(f->ranks[r].bytes + 16, id.bytes, 16);
    return true;
}

static void seal_files(struct forged *f)
{
    json_t *list = json_object_get(f->manifest, "files");
    for (uint32_t i = 0; i < f->n_files; i++) {
        if (!f->files[i].bytes)
            continue;
        set(json_array_get(list, i), "bytes", json_integer((json_int_t)f->files[i].n));
        set(json_array_get(list, i), "hash", hex_of(hash_bytes(f->files[i].bytes, f->files[i].n)));
    }
}

static void seal_rank(struct forged *f, uint32_t r, struct reseal what)
{
    const struct forged_file *file = &f->ranks[r];
    json_t *entry = json_array_get(json_object_get(f->manifest, "ranks"), r), *tensor;
    size_t i;
    reseal_rank_file(file->bytes, file->n, what);
    if (!forge_chance(f, f->stale))
        set(entry, "bytes", json_integer((json_int_t)file->n));
    if (file->n >= SHARD_HEADER_BYTES && !forge_chance(f, f->stale))
        set(entry, "header_hash", hex_of(hash_bytes(file->bytes, SHARD_HEADER_BYTES)));
    json_array_foreach(json_object_get(entry, "tensors"), i, tensor)
    {
        uint64_t at = SHARD_HEADER_BYTES + i * SHARD_TENSOR_ENTRY + 96;
        if (what.tensors && reseal_in(at, 16, file->n)) {
            struct hash128 hash;
            memcpy(hash.bytes, file->bytes + at, 16);
            set(tensor, "hash", hex_of(hash));
        }
    }
}

bool forge_seal(struct forged *f, char **text, size_t *n, struct tp_error *err)
{
    f->stale = forge_chance(f, 70) ? 0 : 20;
    json_object_del(f->manifest, "digest");
    if (!forge_chance(f, f->stale))
        seal_files(f);
    if (!forge_chance(f, f->stale) && !seal_id(f, err))
        return false;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        struct reseal what = {!forge_chance(f, f->stale), !forge_chance(f, f->stale),
                              !forge_chance(f, f->stale), !forge_chance(f, f->stale)};
        if (f->ranks[r].bytes)
            seal_rank(f, r, what);
    }
    return (*text = text_of(f, n, err)) != NULL;
}

/* ---- writing ---- */

static bool write_file(const char *dir, const char *name, const void *bytes, uint64_t n,
                       struct tp_error *err)
{
    char path[IO_PATH_MAX];
    if (!io_join(path, dir, name, err))
        return false;
    unlink(path);
    if (!bytes)
        return true;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    bool ok = fd >= 0 ? io_write_at(fd, path, bytes, n, 0, err) : tp_fail_errno(err, "%s", path);
    return io_close(&fd, path, ok ? err : NULL) && ok;
}

bool forge_write(const struct forged *f, const char *dir, const char *text, size_t n,
                 struct tp_error *err)
{
    bool ok = write_file(dir, BUNDLE_MANIFEST, text, n, err);
    for (uint32_t i = 0; ok && i < f->n_ranks; i++)
        ok = write_file(dir, f->ranks[i].name, f->ranks[i].bytes, f->ranks[i].n, err);
    for (uint32_t i = 0; ok && i < f->n_files; i++)
        ok = write_file(dir, f->files[i].name, f->files[i].bytes, f->files[i].n, err);
    return ok;
}
