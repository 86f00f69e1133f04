#include "chat_input.h"

#include "mem.h"
#include "output_file.h"
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HISTORY_LINES = 1000,
    HISTORY_BYTES_MAX = 64 << 20,
    MESSAGE_BYTES_MAX = 64 << 20,
    EDITOR_BYTES = 1 << 20
};
static const char quotes[] = "\"\"\"";
enum { QUOTES = 3 };

/* ---- the terminal ---- */

static char *prompt(EditLine *editor)
{
    static char first[] = "> ", next[] = "| ";
    struct chat_input *input;
    el_get(editor, EL_CLIENTDATA, &input);
    return input->continued ? next : first;
}

/* Keys come as characters while a line is edited, these among them. */
static unsigned char cancel(EditLine *editor, int key)
{
    struct chat_input *input;
    const LineInfo *line = el_line(editor);
    (void)key;
    el_get(editor, EL_CLIENTDATA, &input);
    input->cancelled = true;
    input->empty = line->buffer == line->lastchar && !input->continued;
    return CC_NEWLINE;
}

static unsigned char complete(EditLine *editor, int key)
{
    struct chat_input *input;
    (void)key;
    el_get(editor, EL_CLIENTDATA, &input);
    return chat_complete(editor, input->commands);
}

static unsigned char suspend(EditLine *editor, int key)
{
    (void)key;
    el_set(editor, EL_PREP_TERM, 0);
    raise(SIGTSTP);
    el_set(editor, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

/* libedit reads whatever it is given, as far as that goes. */
static bool check_history(const char *path, struct tp_error *err)
{
    struct io_identity who;
    int fd = io_open_read(path, &who, err);
    if (fd < 0)
        return false;
    io_close(&fd, path, NULL);
    return who.size <= HISTORY_BYTES_MAX ||
           tp_fail(err, TP_E_LIMIT, "%s: %llu bytes, at most %d are allowed", path,
                   (unsigned long long)who.size, HISTORY_BYTES_MAX);
}

/* Only a history is ever replaced by one. */
static bool load_history(struct chat_input *input, struct tp_error *err)
{
    const char *path = input->history_path;
    HistEvent event;
    struct stat st;
    struct place place;
    bool ok = place_open(&place, path, err); /* what cannot be written at the end is refused now */
    place_close(&place);
    if (!ok || stat(path, &st) != 0)
        return ok;
    return check_history(path, err) &&
           (history(input->history, &event, H_LOAD, path) >= 0 || st.st_size == 0 ||
            tp_fail(err, TP_E_OUTPUT_EXISTS, "%s: is there and is no history; name another", path));
}

static bool put_private(const char *path, const struct io_map *text, struct tp_error *err)
{
    struct output_file file;
    mode_t mask = umask(0177); /* what was typed is nobody else's */
    bool ok =
        output_file_open(&file, path, err) && output_file_write(&file, text->data, text->size, err);
    ok = output_file_close(&file, ok, err);
    umask(mask);
    return ok;
}

/* libedit writes to what must be a file, and sets its mode: it gets one in memory. */
static bool save_history(const struct chat_input *input, struct tp_error *err)
{
    const char *path = input->history_path;
    struct io_map text = {0};
    HistEvent event;
    int fd = memfd_create("history", MFD_CLOEXEC);
    FILE *stream = fd < 0 ? NULL : fdopen(fd, "w");
    bool ok =
        stream && history(input->history, &event, H_SAVE_FP, stream) >= 0 && fflush(stream) == 0;
    if (!ok)
        tp_fail_errno(err, "%s: the history cannot be kept", path);
    ok = ok && io_map(fd, path, (uint64_t)ftell(stream), &text, err) &&
         put_private(path, &text, err);
    io_unmap(&text);
    if (stream)
        fclose(stream);
    else
        io_close(&fd, path, NULL);
    return ok;
}

static bool open_editor(struct chat_input *input, struct tp_error *err)
{
    HistEvent event;
    void *room = mem_alloc(EDITOR_BYTES, err); /* libedit does not look whether it got its own */
    mem_free(room);
    if (!room)
        return false;
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    input->editor = el_init("tprun", stdin, stdout, stderr);
    input->history = history_init();
    if (!input->editor || !input->history)
        return tp_fail(err, TP_E_MEMORY, "the terminal's line editor cannot be set up");
    history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    history(input->history, &event, H_SETUNIQUE, 1);
    if (input->history_path && !load_history(input, err))
        return false;
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_PROMPT, prompt);
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_HIST, history, input->history);
    el_set(input->editor, EL_SETTY, "-d", "-isig", NULL);
    el_set(input->editor, EL_ADDFN, "cancel-line", "drop the line", cancel);
    el_set(input->editor, EL_BIND, "^C", "cancel-line", NULL);
    el_set(input->editor, EL_ADDFN, "complete", "commands and names of files", complete);
    el_set(input->editor, EL_BIND, "^I", "complete", NULL);
    el_set(input->editor, EL_ADDFN, "suspend", "stop the program", suspend);
    el_set(input->editor, EL_BIND, "^Z", "suspend", NULL);
    el_set(input->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(input->editor, EL_SIGNAL, 1); /* for changes of the window's size */
    return true;
}

bool chat_input_open(struct chat_input *input, const char *history_path,
                     const struct chat_command *commands, const _Atomic int *interrupted,
                     struct tp_error *err)
{
    *input = (struct chat_input){
        .history_path = history_path, .commands = commands, .interrupted = interrupted};
    input->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!input->terminal || open_editor(input, err))
        return true;
    input->history_path = NULL; /* there is nothing to write */
    chat_input_close(input);
    return false;
}

