/* The input is a manifest.json without its end: the digest is put behind it, and where nothing but
 * the bundle id is wrong, the right one into it. What is accepted can be written and read again to
 * the same text, and a plan stands for every rank. */
#include "bundle.h"
#include "mem.h"
#include "reseal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool parse(struct bundle *bundle, const char *text, size_t n, struct tp_error *err)
{
    *err = (struct tp_error){0};
    return bundle_parse(bundle, "dir", "fuzz", text, n, err);
}

/* The manifest that the bundle stands for, with hashes of chunks that are all zero. */
static char *text_of(const struct bundle *bundle, size_t *n)
{
    struct tp_error err = {0};
    struct shard_head heads[PARTITION_TP_MAX] = {0};
    for (uint64_t r = 0; r < bundle->tp_size; r++) {
        heads[r].chunks = mem_array(bundle->plans[r].n_chunks, sizeof *heads[r].chunks, &err);
        tp_assert(heads[r].chunks);
    }
    char *text = bundle_manifest_text(bundle, heads, n, &err);
    tp_assert(text);
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        mem_free(heads[r].chunks);
    return text;
}

static void check(const struct bundle *bundle)
{
    enum { CHUNKS_MAX = 1 << 16 };
    struct bundle again;
    struct tp_error err;
    size_t n, n_again;
    uint64_t chunks = 0;
    tp_assert(bundle->tp_size >= 1 && bundle->tp_size <= PARTITION_TP_MAX);
    tp_assert(model_config_check(&bundle->model, "fuzz", &err));
    for (uint32_t i = 0; i < bundle->n_files; i++) {
        const char *name = bundle->files[i].name;
        tp_assert(io_name_is_plain(name, strlen(name)) && !bundle_name_is_reserved(name));
        tp_assert(bundle_find_file(bundle, name) == &bundle->files[i]);
    }
    for (uint64_t r = 0; r < bundle->tp_size; r++)
        chunks += bundle->plans[r].n_chunks;
    if (chunks > CHUNKS_MAX)
        return;
    char *text = text_of(bundle, &n);
    if (!parse(&again, text, n, &err)) {
        fprintf(stderr, "%s\n%.*s\n", err.text, (int)n, text);
        tp_assert(false); /* what was accepted and written is accepted again */
    }
    char *text_again = text_of(&again, &n_again);
    tp_assert(n == n_again && memcmp(text, text_again, n) == 0);
    bundle_close(&again);
    mem_free(text);
    mem_free(text_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bundle bundle;
    struct tp_error err = {0};
    size_t n;
    char *text = reseal_input(data, size, &n);
    if (!text)
        return 0;
    bool ok = parse(&bundle, text, n, &err);
    if (!ok && reseal_id(text, n, err.text)) {
        reseal_manifest(text, n);
        ok = parse(&bundle, text, n, &err);
    }
    if (ok) {
        check(&bundle);
        bundle_close(&bundle);
    } else {
        tp_assert(err.code != TP_OK && err.code != TP_E_MANIFEST_HASH && err.text[0]);
    }
    mem_free(text);
    return 0;
}
