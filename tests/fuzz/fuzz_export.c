/* The input is the manifest of an export without its end; the digest is put behind it. Files that
 * it names are ours to replace: plain names, and nothing that is not there is. */
#include "mem.h"
#include "owned.h"
#include "reseal.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct folder around; /* of the scratch folder */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char path[IO_PATH_MAX];
    struct tp_error err = {0};
    (void)argc, (void)argv;
    scratch_make();
    scratch_put("config.json", "{}", 2);
    tp_assert(io_join(path, scratch_dir, "..", &err) && folder_open(&around, path, &err));
    return 0;
}

static void check(struct owned *owned)
{
    const struct hash128 config = hash_bytes("{}", 2);
    struct tp_error err = {0};
    tp_assert(owned->n_files >= 1 && owned_check(owned, 1, &err));
    for (uint32_t i = 0; i < owned->n_files; i++) {
        const struct owned_file *f = &owned->files[i];
        bool is_config =
            strcmp(f->name, "config.json") == 0 && f->bytes == 2 && hash_equal(f->hash, config);
        tp_assert(io_name_is_plain(f->name, strlen(f->name)));
        tp_assert(!f->as_named || is_config || strcmp(f->name, BUNDLE_EXPORT) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct owned owned;
    struct tp_error err = {0};
    size_t n;
    char *text = reseal_input(data, size, &n);
    if (!text)
        return 0;
    scratch_put(BUNDLE_EXPORT, text, n);
    if (owned_open(&owned, &around, io_base_name(scratch_dir), "fuzz", &err))
        check(&owned);
    else
        tp_assert(err.code == TP_E_OUTPUT_EXISTS && err.text[0]);
    owned_close(&owned);
    mem_free(text);
    return 0;
}