void chat_input_close(struct chat_input *input)
{
    struct tp_error why = {0};
    if (input->history && input->history_path && !save_history(input, &why))
        tp_message("tprun", "warning", "%s", why.text);
    if (input->editor)
        el_end(input->editor);
    if (input->history)
        history_end(input->history);
    mem_free(input->message.data);
    *input = (struct chat_input){0};
}

/* ---- lines ---- */

/* Ctrl-C at an empty line twice leaves. */
static enum chat_read cancelled(struct chat_input *input)
{
    bool again = input->empty && input->warned;
    input->warned = input->empty;
    fputs(again ? "^C" : "^C\n", stdout);
    if (input->warned && !again) {
        fflush(stdout);
        tp_note("Ctrl-C again leaves, as Ctrl-D does");
    }
    return again ? CHAT_READ_END : CHAT_READ_CANCELLED;
}

/* One line, added to the message without its end. */
static enum chat_read read_edited(struct chat_input *input, struct tp_error *err)
{
    HistEvent event;
    int n = 0;
    input->cancelled = false;
    const char *line = el_gets(input->editor, &n);
    if (input->cancelled)
        return cancelled(input);
    input->warned = false;
    if (!line || n <= 0)
        return CHAT_READ_END;
    if (line[0] != '\n')
        history(input->history, &event, H_ENTER, line);
    return tp_text_add(&input->message, line, (size_t)n - (line[n - 1] == '\n'), err)
               ? CHAT_READ_MESSAGE
               : CHAT_READ_FAILED;
}

/* A signal that is no interrupt only wakes. */
static int next_byte(const struct chat_input *input)
{
    int c;
    while ((c = getc(stdin)) == EOF && ferror(stdin) && errno == EINTR && !*input->interrupted)
        clearerr(stdin);
    return c;
}

static enum chat_read read_plain(struct chat_input *input, struct tp_error *err)
{
    char part[4096];
    size_t n = 0, total = 0;
    int c;
    while ((c = next_byte(input)) != EOF && c != '\n') {
        part[n++] = (char)c;
        total++;
        if (n == sizeof part) {
            if (!tp_text_add(&input->message, part, n, err))
                return CHAT_READ_FAILED;
            n = 0;
        }
        if (input->message.n > MESSAGE_BYTES_MAX) {
            tp_fail(err, TP_E_LIMIT, "a message of more than %d bytes", MESSAGE_BYTES_MAX);
            return CHAT_READ_FAILED;
        }
    }
    if (c == EOF && ferror(stdin)) {
        errno == EINTR ? tp_fail(err, TP_E_INTERRUPTED, "interrupted")
                       : tp_fail_errno(err, "stdin: cannot be read");
        return CHAT_READ_FAILED;
    }
    if (c == EOF && total == 0)
        return CHAT_READ_END;
    if (!tp_text_add(&input->message, part, n, err))
        return CHAT_READ_FAILED;
    if (total && input->message.data[input->message.n - 1] == '\r') /* other systems' line ends */
        input->message.n--;
    return CHAT_READ_MESSAGE;
}

static enum chat_read read_line(struct chat_input *input, struct tp_error *err)
{
    return input->editor ? read_edited(input, err) : read_plain(input, err);
}

/* ---- messages ---- */

static bool ends_in(const struct tp_text *text, size_t from, const char *end, size_t n)
{
    return text->n >= from + n && memcmp(text->data + text->n - n, end, n) == 0;
}

/* A backslash at the end becomes a line break. */
static enum chat_read read_continued(struct chat_input *input, bool *command, struct tp_error *err)
{
    struct tp_text *m = &input->message;
    enum chat_read got = CHAT_READ_MESSAGE;
    while (got == CHAT_READ_MESSAGE && ends_in(m, 0, "\\", 1)) {
        m->data[m->n - 1] = '\n';
        *command = false;
        got = read_line(input, err);
    }
    return got == CHAT_READ_END ? CHAT_READ_MESSAGE : got;
}

/* What stands between the quotes that the message begins with and the next at the end of a line. */
static enum chat_read read_quoted(struct chat_input *input, struct tp_error *err)
{
    struct tp_text *m = &input->message;
    enum chat_read got = CHAT_READ_MESSAGE;
    size_t begin = QUOTES; /* of the line: where quotes may end it */
    while (got == CHAT_READ_MESSAGE && !ends_in(m, begin, quotes, QUOTES)) {
        if (!tp_text_add(m, "\n", 1, err))
            return CHAT_READ_FAILED;
        begin = m->n;
        got = read_line(input, err);
    }
    if (got != CHAT_READ_MESSAGE && got != CHAT_READ_END)
        return got;
    m->n -= got == CHAT_READ_MESSAGE ? QUOTES : 0;
    m->n -= QUOTES;
    memmove(m->data, m->data + QUOTES, m->n);
    while (m->n && m->data[m->n - 1] == '\n')
        m->n--;
    size_t first = m->n && m->data[0] == '\n';
    m->n -= first;
    memmove(m->data, m->data + first, m->n);
    return CHAT_READ_MESSAGE;
}

enum chat_read chat_input_read(struct chat_input *input, bool *command, struct tp_error *err)
{
    struct tp_text *m = &input->message;
    m->n = 0;
    *command = true;
    input->continued = false;
    enum chat_read got = read_line(input, err);
    if (got != CHAT_READ_MESSAGE)
        return got;
    input->continued = true;
    if (m->n >= QUOTES && memcmp(m->data, quotes, QUOTES) == 0) {
        *command = false;
        return read_quoted(input, err);
    }
    return read_continued(input, command, err);
}
