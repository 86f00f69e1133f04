#include "commit.h"

#include "bundle.h"
#include "io.h"
#include <stdio.h>

struct listing {
    const char *from, *to; /* folders */
    const struct bundle *old;
    uint64_t count;
    bool ok;
    struct tp_error *err;
};

static void count_name(void *arg, const char *name)
{
    struct listing *l = arg;
    (void)name;
    l->count++;
}

bool commit_check(const char *output, bool force, struct tp_error *err)
{
    struct listing l = {0};
    if (!io_exists(output) || force)
        return true;
    if (!io_is_dir(output))
        return tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: exists and is no folder", output);
    if (!io_list_dir(output, count_name, &l, err))
        return false;
    return l.count == 0 || tp_fail(err, TP_E_OUTPUT_EXISTS,
                                   "%s: exists and is not empty; --force replaces the bundle in it",
                                   output);
}

static bool is_ours(const struct bundle *old, const char *name)
{
    if (strcmp(name, BUNDLE_MANIFEST) == 0 || bundle_find_file(old, name))
        return true;
    for (uint64_t r = 0; r < old->tp_size; r++) {
        char file[RANK_FILE_NAME_MAX];
        if (strcmp(name, rank_file_name(file, r, old->tp_size)) == 0)
            return true;
    }
    return false;
}

static void tidy_name(void *arg, const char *name)
{
    struct listing *l = arg;
    char from[IO_PATH_MAX], to[IO_PATH_MAX];
    if (!l->ok || (l->old && strcmp(name, BUNDLE_MANIFEST) == 0))
        return;
    l->ok = io_join(from, l->from, name, l->err) && io_join(to, l->to, name, l->err);
    if (l->ok && l->old && is_ours(l->old, name))
        l->ok = io_unlink(from, l->err);
    else if (l->ok && !io_exists(to))
        l->ok = io_rename(from, to, l->err);
}

/* The manifest goes last, so that a tidy that is killed can still tell ours from foreign. */
static bool tidy(const char *partial, const char *output, struct tp_error *err)
{
    struct bundle old;
    struct listing l = {partial, output, NULL, 0, true, err};
    if (bundle_open(&old, partial, false, NULL))
        l.old = &old;
    bool ok = io_list_dir(partial, tidy_name, &l, err) && l.ok;
    if (l.old) {
        char manifest[IO_PATH_MAX];
        ok = ok && io_join(manifest, partial, BUNDLE_MANIFEST, err) && io_unlink(manifest, err);
        bundle_close(&old);
    }
    if (ok && io_is_dir(partial)) {
        struct listing left = {0};
        ok = io_list_dir(partial, count_name, &left, err);
        if (ok && left.count == 0)
            ok = io_rmdir(partial, err);
    }
    return ok;
}

bool commit_tidy(const char *partial, const char *output, struct tp_error *err)
{
    return !io_is_dir(partial) || tidy(partial, output, err);
}

static bool sync_parent(const char *path, struct tp_error *err)
{
    char parent[IO_PATH_MAX];
    snprintf(parent, sizeof parent, "%.*s", (int)(io_base_name(path) - path), path);
    return io_sync_dir(*parent ? parent : ".", err);
}

bool commit_publish(const char *partial, const char *output, struct tp_error *err)
{
    if (!io_sync_dir(partial, err))
        return false;
    if (!io_exists(output))
        return io_rename(partial, output, err) && sync_parent(output, err);
    return io_exchange(partial, output, err) && sync_parent(output, err) &&
           tidy(partial, output, err);
}
