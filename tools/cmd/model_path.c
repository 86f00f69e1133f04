#include "model_path.h"

#include "folder.h"
#include "mem.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && strcasecmp(name + n - k, suffix) == 0;
}

static bool holds(const char *dir, const char *name)
{
    char path[IO_PATH_MAX];
    return io_join(path, dir, name, NULL) && io_exists(path);
}

/* ---- nothing there ---- */

/* OWNER/NAME, as the Hub names models, alone or in an address; its length in *n. NULL: it is
 * none. */
static const char *hub_id(const char *path, size_t *n)
{
    static const char *const hubs[] = {"https://huggingface.co/", "https://hf.co/",
                                       "huggingface.co/", "hf.co/", "hf://"};
    size_t slashes = 0;
    for (size_t i = 0; i < sizeof hubs / sizeof *hubs; i++)
        if (strncmp(path, hubs[i], strlen(hubs[i])) == 0) {
            path += strlen(hubs[i]);
            break;
        }
    if (!isalnum((unsigned char)*path))
        return NULL;
    /* a revision may follow, or a quantization */
    for (*n = 0; path[*n] && !strchr("@:", path[*n]) && (path[*n] != '/' || slashes == 0); ++*n) {
        slashes += path[*n] == '/';
        if (!isalnum((unsigned char)path[*n]) && !strchr("-_./", path[*n]))
            return NULL;
    }
    return slashes == 1 && path[*n - 1] != '/' ? path : NULL;
}

static bool fail_absent(const char *path, struct tp_error *err)
{
    char owner[IO_PATH_MAX];
    size_t n;
    const char *id = hub_id(path, &n);
    snprintf(owner, sizeof owner, "%.*s", (int)strcspn(path, "/"), path);
    if (id && (id != path || (path[n] != '/' && !io_exists(owner))))
        return tp_fail(err, TP_E_IO,
                       "%s: no such folder; if a model of the Hub is meant: hf download %.*s "
                       "--local-dir DIR",
                       path, (int)n, id);
    return tp_fail(err, TP_E_IO, "%s: no such folder", path);
}

/* ---- a file ---- */

static bool fail_gguf(const char *path, struct tp_error *err)
{
    return tp_fail(err, TP_E_UNSUPPORTED,
                   "%s: tpshard reads safetensors, not GGUF: get the original model folder", path);
}

static bool check_file(const char *path, bool bare, struct tp_error *err)
{
    if (ends_in(path, ".gguf"))
        return fail_gguf(path, err);
    if (bare && !ends_in(path, ".safetensors") && !ends_in(path, ".index.json"))
        return true;
    const char *slash = strrchr(path, '/');
    return tp_fail(err, TP_E_CF_FILE, "%s: is no folder; name the one that it is in: %.*s", path,
                   slash > path ? (int)(slash - path) : 1, slash ? path : ".");
}

/* ---- a folder of another kind ---- */

struct search {
    const char *dir;
    uint32_t models; /* folders with a config.json */
    char model[256]; /* the first by name */
    char gguf[256];
};

static void look_at(void *arg, const char *name)
{
    struct search *s = arg;
    char path[IO_PATH_MAX];
    if (ends_in(name, ".gguf"))
        snprintf(s->gguf, sizeof s->gguf, "%s", name);
    if (*name == '.' || !io_join(path, s->dir, name, NULL) || !io_is_dir(path) ||
        !holds(path, "config.json"))
        return;
    if (s->models++ == 0 || strcmp(name, s->model) < 0)
        snprintf(s->model, sizeof s->model, "%s", name);
}

/* What refs/main of a folder of the Hub's cache says, or the one revision there is; "" neither. */
static const char *revision(const char *dir, char buf[256])
{
    char path[IO_PATH_MAX], *text;
    struct search found = {.dir = path};
    size_t n;
    *buf = '\0';
    if (io_join(path, dir, "refs/main", NULL) && io_read_file(path, 255, &text, &n, NULL)) {
        snprintf(buf, 256, "%.*s", (int)strcspn(text, " \r\n"), text);
        mem_free(text);
    }
    if (!io_join(path, dir, "snapshots", NULL) || (*buf && holds(path, buf)))
        return buf;
    *buf = '\0';
    if (folder_list_path(path, look_at, &found, NULL) && found.models == 1)
        snprintf(buf, 256, "%s", found.model);
    return buf;
}

static bool fail_folder(const char *dir, struct tp_error *err)
{
    struct search s = {.dir = dir};
    char rev[256];
    int n = (int)strlen(dir); /* of it as part of a path */
    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (holds(dir, "snapshots") && (holds(dir, "blobs") || holds(dir, "refs")))
        return tp_fail(
            err, TP_E_CF_FILE,
            "%s: is a folder of the Hub's cache; name the model in it: %.*s/snapshots/%s", dir, n,
            dir, *revision(dir, rev) ? rev : "REVISION");
    if (holds(dir, "adapter_config.json") || holds(dir, "adapter_model.safetensors"))
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%s: holds an adapter, no model: merge it into its model with peft's "
                       "merge_and_unload",
                       dir);
    if (!folder_list_path(dir, look_at, &s, err))
        return false;
    if (s.models)
        return tp_fail(err, TP_E_CF_FILE, "%s: no config.json here, but in %s; name %.*s/%s", dir,
                       s.models > 1 ? "folders of it" : "a folder of it", n, dir, s.model);
    if (*s.gguf)
        return fail_gguf(dir, err);
    if (holds(dir, "params.json"))
        return tp_fail(err, TP_E_UNSUPPORTED,
                       "%s: has params.json, the form of the model's makers: get the one of "
                       "transformers, with config.json",
                       dir);
    return tp_fail(err, TP_E_CF_FILE, "%s: no model here: there is no config.json", dir);
}

bool model_path_check(const char *path, bool bare, struct tp_error *err)
{
    if (!io_reachable(path, err))
        return false;
    if (!io_exists(path))
        return fail_absent(path, err);
    if (!io_is_dir(path))
        return check_file(path, bare, err);
    return holds(path, "config.json") || fail_folder(path, err);
}
