#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(IO_PATH_MAX >= PATH_MAX, "realpath writes so much");

static bool unreachable(const char *path, struct tp_error *err)
{
    if (errno == ENOTDIR)
        return tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: a file stands in this path; name another",
                       path);
    return tp_fail_errno(err, "%s", path);
}

/* The folder of a path, and its last name. */
static void split(const char *path, char folder[IO_PATH_MAX], const char **name)
{
    *name = io_base_name(path);
    size_t n = (size_t)(*name - path);
    memcpy(folder, path, n);
    folder[n] = '\0';
    if (n == 0)
        strcpy(folder, ".");
}

/* An absolute path without links, whose last name may be free. */
static bool resolve(const char *given, char real[IO_PATH_MAX], struct tp_error *err)
{
    char at[IO_PATH_MAX], folder[IO_PATH_MAX], link[IO_PATH_MAX];
    const char *name;
    if ((size_t)snprintf(at, sizeof at, "%s", given) >= sizeof at)
        return tp_fail(err, TP_E_LIMIT, "%.200s...: path longer than %d bytes", given, IO_PATH_MAX);
    for (int i = 0; i < PLACE_LINKS_MAX; i++) {
        if (realpath(at, real))
            return true;
        if (errno != ENOENT)
            return unreachable(given, err);
        split(at, folder, &name); /* free, or a link that leads nowhere */
        if (!realpath(folder, real))
            return unreachable(folder, err);
        if (!io_join(folder, real, name, err))
            return false;
        ssize_t n = readlink(folder, link, sizeof link - 1);
        if (n < 0) {
            memcpy(real, folder, IO_PATH_MAX);
            return true;
        }
        link[n] = '\0';
        if (link[0] == '/')
            memcpy(at, link, (size_t)n + 1);
        else if (!io_join(at, real, link, err))
            return false;
    }
    errno = ELOOP;
    return unreachable(given, err);
}

bool place_open(struct place *place, const char *given, struct tp_error *err)
{
    char real[IO_PATH_MAX], folder[IO_PATH_MAX];
    const char *name, *last = io_base_name(given);
    struct stat st;
    *place = (struct place){.parent.fd = -1};
    if (!resolve(given, real, err))
        return false;
    split(real, folder, &name);
    bool elsewhere = strcmp(last, ".") == 0 || strcmp(last, "..") == 0 ||
                     (lstat(given, &st) == 0 && S_ISLNK(st.st_mode));
    memcpy(place->path, elsewhere ? real : given, strlen(elsewhere ? real : given) + 1);
    if (strlen(name) >= sizeof place->name) {
        errno = ENAMETOOLONG;
        return unreachable(place->path, err);
    }
    memcpy(place->name, name, strlen(name) + 1);
    snprintf(place->partial, sizeof place->partial, "%s.partial", name);
    snprintf(place->partial_path, IO_PATH_MAX, "%.*s.partial", IO_PATH_MAX - 16, place->path);
    return folder_open(&place->parent, folder, err) &&
           folder_look(&place->parent, *name ? name : ".", &place->entry, err);
}

bool place_open_folder(struct place *place, const char *given, struct tp_error *err)
{
    char name[IO_PATH_MAX];
    size_t n = strlen(given);
    while (n > 1 && given[n - 1] == '/')
        n--;
    if ((size_t)snprintf(name, sizeof name, "%.*s", (int)n, given) >= sizeof name)
        return tp_fail(err, TP_E_LIMIT, "%.200s...: path longer than %d bytes", given, IO_PATH_MAX);
    return place_open(place, name, err);
}

void place_close(struct place *place)
{
    folder_close(&place->parent);
}

/* The name leads to the input or to a folder around it. *itself: to the input. */
static bool is_around(const struct place *place, const char *name, const char *input, bool *itself)
{
    char at[IO_PATH_MAX];
    struct folder_entry entry;
    struct stat st;
    *itself = true;
    if (!folder_look(&place->parent, name, &entry, NULL) || entry.kind != FOLDER_FOLDER ||
        !realpath(input, at))
        return false;
    for (;;) {
        if (stat(at, &st) == 0 && st.st_dev == entry.who.dev && st.st_ino == entry.who.ino)
            return true;
        *itself = false;
        char *slash = strrchr(at, '/');
        if (!slash || strcmp(at, "/") == 0)
            return false;
        slash[slash == at] = '\0';
    }
}

bool place_check_folder(const struct place *place, const char *input, struct tp_error *err)
{
    bool itself;
    bool root = !*place->name;
    if (!root && folder_is_mount(&place->parent, place->partial))
        return tp_fail(err, TP_E_OUTPUT_EXISTS,
                       "%s: the work is done in %s, which is a mount point; name another",
                       place->path, place->partial_path);
    if (root ||
        (place->entry.kind == FOLDER_FOLDER && folder_is_mount(&place->parent, place->name)))
        return tp_fail(err, TP_E_OUTPUT_EXISTS,
                       "%s: is a mount point, which no folder can replace; name a folder in it",
                       place->path);
    if (place->entry.kind != FOLDER_NOTHING && place->entry.kind != FOLDER_FOLDER)
        return tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: is there and is no folder; name another",
                       place->path);
    if (input && is_around(place, place->name, input, &itself))
        return tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: %s the folder that is read; name another",
                       place->path, itself ? "is" : "holds");
    if (input && is_around(place, place->partial, input, &itself))
        return tp_fail(err, TP_E_OUTPUT_EXISTS,
                       "%s: the work is done in %s, which %s the folder that is read; name another",
                       place->path, place->partial_path, itself ? "is" : "holds");
    return true;
}
