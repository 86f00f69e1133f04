/* The input is a whole .safetensors file. What is accepted must keep the promises of its header
 * file. */
#include "safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors st = {0};
    struct tp_error err = {0};
    struct findings findings = {.quiet = true, .strict = size % 2};
    uint64_t n, covered = 0;
    if (size < 8 || !safetensors_header_size(data, size, "fuzz", &n, &err))
        return 0;
    if (!safetensors_parse(&st, "fuzz", (const char *)data + 8, n, size, &findings, &err)) {
        tp_assert(err.code != TP_OK && err.text[0]);
        return 0;
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
    return 0;
}
