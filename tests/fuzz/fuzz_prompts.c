/* The input is a file of prompts, after a byte: 1: with --chat; 2: with --system; 4: control tokens
 * of the text count. Every prompt that is accepted has tokens, all of them the vocabulary's. */
#include "mem.h"
#include "prompts.h"
#include "tokenizer_compile.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { CHAT = 1, SYSTEM = 2, SPECIAL = 4, JSON_MAX = 1 << 24 };
static const char path[] = "tests/data/checkpoints/tokenizer/tokenizer.json";
static const char source[] =
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<s>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{{ part.text }}{% endfor %}{% endif %}</s>{% endfor %}";
static struct tokenizer tokenizer;
static struct chat chat;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct pack_text template = {TEXT_TEMPLATE, "default", source, 7, sizeof source - 1};
    struct tp_error err = {0};
    unsigned char *compiled;
    char *json;
    size_t n;
    uint64_t bytes;
    (void)argc, (void)argv;
    tp_assert(io_read_file(path, JSON_MAX, &json, &n, &err));
    tp_assert(tokenizer_compile(path, json, n, &(struct tokenizer_texts){&template, 1}, NULL,
                                &compiled, &bytes, &err));
    /* the compiled bytes stay: the tokenizer borrows them */
    tp_assert(tokenizer_open_bytes(compiled, bytes, path, &tokenizer, &err));
    tp_assert(chat_open(&chat, &tokenizer, NULL, false, &err));
    mem_free(json);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prompts prompts;
    struct tp_error err = {0};
    char name[64];
    uint64_t vocab = tokenizer.file.tokens, total = 0;
    if (size < 1)
        return 0;
    int fd = memfd_create("prompts", 0);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    tp_assert(fd >= 0 && io_write_at(fd, name, data + 1, size - 1, 0, &err));
    const struct prompts_given given = {
        .prompts_file = name, .n = 3, .system = data[0] & SYSTEM ? "Be brief." : NULL};
    chat.parse_special = data[0] & SPECIAL;
    if (prompts_read(&prompts, &given, &tokenizer, data[0] & CHAT ? &chat : NULL, vocab, &err)) {
        tp_assert(prompts.count >= 1);
        for (uint32_t i = 0; i < prompts.count; i++) {
            const struct prompt *p = &prompts.list[i];
            tp_assert(p->n_ids >= 1 && p->n_cached == 0 && p->id[0]);
            for (uint32_t k = 0; k < p->n_ids; k++)
                tp_assert(p->ids[k] < vocab);
            total += p->n_ids;
        }
        tp_assert(total == prompts.total_ids);
        prompts_free(&prompts);
    } else {
        tp_assert(err.code != TP_OK && err.code != TP_E_IO && err.text[0]);
    }
    close(fd);
    return 0;
}
