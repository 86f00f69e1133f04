#include "chat_folder.h"

#include "chat_source.h"
#include "folder.h"
#include "jinja.h"
#include "text.h"
#include "utf8.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct names {
    char **list;
    size_t count, cap;
    struct mem_arena arena;
    struct tp_error *err;
};

static void add_name(void *arg, const char *name)
{
    struct names *names = arg;
    size_t n = strlen(name), end = sizeof CHAT_FOLDER_SUFFIX - 1;
    if (n <= end || !tp_ends_in(name, CHAT_FOLDER_SUFFIX))
        return;
    if (!mem_grow((void **)&names->list, &names->cap, names->count + 1, sizeof *names->list,
                  names->err))
        return;
    names->list[names->count] = mem_arena_copy(&names->arena, name, n - end, names->err);
    names->count += names->list[names->count] != NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Those that are chosen without being named come first. */
static int compare_use(const void *a, const void *b)
{
    static const char *const chosen[] = {"default", "tool_use"};
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++) {
        int of_a = strcmp(*(char *const *)a, chosen[i]) == 0,
            of_b = strcmp(*(char *const *)b, chosen[i]) == 0;
        if (of_a != of_b)
            return of_b - of_a;
    }
    return compare_names(a, b);
}

/* By name, and no more than a bundle takes. */
static bool sort(const char *folder, struct names *names, struct findings *findings,
                 struct tp_error *err)
{
    char cut[TP_NAME_BUF];
    if (names->count > CHAT_TEMPLATES_MAX) {
        qsort(names->list, names->count, sizeof *names->list, compare_use);
        const char *first = names->list[CHAT_TEMPLATES_MAX];
        if (!finding_warn(findings, TP_E_TK_INVALID, err,
                          "%s: %zu templates, at most %d are taken: \"%s\" and those after it by "
                          "name are left out",
                          folder, names->count, CHAT_TEMPLATES_MAX,
                          tp_name_cut(cut, first, strlen(first))))
            return false;
        names->count = CHAT_TEMPLATES_MAX;
    }
    if (names->count)
        qsort(names->list, names->count, sizeof *names->list, compare_names);
    return true;
}

static bool read_one(const char *folder, const char *name, struct findings *findings, json_t *out,
                     struct tp_error *err)
{
    char path[IO_PATH_MAX], file[NAME_MAX + 1], *text = NULL;
    struct tp_error why = {0};
    size_t n = 0;
    snprintf(file, sizeof file, "%s%s", name, CHAT_FOLDER_SUFFIX);
    if (!io_join(path, folder, file, err))
        return false;
    if (!io_read_file(path, JINJA_SOURCE_MAX, &text, &n, &why) && why.code != TP_E_LIMIT)
        return finding_forgive(findings, &why, "it is left out", err);
    json_t *value = text ? json_stringn(text, n) : NULL;
    mem_free(text);
    return json_object_set_new(out, name, value ? value : json_null()) == 0 ||
           tp_fail(err, TP_E_MEMORY, "out of memory: %s", path);
}

static bool read_all(const char *folder, struct names *names, struct findings *findings,
                     json_t *out, struct tp_error *err)
{
    if (!folder_list_path(folder, add_name, names, err) || err->code != TP_OK)
        return false;
    if (!sort(folder, names, findings, err))
        return false;
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->list[i];
        size_t n = strlen(name);
        bool named =
            n <= CHAT_NAME_BYTES_MAX && utf8_is_valid(name, n) && io_name_is_plain(name, n);
        if (!(named ? read_one(folder, name, findings, out, err)
                    : finding_warn(findings, TP_E_TK_INVALID, err,
                                   "%s: \"%s%s\": a plain name of at most %d bytes expected: the "
                                   "template is left out",
                                   folder, name, CHAT_FOLDER_SUFFIX, CHAT_NAME_BYTES_MAX)))
            return false;
    }
    return true;
}

bool chat_folder_read(const char *dir, struct findings *findings, json_t **out,
                      struct tp_error *err)
{
    char path[IO_PATH_MAX];
    struct names names = {.err = err};
    *out = NULL;
    if (!io_join(path, dir, TEMPLATES_FOLDER, err))
        return false;
    if (!io_is_dir(path))
        return true;
    *out = json_object();
    bool ok = read_all(path, &names, findings, *out, err);
    mem_free(names.list);
    mem_arena_free(&names.arena);
    if (!ok) {
        json_decref(*out);
        *out = NULL;
    }
    return ok;
}
