/* The input is a whole .safetensors file; one beginning with '{' is an index as well. What is
 * accepted must keep the promises of its header file. Built with
 * -fsanitize=fuzzer,address,undefined. */
#include "checkpoint_index.h"
#include "safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_file(const uint8_t *data, size_t size)
{
    struct safetensors st = {0};
    struct tp_error err = {0};
    uint64_t n, covered = 0;
    if (size < 8 || !safetensors_header_size(data, size, "fuzz", &n, &err))
        return;
    if (!safetensors_parse(&st, "fuzz", (const char *)data + 8, n, size, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
        return;
    }
    for (uint32_t i = 0; i < st.count; i++) {
        const struct st_tensor *t = &st.tensors[i];
        tp_assert(t->begin >= st.data_begin && t->begin <= t->end && t->end <= size);
        tp_assert(t->rank <= ST_RANK_MAX && t->dtype < ST_DTYPE_COUNT);
        tp_assert(t->name_len >= 1 && t->name_len == strlen(t->name));
        covered += t->end - t->begin;
    }
    tp_assert(st.data_begin + covered == size);
    safetensors_close(&st);
}

static void check_index(const uint8_t *data, size_t size)
{
    struct checkpoint_index index;
    struct tp_error err = {0};
    if (!checkpoint_index_parse(&index, "fuzz", (const char *)data, size, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
        return;
    }
    for (uint32_t i = 0; i < index.count; i++)
        tp_assert(index.entries[i].file < index.file_count);
    for (uint32_t i = 0; i < index.file_count; i++)
        tp_assert(io_name_is_plain(index.files[i], strlen(index.files[i])));
    checkpoint_index_free(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_file(data, size);
    if (size && data[0] == '{')
        check_index(data, size);
    return 0;
}
