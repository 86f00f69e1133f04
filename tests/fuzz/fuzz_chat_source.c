/* The input is a file that says more of a tokenizer, beside a tokenizer.json: a byte for which (0
 * tokenizer_config.json, 1 special_tokens_map.json, 2 chat_template.json), and its text. Whatever
 * it is, a compiled tokenizer comes of it, which opens, and so does its template. */
#include "chat_source.h"
#include "chat_template.h"
#include "mem.h"
#include "scratch.h"
#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { JSON_MAX = 1 << 24, NAMES = 3 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char path[] = "tests/data/tokenizers/gpt2-prefix/tokenizer.json";
    struct tp_error err = {0};
    char *json;
    size_t n;
    (void)argc, (void)argv;
    scratch_make();
    tp_assert(io_read_file(path, JSON_MAX, &json, &n, &err));
    scratch_put("tokenizer.json", json, n);
    mem_free(json);
    return 0;
}

static void check_compiled(const unsigned char *compiled, uint64_t n)
{
    struct tokenizer tokenizer = {0};
    struct tp_error err = {0};
    tp_assert(tokenizer_open_bytes(compiled, n, "fuzz", &tokenizer, &err));
    for (int tools = 0; tools < 2; tools++) {
        struct chat_template chat = {0};
        struct tp_error why = {0};
        const char *name = chat_template_find(&tokenizer.file, NULL, tools, &why);
        tp_assert(name || why.code == TP_E_UNSUPPORTED);
        tp_assert(!name || chat_template_open(&chat, &tokenizer.file, name, &why));
        chat_template_close(&chat);
    }
    tokenizer_close(&tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[NAMES] = {"tokenizer_config.json", "special_tokens_map.json",
                                             "chat_template.json"};
    static struct chat_source source;
    struct findings findings = {.quiet = true};
    struct tp_error err = {0};
    unsigned char *compiled;
    uint64_t n;
    if (size < 1)
        return 0;
    for (int i = 0; i < NAMES; i++)
        scratch_put(names[i], data[0] % NAMES == i ? data + 1 : NULL, size - 1);
    tp_assert(chat_source_read(&source, scratch_dir, &findings, &err));
    const struct tokenizer_texts texts = chat_source_texts(&source);
    tp_assert(texts.count <= TOKENIZER_TEXTS_MAX);
    tp_assert(tokenizer_compile_dir(scratch_dir, NULL, &texts, &findings, &compiled, &n, &err));
    check_compiled(compiled, n);
    mem_free(compiled);
    chat_source_free(&source);
    return 0;
}
