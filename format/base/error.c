#include "error.h"

#include "interrupt.h"
#include "mem.h"
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

bool tp_fail(struct tp_error *err, enum tp_code code, const char *fmt, ...)
{
    if (!err || err->code != TP_OK)
        return false;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
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
    int n = vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", strerror(saved));
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

/* Bytes of the UTF-8 character at s, 0 if it is not a printable one. */
static size_t printable(const unsigned char *s, size_t left)
{
    if (s[0] >= 0x20 && s[0] < 0x7f)
        return 1;
    size_t n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc3 ? 2 : 0;
    if (n == 0 || n > left || s[0] >= 0xf5)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* overlong forms, surrogates, and the marks that reorder or hide text on a terminal */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    if (s[0] == 0xe2 && (s[1] == 0x80 || s[1] == 0x81) &&
        ((s[2] >= 0x8b && s[2] <= 0x8f) || (s[2] >= 0xa8 && s[2] <= 0xaf)))
        return 0;
    return n;
}

/* head + text, escaped, as one line of at most TP_ERROR_LINE_MAX bytes; its length. */
static size_t make_line(char line[TP_ERROR_LINE_MAX], const char *head, const char *text)
{
    size_t n = (size_t)snprintf(line, TP_ERROR_LINE_MAX, "%s", head);
    const unsigned char *s = (const unsigned char *)text;
    size_t left = strlen(text);
    while (left && n + 5 < TP_ERROR_LINE_MAX) {
        size_t k = printable(s, left);
        if (k) {
            memcpy(line + n, s, k);
            n += k;
        } else {
            n += (size_t)snprintf(line + n, TP_ERROR_LINE_MAX - n, "\\x%02x", *s);
            k = 1;
        }
        s += k;
        left -= k;
    }
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
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(head, sizeof head, "%s: %s: ", program, kind);
    print_line(line, make_line(line, head, text));
}

void tp_assert_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "internal error: %s:%d: assertion failed: %s; please report this\n", file, line,
            what);
    _exit(TP_EXIT_BUG);
}
