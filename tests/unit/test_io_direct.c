/* Writes past the page cache of several threads whose ends share pages: every byte is there, and
 * what nobody writes stays zero; where there is no such descriptor too. */
#include "folder.h"
#include "kernels_fixture.h"
#include <unistd.h>

enum { SIZE = 3 << 20, PARTS_MAX = 400, THREADS = 6 };

struct writes {
    struct io_direct direct;
    uint32_t at[PARTS_MAX + 1]; /* where each begins; one in ten is left out */
    bool skipped[PARTS_MAX];
    int count;
    const unsigned char *wanted;
};

static void write_parts(void *arg, int index, int count)
{
    struct writes *w = arg;
    struct tp_error err;
    unsigned char *space = mem_map_alloc(SIZE + IO_DIRECT_ALIGN, &err);
    assert_non_null(space);
    for (int i = index; i < w->count; i += count) {
        uint32_t at = w->at[i], n = w->at[i + 1] - at;
        unsigned char *buf = space + at % IO_DIRECT_ALIGN;
        memcpy(buf, w->wanted + at, n);
        assert_true(w->skipped[i] || io_write_direct(&w->direct, buf, n, at, &err));
    }
    mem_map_free(space, SIZE + IO_DIRECT_ALIGN);
}

/* Parts of up to three pages, some of a few bytes, some of whole pages. */
static void make_parts(struct writes *w, unsigned char *wanted)
{
    for (size_t i = 0; i < SIZE; i++)
        wanted[i] = (unsigned char)random_u32();
    w->at[0] = random_below(2) * 100;
    memset(wanted, 0, w->at[0]);
    for (w->count = 0; w->count < PARTS_MAX && w->at[w->count] < SIZE; w->count++) {
        uint32_t n = random_below(3)   ? 1 + random_below(3 * IO_DIRECT_ALIGN)
                     : random_below(2) ? 1 + random_below(60)
                                       : IO_DIRECT_ALIGN * (1 + random_below(3));
        uint32_t at = w->at[w->count], end = at + n < SIZE ? at + n : SIZE;
        w->skipped[w->count] = random_below(10) == 0;
        w->at[w->count + 1] = end;
        if (w->skipped[w->count])
            memset(wanted + at, 0, end - at);
    }
    memset(wanted + w->at[w->count], 0, SIZE - w->at[w->count]);
}

static void neighbours_write_the_pages_that_they_share(void **state)
{
    (void)state;
    static unsigned char wanted[SIZE], found[SIZE];
    const char *tmp = getenv("TMPDIR");
    char path[] = "test-io-direct-XXXXXX", name[] = "file";
    pthread_mutex_t edges = PTHREAD_MUTEX_INITIALIZER;
    struct tp_error err;
    struct folder folder;
    assert_int_equal(chdir(tmp ? tmp : "/tmp"), 0);
    assert_non_null(mkdtemp(path));
    assert_true(folder_open(&folder, path, &err));
    for (int round = 0; round < 8; round++) {
        static struct writes w;
        w.wanted = wanted;
        make_parts(&w, wanted);
        int fd = folder_create(&folder, name, 0600, &err);
        assert_true(fd >= 0 && io_reserve(fd, name, SIZE, &err));
        w.direct = (struct io_direct){round % 4 == 3 ? -1 : folder_open_direct(&folder, name), fd,
                                      &edges, name};
        if (round == 0 && w.direct.fd < 0)
            print_message("SKIP direct writes: not on this file system\n");
        assert_true(threads_run(THREADS, write_parts, &w, &err));
        assert_true(io_sync(fd, name, &err) && io_read_at(fd, name, found, SIZE, 0, &err));
        assert_memory_equal(found, wanted, SIZE);
        io_close(&w.direct.fd, name, NULL);
        assert_true(io_close(&fd, name, &err) && folder_unlink(&folder, name, &err));
    }
    folder_close(&folder);
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_write_the_pages_that_they_share),
    };
    return cmocka_run_group_tests_name("io_direct", tests, NULL, NULL);
}
