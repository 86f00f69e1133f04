/* The input is a model.safetensors.index.json. What is accepted must keep the promises of its
 * header file. */
#include "checkpoint_index.h"
#include "io.h"
#include "safetensors.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char suffix[] = ".safetensors";
    struct checkpoint_index index;
    struct tp_error err = {0};
    if (!checkpoint_index_parse(&index, "fuzz", (const char *)data, size, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
        return 0;
    }
    tp_assert(index.count >= 1 && index.arena.total <= (64 << 20) + 8 * size);
    for (uint32_t i = 0; i < index.count; i++) {
        const struct index_entry *e = &index.entries[i], *before = e - 1;
        tp_assert(e->file < index.file_count && strlen(e->name) == e->name_len);
        tp_assert(!i || st_name_compare(before->name, before->name_len, e->name, e->name_len) < 0);
    }
    for (uint32_t i = 0; i < index.file_count; i++) {
        const char *name = index.files[i];
        size_t n = strlen(name);
        tp_assert(io_name_is_plain(name, n) && n > sizeof suffix - 1 &&
                  strcmp(name + n - (sizeof suffix - 1), suffix) == 0);
        tp_assert(!i || strcmp(index.files[i - 1], name) < 0);
    }
    tp_assert(memchr(index.total_size, '\0', sizeof index.total_size));
    checkpoint_index_free(&index);
    return 0;
}
