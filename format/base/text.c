#include "text.h"

#include "mem.h"
#include <string.h>

bool tp_text_add(struct tp_text *text, const char *bytes, size_t n, struct tp_error *err)
{
    if (!mem_grow((void **)&text->data, &text->cap, text->n + n, 1, err))
        return false;
    if (n)
        memcpy(text->data + text->n, bytes, n);
    text->n += n;
    return true;
}
