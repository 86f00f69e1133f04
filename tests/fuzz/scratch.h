/* A folder in memory for parsers that read from folders; gone when the program ends. */
#pragma once
#include "io.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char scratch_dir[64];

/* NULL: the file is not there. */
static inline void scratch_put(const char *name, const void *data, size_t n)
{
    char path[IO_PATH_MAX];
    struct tp_error err = {0};
    tp_assert(io_join(path, scratch_dir, name, &err));
    if (!data) {
        unlink(path);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    tp_assert(fd >= 0 && io_write_at(fd, path, data, n, 0, &err) && io_close(&fd, path, &err));
}

static inline void scratch_remove(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scratch_dir);
    if (system(command) != 0)
        fprintf(stderr, "%s: stays\n", scratch_dir);
}

static inline void scratch_make(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch_dir, sizeof scratch_dir, "%s/tpshard-fuzz-XXXXXX", base);
    tp_assert(mkdtemp(scratch_dir));
    atexit(scratch_remove);
}
