/* Files for the tests of the converter's input: a temporary folder, .safetensors files made of a
 * header text, and checks of an error that every test shares: code, exit, one printable line that
 * names the file, done in time. */
#pragma once
#include "error.h"
#include "le.h"
#include "safetensors.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
enum { THREAD_SANITIZED = 1 };
#else
enum { THREAD_SANITIZED = 0 };
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static char fixture_dir[64];

static inline int fixture_setup(void **state)
{
    (void)state;
    snprintf(fixture_dir, sizeof fixture_dir, "/tmp/tp_test_XXXXXX");
    alarm(300); /* a hang is a failure */
    return mkdtemp(fixture_dir) ? 0 : -1;
}

static inline int fixture_remove(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static inline int fixture_teardown(void **state)
{
    (void)state;
    return nftw(fixture_dir, fixture_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a name in the folder; eight results live at a time. */
static inline const char *at(const char *name)
{
    static char paths[8][512];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", fixture_dir, name);
    return path;
}

static inline void fixture_write(int fd, const void *data, size_t n, uint64_t offset)
{
    for (const char *p = data; n;) {
        ssize_t put = pwrite(fd, p, n, (off_t)offset);
        assert_true(put > 0);
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
}

static inline const char *put(const char *name, const void *data, size_t n)
{
    const char *path = at(name);
    unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    assert_true(fd >= 0);
    fixture_write(fd, data, n, 0);
    close(fd);
    return path;
}

static inline const char *put_text(const char *name, const char *text)
{
    return put(name, text, strlen(text));
}

/* Length, header[0..n), and data_bytes of data: byte i is i % 251, the first MiB only; the rest is
 * a hole. header_length < 0: n. */
static inline const char *put_bytes(const char *name, const char *header, size_t n,
                                    int64_t header_length, uint64_t data_bytes)
{
    static unsigned char pattern[1 << 20];
    unsigned char head[8];
    const char *path = at(name);
    unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(i % 251);
    le_put_u64(head, header_length < 0 ? n : (uint64_t)header_length);
    fixture_write(fd, head, 8, 0);
    fixture_write(fd, header, n, 8);
    fixture_write(fd, pattern, data_bytes < sizeof pattern ? data_bytes : sizeof pattern, 8 + n);
    bool sized = ftruncate(fd, (off_t)(8 + n + data_bytes)) == 0;
    close(fd);
    if (!sized) {
        unlink(path);
        return NULL; /* this file system has no files so large */
    }
    return path;
}

static inline const char *put_st(const char *name, const char *header, uint64_t data_bytes)
{
    return put_bytes(name, header, strlen(header), -1, data_bytes);
}

/* Opens a path as the module under test does, and closes it. */
typedef bool (*fixture_open)(const char *path, struct tp_error *err);

/* What main would print for the error: it must be one line of printable bytes. */
static inline size_t fixture_line(const struct tp_error *err, char *line, size_t cap)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    int saved = dup(2);
    dup2(fileno(file), 2);
    tp_error_print("tpshard", err);
    dup2(saved, 2);
    close(saved);
    rewind(file);
    size_t n = fread(line, 1, cap - 1, file);
    fclose(file);
    line[n] = '\0';
    return n;
}

static inline double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void check_error(const struct tp_error *err, enum tp_code code, int exit_code,
                               const char *const *needles)
{
    char line[2048];
    if (err->code != code)
        fail_msg("code %s (%s), expected %s", tp_code_text(err->code), err->text,
                 tp_code_text(code));
    assert_int_equal(tp_code_exit(err->code), exit_code);
    size_t n = fixture_line(err, line, sizeof line);
    assert_true(n > 0 && n <= TP_ERROR_LINE_MAX && line[n - 1] == '\n');
    for (size_t i = 0; i + 1 < n; i++)
        assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
    for (; *needles; needles++)
        if (!strstr(line, *needles))
            fail_msg("\"%s\" not in: %s", *needles, line);
}

/* The path is refused with the code and exit, in 2 s, and the line holds every needle. */
static inline void expect_refusal(fixture_open open_it, const char *path, enum tp_code code,
                                  int exit_code, const char *const *needles)
{
    struct tp_error err = {0};
    double start = cpu_seconds();
    if (open_it(path, &err))
        fail_msg("%s: accepted, %s expected", path, tp_code_text(code));
    assert_true(cpu_seconds() - start < (SANITIZED ? 20 : 2));
    check_error(&err, code, exit_code, needles);
}

/* Peak of memory, in bytes, that opening a path takes over what this process has; 0 where it cannot
 * be measured. In a child, so that the peak of earlier tests does not count. */
static inline uint64_t peak_of(fixture_open open_it, const char *path, bool accepted)
{
    struct rusage before, after;
    int status;
    fflush(NULL);
    pid_t empty = fork(); /* what a child has that does nothing */
    if (empty == 0)
        _exit(0);
    assert_true(empty > 0 && wait4(empty, &status, 0, &before) == empty);
    pid_t child = fork();
    if (child == 0) {
        struct tp_error err = {0};
        _exit(open_it(path, &err) ? 0 : 1);
    }
    assert_true(child > 0 && wait4(child, &status, 0, &after) == child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == !accepted);
    return SANITIZED ? 0 : (uint64_t)(after.ru_maxrss - before.ru_maxrss) * 1024;
}

/* ---- one .safetensors file ---- */

static struct findings findings = {.quiet = true};

/* One byte, the first of the data. */
#define ENTRY "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}"

/* The header of one tensor "w" with the given dtype, shape and offsets. */
static inline const char *one(const char *dtype, const char *shape, const char *offsets)
{
    static char text[4096];
    snprintf(text, sizeof text, "{\"w\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype,
             shape, offsets);
    return text;
}

static inline bool open_one(const char *path, struct tp_error *err)
{
    struct safetensors st;
    bool ok = safetensors_open(&st, path, &findings, err);
    if (!ok)
        assert_null(st.path);
    safetensors_close(&st);
    safetensors_close(&st);
    return ok;
}

#define REFUSE(path, code, exit_code, ...)                                                         \
    expect_refusal(open_one, path, code, exit_code, (const char *const[]){__VA_ARGS__, NULL})

struct refused {
    const char *header;
    uint64_t data_bytes;
    enum tp_code code;
    const char *needle;
};

static inline void refuse_all(const struct refused *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        REFUSE(put_st("f.safetensors", rows[i].header, rows[i].data_bytes), rows[i].code,
               TP_EXIT_INPUT, "f.safetensors: ", rows[i].needle);
}
#define REFUSE_ALL(rows) refuse_all(rows, sizeof(rows) / sizeof *(rows))

static inline void must_open(const char *path, struct safetensors *st)
{
    struct tp_error err = {0};
    if (!safetensors_open(st, path, &findings, &err))
        fail_msg("%s: %s", path, err.text);
}

static inline const struct st_tensor *find(const struct safetensors *st, const char *name,
                                           size_t len)
{
    for (uint32_t i = 0; i < st->count; i++)
        if (st->tensors[i].name_len == len && memcmp(st->tensors[i].name, name, len) == 0)
            return &st->tensors[i];
    return NULL;
}

static inline const struct st_tensor *need(const struct safetensors *st, const char *name)
{
    const struct st_tensor *t = find(st, name, strlen(name));
    assert_non_null(t);
    return t;
}

/* Text that grows, for large headers. */
struct text {
    char *data;
    size_t n, cap;
};

__attribute__((format(printf, 2, 3))) static inline void add(struct text *t, const char *fmt, ...)
{
    if (t->cap - t->n < 4096)
        assert_non_null(t->data = realloc(t->data, t->cap = t->cap * 2 + 8192));
    va_list args;
    va_start(args, fmt);
    t->n += (size_t)vsnprintf(t->data + t->n, t->cap - t->n, fmt, args);
    va_end(args);
}

static inline void repeat(struct text *t, const char *piece, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add(t, "%s", piece);
}

static inline const char *put_drop(const char *name, struct text *t, uint64_t data_bytes)
{
    const char *path = put_bytes(name, t->data, t->n, -1, data_bytes);
    free(t->data);
    *t = (struct text){0};
    return path;
}
