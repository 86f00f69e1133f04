/* A fuzz target's main without a fuzzer: every file given, and every file of every folder given,
 * goes through it once. Prints how many there were. */
#include "io.h"
#include "mem.h"
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { INPUT_MAX = 64 << 20 };

static size_t replayed;

static bool replay_file(const char *path, struct tp_error *err)
{
    char *data;
    size_t n;
    if (!io_read_file(path, INPUT_MAX, &data, &n, err))
        return false;
    /* exactly as long as the file: reading beyond it is found out */
    char *exact = mem_alloc(n, err);
    if (exact) {
        if (n)
            memcpy(exact, data, n);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, n);
        replayed++;
    }
    mem_free(data);
    mem_free(exact);
    return exact != NULL;
}

static bool replay_folder(const char *path, struct tp_error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return tp_fail(err, TP_E_IO, "%s: not to be read", path);
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(dir));) {
        char file[IO_PATH_MAX];
        if (entry->d_name[0] != '.')
            ok = io_join(file, path, entry->d_name, err) && replay_file(file, err);
    }
    closedir(dir);
    return ok;
}

int main(int argc, char **argv)
{
    struct tp_error err = {0};
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        if (!(folder ? replay_folder(argv[i], &err) : replay_file(argv[i], &err)))
            return tp_error_print("replay", &err);
    }
    printf("%zu inputs\n", replayed);
    return 0;
}
