/* What is read up to its end: pipes of every size, and the limit. */
#include "io.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct writer {
    int fd;
    size_t n;
};

static char byte_at(size_t i)
{
    return (char)(i * 7 + i / 251);
}

static void *write_all(void *arg)
{
    const struct writer *w = arg;
    char part[1000];
    for (size_t at = 0, k; at < w->n; at += k) {
        k = w->n - at < sizeof part ? w->n - at : sizeof part;
        for (size_t i = 0; i < k; i++)
            part[i] = byte_at(at + i);
        if (write(w->fd, part, k) != (ssize_t)k)
            break; /* who reads has had enough */
    }
    close(w->fd);
    return NULL;
}

/* n bytes through a pipe; by the pipe's name, or as standard input. */
static bool read_pipe(size_t n, uint64_t limit, bool standard, struct tp_error *err)
{
    int ends[2], kept = dup(STDIN_FILENO);
    char name[64], *data = NULL;
    size_t size = 0;
    pthread_t thread;
    *err = (struct tp_error){0};
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
    if (standard)
        dup2(ends[0], STDIN_FILENO);
    struct writer writer = {ends[1], n};
    pthread_create(&thread, NULL, write_all, &writer);
    bool ok = io_read_input(standard ? "-" : name, limit, &data, &size, err);
    dup2(kept, STDIN_FILENO);
    close(kept);
    close(ends[0]);
    pthread_join(thread, NULL);
    if (!ok)
        return false;
    assert_int_equal(size, n);
    assert_int_equal(data[n], 0);
    for (size_t i = 0; i < n; i++)
        if (data[i] != byte_at(i))
            fail_msg("byte %zu of %zu is another", i, n);
    mem_free(data);
    return true;
}

static void a_pipe_is_read_whatever_its_size(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 65534, 65535, 65536, 65537, 131072, 1000003};
    struct tp_error err;
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int standard = 0; standard < 2; standard++)
            if (!read_pipe(sizes[i], 1 << 20, standard, &err))
                fail_msg("%zu bytes: %s", sizes[i], err.text);
}

static void the_limit_holds_at_its_value(void **state)
{
    struct tp_error err;
    (void)state;
    for (size_t limit = 99990; limit < 100010; limit += 7) {
        assert_true(read_pipe(limit, limit, false, &err));
        assert_false(read_pipe(limit + 1, limit, false, &err));
        assert_int_equal(err.code, TP_E_LIMIT);
        assert_false(read_pipe(3000000, limit, true, &err));
        assert_non_null(strstr(err.text, "standard input: more than the "));
    }
}

static void files_have_the_limit_of_files(void **state)
{
    struct tp_error err = {0};
    char *data;
    size_t size;
    (void)state;
    assert_false(io_read_input("/nowhere/x", 9, &data, &size, &err));
    assert_int_equal(err.code, TP_E_IO);
    err = (struct tp_error){0};
    assert_false(io_read_input("/", 9, &data, &size, &err));
    assert_int_equal(err.code, TP_E_NOT_REGULAR);
    err = (struct tp_error){0};
    assert_false(io_read_input("/dev/zero", 9, &data, &size, &err));
    assert_int_equal(err.code, TP_E_LIMIT);
    err = (struct tp_error){0};
    assert_true(io_read_input("/dev/null", 9, &data, &size, &err));
    assert_int_equal(size, 0);
    mem_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_is_read_whatever_its_size),
        cmocka_unit_test(the_limit_holds_at_its_value),
        cmocka_unit_test(files_have_the_limit_of_files),
    };
    io_start();
    return cmocka_run_group_tests_name("io_input", tests, NULL, NULL);
}
