#include "chat_complete.h"

#include "folder.h"
#include "shown.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_MAX = 100, COMMANDS_MAX = 32 };

static size_t alike(const char *a, const char *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static void show(const char *word, const char *const *list, size_t count)
{
    size_t n = strlen(word), shown = 0;
    putchar('\n');
    for (size_t i = 0; i < count; i++)
        if (strncmp(list[i], word, n) == 0 && shown++ < SHOWN_MAX)
            printf("%s  ", list[i]);
    if (shown > SHOWN_MAX)
        printf("and %zu more", shown - SHOWN_MAX);
    putchar('\n');
    fflush(stdout);
}

/* Type how all names go on that begin with word; where they part at once, show them. *only: the one
 * that there is. */
static unsigned char go_on(EditLine *editor, const char *word, const char *const *list,
                           size_t count, const char **only)
{
    char rest[IO_PATH_MAX];
    const char *first = NULL;
    size_t n = strlen(word), found = 0, common = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(list[i], word, n) == 0) {
            common = found++ ? alike(first, list[i], common) : strlen(list[i]);
            first = found == 1 ? list[i] : first;
        }
    while (common > n && (first[common] & 0xc0) == 0x80) /* no half of a character */
        common--;
    *only = found == 1 ? first : NULL;
    if (found > 1 && common == n) {
        show(word, list, count);
        return CC_REDISPLAY;
    }
    if (!found)
        return CC_ERROR;
    snprintf(rest, sizeof rest, "%.*s", (int)(common - n), first + n);
    return el_insertstr(editor, rest) == 0 || !*rest ? CC_REFRESH : CC_ERROR;
}

static unsigned char complete_command(EditLine *editor, const char *word,
                                      const struct chat_command *commands)
{
    const char *list[COMMANDS_MAX] = {0}, *only;
    size_t count = 0;
    for (; commands[count].name; count++) {
        tp_assert(count < COMMANDS_MAX);
        list[count] = commands[count].name;
    }
    unsigned char done = go_on(editor, word, list, count, &only);
    for (size_t i = 0; only && i < count; i++)
        if (list[i] == only && commands[i].takes != CHAT_TAKES_NOTHING)
            el_insertstr(editor, " ");
    return done;
}

/* Hidden ones are asked for; what a terminal cannot show as it is is not typed either. */
static bool is_offered(const char *name, const char *word)
{
    char shown[4 * 256];
    shown_escape(shown, sizeof shown, name, strlen(name));
    return (name[0] != '.' || word[0] == '.') && strcmp(shown, name) == 0;
}

bool chat_path(const char *given, char path[IO_PATH_MAX], struct tp_error *err)
{
    const char *home = getenv("HOME");
    size_t n = strlen(given);
    if (home && strncmp(given, "~/", 2) == 0)
        return io_join(path, home, given + 2, err);
    if (n >= IO_PATH_MAX)
        return tp_fail(err, TP_E_LIMIT, "%.200s...: path longer than %d bytes", given, IO_PATH_MAX);
    memcpy(path, given, n + 1);
    return true;
}

static unsigned char complete_file(EditLine *editor, const char *path)
{
    char dir[IO_PATH_MAX];
    const char *word = io_base_name(path), *only;
    struct folder folder = {.fd = -1};
    struct folder_entry entry;
    struct folder_names names = {0};
    struct mem_arena arena = {0};
    struct tp_error err = {0};
    unsigned char done = CC_ERROR;
    size_t kept = 0;
    snprintf(dir, sizeof dir, "%.*s", (int)(word - path), path);
    if (folder_open(&folder, *dir ? dir : ".", &err) &&
        folder_read_names(&folder, &arena, &names, &err)) {
        for (size_t i = 0; i < names.count; i++)
            if (is_offered(names.list[i], word))
                names.list[kept++] = names.list[i];
        done = go_on(editor, word, names.list, kept, &only);
        if (only && folder_look(&folder, only, &entry, &err) && entry.kind == FOLDER_FOLDER)
            el_insertstr(editor, "/");
    }
    folder_close(&folder);
    mem_arena_free(&arena);
    return done;
}

unsigned char chat_complete(EditLine *editor, const struct chat_command *commands)
{
    const LineInfo *line = el_line(editor);
    char text[IO_PATH_MAX], path[IO_PATH_MAX];
    struct tp_error err = {0};
    size_t n = (size_t)(line->cursor - line->buffer), word = 1;
    if (n >= sizeof text)
        return CC_ERROR;
    memcpy(text, line->buffer, n);
    text[n] = '\0';
    if (text[0] != '/' || text[1] == '/')
        return el_insertstr(editor, "\t") == 0 ? CC_REFRESH : CC_ERROR;
    word += strcspn(text + 1, " ");
    if (word == n)
        return complete_command(editor, text + 1, commands);
    for (const struct chat_command *c = commands; c->name; c++)
        if (c->takes == CHAT_TAKES_FILE && strlen(c->name) == word - 1 &&
            memcmp(c->name, text + 1, word - 1) == 0)
            return chat_path(text + word + strspn(text + word, " "), path, &err)
                       ? complete_file(editor, path)
                       : CC_ERROR;
    return CC_ERROR;
}
