/* The input is a text, after two bytes that choose a tokenizer and where the text comes from. The
 * tokenizers are those of tests/data/tokenizers and of the checkpoints, which stand for all
 * families; run in the project's root. */
#include "mem.h"
#include "tokenizer.h"
#include "tokenizer_compile.h"
#include <glob.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { TOKENIZERS_MAX = 64, JSON_MAX = 16 << 20 };
static const char pattern[] =
    "tests/data/{tokenizers,checkpoints,demo}/{,*/}{*.json,tokenizer/*.json}";
static struct tokenizer tokenizers[TOKENIZERS_MAX];
static bool keeps[TOKENIZERS_MAX]; /* what is decoded is what was encoded */
static size_t count;

static bool keeps_text(const struct tokenizer_file *file)
{
    if (file->model != MODEL_BPE_BYTES || file->decoder.mode != DECODE_BYTES ||
        file->normalizer_count || file->decoder.strip || file->decoder.first_differs)
        return false;
    for (uint32_t i = 0; i < file->step_count; i++) {
        struct tokenizer_step step = tokenizer_file_step(file, i);
        if (step.kind != STEP_SPLIT || step.behaviour == SPLIT_REMOVED)
            return false;
    }
    for (uint32_t i = 0; i < file->added_count; i++)
        if (tokenizer_file_added(file, i).flags & (ADDED_LSTRIP | ADDED_RSTRIP))
            return false;
    return true;
}

/* Files that are no tokenizer are passed over. */
static void open_one(const char *path)
{
    struct tp_error err = {0};
    char *json;
    size_t n;
    unsigned char *compiled;
    uint64_t bytes;
    if (count == TOKENIZERS_MAX || !strstr(path, "tokeni") ||
        !io_read_file(path, JSON_MAX, &json, &n, &err))
        return;
    if (tokenizer_compile(path, json, n, NULL, NULL, &compiled, &bytes, &err)) {
        /* the compiled bytes stay: the tokenizer borrows them */
        tp_assert(tokenizer_open_bytes(compiled, bytes, path, &tokenizers[count], &err));
        keeps[count] = keeps_text(&tokenizers[count].file);
        count++;
    }
    mem_free(json);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    glob_t found;
    (void)argc, (void)argv;
    tp_assert(glob(pattern, GLOB_BRACE, NULL, &found) == 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        open_one(found.gl_pathv[i]);
    globfree(&found);
    tp_assert(count > 0);
    return 0;
}

static void check_kept(const struct tokenizer *t, const struct token_ids *ids, const char *text,
                       size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < ids->count; i++) {
        struct tokenizer_bytes bytes = tokenizer_file_token(&t->file, ids->ids[i]);
        tp_assert(bytes.n <= n - at && memcmp(bytes.data, text + at, bytes.n) == 0);
        at += bytes.n;
    }
    tp_assert(at == n || ids->dropped);
}

static bool same(const struct token_ids *a, const struct token_ids *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_error err = {0};
    struct token_ids ids = {0}, again = {0};
    if (size < 2)
        return 0;
    size_t which = data[0] % count, n = size - 2;
    struct tokenizer *t = &tokenizers[which];
    const char *text = (const char *)data + 2;
    unsigned char *origin = mem_alloc(n, &err);
    if (!origin)
        return 0;
    for (size_t i = 0; i < n; i++) /* runs of 1 to 8 bytes, from the second byte */
        origin[i] = (unsigned char)(data[1] >> (i >> (data[1] & 3) & 7) & 1);
    if (!tokenizer_encode(t, text, n, NULL, 0, &ids, &err)) {
        tp_assert(err.code == TP_E_LIMIT);
    } else {
        for (size_t i = 0; i < ids.count; i++)
            tp_assert(tokenizer_is_token(t, ids.ids[i]));
        if (keeps[which] && !ids.dropped)
            check_kept(t, &ids, text, n);
        tp_assert(tokenizer_encode(t, text, n, origin, TOKENIZER_PARSE_SPECIAL, &again, &err));
        tp_assert(same(&ids, &again));
        again.count = 0;
        again.dropped = 0;
        tp_assert(tokenizer_encode(t, text, n, origin, 0, &again, &err));
        if (keeps[which] && !again.dropped)
            check_kept(t, &again, text, n);
    }
    token_ids_free(&ids);
    token_ids_free(&again);
    mem_free(origin);
    return 0;
}
