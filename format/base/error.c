#include "error.h"

#include "interrupt.h"
#include "mem.h"
#include "shown.h"
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *text;
    enum tp_exit exit_code;
} codes[TP_CODE_COUNT] = {
#define X(name, text, exit_code) [name] = {text, exit_code},
    TP_ERROR_TABLE(X)
#undef X
};

static const char *program_name = "";

void tp_set_program(const char *name)
{
    program_name = name;
}

const char *tp_program(void)
{
    return program_name;
}

const char *tp_code_text(enum tp_code code)
{
    return codes[code].text;
}

enum tp_exit tp_code_exit(enum tp_code code)
{
    return codes[code].exit_code;
}

/* What an allocation that failed leads to is no verdict on the input. */
static void set_code(struct tp_error *err, enum tp_code code)
{
    static const char head[] = "out of memory: ";
    const size_t n = sizeof head - 1;
    err->code = code;
    if (code == TP_E_MEMORY || code == TP_E_INTERRUPTED || !mem_lacking())
        return;
    err->code = TP_E_MEMORY;
    memmove(err->text + n, err->text, sizeof err->text - n);
    memcpy(err->text, head, n);
    err->text[sizeof err->text - 1] = '\0';
}

void tp_sentence(char text[TP_ERROR_LINE_MAX], const char *reason, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    size_t more = reason ? strlen(reason) + 2 : 0;
    int n = vsnprintf(text, TP_ERROR_LINE_MAX, fmt, args);
    size_t length = n < 0 ? 0 : (size_t)n;
    char *whole = length + more < TP_ERROR_LINE_MAX ? text : malloc(length + more + 1);
    if (whole && whole != text)
        vsnprintf(whole, length + 1, fmt, again);
    va_end(again);
    if (!whole)
        return; /* its beginning is there */
    if (reason)
        snprintf(whole + length, more + 1, ": %s", reason);
    if (whole == text)
        return;
    shown_shorten(whole, TP_ERROR_LINE_MAX - 1);
    memcpy(text, whole, strlen(whole) + 1);
    free(whole);
}

bool tp_fail(struct tp_error *err, enum tp_code code, const char *fmt, ...)
{
    if (!err || err->code != TP_OK)
        return false;
    va_list args;
    va_start(args, fmt);
    tp_sentence(err->text, NULL, fmt, args);
    va_end(args);
    set_code(err, code);
    return false;
}

bool tp_fail_errno(struct tp_error *err, const char *fmt, ...)
{
    int saved = errno;
    if (!err || err->code != TP_OK)
        return false;
    va_list args;
    va_start(args, fmt);
    tp_sentence(err->text, strerror(saved), fmt, args);
    va_end(args);
    set_code(err, saved == ENOMEM ? TP_E_MEMORY : TP_E_IO);
    return false;
}

const char *tp_name_cut(char buf[TP_NAME_BUF], const char *name, size_t len)
{
    enum { KEEP = 96 };
    if (len <= KEEP)
        snprintf(buf, TP_NAME_BUF, "%.*s", (int)len, name);
    else
        snprintf(buf, TP_NAME_BUF, "%.*s... (%zu bytes)", KEEP, name, len);
    return buf;
}

/* head + text, escaped, as one line of at most TP_ERROR_LINE_MAX bytes; its length. */
static size_t make_line(char line[TP_ERROR_LINE_MAX], const char *head, const char *text)
{
    char shown[4 * TP_ERROR_LINE_MAX];
    size_t n = (size_t)snprintf(line, TP_ERROR_LINE_MAX, "%s", head);
    shown_escape(shown, sizeof shown, text, strlen(text));
    shown_shorten(shown, TP_ERROR_LINE_MAX - 1 - n);
    memcpy(line + n, shown, strlen(shown));
    n += strlen(shown);
    line[n++] = '\n';
    return n;
}

static void print_line(const char *line, size_t n)
{
    fflush(stdout);
    ssize_t ignored = write(2, line, n); /* one call: lines of several threads never mix */
    (void)ignored;
}

size_t tp_error_line(char line[TP_ERROR_LINE_MAX], const char *program, const struct tp_error *err)
{
    char head[64];
    snprintf(head, sizeof head, "%s: error %s: ", program, tp_code_text(err->code));
    return make_line(line, head, err->text);
}

int tp_error_print(const char *program, const struct tp_error *err)
{
    char line[TP_ERROR_LINE_MAX];
    int status = (int)tp_code_exit(err->code);
    fflush(stdout);
    interrupt_off(status); /* one line, whoever says it */
    print_line(line, tp_error_line(line, program, err));
    return status;
}

void tp_message(const char *program, const char *kind, const char *fmt, ...)
{
    char head[64], text[TP_ERROR_LINE_MAX], line[TP_ERROR_LINE_MAX];
    va_list args;
    va_start(args, fmt);
    tp_sentence(text, NULL, fmt, args);
    va_end(args);
    snprintf(head, sizeof head, "%s: %s: ", program, kind);
    print_line(line, make_line(line, head, text));
}

static bool hushed;

void tp_hush_notes(void)
{
    hushed = true;
}

bool tp_notes_hushed(void)
{
    return hushed;
}

void tp_note(const char *fmt, ...)
{
    char text[TP_ERROR_LINE_MAX];
    va_list args;
    if (hushed)
        return;
    va_start(args, fmt);
    tp_sentence(text, NULL, fmt, args);
    va_end(args);
    tp_message(program_name, "note", "%s", text);
}

void tp_assert_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "internal error: %s:%d: assertion failed: %s; please report this\n", file, line,
            what);
    _exit(TP_EXIT_BUG);
}
